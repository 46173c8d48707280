#include "media/transform.h"

#include <cmath>

#include "media/pixel_rows.h"
#include "media/row_source.h"
#include "media/tensor_writer.h"
#include "media/transform_axis.h"
#include "media/transform_kernels.h"
#include "media/transform_quad.h"

namespace selvage::media {
namespace {

// Samples of one element of a quad, each way: detail finer than this is not averaged away.
constexpr int kQuadSamplesMax = 16;

std::unexpected<Error> invalid(const std::string& what) {
  return fail(ErrorCode::kInvalidArgument, what);
}

std::string size_text(int width, int height) {
  return std::to_string(width) + " x " + std::to_string(height);
}

Result<void> check_side(std::string_view what, int width, int height) {
  if (width <= Transform::kSideMax && height <= Transform::kSideMax) return {};
  return fail(ErrorCode::kOutOfRange, "a " + std::string(what) + " of " + size_text(width, height) +
                                          " is above the limit of " +
                                          std::to_string(Transform::kSideMax) + " a side");
}

Result<void> check_options(const TransformOptions& options) {
  if (!std::isfinite(options.value_scale) || !std::isfinite(options.pad_value))
    return invalid("value_scale and pad_value must be finite");
  for (std::size_t c = 0; c < 3; ++c) {
    if (!std::isfinite(options.mean[c])) return invalid("every mean must be finite");
    if (!std::isfinite(options.deviation[c]) || options.deviation[c] == 0)
      return invalid("every deviation must be finite and not 0");
  }
  if (!(options.cover_fraction > 0 && options.cover_fraction <= 1))
    return invalid("cover_fraction must be above 0 and at most 1");
  return {};
}

Result<void> check_tensor(const TransformOptions& options, int width, int height,
                          std::span<const std::byte> tensor) {
  if (width <= 0 || height <= 0)
    return invalid("a tensor of " + size_text(width, height) + " has no elements");
  SELVAGE_RETURN_IF_ERROR(check_side("tensor", width, height));
  const std::size_t element = element_bytes(options.element);
  const auto bytes = static_cast<std::size_t>(width) * static_cast<std::size_t>(height) *
                     static_cast<std::size_t>(options.channels()) * element;
  if (tensor.size() != bytes)
    return invalid("a tensor of " + size_text(width, height) + " with " +
                   std::to_string(options.channels()) + " channels has " + std::to_string(bytes) +
                   " bytes, not " + std::to_string(tensor.size()));
  if (reinterpret_cast<std::uintptr_t>(tensor.data()) % element != 0)
    return invalid("the tensor is not aligned for its elements");
  return {};
}

Result<void> check_region(const PictureView& picture, const Rect& region) {
  SELVAGE_RETURN_IF_ERROR(check_view(picture));
  SELVAGE_RETURN_IF_ERROR(check_side("picture", picture.width, picture.height));
  const bool inside = region.width > 0 && region.height > 0 && region.x >= 0 && region.y >= 0 &&
                      region.x <= picture.width - region.width &&
                      region.y <= picture.height - region.height;
  if (inside) return {};
  return invalid("the region " + size_text(region.width, region.height) + " at " +
                 std::to_string(region.x) + ", " + std::to_string(region.y) +
                 " is empty or leaves the picture of " + size_text(picture.width, picture.height));
}

int quad_samples(Filter filter, double step) {
  if (filter != Filter::kAntialias) return 1;
  return static_cast<int>(std::clamp<double>(std::ceil(step), 1, kQuadSamplesMax));
}

}  // namespace

std::size_t element_bytes(TensorElement element) {
  switch (element) {
    case TensorElement::kFloat32: return 4;
    case TensorElement::kFloat16: return 2;
    case TensorElement::kUint8: break;
  }
  return 1;
}

struct Transform::State {
  explicit State(const TransformOptions& chosen) : options(chosen), writer(chosen) {}

  /// What the tables of a rectangle depend on.
  struct Geometry {
    PixelFormat format = PixelFormat::kRgb24;
    int region_width = 0;
    int region_height = 0;
    int width = 0;
    int height = 0;

    friend bool operator==(const Geometry&, const Geometry&) = default;
  };

  void prepare(const Geometry& wanted, const Placements& to);
  void resize_row(std::size_t count);
  void apply_bilinear(const Placements& to);
  void apply_antialias(const Placements& to);
  void apply_quad(const Quad& quad, const Rect& bounds, const Placements& to);
  void locate_quad_row(const Homography& map, const Rect& bounds, double u, double u_step,
                       double v);
  void run_bilinear(const std::uint8_t* top, const std::uint8_t* bottom);
  void add_quad_samples(int each);
  [[nodiscard]] SampleRow sample_row() {
    return {{samples[0].data(), samples[1].data(), samples[2].data()}};
  }

  TransformOptions options;
  TensorWriter writer;
  RowSource source;

  Geometry geometry;  // Of the tables below; empty when they are a quad's.
  BilinearAxis bilinear_y;
  AntialiasAxis antialias_x, antialias_y;

  // Of a row of samples.
  std::vector<std::ptrdiff_t> offsets;
  BilinearAxis bilinear_x;
  std::vector<float> weights_y;
  std::vector<std::uint32_t> gathered;
  std::array<std::vector<float>, 3> samples;

  std::vector<const std::uint8_t*> rows;  // That antialiasing weighs ...
  std::vector<float> row_sums;            // ... and what becomes of them.
  std::array<std::vector<float>, 3> quad_sums;
};

void Transform::State::resize_row(std::size_t count) {
  for (auto& channel : samples) channel.resize(count);
  offsets.resize(count);
  weights_y.resize(count);
  gathered.resize(count * 4);
}

void Transform::State::prepare(const Geometry& wanted, const Placements& to) {
  if (wanted == geometry) return;
  resize_row(static_cast<std::size_t>(to.x.count));
  if (options.filter == Filter::kAntialias) {
    fill_antialias(to.x, wanted.region_width, antialias_x);
    fill_antialias(to.y, wanted.region_height, antialias_y);
    rows.resize(static_cast<std::size_t>(antialias_y.taps_max));
    // Up to four channels, and what the kernels read behind the last pixel.
    row_sums.resize(static_cast<std::size_t>(wanted.region_width) * 4 + 4);
  }
  const bool nearest = options.filter == Filter::kNearest;
  fill_bilinear(to.x, wanted.region_width, nearest, bilinear_x);
  fill_bilinear(to.y, wanted.region_height, nearest, bilinear_y);
  const auto bytes = static_cast<std::ptrdiff_t>(pixel_bytes(wanted.format));
  for (std::size_t i = 0; i < offsets.size(); ++i) offsets[i] = bilinear_x.lower[i] * bytes;
  geometry = wanted;
}

void Transform::State::run_bilinear(const std::uint8_t* top, const std::uint8_t* bottom) {
  const BilinearRow in{.top = top,
                       .bottom = bottom,
                       .offset = offsets.data(),
                       .weight_x = bilinear_x.weight.data(),
                       .weight_y = weights_y.data(),
                       .gathered = gathered.data(),
                       .count = offsets.size()};
  switch (pixel_bytes(source.format())) {
    case 1: kernels().bilinear_1(in, sample_row()); return;
    case 3: kernels().bilinear_3(in, sample_row()); return;
    default: kernels().bilinear_4(in, sample_row());
  }
}

void Transform::State::apply_bilinear(const Placements& to) {
  for (int i = 0; i < to.y.count; ++i) {
    const auto row = static_cast<std::size_t>(i);
    const int lower = bilinear_y.lower[row];
    std::fill(weights_y.begin(), weights_y.end(), bilinear_y.weight[row]);
    const auto* top = source.row(lower);
    run_bilinear(top, source.row(std::min(lower + 1, geometry.region_height - 1)));
    writer.write(source.format(), sample_row(), to.y.begin + i, to.x.begin, to.x.count);
  }
}

void Transform::State::apply_antialias(const Placements& to) {
  const auto bytes = pixel_bytes(source.format());
  const auto weigh_columns = bytes == 1   ? kernels().weigh_columns_1
                             : bytes == 3 ? kernels().weigh_columns_3
                                          : kernels().weigh_columns_4;
  const WeightedColumns in{.pixels = row_sums.data(),
                           .first = antialias_x.first.data(),
                           .taps = antialias_x.taps.data(),
                           .weights = antialias_x.weights.data(),
                           .taps_max = static_cast<std::size_t>(antialias_x.taps_max),
                           .count = static_cast<std::size_t>(to.x.count)};
  const float* weights = antialias_y.weights.data();
  for (int i = 0; i < to.y.count; ++i, weights += antialias_y.taps_max) {
    const auto row = static_cast<std::size_t>(i);
    const auto taps = static_cast<std::size_t>(antialias_y.taps[row]);
    for (std::size_t k = 0; k < taps; ++k)
      rows[k] = source.row(antialias_y.first[row] + static_cast<int>(k));
    kernels().weigh_rows(rows.data(), weights, taps,
                         static_cast<std::size_t>(geometry.region_width) * bytes, row_sums.data());
    weigh_columns(in, sample_row());
    writer.write(source.format(), sample_row(), to.y.begin + i, to.x.begin, to.x.count);
  }
}

/// Where the samples of one row of a quad lie among the pixels of its bounds.
void Transform::State::locate_quad_row(const Homography& map, const Rect& bounds, double u,
                                       double u_step, double v) {
  const auto bytes = static_cast<std::ptrdiff_t>(pixel_bytes(source.format()));
  const bool nearest = options.filter == Filter::kNearest;
  const auto locate = [nearest](double edge_distance, int size, int& lower) {
    const double position = std::clamp<double>(edge_distance - 0.5, 0, size - 1);
    lower = std::min(static_cast<int>(position), std::max(size - 2, 0));
    return static_cast<float>(nearest ? std::round(position - lower) : position - lower);
  };
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    const Point at = map(u + static_cast<double>(i) * u_step, v);
    int x = 0;
    int y = 0;
    bilinear_x.weight[i] = locate(at.x - bounds.x, bounds.width, x);
    weights_y[i] = locate(at.y - bounds.y, bounds.height, y);
    offsets[i] = y * source.stride_bytes() + x * bytes;
  }
}

/// Adds each group of `each` neighbouring samples to an element's sum.
void Transform::State::add_quad_samples(int each) {
  for (std::size_t c = 0; c < 3; ++c) {
    const float* sample = samples[c].data();
    for (float& sum : quad_sums[c])
      for (int k = 0; k < each; ++k) sum += *sample++;
  }
}

void Transform::State::apply_quad(const Quad& quad, const Rect& bounds, const Placements& to) {
  const Homography map = homography_of(quad);
  const auto [quad_width, quad_height] = size_of(quad);
  const int each_x = quad_samples(options.filter, to.x.step);
  const int each_y = quad_samples(options.filter, to.y.step);
  resize_row(static_cast<std::size_t>(to.x.count) * static_cast<std::size_t>(each_x));
  bilinear_x.weight.resize(offsets.size());
  for (auto& sums : quad_sums) sums.resize(static_cast<std::size_t>(to.x.count));

  const auto* const top = source.all_rows();
  const auto* const bottom = top + (bounds.height > 1 ? source.stride_bytes() : 0);
  const double u_step = to.x.step / each_x / quad_width;
  const double u_first = to.x.origin / quad_width + u_step / 2;
  const auto samples_each = static_cast<float>(each_x * each_y);
  for (int i = 0; i < to.y.count; ++i) {
    for (auto& sums : quad_sums) std::fill(sums.begin(), sums.end(), 0.0f);
    for (int k = 0; k < each_y; ++k) {
      const double v = (to.y.origin + (i + (k + 0.5) / each_y) * to.y.step) / quad_height;
      locate_quad_row(map, bounds, u_first, u_step, v);
      run_bilinear(top, bottom);
      add_quad_samples(each_x);
    }
    for (auto& sums : quad_sums)
      for (float& sum : sums) sum /= samples_each;
    writer.write(source.format(), {{quad_sums[0].data(), quad_sums[1].data(), quad_sums[2].data()}},
                 to.y.begin + i, to.x.begin, to.x.count);
  }
}

Result<Transform> Transform::create(const TransformOptions& options) {
  SELVAGE_RETURN_IF_ERROR(check_options(options));
  return Transform(std::make_unique<State>(options));
}

Transform::Transform(std::unique_ptr<State> state) : state_(std::move(state)) {}
Transform::Transform(Transform&& other) noexcept = default;
Transform& Transform::operator=(Transform&& other) noexcept = default;
Transform::~Transform() = default;

const TransformOptions& Transform::options() const {
  return state_->options;
}

Result<CoordinateMap> Transform::apply(const PictureView& picture, int width, int height,
                                       std::span<std::byte> tensor) {
  return apply(picture, picture.bounds(), width, height, tensor);
}

Result<CoordinateMap> Transform::apply(const PictureView& picture, const Rect& region, int width,
                                       int height, std::span<std::byte> tensor) {
  State& state = *state_;
  SELVAGE_RETURN_IF_ERROR(check_region(picture, region));
  SELVAGE_RETURN_IF_ERROR(check_tensor(state.options, width, height, tensor));
  const Placements to = place(state.options, region.width, region.height, width, height);
  // Without shrinking, the triangle is bilinear interpolation.
  const bool antialias =
      state.options.filter == Filter::kAntialias && (to.x.step > 1 || to.y.step > 1);
  state.source.open(picture, region, antialias ? antialias_taps_max(to.y) : 2);
  state.prepare({state.source.format(), region.width, region.height, width, height}, to);
  state.writer.open(tensor.data(), width, height);
  state.writer.write_padding(to);
  if (antialias)
    state.apply_antialias(to);
  else
    state.apply_bilinear(to);
  return CoordinateMap{.scale_x = to.x.step,
                       .scale_y = to.y.step,
                       .offset_x = region.x + to.x.origin - to.x.begin * to.x.step,
                       .offset_y = region.y + to.y.origin - to.y.begin * to.y.step};
}

Result<void> Transform::apply_quad(const PictureView& picture, const Quad& quad, int width,
                                   int height, std::span<std::byte> tensor) {
  State& state = *state_;
  SELVAGE_RETURN_IF_ERROR(check_region(picture, picture.bounds()));
  SELVAGE_RETURN_IF_ERROR(check_tensor(state.options, width, height, tensor));
  SELVAGE_RETURN_IF_ERROR(check_quad(quad));
  const auto [quad_width, quad_height] = size_of(quad);
  const Placements to = place(state.options, quad_width, quad_height, width, height);
  const Rect bounds = quad_bounds(quad, picture);
  state.geometry = {};
  state.source.open(picture, bounds, bounds.height);
  state.writer.open(tensor.data(), width, height);
  state.writer.write_padding(to);
  state.apply_quad(quad, bounds, to);
  return {};
}

}  // namespace selvage::media
