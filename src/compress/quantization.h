// Linear quantisation of numbers: real = scale * (quantised - zero_point). The numerics are those
// of onnxruntime.quantization 1.30, bit for bit, so that equal ranges give equal files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"

namespace selvage::compress {

enum class Symmetry : std::uint8_t {
  kAsymmetric,  ///< The zero point is where it must be to use every step.
  kSymmetric,   ///< The real range is made symmetric, the zero point is constant.
};
enum class Width : std::uint8_t {
  kFull,
  kReduced,  ///< One bit less, so that 8-bit products of processors without VNNI cannot saturate.
};

/// Whether `type` is one that we quantise to: (u)int4, (u)int8 or (u)int16.
[[nodiscard]] bool is_quantized_type(DataType type);

/// What 8-bit activations should be on this processor: x86 multiplies unsigned by signed numbers,
/// and the runtime has no fast convolution of two signed ones there.
#if defined(__x86_64__)
inline constexpr DataType kFastActivations = DataType::kUint8;
#else
inline constexpr DataType kFastActivations = DataType::kInt8;
#endif

/// The values of a quantised type that are used.
struct QuantizedRange {
  std::int32_t min = 0;
  std::int32_t max = 0;

  friend bool operator==(const QuantizedRange&, const QuantizedRange&) = default;
};
/// Everything the type holds, or what the reference's tables leave of it: symmetric int8 and int16
/// lose their lowest value; a reduced width takes precedence ([-64, 64], [0, 127], ...). `type`
/// must be is_quantized_type().
[[nodiscard]] QuantizedRange quantized_range(DataType type,
                                             Symmetry symmetry = Symmetry::kAsymmetric,
                                             Width width = Width::kFull);

/// The smallest and the largest of some real numbers.
struct RealRange {
  float min = 0;
  float max = 0;
};
/// NaN is passed over, as numpy.nanmin does; empty where nothing is left.
[[nodiscard]] std::optional<RealRange> range_of(std::span<const float> values);

struct QuantizationParameters {
  float scale = 1;
  std::int32_t zero_point = 0;

  friend bool operator==(const QuantizationParameters&, const QuantizationParameters&) = default;
};

/// The reference's compute_scale_zp: zero is taken into the range, the difference is computed in
/// float32 and divided in double, the zero point is rounded half to even. A range whose scale would
/// be below the smallest normal float32 gets scale 1 and zero point 0. `real` must be finite.
/// `real_width_min`: the least difference of the range's ends.
[[nodiscard]] QuantizationParameters compute_scale_zero_point(
    RealRange real, QuantizedRange quantized, Symmetry symmetry = Symmetry::kAsymmetric,
    std::optional<float> real_width_min = std::nullopt);

/// round_half_to_even(value / scale) + zero_point in float32, clipped to what `type` holds. NaN
/// becomes the lowest value. As `to`, 4-bit types take one byte an element: see pack_4_bits().
void quantize(std::span<const float> values, QuantizationParameters parameters, DataType type,
              std::span<std::byte> to);
/// The value that `type` stores for `value`.
[[nodiscard]] std::int32_t quantize(float value, QuantizationParameters parameters, DataType type);
[[nodiscard]] inline float dequantize(std::int32_t value, QuantizationParameters parameters) {
  return static_cast<float>(value - parameters.zero_point) * parameters.scale;
}

/// Two elements a byte, the first in the low half; an odd tail has a zero high half.
[[nodiscard]] std::vector<std::byte> pack_4_bits(std::span<const std::byte> elements);

/// How a stored tensor is quantised.
struct WeightFormat {
  DataType type = DataType::kInt8;
  Symmetry symmetry = Symmetry::kSymmetric;
  Width width = Width::kFull;
  std::optional<std::size_t> axis;  ///< Of channels with a scale each; empty: one for the tensor.
  std::optional<float> real_width_min;
};

/// A quantised tensor as ONNX stores it.
struct QuantizedTensor {
  DataType type = DataType::kInt8;
  Shape shape;
  std::vector<std::byte> bytes;  ///< Packed, if of 4 bits.
  /// One, or one a channel.
  std::vector<QuantizationParameters> parameters;
  std::optional<std::size_t> axis;

  /// The real numbers that it stands for.
  [[nodiscard]] std::vector<float> to_real() const;
};

/// Parameters from the values themselves. kInvalidArgument for NaN or infinity among them (where,
/// the caller says), or an axis that the shape does not have.
[[nodiscard]] Result<std::vector<QuantizationParameters>> weight_parameters(
    std::span<const float> values, const Shape& shape, const WeightFormat& format);
/// With given parameters: one, or one for each channel along `axis`.
[[nodiscard]] QuantizedTensor quantize_weight(std::span<const float> values, const Shape& shape,
                                              DataType type,
                                              std::vector<QuantizationParameters> parameters,
                                              std::optional<std::size_t> axis);

/// Bias as int32 with zero point 0: round(value / scale) in double, clipped. `scales`: one, or one
/// an element.
[[nodiscard]] std::vector<std::int32_t> quantize_bias(std::span<const float> values,
                                                      std::span<const float> scales);

/// Whether 8-bit dot products of this processor are exact: AVX-VNNI, AVX512-VNNI, or anything that
/// is not x86. Without, u8 * s8 saturates at 16 bits and weights need Width::kReduced.
[[nodiscard]] bool processor_multiplies_8_bits_exactly();

}  // namespace selvage::compress
