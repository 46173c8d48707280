// One rule per operator: what the gradient of its inputs is, given that of its outputs. Internal to
// src/learn.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "base/result.h"
#include "graph/attributes.h"
#include "learn/expression.h"

namespace selvage::learn {

using graph::find_attribute;
using graph::float_attribute;
using graph::int_attribute;
using graph::ints_attribute;
using graph::string_attribute;

/// Computes values of the forward pass anew, once, for the backward pass, so that they need not
/// live in between. Only of our own BatchNorm (kernels.h): its input lives on for its own gradient
/// anyway, and the runtime does not merge what is computed twice by operators that it does not
/// know.
class Recomputation {
 public:
  /// Of the nodes that the builder's graph has now.
  explicit Recomputation(GraphBuilder& builder);
  /// The value itself or a copy of it.
  [[nodiscard]] Expression of(Expression value);

 private:
  GraphBuilder& builder_;
  std::unordered_map<std::string, int> norms_;  ///< By what they give; indices of nodes.
  std::unordered_map<std::string, Expression> copies_;
};

/// A node of the forward graph while its gradient is formed.
class NodeGradient {
 public:
  using Gradients = std::unordered_map<std::string, Expression>;  ///< By value.
  using Names = std::unordered_set<std::string>;

  NodeGradient(GraphBuilder& builder, onnx::NodeProto& node, Gradients& gradients,
               const Names& wanted, Recomputation& recomputation)
      : builder_(builder),
        node_(node),
        gradients_(gradients),
        wanted_(wanted),
        recomputation_(recomputation) {}

  [[nodiscard]] GraphBuilder& builder() { return builder_; }
  [[nodiscard]] const onnx::NodeProto& node() const { return node_; }
  [[nodiscard]] int input_count() const { return node_.input_size(); }
  [[nodiscard]] int output_count() const { return node_.output_size(); }

  /// None where the input is left out.
  [[nodiscard]] Expression x(int index = 0) const {
    return index < node_.input_size() ? builder_.value(node_.input(index)) : Expression();
  }
  /// x(index) for a gradient that needs its elements: computed anew where that saves memory.
  [[nodiscard]] Expression elements_of_x(int index = 0) const;
  [[nodiscard]] Expression y(int index = 0) const {
    return index < node_.output_size() ? builder_.value(node_.output(index)) : Expression();
  }
  /// The gradient that came in; none where the loss does not depend on that output.
  [[nodiscard]] Expression dy(int index = 0) const;
  /// Whether anybody wants the gradient of the input.
  [[nodiscard]] bool wants(int index) const {
    return index < node_.input_size() && wanted_.contains(node_.input(index));
  }
  /// Adds to the gradient of the input, if it is wanted. What was broadcast is summed.
  void add(int index, Expression gradient);

  /// The elements of an integer input that is known before the run.
  [[nodiscard]] std::optional<std::vector<std::int64_t>> constant_ints(int index) const;
  /// A second result that the operator can give: makes the forward node give it.
  [[nodiscard]] Expression ask_output(int index, ValueType type);

  [[nodiscard]] std::unexpected<Error> refuse(std::string_view what) const;

 private:
  GraphBuilder& builder_;
  onnx::NodeProto& node_;
  Gradients& gradients_;
  const Names& wanted_;
  Recomputation& recomputation_;
};

using Rule = Result<void> (*)(NodeGradient& n);
struct RuleEntry {
  std::string_view op;
  Rule rule;
};

/// What of a node of ours says how it limits its values (kernels.h), and its epsilon.
[[nodiscard]] Attributes norm_attributes(const onnx::NodeProto& node);

/// By family, each in its own gradient_*.cc.
[[nodiscard]] std::span<const RuleEntry> elementwise_rules();
[[nodiscard]] std::span<const RuleEntry> linear_rules();
[[nodiscard]] std::span<const RuleEntry> conv_rules();
[[nodiscard]] std::span<const RuleEntry> pool_rules();
[[nodiscard]] std::span<const RuleEntry> norm_rules();
[[nodiscard]] std::span<const RuleEntry> reduce_rules();
[[nodiscard]] std::span<const RuleEntry> shape_rules();
[[nodiscard]] std::span<const RuleEntry> index_rules();
[[nodiscard]] std::span<const RuleEntry> resize_rules();
[[nodiscard]] std::span<const RuleEntry> quantize_rules();

}  // namespace selvage::learn
