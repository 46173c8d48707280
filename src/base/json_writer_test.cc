#include "base/json_writer.h"

#include <limits>

#include <gtest/gtest.h>

namespace selvage {
namespace {

TEST(JsonWriter, WritesInTheOrderInWhichItIsSaid) {
  JsonWriter json;
  json.begin_object().field("name", "x").key("shape").begin_array().value(1).value(-2).end_array();
  json.key("empty").begin_object().end_object().list("flags", std::vector<bool>{true, false});
  json.field("half", 0.5).key("none").null().end_object();
  EXPECT_EQ(
      json.text(),
      R"({"name":"x","shape":[1,-2],"empty":{},"flags":[true,false],"half":0.5,"none":null})");
}

TEST(JsonWriter, NumbersThatJsonLacksAreNull) {
  JsonWriter json;
  json.begin_array().value(std::numeric_limits<double>::infinity()).value(0.0f / 1.0f);
  json.value(std::numeric_limits<float>::quiet_NaN()).value(std::uint64_t{1} << 63).end_array();
  EXPECT_EQ(json.text(), "[null,0,null,9223372036854775808]");
}

TEST(JsonWriter, AnyTextIsValidAndCannotActOnATerminal) {
  const auto quoted = [](std::string_view text) {
    JsonWriter json;
    json.value(text);
    return json.text();
  };
  EXPECT_EQ(quoted("a\"b\\c\n\t/\xc3\xb6"), R"("a\"b\\c\n\t/)"
                                            "\xc3\xb6\"");
  EXPECT_EQ(quoted(std::string_view("\0\x1b\x1f", 3)), R"("\u0000\u001b\u001f")");
  EXPECT_EQ(quoted("\x7f\xc2\x9b\xc2\xa0"), "\"\\u007f\\u009b\xc2\xa0\"");
  EXPECT_EQ(quoted("x\xffy\xe4\xb8"), "\"x\xEF\xBF\xBDy\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

}  // namespace
}  // namespace selvage
