// Random changes to training samples, so that a model learns what does not matter: flipped,
// cropped, shifted, noisy, recoloured and mixed pictures; shifted and noisy signals.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/random.h"
#include "base/result.h"
#include "base/tensor.h"

namespace selvage::learn {

/// 0 or false switches each off. They are applied in this order.
struct AugmentOptions {
  bool flip = false;  ///< Half of the pictures are mirrored, left to right.
  /// The smallest part of the area that a random crop keeps, scaled back bilinearly; 0 < crop < 1.
  float crop = 0;
  int shift = 0;     ///< Pixels (or steps of a signal) up to which the content moves; zeros follow.
  float colour = 0;  ///< Brightness and contrast change by up to this part, each channel alike.
  float noise = 0;   ///< Deviation of normal noise, in units of the input tensor.
  /// Pairs are mixed by a share from Beta(mixup, mixup), labels too (Zhang 2017, arXiv 1710.09412).
  float mixup = 0;

  [[nodiscard]] bool changes_samples() const {
    return flip || crop > 0 || shift > 0 || colour > 0 || noise > 0;
  }
};

/// "flip,shift=2,noise=0.05": kInvalidArgument names the word that is wrong and those there are.
[[nodiscard]] Result<AugmentOptions> parse_augmentation(std::string_view text);
/// As parse_augmentation() reads it; "" for none.
[[nodiscard]] std::string to_text(const AugmentOptions& options);

/// Whether samples of this shape can be changed so: pictures are [C,H,W], signals [C,L] or [L].
/// kInvalidArgument says what does not fit.
[[nodiscard]] Result<void> check_augmentation(const AugmentOptions& options,
                                              std::span<const std::int64_t> shape);

/// Changes one sample in place; what happens follows from `random` alone. Confined to one thread.
class Augmenter {
 public:
  /// `shape` has passed check_augmentation().
  Augmenter(const AugmentOptions& options, std::span<const std::int64_t> shape);
  void apply(std::span<float> sample, Random random);

 private:
  void crop(std::span<float> sample, Random& random);
  void shift(std::span<float> sample, Random& random);

  AugmentOptions options_;
  std::size_t channels_ = 1, height_ = 1, width_ = 1;
  std::vector<float> scratch_;
};

/// A share of the first of two mixed samples: Beta(alpha, alpha), at least one half.
[[nodiscard]] float mixup_share(float alpha, Random& random);

}  // namespace selvage::learn
