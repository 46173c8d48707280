#include "compress/samples.h"

#include <algorithm>
#include <memory>

#include "infer/elements.h"
#include "infer/preprocess.h"
#include "media/sound.h"

namespace selvage::compress {
namespace {

/// Element i of `count` that are spread over `size`.
std::size_t spread(std::size_t i, std::size_t count, std::size_t size) {
  return i * size / count;
}

Tensor copy_of(const TensorView& view) {
  // A tensor of a size that existed already.
  auto tensor = *Tensor::create(view.type, {view.shape.begin(), view.shape.end()});
  std::ranges::copy(view.bytes, tensor.bytes().begin());
  std::ranges::copy(view.strings, tensor.strings().begin());
  return tensor;
}

/// All inputs: zeros, and the card's constants.
Result<std::vector<Tensor>> constant_inputs(const infer::Model& model) {
  std::vector<Tensor> tensors;
  for (const auto& input : model.session().inputs()) {
    const auto given =
        std::ranges::find(model.card().input.constants, input.name, &infer::ConstantInput::tensor);
    if (given == model.card().input.constants.end()) {
      SELVAGE_TRY(auto zeros, Tensor::create(input.type, infer::smallest_shape(input)));
      tensors.push_back(std::move(zeros));
      continue;
    }
    const auto count = static_cast<std::int64_t>(given->values.size());
    const auto shape = count == 1 ? Result<Shape>(infer::smallest_shape(input))
                                  : infer::shape_holding(input, count);
    if (!shape) return std::unexpected(shape.error());
    SELVAGE_TRY(auto tensor, Tensor::create(input.type, *shape));
    const auto elements = element_count(tensor.shape()).value_or(0);
    const std::vector<double> values =
        count == 1 ? std::vector<double>(static_cast<std::size_t>(elements), given->values[0])
                   : given->values;
    SELVAGE_RETURN_IF_ERROR(infer::write_elements(values, input.type, tensor.bytes()));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

/// Slides a listening model over sounds and keeps some of what it is fed.
class WindowRecorder {
 public:
  WindowRecorder(const infer::Model& model, const infer::AudioInput& audio)
      : model_(model), audio_(audio) {}

  [[nodiscard]] Result<std::vector<std::vector<Tensor>>> record(const infer::Dataset& data,
                                                                std::size_t count_max) {
    SELVAGE_TRY(const auto total, count_windows(data));
    every_ = std::max<std::size_t>(1, (total + count_max - 1) / count_max);
    SELVAGE_RETURN_IF_ERROR(prepare());
    for (std::size_t i = 0; i < data.size(); ++i) {
      SELVAGE_TRY(const auto samples, listen(data, i));
      SELVAGE_RETURN_IF_ERROR(slide(samples));
    }
    return std::move(kept_);
  }

 private:
  [[nodiscard]] Result<std::vector<float>> listen(const infer::Dataset& data,
                                                  std::size_t index) const {
    SELVAGE_TRY(const auto decoded, data.decode(index));
    const auto* view = std::get_if<infer::SoundView>(&decoded.input);
    if (view == nullptr)
      return fail(ErrorCode::kInvalidArgument, data.place(index) + " is no sound");
    std::vector<float> samples(view->samples.begin(), view->samples.end());
    const auto rate = static_cast<int>(view->sample_rate);
    if (rate == audio_.rate) return samples;
    SELVAGE_TRY(auto resampled, media::resample({rate, samples}, audio_.rate));
    return std::move(resampled.samples);
  }

  [[nodiscard]] Result<std::size_t> count_windows(const infer::Dataset& data) const {
    const auto window = static_cast<std::size_t>(audio_.window);
    std::size_t total = 0;
    for (std::size_t i = 0; i < data.size(); ++i) {
      SELVAGE_TRY(const auto samples, listen(data, i));
      total += samples.size() / window;
    }
    if (total == 0)
      return fail(ErrorCode::kInvalidArgument,
                  "no sound is as long as a window of " + std::to_string(window) + " samples");
    return total;
  }

  [[nodiscard]] Result<void> prepare() {
    const auto& session = model_.session();
    SELVAGE_TRY(inputs_, constant_inputs(model_));
    for (const auto& pair : model_.card().input.state) {
      const auto input = session.input_index(pair.input);
      const auto output = session.output_index(pair.output);
      if (!input || !output)
        return fail(ErrorCode::kInvalidArgument, "the card's state names '" + pair.input +
                                                     "' and '" + pair.output +
                                                     "', which the model lacks");
      loops_.emplace_back(*input, *output);
    }
    for (std::size_t i = 0; i < session.inputs().size(); ++i) {
      const auto& name = session.inputs()[i].name;
      const bool is_fixed =
          std::ranges::any_of(loops_, [&](const auto& loop) { return loop.first == i; }) ||
          std::ranges::any_of(model_.card().input.constants,
                              [&](const auto& one) { return one.tensor == name; });
      if (!is_fixed && (audio_.tensor.empty() || audio_.tensor == name)) sound_ = i;
    }
    SELVAGE_TRY(const auto shape,
                infer::shape_holding(session.inputs()[sound_], audio_.context + audio_.window));
    SELVAGE_TRY(inputs_[sound_], Tensor::create(DataType::kFloat32, shape));
    SELVAGE_TRY(binding_, infer::Binding::create(session));
    return {};
  }

  [[nodiscard]] Result<void> slide(std::span<const float> samples) {
    const auto window = static_cast<std::size_t>(audio_.window);
    const auto context = static_cast<std::size_t>(audio_.context);
    for (const auto& [input, output] : loops_)
      std::ranges::fill(inputs_[input].bytes(), std::byte{0});
    for (std::size_t begin = 0; begin + window <= samples.size(); begin += window) {
      auto tensor = inputs_[sound_].as<float>();
      for (std::size_t k = 0; k < context; ++k)
        tensor[k] = begin + k >= context ? samples[begin + k - context] : 0;
      std::ranges::copy(samples.subspan(begin, window),
                        tensor.begin() + static_cast<std::ptrdiff_t>(context));
      if (seen_++ % every_ == 0) {
        auto& kept = kept_.emplace_back();
        for (const auto& one : inputs_) kept.push_back(copy_of(one.view()));
      }
      for (std::size_t i = 0; i < inputs_.size(); ++i) {
        SELVAGE_RETURN_IF_ERROR(binding_->bind_input(i, inputs_[i].view()));
      }
      SELVAGE_RETURN_IF_ERROR(binding_->run());
      for (const auto& [input, output] : loops_) inputs_[input] = copy_of(binding_->output(output));
    }
    return {};
  }

  const infer::Model& model_;
  const infer::AudioInput& audio_;
  std::vector<Tensor> inputs_;
  std::size_t sound_ = 0;
  std::vector<std::pair<std::size_t, std::size_t>> loops_;  ///< Input and output of each state.
  std::unique_ptr<infer::Binding> binding_;
  std::size_t every_ = 1, seen_ = 0;
  std::vector<std::vector<Tensor>> kept_;
};

std::vector<Tensor> copies_of(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> copies;
  for (const auto& one : tensors) copies.push_back(copy_of(one.view()));
  return copies;
}

}  // namespace

Result<Samples> calibration_samples(const infer::Model& model, const infer::Dataset& data,
                                    std::size_t count_max) {
  const auto* audio = std::get_if<infer::AudioInput>(&model.card().input.kind);
  if (audio != nullptr && !model.card().input.state.empty()) {
    SELVAGE_TRY(auto windows, WindowRecorder(model, *audio).record(data, count_max));
    const auto shared =
        std::make_shared<const std::vector<std::vector<Tensor>>>(std::move(windows));
    return Samples{.count = shared->size(),
                   .get = [shared](std::size_t index) -> Result<std::vector<Tensor>> {
                     return copies_of((*shared)[index]);
                   }};
  }
  SELVAGE_TRY(auto fixed, constant_inputs(model));
  const auto shared = std::make_shared<const std::vector<Tensor>>(std::move(fixed));
  const auto count = std::min(count_max, data.size());
  return Samples{.count = count,
                 .get = [shared, count, &data](std::size_t index) -> Result<std::vector<Tensor>> {
                   SELVAGE_TRY(auto given, data.sample(spread(index, count, data.size())));
                   auto tensors = copies_of(*shared);
                   for (std::size_t i = 0; i < given.size(); ++i)
                     tensors[data.inputs()[i].index] = std::move(given[i]);
                   return tensors;
                 }};
}

}  // namespace selvage::compress
