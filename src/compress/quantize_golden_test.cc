// The same numbers as onnxruntime.quantization, bit for bit: tests/golden/quantization/, made by
// tools/golden/quantization.py.
#include <bit>
#include <map>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <selvage/onnx.pb.h>

#include "base/file.h"
#include "compress/calibrate.h"
#include "compress/quantize_static.h"
#include "compress/quantize_testing.h"
#include "graph/tensor.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

const std::filesystem::path kFolder = SELVAGE_SOURCE_DIR "/tests/golden/quantization";
constexpr std::size_t kSamples = 8;

/// As sample() of the script.
Tensor sample(std::size_t index) {
  constexpr std::uint64_t kCount = 3 * 16 * 16;
  std::vector<float> values(kCount);
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const std::uint64_t serial = (i + index * kCount) * 2654435761u % (std::uint64_t{1} << 32);
    const double value = static_cast<double>(serial >> 8) / 16777216.0 * 2 - 1;
    values[i] = static_cast<float>(value * value * value * (1 + static_cast<double>(index) * 0.25));
  }
  return *Tensor::from<float>({1, 3, 16, 16}, values);
}

class QuantizationGolden : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    runtime_ = infer::Runtime::create()->release();
    const auto text = read_text(kFolder / "expected.json");
    expected_ = nlohmann::json::parse(*text);
  }
  static void TearDownTestSuite() { delete runtime_; }

  static graph::Model network() { return *graph::Model::load(kFolder / "network.onnx"); }
  static Samples samples() {
    return {.count = kSamples, .get = [](std::size_t index) -> Result<std::vector<Tensor>> {
              std::vector<Tensor> tensors;
              tensors.push_back(sample(index));
              return tensors;
            }};
  }

  static void expect_ranges(const char* name, const CalibrationOptions& options) {
    const auto& expected = expected_["calibration"][name];
    ASSERT_GT(expected.size(), 10u) << name;
    std::vector<std::string> values;
    for (const auto& [tensor, range] : expected.items()) values.push_back(tensor);
    auto exact = options;
    exact.as_reference = true;
    const auto found = calibrate(*runtime_, network(), values, samples(), exact);
    ASSERT_TRUE(found) << found.error().message;
    for (const auto& [tensor, range] : expected.items()) {
      ASSERT_TRUE(found->contains(tensor)) << name << ": " << tensor;
      const auto real = found->at(tensor);
      EXPECT_EQ(real.min, std::bit_cast<float>(range[0].get<std::uint32_t>()))
          << name << ": least of " << tensor;
      EXPECT_EQ(real.max, std::bit_cast<float>(range[1].get<std::uint32_t>()))
          << name << ": most of " << tensor;
    }
  }

  static void expect_model(const char* name, const StaticOptions& options) {
    auto model = network();
    const auto values = static_candidates(model, options);
    ASSERT_TRUE(values) << values.error().message;
    const auto ranges = calibrate(*runtime_, model, *values, samples());
    ASSERT_TRUE(ranges) << ranges.error().message;
    const auto report = quantize_static(model, *ranges, options);
    ASSERT_TRUE(report) << report.error().message;

    const auto found = testing::parameters_by_name(model);
    const auto& expected = expected_["models"][name];
    EXPECT_EQ(found.size(), expected.size()) << name;
    for (const auto& [tensor, content] : expected.items()) {
      ASSERT_TRUE(found.contains(tensor)) << name << ": " << tensor;
      EXPECT_EQ(found.at(tensor)->data_type(), content[0].get<int>()) << name << ": " << tensor;
      const auto data = graph::TensorData::open(*found.at(tensor), {});
      ASSERT_TRUE(data) << data.error().message;
      std::string hex;
      for (const auto byte : data->view().bytes) {
        constexpr std::string_view kDigits = "0123456789abcdef";
        hex += kDigits[std::to_integer<std::size_t>(byte >> 4)];
        hex += kDigits[std::to_integer<std::size_t>(byte & std::byte{15})];
      }
      EXPECT_EQ(hex, content[2].get<std::string>()) << name << ": " << tensor;
    }
  }

  static inline infer::Runtime* runtime_ = nullptr;
  static inline nlohmann::json expected_;
};

TEST_F(QuantizationGolden, MinMaxRanges) {
  expect_ranges("minmax", {});
  expect_ranges("minmax symmetric", {.symmetry = Symmetry::kSymmetric});
}

TEST_F(QuantizationGolden, EntropyRanges) {
  const auto entropy = CalibrationMethod::kEntropy;
  expect_ranges("entropy 128", {.method = entropy, .bins = 128});
  expect_ranges("entropy 2048", {.method = entropy});
  expect_ranges("entropy 1024 into 64", {.method = entropy, .bins = 1024, .quantized_bins = 64});
}

TEST_F(QuantizationGolden, PercentileRanges) {
  const auto percentile = CalibrationMethod::kPercentile;
  expect_ranges("percentile 99.999", {.method = percentile});
  expect_ranges("percentile 99", {.method = percentile, .percentile = 99});
  expect_ranges("percentile 98 asymmetric",
                {.method = percentile, .percentile = 98, .symmetry = Symmetry::kAsymmetric});
}

TEST_F(QuantizationGolden, RangesDoNotDependOnTheMemory) {
  expect_ranges("minmax", {.memory_max = 1});
  expect_ranges("percentile 99",
                {.method = CalibrationMethod::kPercentile, .percentile = 99, .memory_max = 20'000});
}

TEST_F(QuantizationGolden, StoredTensors) {
  const StaticOptions plain{.width = Width::kFull};
  expect_model("int8", plain);
  auto options = plain;
  options.activations = DataType::kUint8;
  options.per_channel = true;
  expect_model("per channel", options);
  options = plain;
  options.activations = options.weights = DataType::kUint8;
  expect_model("uint8", options);
  options = plain;
  options.width = Width::kReduced;
  expect_model("reduced", options);
  options = plain;
  options.activations = DataType::kUint16;
  expect_model("16 bits", options);
  options = plain;
  options.weights = DataType::kInt4;
  options.per_channel = true;
  expect_model("int4", options);
  options = plain;
  options.activation_symmetry = Symmetry::kSymmetric;
  expect_model("symmetric", options);
}

}  // namespace
}  // namespace selvage::compress
