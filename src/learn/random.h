// Random numbers that are a function of (seed, stream, position): nothing to save, and the same on
// every machine. SplitMix64 (Steele, Lea and Flood 2014) as a counter-based generator. Internal to
// src/learn.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>

namespace selvage::learn {

[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Where a stream of a seed begins.
[[nodiscard]] constexpr std::uint64_t stream_start(std::uint64_t seed, std::uint64_t stream) {
  return mix(mix(seed) ^ mix(~stream));
}

/// 0 with probability `ratio`, else 1 / (1 - ratio).
inline void fill_dropout(std::span<float> values, float ratio, std::uint64_t seed,
                         std::uint64_t stream) {
  const auto start = stream_start(seed, stream);
  const auto threshold = static_cast<std::uint64_t>(static_cast<double>(ratio) * 0x1p32);
  const float kept = 1 / (1 - ratio);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = (mix(start + i) >> 32) < threshold ? 0 : kept;
}

/// Normal with mean 0 (Box and Muller 1958).
inline void fill_normal(std::span<float> values, float deviation, std::uint64_t seed,
                        std::uint64_t stream) {
  const auto start = stream_start(seed, stream);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = mix(start + i);
    const double radius = (static_cast<double>(bits >> 32) + 1) * 0x1p-32;  // (0, 1]
    const double angle = static_cast<double>(bits & 0xffffffffu) * 0x1p-32;
    values[i] = static_cast<float>(std::sqrt(-2 * std::log(radius)) *
                                   std::cos(2 * std::numbers::pi * angle)) *
                deviation;
  }
}

}  // namespace selvage::learn
