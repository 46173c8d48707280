#include "media/sound.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include <gmock/gmock.h>

#include "media/media_testing.h"

namespace selvage::media {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

Sound decoded(const std::string& name) {
  auto sound = decode_wav(corpus("wav_fuzz", name));
  EXPECT_TRUE(sound.has_value()) << name << ": " << (sound ? "" : sound.error().message);
  return sound ? *std::move(sound) : Sound();
}

Error failed(const std::string& name) {
  auto sound = decode_wav(corpus("wav_fuzz", name));
  EXPECT_FALSE(sound.has_value()) << name;
  return sound ? Error() : std::move(sound).error();
}

TEST(DecodeWav, EveryEncoding) {
  const std::vector<float> pcm16{0,     0.5f,          32'767 / 32'768.0f, -1,
                                 -0.5f, 1 / 32'768.0f, -1 / 32'768.0f,     0};
  EXPECT_EQ(decoded("pcm16.wav").samples, pcm16);
  EXPECT_EQ(decoded("pcm16.wav").sample_rate, 16'000);
  EXPECT_DOUBLE_EQ(decoded("pcm16.wav").seconds(), 8 / 16'000.0);
  EXPECT_EQ(decoded("streamed.wav").samples, pcm16);
  EXPECT_THAT(decoded("pcm8.wav").samples, ElementsAre(0, 127 / 128.0f, -1, -0.5f));
  EXPECT_THAT(decoded("pcm24.wav").samples, ElementsAre(0.5f, FloatNear(1, 1e-6f), -1));
  EXPECT_THAT(decoded("float32.wav").samples, ElementsAre(0.5f, -1.5f, 0.25f));
  EXPECT_THAT(decoded("float64.wav").samples, ElementsAre(0.5f, -0.125f));
}

TEST(DecodeWav, ChannelsAreAveraged) {
  EXPECT_THAT(decoded("pcm32_stereo.wav").samples, ElementsAre(0, 0.5f));
  EXPECT_THAT(decoded("extensible.wav").samples, ElementsAre(200 / 32'768.0f, -300 / 32'768.0f));
}

TEST(DecodeWav, ErrorsNameWhatIsWrong) {
  EXPECT_THAT(failed("short.wav").message, HasSubstr("claims 1000 bytes; 984 of them are missing"));
  EXPECT_EQ(failed("adpcm.wav").code, ErrorCode::kUnimplemented);
  EXPECT_THAT(failed("adpcm.wav").message, HasSubstr("encoding 2 with 4 bits"));
  EXPECT_THAT(failed("nan.wav").message, HasSubstr("not a number"));
  const auto picture = decode_wav(corpus("picture_fuzz", "rgb.png"));
  ASSERT_FALSE(picture.has_value());
  EXPECT_THAT(picture.error().message, HasSubstr("not a RIFF/WAVE file"));
  const auto over = decode_wav(corpus("wav_fuzz", "pcm16.wav"), {.frames_max = 7});
  ASSERT_FALSE(over.has_value());
  EXPECT_EQ(over.error().code, ErrorCode::kOutOfRange);
  EXPECT_THAT(over.error().message, HasSubstr("limit of 7"));
}

TEST(DecodeWav, HostileHeadersAreRefused) {
  const auto good = corpus("wav_fuzz", "pcm16.wav");
  const auto with = [&](std::size_t offset, std::uint32_t value, std::size_t bytes) {
    auto file = good;
    std::memcpy(file.data() + offset, &value, bytes);
    return decode_wav(file);
  };
  // Offsets of the canonical header: channels 22, rate 24, block 32, bits 34, data size 40.
  EXPECT_EQ(with(22, 0, 2).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(with(22, 65, 2).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(with(24, 0, 4).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(with(24, 0xFFFF'FFFF, 4).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(with(32, 0, 2).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(with(34, 0, 2).error().code, ErrorCode::kUnimplemented);
  EXPECT_EQ(with(40, 15, 4).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(with(40, 0xFFFF'FFFE, 4).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(with(40, 0, 4).has_value());
  EXPECT_TRUE(with(4, 0, 4).has_value()) << "the RIFF size is not needed";
}

TEST(DecodeWav, CutShortIsAnErrorAtEveryByte) {
  for (const std::string name : {"pcm16.wav", "extensible.wav", "float64.wav"})
    for_each_cut(corpus("wav_fuzz", name), [&](auto cut, std::size_t size) {
      EXPECT_FALSE(decode_wav(cut).has_value()) << name << " cut at " << size;
    });
  // What reaches to the end of the file may end anywhere behind its header.
  for_each_cut(corpus("wav_fuzz", "streamed.wav"), [&](auto cut, std::size_t size) {
    const auto sound = decode_wav(cut);
    ASSERT_EQ(sound.has_value(), size >= 44) << size;
    if (sound) {
      EXPECT_EQ(sound->samples.size(), (size - 44) / 2);
    }
  });
}

TEST(DecodePcm16, WholeSamplesOnly) {
  const std::vector<std::byte> bytes{std::byte{0}, std::byte{0x40}, std::byte{0}, std::byte{0xC0}};
  EXPECT_THAT(decode_pcm16(bytes, 8'000)->samples, ElementsAre(0.5f, -0.5f));
  EXPECT_FALSE(decode_pcm16(std::span(bytes).first(3), 8'000).has_value());
  EXPECT_FALSE(decode_pcm16(bytes, 0).has_value());
}

TEST(EncodeWav16, RoundTripSaturatesAndRounds) {
  const Sound sound{.sample_rate = 22'050,
                    .samples = {0, 0.25f, -1, 1, 3, -3, std::numeric_limits<float>::quiet_NaN()}};
  const auto file = encode_wav16(sound);
  ASSERT_TRUE(file.has_value());
  const auto again = decode_wav(*file);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->sample_rate, 22'050);
  const float most = 32'767 / 32'768.0f;
  EXPECT_THAT(again->samples, ElementsAre(0, 0.25f, -1, most, most, -1, 0));
  EXPECT_FALSE(encode_wav16({.sample_rate = 0, .samples = {}}).has_value());
}

Sound sine(int rate, double hertz, double seconds) {
  Sound sound{.sample_rate = rate, .samples = {}};
  const auto count = static_cast<std::size_t>(rate * seconds);
  for (std::size_t n = 0; n < count; ++n)
    sound.samples.push_back(static_cast<float>(
        0.5 * std::sin(2 * std::numbers::pi * hertz * static_cast<double>(n) / rate)));
  return sound;
}

/// The largest deviation from the ideal, the ends left out: there the silence around can be heard.
double deviation(const Sound& got, const Sound& wanted) {
  EXPECT_NEAR(static_cast<double>(got.samples.size()), static_cast<double>(wanted.samples.size()),
              1);
  const std::size_t margin = got.samples.size() / 10;
  double largest = 0;
  for (std::size_t i = margin; i < got.samples.size() - margin; ++i)
    largest = std::max(largest, std::abs(static_cast<double>(got.samples[i]) - wanted.samples[i]));
  return largest;
}

TEST(Resample, SinesInThePassBandStayWhatTheyAre) {
  for (const auto& [from, to] : {std::pair{44'100, 16'000},
                                 {48'000, 16'000},
                                 {8'000, 16'000},
                                 {16'000, 22'050},
                                 {11'025, 16'000},
                                 {47'999, 48'000}}) {
    const double nyquist = std::min(from, to) / 2.0;
    for (const double part : {0.01, 0.3, 0.6, 0.85}) {
      const auto resampled = resample(sine(from, nyquist * part, 0.2), to);
      ASSERT_TRUE(resampled.has_value());
      // 0.01 dB of half the full scale.
      EXPECT_LT(deviation(*resampled, sine(to, nyquist * part, 0.2)), 0.5 * 0.00115)
          << from << " to " << to << " at " << part;
    }
  }
}

TEST(Resample, WhatTheLowerRateCannotHoldIsGone) {
  for (const double part : {1.06, 1.3, 2.0, 2.7}) {
    const auto resampled = resample(sine(48'000, 8'000 * part, 0.2), 16'000);
    ASSERT_TRUE(resampled.has_value());
    const Sound silence{.sample_rate = 16'000,
                        .samples = std::vector<float>(resampled->samples.size())};
    EXPECT_LT(deviation(*resampled, silence), 0.5e-4) << part;  // -80 dB of the input.
  }
}

TEST(Resample, AConstantAndTheLengthAreKept) {
  const Sound constant{.sample_rate = 44'100, .samples = std::vector<float>(44'100, 0.25f)};
  const auto resampled = resample(constant, 16'000);
  ASSERT_TRUE(resampled.has_value());
  EXPECT_EQ(resampled->samples.size(), 16'000u);
  for (std::size_t i = 1'000; i < 15'000; ++i) ASSERT_NEAR(resampled->samples[i], 0.25f, 1e-5f);
  EXPECT_EQ(resample(constant, 44'100)->samples, constant.samples);
  EXPECT_TRUE(resample({.sample_rate = 8'000, .samples = {}}, 16'000)->samples.empty());
}

TEST(Resample, RatesAreBounded) {
  const Sound sound{.sample_rate = 16'000, .samples = {0, 1}};
  for (const int rate : {0, -1, 15, 768'001})
    EXPECT_EQ(resample(sound, rate).error().code, ErrorCode::kOutOfRange);
}

}  // namespace
}  // namespace selvage::media
