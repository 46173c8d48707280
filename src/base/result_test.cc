#include "base/result.h"

#include <gtest/gtest.h>

#include "base/exception.h"

namespace selvage {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return fail(ErrorCode::kInvalidArgument, "odd");
  return value / 2;
}

Result<int> quarter(int value) {
  SELVAGE_TRY(const int halved, half(value));
  SELVAGE_RETURN_IF_ERROR(half(halved));
  return half(halved);
}

TEST(Result, CarriesValueOrErrorThroughTheMacros) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().message, "odd");
  EXPECT_EQ(quarter(3).error().code, ErrorCode::kInvalidArgument);
}

TEST(Result, ContextGrowsOnTheWayUp) {
  EXPECT_EQ((Error{ErrorCode::kIo, "disk"}).with_context("save").message, "save: disk");
}

TEST(CatchToResult, TurnsExceptionsIntoErrors) {
  const auto thrown = catch_to_result(ErrorCode::kDataLoss,
                                      []() -> Result<int> { throw std::runtime_error("torn"); });
  ASSERT_FALSE(thrown);
  EXPECT_EQ(thrown.error().code, ErrorCode::kDataLoss);
  EXPECT_EQ(thrown.error().message, "torn");
  const auto exhausted =
      catch_to_result(ErrorCode::kInternal, []() -> Result<int> { throw std::bad_alloc(); });
  EXPECT_EQ(exhausted.error().code, ErrorCode::kResourceExhausted);
}

}  // namespace
}  // namespace selvage
