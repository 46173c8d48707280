#include "base/file.h"

#include <csignal>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace selvage {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  FileTest() { fs::create_directories(folder_); }
  ~FileTest() override { fs::remove_all(folder_); }
  [[nodiscard]] std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  fs::path folder_ =
      fs::temp_directory_path() / ("selvage-file-test-" + std::to_string(::getpid()));
};

TEST_F(FileTest, WhatIsWrittenIsRead) {
  const auto path = folder_ / "a";
  ASSERT_TRUE(write_atomically(path, "first"));
  ASSERT_TRUE(write_atomically(path, "second"));
  EXPECT_EQ(read_text(path).value(), "second");
  EXPECT_EQ(entries(), 1u);
  const auto mapped = MappedFile::open(path);
  ASSERT_TRUE(mapped);
  EXPECT_EQ(mapped->bytes().size(), 6u);
}

TEST_F(FileTest, PiecesAppearTogetherOrNotAtAll) {
  const auto path = folder_ / "pieces";
  {
    auto abandoned = AtomicFile::create(path);
    ASSERT_TRUE(abandoned);
    ASSERT_TRUE(abandoned->append(std::as_bytes(std::span("lost", 4))));
  }
  EXPECT_EQ(entries(), 0u);
  auto file = AtomicFile::create(path);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->append(std::as_bytes(std::span("ab", 2))));
  ASSERT_TRUE(file->append(std::as_bytes(std::span("cd", 2))));
  EXPECT_FALSE(fs::exists(path));
  ASSERT_TRUE(file->commit(folder_ / "renamed"));
  EXPECT_EQ(read_text(folder_ / "renamed").value(), "abcd");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(FileTest, ErrorsNameThePath) {
  const auto missing = read_text(folder_ / "missing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("missing"), std::string::npos);
  EXPECT_EQ(read_text(folder_).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(MappedFile::open(folder_).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(write_atomically(folder_ / "no" / "where", "x").error().code, ErrorCode::kNotFound);
}

TEST_F(FileTest, NobodyWaitsForAPipeAmongFiles) {
  const auto pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(read_text(pipe).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(read_bytes(pipe, 100).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(read_pieces(pipe, [](auto) {}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(MappedFile::open(pipe).error().code, ErrorCode::kInvalidArgument);
  std::jthread writer([&] { std::ofstream(pipe) << "secret"; });
  EXPECT_EQ(read_text(pipe, 100, Pipes::kRead).value(), "secret");
}

TEST_F(FileTest, ReplacesOnlyRegularFilesAndBehindLinks) {
  EXPECT_EQ(write_atomically("/dev/null", "x").error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  EXPECT_EQ(write_atomically(folder_, "x").error().code, ErrorCode::kInvalidArgument);

  const auto target = folder_ / "target", link = folder_ / "link";
  ASSERT_TRUE(write_atomically(target, "old"));
  fs::permissions(target, fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("target", link);
  ASSERT_TRUE(write_atomically(link, "new"));
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(read_text(target).value(), "new");
  EXPECT_EQ(fs::status(target).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(FileTest, ReadsAreBounded) {
  const auto path = folder_ / "big";
  ASSERT_TRUE(write_atomically(path, std::string(1000, 'x')));
  EXPECT_EQ(read_text(path, 999).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(read_text(path, 1000).value().size(), 1000u);
  EXPECT_EQ(read_text("/dev/zero", 4096, Pipes::kRead).error().code, ErrorCode::kOutOfRange);
  // A file that states its size is not read to find that out.
  fs::resize_file(path, std::uintmax_t{1} << 40);
  EXPECT_EQ(read_bytes(path, std::uint64_t{1} << 39).error().code, ErrorCode::kOutOfRange);
}

TEST_F(FileTest, FullDiskLeavesTheOldContentAndNoLitter) {
  const auto path = folder_ / "kept";
  ASSERT_TRUE(write_atomically(path, "old"));
  // A file-size limit fails the write exactly as a full disk does, without needing one.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 4096, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto written = write_atomically(path, std::string(100'000, 'x'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(read_text(path).value(), "old");
  EXPECT_EQ(entries(), 1u);
}

}  // namespace
}  // namespace selvage
