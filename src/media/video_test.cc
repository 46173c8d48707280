#include "media/video.h"

#include <cstdlib>

#include <gmock/gmock.h>

#include "media/media_testing.h"

namespace selvage::media {
namespace {

using ::testing::HasSubstr;

/// 79.5 seconds of people on a street, which OpenCV ships.
std::filesystem::path street_video() {
  return std::filesystem::path(SELVAGE_DEPS_DIR) / "data" / "opencv" / "vtest.avi";
}

#define SKIP_WITHOUT_MODULE()                                    \
  if (const auto probe = VideoReader::open("/dev/null/nothing"); \
      !probe && probe.error().code == ErrorCode::kUnimplemented) \
  GTEST_SKIP() << probe.error().message

TEST(VideoReader, ReadsEveryFrame) {
  SKIP_WITHOUT_MODULE();
  if (!std::filesystem::exists(street_video())) GTEST_SKIP() << "no " << street_video();
  auto reader = VideoReader::open(street_video());
  ASSERT_TRUE(reader.has_value()) << reader.error().message;
  EXPECT_EQ(reader->info().width, 768);
  EXPECT_EQ(reader->info().height, 576);
  EXPECT_NEAR(reader->info().frames_per_second, 10, 1e-6);
  ASSERT_TRUE(reader->info().duration.has_value());
  EXPECT_NEAR(static_cast<double>(reader->info().duration->count()), 79.5e9, 1e6);
  int frames = 0;
  std::chrono::nanoseconds last{-1};
  while (true) {
    const auto frame = reader->next();
    ASSERT_TRUE(frame.has_value()) << frame.error().message;
    if (!*frame) break;
    ASSERT_EQ((*frame)->picture.width, 768);
    ASSERT_EQ((*frame)->picture.height, 576);
    ASSERT_GT((*frame)->time, last);
    last = (*frame)->time;
    if (frames++ == 0) {
      EXPECT_EQ(last.count(), 0);
      const auto rgb = copy_as_rgb((*frame)->picture);
      ASSERT_TRUE(rgb.has_value());
      // Daylight: neither black nor white.
      std::uint64_t sum = 0;
      for (std::size_t i = 0; i < rgb->bytes(); ++i) sum += rgb->row(0)[i];
      const double mean = static_cast<double>(sum) / static_cast<double>(rgb->bytes());
      EXPECT_GT(mean, 50);
      EXPECT_LT(mean, 220);
    }
  }
  EXPECT_EQ(frames, 795);
  const auto after = reader->next();
  ASSERT_TRUE(after.has_value());
  EXPECT_FALSE(after->has_value()) << "the end stays the end";
}

TEST(VideoReader, LimitIsNamed) {
  SKIP_WITHOUT_MODULE();
  if (!std::filesystem::exists(street_video())) GTEST_SKIP() << "no " << street_video();
  const auto reader = VideoReader::open(street_video(), 768 * 576 - 1);
  ASSERT_FALSE(reader.has_value());
  EXPECT_EQ(reader.error().code, ErrorCode::kOutOfRange);
  EXPECT_THAT(reader.error().message, HasSubstr("limit of 442367"));
  EXPECT_TRUE(VideoReader::open(street_video(), 768 * 576).has_value());
}

TEST(VideoReader, OtherFilesAreErrors) {
  SKIP_WITHOUT_MODULE();
  const auto missing = VideoReader::open("/nonexistent.mp4");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent.mp4"));
  const auto table =
      VideoReader::open(std::string(SELVAGE_SOURCE_DIR) + "/tests/corpus/csv_fuzz/plain.csv");
  ASSERT_FALSE(table.has_value());
  EXPECT_EQ(table.error().code, ErrorCode::kInvalidArgument);
}

TEST(VideoReader, DevicesThatAreNoCamerasAreErrors) {
  SKIP_WITHOUT_MODULE();
  const auto reader = VideoReader::open("/dev/zero");
  ASSERT_FALSE(reader.has_value());
  EXPECT_THAT(reader.error().message, HasSubstr("video '/dev/zero': "));
}

// A playlist is a text file that names others: following it would let a file open connections.
TEST(VideoReader, PlaylistsOpenNothingElse) {
  SKIP_WITHOUT_MODULE();
  const auto path = std::filesystem::path(testing::TempDir()) / "selvage_playlist_test.m3u8";
  ASSERT_TRUE(
      write_atomically(path, std::string_view("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n"
                                              "http://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"))
          .has_value());
  EXPECT_FALSE(VideoReader::open(path).has_value());
  std::filesystem::remove(path);
}

TEST(VideoReader, CutFilesEndEarlyOrAreRefused) {
  SKIP_WITHOUT_MODULE();
  if (!std::filesystem::exists(street_video())) GTEST_SKIP() << "no " << street_video();
  const auto whole = read_bytes(street_video(), 64u << 20);
  ASSERT_TRUE(whole.has_value());
  const auto path = std::filesystem::path(testing::TempDir()) / "selvage_cut_test.avi";
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{100}, std::size_t{3'000}, std::size_t{200'001}}) {
    ASSERT_TRUE(write_atomically(path, std::span(*whole).first(size)).has_value());
    auto reader = VideoReader::open(path);
    if (!reader) continue;
    int frames = 0;
    for (auto frame = reader->next(); frame && *frame; frame = reader->next()) ++frames;
    EXPECT_LT(frames, 795);
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace selvage::media
