// How tensor coordinates lie in the picture that went in: what every decoder of places needs.
#pragma once

#include "infer/prediction.h"
#include "media/transform.h"

namespace selvage::infer {

/// Of one run. For inputs that are no pictures it stays as it is: places are then in tensor pixels.
struct Frame {
  int picture_width = 0, picture_height = 0;
  int tensor_width = 0, tensor_height = 0;
  media::CoordinateMap to_picture;

  [[nodiscard]] Point place(double tensor_x, double tensor_y) const {
    return {static_cast<float>(to_picture.x(tensor_x)), static_cast<float>(to_picture.y(tensor_y))};
  }
};

}  // namespace selvage::infer
