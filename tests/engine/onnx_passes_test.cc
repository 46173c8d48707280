// ONNX's own backend tests through what editors do: load, sort, every pass, upgrade, save, load,
// run. None changes an answer.
#include <set>

#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "base/file.h"
#include "graph/check.h"
#include "graph/opset.h"
#include "graph/pass.h"
#include "graph/sort.h"
#include "graph/summary.h"
#include "graph/tensor_file.h"
#include "infer/graph_runtime.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;

/// The data set's inputs, if all of them are tensors.
std::optional<std::vector<Value>> read_inputs(const fs::path& folder, std::size_t count) {
  std::vector<Value> values;
  for (std::size_t i = 0; i < count; ++i) {
    const auto bytes = read_text(folder / ("input_" + std::to_string(i) + ".pb"));
    if (!bytes) return std::nullopt;
    auto parsed = graph::parse_tensor(std::as_bytes(std::span(*bytes)));
    if (!parsed) return std::nullopt;
    values.emplace_back(std::move(parsed->tensor));
  }
  return values;
}

struct Count {
  int models = 0, compared = 0, edited = 0, upgraded = 0;
};

/// Saves `model`, loads it again and compares what both compute with the original.
void expect_same(Runtime& runtime, const graph::Model& original, graph::Model& model,
                 std::span<const Value> inputs) {
  const auto checked = graph::check(model);
  ASSERT_TRUE(checked) << checked.error().message;
  const auto path = fs::path(::testing::TempDir()) / "onnx_passes_test.onnx";
  ASSERT_TRUE(model.save(path));
  const auto saved = graph::load_checked(path);
  ASSERT_TRUE(saved) << saved.error().message;
  const auto same = compare_outputs(runtime, original, *saved, inputs);
  EXPECT_TRUE(same) << same.error().message;
}

void run_case(const fs::path& folder, Runtime& runtime, Count& count) {
  SCOPED_TRACE(folder.string());
  const auto original = graph::load_checked(folder / "model.onnx");
  if (!original) return;  // What the runtime does not take either: onnx_node_test.
  ++count.models;
  // Old models list their weights as inputs, too.
  const auto wanted = graph::summarise(*original).inputs.size();
  const auto inputs = read_inputs(folder / "test_data_set_0", wanted);
  // What does not load, or is random, cannot be compared.
  if (!inputs || !compare_outputs(runtime, *original, *original, *inputs)) return;
  ++count.compared;
  auto passed = original->copy();
  const auto reports = graph::run_passes(passed, graph::standard_passes(),
                                         {.context = graph_context(runtime), .check_each = true});
  ASSERT_TRUE(reports) << reports.error().message;
  count.edited += std::ranges::any_of(*reports, [](const auto& r) { return r.edits > 0; }) ? 1 : 0;
  const auto declared = graph::infer_types_pass().run(passed, graph_context(runtime));
  EXPECT_TRUE(declared) << declared.error().message;
  expect_same(runtime, *original, passed, *inputs);
  auto upgraded = original->copy();
  const auto from = graph::opset_of(upgraded);
  if (!graph::upgrade_opset(upgraded, graph::kUpgradeToMax) || graph::opset_of(upgraded) == from)
    return;
  ++count.upgraded;
  expect_same(runtime, *original, upgraded, *inputs);
}

class OnnxPassesTest : public testing::TestWithParam<const char*> {};

TEST_P(OnnxPassesTest, NoPassChangesAnAnswer) {
  const auto root = fs::path(SELVAGE_DEPS_DIR) / "data" / "onnx-testdata" / GetParam();
  ASSERT_TRUE(fs::exists(root)) << root << " is missing: run `make setup`";
  const auto runtime = Runtime::create();
  ASSERT_TRUE(runtime);
  std::set<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root))
    if (fs::exists(entry.path() / "model.onnx")) folders.insert(entry.path());
  Count count;
  for (const auto& folder : folders) run_case(folder, **runtime, count);
  std::printf("%s: %d models, %d compared, %d of them edited by passes, %d upgraded\n", GetParam(),
              count.models, count.compared, count.edited, count.upgraded);
  EXPECT_GT(count.compared, 0);
}

INSTANTIATE_TEST_SUITE_P(Suites, OnnxPassesTest,
                         testing::Values("node", "simple", "pytorch-converted",
                                         "pytorch-operator"));

}  // namespace
}  // namespace selvage::infer
