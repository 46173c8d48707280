#include <cmath>
#include <numbers>
#include <numeric>

#include "base/exception.h"
#include "media/sound.h"

namespace selvage::media {
namespace {

constexpr int kZeroCrossings = 32;  // Of the sinc, each side.
constexpr double kKaiserBeta = 9;   // Side lobes about 90 dB down.
// The transition band ends a little above the cut-off and begins a little below.
constexpr double kRolloff = 0.95;
// The filters of all phases are kept when they are no larger than this, as between all usual rates.
constexpr std::int64_t kWeightsKeptMax = 4 << 20;
constexpr int kRatioMax = 1'000;  // A filter's length grows with it.

/// The modified Bessel function of the first kind, order 0, by its power series.
double bessel_i0(double x) {
  double sum = 1;
  double term = 1;
  for (int k = 1; term > 1e-12 * sum; ++k) {
    term *= (x / (2 * k)) * (x / (2 * k));
    sum += term;
  }
  return sum;
}

/// A low pass whose impulse response is continuous: `cutoff` in cycles a sample, twice over.
class Kernel {
 public:
  explicit Kernel(double cutoff)
      : cutoff_(cutoff),
        half_width_(kZeroCrossings / cutoff),
        scale_(cutoff / bessel_i0(kKaiserBeta)) {}

  [[nodiscard]] int taps() const { return 2 * static_cast<int>(std::ceil(half_width_)); }

  /// The weights of taps() samples, the first of which lies taps() / 2 - 1 + `fraction` before the
  /// wanted point. Normalised: a constant stays what it is.
  void fill(double fraction, std::vector<float>& weights) const {
    weights.resize(static_cast<std::size_t>(taps()));
    double sum = 0;
    const int before = taps() / 2 - 1;
    for (int k = 0; k < taps(); ++k) sum += at(k - before - fraction);
    for (int k = 0; k < taps(); ++k)
      weights[static_cast<std::size_t>(k)] = static_cast<float>(at(k - before - fraction) / sum);
  }

 private:
  [[nodiscard]] double at(double distance) const {
    const double position = distance / half_width_;
    if (std::abs(position) >= 1) return 0;
    const double angle = std::numbers::pi * cutoff_ * distance;
    const double sinc = std::abs(angle) < 1e-9 ? 1 : std::sin(angle) / angle;
    return scale_ * sinc * bessel_i0(kKaiserBeta * std::sqrt(1 - position * position));
  }

  double cutoff_;
  double half_width_;
  double scale_;
};

float weigh(const std::vector<float>& samples, std::int64_t first,
            const std::vector<float>& weights) {
  const auto size = static_cast<std::int64_t>(samples.size());
  const auto taps = static_cast<std::int64_t>(weights.size());
  const std::int64_t begin = std::max<std::int64_t>(first, 0);
  const std::int64_t end = std::min(first + taps, size);
  float sum = 0;  // Before the beginning and behind the end there is silence.
  for (std::int64_t i = begin; i < end; ++i)
    sum += samples[static_cast<std::size_t>(i)] * weights[static_cast<std::size_t>(i - first)];
  return sum;
}

Sound resample_by(const Sound& sound, int sample_rate, std::size_t count) {
  const std::int64_t divisor = std::gcd(sound.sample_rate, sample_rate);
  const std::int64_t up = sample_rate / divisor;
  const std::int64_t down = sound.sample_rate / divisor;
  const Kernel kernel(kRolloff *
                      std::min(1.0, static_cast<double>(sample_rate) / sound.sample_rate));
  // Output n lies at n * down / up; its fraction is one of `up` phases.
  const bool keep = up <= kWeightsKeptMax / kernel.taps();
  std::vector<std::vector<float>> filters(keep ? static_cast<std::size_t>(up) : 0);
  std::vector<float> filter;
  Sound result{.sample_rate = sample_rate, .samples = std::vector<float>(count)};
  for (std::size_t n = 0; n < count; ++n) {
    const std::int64_t position = static_cast<std::int64_t>(n) * down;
    const std::int64_t phase = position % up;
    auto& weights = keep ? filters[static_cast<std::size_t>(phase)] : filter;
    if (!keep || weights.empty())
      kernel.fill(static_cast<double>(phase) / static_cast<double>(up), weights);
    result.samples[n] = weigh(sound.samples, position / up - (kernel.taps() / 2 - 1), weights);
  }
  return result;
}

}  // namespace

Result<Sound> resample(const Sound& sound, int sample_rate) {
  for (const int rate : {sound.sample_rate, sample_rate})
    if (rate < 1 || rate > kSampleRateMax)
      return fail(ErrorCode::kOutOfRange, "a sample rate of " + std::to_string(rate) +
                                              " Hz is not between 1 and " +
                                              std::to_string(kSampleRateMax));
  if (sound.sample_rate == sample_rate) return sound;
  if (sound.sample_rate / sample_rate >= kRatioMax || sample_rate / sound.sample_rate >= kRatioMax)
    return fail(ErrorCode::kOutOfRange, "sample rates of " + std::to_string(sound.sample_rate) +
                                            " and " + std::to_string(sample_rate) +
                                            " Hz differ by more than the limit of " +
                                            std::to_string(kRatioMax) + " times");
  const double wanted =
      std::round(static_cast<double>(sound.samples.size()) * sample_rate / sound.sample_rate);
  constexpr double kFramesMax = static_cast<double>(SoundLimits{}.frames_max);
  if (wanted > kFramesMax)
    return fail(ErrorCode::kOutOfRange, "the sound would be longer than the limit of " +
                                            std::to_string(SoundLimits{}.frames_max) + " samples");
  return catch_to_result(ErrorCode::kInternal, [&]() -> Result<Sound> {
    return resample_by(sound, sample_rate, static_cast<std::size_t>(wanted));
  });
}

}  // namespace selvage::media
