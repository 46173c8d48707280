// Nine bytes are a random model and a random removal: what is left computes what zeros would. Any
// other bytes are a model whose declared shapes the analysis takes at their word: whatever they
// say, it neither crashes nor breaks the model.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <selvage/onnx.pb.h>

#include "base/check.h"
#include "base/random.h"
#include "compress/channels.h"
#include "graph/check.h"
#include "graph/pass.h"
#include "graph/sort.h"
#include "graph/testing.h"
#include "infer/graph_runtime.h"
#include "infer/shapes.h"

using namespace selvage;

namespace {

infer::Runtime& runtime() {
  static const auto made = infer::Runtime::create().value();
  return *made;
}

compress::Removal random_removal(const compress::Channels& channels, std::uint64_t seed) {
  Random random(seed);
  auto removal = channels.none();
  for (auto& group : removal) {
    for (std::size_t i = 0; i < group.size(); ++i) group[i] = random.below(2) == 0;
    group[random.below(group.size())] = false;
  }
  return removal;
}

void prune_random_model(std::uint64_t seed, bool is_convolutional) {
  auto model = graph::testing::random_model(seed, {.is_convolutional = is_convolutional});
  SELVAGE_CHECK(graph::run_passes(model, graph::standard_passes(),
                                  {.context = infer::graph_context(runtime())})
                    .has_value());
  const auto shapes = infer::resolve_shapes(runtime(), model);
  SELVAGE_CHECK(shapes.has_value());
  const auto channels = compress::Channels::analyse(model, *shapes);
  SELVAGE_CHECK(channels.has_value());
  const auto removal = random_removal(*channels, seed);
  auto masked = model.copy();
  SELVAGE_CHECK(channels->mask(masked, removal).has_value());
  SELVAGE_CHECK(channels->remove(model, removal).has_value());
  SELVAGE_CHECK(graph::check(model).has_value());
  SELVAGE_CHECK(infer::compare_outputs(runtime(), masked, model).has_value());
}

void prune_any_model(std::span<const std::byte> bytes) {
  auto model = graph::Model::parse(bytes);
  if (!model) return;
  graph::sort_nodes(*model);
  if (!graph::check(*model)) return;
  graph::ShapeMap shapes;
  const auto& graph = model->proto().graph();
  for (const auto* values : {&graph.input(), &graph.value_info(), &graph.output()}) {
    for (const auto& value : *values) {
      auto& shape = shapes[value.name()];
      for (const auto& dimension : value.type().tensor_type().shape().dim())
        shape.push_back(
            dimension.has_dim_value() && dimension.dim_value() < 4096 ? dimension.dim_value() : -1);
    }
  }
  const auto channels = compress::Channels::analyse(*model, shapes);
  if (!channels) return;
  const auto removed = channels->remove(*model, random_removal(*channels, 1));
  SELVAGE_CHECK(!removed || graph::check(*model).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint64_t seed = 0;
  if (size == sizeof seed + 1) {
    std::memcpy(&seed, data, sizeof seed);
    prune_random_model(seed, data[sizeof seed] % 2 == 0);
  } else {
    prune_any_model(std::as_bytes(std::span(data, size)));
  }
  return 0;
}
