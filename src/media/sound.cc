#include "media/sound.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>

#include "base/exception.h"
#include "media/byte_reader.h"

namespace selvage::media {
namespace {

static_assert(std::endian::native == std::endian::little);

// Multimedia Programming Interface and Data Specifications 1.0 (Microsoft, IBM, 1991) and the
// WAVEFORMATEXTENSIBLE of mmreg.h.
constexpr std::uint16_t kPcm = 1;
constexpr std::uint16_t kFloat = 3;
constexpr std::uint16_t kExtensible = 0xFFFE;
constexpr std::uint32_t kSizeUnknown = 0xFFFF'FFFF;

struct WavFormat {
  std::uint16_t encoding = 0;
  std::uint16_t channels = 0;
  std::uint32_t sample_rate = 0;
  std::uint16_t bits = 0;

  [[nodiscard]] std::size_t sample_bytes() const { return bits / 8u; }
  [[nodiscard]] std::size_t frame_bytes() const { return sample_bytes() * channels; }
};

std::unexpected<Error> damaged(const std::string& what) {
  return fail(ErrorCode::kInvalidArgument, "WAV: " + what);
}

Result<void> check_rate(std::int64_t sample_rate) {
  if (sample_rate >= 1 && sample_rate <= kSampleRateMax) return {};
  return fail(ErrorCode::kOutOfRange, "a sample rate of " + std::to_string(sample_rate) +
                                          " Hz is not between 1 and " +
                                          std::to_string(kSampleRateMax));
}

Result<WavFormat> read_format(std::span<const std::byte> chunk) {
  if (chunk.size() < 16) return damaged("the fmt chunk is too short");
  ByteReader in(chunk);
  WavFormat format;
  format.encoding = *in.number<std::uint16_t>();
  format.channels = *in.number<std::uint16_t>();
  format.sample_rate = *in.number<std::uint32_t>();
  static_cast<void>(in.skip(4));  // Bytes a second: follows from the others.
  const auto block = *in.number<std::uint16_t>();
  format.bits = *in.number<std::uint16_t>();
  if (format.encoding == kExtensible) {
    // Behind the extension's size, the valid bits and the speakers: the first two bytes of a GUID
    // whose rest is the same for all encodings.
    if (!in.skip(8) || in.remaining() < 16) return damaged("the extensible fmt chunk is too short");
    format.encoding = *in.number<std::uint16_t>();
  }
  SELVAGE_RETURN_IF_ERROR(check_rate(format.sample_rate));
  if (format.channels == 0 || format.channels > kChannelsMax)
    return fail(ErrorCode::kOutOfRange, "WAV: " + std::to_string(format.channels) +
                                            " channels are not between 1 and " +
                                            std::to_string(kChannelsMax));
  const auto bits = format.bits;
  const bool known = format.encoding == kPcm
                         ? bits == 8 || bits == 16 || bits == 24 || bits == 32
                         : format.encoding == kFloat && (bits == 32 || bits == 64);
  if (!known)
    return fail(ErrorCode::kUnimplemented,
                "WAV: encoding " + std::to_string(format.encoding) + " with " +
                    std::to_string(bits) +
                    " bits is not read; convert it with `ffmpeg -i IN -c:a pcm_s16le OUT.wav`");
  if (block != format.frame_bytes()) return damaged("the block size does not fit the channels");
  return format;
}

template <typename Number>
Number load(const std::byte* from) {
  Number value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

float sample_at(const std::byte* from, const WavFormat& format) {
  if (format.encoding == kFloat)
    return format.bits == 32 ? load<float>(from) : static_cast<float>(load<double>(from));
  switch (format.bits) {
    case 8: return static_cast<float>(load<std::uint8_t>(from) - 128) / 128.0f;
    case 16: return static_cast<float>(load<std::int16_t>(from)) / 32'768.0f;
    case 24: {
      const std::uint32_t word = load<std::uint16_t>(from) * 256u +
                                 (static_cast<std::uint32_t>(load<std::uint8_t>(from + 2)) << 24);
      return static_cast<float>(static_cast<double>(static_cast<std::int32_t>(word)) / 0x1p31);
    }
    default: return static_cast<float>(load<std::int32_t>(from) / 0x1p31);
  }
}

Result<Sound> mix_down(std::span<const std::byte> data, const WavFormat& format,
                       const SoundLimits& limits) {
  const std::size_t frames = data.size() / format.frame_bytes();
  if (data.size() % format.frame_bytes() != 0)
    return damaged("the data end inside a frame, " +
                   std::to_string(data.size() % format.frame_bytes()) + " bytes after its start");
  if (frames > limits.frames_max)
    return fail(ErrorCode::kOutOfRange, "WAV: " + std::to_string(frames) +
                                            " frames are above the limit of " +
                                            std::to_string(limits.frames_max));
  Sound sound{.sample_rate = static_cast<int>(format.sample_rate),
              .samples = std::vector<float>(frames)};
  const std::byte* from = data.data();
  for (auto& sample : sound.samples) {
    float sum = 0;
    for (int channel = 0; channel < format.channels; ++channel, from += format.sample_bytes())
      sum += sample_at(from, format);
    sample = sum / static_cast<float>(format.channels);
    if (!std::isfinite(sample)) return damaged("a sample is infinite or not a number");
  }
  return sound;
}

Result<Sound> decode_chunks(std::span<const std::byte> file, const SoundLimits& limits) {
  ByteReader in(file);
  const auto header = in.take(12);
  if (!header || as_text(*header).substr(0, 4) != "RIFF" || as_text(*header).substr(8) != "WAVE")
    return damaged("not a RIFF/WAVE file");
  std::optional<WavFormat> format;
  // The size in the RIFF header is not used: recorders leave it wrong more often than right.
  while (in.remaining() >= 8) {
    const auto name = as_text(*in.take(4));
    const auto size = *in.number<std::uint32_t>();
    if (name == "data") {
      if (!format) return damaged("the data chunk comes before the fmt chunk");
      const bool to_the_end = size == 0 || size == kSizeUnknown;
      if (to_the_end)
        return mix_down(in.rest().first(in.remaining() - in.remaining() % format->frame_bytes()),
                        *format, limits);
      const auto data = in.take(size);
      if (!data)
        return damaged("the data chunk claims " + std::to_string(size) + " bytes; " +
                       std::to_string(size - in.remaining()) + " of them are missing");
      return mix_down(*data, *format, limits);
    }
    const auto chunk = in.take(size);
    if (!chunk)
      return damaged("chunk '" + std::string(name) + "' claims " + std::to_string(size) +
                     " bytes; " + std::to_string(size - in.remaining()) + " of them are missing");
    if (name == "fmt ") {
      SELVAGE_TRY(format, read_format(*chunk));
    }
    static_cast<void>(in.skip(size % 2));  // Chunks are padded to even sizes.
  }
  return damaged("there is no data chunk");
}

void append(std::vector<std::byte>& bytes, std::string_view text) {
  const auto added = std::as_bytes(std::span(text));
  bytes.insert(bytes.end(), added.begin(), added.end());
}

template <std::integral Number>
void append(std::vector<std::byte>& bytes, Number value) {
  const auto added = std::as_bytes(std::span(&value, 1));
  bytes.insert(bytes.end(), added.begin(), added.end());
}

}  // namespace

Result<Sound> decode_wav(std::span<const std::byte> file, const SoundLimits& limits) {
  return catch_to_result(ErrorCode::kInternal, [&] { return decode_chunks(file, limits); });
}

Result<Sound> decode_pcm16(std::span<const std::byte> samples, int sample_rate) {
  SELVAGE_RETURN_IF_ERROR(check_rate(sample_rate));
  const WavFormat format{.encoding = kPcm,
                         .channels = 1,
                         .sample_rate = static_cast<std::uint32_t>(sample_rate),
                         .bits = 16};
  return catch_to_result(ErrorCode::kInternal, [&] { return mix_down(samples, format, {}); });
}

Result<std::vector<std::byte>> encode_wav16(const Sound& sound) {
  SELVAGE_RETURN_IF_ERROR(check_rate(sound.sample_rate));
  const std::uint64_t data_bytes = sound.samples.size() * 2;
  if (data_bytes > 0xFFFF'FF00u)
    return fail(ErrorCode::kOutOfRange, "WAV: a file holds at most 4 GB of samples");
  const auto rate = static_cast<std::uint32_t>(sound.sample_rate);
  std::vector<std::byte> bytes;
  bytes.reserve(44 + data_bytes);
  append(bytes, "RIFF");
  append(bytes, static_cast<std::uint32_t>(36 + data_bytes));
  append(bytes, "WAVEfmt ");
  append(bytes, std::uint32_t{16});
  append(bytes, kPcm);
  append(bytes, std::uint16_t{1});
  append(bytes, rate);
  append(bytes, rate * 2);
  append(bytes, std::uint16_t{2});
  append(bytes, std::uint16_t{16});
  append(bytes, "data");
  append(bytes, static_cast<std::uint32_t>(data_bytes));
  for (const float sample : sound.samples) {
    const float scaled =
        std::isnan(sample) ? 0 : std::clamp(sample * 32'768, -32'768.0f, 32'767.0f);
    append(bytes, static_cast<std::int16_t>(std::lround(scaled)));
  }
  return bytes;
}

}  // namespace selvage::media
