#include "compress/exposed.h"

#include <algorithm>
#include <thread>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "graph/edit.h"

namespace selvage::compress {
namespace {

constexpr int kThreadsMax = 256;
constexpr std::uint64_t kVisitMemoryMax = std::uint64_t{512} << 20;

Result<void> check_count(const infer::Session& session, std::span<const Tensor> tensors) {
  if (tensors.size() == session.inputs().size()) return {};
  return fail(ErrorCode::kInvalidArgument, "a sample has " + std::to_string(tensors.size()) +
                                               " tensors, the model " +
                                               std::to_string(session.inputs().size()) + " inputs");
}

/// A copy whose inputs have the shapes of one sample, so that the runtime can work out the others.
graph::Model with_shapes(const graph::Model& model, std::span<const infer::ValueInfo> inputs,
                         std::span<const Tensor> sample) {
  auto fixed = model.copy();
  for (auto& input : *fixed.proto().mutable_graph()->mutable_input()) {
    const auto found = std::ranges::find(inputs, input.name(), &infer::ValueInfo::name);
    if (found == inputs.end()) continue;
    auto& shape = *input.mutable_type()->mutable_tensor_type()->mutable_shape();
    shape.Clear();
    for (const auto size : sample[static_cast<std::size_t>(found - inputs.begin())].shape())
      shape.add_dim()->set_dim_value(size);
  }
  return fixed;
}

/// Bytes of a value; where a size is open, as many as the largest that is known.
class SizeEstimate {
 public:
  void learn(std::span<const infer::ValueInfo> values) {
    for (const auto& value : values)
      largest_ = std::max(largest_, byte_size(value.type, value.shape).value_or(0));
  }
  [[nodiscard]] std::uint64_t of(const infer::ValueInfo& value) const {
    return byte_size(value.type, value.shape).value_or(largest_);
  }

 private:
  std::uint64_t largest_ = 4096;
};

}  // namespace

infer::SessionOptions plain_options() {
  return {
      .optimization = infer::Optimization::kNone,
      .threads = std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kThreadsMax),
      .flush_denormals = false};
}

Result<std::vector<std::vector<std::string>>> group_values(infer::Runtime& runtime,
                                                           const graph::Model& model,
                                                           std::span<const std::string> values,
                                                           std::span<const Tensor> sample,
                                                           std::uint64_t memory_max) {
  SELVAGE_TRY(const auto plain, graph::expose_values(model, {}));
  SELVAGE_TRY(const auto session, infer::Session::load(runtime, plain, plain_options()));
  SELVAGE_RETURN_IF_ERROR(check_count(*session, sample));
  const auto fixed = with_shapes(model, session->inputs(), sample);
  SELVAGE_TRY(const auto exposed, graph::expose_values(fixed, values));
  SELVAGE_TRY(const auto sized, infer::Session::load(runtime, exposed, plain_options()));
  SizeEstimate estimate;
  estimate.learn(sized->inputs());
  estimate.learn(sized->outputs());
  std::vector<std::vector<std::string>> groups;
  std::unordered_set<std::string_view> known;
  std::uint64_t bytes = 0;
  for (const auto& name : values) {
    const auto input = sized->input_index(name);
    const auto output = sized->output_index(name);
    if ((!input && !output) || !known.insert(name).second) continue;
    const auto& info = input ? sized->inputs()[*input] : sized->outputs()[*output];
    if (info.kind != infer::ValueKind::kTensor || info.type != DataType::kFloat32) continue;
    const auto own = input ? 0 : estimate.of(info);
    if (groups.empty() || bytes + own > memory_max) {
      groups.emplace_back();
      bytes = 0;
    }
    groups.back().push_back(name);
    bytes += own;
  }
  return groups;
}

Result<ExposedModel> ExposedModel::create(infer::Runtime& runtime, const graph::Model& model,
                                          std::span<const std::string> values) {
  ExposedModel exposed;
  SELVAGE_TRY(const auto bytes, graph::expose_values(model, values));
  SELVAGE_TRY(exposed.session_, infer::Session::load(runtime, bytes, plain_options()));
  SELVAGE_TRY(exposed.binding_, infer::Binding::create(*exposed.session_));
  for (const auto& name : values) {
    const auto input = exposed.session_->input_index(name);
    const auto output = exposed.session_->output_index(name);
    if (!input && !output)
      return fail(ErrorCode::kInvalidArgument, "the model computes no value '" + name + "'");
    exposed.places_.push_back({input.has_value(), input ? *input : *output});
  }
  return exposed;
}

Result<void> ExposedModel::run(std::span<const Tensor> inputs) {
  SELVAGE_RETURN_IF_ERROR(check_count(*session_, inputs));
  inputs_ = inputs;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    SELVAGE_RETURN_IF_ERROR(binding_->bind_input(i, inputs[i].view()));
  }
  return binding_->run();
}

TensorView ExposedModel::value(std::size_t index) const {
  const auto& place = places_[index];
  return place.is_input ? inputs_[place.index].view() : binding_->output(place.index);
}

Result<void> for_each_value(infer::Runtime& runtime, const graph::Model& model,
                            std::span<const std::string> values, const Samples& samples,
                            const VisitValue& visit) {
  SELVAGE_TRY(const auto first, samples.get(0));
  SELVAGE_TRY(const auto groups, group_values(runtime, model, values, first, kVisitMemoryMax));
  for (const auto& group : groups) {
    SELVAGE_TRY(auto exposed, ExposedModel::create(runtime, model, group));
    for (std::size_t i = 0; i < samples.count; ++i) {
      SELVAGE_TRY(const auto tensors, samples.get(i));
      SELVAGE_RETURN_IF_ERROR(exposed.run(tensors));
      for (std::size_t k = 0; k < group.size(); ++k) visit(group[k], exposed.value(k));
    }
  }
  return {};
}

}  // namespace selvage::compress
