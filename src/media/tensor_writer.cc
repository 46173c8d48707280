#include "media/tensor_writer.h"

namespace selvage::media {

void TensorWriter::open(std::byte* data, int width, int height) {
  data_ = data;
  width_ = static_cast<std::size_t>(width);
  height_ = static_cast<std::size_t>(height);
  padding_.resize(width_, options_.pad_value);
}

void TensorWriter::write(PixelFormat format, const SampleRow& samples, int y, int x, int count) {
  const auto write_as = [&](int first, int second, int third) {
    write_channels({{samples.channel[first], samples.channel[second], samples.channel[third]}},
                   static_cast<std::size_t>(y), static_cast<std::size_t>(x),
                   static_cast<std::size_t>(count));
  };
  if (format == PixelFormat::kGray8) return write_as(0, 0, 0);
  const bool blue_first = format == PixelFormat::kBgr24;
  if (options_.colour == ColourOrder::kGray) {
    kernels().luma(samples.channel[blue_first ? 2 : 0], samples.channel[1],
                   samples.channel[blue_first ? 0 : 2], samples.channel[0],
                   static_cast<std::size_t>(count));
    return write_as(0, 0, 0);
  }
  if (blue_first == (options_.colour == ColourOrder::kBgr)) return write_as(0, 1, 2);
  write_as(2, 1, 0);
}

void TensorWriter::write_channels(const SampleRow& by_channel, std::size_t y, std::size_t x,
                                  std::size_t count) {
  const Kernels& run = kernels();
  const auto channels = static_cast<std::size_t>(options_.channels());
  const bool planar = options_.layout == Layout::kNchw;
  const std::size_t stride = planar ? 1 : channels;
  for (std::size_t c = 0; c < channels; ++c) {
    const float scale = options_.value_scale / options_.deviation[c];
    const float offset = -options_.mean[c] / options_.deviation[c];
    const std::size_t element =
        planar ? (c * height_ + y) * width_ + x : (y * width_ + x) * channels + c;
    void* const to = data_ + element * element_bytes(options_.element);
    const float* const from = by_channel.channel[c];
    switch (options_.element) {
      case TensorElement::kFloat32:
        run.finish_float32(from, count, scale, offset, static_cast<float*>(to), stride);
        break;
      case TensorElement::kFloat16:
        run.finish_float16(from, count, scale, offset, static_cast<std::uint16_t*>(to), stride);
        break;
      case TensorElement::kUint8:
        run.finish_uint8(from, count, scale, offset, static_cast<std::uint8_t*>(to), stride);
        break;
    }
  }
}

void TensorWriter::write_padding(const Placements& picture) {
  const auto begin_x = static_cast<std::size_t>(picture.x.begin);
  const auto end_x = begin_x + static_cast<std::size_t>(picture.x.count);
  const auto begin_y = static_cast<std::size_t>(picture.y.begin);
  const auto end_y = begin_y + static_cast<std::size_t>(picture.y.count);
  float* const pad = padding_.data();
  const SampleRow row{{pad, pad, pad}};
  for (std::size_t y = 0; y < height_; ++y) {
    if (y < begin_y || y >= end_y) {
      write_channels(row, y, 0, width_);
      continue;
    }
    if (begin_x > 0) write_channels(row, y, 0, begin_x);
    if (end_x < width_) write_channels(row, y, end_x, width_ - end_x);
  }
}

}  // namespace selvage::media
