// Small models for the tests of this folder and of those above. Not for product code.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/tensor.h"
#include "graph/model.h"

namespace selvage::onnx {
class GraphProto;
class NodeProto;
}  // namespace selvage::onnx

namespace selvage::graph::testing {

/// An attribute's value: int, ints, float, floats or string.
using Attribute = std::pair<std::string, std::variant<std::int64_t, std::vector<std::int64_t>,
                                                      float, std::vector<float>, std::string>>;

/// Builds a model step by step:
///   auto model = ModelBuilder().input("x", DataType::kFloat32, {1, 3})
///                    .node("Relu", {"x"}, {"y"}).output("y", DataType::kFloat32, {1, 3}).build();
/// IR version 8, opset 17. A dimension of -1 is left open.
class ModelBuilder {
 public:
  ModelBuilder();
  ModelBuilder& input(std::string_view name, DataType type, const Shape& shape);
  ModelBuilder& output(std::string_view name, DataType type, const Shape& shape);
  ModelBuilder& initialiser(std::string_view name, const Shape& shape,
                            std::span<const float> values);
  ModelBuilder& initialiser(std::string_view name, const Shape& shape,
                            std::span<const std::int64_t> values);
  ModelBuilder& node(std::string_view type, const std::vector<std::string>& inputs,
                     const std::vector<std::string>& outputs,
                     const std::vector<Attribute>& attributes = {}, std::string_view domain = "");
  ModelBuilder& opset(std::string_view domain, std::int64_t version);  ///< Sets or replaces it.

  [[nodiscard]] onnx::ModelProto& proto() {
    return model_.proto();
  }  ///< For what has no step above.
  [[nodiscard]] Model build() { return std::move(model_); }
  [[nodiscard]] std::vector<std::byte> bytes();  ///< The model as a file.

 private:
  Model model_;
};

struct RandomModelOptions {
  int nodes_max = 40;
  /// Only what channels flow through in vision models: convolutions of all groupings, batch norms,
  /// residuals, concatenations, squeeze-excite blocks, pooling, a classifier. Otherwise also
  /// integer arithmetic, shapes, constants that fold, identities, subgraphs, shared weights.
  bool is_convolutional = false;
};
/// A valid model of random structure, the same for a seed everywhere: loads and runs with the
/// shapes that its inputs declare, has at least one node and one output, and gives finite numbers
/// for inputs in [-1, 1].
[[nodiscard]] Model random_model(std::uint64_t seed, const RandomModelOptions& options = {});

/// Puts the nodes of the main graph into the wrong order.
void reverse_nodes(Model& model);

/// y = Identity(x) of any type.
[[nodiscard]] ModelBuilder identity_model(DataType type = DataType::kFloat32,
                                          const Shape& shape = {1, 4});
/// y = a + b, float32.
[[nodiscard]] ModelBuilder add_model(const Shape& shape = {1, 4});
/// y = Conv(x, w), 3x3 with padding 1: x [1,3,8,8], w [4,3,3,3] of 0.01 * index, y [1,4,8,8].
[[nodiscard]] ModelBuilder conv_model();
/// y = MatMul(x, w): x [-1,4], w [4,2] of index + 1, y [-1,2].
[[nodiscard]] ModelBuilder matmul_model();

}  // namespace selvage::graph::testing
