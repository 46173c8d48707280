// What a model found, as JSON: the same fields on the command line and over HTTP.
#pragma once

#include "base/json_writer.h"
#include "infer/prediction.h"

namespace selvage::infer {

/// {"kind": "boxes", "boxes": [...]}: docs/commands.md has the fields of every kind.
void write_json(const Prediction& found, JsonWriter& json);

}  // namespace selvage::infer
