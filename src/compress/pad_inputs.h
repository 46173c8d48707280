// Convolutions of a model's inputs, in the form that integer kernels are fast in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "graph/model.h"

namespace selvage::compress {

/// The runtime's integer convolutions take so many input channels at a time on x86
/// (MlasConvSym), and unfold the whole picture where they do not come out even.
inline constexpr std::int64_t kConvolutionChannels = 4;
/// Whether pad_thin_inputs() makes a model faster on the processor that this runs on.
#if defined(__x86_64__)
inline constexpr bool kPadsThinInputs = true;
#else
inline constexpr bool kPadsThinInputs = false;
#endif

/// Of a model that quantize_static() made in QDQ form with uint8 activations: where an input with
/// one or three channels goes into nothing but quantised convolutions, a Pad adds channels that
/// stand for zero, up to a multiple of kConvolutionChannels, and the weights get zeros for them.
/// The model computes the same. Returns how many inputs were padded; none below operator set 13,
/// whose Pad is the first to take integers everywhere.
std::size_t pad_thin_inputs(graph::Model& model);

}  // namespace selvage::compress
