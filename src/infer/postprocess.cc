#include "infer/postprocess.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "infer/boxes.h"
#include "infer/ctc.h"
#include "infer/elements.h"
#include "infer/labels.h"
#include "infer/lines.h"
#include "infer/scores.h"
#include "infer/segmentation.h"
#include "infer/text_regions.h"

namespace selvage::infer {
namespace {

using Outputs = std::span<const TensorView>;

class ClassificationDecoder final : public Postprocessor {
 public:
  ClassificationDecoder(const ClassificationOutput& card, std::size_t tensor)
      : card_(card), tensor_(tensor) {}
  Result<Prediction> decode(Outputs outputs, const Frame&) override {
    SELVAGE_TRY(const auto values, as_floats(outputs[tensor_], scratch_));
    scores_.assign(values.begin(), values.end());
    activate(scores_, card_.activation);
    return top_classes(scores_, card_, order_);
  }

 private:
  const ClassificationOutput& card_;
  std::size_t tensor_;
  std::vector<float> scores_, scratch_;
  std::vector<std::size_t> order_;
};

class BoxesDecoder final : public Postprocessor {
 public:
  BoxesDecoder(const BoxesOutput& card, std::vector<std::size_t> boxes,
               std::vector<std::size_t> scores)
      : finder_(card), boxes_(std::move(boxes)), scores_(std::move(scores)) {}
  Result<Prediction> decode(Outputs outputs, const Frame& frame) override {
    box_views_.clear();
    score_views_.clear();
    for (const auto index : boxes_) box_views_.push_back(outputs[index]);
    for (const auto index : scores_) score_views_.push_back(outputs[index]);
    return finder_.find(box_views_, score_views_, frame);
  }

 private:
  BoxFinder finder_;
  std::vector<std::size_t> boxes_, scores_;
  std::vector<TensorView> box_views_, score_views_;
};

class TextRegionsDecoder final : public Postprocessor {
 public:
  TextRegionsDecoder(const TextRegionsOutput& card, std::size_t tensor)
      : finder_(card), tensor_(tensor) {}
  Result<Prediction> decode(Outputs outputs, const Frame& frame) override {
    return finder_.find(outputs[tensor_], frame);
  }

 private:
  TextRegionFinder finder_;
  std::size_t tensor_;
};

class CtcTextDecoder final : public Postprocessor {
 public:
  CtcTextDecoder(const CtcTextOutput& card, std::size_t tensor) : card_(card), tensor_(tensor) {}
  Result<Prediction> decode(Outputs outputs, const Frame&) override {
    return decode_ctc(outputs[tensor_], card_, scratch_);
  }

 private:
  const CtcTextOutput& card_;
  std::size_t tensor_;
  std::vector<float> scratch_;
};

class SegmentationDecoder final : public Postprocessor {
 public:
  SegmentationDecoder(const SegmentationOutput& card, std::size_t tensor)
      : segmenter_(card), tensor_(tensor) {}
  Result<Prediction> decode(Outputs outputs, const Frame& frame) override {
    return segmenter_.segment(outputs[tensor_], frame);
  }

 private:
  Segmenter segmenter_;
  std::size_t tensor_;
};

class LinesDecoder final : public Postprocessor {
 public:
  LinesDecoder(const LinesOutput& card, std::size_t displacements, std::size_t scores)
      : finder_(card), displacements_(displacements), scores_(scores) {}
  Result<Prediction> decode(Outputs outputs, const Frame& frame) override {
    return finder_.find(outputs[displacements_], outputs[scores_], frame);
  }

 private:
  LineFinder finder_;
  std::size_t displacements_, scores_;
};

class AnomalyDecoder final : public Postprocessor {
 public:
  AnomalyDecoder(const AnomalyOutput& card, std::size_t tensor) : card_(card), tensor_(tensor) {}
  Result<Prediction> decode(Outputs outputs, const Frame&) override {
    SELVAGE_TRY(const auto values, as_floats(outputs[tensor_], scratch_));
    if (values.empty()) return fail(ErrorCode::kInvalidArgument, "the model gave no anomaly score");
    const auto broken = std::ranges::find_if(values, [](float value) { return std::isnan(value); });
    const float score = broken != values.end() ? *broken : values[index_of_max(values)];
    // A score that is not a number is not normal.
    return Anomaly{
        .score = score, .threshold = card_.threshold, .anomalous = !(score < card_.threshold)};
  }

 private:
  const AnomalyOutput& card_;
  std::size_t tensor_;
  std::vector<float> scratch_;
};

class EmbeddingDecoder final : public Postprocessor {
 public:
  EmbeddingDecoder(const EmbeddingOutput& card, std::size_t tensor)
      : card_(card), tensor_(tensor) {}
  Result<Prediction> decode(Outputs outputs, const Frame&) override {
    SELVAGE_TRY(const auto values, as_floats(outputs[tensor_], scratch_));
    Embedding embedding{{values.begin(), values.end()}};
    if (!card_.normalise) return embedding;
    double squares = 0;
    for (const float value : values)
      squares += static_cast<double>(value) * static_cast<double>(value);
    const double length = std::sqrt(squares);
    if (length > 0 && std::isfinite(length))
      for (float& value : embedding.values)
        value = static_cast<float>(static_cast<double>(value) / length);
    return embedding;
  }

 private:
  const EmbeddingOutput& card_;
  std::size_t tensor_;
  std::vector<float> scratch_;
};

class KeypointsDecoder final : public Postprocessor {
 public:
  KeypointsDecoder(const KeypointsOutput& card, std::size_t tensor)
      : card_(card), tensor_(tensor) {}
  Result<Prediction> decode(Outputs outputs, const Frame& frame) override {
    const auto& tensor = outputs[tensor_];
    SELVAGE_TRY(const auto values, as_floats(tensor, scratch_));
    const auto each = tensor.shape.empty() ? 0 : tensor.shape.back();
    if (each != 2 && each != 3)
      return fail(ErrorCode::kInvalidArgument,
                  "keypoints of shape " + to_string(tensor.shape) +
                      " do not fit the model card: [1, ..., N, 2 or 3]");
    const double scale_x = card_.in_pixels ? 1 : frame.tensor_width;
    const double scale_y = card_.in_pixels ? 1 : frame.tensor_height;
    const std::size_t x = card_.y_first ? 1 : 0, y = 1 - x;
    Keypoints found;
    const auto width = static_cast<std::size_t>(each);
    for (std::size_t i = 0; i + width <= values.size(); i += width)
      found.points.push_back(
          {.point = frame.place(static_cast<double>(values[i + x]) * scale_x,
                                static_cast<double>(values[i + y]) * scale_y),
           .score = width == 3 ? values[i + 2] : 1,
           .label = label_of(card_.labels, static_cast<std::int64_t>(i / width))});
    return found;
  }

 private:
  const KeypointsOutput& card_;
  std::size_t tensor_;
  std::vector<float> scratch_;
};

class RegressionDecoder final : public Postprocessor {
 public:
  RegressionDecoder(const RegressionOutput& card, std::size_t tensor)
      : card_(card), tensor_(tensor) {}
  Result<Prediction> decode(Outputs outputs, const Frame&) override {
    SELVAGE_TRY(const auto values, as_floats(outputs[tensor_], scratch_));
    if (!card_.names.empty() && card_.names.size() != values.size())
      return fail(ErrorCode::kInvalidArgument, "the model gave " + std::to_string(values.size()) +
                                                   " values, its card names " +
                                                   std::to_string(card_.names.size()));
    Regression result{.values = {values.begin(), values.end()}, .names = card_.names};
    for (float& value : result.values) value = value * card_.scale + card_.offset;
    return result;
  }

 private:
  const RegressionOutput& card_;
  std::size_t tensor_;
  std::vector<float> scratch_;
};

class RawDecoder final : public Postprocessor {
 public:
  explicit RawDecoder(const OutputNames& names) : names_(names) {}
  Result<Prediction> decode(Outputs outputs, const Frame&) override {
    RawTensors raw;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const auto& view = outputs[i];
      raw.names.push_back(names_.name(i));
      SELVAGE_TRY(auto tensor,
                  Tensor::create(view.type, Shape(view.shape.begin(), view.shape.end())));
      std::ranges::copy(view.bytes, tensor.bytes().begin());
      std::ranges::copy(view.strings, tensor.strings().begin());
      raw.tensors.push_back(std::move(tensor));
    }
    return raw;
  }

 private:
  OutputNames names_;
};

// One overload for each kind of output.
struct Make {
  using Made = Result<std::unique_ptr<Postprocessor>>;
  const OutputNames& names;

  template <typename Decoder, typename Card>
  [[nodiscard]] Made with_tensor(const Card& card) const {
    SELVAGE_TRY(const auto index, names.index_of(card.tensor));
    return std::make_unique<Decoder>(card, index);
  }

  Made operator()(const RawOutput&) const { return std::make_unique<RawDecoder>(names); }
  Made operator()(const ClassificationOutput& card) const {
    return with_tensor<ClassificationDecoder>(card);
  }
  Made operator()(const BoxesOutput& card) const {
    const std::vector<std::string> first_output{""};
    SELVAGE_TRY(auto boxes, names.indices_of(card.boxes.empty() ? first_output : card.boxes));
    SELVAGE_TRY(auto scores, names.indices_of(card.scores));
    return std::make_unique<BoxesDecoder>(card, std::move(boxes), std::move(scores));
  }
  Made operator()(const TextRegionsOutput& card) const {
    return with_tensor<TextRegionsDecoder>(card);
  }
  Made operator()(const CtcTextOutput& card) const { return with_tensor<CtcTextDecoder>(card); }
  Made operator()(const SegmentationOutput& card) const {
    return with_tensor<SegmentationDecoder>(card);
  }
  Made operator()(const AnomalyOutput& card) const { return with_tensor<AnomalyDecoder>(card); }
  Made operator()(const EmbeddingOutput& card) const { return with_tensor<EmbeddingDecoder>(card); }
  Made operator()(const KeypointsOutput& card) const { return with_tensor<KeypointsDecoder>(card); }
  Made operator()(const LinesOutput& card) const {
    SELVAGE_TRY(const auto displacements, names.index_of(card.displacements));
    SELVAGE_TRY(const auto scores, names.index_of(card.scores));
    return std::make_unique<LinesDecoder>(card, displacements, scores);
  }
  Made operator()(const RegressionOutput& card) const {
    return with_tensor<RegressionDecoder>(card);
  }
  Made operator()(const ActivityOutput&) const {
    return fail(ErrorCode::kInvalidArgument,
                "the card's output is activity in a sound, but its input is not audio");
  }
};

}  // namespace

Result<std::size_t> OutputNames::index_of(const std::string& name) const {
  const auto is_state = [&](const ValueInfo& output) {
    return std::ranges::find(state_, output.name, &StatePair::output) != state_.end();
  };
  std::string known;
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    if (name.empty() ? !is_state(outputs_[i]) : outputs_[i].name == name) return i;
    known += (known.empty() ? "" : ", ") + outputs_[i].name;
  }
  return fail(ErrorCode::kInvalidArgument,
              "the model card names output '" + name + "', but the model gives: " + known);
}

Result<std::vector<std::size_t>> OutputNames::indices_of(std::span<const std::string> names) const {
  std::vector<std::size_t> indices;
  for (const auto& name : names) {
    SELVAGE_TRY(const auto index, index_of(name));
    indices.push_back(index);
  }
  return indices;
}

Result<float> ScoreReader::read(std::span<const TensorView> outputs) {
  SELVAGE_TRY(const auto values, as_floats(outputs[tensor_], scratch_));
  if (values.empty()) return fail(ErrorCode::kInvalidArgument, "the model gave no score");
  return values.back();
}

Result<std::unique_ptr<Postprocessor>> Postprocessor::create(const OutputCard& card,
                                                             const OutputNames& names) {
  return std::visit(Make{names}, card);
}

bool names_places(const OutputCard& card) {
  return std::holds_alternative<BoxesOutput>(card) ||
         std::holds_alternative<TextRegionsOutput>(card) ||
         std::holds_alternative<SegmentationOutput>(card) ||
         std::holds_alternative<KeypointsOutput>(card) || std::holds_alternative<LinesOutput>(card);
}

}  // namespace selvage::infer
