#include "infer/prediction_json.h"

#include "infer/elements.h"

namespace selvage::infer {
namespace {

void write_class(const Class& found, JsonWriter& json) {
  json.field("index", found.index).field("score", found.score).field("label", found.label);
}

void write_point(const Point& point, JsonWriter& json) {
  json.begin_array().value(point.x).value(point.y).end_array();
}

void write_shape(const Shape& shape, JsonWriter& json) {
  json.list("shape", shape);
}

template <typename T>
void write_elements(const Tensor& tensor, JsonWriter& json) {
  for (const auto value : tensor.as<T>()) json.value(value);
}

void write_halves(const Tensor& tensor, JsonWriter& json) {
  std::vector<float> scratch;
  const auto values = as_floats(tensor.view(), scratch);
  for (const float value : values.value_or(std::span<const float>())) json.value(value);
}

/// The elements of a tensor, flat; null for types that JSON has no numbers for.
void write_values(const Tensor& tensor, JsonWriter& json) {
  json.key("values");
  if (bits_of(tensor.type()) < 8 && tensor.type() != DataType::kString) {
    json.null();
    return;
  }
  switch (tensor.type()) {
    case DataType::kComplex64:
    case DataType::kComplex128:
    case DataType::kFloat8E4M3Fn:
    case DataType::kFloat8E4M3Fnuz:
    case DataType::kFloat8E5M2:
    case DataType::kFloat8E5M2Fnuz: json.null(); return;
    default: break;
  }
  json.begin_array();
  switch (tensor.type()) {
    case DataType::kFloat32: write_elements<float>(tensor, json); break;
    case DataType::kFloat64: write_elements<double>(tensor, json); break;
    case DataType::kFloat16:
    case DataType::kBfloat16: write_halves(tensor, json); break;
    case DataType::kInt8: write_elements<std::int8_t>(tensor, json); break;
    case DataType::kInt16: write_elements<std::int16_t>(tensor, json); break;
    case DataType::kInt32: write_elements<std::int32_t>(tensor, json); break;
    case DataType::kInt64: write_elements<std::int64_t>(tensor, json); break;
    case DataType::kUint8: write_elements<std::uint8_t>(tensor, json); break;
    case DataType::kUint16: write_elements<std::uint16_t>(tensor, json); break;
    case DataType::kUint32: write_elements<std::uint32_t>(tensor, json); break;
    case DataType::kUint64: write_elements<std::uint64_t>(tensor, json); break;
    case DataType::kBool: write_elements<bool>(tensor, json); break;
    case DataType::kString:
      for (const auto& value : tensor.strings()) json.value(value);
      break;
    default: break;
  }
  json.end_array();
}

struct Fields {
  JsonWriter& json;

  void operator()(const Classification& found) const {
    json.field("kind", "classification").key("classes").begin_array();
    for (const auto& one : found.classes) {
      json.begin_object();
      write_class(one, json);
      json.end_object();
    }
    json.end_array();
  }

  void operator()(const Boxes& found) const {
    json.field("kind", "boxes").key("boxes").begin_array();
    for (const auto& box : found.boxes) {
      json.begin_object().field("left", box.left).field("top", box.top);
      json.field("right", box.right).field("bottom", box.bottom);
      write_class(box.best, json);
      json.key("keypoints").begin_array();
      for (const auto& point : box.keypoints) write_point(point, json);
      json.end_array().key("details").begin_array();
      for (const auto& detail : box.details) {
        json.begin_object().field("step", detail.step);
        write_class(detail.found, json);
        json.end_object();
      }
      json.end_array().end_object();
    }
    json.end_array();
  }

  void operator()(const TextRegions& found) const {
    json.field("kind", "text_regions").key("regions").begin_array();
    for (const auto& region : found.regions) {
      json.begin_object().key("corners").begin_array();
      for (const auto& corner : region.corners) write_point(corner, json);
      json.end_array().field("score", region.score).field("text", region.text);
      json.field("confidence", region.confidence).end_object();
    }
    json.end_array();
  }

  void operator()(const Text& found) const {
    json.field("kind", "text").field("text", found.text).field("confidence", found.confidence);
  }

  void operator()(const Segmentation& found) const {
    json.field("kind", "segmentation").field("width", found.width).field("height", found.height);
    json.list("labels", found.labels).list("classes", found.classes);
  }

  void operator()(const Anomaly& found) const {
    json.field("kind", "anomaly").field("score", found.score);
    json.field("threshold", found.threshold).field("anomalous", found.anomalous);
  }

  void operator()(const Embedding& found) const {
    json.field("kind", "embedding").list("values", found.values);
  }

  void operator()(const Keypoints& found) const {
    json.field("kind", "keypoints").key("points").begin_array();
    for (const auto& point : found.points)
      json.begin_object()
          .field("x", point.point.x)
          .field("y", point.point.y)
          .field("score", point.score)
          .field("label", point.label)
          .end_object();
    json.end_array();
  }

  void operator()(const Lines& found) const {
    json.field("kind", "lines").key("lines").begin_array();
    for (const auto& line : found.lines) {
      json.begin_object().key("from");
      write_point(line.from, json);
      json.key("to");
      write_point(line.to, json);
      json.field("score", line.score).end_object();
    }
    json.end_array();
  }

  void operator()(const Regression& found) const {
    json.field("kind", "regression").list("names", found.names).list("values", found.values);
  }

  void operator()(const Activity& found) const {
    json.field("kind", "activity").field("frame_s", found.frame_s).key("segments").begin_array();
    for (const auto& segment : found.segments)
      json.begin_object()
          .field("start_s", segment.start_s)
          .field("end_s", segment.end_s)
          .field("score", segment.score)
          .end_object();
    json.end_array().list("scores", found.scores);
  }

  void operator()(const RawTensors& found) const {
    json.field("kind", "tensors").key("tensors").begin_array();
    for (std::size_t i = 0; i < found.tensors.size(); ++i) {
      const auto& tensor = found.tensors[i];
      json.begin_object().field("name", found.names[i]).field("type", to_string(tensor.type()));
      write_shape(tensor.shape(), json);
      write_values(tensor, json);
      json.end_object();
    }
    json.end_array();
  }
};

}  // namespace

void write_json(const Prediction& found, JsonWriter& json) {
  json.begin_object();
  std::visit(Fields{json}, found);
  json.end_object();
}

}  // namespace selvage::infer
