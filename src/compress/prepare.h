// What every quantiser starts from: the model with all that can be known of it beforehand put in.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "graph/model.h"
#include "infer/model.h"
#include "infer/runtime.h"

namespace selvage::compress {

/// Inputs that the card lists as constants (a sample rate, say) become what it says: callers still
/// pass them, but nothing reads them any more, and what hangs on them (an If for each rate) is
/// decided. Then come the standard passes of graph/pass.h. Returns the inputs' names. Inputs whose
/// shape is open stay as they are.
[[nodiscard]] Result<std::vector<std::string>> prepare_model(infer::Runtime& runtime,
                                                             graph::Model& model,
                                                             const infer::Model& original);

}  // namespace selvage::compress
