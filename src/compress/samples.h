// A data set as what calibration feeds to a model: every input filled, those that the card lists as
// constants or state too.
#pragma once

#include <cstddef>

#include "base/result.h"
#include "compress/calibrate.h"
#include "infer/dataset.h"
#include "infer/model.h"

namespace selvage::compress {

/// At most `count_max` samples, spread evenly over the data set. Of a model with recurrent state
/// that listens to sound they are windows with the state that it has there, for which the model
/// runs once over all sounds; other state is zero. `model` and `data` must outlive the result.
/// Errors as infer::Dataset::sample().
[[nodiscard]] Result<Samples> calibration_samples(const infer::Model& model,
                                                  const infer::Dataset& data,
                                                  std::size_t count_max);

}  // namespace selvage::compress
