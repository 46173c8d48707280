// A model's configuration as the protocol's message. Internal to src/serve.
#pragma once

#include "infer/model_config.h"
#include "model_config.pb.h"

namespace selvage::serve {

void write_config(const infer::ModelConfig& from, inference::ModelConfig& to);

}  // namespace selvage::serve
