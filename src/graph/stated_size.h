// Sizes that a model states without storing: ConstantOfShape of [1000000, 1000000] is a file of 100
// bytes and a run of 4 TB. Internal to check().
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

#include "base/result.h"

namespace selvage::onnx {
class NodeProto;
class TensorProto;
}  // namespace selvage::onnx

namespace selvage::graph {

/// A value that is known without running anything: an initialiser, or the node Constant that makes
/// it.
struct ConstantValue {
  const onnx::TensorProto* tensor = nullptr;
  const onnx::NodeProto* node = nullptr;
};
using FindConstant = std::function<ConstantValue(std::string_view name)>;

/// Checks the shapes, repeats, pads and counts that constants and attributes give to operators that
/// make large outputs of small inputs. kOutOfRange where more than `elements_max` elements follow;
/// `rank_max` limits how many dimensions a shape may have.
[[nodiscard]] Result<void> check_stated_size(const onnx::NodeProto& node,
                                             const FindConstant& find_constant,
                                             const std::filesystem::path& folder,
                                             std::uint64_t elements_max, std::size_t rank_max);

}  // namespace selvage::graph
