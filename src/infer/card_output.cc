#include "infer/card_sections.h"
#include "infer/labels.h"

namespace selvage::infer {
namespace {

constexpr double kValueMax = 1e9;
constexpr double kScaleMin = 1e-9;

// What reading one output section needs.
struct Reader {
  YamlFields& fields;
  YamlErrors& errors;
  const std::filesystem::path& folder;

  void labels(std::vector<std::string>& labels) const {
    const auto* node = fields.find("labels");
    if (!node) return;
    if (node->kind != YamlNode::Kind::kScalar) return fields.texts("labels", labels);
    auto read = read_labels(folder, node->text);
    if (!read) return fields.fail_at("labels", read.error().message);
    labels = *std::move(read);
  }
  void activation(Activation& activation) const {
    fields.choice("activation", activation,
                  {{"none", Activation::kNone},
                   {"softmax", Activation::kSoftmax},
                   {"sigmoid", Activation::kSigmoid}});
  }
  /// For outputs whose elements have nothing to be normalised over.
  void sigmoid_or_none(Activation& activation) const {
    fields.choice("activation", activation,
                  {{"none", Activation::kNone}, {"sigmoid", Activation::kSigmoid}});
  }
  void units(bool& in_pixels) const {
    fields.choice("units", in_pixels, {{"pixels", true}, {"fractions", false}});
  }
  void order(bool& y_first) const {
    fields.choice("order", y_first, {{"xy", false}, {"yx", true}});
  }
};

ClassificationOutput read_classification(const Reader& read) {
  ClassificationOutput output;
  read.fields.text("tensor", output.tensor);
  read.activation(output.activation);
  read.labels(output.labels);
  read.fields.number("top", output.top, 1, kBoxesMax);
  read.fields.number("threshold", output.threshold, -kValueMax, kValueMax);
  return output;
}

AnchorLayer read_anchor_layer(const YamlNode& node, YamlErrors& errors) {
  AnchorLayer layer;
  YamlFields fields(node, "output.anchors", errors);
  fields.number("columns", layer.columns, 1, kImageSideMax);
  fields.number("rows", layer.rows, 1, kImageSideMax);
  if (layer.columns == 0 || layer.rows == 0) fields.fail_at("columns", "needs columns and rows");
  int per_cell = 1;
  fields.number("per_cell", per_cell, 1, 64);
  if (const auto* sizes = fields.find("sizes")) {
    if (fields.find("per_cell")) fields.fail_at("per_cell", "sizes say how many there are");
    for (const auto& item : sizes->items) {
      const auto values = read_numbers(item, fields.path_of("sizes"), kScaleMin, kValueMax, errors);
      if (values.size() != 2)
        return fields.fail_at("sizes", "must be [width, height] pairs"), layer;
      layer.sizes.push_back({static_cast<float>(values[0]), static_cast<float>(values[1])});
    }
    if (layer.sizes.empty()) fields.fail_at("sizes", "must be a list of [width, height] pairs");
  } else {
    layer.sizes.assign(static_cast<std::size_t>(per_cell), {1, 1});
  }
  fields.finish();
  return layer;
}

void read_ssd(const Reader& read, BoxesOutput& output) {
  auto& fields = read.fields;
  output.in_pixels = false;
  fields.texts("boxes", output.boxes);
  fields.texts("scores", output.scores);
  if (output.boxes.empty() || output.boxes.size() != output.scores.size())
    fields.fail_at("boxes", "ssd-anchors needs as many `boxes` tensors as `scores` tensors");
  if (const auto* anchors = fields.find("anchors")) {
    if (anchors->kind != YamlNode::Kind::kList) fields.fail_at("anchors", "must be a list");
    std::size_t count = 0;
    for (const auto& item : anchors->items) {
      const auto& layer = output.anchors.emplace_back(read_anchor_layer(item, read.errors));
      count += static_cast<std::size_t>(layer.columns) * static_cast<std::size_t>(layer.rows) *
               layer.sizes.size();
      if (count > kAnchorsMax)
        return fields.fail_at("anchors", "more than " + std::to_string(kAnchorsMax) + " anchors");
    }
  }
  if (output.anchors.empty()) fields.fail_at("anchors", "ssd-anchors needs them");
  fields.number("xy_scale", output.xy_scale, kScaleMin, kValueMax);
  fields.number("wh_scale", output.wh_scale, kScaleMin, kValueMax);
  fields.choice("size", output.exponential_size, {{"linear", false}, {"exponential", true}});
  read.order(output.y_first);
  fields.number("keypoints", output.keypoints, 0, 1000);
  fields.number("score_clip", output.score_clip, 0, kValueMax);
  fields.number("background_class", output.background_class, 0, kValueMax);
}

BoxesOutput read_boxes(const Reader& read) {
  BoxesOutput output;
  auto& fields = read.fields;
  fields.choice("decoder", output.decoder,
                {{"ssd-anchors", BoxDecoder::kSsdAnchors},
                 {"yolo", BoxDecoder::kYolo},
                 {"direct", BoxDecoder::kDirect}});
  if (output.decoder == BoxDecoder::kSsdAnchors) {
    read_ssd(read, output);
  } else {
    fields.text("tensor", output.boxes.emplace_back());
    read.units(output.in_pixels);
  }
  if (output.decoder == BoxDecoder::kYolo) {
    fields.flag("objectness", output.objectness);
    fields.choice("layout", output.transposed, {{"rows", false}, {"columns", true}});
  }
  if (output.decoder == BoxDecoder::kDirect) {
    read.order(output.y_first);
    output.suppression = Suppression::kNone;
  }
  read.sigmoid_or_none(output.activation);
  read.labels(output.labels);
  fields.number("threshold", output.threshold, -kValueMax, kValueMax);
  fields.number("max_boxes", output.max_boxes, 1, kBoxesMax);
  if (const auto* nms = fields.find("nms")) {
    YamlFields suppression(*nms, "output.nms", read.errors);
    output.suppression = Suppression::kHard;
    suppression.choice("mode", output.suppression,
                       {{"none", Suppression::kNone},
                        {"hard", Suppression::kHard},
                        {"weighted", Suppression::kWeighted}});
    suppression.number("iou", output.iou, 0, 1);
    suppression.flag("per_class", output.per_class);
    suppression.finish();
  }
  return output;
}

TextRegionsOutput read_text_regions(const Reader& read) {
  TextRegionsOutput output;
  read.fields.text("tensor", output.tensor);
  read.fields.number("threshold", output.threshold, 0, 1);
  read.fields.number("box_threshold", output.box_threshold, 0, 1);
  read.fields.number("unclip_ratio", output.unclip_ratio, 0, 10);
  read.fields.number("min_side", output.min_side, 1, kImageSideMax);
  read.fields.number("max_regions", output.max_regions, 1, kBoxesMax);
  return output;
}

CtcTextOutput read_ctc_text(const Reader& read) {
  CtcTextOutput output;
  read.fields.text("tensor", output.tensor);
  read.activation(output.activation);
  read.labels(output.labels);
  if (output.labels.empty()) read.fields.fail_at("labels", "ctc-text needs them");
  read.fields.number("blank", output.blank, 0, static_cast<double>(kLabelsMax));
  read.fields.flag("append_space", output.append_space);
  return output;
}

SegmentationOutput read_segmentation(const Reader& read) {
  SegmentationOutput output;
  read.fields.text("tensor", output.tensor);
  read.labels(output.labels);
  read.fields.number("threshold", output.threshold, -kValueMax, kValueMax);
  return output;
}

AnomalyOutput read_anomaly(const Reader& read) {
  AnomalyOutput output;
  read.fields.text("tensor", output.tensor);
  read.fields.number("threshold", output.threshold, -kValueMax, kValueMax);
  return output;
}

EmbeddingOutput read_embedding(const Reader& read) {
  EmbeddingOutput output;
  read.fields.text("tensor", output.tensor);
  read.fields.choice("normalise", output.normalise, {{"none", false}, {"l2", true}});
  return output;
}

KeypointsOutput read_keypoints(const Reader& read) {
  KeypointsOutput output;
  read.fields.text("tensor", output.tensor);
  read.order(output.y_first);
  read.units(output.in_pixels);
  read.labels(output.labels);
  return output;
}

LinesOutput read_lines(const Reader& read) {
  LinesOutput output;
  read.fields.text("displacements", output.displacements);
  read.fields.text("scores", output.scores);
  if (output.displacements.empty() || output.scores.empty())
    read.fields.fail_at("displacements", "lines needs the tensors `displacements` and `scores`");
  read.sigmoid_or_none(output.activation);
  read.fields.number("threshold", output.threshold, 0, 1);
  read.fields.number("min_length", output.min_length, 0, kImageSideMax);
  read.fields.number("max_lines", output.max_lines, 1, kBoxesMax);
  return output;
}

RegressionOutput read_regression(const Reader& read) {
  RegressionOutput output;
  read.fields.text("tensor", output.tensor);
  read.fields.texts("names", output.names);
  read.fields.number("scale", output.scale, -kValueMax, kValueMax);
  read.fields.number("offset", output.offset, -kValueMax, kValueMax);
  return output;
}

ActivityOutput read_activity(const Reader& read) {
  constexpr double kSecondsMax = 3'600;
  ActivityOutput output;
  read.fields.text("tensor", output.tensor);
  read.fields.number("threshold", output.threshold, 0, 1);
  read.fields.number("end_threshold", output.end_threshold, 0, 1);
  if (output.end_threshold.value_or(0) > output.threshold)
    read.fields.fail_at("end_threshold", "is above threshold");
  read.fields.number("min_active_s", output.min_active_s, 0, kSecondsMax);
  read.fields.number("min_silence_s", output.min_silence_s, 0, kSecondsMax);
  read.fields.number("pad_s", output.pad_s, 0, kSecondsMax);
  return output;
}

using OutputReader = OutputCard (*)(const Reader&);

template <auto function>
OutputCard as_output_card(const Reader& read) {
  return function(read);
}

}  // namespace

OutputCard read_output_section(const YamlNode& node, const std::filesystem::path& folder,
                               YamlErrors& errors) {
  YamlFields fields(node, "output", errors);
  OutputReader section = [](const Reader&) -> OutputCard { return RawOutput{}; };
  fields.choice("kind", section,
                {{"raw", section},
                 {"classification", as_output_card<read_classification>},
                 {"boxes", as_output_card<read_boxes>},
                 {"text-regions", as_output_card<read_text_regions>},
                 {"ctc-text", as_output_card<read_ctc_text>},
                 {"segmentation", as_output_card<read_segmentation>},
                 {"anomaly", as_output_card<read_anomaly>},
                 {"embedding", as_output_card<read_embedding>},
                 {"keypoints", as_output_card<read_keypoints>},
                 {"lines", as_output_card<read_lines>},
                 {"regression", as_output_card<read_regression>},
                 {"activity", as_output_card<read_activity>}});
  OutputCard output = section({fields, errors, folder});
  fields.finish();
  return output;
}

}  // namespace selvage::infer
