// Tensors that move from a model into a file beside it. Internal to this folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/result.h"

namespace selvage::onnx {
class ModelProto;
class TensorProto;
}  // namespace selvage::onnx

namespace selvage::graph {

/// Each external tensor begins at a multiple of this, so that runtimes can map it.
inline constexpr std::uint64_t kExternalAlignment = 4096;

/// Tensors whose data lie in a file beside a model that is being saved. As long as this lives they
/// name that file; its end gives them back what they had. The model must outlive it unchanged.
class MovedTensors {
 public:
  struct Which {
    bool stored = false;    ///< Initialisers in the model of kExternalTensorBytesMin or more.
    bool external = false;  ///< Tensors that already are external, relative to `from`.
  };
  /// Writes the data to `<model_path>.<digest>.data`, or nothing if there are none.
  [[nodiscard]] static Result<MovedTensors> write(onnx::ModelProto& model,
                                                  const std::filesystem::path& from,
                                                  const std::filesystem::path& model_path,
                                                  Which which);
  MovedTensors(MovedTensors&&) noexcept;
  MovedTensors& operator=(MovedTensors&&) = delete;
  ~MovedTensors();

 private:
  struct Entry;
  explicit MovedTensors(std::vector<Entry> entries);
  std::vector<Entry> entries_;
};

/// Reads external tensors, relative to `from`, into the model; leaves all where they are if the
/// model would exceed `bytes_max`. Returns the files they lay in.
[[nodiscard]] Result<std::vector<std::filesystem::path>> embed_tensors(
    onnx::ModelProto& model, const std::filesystem::path& from, std::uint64_t bytes_max);

}  // namespace selvage::graph
