#include "graph/names.h"

#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "base/utf8.h"

namespace selvage::graph {
namespace {

TEST(Names, QuotesAreShortAndPrintable) {
  EXPECT_EQ(quote("conv1"), "'conv1'");
  EXPECT_EQ(quote("a\nb\xff\x7f"),
            "'a?b?"
            "?'");
  EXPECT_EQ(quote("\xc3\xa9"), "'\xc3\xa9'");
  EXPECT_LT(quote(std::string(1'000'000, 'x')).size(), 130u);
  EXPECT_TRUE(is_utf8(quote(std::string(119, 'x') + "\xf0\x90\x80\x80\xf0\x90\x80\x80")));
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
