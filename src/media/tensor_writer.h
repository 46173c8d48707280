// Rows of samples into a tensor: normalisation, colour order, layout and element type, and the
// padding around the picture. Private to this folder.
#pragma once

#include <cstddef>
#include <vector>

#include "media/transform.h"
#include "media/transform_axis.h"
#include "media/transform_kernels.h"

namespace selvage::media {

class TensorWriter {
 public:
  explicit TensorWriter(const TransformOptions& options) : options_(options) {}

  /// The tensor to write from now on, of a size that fits the options.
  void open(std::byte* data, int width, int height);
  /// Samples of a row from element x on, in the channel order of `format`, which is interleaved.
  /// The samples are overwritten.
  void write(PixelFormat format, const SampleRow& samples, int y, int x, int count);
  void write_padding(const Placements& picture);

 private:
  void write_channels(const SampleRow& by_channel, std::size_t y, std::size_t x, std::size_t count);

  TransformOptions options_;
  std::byte* data_ = nullptr;
  std::size_t width_ = 0;
  std::size_t height_ = 0;
  std::vector<float> padding_;  // A row of pad_value.
};

}  // namespace selvage::media
