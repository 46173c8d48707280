#include "learn/teacher.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "base/file.h"

namespace selvage::learn {
namespace {

// The file: key, width (8 bytes), values, SHA-256 of all before.
constexpr std::size_t kDigestBytes = crypto::Digest::kSize;
constexpr std::size_t kHeadBytes = kDigestBytes + sizeof(std::uint64_t);
constexpr std::uint64_t kTeacherBytesMax = std::uint64_t{1} << 30;

}  // namespace

void to_logits(TeacherOutputs& outputs) {
  if (outputs.width < 2) return;
  constexpr double kTolerance = 1e-3;
  for (std::size_t at = 0; at < outputs.values.size(); at += outputs.width) {
    double sum = 0;
    for (std::size_t i = at; i < at + outputs.width; ++i) {
      if (outputs.values[i] < 0) return;
      sum += static_cast<double>(outputs.values[i]);
    }
    if (std::abs(sum - 1) > kTolerance) return;
  }
  constexpr float kLeast = 1e-12f;  // A probability of 0 becomes -27.6.
  for (auto& value : outputs.values) value = std::log(std::max(value, kLeast));
}

Result<TeacherOutputs> mean_of(std::span<const TeacherOutputs> teachers) {
  TeacherOutputs mean = teachers.front();
  const auto share = 1 / static_cast<float>(teachers.size());
  for (auto& value : mean.values) value *= share;
  for (const auto& teacher : teachers.subspan(1)) {
    if (teacher.width != mean.width || teacher.values.size() != mean.values.size())
      return fail(ErrorCode::kInvalidArgument,
                  "the teachers disagree about the number of classes: " +
                      std::to_string(mean.width) + " and " + std::to_string(teacher.width));
    for (std::size_t i = 0; i < mean.values.size(); ++i)
      mean.values[i] += share * teacher.values[i];
  }
  return mean;
}

Result<void> save_teacher(const TeacherOutputs& outputs, const crypto::Digest& key,
                          const std::filesystem::path& path) {
  std::vector<std::byte> bytes(key.bytes().begin(), key.bytes().end());
  const std::uint64_t width = outputs.width;
  const auto append = [&](std::span<const std::byte> more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
  };
  append(std::as_bytes(std::span(&width, 1)));
  append(std::as_bytes(std::span(outputs.values)));
  append(crypto::sha256(std::span<const std::byte>(bytes)).bytes());
  return write_atomically(path, bytes);
}

std::optional<TeacherOutputs> load_teacher(const crypto::Digest& key,
                                           const std::filesystem::path& path) {
  const auto file = read_bytes(path, kTeacherBytesMax);
  if (!file || file->size() < kHeadBytes + kDigestBytes) return std::nullopt;
  const std::span<const std::byte> bytes(*file);
  const auto content = bytes.first(bytes.size() - kDigestBytes);
  if (!std::ranges::equal(content.first(kDigestBytes), key.bytes()) ||
      !std::ranges::equal(crypto::sha256(content).bytes(), bytes.last(kDigestBytes)))
    return std::nullopt;
  std::uint64_t width = 0;
  std::memcpy(&width, content.data() + kDigestBytes, sizeof width);
  const auto values = content.subspan(kHeadBytes);
  if (width == 0 || values.size() % (width * sizeof(float)) != 0) return std::nullopt;
  TeacherOutputs outputs{.width = width,
                         .values = std::vector<float>(values.size() / sizeof(float))};
  std::memcpy(outputs.values.data(), values.data(), values.size());
  return outputs;
}

}  // namespace selvage::learn
