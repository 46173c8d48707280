// From a picture to a model's input tensor in one pass over the pixels: crop, resize, letterbox,
// colour order, normalisation, layout and element type together. No intermediate picture is made.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "media/picture.h"

namespace selvage::media {

/// How pixels between samples are computed. Sample centres lie at half-integers: tensor x reads
/// picture x' = (x + 0.5) * scale - 0.5, and coordinates outside the region read its border.
enum class Filter : std::uint8_t {
  kNearest,    ///< Pillow's NEAREST.
  kBilinear,   ///< Four neighbours whatever the scale: OpenCV's INTER_LINEAR. Fast.
  kAntialias,  ///< A triangle as wide as the scale when shrinking: Pillow's BILINEAR. Sees all.
};

/// What happens when region and tensor differ in shape.
enum class Fit : std::uint8_t {
  kStretch,           ///< Each side is scaled by itself.
  kLetterbox,         ///< The whole region, shape kept, centred; the rest is `pad_value`.
  kLetterboxTopLeft,  ///< The same, at the tensor's top left corner.
  kCover,             ///< Shape kept, the tensor filled, what overhangs cut off evenly.
};

enum class ColourOrder : std::uint8_t { kRgb, kBgr, kGray };
enum class Layout : std::uint8_t { kNchw, kNhwc };
enum class TensorElement : std::uint8_t { kFloat32, kFloat16, kUint8 };

[[nodiscard]] std::size_t element_bytes(TensorElement element);

/// Each element of channel c is (v * value_scale - mean[c]) / deviation[c], where v is the
/// interpolated sample, 0 to 255. kUint8 rounds it to the nearest and saturates.
/// Channels are counted in the tensor's order: with kBgr, mean[0] belongs to blue.
struct TransformOptions {
  Filter filter = Filter::kBilinear;
  Fit fit = Fit::kStretch;
  float pad_value = 0;        ///< v of what a letterbox leaves free, in every channel.
  double cover_fraction = 1;  ///< kCover keeps this part of each side: 0.875 is the tutorials'
                              ///< "resize to 256, crop the centre 224". Above 0, at most 1.
  ColourOrder colour = ColourOrder::kRgb;  ///< Gray is 0.299 R + 0.587 G + 0.114 B.
  Layout layout = Layout::kNchw;
  TensorElement element = TensorElement::kFloat32;
  float value_scale = 1;
  std::array<float, 3> mean{0, 0, 0};
  std::array<float, 3> deviation{1, 1, 1};

  [[nodiscard]] int channels() const { return colour == ColourOrder::kGray ? 1 : 3; }
};

/// From tensor coordinates back to picture coordinates, both counted in pixels from the top left
/// corner of the top left pixel: picture = scale * tensor + offset.
struct CoordinateMap {
  double scale_x = 1;
  double scale_y = 1;
  double offset_x = 0;
  double offset_y = 0;

  [[nodiscard]] double x(double tensor_x) const { return scale_x * tensor_x + offset_x; }
  [[nodiscard]] double y(double tensor_y) const { return scale_y * tensor_y + offset_y; }
};

struct Point {
  double x = 0;
  double y = 0;
};

/// Four corners in picture coordinates, in the order in which they become the tensor's top left,
/// top right, bottom right and bottom left. Any convex quadrilateral: perspective is undone.
using Quad = std::array<Point, 4>;

/// The longer of the two opposite sides, each way: the shape that a quad's content has.
struct QuadSize {
  double width = 0;
  double height = 0;
};
[[nodiscard]] QuadSize size_of(const Quad& quad);

/// Writes tensors of one kind. Confined to one thread: it keeps its tables, so that calls that
/// repeat a geometry (picture size and format, region, tensor size) allocate nothing.
class Transform {
 public:
  /// kInvalidArgument when an option is not finite, a deviation is 0 or the fraction is out of
  /// range.
  [[nodiscard]] static Result<Transform> create(const TransformOptions& options);
  Transform(Transform&& other) noexcept;
  Transform& operator=(Transform&& other) noexcept;
  ~Transform();

  [[nodiscard]] const TransformOptions& options() const;

  /// Fills `tensor` (width x height x channels elements of the chosen type, aligned for it) from
  /// `region` of the picture. kInvalidArgument when the region is empty or leaves the picture, or
  /// the tensor's size or alignment does not fit; kOutOfRange above kSideMax.
  [[nodiscard]] Result<CoordinateMap> apply(const PictureView& picture, const Rect& region,
                                            int width, int height, std::span<std::byte> tensor);
  /// The whole picture.
  [[nodiscard]] Result<CoordinateMap> apply(const PictureView& picture, int width, int height,
                                            std::span<std::byte> tensor);

  /// The same from a quadrilateral, such as a line of text: corners outside the picture read its
  /// border. With kAntialias each element is the mean of a grid of samples as dense as the pixels.
  /// kInvalidArgument when the quad is not convex, not finite or has no area.
  [[nodiscard]] Result<void> apply_quad(const PictureView& picture, const Quad& quad, int width,
                                        int height, std::span<std::byte> tensor);

  static constexpr int kSideMax = 65'535;  ///< Of pictures and tensors.

 private:
  struct State;
  explicit Transform(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::media
