// Random numbers that are the same on every machine and with every standard library: shuffles,
// initial weights and augmentation can be repeated from a seed. Not for secrets.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace selvage {

/// xoshiro256** 1.0 (D. Blackman, S. Vigna, "Scrambled linear pseudorandom number generators",
/// 2018), its state filled by SplitMix64 as its authors advise. Confined to one thread.
class Random {
 public:
  explicit Random(std::uint64_t seed) {
    for (auto& word : state_) word = mix(seed += kGamma);
  }
  /// An independent stream for a part of the work: Random(seed).split(epoch).split(sample).
  [[nodiscard]] Random split(std::uint64_t stream) const {
    return Random(mix(state_[0] ^ mix(stream + kGamma)) ^ state_[2]);
  }

  /// Uniform over all 64-bit numbers.
  [[nodiscard]] std::uint64_t next() {
    const auto result = std::rotl(state_[1] * 5, 7) * 9;
    const auto shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }
  /// Uniform below `bound`, which is not 0 (D. Lemire, "Fast random integer generation in an
  /// interval", 2019).
  [[nodiscard]] std::uint64_t below(std::uint64_t bound) {
    __extension__ using Wide = unsigned __int128;
    const std::uint64_t threshold = (0 - bound) % bound;
    Wide product;
    do {
      product = Wide{next()} * bound;
    } while (static_cast<std::uint64_t>(product) < threshold);
    return static_cast<std::uint64_t>(product >> 64);
  }
  /// Uniform in [0, 1), in steps of 2^-53.
  [[nodiscard]] double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  [[nodiscard]] double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Close to normal, mean 0 and deviation 1, within +-6: the sum of twelve uniform numbers less 6,
  /// which unlike logarithms is rounded alike everywhere.
  [[nodiscard]] double normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }

  /// Fisher and Yates.
  template <typename T>
  void shuffle(std::span<T> values) {
    for (std::size_t left = values.size(); left > 1; --left)
      std::swap(values[left - 1], values[below(left)]);
  }

 private:
  static constexpr std::uint64_t kGamma = 0x9E37'79B9'7F4A'7C15;
  static constexpr std::uint64_t mix(std::uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58'476D'1CE4'E5B9;
    value = (value ^ (value >> 27)) * 0x94D0'49BB'1331'11EB;
    return value ^ (value >> 31);
  }

  std::uint64_t state_[4];  // NOLINT(cppcoreguidelines-avoid-c-arrays): indexed by constants alone
};

}  // namespace selvage
