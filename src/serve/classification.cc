#include "serve/classification.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "infer/labels.h"
#include "serve/json_text.h"
#include "serve/wire_type.h"

namespace selvage::serve {
namespace {

// Triton prints values as C++ streams do, with %f; clients only ever parse them.
template <typename T>
std::string describe(T value, std::size_t index, const infer::Labels& labels) {
  std::string text;
  if constexpr (std::is_floating_point_v<T>) {
    text = std::to_string(value);
  } else {
    append_json_number(text, value);
  }
  text += ':' + std::to_string(index);
  const auto label = infer::label_of(labels, static_cast<std::int64_t>(index));
  return label.empty() ? text : text + ':' + label;
}

template <typename T>
bool better(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    if (std::isnan(a) || std::isnan(b)) return !std::isnan(a) && std::isnan(b);
  return a > b;
}

template <typename T>
Result<Tensor> classify_as(const TensorView& scores, std::uint32_t classes, BatchDimension batch,
                           const infer::Labels& labels) {
  const auto values = scores.as<T>();
  const bool batched = batch == BatchDimension::kFirst && !scores.shape.empty();
  const std::size_t rows = batched ? static_cast<std::size_t>(scores.shape[0]) : 1;
  const std::size_t columns = rows == 0 ? 0 : values.size() / rows;
  const std::size_t kept = std::min<std::size_t>(classes, columns);
  std::vector<std::string> texts;
  std::vector<std::size_t> order(columns);
  for (std::size_t row = 0; row < rows; ++row) {
    const auto of = values.subspan(row * columns, columns);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                      [of](std::size_t a, std::size_t b) {
                        return better(of[a], of[b]) || (!better(of[b], of[a]) && a < b);
                      });
    for (std::size_t i = 0; i < kept; ++i)
      texts.push_back(describe(of[order[i]], order[i], labels));
  }
  Shape shape;
  if (batched) shape.push_back(static_cast<std::int64_t>(rows));
  shape.push_back(static_cast<std::int64_t>(kept));
  return Tensor::from_strings(std::move(shape), std::move(texts));
}

}  // namespace

Result<Tensor> classify(const TensorView& scores, std::uint32_t classes, BatchDimension batch,
                        const infer::Labels& labels) {
  switch (scores.type) {
    case DataType::kFloat32: return classify_as<float>(scores, classes, batch, labels);
    case DataType::kFloat64: return classify_as<double>(scores, classes, batch, labels);
    case DataType::kInt8: return classify_as<std::int8_t>(scores, classes, batch, labels);
    case DataType::kInt16: return classify_as<std::int16_t>(scores, classes, batch, labels);
    case DataType::kInt32: return classify_as<std::int32_t>(scores, classes, batch, labels);
    case DataType::kInt64: return classify_as<std::int64_t>(scores, classes, batch, labels);
    case DataType::kUint8: return classify_as<std::uint8_t>(scores, classes, batch, labels);
    case DataType::kUint16: return classify_as<std::uint16_t>(scores, classes, batch, labels);
    case DataType::kUint32: return classify_as<std::uint32_t>(scores, classes, batch, labels);
    case DataType::kUint64: return classify_as<std::uint64_t>(scores, classes, batch, labels);
    default:
      return fail(ErrorCode::kInvalidArgument,
                  "classification of " + std::string(wire_name(scores.type)) + " is not possible");
  }
}

}  // namespace selvage::serve
