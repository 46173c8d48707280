// Attributes of nodes, with their defaults. Internal to src/learn.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <selvage/onnx.pb.h>

namespace selvage::learn {

[[nodiscard]] inline const onnx::AttributeProto* find_attribute(const onnx::NodeProto& node,
                                                                std::string_view name) {
  for (const auto& attribute : node.attribute())
    if (attribute.name() == name) return &attribute;
  return nullptr;
}

[[nodiscard]] inline std::int64_t int_attribute(const onnx::NodeProto& node, std::string_view name,
                                                std::int64_t otherwise) {
  const auto* attribute = find_attribute(node, name);
  return attribute == nullptr ? otherwise : attribute->i();
}

[[nodiscard]] inline float float_attribute(const onnx::NodeProto& node, std::string_view name,
                                           float otherwise) {
  const auto* attribute = find_attribute(node, name);
  return attribute == nullptr ? otherwise : attribute->f();
}

[[nodiscard]] inline std::string string_attribute(const onnx::NodeProto& node,
                                                  std::string_view name,
                                                  std::string_view otherwise) {
  const auto* attribute = find_attribute(node, name);
  return attribute == nullptr ? std::string(otherwise) : attribute->s();
}

/// Empty where the attribute is absent.
[[nodiscard]] inline std::vector<std::int64_t> ints_attribute(const onnx::NodeProto& node,
                                                              std::string_view name) {
  const auto* attribute = find_attribute(node, name);
  if (attribute == nullptr) return {};
  return {attribute->ints().begin(), attribute->ints().end()};
}

[[nodiscard]] inline std::vector<std::string> strings_attribute(const onnx::NodeProto& node,
                                                                std::string_view name) {
  const auto* attribute = find_attribute(node, name);
  if (attribute == nullptr) return {};
  return {attribute->strings().begin(), attribute->strings().end()};
}

}  // namespace selvage::learn
