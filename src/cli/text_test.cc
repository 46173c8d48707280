#include "cli/text.h"

#include <gtest/gtest.h>

namespace selvage::cli {
namespace {

using namespace std::chrono_literals;

TEST(Text, Durations) {
  EXPECT_EQ(format_duration(0ns), "0 ns");
  EXPECT_EQ(format_duration(999ns), "999 ns");
  EXPECT_EQ(format_duration(1234ns), "1.2 us");
  EXPECT_EQ(format_duration(845us), "845 us");
  EXPECT_EQ(format_duration(1430us), "1.43 ms");
  EXPECT_EQ(format_duration(14'300us), "14.3 ms");
  EXPECT_EQ(format_duration(143'000us), "143 ms");
  EXPECT_EQ(format_duration(2100ms), "2.10 s");
}

TEST(Text, Sizes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.0 KB");
  EXPECT_EQ(format_bytes(999'499), "999 KB");
  EXPECT_EQ(format_bytes(999'999), "1.0 MB");
  EXPECT_EQ(format_bytes(458'000'000), "458 MB");
  EXPECT_EQ(format_bytes(UINT64_MAX), "18.4 EB");
}

TEST(Text, Numbers) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(1234567), "1,234,567");
  EXPECT_EQ(format_large(30'800'000), "30.8 million");
  EXPECT_EQ(format_large(4'100'000'000), "4.10 billion");
  EXPECT_EQ(format_rate(12.345), "12.3");
  EXPECT_EQ(format_rate(5109.4), "5,109");
  EXPECT_EQ(significant(0), "0");
  EXPECT_EQ(significant(-0.0123), "-0.0123");
  EXPECT_EQ(significant(12.345), "12.3");
  EXPECT_EQ(significant(1e-9), "1.00e-09");
  EXPECT_EQ(shortest(16.0), "16");
  EXPECT_EQ(shortest(44.1), "44.1");
  EXPECT_EQ(fixed(1e308, 0).size(), 309u);
}

TEST(Text, Plurals) {
  EXPECT_EQ(format_plural(1, "face"), "1 face");
  EXPECT_EQ(format_plural(2, "face"), "2 faces");
  EXPECT_EQ(format_plural(0, "box"), "0 boxes");
  EXPECT_EQ(format_plural(2, "bus"), "2 buses");
  EXPECT_EQ(format_plural(2, "city"), "2 cities");
  EXPECT_EQ(format_plural(2, "key"), "2 keys");
  EXPECT_EQ(format_plural(2, "y"), "2 ys");
  EXPECT_EQ(format_plural(2, "GM 125"), "2 GM 125");
  EXPECT_EQ(format_plural(2, ""), "2 ");
}

TEST(Text, Width) {
  EXPECT_EQ(display_width("abc"), 3u);
  EXPECT_EQ(display_width("\xC3\xA4"), 1u);                  // a umlaut
  EXPECT_EQ(display_width("\xE5\x81\x9C\xE8\xBD\xA6"), 4u);  // two Chinese characters
  EXPECT_EQ(display_width("a\xCC\x88"), 1u);                 // a with a combining diaeresis
  EXPECT_EQ(display_width("\xFF\xE5"), 2u);                  // broken: a column a byte
}

TEST(Text, Wrap) {
  EXPECT_EQ(wrap("one two three", 8, ""), "one two\nthree\n");
  EXPECT_EQ(wrap("one two", 80, "  "), "  one two\n");
  EXPECT_EQ(wrap("one\n\ntwo", 80, ""), "one\n\ntwo\n");
  EXPECT_EQ(wrap("unbreakable", 4, ""), "unbreakable\n");
  EXPECT_EQ(wrap("", 80, ""), "");
}

TEST(Text, TableAlignsAndLeavesEmptyColumnsOut) {
  Table table({{"name"}, {"count", Align::kRight}, {"never"}, {"last"}});
  table.add({"a", "1", "", "x"});
  table.add({"\xE5\x81\x9C", "1,000", "", ""});
  EXPECT_EQ(table.to_text(Style(false)),
            "  name  count  last\n"
            "  a         1  x\n"
            "  \xE5\x81\x9C    1,000\n");
  Table untitled({{""}, {""}});
  untitled.add({{"a", Tone::kBold}, "b"});
  EXPECT_EQ(untitled.to_text(Style(false), 0), "a  b\n");
  EXPECT_EQ(untitled.to_text(Style(true), 0), "\033[1ma\033[0m  b\n");
}

}  // namespace
}  // namespace selvage::cli
