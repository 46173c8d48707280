#include "media/table.h"

#include <cmath>

#include <gmock/gmock.h>

#include "media/media_testing.h"

namespace selvage::media {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Result<Table> parse(std::string_view text, const CsvOptions& options = {}) {
  return parse_csv(std::as_bytes(std::span(text)), options);
}

std::string error_of(const Result<Table>& table) {
  EXPECT_FALSE(table.has_value());
  return table ? "" : table.error().message;
}

TEST(ParseCsv, PlainWithHeader) {
  const auto table = parse_csv(corpus("csv_fuzz", "plain.csv"));
  ASSERT_TRUE(table.has_value());
  EXPECT_THAT(table->names(), ElementsAre("time", "temperature", "state"));
  ASSERT_EQ(table->rows(), 3u);
  EXPECT_EQ(table->cell(1, 2), "ok");
  const auto column = table->column("temperature");
  ASSERT_TRUE(column.has_value());
  const auto numbers = table->numbers(*column);
  ASSERT_TRUE(numbers.has_value());
  EXPECT_EQ((*numbers)[0], 20.5);
  EXPECT_EQ((*numbers)[1], 21);
  EXPECT_TRUE(std::isnan((*numbers)[2]));
}

TEST(ParseCsv, ErrorsOfNumbersSayWhere) {
  const auto table = parse_csv(corpus("csv_fuzz", "plain.csv"));
  ASSERT_TRUE(table.has_value());
  const auto numbers = table->numbers(2);
  ASSERT_FALSE(numbers.has_value());
  EXPECT_EQ(numbers.error().message, "CSV: row 2, column 'state': 'ok' is not a number");
  const auto column = table->column("humidity");
  ASSERT_FALSE(column.has_value());
  EXPECT_EQ(column.error().message,
            "no column 'humidity' in the table; there are 'time', 'temperature', 'state'");
}

TEST(ParseCsv, QuotesMarkAndLineEnds) {
  const auto table =
      parse_csv(corpus("csv_fuzz", "quoted.csv"), {.header = CsvOptions::Header::kPresent});
  ASSERT_TRUE(table.has_value()) << table.error().message;
  EXPECT_THAT(table->names(), ElementsAre("name", "a \"b\", c"));
  ASSERT_EQ(table->rows(), 2u);
  EXPECT_EQ(table->cell(0, 0), "two\nlines");
  EXPECT_EQ(table->cell(1, 0), "");
  EXPECT_THAT(*table->numbers(1), ElementsAre(1000, -4));
}

TEST(ParseCsv, HeaderIsDetectedOrSaid) {
  const auto numbers_only = parse_csv(corpus("csv_fuzz", "no_header.csv"));
  ASSERT_TRUE(numbers_only.has_value());
  EXPECT_THAT(numbers_only->names(), ElementsAre("0", "1", "2"));
  EXPECT_EQ(numbers_only->rows(), 2u);
  EXPECT_EQ(parse("a,b\n", {.header = CsvOptions::Header::kAbsent})->rows(), 1u);
  EXPECT_EQ(parse("1,2\n3,4\n", {.header = CsvOptions::Header::kPresent})->names()[0], "1");
  EXPECT_EQ(parse("a,b\n")->rows(), 0u);
}

TEST(ParseCsv, ErrorsNameTheRow) {
  EXPECT_EQ(error_of(parse_csv(corpus("csv_fuzz", "ragged.csv"))),
            "CSV: row 3 has 1 cells, not 2 like the first");
  EXPECT_THAT(error_of(parse_csv(corpus("csv_fuzz", "unclosed.csv"))),
              HasSubstr("row 2 opens a quote"));
  EXPECT_EQ(error_of(parse_csv(corpus("csv_fuzz", "latin1.csv"))), "CSV: row 2 is not valid UTF-8");
  EXPECT_THAT(error_of(parse("a,b\n\"x\"y,1\n")),
              HasSubstr("row 2 has text behind a closing quote"));
  EXPECT_THAT(error_of(parse("a,a\n1,2\n")), HasSubstr("names column 'a' twice"));
  EXPECT_THAT(error_of(parse("")), HasSubstr("no rows"));
  EXPECT_THAT(error_of(parse("\n\r\n")), HasSubstr("no rows"));
  EXPECT_THAT(error_of(parse("a\n", {.delimiter = '"'})), HasSubstr("delimiter"));
}

TEST(ParseCsv, Utf8IsWhatRfc3629Allows) {
  const auto table = parse_csv(corpus("csv_fuzz", "utf8.csv"));
  ASSERT_TRUE(table.has_value());
  EXPECT_EQ(table->names()[2], "😀");
  for (const std::string_view bad :
       {"\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\x80", "\xE2\x82", "\xFF"})
    EXPECT_THAT(error_of(parse("a\n" + std::string(bad) + "\n")),
                HasSubstr("row 2 is not valid UTF-8"));
  for (const std::string_view good :
       {"\xC2\x80", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"})
    EXPECT_TRUE(parse("a\n" + std::string(good) + "\n").has_value());
}

TEST(ParseCsv, LimitsAreNamed) {
  const auto limited = [](const CsvOptions& options) {
    const auto table = parse("a,b\n1,2\n", options);
    EXPECT_FALSE(table.has_value());
    EXPECT_EQ(table.error().code, ErrorCode::kOutOfRange);
    return table.error().message;
  };
  EXPECT_THAT(limited({.bytes_max = 7}), HasSubstr("limit of 7"));
  EXPECT_THAT(limited({.cells_max = 1}), HasSubstr("cells above the limit of 1"));
  EXPECT_THAT(limited({.columns_max = 1}), HasSubstr("columns above the limit of 1"));
  EXPECT_THAT(limited({.cell_bytes_max = 0}), HasSubstr("bytes in a cell above the limit of 0"));
}

TEST(ParseCsv, NumbersAreWholeCells) {
  const auto table = parse("x\n1e-3\n+2\n -0.5 \n0x10\n", {.header = CsvOptions::Header::kPresent});
  ASSERT_TRUE(table.has_value());
  const auto numbers = table->numbers(0);
  ASSERT_FALSE(numbers.has_value());
  EXPECT_THAT(numbers.error().message, HasSubstr("row 5, column 'x': '0x10' is not a number"));
  EXPECT_THAT(*parse("x\n1e-3\n+2\n -0.5 \n")->numbers(0), ElementsAre(1e-3, 2, -0.5));
}

TEST(ParseCsv, CutAnywhereNeverCrashes) {
  std::size_t accepted = 0;
  for (const std::string name : {"plain.csv", "quoted.csv", "utf8.csv"})
    for_each_cut(corpus("csv_fuzz", name), [&](auto cut, std::size_t) {
      const auto table = parse_csv(cut);
      if (!table) return;
      ++accepted;
      for (std::size_t row = 0; row < table->rows(); ++row)
        for (std::size_t column = 0; column < table->columns(); ++column)
          EXPECT_LE(table->cell(row, column).size(), cut.size());
    });
  EXPECT_GT(accepted, 0u);
}

TEST(ParseCsv, OtherDelimiters) {
  const auto table = parse("a;b\n1,5;2\n", {.delimiter = ';'});
  ASSERT_TRUE(table.has_value());
  EXPECT_EQ(table->cell(0, 0), "1,5");
}

}  // namespace
}  // namespace selvage::media
