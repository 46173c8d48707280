// The geometry of a quadrilateral in a picture. Private to this folder.
#pragma once

#include "media/picture.h"
#include "media/transform.h"

namespace selvage::media {

/// kInvalidArgument unless convex, with an area, and within kCoordinateMax of the origin.
[[nodiscard]] Result<void> check_quad(const Quad& quad);

/// The pixels that a quad may read, inside the picture. Never empty.
[[nodiscard]] Rect quad_bounds(const Quad& quad, const PictureView& picture);

/// The projective map from the unit square to a quad: P. Heckbert, "Fundamentals of Texture Mapping
/// and Image Warping" (1989), section 2.2.3. x = (a u + b v + c) / (g u + h v + 1), y alike.
struct Homography {
  double a, b, c, d, e, f, g, h;

  /// Where (u, v) of the unit square lies.
  [[nodiscard]] Point operator()(double u, double v) const;
};

/// Of a quad that check_quad accepts.
[[nodiscard]] Homography homography_of(const Quad& quad);

}  // namespace selvage::media
