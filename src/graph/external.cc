#include "graph/external.h"

#include <algorithm>
#include <array>
#include <string>

#include <selvage/onnx.pb.h>

#include "base/file.h"
#include "crypto/digest.h"
#include "graph/model.h"
#include "graph/tensor.h"
#include "graph/walk.h"

namespace selvage::graph {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kDigestDigits = 16;

void add_entry(onnx::TensorProto& tensor, std::string key, std::string value) {
  auto& entry = *tensor.add_external_data();
  entry.set_key(std::move(key));
  entry.set_value(std::move(value));
}

/// `tensor` without its data.
onnx::TensorProto without_data(const onnx::TensorProto& tensor) {
  onnx::TensorProto bare;
  *bare.mutable_dims() = tensor.dims();
  bare.set_data_type(tensor.data_type());
  if (tensor.has_name()) bare.set_name(tensor.name());
  if (tensor.has_doc_string()) bare.set_doc_string(tensor.doc_string());
  *bare.mutable_metadata_props() = tensor.metadata_props();
  bare.GetReflection()->MutableUnknownFields(&bare)->MergeFrom(
      tensor.GetReflection()->GetUnknownFields(tensor));
  return bare;
}

/// The file beside the model, as it grows.
struct DataFile {
  AtomicFile file;
  crypto::Sha256 hash;
  std::uint64_t size = 0;

  Result<void> append(std::span<const std::byte> bytes) {
    hash.update(bytes);
    size += bytes.size();
    return file.append(bytes);
  }
  Result<void> align() {
    static constexpr std::array<std::byte, kExternalAlignment> kZeros{};
    return append(std::span(kZeros).first((kExternalAlignment - size % kExternalAlignment) %
                                          kExternalAlignment));
  }
};

/// The tensors to move. for_each_tensor() gives const references into a model that is not const.
std::vector<onnx::TensorProto*> select(onnx::ModelProto& model, MovedTensors::Which which) {
  std::vector<onnx::TensorProto*> selected;
  if (which.external) {
    for_each_tensor(model, [&](const onnx::TensorProto& tensor) {
      if (tensor.data_location() == onnx::TensorProto::EXTERNAL)
        selected.push_back(const_cast<onnx::TensorProto*>(&tensor));
    });
  }
  if (which.stored) {
    auto visit = [&](const onnx::GraphProto& graph) {
      for (const auto& tensor : graph.initializer()) {
        if (tensor.data_location() != onnx::TensorProto::EXTERNAL &&
            tensor.data_type() != onnx::TensorProto::STRING &&
            tensor.ByteSizeLong() >= kExternalTensorBytesMin)
          selected.push_back(const_cast<onnx::TensorProto*>(&tensor));
      }
    };
    for_each_graph(model.graph(), visit);
  }
  return selected;
}

}  // namespace

struct MovedTensors::Entry {
  onnx::TensorProto* tensor;
  onnx::TensorProto original;  ///< What `tensor` had.
};

MovedTensors::MovedTensors(std::vector<Entry> entries) : entries_(std::move(entries)) {}
MovedTensors::MovedTensors(MovedTensors&&) noexcept = default;

MovedTensors::~MovedTensors() {
  for (auto& entry : entries_) entry.tensor->Swap(&entry.original);
}

Result<std::vector<fs::path>> embed_tensors(onnx::ModelProto& model, const fs::path& from,
                                            std::uint64_t bytes_max) {
  const auto selected = select(model, {.stored = false, .external = true});
  std::vector<fs::path> files;
  std::uint64_t bytes = selected.empty() ? 0 : model.ByteSizeLong();
  for (const auto* tensor : selected) {
    SELVAGE_TRY(auto range, resolve_external(*tensor, from));
    bytes += range.length;
    if (bytes > bytes_max) return std::vector<fs::path>();
    if (std::ranges::find(files, range.path) == files.end()) files.push_back(std::move(range.path));
  }
  for (auto* tensor : selected) {
    SELVAGE_TRY(const auto content, TensorData::open(*tensor, from));
    const auto raw = content.view().bytes;
    auto whole = without_data(*tensor);
    whole.set_raw_data(raw.data(), raw.size());
    tensor->Swap(&whole);
  }
  return files;
}

Result<MovedTensors> MovedTensors::write(onnx::ModelProto& model, const fs::path& from,
                                         const fs::path& model_path, Which which) {
  const auto selected = select(model, which);
  if (selected.empty()) return MovedTensors({});
  SELVAGE_TRY(AtomicFile file, AtomicFile::create(model_path));
  std::vector<Entry> entries;
  DataFile data{.file = std::move(file), .hash = {}, .size = 0};
  for (auto* tensor : selected) {
    SELVAGE_RETURN_IF_ERROR(data.align());
    SELVAGE_TRY(const auto content, TensorData::open(*tensor, from));
    auto bare = without_data(*tensor);
    bare.set_data_location(onnx::TensorProto::EXTERNAL);
    add_entry(bare, "location", "");
    add_entry(bare, "offset", std::to_string(data.size));
    add_entry(bare, "length", std::to_string(content.view().bytes.size()));
    SELVAGE_RETURN_IF_ERROR(data.append(content.view().bytes));
    entries.push_back({tensor, std::move(bare)});
  }
  const auto name = model_path.filename().string() + "." +
                    data.hash.finish().hex().substr(0, kDigestDigits) + ".data";
  SELVAGE_RETURN_IF_ERROR(data.file.commit(model_path.parent_path() / name));
  for (auto& entry : entries) {
    entry.original.mutable_external_data(0)->set_value(name);
    entry.tensor->Swap(&entry.original);
  }
  return MovedTensors(std::move(entries));
}

}  // namespace selvage::graph
