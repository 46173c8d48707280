#include "learn/objective.h"

#include <algorithm>
#include <array>

#include <selvage/onnx.pb.h>

#include "infer/postprocess.h"

namespace selvage::learn {
namespace {

using infer::TargetKind;

std::unexpected<Error> invalid(const std::string& problem) {
  return fail(ErrorCode::kInvalidArgument, problem);
}

struct Word {
  std::string_view word;
  LossKind loss;
  TargetSource source;
};
constexpr std::array kLosses{Word{"cross-entropy", LossKind::kCrossEntropy, TargetSource::kClass},
                             Word{"binary", LossKind::kBinaryCrossEntropy, TargetSource::kBinary},
                             Word{"mse", LossKind::kMeanSquared, TargetSource::kValues},
                             Word{"l1", LossKind::kAbsolute, TargetSource::kValues},
                             Word{"huber", LossKind::kHuber, TargetSource::kValues},
                             Word{"reconstruction", LossKind::kMeanSquared, TargetSource::kInput}};

/// Without a card: the model's one float32 output that is not state.
Result<std::size_t> only_output(std::span<const infer::ValueInfo> outputs,
                                std::span<const infer::StatePair> state) {
  std::vector<std::size_t> found;
  std::string listed;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const auto is_state = std::ranges::find(state, outputs[i].name, &infer::StatePair::output);
    if (outputs[i].type != DataType::kFloat32 || is_state != state.end()) continue;
    found.push_back(i);
    listed += (listed.empty() ? "'" : ", '") + outputs[i].name + "'";
  }
  if (found.size() == 1) return found[0];
  if (found.empty()) return infer::OutputNames(outputs, state).index_of("");
  return invalid("the model has several outputs (" + listed +
                 ") and no card says which of them the data label: write one beside it with a line "
                 "such as `output: {kind: regression, tensor: " +
                 outputs[found[0]].name + "}` (or classification, anomaly)");
}

/// The output that the card means.
Result<std::size_t> output_of(const infer::Model& model) {
  const auto outputs = model.session().outputs();
  const infer::OutputNames names(outputs, model.card().input.state);
  const auto& card = model.card().output;
  if (const auto* classes = std::get_if<infer::ClassificationOutput>(&card))
    return names.index_of(classes->tensor);
  if (const auto* numbers = std::get_if<infer::RegressionOutput>(&card))
    return names.index_of(numbers->tensor);
  if (const auto* anomaly = std::get_if<infer::AnomalyOutput>(&card))
    return names.index_of(anomaly->tensor);
  return only_output(outputs, model.card().input.state);
}

std::string_view automatic_loss(const Objective& objective, const infer::Dataset& data) {
  const auto inputs = data.inputs();
  const bool mirrors = inputs.size() == 1 && objective.width > 1 &&
                       element_count(inputs[0].shape) == objective.width;
  switch (data.target_kind()) {
    case TargetKind::kNone: return "reconstruction";
    case TargetKind::kValues: return "mse";
    case TargetKind::kClass: break;
  }
  if (objective.width == 1) return "binary";
  return mirrors && data.classes().size() <= 2 ? "reconstruction" : "cross-entropy";
}

/// That each label is one the model can give, and that there are two at least.
Result<void> check_labels(const Objective& objective, const infer::Dataset& data) {
  const auto classes = objective.source == TargetSource::kBinary ? 2 : objective.width;
  bool differ = false;
  for (std::size_t i = 0; i < data.size(); ++i) {
    const auto label = data.label(i);
    if (label >= classes)
      return invalid(data.place(i) + ": the label is " + std::to_string(label) +
                     ", the model's output '" + objective.output + "' knows classes 0 to " +
                     std::to_string(classes - 1));
    differ = differ || label != data.label(0);
  }
  if (differ) return {};
  return invalid("every sample has the class '" +
                 data.classes()[static_cast<std::size_t>(data.label(0))] +
                 "': there is nothing to tell apart");
}

Result<void> check_target(const Objective& objective, const infer::Dataset& data) {
  if (objective.counts_classes()) {
    if (data.target_kind() != TargetKind::kClass)
      return invalid(data.target_kind() == TargetKind::kNone
                         ? "the data have no labels"
                         : "the labels are numbers, not classes: use the loss mse, l1 or huber");
    if (objective.source == TargetSource::kBinary && objective.width != 1)
      return invalid("the loss 'binary' needs a model with one output a sample, '" +
                     objective.output + "' has " + std::to_string(objective.width));
    if (objective.shape.empty() || objective.shape.front() != objective.width)
      return invalid("one class a sample needs an output of one score a class, but '" +
                     objective.output + "' is " + to_string(objective.shape) + " a sample");
    return check_labels(objective, data);
  }
  if (objective.source == TargetSource::kInput) {
    const auto inputs = data.inputs();
    if (inputs.size() == 1 && inputs[0].type == DataType::kFloat32 &&
        element_count(inputs[0].shape) == objective.width)
      return {};
    return invalid("without labels the model must give back its one float32 input, but '" +
                   objective.output + "' has " + std::to_string(objective.width) +
                   " elements a sample");
  }
  if (data.target_kind() != TargetKind::kValues)
    return invalid("the labels are not numbers: use the loss cross-entropy or binary");
  const auto values = static_cast<std::int64_t>(data.values(0).size());
  if (values == objective.width) return {};
  if (objective.shape.size() >= 2 && values * objective.shape[0] == objective.width)
    return invalid("the data label every place of '" + objective.output + "' " +
                   to_string(objective.shape) +
                   " (segmentation), which cannot be trained: a sample needs one class, or as many "
                   "numbers as the model gives");
  return invalid(std::to_string(values) + " labels a sample, but '" + objective.output + "' has " +
                 std::to_string(objective.width) + " elements");
}

bool made_by_sigmoid(const graph::Model& graph, const std::string& value) {
  for (const auto& node : graph.proto().graph().node())
    for (const auto& output : node.output())
      if (output == value) return node.op_type() == "Sigmoid" || node.op_type() == "HardSigmoid";
  return false;
}

}  // namespace

std::vector<std::string> loss_words() {
  std::vector<std::string> words{"auto"};
  for (const auto& one : kLosses) words.emplace_back(one.word);
  return words;
}

bool Objective::is_correct(std::span<const float> values, std::int64_t label) const {
  if (source == TargetSource::kBinary)
    return (values[0] >= (output_is_probability ? 0.5f : 0.0f)) == (label == 1);
  return std::ranges::max_element(values) - values.begin() == label;
}

Result<Objective> choose_objective(const infer::Model& model, const graph::Model& graph,
                                   const infer::Dataset& data, std::string_view loss) {
  SELVAGE_TRY(const auto index, output_of(model));
  const auto& declared = model.session().outputs()[index];
  Objective objective{.output = declared.name};
  if (declared.type != DataType::kFloat32 || declared.shape.empty())
    return invalid("output '" + declared.name + "' is " + std::string(to_string(declared.type)) +
                   " " + to_string(declared.shape) + ": a loss needs float32 with a batch");
  objective.shape.assign(declared.shape.begin() + 1, declared.shape.end());
  const auto width = element_count(objective.shape);
  if (!width || *width < 1)
    return invalid("the size of output '" + declared.name + "', " + to_string(declared.shape) +
                   ", is open: only its first dimension may be");
  objective.width = *width;
  const auto word = loss == "auto" ? automatic_loss(objective, data) : loss;
  const auto* found = std::ranges::find(kLosses, word, &Word::word);
  if (found == kLosses.end()) return invalid("no loss '" + std::string(word) + "'");
  objective.loss = found->loss;
  objective.source = found->source;
  objective.output_is_probability = made_by_sigmoid(graph, declared.name);
  if (const auto* card = std::get_if<infer::RegressionOutput>(&model.card().output)) {
    objective.scale = card->scale;
    objective.offset = card->offset;
  }
  SELVAGE_RETURN_IF_ERROR(check_target(objective, data));
  return objective;
}

}  // namespace selvage::learn
