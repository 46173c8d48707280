#include "graph/sparsity.h"

#include <cstring>

#include <selvage/onnx.pb.h>

#include "graph/tensor.h"
#include "graph/values.h"
#include "graph/walk.h"

namespace selvage::graph {
namespace {

/// Elements that are +0 or -0: no bit but the sign is set.
template <typename Bits>
std::uint64_t count_zeros(std::span<const std::byte> bytes) {
  std::uint64_t zeros = 0;
  for (std::size_t i = 0; i + sizeof(Bits) <= bytes.size(); i += sizeof(Bits)) {
    Bits bits;
    std::memcpy(&bits, bytes.data() + i, sizeof bits);
    zeros += static_cast<Bits>(bits << 1) == 0 ? 1u : 0u;
  }
  return zeros;
}

}  // namespace

Result<std::vector<TensorSparsity>> measure_sparsity(const Model& model) {
  std::vector<TensorSparsity> found;
  Result<void> result;
  auto visit = [&](const onnx::GraphProto& graph) {
    for (const auto& tensor : graph.initializer()) {
      if (!result || tensor.dims_size() < 2 || !is_float(type_of(tensor))) continue;
      const auto data = TensorData::open(tensor, model.folder());
      if (!data) {
        result = std::unexpected(data.error());
        continue;
      }
      const auto bytes = data->view().bytes;
      const auto width = bits_of_stored(tensor) / 8;
      found.push_back({.name = tensor.name(),
                       .elements = bytes.size() / width,
                       .zeros = width == 2   ? count_zeros<std::uint16_t>(bytes)
                                : width == 4 ? count_zeros<std::uint32_t>(bytes)
                                             : count_zeros<std::uint64_t>(bytes)});
    }
  };
  for_each_graph(model.proto().graph(), visit);
  SELVAGE_RETURN_IF_ERROR(result);
  return found;
}

}  // namespace selvage::graph
