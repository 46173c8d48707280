// What a model found, in the words of the person who asked: boxes in the picture's pixels, text,
// labels. Made from raw output tensors by the card's `output` (model_card.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/tensor.h"

namespace selvage::infer {

struct Point {
  float x = 0;  ///< Pixels of the original picture, from its top left corner.
  float y = 0;
};

struct Class {
  std::int32_t index = 0;
  float score = 0;    ///< After the card's activation; in [0, 1] for softmax and sigmoid.
  std::string label;  ///< "" where the card has no labels.
};

/// The best classes, best first.
struct Classification {
  std::vector<Class> classes;
};

/// What a later step of an ensemble found inside a box: a class, or a text as `label`.
struct Detail {
  std::string step;
  Class found;
};

/// An axis-aligned box with an optional set of keypoints.
struct Box {
  float left = 0, top = 0, right = 0, bottom = 0;  ///< Pixels of the original picture.
  Class best;
  std::vector<Point> keypoints;
  std::vector<Detail> details;
};
struct Boxes {
  std::vector<Box> boxes;  ///< After non-maximum suppression, best first.
};

/// A quadrilateral in which text stands, clockwise from its top left corner, and the text once a
/// recogniser has read it.
struct TextRegion {
  std::array<Point, 4> corners;
  float score = 0;       ///< Of the detector.
  std::string text;      ///< UTF-8.
  float confidence = 0;  ///< Of the recogniser: mean probability of the characters kept.
};
struct TextRegions {
  std::vector<TextRegion> regions;  ///< In reading order.
};
struct Text {
  std::string text;
  float confidence = 0;
};

/// A class per pixel of the original picture.
struct Segmentation {
  std::int32_t width = 0, height = 0;
  std::vector<std::uint8_t> classes;  ///< width * height, row by row.
  std::vector<std::string> labels;
};

struct Anomaly {
  float score = 0;
  float threshold = 0;
  bool anomalous = false;
};

struct Embedding {
  std::vector<float> values;
};

struct Keypoint {
  Point point;
  float score = 0;
  std::string label;
};
struct Keypoints {
  std::vector<Keypoint> points;
};

struct Line {
  Point from, to;
  float score = 0;
};
struct Lines {
  std::vector<Line> lines;
};

struct Regression {
  std::vector<float> values;
  std::vector<std::string> names;  ///< As many as values, or none.
};

/// Where in a sound something (speech, an alarm) is heard.
struct Activity {
  struct Segment {
    double start_s = 0, end_s = 0;
    float score = 0;  ///< Mean over the segment's frames.
  };
  double frame_s = 0;         ///< Length of a frame.
  std::vector<float> scores;  ///< One per frame.
  std::vector<Segment> segments;
};

/// Without a card: every output by name.
struct RawTensors {
  std::vector<std::string> names;
  std::vector<Tensor> tensors;
};

using Prediction = std::variant<Classification, Boxes, TextRegions, Text, Segmentation, Anomaly,
                                Embedding, Keypoints, Lines, Regression, Activity, RawTensors>;

}  // namespace selvage::infer
