#include "cli/profile.h"

#include <gtest/gtest.h>

namespace selvage::cli {
namespace {

using namespace std::chrono_literals;

std::string node(int at, int duration, const char* name, const char* type) {
  return R"({"cat":"Node","ts":)" + std::to_string(at) + R"(,"dur":)" + std::to_string(duration) +
         R"(,"name":")" + name + R"(_kernel_time","args":{"op_name":")" + type +
         R"(","provider":"CPUExecutionProvider"}})";
}

std::string run(int at, int duration) {
  return R"({"cat":"Session","ts":)" + std::to_string(at) + R"(,"dur":)" +
         std::to_string(duration) + R"(,"name":"model_run","args":{}})";
}

TEST(Profile, MeansOverRunsWithoutTheWarmUp) {
  const std::string trace =
      "[" + run(0, 1000) + "," + node(10, 900, "conv", "Conv") + "," + run(2000, 100) + "," +
      node(2010, 60, "conv", "Conv") + "," + node(2080, 10, "relu", "Relu") + "," + run(3000, 200) +
      "," + node(3010, 80, "conv", "Conv") + "," + node(3100, 30, "relu", "Relu") + "]";
  const auto profile = parse_trace(trace, 1);
  ASSERT_TRUE(profile) << profile.error().message;
  EXPECT_EQ(profile->runs, 2u);
  EXPECT_EQ(profile->run_mean, 150us);
  ASSERT_EQ(profile->nodes.size(), 2u);
  EXPECT_EQ(profile->nodes[0].name, "conv");
  EXPECT_EQ(profile->nodes[0].type, "Conv");
  EXPECT_EQ(profile->nodes[0].provider, "CPU");
  EXPECT_EQ(profile->nodes[0].mean, 70us);
  EXPECT_EQ(profile->nodes[1].mean, 20us);
}

TEST(Profile, WhatIsNoTraceIsRefused) {
  for (const auto* text : {"", "[", "{}", "[]", "[1]", R"([{"name":"model_run","ts":"x"}])",
                           R"([{"cat":"Node","ts":1,"dur":1,"name":"a_kernel_time"}])"}) {
    const auto profile = parse_trace(text, 0);
    ASSERT_FALSE(profile) << text;
    EXPECT_EQ(profile.error().code, ErrorCode::kDataLoss) << text;
  }
}

}  // namespace
}  // namespace selvage::cli
