// Equalisation, smoothing and bias correction; weight-only quantisation; 16-bit floats.
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "compress/compare_layers.h"
#include "compress/convert_float.h"
#include "compress/correct_bias.h"
#include "compress/equalize.h"
#include "compress/quantize_dynamic.h"
#include "compress/quantize_testing.h"
#include "compress/quantize_weights.h"
#include "graph/values.h"
#include "infer/graph_runtime.h"

namespace selvage::compress {
namespace {

using graph::testing::ModelBuilder;
using namespace testing;  // NOLINT(google-build-using-namespace): of the tests only.

/// Two layers whose channels differ a thousandfold, as depthwise networks have them.
graph::Model uneven_network() {
  auto first = random_floats(8 * 3, 1), second = random_floats(4 * 8, 2);
  for (std::size_t c = 0; c < 8; ++c) {
    const auto factor = std::pow(10.0f, static_cast<float>(c) / 3 - 1);
    for (std::size_t i = 0; i < 3; ++i) first[c * 3 + i] *= factor;
    for (std::size_t o = 0; o < 4; ++o) second[o * 8 + c] /= factor;
  }
  return ModelBuilder()
      .input("x", DataType::kFloat32, {1, 3, 6, 6})
      .initialiser("w1", {8, 3, 1, 1}, first)
      .initialiser("b1", {8}, random_floats(8, 3, 0.1f))
      .initialiser("w2", {4, 8, 1, 1}, second)
      .node("Conv", {"x", "w1", "b1"}, {"c1"})
      .node("Relu", {"c1"}, {"r1"})
      .node("Conv", {"r1", "w2"}, {"y"})
      .output("y", DataType::kFloat32, {1, 4, 6, 6})
      .build();
}

TEST(EqualizeLayers, ChangesNothingButTheQuantisationError) {
  const auto original = uneven_network();
  auto equal = original.copy();
  const auto pairs = equalize_layers(equal);
  ASSERT_TRUE(pairs) << pairs.error().message;
  EXPECT_EQ(*pairs, 1u);
  EXPECT_GT(sqnr(original, equal), 110);
  auto plain = original.copy();
  ASSERT_TRUE(quantize(plain));
  ASSERT_TRUE(quantize(equal));
  EXPECT_GT(sqnr(original, equal), sqnr(original, plain) + 10);
}

TEST(EqualizeLayers, LeavesClippedLayersAlone) {
  auto model = ModelBuilder()
                   .input("x", DataType::kFloat32, {1, 3, 6, 6})
                   .initialiser("w1", {8, 3, 1, 1}, random_floats(24, 1))
                   .initialiser("w2", {4, 8, 1, 1}, random_floats(32, 2))
                   .initialiser("low", {}, std::vector<float>{0})
                   .initialiser("high", {}, std::vector<float>{6})
                   .node("Conv", {"x", "w1"}, {"c1"})
                   .node("Clip", {"c1", "low", "high"}, {"r1"})
                   .node("Conv", {"r1", "w2"}, {"y"})
                   .output("y", DataType::kFloat32, {1, 4, 6, 6})
                   .build();
  EXPECT_EQ(*equalize_layers(model), 0u);
}

TEST(SmoothActivations, ChangesNothingButTheQuantisationError) {
  auto scale = random_floats(16, 1, 0.2f);
  scale[3] = 60;  // The outlier that transformers have.
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {4, 16})
                            .initialiser("scale", {16}, scale)
                            .initialiser("bias", {16}, random_floats(16, 2, 0.1f))
                            .initialiser("w", {16, 8}, random_floats(128, 3))
                            .node("LayerNormalization", {"x", "scale", "bias"}, {"n"})
                            .node("MatMul", {"n", "w"}, {"y"})
                            .output("y", DataType::kFloat32, {4, 8})
                            .build();
  auto smooth = original.copy();
  const auto done = smooth_activations(runtime(), smooth, random_samples(original), 0.5f);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(*done, 1u);
  EXPECT_EQ(smooth.proto().graph().node_size(), 2) << "the division is in the LayerNormalization";
  EXPECT_GT(sqnr(original, smooth), 100);
  const StaticOptions only_matmul{.selection = {.types = {"MatMul"}}};
  auto plain = original.copy();
  ASSERT_TRUE(quantize(plain, only_matmul));
  ASSERT_TRUE(quantize(smooth, only_matmul));
  EXPECT_GT(sqnr(original, smooth), sqnr(original, plain));
}

TEST(CorrectBiases, TakesTheMeanErrorBack) {
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {8, 16})
                            .initialiser("shift", {16}, std::vector<float>(16, 3.0f))
                            .initialiser("w", {4, 16}, random_floats(64, 1))
                            .node("Add", {"x", "shift"}, {"a"})
                            .node("Gemm", {"a", "w"}, {"y"}, {{"transB", std::int64_t{1}}})
                            .output("y", DataType::kFloat32, {8, 4})
                            .build();
  const StaticOptions options{.activations = DataType::kInt16,
                              .weights = DataType::kInt4,
                              .selection = {.types = {"Gemm"}}};
  auto plain = original.copy(), corrected = original.copy();
  const auto values = static_candidates(original, options);
  const auto samples = random_samples(original);
  const auto ranges = calibrate(runtime(), original, *values, samples);
  ASSERT_TRUE(ranges);
  ASSERT_TRUE(quantize_static(plain, *ranges, options));
  const auto changed = correct_biases(runtime(), corrected, *ranges, options, samples);
  ASSERT_TRUE(changed) << changed.error().message;
  EXPECT_EQ(*changed, 1u);
  ASSERT_TRUE(quantize_static(corrected, *ranges, options));
  EXPECT_GT(sqnr(original, corrected), sqnr(original, plain) + 3);
}

// --- Weight-only

TEST(QuantizeWeights, EqualTheRuntimesOwnQuantiser) {
  const auto text = read_text(SELVAGE_SOURCE_DIR "/tests/golden/quantization/expected.json");
  ASSERT_TRUE(text);
  const auto expected = nlohmann::json::parse(*text)["blockwise"];
  std::vector<float> matrix(600);
  for (std::uint64_t i = 0; i < matrix.size(); ++i) {
    const auto serial = i * 2654435761u % (std::uint64_t{1} << 32);
    const double value = static_cast<double>(serial >> 8) / 16777216.0 * 2 - 1;
    matrix[i] = static_cast<float>(value * value * value);
  }
  const auto hex = [](std::span<const std::byte> bytes) {
    std::string digits;
    for (const auto byte : bytes) {
      constexpr std::string_view kDigits = "0123456789abcdef";
      digits += kDigits[std::to_integer<std::size_t>(byte >> 4)];
      digits += kDigits[std::to_integer<std::size_t>(byte & std::byte{15})];
    }
    return digits;
  };
  for (const int bits : {4, 8})
    for (const auto symmetry : {Symmetry::kAsymmetric, Symmetry::kSymmetric}) {
      const auto name =
          std::to_string(bits) + " bits" + (symmetry == Symmetry::kSymmetric ? " symmetric" : "");
      const auto found = quantize_blockwise(matrix, 100, 6,
                                            {.bits = bits, .block_size = 32, .symmetry = symmetry});
      EXPECT_EQ(hex(found.bytes), expected[name]["bytes"].get<std::string>()) << name;
      EXPECT_EQ(hex(std::as_bytes(std::span(found.scales))),
                expected[name]["scales"].get<std::string>())
          << name;
      EXPECT_EQ(hex(found.zero_points), expected[name]["zero_points"].get<std::string>()) << name;
    }
}

graph::Model product_network() {
  // Activations with a few strong directions, as real ones have.
  return ModelBuilder()
      .input("x", DataType::kFloat32, {64, 4})
      .initialiser("mix", {4, 96}, random_floats(384, 9))
      .initialiser("w", {96, 24}, random_floats(96 * 24, 1))
      .initialiser("v", {10, 24}, random_floats(240, 2))
      .initialiser("b", {10}, random_floats(10, 3))
      .node("MatMul", {"x", "mix"}, {"h"})
      .node("MatMul", {"h", "w"}, {"a"})
      .node("Gemm", {"a", "v", "b"}, {"y"}, {{"transB", std::int64_t{1}}})
      .output("y", DataType::kFloat32, {64, 10})
      .build();
}

TEST(QuantizeWeights, TheRuntimeMultipliesThem) {
  const auto original = product_network();
  for (const int bits : {4, 8}) {
    for (const auto rounding : {RoundingMethod::kNearest, RoundingMethod::kHqq}) {
      if (bits == 8 && rounding == RoundingMethod::kHqq) continue;
      auto model = original.copy();
      const auto report =
          quantize_weights(model, {.bits = bits, .block_size = 32, .rounding = rounding});
      ASSERT_TRUE(report) << report.error().message;
      EXPECT_EQ(report->quantized_nodes, 3u);
      EXPECT_GT(sqnr(original, model), bits == 8 ? 35 : 12)
          << bits << " bits, rounding " << static_cast<int>(rounding);
    }
  }
}

TEST(QuantizeWeights, GptqBeatsRoundingToNearest) {
  const auto original = product_network();
  auto nearest = original.copy(), gptq = original.copy();
  WeightOnlyOptions options{.bits = 4, .block_size = 32};
  ASSERT_TRUE(quantize_weights(nearest, options));
  options.rounding = RoundingMethod::kGptq;
  EXPECT_FALSE(quantize_weights(gptq, options)) << "without samples";
  const auto report = quantize_weights(runtime(), gptq, random_samples(original), options);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_GT(sqnr(original, gptq), sqnr(original, nearest) + 2);
}

TEST(QuantizeWeights, GptqOfFewRowsIsNotWorseThanNearest) {
  // Twelve rows say nothing of how 96 independent inputs go together.
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {-1, 96})
                            .initialiser("w", {96, 24}, random_floats(96 * 24, 1))
                            .node("MatMul", {"x", "w"}, {"y"})
                            .output("y", DataType::kFloat32, {-1, 24})
                            .build();
  auto nearest = original.copy(), gptq = original.copy();
  WeightOnlyOptions options{.bits = 4, .block_size = 32};
  ASSERT_TRUE(quantize_weights(nearest, options));
  options.rounding = RoundingMethod::kGptq;
  ASSERT_TRUE(quantize_weights(runtime(), gptq, random_samples(original, 6), options));
  double gain = 0;
  for (unsigned seed = 1000; seed < 1032; ++seed)
    gain += (sqnr(original, gptq, seed) - sqnr(original, nearest, seed)) / 32;
  EXPECT_GT(gain, -0.1);
}

TEST(QuantizeWeights, InputsThatAreNotFiniteKeepTheirProducts) {
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {4, 16})
                            .initialiser("w", {16, 8}, random_floats(128, 1))
                            .initialiser("v", {8, 8}, random_floats(64, 2))
                            .node("MatMul", {"x", "w"}, {"h"})
                            .node("Sqrt", {"h"}, {"r"})
                            .node("MatMul", {"r", "v"}, {"y"})
                            .output("y", DataType::kFloat32, {4, 8})
                            .build();
  for (const auto rounding : {RoundingMethod::kGptq, RoundingMethod::kAdaRound}) {
    auto model = original.copy();
    const auto report = quantize_weights(runtime(), model, random_samples(original),
                                         {.bits = 4, .block_size = 16, .rounding = rounding});
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->quantized_nodes, 1u);
    ASSERT_EQ(report->kept.size(), 1u);
    EXPECT_EQ(report->kept[0].reason, "its input 'r' holds NaN or infinity");
  }
}

TEST(QuantizeWeights, NothingLeftSaysWhy) {
  auto weights = random_floats(128, 1);
  weights[5] = NAN;
  auto model = ModelBuilder()
                   .input("x", DataType::kFloat32, {4, 16})
                   .initialiser("w", {16, 8}, weights)
                   .node("MatMul", {"x", "w"}, {"y"})
                   .output("y", DataType::kFloat32, {4, 8})
                   .build();
  const auto report = quantize_weights(model);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_NE(report.error().message.find("its weight holds NaN"), std::string::npos);
}

TEST(QuantizeWeights, AdaRoundBeatsRoundingToNearest) {
  const auto original = product_network();
  for (const auto symmetry : {Symmetry::kAsymmetric, Symmetry::kSymmetric}) {
    auto nearest = original.copy(), adaptive = original.copy();
    WeightOnlyOptions options{.bits = 4, .block_size = 32, .symmetry = symmetry};
    ASSERT_TRUE(quantize_weights(nearest, options));
    options.rounding = RoundingMethod::kAdaRound;
    EXPECT_FALSE(quantize_weights(adaptive, options)) << "without samples";
    const auto report = quantize_weights(runtime(), adaptive, random_samples(original), options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_GT(sqnr(original, adaptive), sqnr(original, nearest) + 2);
  }
}

TEST(QuantizeWeights, AdaRoundOfACorrelatedInputIsTheBestThereIs) {
  // Two inputs that are always equal: only the sum of the weights matters. 0.5 steps up and down
  // cancel, where rounding to nearest takes both up.
  const std::vector<float> matrix{0, 15, 7.5f, 7.5f};
  const std::vector<double> gram{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1};
  const WeightOnlyOptions options{.bits = 4, .block_size = 16};
  const auto real = quantize_adaround(matrix, 4, 1, gram, options).to_real();
  EXPECT_EQ(real[0], 0);
  EXPECT_EQ(real[1], 15);
  EXPECT_EQ(real[2] + real[3], 15) << real[2] << " and " << real[3];
}

TEST(QuantizeWeights, RefusesWhatItCannotStore) {
  auto model = product_network();
  EXPECT_FALSE(quantize_weights(model, {.bits = 3}));
  EXPECT_FALSE(quantize_weights(model, {.block_size = 48}));
  EXPECT_FALSE(quantize_weights(model, {.bits = 8, .rounding = RoundingMethod::kHqq}));
  EXPECT_FALSE(quantize_weights(
      model, {.symmetry = Symmetry::kSymmetric, .rounding = RoundingMethod::kHqq}));
  auto other = graph::testing::conv_model().build();
  EXPECT_EQ(quantize_weights(other).error().code, ErrorCode::kFailedPrecondition);
}

// --- 16-bit floats

TEST(ConvertFloats, InputsAndOutputsKeepTheirTypes) {
  const auto original = small_network().build();
  auto model = original.copy();
  const auto report = convert_floats(model, {}, infer::graph_context(runtime()));
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->converted_nodes, 7u);
  EXPECT_GT(sqnr(original, model), 55);
  for (const auto& tensor : model.proto().graph().initializer())
    EXPECT_NE(graph::type_of(tensor), DataType::kFloat32) << tensor.name();
}

TEST(ConvertFloats, IslandsStayInFloat32) {
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {1, 8})
                            .initialiser("big", {8}, std::vector<float>(8, 1e6f))
                            .initialiser("axis", {}, std::vector<std::int64_t>{1})
                            .node("Relu", {"x"}, {"r"})
                            .node("Mul", {"r", "big"}, {"m"})
                            .node("CumSum", {"m", "axis"}, {"c"})
                            .node("Sigmoid", {"c"}, {"s"})
                            .node("Add", {"s", "r"}, {"y"})
                            .output("y", DataType::kFloat32, {1, 8})
                            .build();
  auto model = original.copy();
  const auto report = convert_floats(model, {}, infer::graph_context(runtime()));
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->islands.size(), 2u) << "Mul, whose constant is too large, and CumSum";
  EXPECT_GT(sqnr(original, model), 55);
}

TEST(ConvertFloats, SmallNumbersStayInFloat32) {
  // 1e-8 is below float16's smallest number: the first product would become zeros.
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {4, 16})
                            .initialiser("w", {16, 8}, random_floats(128, 1, 1e-8f))
                            .initialiser("up", {}, std::vector<float>{1e8f})
                            .initialiser("v", {8, 8}, random_floats(64, 2))
                            .node("MatMul", {"x", "w"}, {"h"})
                            .node("Mul", {"h", "up"}, {"m"})
                            .node("MatMul", {"m", "v"}, {"y"})
                            .output("y", DataType::kFloat32, {4, 8})
                            .build();
  auto model = original.copy(), stored = original.copy();
  const auto report = convert_floats(model, {}, infer::graph_context(runtime()));
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->converted_nodes, 1u);
  ASSERT_EQ(report->islands.size(), 2u);
  EXPECT_EQ(report->islands[0].reason, "'w' is too small for float16");
  EXPECT_GT(sqnr(original, model), 55);
  const auto storage = convert_floats(stored, {.use = FloatUse::kStorage}, {});
  ASSERT_TRUE(storage) << storage.error().message;
  EXPECT_EQ(storage->converted_weights, 1u);
  ASSERT_EQ(storage->islands.size(), 1u);
  EXPECT_EQ(storage->islands[0].name, "w");
  EXPECT_GT(sqnr(original, stored), 60);
}

TEST(ConvertFloats, KnownRangesMakeIslands) {
  const auto original = ModelBuilder()
                            .input("x", DataType::kFloat32, {4, 16})
                            .initialiser("big", {}, std::vector<float>{6e4f})
                            .initialiser("small", {}, std::vector<float>{1e-4f})
                            .initialiser("v", {16, 8}, random_floats(128, 2))
                            .node("Mul", {"x", "big"}, {"b"})
                            .node("Mul", {"b", "big"}, {"bb"})
                            .node("Mul", {"x", "small"}, {"s"})
                            .node("Mul", {"s", "small"}, {"ss"})
                            .node("Mul", {"bb", "ss"}, {"p"})
                            .node("MatMul", {"p", "v"}, {"y"})
                            .output("y", DataType::kFloat32, {4, 8})
                            .build();
  const auto ranges =
      calibrate(runtime(), original, computed_values(original), random_samples(original));
  ASSERT_TRUE(ranges) << ranges.error().message;
  auto model = original.copy();
  const auto report = convert_floats(model, {.ranges = &*ranges}, infer::graph_context(runtime()));
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->converted_nodes, 2u) << "the first Mul by 1e-4 and the product";
  EXPECT_GT(sqnr(original, model), 50);
}

TEST(ConvertFloats, StorageComputesInFloat32) {
  const auto original = small_network().build();
  for (const auto type : {DataType::kFloat16, DataType::kBfloat16}) {
    auto model = original.copy();
    const auto report = convert_floats(model, {.type = type, .use = FloatUse::kStorage}, {});
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->converted_weights, 2u) << "the two larger ones";
    EXPECT_GT(sqnr(original, model), type == DataType::kFloat16 ? 60 : 40);
  }
}

// --- Comparison

TEST(CompareLayers, FindsTheLayerThatIsOff) {
  const auto original = small_network().build();
  auto model = original.copy();
  ASSERT_TRUE(quantize(model));
  const auto layers = compare_layers(runtime(), original, model, random_samples(original));
  ASSERT_TRUE(layers) << layers.error().message;
  EXPECT_GE(layers->size(), 5u);
  for (const auto& layer : *layers) EXPECT_GT(layer.sqnr_db, 15) << layer.name;
  const auto same = compare_layers(runtime(), original, original, random_samples(original));
  for (const auto& layer : *same) EXPECT_TRUE(std::isinf(layer.sqnr_db)) << layer.name;
  const auto other = graph::testing::identity_model(DataType::kFloat32, {1, 3, 8, 8}).build();
  const auto nothing = compare_layers(runtime(), original, other, random_samples(original));
  EXPECT_FALSE(nothing && !nothing->empty() && nothing->front().type == "Conv");
}

TEST(CompareLayers, TwoBrokenModelsAreNotEqual) {
  const auto model = ModelBuilder()
                         .input("x", DataType::kFloat32, {4, 4})
                         .node("Sqrt", {"x"}, {"r"})
                         .node("Relu", {"x"}, {"y"})
                         .output("r", DataType::kFloat32, {4, 4})
                         .output("y", DataType::kFloat32, {4, 4})
                         .build();
  const auto layers = compare_layers(runtime(), model, model, random_samples(model));
  ASSERT_TRUE(layers) << layers.error().message;
  for (const auto& layer : *layers)
    EXPECT_EQ(layer.sqnr_db, (layer.name == "r" ? -1 : 1) * INFINITY) << layer.name;
}

// --- Random networks

TEST(Quantizers, KeepRandomModelsRunning) {
  std::size_t quantized = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    const auto original = graph::testing::random_model(seed, {.is_convolutional = seed % 3 != 0});
    const auto expected = run(original);
    if (!expected) continue;
    const auto expect_runs = [&](const graph::Model& model, double least_db) {
      const auto found = run(model);
      ASSERT_TRUE(found) << found.error().message;
      EXPECT_GT(sqnr(original, model), least_db);
      ++quantized;
    };
    for (const auto format : {QuantizationFormat::kQdq, QuantizationFormat::kQOperator}) {
      auto model = original.copy();
      // 8 bits add up over 40 nodes: what is promised is a model that runs and is about right.
      if (quantize(model, {.format = format, .activations = DataType::kUint8, .per_channel = true}))
        expect_runs(model, 3);
    }
    auto fine = original.copy();
    if (quantize(fine, {.activations = DataType::kUint16, .per_channel = true}))
      expect_runs(fine, 15);
    auto dynamic = original.copy();
    if (quantize_dynamic(dynamic)) expect_runs(dynamic, 10);
    auto weights = original.copy();
    if (quantize_weights(weights, {.bits = 8, .block_size = 16})) expect_runs(weights, 20);
    auto half = original.copy();
    if (convert_floats(half, {}, infer::graph_context(runtime()))) expect_runs(half, 30);
    auto equal = original.copy();
    ASSERT_TRUE(equalize_layers(equal));
    EXPECT_GT(sqnr(original, equal), 80);
  }
  EXPECT_GT(quantized, 100u);
}

}  // namespace
}  // namespace selvage::compress
