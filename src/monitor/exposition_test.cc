#include "monitor/exposition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "monitor/process.h"

namespace selvage::monitor {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

TEST(Exposition, WritesCountersWithEscapedLabels) {
  Exposition page;
  page.family("nv_inference_count", Kind::kCounter, "Inferences");
  page.sample({{"model", "a\"b\\c\nd"}, {"version", "1"}}, std::uint64_t{42});
  page.family("up", Kind::kGauge, "Whether");
  page.sample({}, 0.5);
  EXPECT_EQ(std::move(page).take(),
            "# HELP nv_inference_count Inferences\n"
            "# TYPE nv_inference_count counter\n"
            "nv_inference_count{model=\"a\\\"b\\\\c\\nd\",version=\"1\"} 42\n"
            "# HELP up Whether\n"
            "# TYPE up gauge\n"
            "up 0.5\n");
}

TEST(Exposition, HistogramBucketsAreCumulativeAndEndInTheCount) {
  Histogram histogram;
  histogram.record(milliseconds(3));
  histogram.record(milliseconds(30));
  histogram.record(std::chrono::seconds(60));
  Exposition page;
  page.family("latency_seconds", Kind::kHistogram, "Latency");
  page.histogram({{"model", "m"}}, histogram.snapshot());
  const std::string text = std::move(page).take();
  EXPECT_THAT(text, HasSubstr("latency_seconds_bucket{model=\"m\",le=\"0.002\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("latency_seconds_bucket{model=\"m\",le=\"0.005\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("latency_seconds_bucket{model=\"m\",le=\"10\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("latency_seconds_bucket{model=\"m\",le=\"+Inf\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("latency_seconds_sum{model=\"m\"} 60.033\n"));
  EXPECT_THAT(text, HasSubstr("latency_seconds_count{model=\"m\"} 3\n"));
}

TEST(Process, KnowsItself) {
  const auto use = process_use();
  ASSERT_TRUE(use) << use.error().message;
  EXPECT_GT(use->resident_bytes, 1u << 20);
  EXPECT_LT(use->resident_bytes, use->virtual_bytes);
  EXPECT_GE(use->threads, 1u);
  EXPECT_GE(use->open_descriptors, 3u);
  EXPECT_GT(use->start_time_s, 1.6e9);
  const auto machine = machine_use();
  ASSERT_TRUE(machine) << machine.error().message;
  EXPECT_GT(machine->memory_bytes, machine->memory_used_bytes);
}

}  // namespace
}  // namespace selvage::monitor
