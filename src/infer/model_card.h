// What a model's tensors mean: model.yaml beside model.onnx. docs/model-card.md is the schema with
// examples. Every field is optional; without a card a model takes and gives raw tensors.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "infer/session.h"
#include "media/transform.h"

namespace selvage::infer {

// Limits of what a card may say. Beyond them: kOutOfRange or kInvalidArgument, with the line.
inline constexpr std::uint64_t kCardBytesMax = 256u << 10;
inline constexpr std::uint64_t kLabelsBytesMax = 16u << 20;
inline constexpr std::size_t kLabelsMax = 1'000'000;
inline constexpr int kImageSideMax = 8'192;        ///< Of an image tensor.
inline constexpr int kWindowSamplesMax = 1 << 24;  ///< Of an audio tensor.
inline constexpr int kAnchorsMax = 1 << 20;
inline constexpr int kBoxesMax = 10'000;  ///< A card's max_boxes, max_regions, max_lines.

/// `session:`: what the card (or a command line) sets; the rest stays as it is.
struct SessionSettings {
  std::optional<Optimization> optimization;
  std::optional<std::vector<std::string>> providers;
  std::optional<PowerProfile> power;
  std::optional<int> threads;
  std::optional<std::uint32_t> spin_us;
  std::optional<Arena> arena;
  std::optional<bool> flush_denormals;
  std::vector<std::pair<std::string, std::int64_t>> dimensions;
  std::vector<std::pair<std::string, std::string>> config;

  void apply_to(SessionOptions& options) const;
};

/// A picture becomes one tensor. A side that neither the card nor the model fixes follows the
/// picture: see tensor_size_for in preprocess.h.
struct ImageInput {
  std::string tensor;  ///< "" = the model's first input that is neither state nor constant.
  std::optional<int> width, height;
  int multiple_of = 1;  ///< Open sides are multiples of this.
  int max_side = 960;   ///< With both sides open.
  int min_width = 1;    ///< With an open width alone.
  int max_width = 4096;
  std::optional<media::Layout> layout;  ///< Empty: as the declared shape shows.
  std::optional<float>
      fourth_channel;                 ///< The value of a constant fourth channel, if there is one.
  media::TransformOptions transform;  ///< Its layout and element are decided by the model.
};

/// A sound is cut into windows; each tensor row holds `context` samples from before the window,
/// zeros at the start, and then the window.
struct AudioInput {
  std::string tensor;
  int rate = 16'000;  ///< Hz.
  int window = 512;   ///< New samples a run.
  int context = 0;    ///< Samples repeated from before the window.
};

/// One column of a table: (value - mean) / deviation, or one element per category.
struct Column {
  std::string name;
  double mean = 0;
  double deviation = 1;
  std::vector<std::string> categories;  ///< Not empty: the cell is one of these...
  bool one_hot = false;                 ///< ... and becomes 0s and a 1 instead of its index.
};

/// A row of a table becomes one tensor. Without columns the values are taken as they are.
struct TableInput {
  std::string tensor;
  std::vector<Column> columns;
};

/// Tensors as they are.
struct RawInput {};

/// The model's output `output` is the next run's input `input`. Starts as zeros.
struct StatePair {
  std::string input;
  std::string output;
};

/// An input with always the same elements: one value for every element, or one each.
struct ConstantInput {
  std::string tensor;
  std::vector<double> values;
};

struct InputCard {
  std::variant<RawInput, ImageInput, AudioInput, TableInput> kind;
  std::vector<StatePair> state;
  std::vector<ConstantInput> constants;
};

enum class Activation : std::uint8_t { kNone, kSoftmax, kSigmoid };

// In every output, "" as a tensor is the model's first output that is not state.

struct ClassificationOutput {
  std::string tensor;
  Activation activation = Activation::kNone;
  std::vector<std::string> labels;
  int top = 5;
  float threshold = 0;  ///< Classes below it are left out.
};

/// How box tensors are encoded.
enum class BoxDecoder : std::uint8_t {
  kSsdAnchors,  ///< Offsets to anchors (BlazeFace, SSD).
  kYolo,        ///< Centre, size, [objectness,] a score per class.
  kDirect,      ///< Corners, score, class: the model decodes and selects by itself.
};

/// `columns` x `rows` cells with `sizes.size()` anchors each at the cell's centre.
struct AnchorLayer {
  int columns = 0;
  int rows = 0;
  std::vector<std::array<float, 2>>
      sizes;  ///< Width and height as fractions of the tensor's sides.
};

enum class Suppression : std::uint8_t {
  kNone,
  kHard,      ///< The best box of a group that overlaps stays.
  kWeighted,  ///< The group's mean, weighted by score (BlazeFace).
};

struct BoxesOutput {
  BoxDecoder decoder = BoxDecoder::kDirect;
  std::vector<std::string> boxes;   ///< Tensors, joined in this order. Direct and YOLO: one.
  std::vector<std::string> scores;  ///< SSD: as many as boxes.
  bool in_pixels = true;  ///< Coordinates are the tensor's pixels, not fractions of its sides.
  Activation activation = Activation::kNone;
  std::vector<std::string> labels;
  float threshold = 0.5f;
  int max_boxes = 100;

  // SSD: cx = x / xy_scale * anchor width + anchor x; w = w / wh_scale * anchor width, or
  // exp(w / wh_scale) * anchor width; alike for y and h.
  std::vector<AnchorLayer> anchors;
  float xy_scale = 1;
  float wh_scale = 1;
  bool exponential_size = false;
  bool y_first = false;  ///< The tensor has y before x and h before w.
  int keypoints = 0;     ///< Points after the box, as offsets to the anchor like the centre.
  float score_clip = 0;  ///< Logits are clamped to +- this; 0 = not.
  std::optional<int> background_class;

  // YOLO: [1, N, 4 (+ 1) + C] or [1, 4 (+ 1) + C, N]; by default the longer side is N.
  bool objectness = false;
  std::optional<bool> transposed;  ///< True: attributes first.

  Suppression suppression = Suppression::kHard;
  float iou = 0.45f;
  bool per_class = true;  ///< Boxes of different classes never suppress each other.
};

/// A text probability map (DB, as PaddleOCR has it).
struct TextRegionsOutput {
  std::string tensor;
  float threshold = 0.3f;      ///< A pixel is text above it.
  float box_threshold = 0.6f;  ///< Mean probability in a region.
  float unclip_ratio = 1.5f;   ///< How far a region grows: area * ratio / perimeter.
  int min_side = 3;            ///< In map pixels, of a region's shorter side.
  int max_regions = 1'000;
};

/// Scores of characters over time, [1, T, C] (CTC, greedy).
struct CtcTextOutput {
  std::string tensor;
  Activation activation = Activation::kNone;
  std::vector<std::string> labels;  ///< Of the classes without the blank, in order.
  int blank = 0;
  bool append_space = false;  ///< The last class is a space that `labels` does not list.
};

/// [1, C, H, W] or [1, H, W, C] class scores, [1, 1, H, W] foreground scores, or [1, H, W] class
/// numbers.
struct SegmentationOutput {
  std::string tensor;
  std::vector<std::string> labels;
  float threshold = 0.5f;  ///< Of foreground scores.
};

/// One score; the largest element of several.
struct AnomalyOutput {
  std::string tensor;
  float threshold = 0.5f;
};

struct EmbeddingOutput {
  std::string tensor;
  bool normalise = false;  ///< To Euclidean length 1.
};

/// [1, ..., N, 2 or 3]: coordinates and perhaps a score per point.
struct KeypointsOutput {
  std::string tensor;
  bool y_first = false;
  bool in_pixels = true;  ///< As BoxesOutput's.
  std::vector<std::string> labels;
};

/// M-LSD: [1, H, W, 4] displacements of both ends from a centre and [1, H, W, 1] centre scores.
struct LinesOutput {
  std::string displacements;
  std::string scores;
  Activation activation = Activation::kNone;
  float threshold = 0.1f;
  float min_length = 20;  ///< In tensor pixels.
  int max_lines = 200;
};

struct RegressionOutput {
  std::string tensor;
  std::vector<std::string> names;
  float scale = 1;
  float offset = 0;  ///< value = element * scale + offset.
};

/// One probability per audio window.
struct ActivityOutput {
  std::string tensor;
  float threshold = 0.5f;              ///< Begins a segment.
  std::optional<float> end_threshold;  ///< Below it a segment may end. Empty: threshold - 0.15.
  double min_active_s = 0.25;          ///< Shorter segments are dropped.
  double min_silence_s = 0.1;          ///< Shorter gaps do not end a segment.
  double pad_s = 0.03;                 ///< Added on both sides.
};

/// Every output by name.
struct RawOutput {};

using OutputCard = std::variant<RawOutput, ClassificationOutput, BoxesOutput, TextRegionsOutput,
                                CtcTextOutput, SegmentationOutput, AnomalyOutput, EmbeddingOutput,
                                KeypointsOutput, LinesOutput, RegressionOutput, ActivityOutput>;

struct ModelCard {
  std::string name, description, licence, source;
  SessionSettings session;
  InputCard input;
  OutputCard output;
};

/// `folder` is where a card's label files are looked up; they may not lie outside of it.
/// kInvalidArgument names the line and the field, and for an unknown field the nearest known one.
[[nodiscard]] Result<ModelCard> parse_model_card(std::string_view yaml,
                                                 const std::filesystem::path& folder);
/// The card beside a model file: X.yaml beside X.onnx, else model.yaml unless it is another
/// model's, which it is where X.onnx is neither model.onnx nor the only .onnx file in its folder.
/// Empty when there is none.
[[nodiscard]] std::optional<std::filesystem::path> find_model_card(
    const std::filesystem::path& model);
/// Reads it; an empty card when there is none. Errors name the file.
[[nodiscard]] Result<ModelCard> load_model_card(const std::filesystem::path& model);

}  // namespace selvage::infer
