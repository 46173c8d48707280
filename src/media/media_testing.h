// What the tests of this folder share.
#pragma once

#include <cstddef>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/file.h"
#include "media/picture.h"

namespace selvage::media {

/// A file of a fuzz target's corpus, which serves as test data too.
inline std::vector<std::byte> corpus(const std::string& target, const std::string& name) {
  const auto path = std::filesystem::path(SELVAGE_SOURCE_DIR) / "tests" / "corpus" / target / name;
  auto bytes = read_bytes(path, 1u << 20);
  EXPECT_TRUE(bytes.has_value()) << path;
  return bytes ? *std::move(bytes) : std::vector<std::byte>();
}

/// Calls `decode` with every beginning of a file, each in memory of its own so that the address
/// sanitizer sees a read behind its end.
template <typename Decode>
void for_each_cut(std::span<const std::byte> file, Decode decode) {
  for (std::size_t size = 0; size < file.size(); ++size) {
    const std::vector<std::byte> cut(file.begin(),
                                     file.begin() + static_cast<std::ptrdiff_t>(size));
    decode(std::span<const std::byte>(cut), size);
  }
}

inline std::vector<std::uint8_t> random_bytes(std::size_t count, std::mt19937& random) {
  std::vector<std::uint8_t> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random() >> 24);
  return bytes;
}

}  // namespace selvage::media
