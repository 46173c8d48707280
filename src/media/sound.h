// Sound: WAV files and raw samples to one channel of floats, and from one sample rate to another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace selvage::media {

/// One channel; full scale is -1 to 1 (float files may exceed it).
struct Sound {
  int sample_rate = 0;  ///< Hz.
  std::vector<float> samples;

  [[nodiscard]] double seconds() const {
    return sample_rate > 0 ? static_cast<double>(samples.size()) / sample_rate : 0;
  }
};

struct SoundLimits {
  std::uint64_t frames_max = 256u << 20;  ///< Samples of one channel: 4.6 hours at 16 kHz.
};

inline constexpr int kSampleRateMax = 768'000;
inline constexpr int kChannelsMax = 64;

/// Decodes RIFF/WAVE: PCM of 8, 16, 24 or 32 bits, float of 32 or 64, plain or extensible, up to
/// kChannelsMax channels, which are averaged. A data chunk that claims 0 or 0xFFFFFFFF bytes (a
/// recorder that could not seek) reaches to the end of the file; one that claims more than is there
/// is an error. Samples that are not finite are an error.
/// kInvalidArgument: not a WAV file, damaged or cut short; kUnimplemented: another encoding;
/// kOutOfRange: above a limit.
[[nodiscard]] Result<Sound> decode_wav(std::span<const std::byte> file,
                                       const SoundLimits& limits = {});

/// Signed 16-bit little-endian samples of one channel, without a header.
[[nodiscard]] Result<Sound> decode_pcm16(std::span<const std::byte> samples, int sample_rate);

/// A WAV file of 16-bit PCM, one channel. Samples are rounded and saturated.
[[nodiscard]] Result<std::vector<std::byte>> encode_wav16(const Sound& sound);

/// The same sound at another rate, round(n * rate / old rate) samples, not shifted in time.
/// Band-limited interpolation with a Kaiser-windowed sinc, 32 zero crossings each side, cut off at
/// the lower of the two Nyquist frequencies (J. O. Smith, "Digital Audio Resampling", CCRMA):
/// flat to 0.01 dB up to 0.85 of it, images and aliases below -80 dB from 1.06 of it.
[[nodiscard]] Result<Sound> resample(const Sound& sound, int sample_rate);

}  // namespace selvage::media
