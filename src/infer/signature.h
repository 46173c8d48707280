// What a served model takes and gives: the model's declaration and the configuration, checked
// against each other and made one. Internal to the serving core.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/model_config.h"
#include "infer/request.h"
#include "infer/session.h"

namespace selvage::infer {

/// Without max_batch_size in the configuration, the rows that one request may have.
inline constexpr std::int32_t kAutoRowsMax = 4'096;
/// Bytes of an initial state's or a warm-up input's file.
inline constexpr std::uint64_t kDataFileBytesMax = 256u << 20;

/// An input or output that clients see.
struct Port {
  std::string name;
  DataType type = DataType::kUndefined;
  Shape client;  ///< As clients send it; with batching the first dimension is -1.
  Shape model;   ///< As the model takes it: the same, or reshaped.
  bool reshaped = false;
  std::size_t index = 0;  ///< Among the session's inputs or outputs.
};

struct ControlPort {
  SequenceControl control;
  Shape model;
  std::size_t index = 0;
};

struct StatePort {
  std::string name;  ///< Of the input.
  std::size_t input = 0, output = 0;
  DataType type = DataType::kUndefined;
  Tensor initial;  ///< Of one sequence; with batching its first dimension is 1.
};

struct Signature {
  bool batching = false;      ///< The first dimension of every tensor is the batch.
  bool automatic = false;     ///< Nobody said so: the model only looks like it.
  std::int64_t rows_max = 1;  ///< Of one request.
  std::vector<Port> inputs, outputs;
  std::vector<ControlPort> controls;
  std::vector<StatePort> states;
};

/// Completes `config` from the model and returns what they agree on. Errors name the tensor, what
/// the configuration says and what the model says. `folder` holds initial_state/.
[[nodiscard]] Result<Signature> make_signature(ModelConfig& config,
                                               std::span<const ValueInfo> inputs,
                                               std::span<const ValueInfo> outputs,
                                               const std::filesystem::path& folder);

/// Checks a request's tensors and brings them into the order of the signature; its rows, 1 without
/// batching. kInvalidArgument names the tensor.
[[nodiscard]] Result<std::int64_t> accept(const Signature& signature, InferenceRequest& request);

/// A tensor of a file's raw content; strings as a length of 4 bytes, little-endian, and the bytes.
[[nodiscard]] Result<Tensor> read_tensor_file(const std::filesystem::path& path, DataType type,
                                              Shape shape);

}  // namespace selvage::infer
