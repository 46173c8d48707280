#include "graph/attributes.h"

#include <selvage/onnx.pb.h>

namespace selvage::graph {
namespace {

onnx::AttributeProto& replaceable(onnx::NodeProto& node, std::string_view name) {
  remove_attribute(node, name);
  auto& attribute = *node.add_attribute();
  attribute.set_name(std::string(name));
  return attribute;
}

}  // namespace

const onnx::AttributeProto* find_attribute(const onnx::NodeProto& node, std::string_view name) {
  for (const auto& attribute : node.attribute())
    if (attribute.name() == name) return &attribute;
  return nullptr;
}

std::int64_t int_attribute(const onnx::NodeProto& node, std::string_view name,
                           std::int64_t otherwise) {
  const auto* attribute = find_attribute(node, name);
  return attribute == nullptr ? otherwise : attribute->i();
}

float float_attribute(const onnx::NodeProto& node, std::string_view name, float otherwise) {
  const auto* attribute = find_attribute(node, name);
  return attribute == nullptr ? otherwise : attribute->f();
}

Shape ints_attribute(const onnx::NodeProto& node, std::string_view name) {
  const auto* attribute = find_attribute(node, name);
  if (attribute == nullptr) return {};
  return {attribute->ints().begin(), attribute->ints().end()};
}

std::string string_attribute(const onnx::NodeProto& node, std::string_view name,
                             std::string_view otherwise) {
  const auto* attribute = find_attribute(node, name);
  return attribute == nullptr ? std::string(otherwise) : attribute->s();
}

void set_attribute(onnx::NodeProto& node, std::string_view name, std::int64_t value) {
  auto& attribute = replaceable(node, name);
  attribute.set_type(onnx::AttributeProto::INT);
  attribute.set_i(value);
}

void set_attribute(onnx::NodeProto& node, std::string_view name, float value) {
  auto& attribute = replaceable(node, name);
  attribute.set_type(onnx::AttributeProto::FLOAT);
  attribute.set_f(value);
}

void set_attribute(onnx::NodeProto& node, std::string_view name, const Shape& values) {
  auto& attribute = replaceable(node, name);
  attribute.set_type(onnx::AttributeProto::INTS);
  attribute.mutable_ints()->Add(values.begin(), values.end());
}

void set_attribute(onnx::NodeProto& node, std::string_view name, std::string_view value) {
  auto& attribute = replaceable(node, name);
  attribute.set_type(onnx::AttributeProto::STRING);
  attribute.set_s(std::string(value));
}

void remove_attribute(onnx::NodeProto& node, std::string_view name) {
  for (int i = node.attribute_size() - 1; i >= 0; --i)
    if (node.attribute(i).name() == name) node.mutable_attribute()->DeleteSubrange(i, 1);
}

}  // namespace selvage::graph
