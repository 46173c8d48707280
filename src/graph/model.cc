#include "graph/model.h"

#include <string_view>

#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <selvage/onnx.pb.h>

#include "base/exception.h"
#include "base/file.h"
#include "graph/external.h"
#include "graph/wire.h"

namespace selvage::graph {
namespace {

namespace fs = std::filesystem;
using google::protobuf::io::CopyingOutputStream;

std::unexpected<Error> too_large(std::uint64_t bytes, std::uint64_t bytes_max) {
  return fail(ErrorCode::kOutOfRange,
              "a model of " + std::to_string(bytes) + " bytes is larger than the limit of " +
                  std::to_string(bytes_max) +
                  " bytes for one file: keep its tensors as external data beside it");
}

Result<void> check_wire(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (bytes.empty()) return fail(ErrorCode::kDataLoss, "the file is empty");
  if (text.starts_with("version https://git-lfs"))
    return fail(ErrorCode::kDataLoss,
                "this is a Git LFS pointer and not the model: run `git lfs pull`");
  auto decoded = scan_wire(bytes, *onnx::ModelProto::descriptor(), kMessageDepthMax);
  if (!decoded && decoded.error().code == ErrorCode::kDataLoss)
    return fail(ErrorCode::kDataLoss, "not an ONNX model, or damaged: " + decoded.error().message);
  if (!decoded) return std::unexpected(std::move(decoded).error());
  if (*decoded > kDecodedBytesBase + kDecodedBytesPerByte * bytes.size())
    return fail(ErrorCode::kOutOfRange,
                std::to_string(bytes.size()) + " bytes would take " + std::to_string(*decoded) +
                    " bytes of memory, more than an honest model of that size");
  return {};
}

/// Lets protobuf write into an AtomicFile, whose error it cannot carry.
class FileStream final : public CopyingOutputStream {
 public:
  explicit FileStream(AtomicFile& file) : file_(file) {}
  bool Write(const void* buffer, int size) override {
    result_ = file_.append(
        std::span(static_cast<const std::byte*>(buffer), static_cast<std::size_t>(size)));
    return result_.has_value();
  }
  [[nodiscard]] Result<void> result() const { return result_; }

 private:
  AtomicFile& file_;
  Result<void> result_;
};

Result<void> write_model(const onnx::ModelProto& proto, const fs::path& path) {
  static constexpr int kBufferBytes = 1 << 20;
  if (const auto size = proto.ByteSizeLong(); size > kModelBytesMax)
    return too_large(size, kModelBytesMax);
  SELVAGE_TRY(AtomicFile file, AtomicFile::create(path));
  FileStream stream(file);
  bool written = false;
  {
    google::protobuf::io::CopyingOutputStreamAdaptor adaptor(&stream, kBufferBytes);
    written = proto.SerializeToZeroCopyStream(&adaptor) && adaptor.Flush();
  }
  SELVAGE_RETURN_IF_ERROR(stream.result());
  if (!written) return fail(ErrorCode::kInternal, "protobuf could not write the model");
  return file.commit(path);
}

}  // namespace

Model::Model() : proto_(std::make_unique<onnx::ModelProto>()) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

Result<Model> Model::parse(std::span<const std::byte> bytes, const LoadOptions& options) {
  const auto bytes_max = std::min(options.bytes_max, kModelBytesMax);
  if (bytes.size() > bytes_max) return too_large(bytes.size(), bytes_max);
  SELVAGE_RETURN_IF_ERROR(check_wire(bytes));
  return catch_to_result(ErrorCode::kInternal, [&]() -> Result<Model> {
    Model model;
    model.folder_ = options.folder;
    // No arena: an edited model frees each tensor that it drops.
    if (!model.proto_->ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
      return fail(ErrorCode::kDataLoss, "not an ONNX model, or damaged");
    return model;
  });
}

Result<Model> Model::load(const fs::path& path, const LoadOptions& options) {
  SELVAGE_TRY(const auto file, MappedFile::open(path));
  auto model = parse(file.bytes(), options);
  if (!model) return std::unexpected(std::move(model).error().with_context(path.string()));
  model->folder_ = path.has_parent_path() ? path.parent_path() : fs::path(".");
  return model;
}

Model Model::copy() const {
  Model model;
  *model.proto_ = *proto_;
  model.folder_ = folder_;
  model.embedded_ = embedded_;
  return model;
}

Result<void> Model::embed() {
  SELVAGE_TRY(embedded_, embed_tensors(*proto_, folder_, kModelBytesMax));
  return {};
}

Result<std::vector<std::byte>> Model::serialise() const {
  const auto size = proto_->ByteSizeLong();
  if (size > kModelBytesMax) return too_large(size, kModelBytesMax);
  std::vector<std::byte> bytes(size);
  if (!proto_->SerializeToArray(bytes.data(), static_cast<int>(size)))
    return fail(ErrorCode::kInternal, "protobuf could not write the model");
  return bytes;
}

Result<void> Model::save(const fs::path& path, const SaveOptions& options) {
  const auto folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code error;
  for (const auto& file : embedded_)
    if (fs::equivalent(path, file, error))
      return fail(ErrorCode::kInvalidArgument, "'" + path.string() +
                                                   "' holds the weights of the model that was "
                                                   "read: name another file to write");
  const bool is_elsewhere = !folder_.empty() && !fs::equivalent(folder, folder_, error);
  const bool is_split = options.external_data || proto_->ByteSizeLong() > kModelBytesMax;
  // While this lives, the tensors that go beside the model are out of proto_.
  SELVAGE_TRY(
      const auto moved,
      MovedTensors::write(*proto_, folder_, path, {.stored = is_split, .external = is_elsewhere}));
  SELVAGE_RETURN_IF_ERROR(write_model(*proto_, path));
  return {};
}

}  // namespace selvage::graph
