// A stored tensor as its elements, however the file keeps them: as raw bytes, in typed fields, or
// in a file beside the model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "base/tensor.h"

namespace selvage::onnx {
class TensorProto;
}

namespace selvage::graph {

/// The elements of one TensorProto, in base/tensor.h's layout. Copies nothing where the file
/// already has that layout (raw data, external data, and the typed fields of 32- and 64-bit types);
/// decodes otherwise. Points into the TensorProto, which must outlive it unchanged. Movable.
class TensorData {
 public:
  /// `folder` is where external data lie (Model::folder()). Errors name the tensor. kDataLoss if
  /// the bytes present are not those that type and dimensions ask for; kInvalidArgument for a type
  /// that we do not know or a location outside `folder`; kNotFound for a missing file.
  [[nodiscard]] static Result<TensorData> open(const onnx::TensorProto& tensor,
                                               const std::filesystem::path& folder);

  /// Valid as long as this object and the TensorProto. `bytes` may be unaligned for the element's
  /// type: copy before using as<T>() on anything but bytes.
  [[nodiscard]] const TensorView& view() const { return view_; }

 private:
  TensorView view_;
  std::vector<std::byte> decoded_;
  std::vector<std::string> strings_;
  std::optional<MappedFile> file_;
};

/// Where an external tensor's bytes lie.
struct ExternalRange {
  std::filesystem::path path;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

/// Resolves `external_data`: the location must be relative and lead, symbolic links resolved, to a
/// regular file inside `folder` that holds offset + length bytes. Errors as TensorData::open().
[[nodiscard]] Result<ExternalRange> resolve_external(const onnx::TensorProto& tensor,
                                                     const std::filesystem::path& folder);

/// Checks that type, dimensions and data of a tensor agree, without reading the data. `rank_max`
/// limits the dimensions. Errors as TensorData::open(), and kOutOfRange.
[[nodiscard]] Result<void> check_tensor(const onnx::TensorProto& tensor,
                                        const std::filesystem::path& folder, std::size_t rank_max);

}  // namespace selvage::graph
