#include "base/log.h"

#include <gtest/gtest.h>

namespace selvage::log {
namespace {

using testing::internal::CaptureStderr;
using testing::internal::GetCapturedStderr;

std::string logged(Format format, std::string_view message, Fields fields) {
  configure(Level::kInfo, format);
  CaptureStderr();
  info(message, fields);
  auto line = GetCapturedStderr();
  configure(Level::kWarning, Format::kText);
  return line;
}

TEST(Log, TextIsOneLineThatCannotActOnATerminal) {
  const auto line = logged(Format::kText, "model ready",
                           {{"model", "a\x1b[31m"}, {"path", "b c\n\xff"}, {"empty", ""}});
  EXPECT_TRUE(
      line.ends_with(" info model ready model=a\\x1b[31m path=\"b c\\n\\xff\" empty=\"\"\n"))
      << line;
}

TEST(Log, JsonHoldsAnyText) {
  const auto line = logged(Format::kJson, "it \"is\"", {{"model", "a\x1b\xff\\"}});
  EXPECT_TRUE(line.starts_with("{\"time\":\"")) << line;
  EXPECT_TRUE(line.ends_with(
      "\"level\":\"info\",\"message\":\"it \\\"is\\\"\",\"model\":\"a\\u001b\xEF\xBF\xBD\\\\\"}\n"))
      << line;
}

TEST(Log, WhatIsBelowTheLevelIsNotWritten) {
  configure(Level::kWarning, Format::kText);
  CaptureStderr();
  info("quiet");
  EXPECT_EQ(GetCapturedStderr(), "");
}

}  // namespace
}  // namespace selvage::log
