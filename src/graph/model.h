// An ONNX model in memory: what loads, edits and saves it keeps everything that the file held,
// fields that we do not know included, and every tensor's bytes as they were.
//
//   SELVAGE_TRY(auto model, graph::Model::load("model.onnx"));
//   SELVAGE_RETURN_IF_ERROR(graph::check(model));  // graph/check.h: before anything trusts it
//
// Files are read with the schema of ONNX 1.17 (IR version 10); what newer versions added travels
// along as unknown fields. Fields come out in the order of the schema's numbers, as every writer of
// the field puts them, so that what such a writer made is saved byte for byte as it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"

namespace selvage::onnx {
class ModelProto;  // <selvage/onnx.pb.h>, for those who edit
}

namespace selvage::graph {

/// Protobuf's own limit: one message is at most 2 GB less a byte. Larger models keep their tensors
/// in files beside the model (external data).
inline constexpr std::uint64_t kModelBytesMax = (std::uint64_t{1} << 31) - 1;
/// How deep messages may nest in a file. A subgraph costs three levels, so 33 subgraphs.
inline constexpr int kMessageDepthMax = 100;
/// Decoding multiplies hostile bytes: two of them can stand for a message of 200. A file may take
/// this much memory, and for each of its bytes kDecodedBytesPerByte more. Honest models of weights
/// need 1 for 1; of nodes alone about 5.
inline constexpr std::uint64_t kDecodedBytesBase = std::uint64_t{128} << 20;
inline constexpr std::uint64_t kDecodedBytesPerByte = 8;

struct LoadOptions {
  std::uint64_t bytes_max = kModelBytesMax;  ///< Of the file; external data do not count.
  /// Where parse() finds external data; load() takes the file's own folder.
  std::filesystem::path folder = {};
};

struct SaveOptions {
  /// Move initialisers of at least kExternalTensorBytesMin out of the model into a file beside it,
  /// even if the model would fit into one file.
  bool external_data = false;
};
/// Initialisers below this stay in the model: runtimes want small ones at hand to infer shapes.
inline constexpr std::uint64_t kExternalTensorBytesMin = 1024;

/// Safe for concurrent const use; confined to one thread while it is changed.
class Model {
 public:
  Model();  ///< An empty model: no graph, no opset. Fill proto().
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  Model(const Model&) = delete;  // Models are large: copy() says so.
  Model& operator=(const Model&) = delete;
  ~Model();

  /// Reads a file through a map: peak memory is the decoded model, plus pages that the kernel may
  /// drop. Tensors in external files stay there. kNotFound, kPermissionDenied, kIo as base/file.h;
  /// kDataLoss for what is not, or no longer, an ONNX file; kOutOfRange beyond a limit above.
  [[nodiscard]] static Result<Model> load(const std::filesystem::path& path,
                                          const LoadOptions& options = {});
  /// The same from memory. Without LoadOptions::folder external data cannot be found.
  [[nodiscard]] static Result<Model> parse(std::span<const std::byte> bytes,
                                           const LoadOptions& options = {});

  /// The generated class, for reading and editing. Sources that use it include <selvage/onnx.pb.h>.
  [[nodiscard]] const onnx::ModelProto& proto() const { return *proto_; }
  [[nodiscard]] onnx::ModelProto& proto() { return *proto_; }
  /// Where external data lie: the folder of the file that was loaded or last saved. Empty for none.
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

  [[nodiscard]] Model copy() const;

  /// Reads external data into the model, so that its bytes are all of it and a runtime needs no
  /// folder. They stay where they are if the whole would exceed kModelBytesMax. save() then refuses
  /// to write over the files they lay in. Errors as TensorData::open().
  [[nodiscard]] Result<void> embed();

  /// kOutOfRange above kModelBytesMax: save() can still write such a model.
  [[nodiscard]] Result<std::vector<std::byte>> serialise() const;

  /// Writes the model so that `path` holds the old content or the new one, never a part.
  ///
  /// Tensors go to `<path>.<digest>.data` beside it if the model would not fit into one file, if
  /// SaveOptions asks for it, or if some already are external and `path` lies in another folder.
  /// That file is complete before the model that names it appears, and its name changes with its
  /// content (the digest's first 16 digits), so that an interrupted save leaves the old pair
  /// intact. The model in memory is the same afterwards, except for folder(). kInvalidArgument
  /// for a file that embed() has read; kIo, kPermissionDenied, kResourceExhausted (disk full);
  /// kOutOfRange if it does not fit into one file even without them.
  [[nodiscard]] Result<void> save(const std::filesystem::path& path,
                                  const SaveOptions& options = {});

 private:
  std::unique_ptr<onnx::ModelProto> proto_;
  std::filesystem::path folder_;
  std::vector<std::filesystem::path> embedded_;  // Files whose tensors embed() has read.
};

}  // namespace selvage::graph
