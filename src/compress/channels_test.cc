// Channels leave real and random models: what is left computes what zeros would.
#include "compress/channels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "base/random.h"
#include "graph/pass.h"
#include "graph/sort.h"
#include "graph/testing.h"
#include "infer/graph_runtime.h"
#include "infer/shapes.h"

namespace selvage::compress {
namespace {

using graph::Model;
using graph::testing::ModelBuilder;
using Ints = std::vector<std::int64_t>;

infer::Runtime& runtime() {
  static const auto made = infer::Runtime::create().value();
  return *made;
}

Result<void> clean(Model& model) {
  SELVAGE_RETURN_IF_ERROR(graph::run_passes(model, graph::standard_passes(),
                                            {.context = infer::graph_context(runtime())}));
  return {};
}

Result<Channels> analyse(const Model& model) {
  SELVAGE_TRY(const auto shapes, infer::resolve_shapes(runtime(), model));
  return Channels::analyse(model, shapes);
}

/// Every channel with the same probability, at least one of a group staying.
Removal random_removal(const Channels& channels, std::uint64_t seed, double part) {
  Random random(seed);
  auto removal = channels.none();
  for (auto& group : removal) {
    for (std::size_t i = 0; i < group.size(); ++i) group[i] = random.uniform() < part;
    group[random.below(group.size())] = false;
  }
  return removal;
}

std::size_t count(const Removal& removal) {
  std::size_t removed = 0;
  for (const auto& group : removal)
    removed += static_cast<std::size_t>(std::ranges::count(group, true));
  return removed;
}

/// Removes and masks the same channels, and compares what the two compute.
void expect_removal_equals_mask(const Model& model, const Channels& channels,
                                const Removal& removal) {
  auto pruned = model.copy(), masked = model.copy();
  ASSERT_TRUE(channels.mask(masked, removal));
  const auto removed = channels.remove(pruned, removal);
  ASSERT_TRUE(removed) << removed.error().message;
  const auto valid = graph::check(pruned);
  ASSERT_TRUE(valid) << valid.error().message;
  const auto same = infer::compare_outputs(runtime(), masked, pruned);
  EXPECT_TRUE(same) << same.error().message;
}

TEST(Channels, OfRandomModelsLeaveWhatZerosWouldLeave) {
  std::size_t models_with_channels = 0, removed = 0;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    auto model = graph::testing::random_model(seed, {.is_convolutional = seed % 3 != 0});
    const auto cleaned = clean(model);
    ASSERT_TRUE(cleaned) << cleaned.error().message;
    const auto channels = analyse(model);
    ASSERT_TRUE(channels) << channels.error().message;
    if (channels->groups().empty()) continue;
    ++models_with_channels;
    const auto removal = random_removal(*channels, seed, 0.4);
    removed += count(removal);
    expect_removal_equals_mask(model, *channels, removal);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(models_with_channels, 100u);
  EXPECT_GT(removed, 1000u);
}

class RealModel : public ::testing::TestWithParam<const char*> {};

TEST_P(RealModel, LeavesWhatZerosWouldLeave) {
  const auto path = std::filesystem::path(SELVAGE_DEPS_DIR) / "models" / GetParam() / "model.onnx";
  auto model = graph::load_checked(path);
  ASSERT_TRUE(model) << model.error().message;
  const auto cleaned = clean(*model);
  ASSERT_TRUE(cleaned) << cleaned.error().message;
  const auto channels = analyse(*model);
  ASSERT_TRUE(channels) << channels.error().message;
  std::size_t all = 0, frozen = 0;
  for (const auto& group : channels->groups()) all += group.channels.size();
  for (const auto& entry : channels->frozen()) {
    frozen += static_cast<std::size_t>(entry.channels);
    std::printf("  frozen %lld of %s: %s\n", static_cast<long long>(entry.channels),
                entry.name.c_str(), entry.reason.c_str());
  }
  std::printf("%s: %zu groups, %zu channels; frozen %zu\n", GetParam(), channels->groups().size(),
              all, frozen);
  ASSERT_FALSE(channels->groups().empty());
  expect_removal_equals_mask(*model, *channels, random_removal(*channels, 1, 0.3));
}

INSTANTIATE_TEST_SUITE_P(Models, RealModel,
                         ::testing::Values("ppocr-cls", "ppocr-det", "ppocr-rec", "blazeface-front",
                                           "blazeface-back", "mlsd-tiny"));

}  // namespace
}  // namespace selvage::compress
