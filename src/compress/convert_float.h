// Models in 16-bit floats: half the file, and on processors that compute so, half the memory
// traffic.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "compress/calibrate.h"
#include "compress/quantize_static.h"
#include "graph/model.h"
#include "graph/pass.h"

namespace selvage::compress {

enum class FloatUse : std::uint8_t {
  kStorage,  ///< Weights lie in 16 bits and are widened when the model is loaded: any runtime.
  kCompute,  ///< Operators compute in 16 bits, but for the islands.
};

struct FloatOptions {
  DataType type = DataType::kFloat16;  ///< Or kBfloat16.
  FloatUse use = FloatUse::kCompute;
  /// kCompute: these stay in float32, beside the operators that lose too much (islands): those that
  /// count, sort, sum up or compare coordinates, and all of unknown domains and with subgraphs.
  NodeSelection selection;
  /// kCompute: values of computed_values() whose known range leaves that of float16 make islands of
  /// the nodes around them. May be null.
  const RangeMap* ranges = nullptr;
};
/// Weights smaller than this are not worth a Cast: kStorage leaves them.
inline constexpr std::size_t kStoredElementsMin = 64;

/// Weights that float16 would keep with less than this, 20 log10(|x| / |x - rounded|), stay in
/// float32: they are so small that most of their bits would be lost. bfloat16 has about 53 dB.
inline constexpr double kFloat16SqnrMin = 50;

struct FloatReport {
  std::size_t converted_nodes = 0;
  std::size_t converted_weights = 0;
  std::vector<KeptNode> islands;  ///< With kStorage the weights, of type "weight".
};

/// All values that a model computes, and its inputs: whose ranges convert_floats() looks at.
[[nodiscard]] std::vector<std::string> computed_values(const graph::Model& model);

/// Converts in place; inputs and outputs keep their types. kCompute needs context.infer_types.
/// kFailedPrecondition when nothing is float32; kInvalidArgument for another type. On an error the
/// model is unchanged.
[[nodiscard]] Result<FloatReport> convert_floats(graph::Model& model, const FloatOptions& options,
                                                 const graph::PassContext& context);

}  // namespace selvage::compress
