// Small networks to begin with, as ordinary ONNX models: initialised as PyTorch initialises its
// layers, with the parameter names that PyTorch's exports have.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "base/tensor.h"
#include "graph/model.h"

namespace selvage::learn {

struct ArchitectureInfo {
  std::string_view name;
  std::string_view summary;  ///< Half a line.
  std::string_view input;    ///< What its input's dimensions are: "CxHxW", "CxL", ...
  bool has_classes = true;   ///< Or it gives back its input, whatever `classes` says.
};
/// What make_architecture() knows, in the order in which help lists them.
[[nodiscard]] std::span<const ArchitectureInfo> architectures();

inline constexpr std::int64_t kInputSideMax = 65'536;
inline constexpr std::int64_t kInputElementsMax = 1 << 24;
inline constexpr std::int64_t kClassesMax = 100'000;

struct ArchitectureOptions {
  Shape input;                ///< Of one sample: {1, 28, 28}.
  std::int64_t classes = 10;  ///< Outputs of the last layer.
  std::uint64_t seed = 0;     ///< Equal seeds give equal bytes on every machine.
};

/// Opset 17; the input `input` and the output `output` have an open first dimension. Weights of
/// linear and convolutional layers and their biases are uniform within +-1/sqrt(fan-in), which is
/// what PyTorch's kaiming_uniform_(a=sqrt(5)) comes to. kNotFound lists the names;
/// kInvalidArgument says which input an architecture takes.
[[nodiscard]] Result<graph::Model> make_architecture(std::string_view name,
                                                     const ArchitectureOptions& options);

}  // namespace selvage::learn
