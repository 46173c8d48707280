#include "compress/evaluate_runner.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "graph/values.h"
#include "infer/elements.h"
#include "infer/postprocess.h"
#include "infer/preprocess.h"

namespace selvage::compress {
namespace {

/// The tensor that a card's output names first; "" for the model's first.
struct MainTensor {
  std::string operator()(const infer::RawOutput&) const { return {}; }
  std::string operator()(const infer::BoxesOutput& boxes) const {
    return boxes.boxes.empty() ? std::string() : boxes.boxes.front();
  }
  std::string operator()(const infer::LinesOutput& lines) const { return lines.scores; }
  template <typename Output>
  std::string operator()(const Output& output) const {
    return output.tensor;
  }
};

Result<void> fill_constants(const infer::Model& model, std::vector<Shape>& shapes) {
  const auto inputs = model.session().inputs();
  for (const auto& constant : model.card().input.constants) {
    const auto index = model.session().input_index(constant.tensor);
    if (!index)
      return fail(ErrorCode::kInvalidArgument, "the card's constants name input '" +
                                                   constant.tensor + "', which the model lacks");
    if (constant.values.size() == 1) continue;
    SELVAGE_TRY(
        shapes[*index],
        infer::shape_holding(inputs[*index], static_cast<std::int64_t>(constant.values.size())));
  }
  return {};
}

}  // namespace

Result<void> BatchReader::read_many(std::span<const std::size_t> indices) {
  const auto inputs = data_.inputs();
  if (bytes_.empty()) {
    for (const auto& input : inputs) {
      bytes_.emplace_back(input.bytes * batch_);
      shapes_.push_back(input.shape);
      shapes_.back().insert(shapes_.back().begin(), 0);
    }
    views_.resize(inputs.size());
  }
  std::vector<std::span<std::byte>> targets;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    targets.emplace_back(std::span(bytes_[i]).first(inputs[i].bytes * indices.size()));
    shapes_[i][0] = static_cast<std::int64_t>(indices.size());
    views_[i] = {
        .type = inputs[i].type, .shape = shapes_[i], .bytes = targets.back(), .strings = {}};
  }
  return data_.read(indices, targets);
}

Result<std::span<const TensorView>> BatchReader::read(std::span<const std::size_t> indices) {
  if (data_.takes_batches()) {
    SELVAGE_RETURN_IF_ERROR(read_many(indices));
    return views_;
  }
  SELVAGE_TRY(tensors_, data_.sample(indices.front()));
  views_.clear();
  for (const auto& tensor : tensors_) views_.push_back(tensor.view());
  return views_;
}

Result<std::size_t> main_output(const infer::Model& model) {
  const infer::OutputNames names(model.session().outputs(), model.card().input.state);
  return names.index_of(std::visit(MainTensor(), model.card().output));
}

Result<ModelRunner> ModelRunner::create(const infer::Model& model, const infer::Dataset& data) {
  ModelRunner runner;
  SELVAGE_TRY(runner.output_, main_output(model));
  const auto inputs = model.session().inputs();
  std::vector<Shape> shapes;
  for (const auto& input : inputs) shapes.push_back(infer::smallest_shape(input));
  SELVAGE_RETURN_IF_ERROR(fill_constants(model, shapes));
  SELVAGE_TRY(runner.binding_, infer::Binding::create(model.session(), shapes));
  for (const auto& constant : model.card().input.constants) {
    const auto index = *model.session().input_index(constant.tensor);
    auto values = constant.values;
    if (values.size() == 1)
      values.assign(static_cast<std::size_t>(element_count(shapes[index]).value_or(1)),
                    constant.values[0]);
    SELVAGE_RETURN_IF_ERROR(
        infer::write_elements(values, inputs[index].type, runner.binding_->input_bytes(index)));
  }
  for (const auto& input : data.inputs()) {
    const auto index = model.session().input_index(input.name);
    if (!index)
      return fail(ErrorCode::kInvalidArgument,
                  model.name() + " has no input '" + input.name + "', which the data set fills");
    runner.inputs_.push_back(*index);
  }
  return runner;
}

Result<std::span<const float>> ModelRunner::run(std::span<const TensorView> inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i)
    SELVAGE_RETURN_IF_ERROR(binding_->bind_input(inputs_[i], inputs[i]));
  const auto start = std::chrono::steady_clock::now();
  SELVAGE_RETURN_IF_ERROR(binding_->run());
  latency_->record(std::chrono::steady_clock::now() - start);
  return infer::as_floats(binding_->output(output_), scratch_);
}

std::size_t batch_for(const infer::Model& model, const infer::Dataset& data, std::size_t wanted) {
  const auto& card = model.card().input;
  const bool alone = !card.state.empty() || !card.constants.empty() || !data.takes_batches();
  return alone ? 1 : std::max<std::size_t>(1, wanted);
}

std::unexpected<Error> not_finite(const infer::Dataset& data, std::size_t sample,
                                  std::span<const TensorView> inputs, std::size_t at,
                                  std::size_t count, std::string_view whose) {
  for (const auto& input : inputs) {
    if (input.type != DataType::kFloat32) continue;
    const auto values = input.as<float>();
    const auto width = values.size() / count;
    if (!graph::all_finite(values.subspan(at * width, width)))
      return fail(ErrorCode::kInvalidArgument,
                  data.place(sample) + ": the sample holds NaN or infinity");
  }
  return fail(ErrorCode::kInvalidArgument,
              data.place(sample) + ": " + std::string(whose) + " output is not finite");
}

Result<void> for_each_batch(const infer::Dataset& data, std::span<const std::size_t> samples,
                            std::size_t batch, const std::function<bool(std::size_t)>& progress,
                            const std::function<Result<void>(std::span<const std::size_t>)>& each) {
  std::vector<std::size_t> all;
  if (samples.empty()) {
    all.resize(data.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    samples = all;
  }
  for (std::size_t at = 0; at < samples.size(); at += batch) {
    const auto part = samples.subspan(at, std::min(batch, samples.size() - at));
    SELVAGE_RETURN_IF_ERROR(each(part));
    if (progress && !progress(at + part.size())) return fail(ErrorCode::kCancelled, "interrupted");
  }
  return {};
}

}  // namespace selvage::compress
