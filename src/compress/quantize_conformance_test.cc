// ONNX's own tests of operators, through every quantiser: what comes out is a model that runs and
// answers about the same, or a refusal.
#include "compress/convert_float.h"
#include "compress/quantize_dynamic.h"
#include "compress/quantize_testing.h"
#include "compress/quantize_weights.h"
#include "graph/sort.h"
#include "infer/graph_runtime.h"

namespace selvage::compress {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace): of the tests only.

/// Random operators answer differently each time.
bool is_random(const std::string& name) {
  return name.find("bernoulli") != std::string::npos || name.find("random") != std::string::npos ||
         name.find("dropout") != std::string::npos || name.find("multinomial") != std::string::npos;
}

TEST(QuantizersOnOperatorTests, NeverBreakAModel) {
  const std::filesystem::path folder = SELVAGE_DEPS_DIR "/data/onnx-testdata/node";
  std::size_t models = 0, changed = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    const auto original = graph::load_checked(entry.path() / "model.onnx");
    if (!original || is_random(name)) continue;
    const auto expected = run(*original);
    if (!expected || expected->empty()) continue;
    ++models;
    const bool is_finite =
        std::ranges::all_of(*expected, [](float value) { return std::isfinite(value); });
    const auto check = [&](const graph::Model& model, const char* how, float part) {
      ++changed;
      const auto found = run(model);
      ASSERT_TRUE(found) << name << ", " << how << ": " << found.error().message;
      ASSERT_EQ(found->size(), expected->size()) << name << ", " << how;
      if (!is_finite) return;
      float largest = 0;
      for (const float value : *expected) largest = std::max(largest, std::abs(value));
      for (std::size_t i = 0; i < expected->size(); ++i)
        ASSERT_NEAR((*found)[i], (*expected)[i], part * largest + 1e-3f) << name << ", " << how;
    };
    auto model = original->copy();
    if (quantize(model)) check(model, "static", 0.1f);
    model = original->copy();
    if (quantize(model, {.format = QuantizationFormat::kQOperator}))
      check(model, "qoperator", 0.1f);
    model = original->copy();
    if (quantize_dynamic(model)) check(model, "dynamic", 0.1f);
    model = original->copy();
    if (quantize_weights(model, {.bits = 8, .block_size = 16})) check(model, "weights", 0.1f);
    model = original->copy();
    if (convert_floats(model, {}, infer::graph_context(runtime()))) check(model, "float16", 0.1f);
  }
  EXPECT_GT(models, 300u);
  EXPECT_GT(changed, 100u);
}

}  // namespace
}  // namespace selvage::compress
