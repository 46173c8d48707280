#include "cli/random_input.h"

#include <algorithm>
#include <charconv>
#include <random>

namespace selvage::cli {
namespace {

constexpr std::int64_t kDimensionMax = std::int64_t{1} << 32;

Result<Shape> parse_shape(std::string_view text) {
  Shape shape;
  for (auto rest = text;;) {
    const auto cross = rest.find('x');
    const auto part = rest.substr(0, cross);
    std::int64_t size = 0;
    const auto parsed = std::from_chars(part.data(), part.data() + part.size(), size);
    const bool whole = parsed.ptr == part.data() + part.size();
    if (parsed.ec != std::errc() || !whole || size < 0 || size > kDimensionMax)
      return fail(ErrorCode::kInvalidArgument,
                  "'" + std::string(text) + "' is no shape: write 1x3x224x224");
    shape.push_back(size);
    if (cross == std::string_view::npos) return shape;
    rest.remove_prefix(cross + 1);
  }
}

Result<void> apply_typed(const infer::Session& session, const std::string& typed,
                         std::vector<Shape>& shapes) {
  SELVAGE_TRY(auto parsed, parse_input_shape(typed));
  auto& [name, shape] = parsed;
  const auto index = session.input_index(name);
  if (!index) {
    std::string names;
    for (const auto& input : session.inputs()) names += (names.empty() ? "" : ", ") + input.name;
    return fail(ErrorCode::kInvalidArgument,
                "--shape " + typed + ": the model has no input '" + name + "' but " + names);
  }
  shapes[*index] = std::move(shape);
  return {};
}

}  // namespace

Result<std::pair<std::string, Shape>> parse_input_shape(const std::string& typed) {
  const auto equals = typed.rfind('=');  // Names may hold '='.
  if (equals == 0 || equals == std::string::npos)
    return fail(ErrorCode::kInvalidArgument,
                "'" + typed + "' is not INPUT=AxBx..., such as x=1x3x224x224");
  SELVAGE_TRY(auto shape, parse_shape(std::string_view(typed).substr(equals + 1)));
  return std::pair(typed.substr(0, equals), std::move(shape));
}

Result<std::vector<Shape>> input_shapes(const infer::Session& session,
                                        std::span<const std::string> typed, std::int64_t batch) {
  std::vector<Shape> shapes;
  const auto side = std::max<std::int64_t>(1, session.options().usual_side);
  for (const auto& input : session.inputs()) {
    Shape shape = input.shape;
    for (std::size_t d = 0; d < shape.size(); ++d)
      if (shape[d] < 0) shape[d] = d == 0 ? batch : side;
    shapes.push_back(std::move(shape));
  }
  for (const auto& one : typed) SELVAGE_RETURN_IF_ERROR(apply_typed(session, one, shapes));
  return shapes;
}

Result<std::unique_ptr<infer::Binding>> bind_random_inputs(const infer::Session& session,
                                                           std::span<const std::string> typed,
                                                           std::int64_t batch) {
  SELVAGE_TRY(const auto shapes, input_shapes(session, typed, batch));
  SELVAGE_TRY(auto binding, infer::Binding::create(session, shapes));
  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same every time
  const auto next = [&] { return static_cast<float>(random() >> 8) * 0x1p-24f; };
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    if (session.inputs()[i].type == DataType::kFloat32)
      std::ranges::generate(binding->input<float>(i), next);
    if (session.inputs()[i].type == DataType::kFloat64)
      std::ranges::generate(binding->input<double>(i), next);
  }
  return binding;
}

Error explain_failed_run(const infer::Session& session, std::span<const std::string> typed,
                         Error error) {
  const auto is_open = [](std::int64_t size) { return size < 0; };
  const auto inputs = session.inputs();
  const auto open = std::ranges::find_if(inputs, [&](const infer::ValueInfo& input) {
    return std::ranges::any_of(input.shape, is_open);
  });
  if (typed.empty() && open != inputs.end())
    error.message +=
        "; the model leaves sizes open: give them, such as --shape " + open->name + "=1x512";
  return error;
}

bool takes_batches(const infer::Session& session) {
  const auto inputs = session.inputs();
  return !inputs.empty() && std::ranges::all_of(inputs, [](const infer::ValueInfo& input) {
    return input.shape.empty() || input.shape.front() < 0;
  });
}

}  // namespace selvage::cli
