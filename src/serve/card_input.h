// The body of a predict request as what the model's card expects: a picture, a sound, or rows.
#pragma once

#include <deque>
#include <span>
#include <vector>

#include "base/result.h"
#include "infer/model.h"
#include "media/picture.h"
#include "media/sound.h"

namespace selvage::serve {

inline constexpr std::size_t kRowsMax = 1'000;  ///< Of one table.
inline constexpr std::uint64_t kPixelsMax = 64u << 20;

/// Owns what the inputs point into. Not to be moved once filled.
struct CardInputs {
  media::Picture picture;
  media::Sound sound;
  std::deque<std::vector<double>> rows;
  std::vector<infer::Input> inputs;  ///< One, or one a row.
};

/// JPEG, PNG, PNM; WAV; CSV. kFailedPrecondition for a model without a card; errors of the
/// decoders; kOutOfRange above a limit.
[[nodiscard]] Result<void> decode_card_inputs(const infer::ModelCard& card,
                                              std::span<const std::byte> body, CardInputs& to);

}  // namespace selvage::serve
