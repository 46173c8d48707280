// Bias correction: quantised weights are off by a known amount, so that each output is off by it
// times the input's mean, which the bias can take back.
#pragma once

#include <cstddef>

#include "base/result.h"
#include "compress/calibrate.h"
#include "compress/quantize_static.h"
#include "graph/model.h"
#include "infer/runtime.h"

namespace selvage::compress {

/// Subtracts (quantised - W) * E[x] from the bias of every Conv and Gemm that quantize_static()
/// would quantise with these ranges and options; a bias is added where there is none (Nagel et al.,
/// ICCV 2019, section 4.2, with means measured on samples instead of derived from batch
/// normalisation). Call it on the float model before quantize_static(). Returns how many biases it
/// changed. Errors as calibrate() and quantize_static(); on an error the model is unchanged.
[[nodiscard]] Result<std::size_t> correct_biases(infer::Runtime& runtime, graph::Model& model,
                                                 const RangeMap& ranges,
                                                 const StaticOptions& options,
                                                 const Samples& samples);

}  // namespace selvage::compress
