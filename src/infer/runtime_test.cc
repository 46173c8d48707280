#include "infer/runtime.h"

#include <gtest/gtest.h>

#include "infer/ort.h"

namespace selvage::infer {
namespace {

TEST(RuntimeMessages, LoseThePlaceInTheRuntimesSources) {
  EXPECT_EQ(ort::readable_message(
                "/onnxruntime_src/onnxruntime/core/util/thread_utils.cc:71 "
                "std::vector<std::vector<int> > onnxruntime::concurrency::ReadThreadAffinityConfig("
                "const std::string&) std::all_of(s.begin(), s.end(), ::isdigit) was false. "
                "Processor id must consist of only digits: abc\n"),
            "Processor id must consist of only digits: abc");
  EXPECT_EQ(ort::readable_message("Non-zero status code returned while running Add node. Status "
                                  "Message: /src/core/element_wise.h:540 void onnxruntime::Broad"
                                  "castIterator::Init(int64_t, int64_t) const 3 by 4"),
            "Non-zero status code returned while running Add node. Status Message: 3 by 4");
  EXPECT_EQ(ort::readable_message("Load model from x.cc: failed"), "Load model from x.cc: failed");
  EXPECT_EQ(ort::readable_message("Stopped.\nStacktrace:\n  f()\n"), "Stopped.");
  EXPECT_EQ(ort::readable_message(""), "");
}

TEST(RuntimeVersion, IsComparedByItsParts) {
  EXPECT_EQ(ort::version_number("1.30.0"), 1030);
  EXPECT_EQ(ort::version_number("1.9"), 1009);
  EXPECT_LT(ort::version_number("1.30.1"), ort::version_number("2.0"));
  EXPECT_EQ(ort::version_number("x"), 0);
}

}  // namespace
}  // namespace selvage::infer
