// What Session and Binding share behind their interfaces. Internal to src/infer.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "infer/custom_operator_ort.h"
#include "infer/ort.h"
#include "infer/session.h"

namespace selvage::infer {

struct Session::State {
  SessionOptions options;
  bool from_cache = false;
  const OrtMemoryInfo* memory = nullptr;      ///< The runtime's.
  std::unique_ptr<OperatorDomain> operators;  ///< Before the session, which uses it to its end.
  ort::Handle<OrtSession> session;
  std::vector<ValueInfo> inputs, outputs;
  std::vector<const char*> input_names, output_names;  ///< Into the ValueInfos.
  /// Outputs that are an input or there twice: the runtime leaves memory that is prepared for them
  /// as it is.
  std::vector<bool> output_is_alias;
};

/// Conversions between our values and the runtime's (value.cc). Tensors of fixed-width types share
/// memory with the OrtValue; `value` must outlive it. Strings are copied.
[[nodiscard]] Result<ort::Handle<OrtValue>> to_ort(const TensorView& tensor,
                                                   const OrtMemoryInfo* memory);
[[nodiscard]] Result<ort::Handle<OrtValue>> to_ort(const Value& value, const OrtMemoryInfo* memory);
[[nodiscard]] Result<Value> from_ort(const OrtValue* value);
[[nodiscard]] Result<void> fill_strings(OrtValue* tensor, std::span<const std::string> values);

/// "input 'x' takes float32 [1,3,?,?], not ...": kInvalidArgument unless `shape` and `type` fit.
[[nodiscard]] Result<void> check_fits(const ValueInfo& declared, DataType type,
                                      std::span<const std::int64_t> shape);

}  // namespace selvage::infer
