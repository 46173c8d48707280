#include "serve/wire_type.h"

#include <array>

namespace selvage::serve {
namespace {

struct Row {
  DataType type;
  std::string_view wire;
};

constexpr std::array<Row, 14> kRows = {{
    {DataType::kFloat32, "FP32"},
    {DataType::kUint8, "UINT8"},
    {DataType::kInt64, "INT64"},
    {DataType::kInt32, "INT32"},
    {DataType::kString, "BYTES"},
    {DataType::kBool, "BOOL"},
    {DataType::kFloat16, "FP16"},
    {DataType::kFloat64, "FP64"},
    {DataType::kInt8, "INT8"},
    {DataType::kInt16, "INT16"},
    {DataType::kUint16, "UINT16"},
    {DataType::kUint32, "UINT32"},
    {DataType::kUint64, "UINT64"},
    {DataType::kBfloat16, "BF16"},
}};

const Row* find(DataType type) {
  for (const Row& row : kRows)
    if (row.type == type) return &row;
  return nullptr;
}

}  // namespace

std::string_view wire_name(DataType type) {
  const Row* row = find(type);
  return row ? row->wire : std::string_view();
}

std::optional<DataType> data_type_of_wire(std::string_view name) {
  for (const Row& row : kRows)
    if (row.wire == name) return row.type;
  return std::nullopt;
}

}  // namespace selvage::serve
