// Changes of float weights that leave what a model computes as it is, or nearly so, and make it
// easier to quantise.
#pragma once

#include <cstddef>

#include "base/result.h"
#include "compress/calibrate.h"
#include "graph/model.h"
#include "infer/runtime.h"

namespace selvage::compress {

/// Cross-layer equalisation (Nagel et al., "Data-Free Quantization Through Weight Equalization and
/// Bias Correction", ICCV 2019): between two layers with only Relu, or nothing, in between, channel
/// i of the first is divided by s and that of the second multiplied, s = sqrt(r1 / r2) with r the
/// largest weight of the channel, so that one scale fits all channels of both. Conv (grouped ones
/// as well) and Gemm, of constant weights that nothing else reads. Clip, as Relu6 has it, is not
/// scale-invariant: such pairs are left alone. Repeats until no factor is far from 1. Returns how
/// many pairs were equalised. On an error the model is unchanged.
[[nodiscard]] Result<std::size_t> equalize_layers(graph::Model& model);

/// SmoothQuant (Xiao et al., ICML 2023): moves the spread of an activation's channels into the
/// weights of the MatMul or Gemm behind it, by s = max|x|^alpha / max|w|^(1 - alpha) a channel. The
/// activation is divided by s in the scale and bias of the LayerNormalization before it, where that
/// is possible, else by a Mul of its own. Returns how many activations were smoothed.
/// `alpha` is 0 to 1; errors as calibrate().
[[nodiscard]] Result<std::size_t> smooth_activations(infer::Runtime& runtime, graph::Model& model,
                                                     const Samples& samples, float alpha = 0.5f);

}  // namespace selvage::compress
