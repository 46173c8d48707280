// The statistics extension's JSON.
#pragma once

#include <vector>

#include "base/json_writer.h"
#include "infer/model_statistics.h"

namespace selvage::serve {

/// {"model_stats": [...]}: every member that the extension names, zeros included, since clients
/// read them without looking.
void write_json(const std::vector<infer::ModelStatistics>& all, JsonWriter& json);

}  // namespace selvage::serve
