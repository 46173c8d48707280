#include "base/utf8.h"

#include <gtest/gtest.h>

namespace selvage {
namespace {

TEST(Utf8, IsWhatRfc3629Allows) {
  for (const std::string_view valid :
       {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "K\xc3\xb6ln \xe4\xb8\xad"})
    EXPECT_TRUE(is_utf8(valid)) << printable(valid);
  for (const std::string_view invalid :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xe0\x9f\xbf", "\xe0\xa0",
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf0\x90\x80", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\xff", "ok\xff", "\xe4\xb8"})
    EXPECT_FALSE(is_utf8(invalid)) << printable(invalid);
}

TEST(Utf8, LengthIsThatOfTheFirstCharacter) {
  EXPECT_EQ(utf8_length(""), 0u);
  EXPECT_EQ(utf8_length("ab"), 1u);
  EXPECT_EQ(utf8_length("\xc3\xb6x"), 2u);
  EXPECT_EQ(utf8_length("\xe4\xb8\xad"), 3u);
  EXPECT_EQ(utf8_length("\xf0\x9f\x98\x80"), 4u);
  EXPECT_EQ(utf8_length("\xff"), 0u);
}

TEST(Utf8, PrintableTextCannotActOnATerminal) {
  EXPECT_EQ(printable("K\xc3\xb6ln \xf0\x9f\x98\x80 \\ \"x\""),
            "K\xc3\xb6ln \xf0\x9f\x98\x80 \\ \"x\"");
  EXPECT_EQ(printable("\x1b[2J\x1b]0;title\x07"), "\\x1b[2J\\x1b]0;title\\x07");
  EXPECT_EQ(printable("two\nlines\r\t\x7f"), "two\\nlines\\x0d\\t\\x7f");
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(printable("\xff\xfe"), "\\xff\\xfe");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\u009b31m");  // The one-character form of "ESC [".
  EXPECT_EQ(printable("exe.\xe2\x80\xae"
                      "gpj"),
            "exe.\\u202egpj");
  EXPECT_EQ(printable("\xe2\x80\xa8\xe2\x81\xa6"), "\\u2028\\u2066");
}

}  // namespace
}  // namespace selvage
