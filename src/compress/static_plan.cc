#include "compress/static_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <selvage/onnx.pb.h>

#include "compress/selection.h"
#include "compress/static_facts.h"
#include "compress/static_marks.h"
#include "compress/static_rules.h"
#include "graph/attributes.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

using graph::Index;

bool is_signed(DataType type) {
  return type == DataType::kInt4 || type == DataType::kInt8 || type == DataType::kInt16;
}

/// Gives what is marked its parameters.
class Placer {
 public:
  Placer(const StaticFacts& facts, StaticMarks marks)
      : facts_(facts),
        options_(facts.options()),
        marks_(std::move(marks)),
        width_(options_.width.value_or(processor_multiplies_8_bits_exactly() ? Width::kFull
                                                                             : Width::kReduced)) {}

  [[nodiscard]] Result<StaticPlan> run() {
    plan_.sums = std::move(marks_.sums);
    plan_.removed = std::move(marks_.removed);
    plan_.report = std::move(marks_.report);
    SELVAGE_RETURN_IF_ERROR(place_tensors());
    SELVAGE_RETURN_IF_ERROR(place_biases());
    return std::move(plan_);
  }

 private:
  // --- Tensors

  [[nodiscard]] Result<PlannedTensor> place_constant(const std::string& name, const Mark& mark) {
    const TensorOverride none;
    const auto* found = facts_.override_of(name);
    const auto& own = found == nullptr ? none : *found;
    const auto type = own.type.value_or(mark.is_weight ? options_.weights : options_.activations);
    const auto by_type = is_signed(type) ? Symmetry::kSymmetric : Symmetry::kAsymmetric;
    const auto by_role =
        mark.is_weight ? options_.weight_symmetry.value_or(by_type) : options_.activation_symmetry;
    const WeightFormat format{
        .type = type,
        // Integer kernels take one zero point for all channels.
        .symmetry = own.symmetry.value_or(mark.axis ? Symmetry::kSymmetric : by_role),
        .width = own.width.value_or(bits_of(type) == 8 ? width_ : Width::kFull),
        .axis = mark.axis,
        .real_width_min = options_.real_width_min};
    PlannedTensor planned{.name = name, .type = type, .is_weight = true, .axis = mark.axis};
    if (own.scale && own.zero_point) {
      planned.parameters = {{*own.scale, *own.zero_point}};
    } else if (own.min || own.max) {
      planned.parameters = {compute_scale_zero_point(
          {own.min.value_or(0), own.max.value_or(0)},
          quantized_range(type, format.symmetry, format.width), format.symmetry)};
    } else {
      const auto& tensor = *facts_.constant(name);
      SELVAGE_TRY(const auto values, graph::read_floats(tensor, facts_.model().folder()));
      SELVAGE_TRY(planned.parameters, weight_parameters(values, graph::shape_of(tensor), format));
    }
    return planned;
  }

  [[nodiscard]] Result<void> place_tensors() {
    std::unordered_map<std::string_view, std::size_t> placed;
    const auto place = [&](PlannedTensor tensor, const std::string& name) {
      placed.emplace(name, plan_.tensors.size());
      plan_.tensors.push_back(std::move(tensor));
    };
    std::vector<const std::string*> sharing;
    for (const auto& name : marks_.order) {
      const auto found = marks_.marks.find(name);
      if (found == marks_.marks.end() || placed.contains(found->first)) continue;
      const auto& mark = found->second;
      if (!mark.shares.empty()) {
        sharing.push_back(&found->first);
      } else if (facts_.is_float_constant(name)) {
        SELVAGE_TRY(auto tensor, place_constant(name, mark));
        place(std::move(tensor), found->first);
        ++plan_.report.quantized_weights;
      } else {
        const auto factor = marks_.factors.find(name);
        place({.name = name,
               .type = facts_.activation_type(name),
               .parameters = {facts_.activation_parameters(name)},
               .factor = factor == marks_.factors.end() ? 1 : factor->second},
              found->first);
      }
    }
    // Whom they share with may share itself: as many rounds as the longest chain has links.
    for (bool is_moving = true; is_moving && !sharing.empty();) {
      is_moving = false;
      std::vector<const std::string*> waiting;
      for (const auto* name : sharing) {
        const auto& shares = marks_.marks.at(*name).shares;
        const auto source = placed.find(shares);
        if (source == placed.end()) {
          waiting.push_back(name);
          continue;
        }
        const auto& from = plan_.tensors[source->second];
        place({.name = *name, .type = from.type, .shares = shares, .parameters = from.parameters},
              *name);
        is_moving = true;
      }
      sharing = std::move(waiting);
    }
    for (std::size_t i = 0; i < plan_.tensors.size(); ++i) at_.emplace(plan_.tensors[i].name, i);
    return {};
  }

  // --- Biases

  [[nodiscard]] const PlannedTensor* planned(const std::string& name) const {
    const auto found = at_.find(name);
    return found == at_.end() ? nullptr : &plan_.tensors[found->second];
  }

  [[nodiscard]] Result<void> place_biases() {
    for (const auto& mark : marks_.biases) {
      const auto* input = planned(mark.input);
      const auto* weight = planned(mark.weight);
      // A bias with a scale of its own choice, or one that is a weight elsewhere, is one of those.
      if (input == nullptr || weight == nullptr || input->parameters.size() != 1 ||
          marks_.marks.contains(mark.name) || options_.overrides.contains(mark.name))
        continue;
      const auto& tensor = *facts_.constant(mark.name);
      SELVAGE_TRY(auto values, graph::read_floats(tensor, facts_.model().folder()));
      if (weight->parameters.size() > 1 &&
          (tensor.dims_size() != 1 || values.size() != weight->parameters.size()))
        continue;
      const float beta = graph::float_attribute(facts_.graph().node(mark.node), "beta", 1);
      for (auto& value : values) value *= beta;
      plan_.biases.push_back({.node = mark.node,
                              .name = mark.name,
                              .input = mark.input,
                              .weight = mark.weight,
                              .values = std::move(values)});
    }
    for (const auto& bias : plan_.biases) widen_weight_scales(bias);
    std::erase_if(plan_.biases, [&](PlannedBias& bias) { return !scale_bias(bias); });
    return {};
  }

  /// Enlarges a symmetric weight's scales where the bias would not fit into int32, or its scale be
  /// no normal number: that of a channel which batch normalisation has all but switched off.
  void widen_weight_scales(const PlannedBias& bias) {
    constexpr double kMargin = 1.0001;
    constexpr double kSteps = 2.0 * std::numeric_limits<std::int32_t>::max();
    constexpr double kScaleMin = 2.0 * std::numeric_limits<float>::min();
    auto& weight = plan_.tensors[at_.at(bias.weight)];
    const bool is_symmetric =
        std::ranges::all_of(weight.parameters, [](const auto& one) { return one.zero_point == 0; });
    if (!is_symmetric || (weight.type != DataType::kInt8 && weight.type != DataType::kInt16) ||
        !weight.is_weight)
      return;
    const double input_scale = planned(bias.input)->parameters.front().scale;
    for (std::size_t i = 0; i < weight.parameters.size(); ++i) {
      double largest = 0;
      if (weight.parameters.size() > 1)
        largest = std::abs(bias.values[i]);
      else
        for (const float value : bias.values)
          largest = std::max(largest, static_cast<double>(std::abs(value)));
      const double needed = std::max(kMargin * (2.0 * largest) / kSteps, kScaleMin);
      auto& scale = weight.parameters[i].scale;
      const double given = input_scale * static_cast<double>(scale);
      if (given < needed && given > 0)
        scale = static_cast<float>(static_cast<double>(scale) * (needed / given));
    }
  }

  /// False where a scale would be no normal number: that bias stays in float.
  [[nodiscard]] bool scale_bias(PlannedBias& bias) const {
    const float alpha = graph::float_attribute(facts_.graph().node(bias.node), "alpha", 1);
    const bool is_gemm = facts_.graph().node(bias.node).op_type() == "Gemm";
    const float input_scale = planned(bias.input)->parameters.front().scale;
    for (const auto& weight : planned(bias.weight)->parameters) {
      const float scale = input_scale * weight.scale * (is_gemm ? alpha : 1.0f);
      if (!std::isnormal(scale) || scale < 0) return false;
      bias.scales.push_back(scale);
    }
    return true;
  }

  const StaticFacts& facts_;
  const StaticOptions& options_;
  StaticMarks marks_;
  Width width_;
  StaticPlan plan_;
  std::unordered_map<std::string, std::size_t> at_;  ///< Of plan_.tensors.
};

/// Whether the type of an overridden tensor, which may be a weight or an activation where `type`
/// does not say it, has this value.
bool holds(std::optional<DataType> type, const StaticOptions& options, std::int32_t value) {
  const auto is_in = [&](DataType one) {
    const auto range = quantized_range(one);
    return value >= range.min && value <= range.max;
  };
  return type ? is_in(*type) : is_in(options.activations) || is_in(options.weights);
}

Result<void> check_options(const StaticOptions& options) {
  const auto refuse = [](std::string what) {
    return fail(ErrorCode::kInvalidArgument, std::move(what));
  };
  const auto is_8_bits = [](DataType type) {
    return type == DataType::kInt8 || type == DataType::kUint8;
  };
  const bool is_qdq = options.format == QuantizationFormat::kQdq;
  if (!is_quantized_type(options.activations) || bits_of(options.activations) == 4)
    return refuse("activations are quantised to int8, uint8, int16 or uint16, not to " +
                  std::string(to_string(options.activations)));
  if (!is_quantized_type(options.weights) || bits_of(options.weights) == 16)
    return refuse("weights are quantised to int8, uint8, int4 or uint4, not to " +
                  std::string(to_string(options.weights)));
  if (!is_qdq && (!is_8_bits(options.activations) || !is_8_bits(options.weights)))
    return refuse("QOperator knows 8 bits only: use the format QDQ");
  if (options.activations == DataType::kInt8 && options.weights == DataType::kUint8)
    return refuse(
        "the runtime has no kernel for int8 activations with uint8 weights: use uint8 "
        "activations or int8 weights");
  for (const auto& [name, own] : options.overrides) {
    if (own.scale.has_value() != own.zero_point.has_value())
      return refuse("the override of '" + name + "' needs scale and zero_point together");
    if (own.type && !is_quantized_type(*own.type))
      return refuse("the override of '" + name + "' names no quantised type");
    if (own.scale && !(*own.scale > 0 && std::isfinite(*own.scale)))
      return refuse("the override of '" + name + "' has a scale that is not positive");
    if (own.min.value_or(0) > own.max.value_or(std::numeric_limits<float>::infinity()))
      return refuse("the override of '" + name + "' has a minimum above its maximum");
    if (own.zero_point && !holds(own.type, options, *own.zero_point))
      return refuse("the override of '" + name + "' has a zero point outside of its type");
  }
  return {};
}

}  // namespace

Result<StaticPlan> plan_static(const graph::Model& model, const Index& index, RangeMap ranges,
                               const StaticOptions& options) {
  SELVAGE_RETURN_IF_ERROR(check_options(options));
  const auto& graph = model.proto().graph();
  for (const auto& [name, own] : options.overrides)
    if (index.producer(name) == Index::kNone && index.initialiser(name) == Index::kNone &&
        !index.is_input(name))
      return fail(ErrorCode::kInvalidArgument, "the model has no tensor '" + name + "'");
  SELVAGE_TRY(const auto selector, make_selector(graph, options));
  StaticFacts facts(model, index, std::move(ranges), options, selector);
  return Placer(facts, mark_tensors(facts, selector)).run();
}

}  // namespace selvage::compress
