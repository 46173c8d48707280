#include "infer/text_regions.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "infer/elements.h"

namespace selvage::infer {
namespace {

float height_of(const TextRegion& region) {
  const auto& [top_left, top_right, bottom_right, bottom_left] = region.corners;
  return std::max(bottom_left.y - top_left.y, bottom_right.y - top_right.y);
}

/// How far a quadrilateral reaches within a row of pixels, half a pixel up and down from its
/// centre: the row's part of the filled shape and of its outline. left > right when it is not
/// there.
struct Reach {
  float left = std::numeric_limits<float>::infinity();
  float right = -std::numeric_limits<float>::infinity();
};

Reach reach_in_row(const std::array<Point, 4>& corners, int row) {
  const float top = static_cast<float>(row) - 0.5f, bottom = static_cast<float>(row) + 0.5f;
  Reach reach;
  for (std::size_t i = 0; i < corners.size(); ++i) {
    auto a = corners[i], b = corners[(i + 1) % corners.size()];
    if (b.y < a.y) std::swap(a, b);
    if (a.y > bottom || b.y < top) continue;
    const auto x_at = [&](float y) {
      return b.y > a.y ? a.x + (b.x - a.x) * (y - a.y) / (b.y - a.y) : a.x;
    };
    const float from = x_at(std::max(a.y, top));
    const float to = b.y > a.y ? x_at(std::min(b.y, bottom)) : b.x;
    reach.left = std::min({reach.left, from, to});
    reach.right = std::max({reach.right, from, to});
  }
  return reach;
}

}  // namespace

float mean_inside(std::span<const float> map, int width, int height, std::array<Point, 4> corners) {
  // The original fills a polygon of whole pixels.
  for (auto& corner : corners) corner = {std::floor(corner.x), std::floor(corner.y)};
  const auto [low, high] = std::ranges::minmax(corners, {}, &Point::y);
  const int first = std::clamp(static_cast<int>(low.y), 0, height - 1);
  const int last = std::clamp(static_cast<int>(high.y), 0, height - 1);
  double sum = 0;
  std::size_t count = 0;
  for (int y = first; y <= last; ++y) {
    const auto [left, right] = reach_in_row(corners, y);
    if (!(left <= right)) continue;
    const int begin = std::clamp(static_cast<int>(std::lround(left)), 0, width - 1);
    const int end = std::clamp(static_cast<int>(std::lround(right)), 0, width - 1);
    const float* row = map.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width);
    for (int x = begin; x <= end; ++x) sum += static_cast<double>(row[x]);
    count += static_cast<std::size_t>(end - begin + 1);
  }
  return count == 0 ? 0 : static_cast<float>(sum / static_cast<double>(count));
}

void sort_for_reading(std::vector<TextRegion>& regions) {
  const auto top = [](const TextRegion& region) { return region.corners[0].y; };
  const auto left = [](const TextRegion& region) { return region.corners[0].x; };
  std::ranges::stable_sort(regions, [&](const TextRegion& a, const TextRegion& b) {
    return top(a) != top(b) ? top(a) < top(b) : left(a) < left(b);
  });
  for (std::size_t i = 1; i < regions.size(); ++i)
    for (std::size_t k = i; k > 0; --k) {
      auto& above = regions[k - 1];
      auto& below = regions[k];
      const float line = std::min(height_of(above), height_of(below)) / 2;
      if (!(std::fabs(top(below) - top(above)) < line && left(below) < left(above))) break;
      std::swap(above, below);
    }
}

Result<TextRegions> TextRegionFinder::find(const TensorView& map, const Frame& frame) {
  const auto rank = map.shape.size();
  const auto is_map = [&] {
    if (rank < 2 || map.shape[rank - 2] < 1 || map.shape[rank - 1] < 1) return false;
    if (std::max(map.shape[rank - 2], map.shape[rank - 1]) > media::Transform::kSideMax)
      return false;
    return element_count(map.shape) == map.shape[rank - 2] * map.shape[rank - 1];
  };
  if (!is_map())
    return fail(ErrorCode::kInvalidArgument, "a text map of shape " + to_string(map.shape) +
                                                 " does not fit the model card: [1, 1, H, W]");
  const int width = static_cast<int>(map.shape[rank - 1]);
  const int height = static_cast<int>(map.shape[rank - 2]);
  SELVAGE_TRY(const auto values, as_floats(map, scratch_));
  find_runs(values, width, height);
  group_runs();
  TextRegions found;
  int left = card_.max_regions;
  for (std::size_t begin = 0; begin < by_component_.size() && left > 0;) {
    std::size_t end = begin + 1;
    const auto root = runs_[by_component_[begin]].parent;
    while (end < by_component_.size() && runs_[by_component_[end]].parent == root) ++end;
    const auto component = std::span(by_component_).subspan(begin, end - begin);
    if (add_region(component, values, width, height, frame, found)) --left;
    begin = end;
  }
  sort_for_reading(found.regions);
  return found;
}

void TextRegionFinder::find_runs(std::span<const float> map, int width, int height) {
  runs_.clear();
  std::size_t above = 0;
  for (int y = 0; y < height; ++y) {
    const std::size_t row_begin = runs_.size();
    const float* row = map.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width);
    for (int x = 0; x < width;) {
      if (!(row[x] > card_.threshold)) {
        ++x;
        continue;
      }
      const int begin = x;
      while (x < width && row[x] > card_.threshold) ++x;
      runs_.push_back({y, begin, x, static_cast<std::uint32_t>(runs_.size())});
    }
    join_rows(above, row_begin, runs_.size());
    above = row_begin;
  }
}

/// Runs [above, below) and [below, end) are of neighbouring rows: joins those that touch, corners
/// included.
void TextRegionFinder::join_rows(std::size_t above, std::size_t below, std::size_t end) {
  const std::size_t above_end = below;
  while (above < above_end && below < end) {
    const auto& upper = runs_[above];
    const auto& lower = runs_[below];
    if (upper.begin <= lower.end && lower.begin <= upper.end) {
      const auto a = root_of(static_cast<std::uint32_t>(above));
      const auto b = root_of(static_cast<std::uint32_t>(below));
      runs_[std::max(a, b)].parent = std::min(a, b);
    }
    if (upper.end < lower.end)
      ++above;
    else
      ++below;
  }
}

std::uint32_t TextRegionFinder::root_of(std::uint32_t run) {
  while (runs_[run].parent != run) run = runs_[run].parent = runs_[runs_[run].parent].parent;
  return run;
}

/// by_component_: the runs, those of one component together, components from the top.
void TextRegionFinder::group_runs() {
  by_component_.resize(runs_.size());
  for (std::uint32_t i = 0; i < runs_.size(); ++i) {
    runs_[i].parent = root_of(i);
    by_component_[i] = i;
  }
  std::ranges::sort(by_component_, [this](std::uint32_t a, std::uint32_t b) {
    return runs_[a].parent != runs_[b].parent ? runs_[a].parent < runs_[b].parent : a < b;
  });
}

bool TextRegionFinder::add_region(std::span<const std::uint32_t> runs, std::span<const float> map,
                                  int width, int height, const Frame& frame, TextRegions& found) {
  points_.clear();
  for (const auto index : runs) {
    const auto& run = runs_[index];
    const auto y = static_cast<float>(run.row);
    points_.push_back({static_cast<float>(run.begin), y});
    points_.push_back({static_cast<float>(run.end - 1), y});
  }
  reduce_to_hull(points_);
  auto rect = min_area_rect(points_);
  // PaddleOCR: a region must be min_side before it grows and two pixels more afterwards.
  if (std::min(rect.width, rect.height) < static_cast<float>(card_.min_side)) return false;
  const float score = mean_inside(map, width, height, rect.corners());
  if (!(score >= card_.box_threshold)) return false;
  const float grow =
      rect.width * rect.height * card_.unclip_ratio / (2 * (rect.width + rect.height));
  rect.width += 2 * grow;
  rect.height += 2 * grow;
  if (std::min(rect.width, rect.height) < static_cast<float>(card_.min_side + 2)) return false;
  TextRegion region{
      .corners = order_corners(rect.corners()), .score = score, .text = {}, .confidence = 0};
  for (auto& corner : region.corners) {
    corner = frame.place(static_cast<double>(corner.x), static_cast<double>(corner.y));
    corner.x = std::clamp(corner.x, 0.0f, static_cast<float>(frame.picture_width));
    corner.y = std::clamp(corner.y, 0.0f, static_cast<float>(frame.picture_height));
  }
  found.regions.push_back(std::move(region));
  return true;
}

}  // namespace selvage::infer
