#include "media/draw.h"

#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

namespace selvage::media {
namespace {

constexpr Colour kInk{200, 100, 50};

Picture black(int width, int height) {
  Picture picture(width, height);
  std::memset(picture.row(0), 0, picture.bytes());
  return picture;
}

Colour at(const Picture& picture, int x, int y) {
  const auto* pixel = picture.row(y) + 3 * x;
  return {pixel[0], pixel[1], pixel[2]};
}

/// Rows of '#' where a pixel has the ink, '.' where it is black.
std::string drawn(const Picture& picture) {
  std::string rows;
  for (int y = 0; y < picture.height(); ++y) {
    for (int x = 0; x < picture.width(); ++x)
      rows += at(picture, x, y) == kInk ? '#' : at(picture, x, y) == Colour{} ? '.' : '?';
    rows += '\n';
  }
  return rows;
}

TEST(Draw, BoxIsAnOutlineAroundItsEdges) {
  Picture picture = black(9, 7);
  draw_box(picture, {2, 2}, {6, 5}, kInk, 2);
  EXPECT_EQ(drawn(picture),
            ".........\n"
            ".######..\n"
            ".######..\n"
            ".##..##..\n"
            ".######..\n"
            ".######..\n"
            ".........\n");
}

TEST(Draw, LinesHaveTheirThickness) {
  Picture picture = black(8, 5);
  draw_line(picture, {1.5, 2.5}, {6.5, 2.5}, kInk, 1);
  EXPECT_EQ(drawn(picture),
            "........\n"
            "........\n"
            ".######.\n"
            "........\n"
            "........\n");
  Picture steep = black(4, 4);
  draw_line(steep, {0.5, 0.5}, {3.5, 3.5}, kInk, 1);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(at(steep, i, i), kInk);
  EXPECT_EQ(at(steep, 3, 0), Colour{});
}

TEST(Draw, PointIsADisc) {
  Picture picture = black(7, 7);
  draw_point(picture, {3.5, 3.5}, kInk, 2);
  EXPECT_EQ(drawn(picture),
            ".......\n"
            "...#...\n"
            "..###..\n"
            ".#####.\n"
            "..###..\n"
            "...#...\n"
            ".......\n");
}

TEST(Draw, TextIsReadable) {
  Picture picture = black(14, 13);
  draw_text(picture, "Ok", {0, 0}, kInk, 1);
  EXPECT_EQ(text_size("Ok", 1).width, 14);
  EXPECT_EQ(text_size("Ok", 3).height, 39);
  EXPECT_EQ(drawn(picture),
            "..............\n"
            "..............\n"
            ".####..##.....\n"
            "##..##.##.....\n"
            "##..##.##.....\n"
            "##..##.##..##.\n"
            "##..##.##.##..\n"
            "##..##.####...\n"
            "##..##.####...\n"
            "##..##.##.##..\n"
            ".####..##..##.\n"
            "..............\n"
            "..............\n");
}

TEST(Draw, UnknownCharactersAreOneBoxEach) {
  EXPECT_EQ(text_size("é", 1).width, text_size("x", 1).width);
  EXPECT_EQ(text_size("日本", 1).width, text_size("xx", 1).width);
  EXPECT_EQ(text_size("\xFF\xFF", 1).width, text_size("xx", 1).width);
  Picture picture = black(7, 13);
  draw_text(picture, "é", {0, 0}, kInk, 1);
  EXPECT_NE(drawn(picture).find('#'), std::string::npos);
}

TEST(Draw, LabelStaysInsideAndContrasts) {
  for (const Colour background : {Colour{240, 228, 66}, Colour{0, 0, 139}}) {
    Picture picture = black(60, 30);
    draw_label(picture, "face", {1000, -1000}, background, 1);
    EXPECT_EQ(at(picture, 59, 0), background);
    EXPECT_EQ(at(picture, 59, 16), background);
    EXPECT_EQ(at(picture, 59, 17), Colour{});
    const Colour ink = background.red > 100 ? Colour{0, 0, 0} : Colour{255, 255, 255};
    int inked = 0;
    for (int y = 0; y < 17; ++y)
      for (int x = 60 - 32; x < 60; ++x) inked += at(picture, x, y) == ink;
    EXPECT_GT(inked, 40);
  }
}

TEST(Draw, NothingOutsideIsTouchedAndNothingStrangeHangs) {
  const double strange[] = {-1e300, -1e9, -5, 0, 3, 1e9, 1e300, INFINITY, NAN};
  Picture picture = black(8, 8);
  for (const double a : strange)
    for (const double b : strange) {
      draw_line(picture, {a, b}, {b, 2}, kInk, 3);
      draw_box(picture, {a, a}, {b, b}, kInk, 2'000'000'000);
      draw_point(picture, {a, b}, kInk, 2'000'000'000);
      draw_text(picture, "text", {a, b}, kInk, 1'000);
      draw_label(picture, "text", {a, b}, kInk, -5);
      draw_quad(picture, {{{a, a}, {b, a}, {b, b}, {a, b}}}, kInk, 0);
    }
  Picture empty;
  draw_box(empty, {0, 0}, {4, 4}, kInk, 1);
  draw_label(empty, "x", {0, 0}, kInk, 1);
}

TEST(Draw, PaletteRepeats) {
  EXPECT_EQ(palette_colour(0), palette_colour(7));
  EXPECT_NE(palette_colour(0), palette_colour(1));
}

}  // namespace
}  // namespace selvage::media
