// What a model found, for people: as text, and as marks on a picture. For programs: JSON in
// infer/prediction_json.h.
#pragma once

#include <string>

#include "cli/text.h"
#include "infer/prediction.h"
#include "media/picture.h"
#include "media/sound.h"

namespace selvage::cli {

/// One short line: "1 face", "\"NO PARKING\", \"GM 125\"", "active 4.9 s of 7.1 s".
[[nodiscard]] std::string headline(const infer::Prediction& found);

/// The details below the headline, as indented lines; "" where the headline says all.
[[nodiscard]] std::string details(const infer::Prediction& found, const Style& style);

/// Marks what was found. Predictions without a place in the picture become a label in its corner.
void draw(const infer::Prediction& found, media::Picture& picture);
/// The sound's envelope with what was heard marked in it, and the scores as a curve.
[[nodiscard]] media::Picture draw_sound(const infer::Activity& activity, const media::Sound& sound);

}  // namespace selvage::cli
