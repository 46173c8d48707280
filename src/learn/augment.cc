#include "learn/augment.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>

namespace selvage::learn {
namespace {

constexpr std::string_view kWords = "flip, crop=0.8, shift=2, colour=0.2, noise=0.05, mixup=0.2";

std::unexpected<Error> unknown(std::string_view word) {
  return fail(ErrorCode::kInvalidArgument,
              "augmentation '" + std::string(word) + "': use " + std::string(kWords));
}

std::string number_text(float value) {
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return {buffer.data(), end};
}

Result<void> set(AugmentOptions& options, std::string_view word) {
  const auto equals = word.find('=');
  const auto name = word.substr(0, equals);
  if (name == "flip" && equals == std::string_view::npos) {
    options.flip = true;
    return {};
  }
  if (equals == std::string_view::npos) return unknown(word);
  float value = 0;
  const auto* last = word.data() + word.size();
  const auto [end, error] = std::from_chars(word.data() + equals + 1, last, value);
  const auto within = [&](float low, float high) {
    return error == std::errc() && end == last && value > low && value <= high;
  };
  constexpr float kShiftMax = 4'096;
  if (name == "crop" && within(0, 1))
    options.crop = value;
  else if (name == "shift" && within(0, kShiftMax) && value == std::floor(value))
    options.shift = static_cast<int>(value);
  else if (name == "colour" && within(0, 1))
    options.colour = value;
  else if (name == "noise" && within(0, 1'000))
    options.noise = value;
  else if (name == "mixup" && within(0, 100))
    options.mixup = value;
  else
    return unknown(word);
  return {};
}

/// Close to normal: four uniform numbers of 16 bits, out of one of 64, add up to each value.
void add_noise(std::span<float> sample, float deviation, Random& random) {
  constexpr float kStep = 1.0f / 65'536;
  const float scale = deviation * std::sqrt(3.0f);  // Their sum's variance is 4 / 12.
  for (auto& value : sample) {
    const auto bits = random.next();
    const auto sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48);
    value += scale * (static_cast<float>(sum) * kStep - 2);
  }
}

}  // namespace

Result<AugmentOptions> parse_augmentation(std::string_view text) {
  AugmentOptions options;
  std::set<std::string> seen;
  while (!text.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    const auto word = text.substr(0, comma), name = word.substr(0, word.find('='));
    if (!seen.insert(std::string(name)).second)
      return fail(ErrorCode::kInvalidArgument, "augmentation: " + std::string(name) + " twice");
    SELVAGE_RETURN_IF_ERROR(set(options, word));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return options;
}

std::string to_text(const AugmentOptions& options) {
  std::string text = options.flip ? "flip" : "";
  const auto add = [&](const char* name, float value) {
    if (value > 0) text += (text.empty() ? "" : ",") + std::string(name) + "=" + number_text(value);
  };
  add("crop", options.crop);
  add("shift", static_cast<float>(options.shift));
  add("colour", options.colour);
  add("noise", options.noise);
  add("mixup", options.mixup);
  return text;
}

Result<void> check_augmentation(const AugmentOptions& options,
                                std::span<const std::int64_t> shape) {
  const auto refuse = [&](const char* what) {
    return fail(ErrorCode::kInvalidArgument,
                std::string(what) + ", but a sample is " + to_string(shape));
  };
  if ((options.flip || options.crop > 0) && shape.size() != 3)
    return refuse("flip and crop need pictures [C,H,W]");
  if (options.shift > 0 && shape.empty()) return refuse("shift needs pictures or signals");
  if (options.shift > 0 && options.shift >= shape.back())
    return refuse("shift must be smaller than a side");
  return {};
}

Augmenter::Augmenter(const AugmentOptions& options, std::span<const std::int64_t> shape)
    : options_(options) {
  const auto size = [&](std::size_t from_end) {
    return from_end <= shape.size() ? static_cast<std::size_t>(shape[shape.size() - from_end])
                                    : std::size_t{1};
  };
  width_ = size(1);
  const bool picture = shape.size() >= 3;
  height_ = picture ? size(2) : 1;
  channels_ = 1;
  for (std::size_t d = 0; d + (picture ? 2 : 1) < shape.size(); ++d)
    channels_ *= static_cast<std::size_t>(shape[d]);
}

void Augmenter::crop(std::span<float> sample, Random& random) {
  const double side = std::sqrt(random.uniform(static_cast<double>(options_.crop), 1));
  const double top = random.uniform(0, (1 - side) * static_cast<double>(height_ - 1));
  const double left = random.uniform(0, (1 - side) * static_cast<double>(width_ - 1));
  scratch_.assign(sample.begin(), sample.end());
  // The same columns for every row: worked out once.
  std::vector<std::size_t> columns(width_);
  std::vector<float> shares(width_);
  for (std::size_t x = 0; x < width_; ++x) {
    const double at = left + side * static_cast<double>(x);
    columns[x] = std::min(static_cast<std::size_t>(at), width_ - 1);
    shares[x] = static_cast<float>(at - static_cast<double>(columns[x]));
  }
  for (std::size_t c = 0; c < channels_; ++c)
    for (std::size_t y = 0; y < height_; ++y) {
      const double at = top + side * static_cast<double>(y);
      const auto row = std::min(static_cast<std::size_t>(at), height_ - 1);
      const auto below = std::min(row + 1, height_ - 1);
      const float down = static_cast<float>(at - static_cast<double>(row));
      const float* const upper = scratch_.data() + (c * height_ + row) * width_;
      const float* const lower = scratch_.data() + (c * height_ + below) * width_;
      float* const to = sample.data() + (c * height_ + y) * width_;
      for (std::size_t x = 0; x < width_; ++x) {
        const auto first = columns[x], second = std::min(first + 1, width_ - 1);
        const float a = upper[first] + shares[x] * (upper[second] - upper[first]);
        const float b = lower[first] + shares[x] * (lower[second] - lower[first]);
        to[x] = a + down * (b - a);
      }
    }
}

void Augmenter::shift(std::span<float> sample, Random& random) {
  const auto reach = static_cast<std::uint64_t>(options_.shift);
  const auto draw = [&](std::size_t side) {
    const auto most = std::min<std::uint64_t>(reach, side - 1);
    return static_cast<std::ptrdiff_t>(random.below(2 * most + 1)) -
           static_cast<std::ptrdiff_t>(most);
  };
  const auto down = height_ > 1 ? draw(height_) : std::ptrdiff_t{0};
  const auto right = draw(width_);
  scratch_.assign(sample.begin(), sample.end());
  std::ranges::fill(sample, 0.0f);
  const auto width = static_cast<std::ptrdiff_t>(width_);
  const auto height = static_cast<std::ptrdiff_t>(height_);
  const auto first = std::max<std::ptrdiff_t>(0, right);
  const auto count = width - std::abs(right);
  for (std::ptrdiff_t c = 0; c < static_cast<std::ptrdiff_t>(channels_); ++c)
    for (std::ptrdiff_t y = std::max<std::ptrdiff_t>(0, down); y < std::min(height, height + down);
         ++y) {
      const float* const from = scratch_.data() + (c * height + y - down) * width;
      std::copy_n(from + first - right, count, sample.data() + (c * height + y) * width + first);
    }
}

void Augmenter::apply(std::span<float> sample, Random random) {
  if (options_.flip && random.below(2) == 1)
    for (std::size_t row = 0; row < channels_ * height_; ++row)
      std::ranges::reverse(sample.subspan(row * width_, width_));
  if (options_.crop > 0) crop(sample, random);
  if (options_.shift > 0) shift(sample, random);
  if (options_.colour > 0) {
    const double reach = static_cast<double>(options_.colour);
    const auto contrast = static_cast<float>(1 + random.uniform(-reach, reach));
    const auto brightness = static_cast<float>(random.uniform(-reach, reach));
    for (auto& value : sample) value = value * contrast + brightness;
  }
  if (options_.noise > 0) add_noise(sample, options_.noise, random);
}

float mixup_share(float alpha, Random& random) {
  // Joehnk 1964. For large alpha it rejects nearly always; then the share is close to one half.
  constexpr int kAttemptsMax = 1'000;
  const double power = 1 / static_cast<double>(alpha);
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    const double a = std::pow(random.uniform(), power), b = std::pow(random.uniform(), power);
    if (a + b > 1 || a + b == 0) continue;
    return static_cast<float>(std::max(a, b) / (a + b));
  }
  return 0.5f;
}

}  // namespace selvage::learn
