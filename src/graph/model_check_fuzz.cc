// Any bytes: parse, check, summarise, print, expose and save again. What was parsed must survive a
// round trip, and what passed the check must pass it again.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "graph/check.h"
#include "graph/edit.h"
#include "graph/summary.h"
#include "graph/text.h"

using namespace selvage;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto model = graph::Model::parse(std::as_bytes(std::span(data, size)));
  if (!model) return 0;
  const bool is_valid = graph::check(*model).has_value();
  (void)graph::summarise(*model, {{"x", {-1, 3, 8, 8}}});
  (void)graph::operators(*model);
  (void)graph::to_text(*model);

  const auto bytes = model->serialise();
  SELVAGE_CHECK(bytes.has_value());
  const auto again = graph::Model::parse(*bytes);
  SELVAGE_CHECK(again.has_value());
  SELVAGE_CHECK(again->serialise().value() == *bytes);
  SELVAGE_CHECK(graph::check(*again).has_value() == is_valid);

  const auto exposed = graph::expose_all_values(*model);
  SELVAGE_CHECK(exposed.has_value());
  const auto larger = graph::Model::parse(*exposed);
  SELVAGE_CHECK(larger.has_value());
  SELVAGE_CHECK(!is_valid || graph::check(*larger).has_value());
  return 0;
}
