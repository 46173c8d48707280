#include "graph/tensor_file.h"

#include <algorithm>

#include <selvage/onnx.pb.h>

#include "base/exception.h"
#include "graph/model.h"
#include "graph/tensor.h"
#include "graph/wire.h"

namespace selvage::graph {

Result<NamedTensorFile> parse_tensor(std::span<const std::byte> bytes) {
  return catch_to_result(ErrorCode::kInternal, [&]() -> Result<NamedTensorFile> {
    SELVAGE_TRY(const auto decoded,
                scan_wire(bytes, *onnx::TensorProto::descriptor(), kMessageDepthMax));
    if (decoded > kDecodedBytesBase + kDecodedBytesPerByte * bytes.size())
      return fail(ErrorCode::kOutOfRange, "the tensor would take " + std::to_string(decoded) +
                                              " bytes of memory, more than an honest file");
    onnx::TensorProto proto;
    if (bytes.size() > kModelBytesMax ||
        !proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
      return fail(ErrorCode::kDataLoss, "not an ONNX tensor, or damaged");
    if (proto.data_location() == onnx::TensorProto::EXTERNAL)
      return fail(ErrorCode::kInvalidArgument, "the tensor's data lie in another file");
    SELVAGE_TRY(const auto data, TensorData::open(proto, {}));
    const auto& view = data.view();
    const Shape shape(view.shape.begin(), view.shape.end());
    if (view.type == DataType::kString) {
      SELVAGE_TRY(auto strings,
                  Tensor::from_strings(shape, {view.strings.begin(), view.strings.end()}));
      return NamedTensorFile{proto.name(), std::move(strings)};
    }
    SELVAGE_TRY(auto tensor, Tensor::create(view.type, shape, kModelBytesMax));
    std::ranges::copy(view.bytes, tensor.bytes().begin());
    return NamedTensorFile{proto.name(), std::move(tensor)};
  });
}

}  // namespace selvage::graph
