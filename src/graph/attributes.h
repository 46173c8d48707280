// A node's attributes, read with their defaults and set.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/tensor.h"

namespace selvage::onnx {
class AttributeProto;
class NodeProto;
}  // namespace selvage::onnx

namespace selvage::graph {

/// Null where the node has no such attribute.
[[nodiscard]] const onnx::AttributeProto* find_attribute(const onnx::NodeProto& node,
                                                         std::string_view name);
[[nodiscard]] std::int64_t int_attribute(const onnx::NodeProto& node, std::string_view name,
                                         std::int64_t otherwise);
[[nodiscard]] float float_attribute(const onnx::NodeProto& node, std::string_view name,
                                    float otherwise);
/// Empty where there is none.
[[nodiscard]] Shape ints_attribute(const onnx::NodeProto& node, std::string_view name);
[[nodiscard]] std::string string_attribute(const onnx::NodeProto& node, std::string_view name,
                                           std::string_view otherwise);

/// Replaces the attribute, or adds it.
void set_attribute(onnx::NodeProto& node, std::string_view name, std::int64_t value);
void set_attribute(onnx::NodeProto& node, std::string_view name, float value);
void set_attribute(onnx::NodeProto& node, std::string_view name, const Shape& values);
void set_attribute(onnx::NodeProto& node, std::string_view name, std::string_view value);
/// Nothing where there is none.
void remove_attribute(onnx::NodeProto& node, std::string_view name);

}  // namespace selvage::graph
