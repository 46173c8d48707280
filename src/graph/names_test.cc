#include "graph/names.h"

#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

namespace selvage::graph {
namespace {

TEST(Names, Utf8IsWhatRfc3629Allows) {
  for (const std::string_view valid :
       {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(is_valid_utf8(valid)) << quote(valid);
  for (const std::string_view invalid :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xe0\x9f\xbf", "\xe0\xa0",
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf0\x90\x80", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\xff", "ok\xff"})
    EXPECT_FALSE(is_valid_utf8(invalid)) << quote(invalid);
}

TEST(Names, QuotesAreShortAndPrintable) {
  EXPECT_EQ(quote("conv1"), "'conv1'");
  EXPECT_EQ(quote("a\nb\xff\x7f"),
            "'a?b?"
            "?'");
  EXPECT_EQ(quote("\xc3\xa9"), "'\xc3\xa9'");
  EXPECT_LT(quote(std::string(1'000'000, 'x')).size(), 130u);
  EXPECT_TRUE(is_valid_utf8(quote(std::string(119, 'x') + "\xf0\x90\x80\x80\xf0\x90\x80\x80")));
}

TEST(Names, NodesWithoutANameGoByTheirPlace) {
  onnx::NodeProto node;
  node.set_op_type("Conv");
  EXPECT_EQ(describe(node, 12), "node 12 (Conv)");
  node.set_name("c1");
  EXPECT_EQ(describe(node, 12), "node 'c1' (Conv)");
}

}  // namespace
}  // namespace selvage::graph
