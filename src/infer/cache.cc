#include "infer/cache.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <random>
#include <system_error>
#include <vector>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "base/environment.h"
#include "base/system_error.h"

namespace selvage::infer {
namespace {

constexpr std::array<char, 8> kMagic = {'S', 'E', 'L', 'V', 'O', 'P', 'T', '1'};
constexpr std::size_t kHeaderBytes = kMagic.size() + crypto::Digest::kSize;

constexpr std::string_view kEntrySuffix = ".opt";
constexpr std::string_view kScratchPrefix = "scratch-";
constexpr auto kAbandonedAfter = std::chrono::hours(1);

}  // namespace

std::filesystem::path default_cache_folder() {
  if (const auto folder = environment("SELVAGE_CACHE"); !folder.empty()) return folder;
  if (const auto folder = environment("XDG_CACHE_HOME"); !folder.empty())
    return std::filesystem::path(folder) / "selvage";
  if (const auto home = environment("HOME"); !home.empty())
    return std::filesystem::path(home) / ".cache" / "selvage";
  return "/var/cache/selvage";
}

std::string cpu_features() {
#if defined(__x86_64__)
  std::string text = "x86_64";
  // What ONNX Runtime's kernels choose by; __builtin_cpu_supports takes only literals.
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.1")) text += " sse4_1";
  if (__builtin_cpu_supports("avx")) text += " avx";
  if (__builtin_cpu_supports("fma")) text += " fma";
  if (__builtin_cpu_supports("avx2")) text += " avx2";
  if (__builtin_cpu_supports("avx512f")) text += " avx512f";
  if (__builtin_cpu_supports("avx512bw")) text += " avx512bw";
  if (__builtin_cpu_supports("avx512vl")) text += " avx512vl";
  if (__builtin_cpu_supports("avx512vnni")) text += " avx512_vnni";
  if (__builtin_cpu_supports("avx512bf16")) text += " avx512_bf16";
  return text;
#elif defined(__aarch64__)
  return "aarch64 hwcap " + std::to_string(::getauxval(AT_HWCAP)) + " hwcap2 " +
         std::to_string(::getauxval(AT_HWCAP2));
#else
  return "other";
#endif
}

std::filesystem::path ModelCache::path_of(const crypto::Digest& key) const {
  return folder_ / (key.hex() + std::string(kEntrySuffix));
}

std::optional<CacheEntry> ModelCache::find(const crypto::Digest& key) const {
  auto file = MappedFile::open(path_of(key));
  if (!file) return std::nullopt;
  const auto bytes = file->bytes();
  if (bytes.size() < kHeaderBytes) return std::nullopt;
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) return std::nullopt;
  const auto payload = bytes.subspan(kHeaderBytes);
  const auto digest = crypto::sha256(payload);
  const auto stored = bytes.subspan(kMagic.size(), crypto::Digest::kSize);
  if (!std::ranges::equal(stored, digest.bytes())) return std::nullopt;
  return CacheEntry{*std::move(file), payload};
}

std::filesystem::path ModelCache::scratch_path() const {
  // Process numbers repeat between containers that share a folder; random numbers do not.
  std::random_device random;
  return folder_ / (std::string(kScratchPrefix) + std::to_string(random()) + "-" +
                    std::to_string(random()) + ".onnx");
}

void ModelCache::sweep() const {
  struct Entry {
    std::filesystem::path path;
    std::filesystem::file_time_type written;
    std::uintmax_t bytes = 0;
  };
  std::vector<Entry> entries;
  std::uintmax_t total = 0;
  std::error_code error;
  const auto now = std::filesystem::file_time_type::clock::now();
  for (auto it = std::filesystem::directory_iterator(folder_, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    std::error_code gone;  // Another process may sweep as well.
    Entry entry{it->path(), it->last_write_time(gone), it->file_size(gone)};
    if (gone) continue;
    const auto name = entry.path.filename().string();
    const bool temporary = name.starts_with(kScratchPrefix) || name.ends_with(".tmp");
    if (temporary && now - entry.written > kAbandonedAfter) {
      std::filesystem::remove(entry.path, gone);
    } else if (name.ends_with(kEntrySuffix)) {
      total += entry.bytes;
      entries.push_back(std::move(entry));
    }
  }
  std::ranges::sort(entries, {}, &Entry::written);
  for (const auto& entry : entries) {
    if (total <= kBytesMax) break;
    std::filesystem::remove(entry.path, error);
    total -= entry.bytes;
  }
}

Result<void> ModelCache::try_writing(std::span<const std::byte> content) const {
  SELVAGE_RETURN_IF_ERROR(make_folder());
  // Always the same name, so that the same failure has the same words.
  const auto probe = folder_ / (std::string(kScratchPrefix) + "probe");
  SELVAGE_RETURN_IF_ERROR(write_atomically(probe, content));
  std::error_code ignored;
  std::filesystem::remove(probe, ignored);
  return {};
}

Result<void> ModelCache::make_folder() const {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) return system_error("create", folder_, error.value());
  return {};
}

Result<void> ModelCache::store(const crypto::Digest& key,
                               std::span<const std::byte> payload) const {
  SELVAGE_RETURN_IF_ERROR(make_folder());
  const auto digest = crypto::sha256(payload);
  std::vector<std::byte> entry;
  entry.reserve(kHeaderBytes + payload.size());
  const auto magic = std::as_bytes(std::span(kMagic));
  entry.insert(entry.end(), magic.begin(), magic.end());
  entry.insert(entry.end(), digest.bytes().begin(), digest.bytes().end());
  entry.insert(entry.end(), payload.begin(), payload.end());
  SELVAGE_RETURN_IF_ERROR(write_atomically(path_of(key), entry));
  sweep();
  return {};
}

}  // namespace selvage::infer
