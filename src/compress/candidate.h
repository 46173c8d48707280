// What `selvage optimize` tries: one way to make a model smaller or faster, in words, as a command
// line, and as a model.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "compress/calibrate.h"
#include "graph/model.h"
#include "infer/model.h"
#include "infer/runtime.h"

namespace selvage::compress {

enum class CandidateKind : std::uint8_t {
  kOriginal,    ///< The file as it is: what the others are measured against.
  kFloat,       ///< prepare_model(): constants, batch normalisation, ... folded.
  kDynamic,     ///< quantize_dynamic()
  kStatic,      ///< quantize_static() in QDQ form
  kWeightOnly,  ///< quantize_weights(), rounded to nearest
  kFloat16,     ///< convert_floats(): the file in 16 bits; see Recipe::computes_in_16_bits.
  kChannels,    ///< Structured pruning, without any retraining.
};
/// "original", "float", "dynamic", "static", "weight-only", "float16", "prune".
[[nodiscard]] std::string_view to_string(CandidateKind kind);

/// Fields that a kind does not know keep their defaults, so that equal candidates are equal.
struct Recipe {
  CandidateKind kind = CandidateKind::kOriginal;
  bool per_channel = false;                ///< kDynamic, kStatic.
  DataType activations = DataType::kInt8;  ///< kStatic.
  CalibrationMethod calibration = CalibrationMethod::kMinMax;
  std::vector<std::string> types = {};  ///< kStatic: only these; empty: the quantiser's own list.
  bool connected = false;               ///< kStatic: StaticOptions::connected_only.
  std::vector<std::string> float_nodes = {};  ///< kStatic: stay in float.
  // What is done to rescue the quality of kStatic.
  bool equalized = false;            ///< equalize_layers()
  bool bias_corrected = false;       ///< correct_biases()
  bool smoothed = false;             ///< smooth_activations()
  int bits = 0;                      ///< kWeightOnly.
  bool computes_in_16_bits = false;  ///< kFloat16: not only the file.
  double macs = 1;                   ///< kChannels: multiply-accumulates to keep.

  friend bool operator==(const Recipe&, const Recipe&) = default;
};
/// "static int8, per channel, entropy, 3 nodes in float".
[[nodiscard]] std::string describe(const Recipe& recipe);

/// What a command line needs beside the recipe.
struct CommandNames {
  std::string model, out, data, label;
  std::size_t calibration_samples = 0;
};
/// The arguments of `selvage` that make the candidate; none for the original.
[[nodiscard]] std::vector<std::string> command(const Recipe& recipe, const CommandNames& names);

/// What is worth trying for a model, the most promising first: float; dynamic int8 where there is
/// something to quantise so; static int8 per channel and per tensor, with the other sign of
/// activations, with nothing but products quantised; matrices in 8 and 4 bits where they are most
/// of the weights; 16-bit floats, to compute in only on Arm; pruning to 75 % and 50 %. Without the
/// original. Activations have the sign that is faster on the processor: unsigned on x86, whose
/// instructions multiply unsigned by signed numbers.
[[nodiscard]] std::vector<Recipe> recipes_for(const graph::Model& model);

/// A static candidate with the other calibrations. Empty for others.
[[nodiscard]] std::vector<Recipe> calibrations_of(const Recipe& recipe);
/// The same static candidate with help: corrected biases, equalised layers, both, and, in models
/// with matrix products, smoothed activations. Empty for others, and for one that has had help.
[[nodiscard]] std::vector<Recipe> rescues_of(const Recipe& recipe);

struct BuilderOptions {
  std::vector<std::pair<std::string, std::int64_t>> dimensions =
      {};                                 ///< As SessionOptions::dimensions.
  std::function<bool()> keep_going = {};  ///< False stops calibration: kCancelled. Null: never.
  /// Called with the time that a calibration or a helper took, which is nearly all model runs.
  std::function<void(std::chrono::nanoseconds)> calibrated = {};
};

/// Makes candidates of one model. What several of them share (the folded model, the ranges of a
/// calibration, the analysis of channels) is computed once. Confined to one thread.
class CandidateBuilder {
 public:
  /// `path` is the model's file, `original` what is loaded of it; `samples` calibrate. `runtime`
  /// must outlive the builder.
  [[nodiscard]] static Result<CandidateBuilder> create(infer::Runtime& runtime,
                                                       std::filesystem::path path,
                                                       const infer::Model& original,
                                                       Samples samples, BuilderOptions options);
  CandidateBuilder(CandidateBuilder&&) noexcept;
  ~CandidateBuilder();

  /// An error says why the model cannot be treated so, kFailedPrecondition also where a helper
  /// finds nothing to do.
  [[nodiscard]] Result<graph::Model> build(const Recipe& recipe);
  /// As prepare_model() leaves it.
  [[nodiscard]] const graph::Model& folded() const;
  /// The nodes that a static recipe quantises, in groups that go back to float together: a product
  /// (Conv, Gemm, MatMul, ...) with what follows it up to the next one. In the graph's order.
  [[nodiscard]] Result<std::vector<std::vector<std::string>>> groups(const Recipe& recipe);

 private:
  struct State;
  explicit CandidateBuilder(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::compress
