#include "infer/shapes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::infer {
namespace {

using testing::HasSubstr;

graph::Summary with_open(const std::vector<std::string>& symbols) {
  graph::Summary model;
  graph::ValueSummary input{.name = "x", .type = "float32", .shape = {}};
  auto& shape = input.shape.emplace();
  for (const auto& symbol : symbols) shape.push_back({.size = -1, .symbol = symbol});
  model.inputs = {{.name = "any", .type = "float32", .shape = {}}, input, input};
  return model;
}

std::string problem(const graph::Summary& model, const std::string& name) {
  const auto checked = check_dimensions(model, {{name, 1}});
  return checked ? "" : checked.error().message;
}

TEST(Dimensions, AreFixedByTheNamesThatTheInputsHave) {
  const auto model = with_open({"batch", "height", ""});
  EXPECT_TRUE(check_dimensions(model, {{"batch", 1}, {"height", 7}}));
  EXPECT_TRUE(check_dimensions(with_open({}), {}));
  EXPECT_THAT(problem(model, "btach"), HasSubstr("'btach': did you mean 'batch'?"));
  EXPECT_THAT(problem(model, "colour"), HasSubstr("'colour'; there are batch, height"));
  EXPECT_THAT(problem(model, ""), HasSubstr("there are batch, height"));
  EXPECT_THAT(problem(with_open({""}), "batch"), HasSubstr("none is open by name"));
}

}  // namespace
}  // namespace selvage::infer
