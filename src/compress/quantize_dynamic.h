// Dynamic quantisation: weights become int8 in the file, activations are quantised as they come. No
// data is needed. For recurrent models and transformers; convolutions usually get slower.
#pragma once

#include "compress/quantize_static.h"

namespace selvage::compress {

struct DynamicOptions {
  DataType weights = DataType::kInt8;  ///< int8 or uint8.
  bool per_channel = false;
  std::optional<Width> width;  ///< As StaticOptions::width.
  NodeSelection selection;
};

/// MatMul, Gemm, LSTM, GRU, RNN, Attention (com.microsoft) and Gather. Conv only if the selection
/// names it: the runtime's ConvInteger is slower than float almost everywhere.
[[nodiscard]] std::vector<std::string> dynamic_types();

/// Quantises in place: MatMul and Gemm with constant weights become MatMulInteger behind
/// DynamicQuantizeLinear, LSTM becomes DynamicQuantizeLSTM, Attention QAttention, Gather reads an
/// integer table; the weights of GRU and RNN, which the runtime computes in float only, are int8 in
/// the file and real again when it is loaded. Errors and the report as quantize_static(), but what
/// an error leaves of the model is of no use: to keep it whole would take a copy of it.
[[nodiscard]] Result<QuantizationReport> quantize_dynamic(graph::Model& model,
                                                          const DynamicOptions& options = {});

}  // namespace selvage::compress
