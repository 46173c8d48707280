#include "compress/quantization.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "compress/counting.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

struct TypeRanges {
  DataType type;
  QuantizedRange full, symmetric, reduced;
};

// ONNX_INT_TYPE_RANGE, ..._SYMMETRIC_RANGE and ..._REDUCED_RANGE of quant_utils.py.
constexpr std::array kRanges{
    TypeRanges{DataType::kInt8, {-128, 127}, {-127, 127}, {-64, 64}},
    TypeRanges{DataType::kUint8, {0, 255}, {0, 255}, {0, 127}},
    TypeRanges{DataType::kInt16, {-32768, 32767}, {-32767, 32767}, {-16384, 16384}},
    TypeRanges{DataType::kUint16, {0, 65535}, {0, 65535}, {0, 32767}},
    TypeRanges{DataType::kInt4, {-8, 7}, {-8, 7}, {-4, 3}},
    TypeRanges{DataType::kUint4, {0, 15}, {0, 15}, {0, 7}},
};

const TypeRanges& ranges_of(DataType type) {
  const auto* found = std::ranges::find(kRanges, type, &TypeRanges::type);
  SELVAGE_CHECK(found != kRanges.end());
  return *found;
}

/// How a tensor falls into channels along an axis: outer x channels x inner.
struct Channels {
  std::size_t outer = 1, count = 1, inner = 1;
};

Channels channels_of(const Shape& shape, std::optional<std::size_t> axis) {
  Channels channels;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const auto size = static_cast<std::size_t>(shape[i]);
    if (!axis || i > *axis)
      channels.inner *= size;
    else if (i < *axis)
      channels.outer *= size;
    else
      channels.count = size;
  }
  return channels;
}

/// Bytes that an element takes before it is packed.
std::size_t loose_bytes(DataType type) {
  return std::max<std::size_t>(bits_of(type), 8) / 8;
}

std::int32_t stored_value(const QuantizedTensor& tensor, std::size_t index) {
  const auto* bytes = tensor.bytes.data();
  const auto as = [&]<typename T>(T) {
    T value;
    std::memcpy(&value, bytes + index * sizeof value, sizeof value);
    return std::int32_t{value};
  };
  const auto nibble = [&] {
    return std::to_integer<std::int32_t>(bytes[index / 2] >> (index % 2 * 4)) & 15;
  };
  switch (tensor.type) {
    case DataType::kInt8: return as(std::int8_t{});
    case DataType::kUint8: return as(std::uint8_t{});
    case DataType::kInt16: return as(std::int16_t{});
    case DataType::kUint16: return as(std::uint16_t{});
    case DataType::kInt4: return (nibble() ^ 8) - 8;
    default: return nibble();
  }
}

}  // namespace

bool is_quantized_type(DataType type) {
  return std::ranges::find(kRanges, type, &TypeRanges::type) != kRanges.end();
}

QuantizedRange quantized_range(DataType type, Symmetry symmetry, Width width) {
  const auto& ranges = ranges_of(type);
  if (width == Width::kReduced) return ranges.reduced;
  return symmetry == Symmetry::kSymmetric ? ranges.symmetric : ranges.full;
}

std::optional<RealRange> range_of(std::span<const float> values) {
  const auto range = counting().extremes(values);
  if (!(range.min <= range.max)) return std::nullopt;
  return range;
}

QuantizationParameters compute_scale_zero_point(RealRange real, QuantizedRange quantized,
                                                Symmetry symmetry,
                                                std::optional<float> real_width_min) {
  float low = std::min(real.min, 0.0f), high = std::max(real.max, 0.0f);
  if (real_width_min) high = std::max(high, low + *real_width_min);
  if (symmetry == Symmetry::kSymmetric) {
    high = std::max(std::abs(low), std::abs(high));
    low = -high;
  }
  const double width = high - low;
  const double steps = static_cast<double>(quantized.max) - static_cast<double>(quantized.min);
  const double scale = width / steps;
  if (!(scale >= std::numeric_limits<float>::min())) return {};
  const double zero_point = symmetry == Symmetry::kSymmetric
                                ? std::nearbyint((quantized.min + quantized.max) / 2.0)
                                : std::nearbyint(quantized.min - static_cast<double>(low) / scale);
  return {static_cast<float>(scale), static_cast<std::int32_t>(zero_point)};
}

std::int32_t quantize(float value, QuantizationParameters parameters, DataType type) {
  const auto range = ranges_of(type).full;
  return static_cast<std::int32_t>(
      quantized(value, parameters.scale, static_cast<float>(parameters.zero_point),
                static_cast<float>(range.min), static_cast<float>(range.max)));
}

void quantize(std::span<const float> values, QuantizationParameters parameters, DataType type,
              std::span<std::byte> to) {
  SELVAGE_CHECK(to.size() == values.size() * loose_bytes(type));
  const auto range = ranges_of(type).full;
  switch (type) {
    case DataType::kUint16:
    case DataType::kInt16: return quantize_as<std::uint16_t>(values, parameters, range, to.data());
    default: return counting().quantize_bytes(values, parameters, range, to.data());
  }
}

std::vector<std::byte> pack_4_bits(std::span<const std::byte> elements) {
  constexpr std::byte kLow{15};
  std::vector<std::byte> packed((elements.size() + 1) / 2);
  for (std::size_t i = 0; i < elements.size(); ++i)
    packed[i / 2] |= (elements[i] & kLow) << (i % 2 * 4);
  return packed;
}

std::vector<float> QuantizedTensor::to_real() const {
  const auto channels = channels_of(shape, axis);
  std::vector<float> values(channels.outer * channels.count * channels.inner);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto channel = i / channels.inner % channels.count;
    values[i] = dequantize(stored_value(*this, i), parameters[axis ? channel : 0]);
  }
  return values;
}

Result<std::vector<QuantizationParameters>> weight_parameters(std::span<const float> values,
                                                              const Shape& shape,
                                                              const WeightFormat& format) {
  if (format.axis && *format.axis >= shape.size())
    return fail(ErrorCode::kInvalidArgument,
                "shape " + to_string(shape) + " has no axis " + std::to_string(*format.axis));
  if (!graph::all_finite(values)) return fail(ErrorCode::kInvalidArgument, "holds NaN or infinity");
  const auto channels = channels_of(shape, format.axis);
  const auto range = quantized_range(format.type, format.symmetry, format.width);
  std::vector<QuantizationParameters> parameters(channels.count);
  for (std::size_t channel = 0; channel < channels.count; ++channel) {
    RealRange real{};  // Zero belongs to every range.
    for (std::size_t outer = 0; outer < channels.outer; ++outer) {
      const auto found = range_of(
          values.subspan((outer * channels.count + channel) * channels.inner, channels.inner));
      if (!found) continue;
      real.min = std::min(real.min, found->min);
      real.max = std::max(real.max, found->max);
    }
    // An empty tensor has scale 1 and zero point 0.
    if (!values.empty())
      parameters[channel] =
          compute_scale_zero_point(real, range, format.symmetry, format.real_width_min);
  }
  return parameters;
}

QuantizedTensor quantize_weight(std::span<const float> values, const Shape& shape, DataType type,
                                std::vector<QuantizationParameters> parameters,
                                std::optional<std::size_t> axis) {
  const auto channels = channels_of(shape, axis);
  const auto width = loose_bytes(type);
  std::vector<std::byte> bytes(values.size() * width);
  for (std::size_t block = 0; block < channels.outer * channels.count; ++block) {
    const auto begin = block * channels.inner;
    quantize(values.subspan(begin, channels.inner), parameters[block % channels.count], type,
             std::span(bytes).subspan(begin * width, channels.inner * width));
  }
  if (bits_of(type) == 4) bytes = pack_4_bits(bytes);
  return {type, shape, std::move(bytes), std::move(parameters), axis};
}

std::vector<std::int32_t> quantize_bias(std::span<const float> values,
                                        std::span<const float> scales) {
  constexpr double kMin = std::numeric_limits<std::int32_t>::min();
  constexpr double kMax = std::numeric_limits<std::int32_t>::max();
  std::vector<std::int32_t> stored(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double scale = scales[scales.size() == 1 ? 0 : i];
    const double steps = std::nearbyint(static_cast<double>(values[i]) / scale);
    stored[i] = static_cast<std::int32_t>(std::clamp(steps, kMin, kMax));
  }
  return stored;
}

bool processor_multiplies_8_bits_exactly() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512vnni") || __builtin_cpu_supports("avxvnni");
#else
  return true;
#endif
}

}  // namespace selvage::compress
