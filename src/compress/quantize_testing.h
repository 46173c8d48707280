// What the tests of the quantisers share. Not for product code.
#pragma once

#include <cmath>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "compress/calibrate.h"
#include "compress/quantize_static.h"
#include "graph/check.h"
#include "graph/tensor.h"
#include "graph/testing.h"
#include "graph/values.h"
#include "infer/session.h"

namespace selvage::compress::testing {

inline infer::Runtime& runtime() {
  static const auto made = infer::Runtime::create();
  return **made;
}

inline std::vector<float> random_floats(std::size_t count, unsigned seed, float deviation = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (auto& value : values) value = normal(random);
  return values;
}

/// Random inputs of the declared shapes; open dimensions are 2.
inline Result<std::vector<Tensor>> random_inputs(const graph::Model& model, unsigned seed) {
  SELVAGE_TRY(const auto bytes, model.serialise());
  SELVAGE_TRY(const auto session, infer::Session::load(runtime(), bytes, {.threads = 1}));
  std::vector<Tensor> tensors;
  for (const auto& input : session->inputs()) {
    Shape shape = input.shape;
    for (auto& size : shape) size = size < 0 ? 2 : size;
    SELVAGE_TRY(auto tensor, Tensor::create(input.type, shape));
    if (input.type == DataType::kFloat32) {
      std::mt19937 random(seed++);
      std::uniform_real_distribution<float> uniform(-1, 1);
      for (auto& value : tensor.as<float>()) value = uniform(random);
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

/// `count` samples of random_inputs().
inline Samples random_samples(const graph::Model& model, std::size_t count = 8) {
  return {.count = count, .get = [&model](std::size_t index) {
            return random_inputs(model, static_cast<unsigned>(100 * index));
          }};
}

/// All float outputs in one list.
inline Result<std::vector<float>> run(const graph::Model& model, unsigned seed = 0) {
  SELVAGE_RETURN_IF_ERROR(graph::check(model));
  SELVAGE_TRY(const auto bytes, model.serialise());
  SELVAGE_TRY(const auto session, infer::Session::load(runtime(), bytes, {.threads = 1}));
  SELVAGE_TRY(auto inputs, random_inputs(model, seed));
  std::vector<infer::Value> values;
  for (auto& tensor : inputs) values.emplace_back(std::move(tensor));
  SELVAGE_TRY(const auto outputs, session->run(values));
  std::vector<float> all;
  for (const auto& output : outputs)
    if (const auto* tensor = std::get_if<Tensor>(&output);
        tensor != nullptr && tensor->type() == DataType::kFloat32)
      all.insert(all.end(), tensor->as<float>().begin(), tensor->as<float>().end());
  return all;
}

/// 20 log10(|x| / |x - y|) of the outputs; fails the test where one does not run.
inline double sqnr(const graph::Model& original, const graph::Model& changed, unsigned seed = 0) {
  const auto x = run(original, seed), y = run(changed, seed);
  EXPECT_TRUE(x) << (x ? "" : x.error().message);
  EXPECT_TRUE(y) << (y ? "" : y.error().message);
  if (!x || !y || x->size() != y->size()) {
    ADD_FAILURE() << "outputs differ in size";
    return -1000;
  }
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < x->size(); ++i) {
    const double value = (*x)[i], off = value - static_cast<double>((*y)[i]);
    signal += value * value;
    noise += off * off;
  }
  return noise == 0 ? 1000 : 10 * std::log10(signal / noise);
}

/// Calibrates on random samples and quantises.
inline Result<QuantizationReport> quantize(graph::Model& model, const StaticOptions& options = {}) {
  SELVAGE_TRY(const auto values, static_candidates(model, options));
  SELVAGE_TRY(const auto ranges, calibrate(runtime(), model, values, random_samples(model), {}));
  return quantize_static(model, ranges, options);
}

/// What quantize_static() stored, by the names that onnxruntime.quantization would give it:
/// NAME_scale, NAME_zero_point and NAME_quantized. Other constants keep their names.
inline std::map<std::string, const onnx::TensorProto*> parameters_by_name(
    const graph::Model& model) {
  std::map<std::string_view, const onnx::TensorProto*> stored;
  for (const auto& tensor : model.proto().graph().initializer()) stored[tensor.name()] = &tensor;
  std::map<std::string, const onnx::TensorProto*> found;
  auto others = stored;
  constexpr std::string_view kScale = "_scale", kStored = "_q";
  for (const auto& node : model.proto().graph().node()) {
    if (node.op_type() != "QuantizeLinear" && node.op_type() != "DequantizeLinear") continue;
    auto stem = node.input(1).substr(0, node.input(1).size() - kScale.size());
    if (const auto constant = stored.find(node.input(0)); constant != stored.end()) {
      const auto& name = node.input(0);
      const auto quantized = name.substr(0, name.size() - kStored.size()) + "_quantized";
      found[quantized] = constant->second;
      if (graph::type_of(*constant->second) == DataType::kInt32) stem = quantized;  // A bias.
    }
    found[stem + "_scale"] = stored.at(node.input(1));
    found[stem + "_zero_point"] = stored.at(node.input(2));
    for (const auto& input : node.input()) others.erase(input);
  }
  for (const auto& [name, tensor] : others) found.emplace(name, tensor);
  return found;
}

inline int count_nodes(const graph::Model& model, std::string_view type) {
  int count = 0;
  for (const auto& node : model.proto().graph().node()) count += node.op_type() == type;
  return count;
}

/// conv -> relu -> conv (depthwise) -> add -> mean -> flatten -> gemm.
inline graph::testing::ModelBuilder small_network() {
  graph::testing::ModelBuilder builder;
  builder.input("x", DataType::kFloat32, {1, 3, 8, 8})
      .initialiser("w1", {8, 3, 3, 3}, random_floats(216, 1, 0.3f))
      .initialiser("b1", {8}, random_floats(8, 2, 0.3f))
      .initialiser("w2", {8, 1, 3, 3}, random_floats(72, 3, 0.5f))
      .initialiser("w3", {8, 4}, random_floats(32, 4, 0.5f))
      .initialiser("b3", {4}, random_floats(4, 5, 0.3f))
      .node("Conv", {"x", "w1", "b1"}, {"c1"}, {{"pads", Shape{1, 1, 1, 1}}})
      .node("Relu", {"c1"}, {"r1"})
      .node("Conv", {"r1", "w2"}, {"c2"}, {{"pads", Shape{1, 1, 1, 1}}, {"group", std::int64_t{8}}})
      .node("Add", {"c2", "r1"}, {"a2"})
      .node("GlobalAveragePool", {"a2"}, {"g2"})
      .node("Flatten", {"g2"}, {"f2"})
      .node("Gemm", {"f2", "w3", "b3"}, {"y"})
      .output("y", DataType::kFloat32, {1, 4});
  return builder;
}

}  // namespace selvage::compress::testing
