// Stored tensors as numbers, and numbers as stored tensors. Everything that is not replaced keeps
// its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "graph/tensor.h"

namespace selvage::onnx {
class GraphProto;
class TensorProto;
}  // namespace selvage::onnx

namespace selvage::graph {

[[nodiscard]] Shape shape_of(const onnx::TensorProto& tensor);
[[nodiscard]] DataType type_of(const onnx::TensorProto& tensor);  ///< kUndefined if unknown.
/// Bits of one of its elements; 0 for strings and unknown types.
[[nodiscard]] std::size_t bits_of_stored(const onnx::TensorProto& tensor);
/// float32, float64, float16 or bfloat16.
[[nodiscard]] bool is_float(DataType type);

/// The elements of a floating-point tensor as float32. `folder` is Model::folder(), for external
/// data. kInvalidArgument for other types; otherwise as TensorData::open().
[[nodiscard]] Result<std::vector<float>> read_floats(const onnx::TensorProto& tensor,
                                                     const std::filesystem::path& folder);
/// The same where they lie, if that is as float32; what is kept otherwise is converted. Valid as
/// long as this object and the tensor, unchanged.
class Floats {
 public:
  Floats() = default;
  explicit Floats(std::vector<float> values) : converted_(std::move(values)), span_(converted_) {}
  /// Errors as read_floats().
  [[nodiscard]] static Result<Floats> view(const onnx::TensorProto& tensor,
                                           const std::filesystem::path& folder);
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  Floats(Floats&&) = default;  // A vector's elements stay where they are.
  Floats& operator=(Floats&&) = default;
  ~Floats() = default;

  // NOLINTNEXTLINE(google-explicit-constructor): stands for the numbers.
  operator std::span<const float>() const { return span_; }

 private:
  TensorData data_;
  std::vector<float> converted_;
  std::span<const float> span_;
};

/// Whether none is NaN or infinite.
[[nodiscard]] bool all_finite(std::span<const float> values);

/// The elements of an integer or boolean tensor, of at most `elements_max`: for shapes, axes and
/// sizes. kInvalidArgument for other types, kOutOfRange above the limit.
[[nodiscard]] Result<std::vector<std::int64_t>> read_integers(const onnx::TensorProto& tensor,
                                                              const std::filesystem::path& folder,
                                                              std::size_t elements_max = 1u << 16);

/// The elements for editing in place, in base/tensor.h's layout: converts whatever the tensor keeps
/// them in to raw data inside the model, once, and copies nothing if they are that already. The
/// span is valid until the tensor is changed otherwise. kInvalidArgument for strings; otherwise as
/// TensorData::open().
[[nodiscard]] Result<std::span<std::byte>> edit_bytes(onnx::TensorProto& tensor,
                                                      const std::filesystem::path& folder);

/// Gives `tensor` this type, shape and content; its name, comment and metadata stay. `value` must
/// not point into it.
void store(onnx::TensorProto& tensor, const TensorView& value);
/// The same from float32, rounded to nearest even into `type`, one of is_float().
void store_floats(onnx::TensorProto& tensor, DataType type, const Shape& shape,
                  std::span<const float> values);

/// Adds an initialiser. `name` must be fresh.
onnx::TensorProto& add_initialiser(onnx::GraphProto& graph, std::string_view name,
                                   const Shape& shape, std::span<const float> values);
onnx::TensorProto& add_initialiser(onnx::GraphProto& graph, std::string_view name,
                                   const Shape& shape, std::span<const std::int64_t> values);

}  // namespace selvage::graph
