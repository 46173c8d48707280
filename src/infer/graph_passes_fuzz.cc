// A random valid model, chosen by the input's bytes, through every pass alone and all of them: it
// computes the same, or the pass changes nothing. The input's first 8 bytes are the seed, the next
// two say which passes run together, of which kind the model is and whether nodes stand in the
// wrong order.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "graph/check.h"
#include "graph/sort.h"
#include "graph/testing.h"
#include "infer/graph_runtime.h"

using namespace selvage;

namespace {

infer::Runtime& runtime() {
  static const auto made = infer::Runtime::create().value();
  return *made;
}

void expect_same(const infer::RecordedRun& before, const graph::Model& after) {
  SELVAGE_CHECK(graph::check(after).has_value());
  SELVAGE_CHECK(infer::compare_with(runtime(), before, after).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint64_t seed = 0;
  if (size < sizeof seed + 2) return 0;
  std::memcpy(&seed, data, sizeof seed);
  const unsigned flags = data[sizeof seed + 1], which = data[sizeof seed] | (flags & 1) << 8;
  auto original = graph::testing::random_model(seed, {.is_convolutional = (flags & 2) != 0});
  SELVAGE_CHECK(graph::check(original).has_value());
  if ((flags & 4) != 0) {
    graph::testing::reverse_nodes(original);
    graph::sort_nodes(original);
    SELVAGE_CHECK(graph::check(original).has_value());
  }
  const auto expected = infer::record_run(runtime(), original);
  SELVAGE_CHECK(expected.has_value());
  const auto context = infer::graph_context(runtime());
  auto together = original.copy();
  for (std::size_t i = 0; i < graph::standard_passes().size(); ++i) {
    const auto& pass = graph::standard_passes()[i];
    auto alone = original.copy();
    const auto edits = pass.run(alone, context);
    SELVAGE_CHECK(edits.has_value());
    if (*edits > 0) expect_same(*expected, alone);
    if ((which >> i & 1) != 0) SELVAGE_CHECK(pass.run(together, context).has_value());
  }
  expect_same(*expected, together);
  return 0;
}
