#include "infer/preprocess.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "infer/elements.h"

namespace selvage::infer {
namespace {

std::unexpected<Error> invalid(const std::string& problem) {
  return fail(ErrorCode::kInvalidArgument, problem);
}

Result<media::TensorElement> element_for(const ValueInfo& declared) {
  switch (declared.type) {
    case DataType::kFloat32: return media::TensorElement::kFloat32;
    case DataType::kFloat16: return media::TensorElement::kFloat16;
    case DataType::kUint8:
    case DataType::kInt32: return media::TensorElement::kUint8;  // int32 is widened afterwards.
    default:
      return fail(ErrorCode::kUnimplemented,
                  "input '" + declared.name + "' takes " + std::string(to_string(declared.type)) +
                      " elements; pictures become float32, float16, uint8 or int32");
  }
}

/// Where channels, height and width stand among the dimensions.
struct Axes {
  std::size_t channels, height, width;
};

Axes axes_of(media::Layout layout, std::size_t rank) {
  return layout == media::Layout::kNchw ? Axes{rank - 3, rank - 2, rank - 1}
                                        : Axes{rank - 1, rank - 3, rank - 2};
}

Result<void> choose_layout(const ImageInput& card, const ValueInfo& declared,
                           media::TransformOptions& options) {
  const auto& shape = declared.shape;
  const auto rank = shape.size();
  if (rank != 3 && rank != 4)
    return invalid("input '" + declared.name + "' of shape " + to_string(shape) +
                   " does not look like an image: [N,C,H,W], [N,H,W,C] or without N");
  const auto has = [&](media::Layout layout, std::int64_t channels) {
    const auto declared_channels = shape[axes_of(layout, rank).channels];
    return (!card.layout || *card.layout == layout) && declared_channels == channels;
  };
  const auto choose = [&](auto has_channels) {
    for (const auto layout : {media::Layout::kNchw, media::Layout::kNhwc})
      if (has_channels(layout)) {
        options.layout = layout;
        return true;
      }
    return false;
  };
  const int more = card.fourth_channel ? 1 : 0;
  if (choose([&](auto layout) { return has(layout, options.channels() + more); })) return {};
  // A card that says nothing about colours, and a model that has none.
  if (options.colour == media::ColourOrder::kRgb && more == 0 &&
      choose([&](auto layout) { return has(layout, 1); })) {
    options.colour = media::ColourOrder::kGray;
    return {};
  }
  if (choose([&](auto layout) { return has(layout, -1); })) return {};
  return invalid("input '" + declared.name + "' of shape " + to_string(shape) +
                 " does not take the card's " + std::to_string(options.channels() + more) +
                 " channels");
}

/// A side that is fixed by the card, the model or both; 0 = open.
Result<int> fixed_side(std::optional<int> card, std::int64_t declared, std::string_view what) {
  if (declared == 0 || declared > kImageSideMax)
    return invalid("the model's image " + std::string(what) + " of " + std::to_string(declared) +
                   " is not within 1 to " + std::to_string(kImageSideMax));
  if (card && declared > 0 && *card != declared)
    return invalid("the card's " + std::string(what) + " is " + std::to_string(*card) +
                   ", the model's " + std::to_string(declared));
  return card ? *card : std::max(0, static_cast<int>(declared));
}

int rounded_up(double side, int multiple, int least, int most) {
  const double wanted = std::clamp<double>(std::isfinite(side) ? side : least, least, most);
  const int up = static_cast<int>(std::ceil(wanted / multiple)) * multiple;
  return std::min(up, kImageSideMax);
}

}  // namespace

Result<Shape> shape_holding(const ValueInfo& declared, std::int64_t elements) {
  Shape shape = smallest_shape(declared);
  const auto fixed = element_count(shape);
  const auto open = std::ranges::find(declared.shape.rbegin(), declared.shape.rend(), -1);
  const bool has_open = open != declared.shape.rend();
  if (!fixed || *fixed < 1 || (has_open ? elements % *fixed != 0 : elements != *fixed) ||
      elements < 1)
    return invalid("input '" + declared.name + "' of shape " + to_string(declared.shape) +
                   " does not hold " + std::to_string(elements) + " values");
  if (has_open)
    shape[static_cast<std::size_t>(declared.shape.rend() - open) - 1] = elements / *fixed;
  return shape;
}

Shape smallest_shape(const ValueInfo& declared) {
  Shape shape = declared.shape;
  std::ranges::replace_if(shape, [](std::int64_t size) { return size < 0; }, 1);
  return shape;
}

Result<ImagePreprocessor> ImagePreprocessor::create(const ImageInput& card,
                                                    const ValueInfo& declared) {
  auto options = card.transform;
  SELVAGE_TRY(options.element, element_for(declared));
  SELVAGE_RETURN_IF_ERROR(choose_layout(card, declared, options));
  if (card.fourth_channel && (declared.type == DataType::kInt32 || options.channels() != 3))
    return fail(ErrorCode::kUnimplemented,
                "fourth_channel needs three colours and an input that is not int32");
  SELVAGE_TRY(auto transform, media::Transform::create(options));

  ImagePreprocessor image(card, declared.type, std::move(transform));
  const auto axes = axes_of(options.layout, declared.shape.size());
  SELVAGE_TRY(image.width_, fixed_side(card.width, declared.shape[axes.width], "width"));
  SELVAGE_TRY(image.height_, fixed_side(card.height, declared.shape[axes.height], "height"));
  image.has_batch_ = declared.shape.size() == 4;
  if (image.has_batch_ && declared.shape[0] != 1 && declared.shape[0] != -1)
    return fail(ErrorCode::kUnimplemented, "the model takes batches of exactly " +
                                               std::to_string(declared.shape[0]) + " pictures");
  if (card.fourth_channel) {
    const double value = static_cast<double>(*card.fourth_channel);
    image.fourth_channel_bytes_ = media::element_bytes(options.element);
    SELVAGE_RETURN_IF_ERROR(
        write_elements({&value, 1}, declared.type,
                       std::span(image.fourth_channel_).first(image.fourth_channel_bytes_)));
  }
  return image;
}

TensorSize ImagePreprocessor::size_for(double picture_width, double picture_height) const {
  const int multiple = card_.multiple_of;
  if (size_is_fixed()) return {width_, height_};
  const double aspect = picture_width / picture_height;
  if (height_ > 0)
    return {rounded_up(height_ * aspect, multiple, card_.min_width, card_.max_width), height_};
  if (width_ > 0) return {width_, rounded_up(width_ / aspect, multiple, 1, kImageSideMax)};
  const double scale = std::min(1.0, card_.max_side / std::max(picture_width, picture_height));
  const auto side = [&](double wanted) {
    const double steps = std::max(1.0, std::round(std::floor(wanted * scale) / multiple));
    return std::isfinite(steps)
               ? static_cast<int>(std::min<double>(steps * multiple, kImageSideMax))
               : multiple;
  };
  return {side(picture_width), side(picture_height)};
}

TensorSize ImagePreprocessor::usual_size() const {
  if (height_ > 0) return size_for(card_.min_width, height_);
  if (width_ > 0) return size_for(width_, width_);
  constexpr int kWarmSide = 320;  // Enough to touch every weight.
  return size_for(std::min(card_.max_side, kWarmSide), std::min(card_.max_side, kWarmSide));
}

Shape ImagePreprocessor::shape_for(TensorSize size) const {
  const auto& options = transform_.options();
  const std::int64_t channels = options.channels() + (card_.fourth_channel ? 1 : 0);
  Shape shape = options.layout == media::Layout::kNchw
                    ? Shape{1, channels, size.height, size.width}
                    : Shape{1, size.height, size.width, channels};
  if (!has_batch_) shape.erase(shape.begin());
  return shape;
}

/// The transform writes three channels of its own element type. Where the tensor is larger, they go
/// to its end, from where finish() spreads them: no second buffer is needed.
std::span<std::byte> ImagePreprocessor::transformed_part(std::span<std::byte> tensor) const {
  if (type_ == DataType::kInt32) return tensor.last(tensor.size() / 4);
  if (fourth_channel_bytes_ == 0) return tensor;
  const auto three_quarters = tensor.size() / 4 * 3;
  return transform_.options().layout == media::Layout::kNchw ? tensor.first(three_quarters)
                                                             : tensor.last(three_quarters);
}

void ImagePreprocessor::finish(std::span<std::byte> tensor) const {
  if (type_ == DataType::kInt32) {
    const auto* from = reinterpret_cast<const std::uint8_t*>(transformed_part(tensor).data());
    auto* to = reinterpret_cast<std::int32_t*>(tensor.data());
    // What is written never reaches what is still to be read: 4 (i + 1) <= 3 n + (i + 1) for i < n.
    for (std::size_t i = 0; i < tensor.size() / 4; ++i) {
      const std::int32_t value = from[i];
      to[i] = value;
    }
  }
  const auto bytes = fourth_channel_bytes_;
  if (bytes == 0) return;
  if (transform_.options().layout == media::Layout::kNchw) {
    for (auto at = tensor.size() / 4 * 3; at < tensor.size(); at += bytes)
      std::memcpy(&tensor[at], fourth_channel_.data(), bytes);
    return;
  }
  const std::byte* from = transformed_part(tensor).data();
  for (std::size_t at = 0; at < tensor.size(); at += 4 * bytes, from += 3 * bytes) {
    std::memmove(&tensor[at], from, 3 * bytes);
    std::memcpy(&tensor[at + 3 * bytes], fourth_channel_.data(), bytes);
  }
}

Result<Frame> ImagePreprocessor::fill(const media::PictureView& picture, TensorSize size,
                                      std::span<std::byte> tensor) {
  SELVAGE_TRY(const auto map,
              transform_.apply(picture, size.width, size.height, transformed_part(tensor)));
  finish(tensor);
  return Frame{.picture_width = picture.width,
               .picture_height = picture.height,
               .tensor_width = size.width,
               .tensor_height = size.height,
               .to_picture = map};
}

Result<void> ImagePreprocessor::fill_crop(const media::PictureView& picture,
                                          const media::Quad& crop, TensorSize size,
                                          std::span<std::byte> tensor) {
  SELVAGE_RETURN_IF_ERROR(
      transform_.apply_quad(picture, crop, size.width, size.height, transformed_part(tensor)));
  finish(tensor);
  return {};
}

Result<TableEncoder> TableEncoder::create(const TableInput& card, const ValueInfo& declared) {
  TableEncoder table(card, declared.type);
  std::size_t elements = 0;
  for (const auto& column : card.columns) elements += column.one_hot ? column.categories.size() : 1;
  if (elements == 0) {
    for (std::size_t i = 1; i < declared.shape.size(); ++i)
      if (declared.shape[i] < 0)
        return invalid("input '" + declared.name + "' of shape " + to_string(declared.shape) +
                       " leaves open how many columns a row has: list them under input.columns");
    table.shape_ = smallest_shape(declared);
    const auto count = element_count(table.shape_);
    if (!count || *count < 1 || *count > kWindowSamplesMax)
      return invalid("input '" + declared.name + "' of shape " + to_string(declared.shape) +
                     " does not hold a table's row");
    elements = static_cast<std::size_t>(*count);
  } else {
    SELVAGE_TRY(table.shape_, shape_holding(declared, static_cast<std::int64_t>(elements)));
  }
  table.encoded_.resize(elements);
  return table;
}

Result<void> TableEncoder::fill(std::span<const double> values, std::span<std::byte> tensor) {
  const auto wanted = card_.columns.empty() ? encoded_.size() : card_.columns.size();
  if (values.size() != wanted)
    return invalid("the row has " + std::to_string(values.size()) + " values, the model takes " +
                   std::to_string(wanted));
  if (card_.columns.empty()) return write_elements(values, type_, tensor);
  auto to = encoded_.begin();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto& column = card_.columns[i];
    const double value = values[i];
    if (column.categories.empty()) {
      *to++ = (value - column.mean) / column.deviation;
      continue;
    }
    const auto count = column.categories.size();
    if (!(value >= 0 && value < static_cast<double>(count) && value == std::floor(value)))
      return invalid("column '" + column.name + "': " + std::to_string(value) +
                     " is not the index of one of its " + std::to_string(count) + " categories");
    if (!column.one_hot) {
      *to++ = (value - column.mean) / column.deviation;
      continue;
    }
    std::fill_n(to, count, 0.0);
    to[static_cast<std::ptrdiff_t>(value)] = 1;
    to += static_cast<std::ptrdiff_t>(count);
  }
  return write_elements(encoded_, type_, tensor);
}

Result<double> parse_cell(const Column& column, std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  if (!column.categories.empty()) {
    const auto found = std::ranges::find(column.categories, text);
    if (found != column.categories.end())
      return static_cast<double>(found - column.categories.begin());
    std::string known;
    for (const auto& category : column.categories) known += (known.empty() ? "" : ", ") + category;
    return invalid("column '" + column.name + "': '" + std::string(text) +
                   "' is none of: " + known);
  }
  if (text.empty()) return std::numeric_limits<double>::quiet_NaN();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return invalid("column '" + column.name + "': '" + std::string(text) + "' is not a number");
  return value;
}

}  // namespace selvage::infer
