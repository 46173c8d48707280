#include "graph/stated_size.h"

#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <selvage/onnx.pb.h>

#include "graph/names.h"
#include "graph/tensor.h"

namespace selvage::graph {
namespace {

/// What the numbers of an argument mean for the output's size.
enum class Meaning : std::uint8_t {
  kProduct,  ///< Dimensions or factors: they multiply.
  kEach,     ///< Elements added to one dimension.
};

/// An argument that states a size: an input, or before some opset an attribute.
struct Argument {
  std::string_view type;
  int input;                   ///< -1 for none.
  std::string_view attribute;  ///< Empty for none.
  Meaning meaning;
};

constexpr Argument kArguments[] = {
    {"ConstantOfShape", 0, "", Meaning::kProduct},
    {"Expand", 1, "", Meaning::kProduct},
    {"Tile", 1, "", Meaning::kProduct},
    {"RandomNormal", -1, "shape", Meaning::kProduct},
    {"RandomUniform", -1, "shape", Meaning::kProduct},
    {"Multinomial", -1, "sample_size", Meaning::kProduct},
    {"ConstantFill", 0, "shape", Meaning::kProduct},
    {"OneHot", 1, "", Meaning::kProduct},
    {"HannWindow", 0, "", Meaning::kProduct},
    {"HammingWindow", 0, "", Meaning::kProduct},
    {"BlackmanWindow", 0, "", Meaning::kProduct},
    {"Upsample", 1, "scales", Meaning::kProduct},
    {"Resize", 2, "", Meaning::kProduct},
    {"Resize", 3, "", Meaning::kProduct},
    {"AffineGrid", 1, "", Meaning::kProduct},
    {"MaxUnpool", 2, "", Meaning::kProduct},
    {"Col2Im", 1, "", Meaning::kProduct},
    {"CenterCropPad", 1, "", Meaning::kProduct},
    {"DFT", 1, "", Meaning::kEach},
    {"Pad", 1, "pads", Meaning::kEach},
    {"ConvTranspose", -1, "output_shape", Meaning::kProduct},
    {"ConvTranspose", -1, "output_padding", Meaning::kEach},
    {"ConvTranspose", -1, "strides", Meaning::kProduct},
    {"Conv", -1, "pads", Meaning::kEach},
    {"MaxPool", -1, "pads", Meaning::kEach},
    {"AveragePool", -1, "pads", Meaning::kEach},
    {"LpPool", -1, "pads", Meaning::kEach},
    {"RoiAlign", -1, "output_height", Meaning::kEach},
    {"RoiAlign", -1, "output_width", Meaning::kEach},
};

const onnx::AttributeProto* find_attribute(const onnx::NodeProto& node, std::string_view name) {
  for (const auto& attribute : node.attribute())
    if (attribute.name() == name) return &attribute;
  return nullptr;
}

template <typename T>
std::vector<double> as_numbers(std::span<const std::byte> bytes) {
  std::vector<double> numbers(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    T value;  // Raw data may be unaligned.
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof value);
    numbers[i] = static_cast<double>(value);
  }
  return numbers;
}

/// Doubles lose digits only far above every limit. Types that are no shapes give nothing.
Result<std::vector<double>> numbers_of(const onnx::TensorProto& tensor,
                                       const std::filesystem::path& folder) {
  SELVAGE_TRY(const auto data, TensorData::open(tensor, folder));
  const auto bytes = data.view().bytes;
  switch (data.view().type) {
    case DataType::kInt64: return as_numbers<std::int64_t>(bytes);
    case DataType::kInt32: return as_numbers<std::int32_t>(bytes);
    case DataType::kInt16: return as_numbers<std::int16_t>(bytes);
    case DataType::kUint8: return as_numbers<std::uint8_t>(bytes);
    case DataType::kFloat32: return as_numbers<float>(bytes);
    case DataType::kFloat64: return as_numbers<double>(bytes);
    default: return std::vector<double>();
  }
}

std::vector<double> numbers_of(const onnx::AttributeProto& attribute) {
  std::vector<double> numbers(attribute.floats().begin(), attribute.floats().end());
  for (const auto value : attribute.ints()) numbers.push_back(static_cast<double>(value));
  if (attribute.has_i()) numbers.push_back(static_cast<double>(attribute.i()));
  if (attribute.has_f()) numbers.push_back(static_cast<double>(attribute.f()));
  return numbers;
}

std::string count_text(double count) {
  return count < 1e18 ? std::to_string(static_cast<std::uint64_t>(count)) : "over 10^18";
}

class StatedSize {
 public:
  StatedSize(const onnx::NodeProto& node, const FindConstant& find,
             const std::filesystem::path& folder, std::uint64_t elements_max, std::size_t rank_max)
      : node_(node),
        find_(find),
        folder_(folder),
        elements_max_(static_cast<double>(elements_max)),
        rank_max_(rank_max) {}

  Result<void> check(const Argument& argument) const {
    SELVAGE_TRY(const auto stated, input(argument.input));
    SELVAGE_RETURN_IF_ERROR(check(stated, argument.meaning));
    const auto* attribute =
        argument.attribute.empty() ? nullptr : find_attribute(node_, argument.attribute);
    return attribute == nullptr ? Result<void>() : check(numbers_of(*attribute), argument.meaning);
  }

  /// Range(start, limit, delta) makes (limit - start) / delta elements.
  Result<void> check_range() const {
    SELVAGE_TRY(const auto start, input(0));
    SELVAGE_TRY(const auto limit, input(1));
    SELVAGE_TRY(const auto delta, input(2));
    if (start.size() != 1 || limit.size() != 1 || delta.size() != 1 || delta[0] == 0) return {};
    return check({(limit[0] - start[0]) / delta[0]}, Meaning::kEach);
  }

 private:
  /// The numbers of an input that is constant; none otherwise.
  Result<std::vector<double>> input(int index) const {
    if (index < 0 || index >= node_.input_size()) return std::vector<double>();
    const auto constant = find_(node_.input(index));
    const auto* tensor = constant.tensor;
    if (constant.node != nullptr) {
      for (const auto& attribute : constant.node->attribute()) {
        if (attribute.has_t())
          tensor = &attribute.t();
        else
          return numbers_of(attribute);
      }
    }
    if (tensor == nullptr) return std::vector<double>();
    // Pads have two numbers a dimension; what is longer is no argument of these operators.
    const auto shape =
        std::span(tensor->dims().data(), static_cast<std::size_t>(tensor->dims_size()));
    if (static_cast<std::uint64_t>(element_count(shape).value_or(0)) > 2 * rank_max_)
      return fail(ErrorCode::kOutOfRange, "has an argument " + quote(node_.input(index)) +
                                              " for more dimensions than the limit of " +
                                              std::to_string(rank_max_));
    return numbers_of(*tensor, folder_);
  }

  Result<void> check(const std::vector<double>& numbers, Meaning meaning) const {
    double elements = 1;
    for (const double number : numbers) {
      const double size = std::fabs(number);
      if (meaning == Meaning::kProduct) elements *= number > 0 ? size : 1;
      if (meaning == Meaning::kEach) elements = std::max(elements, size);
    }
    if (elements <= elements_max_) return {};
    return fail(ErrorCode::kOutOfRange, "states a size of " + count_text(elements) +
                                            " elements, more than the limit of " +
                                            count_text(elements_max_));
  }

  const onnx::NodeProto& node_;
  const FindConstant& find_;
  const std::filesystem::path& folder_;
  double elements_max_;
  std::size_t rank_max_;
};

}  // namespace

Result<void> check_stated_size(const onnx::NodeProto& node, const FindConstant& find_constant,
                               const std::filesystem::path& folder, std::uint64_t elements_max,
                               std::size_t rank_max) {
  if (!canonical_domain(node.domain()).empty()) return {};
  const StatedSize stated(node, find_constant, folder, elements_max, rank_max);
  if (node.op_type() == "Range") return stated.check_range();
  for (const auto& argument : kArguments)
    if (argument.type == node.op_type()) SELVAGE_RETURN_IF_ERROR(stated.check(argument));
  return {};
}

}  // namespace selvage::graph
