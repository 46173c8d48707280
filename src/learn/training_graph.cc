#include "learn/training_graph.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "learn/gradient.h"
#include "learn/lora.h"
#include "learn/name_pattern.h"
#include "learn/optimizer_graph.h"
#include "learn/own_operators.h"
#include "learn/parameters.h"
#include "learn/prepare.h"
#include "learn/step_memory.h"
#include "learn/training_mode.h"

namespace selvage::learn {
namespace {

using Names = std::unordered_set<std::string>;

/// Everything that the values depend on.
Names ancestors(const onnx::GraphProto& graph, Names values) {
  for (int i = graph.node_size() - 1; i >= 0; --i) {
    const auto& node = graph.node(i);
    if (std::ranges::any_of(node.output(), [&](const auto& name) { return values.contains(name); }))
      values.insert(node.input().begin(), node.input().end());
  }
  return values;
}

void add_port(google::protobuf::RepeatedPtrField<onnx::ValueInfoProto>& ports,
              const std::string& name, DataType type, const Shape& shape) {
  auto& port = *ports.Add();
  port.set_name(name);
  auto& tensor = *port.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(static_cast<int>(type));
  tensor.mutable_shape();
  for (const auto size : shape) tensor.mutable_shape()->add_dim()->set_dim_value(size);
}

/// The value that a loss of logits reads: what goes into a Softmax or Sigmoid at the end.
std::string logits_behind(const onnx::GraphProto& graph, std::string value, LossKind kind) {
  const bool wants_softmax =
      kind == LossKind::kCrossEntropy || kind == LossKind::kDistillation || kind == LossKind::kCtc;
  const bool wants_sigmoid = kind == LossKind::kBinaryCrossEntropy;
  for (int i = graph.node_size() - 1; i >= 0; --i) {
    const auto& node = graph.node(i);
    if (node.output_size() == 0 || node.output(0) != value) continue;
    const auto& op = node.op_type();
    if (op == "Identity") {
      value = node.input(0);
      continue;
    }
    const bool is_softmax = op == "Softmax" || op == "LogSoftmax";
    if ((wants_softmax && is_softmax) || (wants_sigmoid && op == "Sigmoid")) return node.input(0);
    return value;
  }
  return value;
}

/// The losses of a graph: terms, targets and their weighted sum.
struct Losses {
  Expression total;
  std::vector<Expression> terms;
  std::vector<BatchInput> targets;
};

Result<Expression> target_of(GraphBuilder& builder, const LossTerm& term, const TargetType& type,
                             Losses& losses) {
  const auto known = std::ranges::find(losses.targets, term.target, &BatchInput::name);
  if (known != losses.targets.end()) {
    if (known->type == type.type && known->shape == type.shape) return builder.value(term.target);
    return fail(ErrorCode::kInvalidArgument, "target '" + term.target + "' is " +
                                                 to_string(known->shape) + " for one loss and " +
                                                 to_string(type.shape) +
                                                 " for another: give them different names");
  }
  if (builder.value(term.target))
    return fail(ErrorCode::kInvalidArgument,
                "target '" + term.target + "' has the name of a value of the model");
  losses.targets.push_back({term.target, type.type, type.shape, true});
  return builder.declare(term.target, type.type, type.shape);
}

Result<Losses> add_losses(GraphBuilder& builder, std::span<const LossTerm> terms) {
  Losses losses;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const auto& term = terms[i];
    builder.set_prefix("loss" + std::to_string(i));
    const auto value = builder.value(logits_behind(builder.graph(), term.output, term.kind));
    if (!value)
      return fail(ErrorCode::kUnimplemented,
                  "the shape of the logits behind '" + term.output + "' depends on the data");
    SELVAGE_TRY(const auto type, target_type(term, value.shape()));
    SELVAGE_TRY(const auto target, target_of(builder, term, type, losses));
    SELVAGE_TRY(const auto loss, add_loss(term, value, target));
    losses.terms.push_back(builder.named(loss, "selvage/loss/" + std::to_string(i)));
    const auto weighted = losses.terms.back() * static_cast<double>(term.weight);
    losses.total = losses.total ? losses.total + weighted : weighted;
  }
  losses.total = builder.named(losses.total, "selvage/loss");
  return losses;
}

std::vector<BatchInput> data_inputs(const onnx::GraphProto& graph) {
  std::vector<BatchInput> inputs;
  for (const auto& input : graph.input()) {
    const auto& tensor = input.type().tensor_type();
    BatchInput data{
        .name = input.name(), .type = static_cast<DataType>(tensor.elem_type()), .shape = {}};
    for (const auto& dimension : tensor.shape().dim()) data.shape.push_back(dimension.dim_value());
    inputs.push_back(std::move(data));
  }
  return inputs;
}

Result<PreparedModel> prepared_for(infer::Runtime& runtime, const graph::Model& inference,
                                   const TrainingGraphOptions& options) {
  if (options.batch < 1)
    return fail(ErrorCode::kInvalidArgument, "a batch holds at least one sample");
  if (options.losses.empty())
    return fail(ErrorCode::kInvalidArgument, "there is no loss to train for");
  SELVAGE_TRY(
      auto prepared,
      prepare(runtime, inference, {.batch = options.batch, .input_shapes = options.input_shapes}));
  for (auto& output : *prepared.model.proto().mutable_graph()->mutable_output())
    if (!prepared.types.contains(output.name()))
      return fail(ErrorCode::kUnimplemented, "the shape of output '" + output.name() +
                                                 "' depends on the data, which cannot be trained");
  for (const auto& term : options.losses)
    if (!prepared.types.contains(term.output))
      return fail(ErrorCode::kInvalidArgument,
                  "the loss reads '" + term.output + "', but the model has no such value");
  return prepared;
}

/// Of the prepared model, where branches are decided, but only what the file stores by that name.
std::vector<std::string> stored_parameters(const graph::Model& prepared,
                                           const graph::Model& inference) {
  auto names = trainable_parameters(prepared);
  std::erase_if(names, [&](const auto& name) { return find_stored(inference, name) == nullptr; });
  return names;
}

/// Puts a step together. One object builds one graph.
class StepBuilder {
 public:
  StepBuilder(PreparedModel prepared, const TrainingGraphOptions& options)
      : prepared_(std::move(prepared)), options_(options) {}

  Result<TrainingGraph> run(std::span<const std::string> candidates);

 private:
  Result<void> choose(std::span<const std::string> candidates);
  Result<void> add_step(GraphBuilder& builder);
  Result<void> differentiate(GraphBuilder& builder, std::vector<Trained>& trained);
  Result<void> add_statistics(GraphBuilder& builder);
  Result<void> add_averages(GraphBuilder& builder, const std::vector<Trained>& trained);
  void accumulate(GraphBuilder& builder, std::vector<Trained>& trained);
  void add_state(GraphBuilder& builder, StateRole role, const std::string& name, Expression value,
                 Expression updated, Tensor initial);
  /// The new value, or the old one in a step that only accumulates.
  Expression when_applied(Expression updated, Expression old) {
    return apply_ ? where(apply_, updated, old) : updated;
  }
  void finish();

  PreparedModel prepared_;
  const TrainingGraphOptions& options_;
  std::vector<std::string> parameters_;
  std::vector<AddedAdapter> adapters_;
  TrainingMode mode_;
  Losses losses_;
  Expression learning_rate_, apply_;
  Names to_inputs_;  ///< Initialisers that become state.
  std::vector<std::pair<std::string, ValueType>> outputs_;
  TrainingGraph result_;
};

/// Of a quantised model.
bool has_integer_weights(const onnx::GraphProto& graph) {
  return std::ranges::any_of(graph.node(), [](const onnx::NodeProto& node) {
    return node.op_type() == "DequantizeLinear" || computes_in_integers(node.op_type());
  });
}

/// A pattern that fits nothing is a typing error, and what it was to freeze would be trained.
Result<void> check_patterns(std::span<const std::string> patterns,
                            std::span<const std::string> parameters) {
  for (const auto& pattern : patterns)
    if (std::ranges::none_of(parameters,
                             [&](const auto& name) { return matches_any(name, {&pattern, 1}); }))
      return fail(ErrorCode::kInvalidArgument,
                  "no parameter's name fits '" + pattern + "'" +
                      (parameters.empty() ? "" : ", the first is '" + parameters.front() + "'"));
  return {};
}

/// Which parameters are trained; the rest stays as it is.
Result<void> StepBuilder::choose(std::span<const std::string> candidates) {
  SELVAGE_RETURN_IF_ERROR(check_patterns(options_.train, candidates));
  SELVAGE_RETURN_IF_ERROR(check_patterns(options_.freeze, candidates));
  Names ends;
  for (const auto& term : options_.losses) ends.insert(term.output);
  const auto needed = ancestors(prepared_.model.proto().graph(), std::move(ends));
  std::vector<std::string> reachable;
  for (const auto& name : candidates)
    if (needed.contains(name) && !matches_any(name, options_.freeze)) reachable.push_back(name);
  const bool with_adapters = options_.lora.rank != 0;
  for (const auto& name : reachable)
    if (options_.train.empty() ? !with_adapters : matches_any(name, options_.train))
      parameters_.push_back(name);
  if (with_adapters) {
    std::erase_if(reachable,
                  [&](const auto& name) { return std::ranges::count(parameters_, name) > 0; });
    SELVAGE_TRY(adapters_,
                add_adapters(prepared_.model, prepared_.types, options_.lora, reachable));
  }
  if (parameters_.empty() && adapters_.empty())
    return fail(ErrorCode::kFailedPrecondition,
                "there is nothing to train: no float32 weight between the inputs and the loss fits "
                "the patterns" +
                    (has_integer_weights(prepared_.model.proto().graph())
                         ? "; " + std::string(kTrainBeforeQuantising)
                         : ""));
  return {};
}

void StepBuilder::add_state(GraphBuilder& builder, StateRole role, const std::string& name,
                            Expression value, Expression updated, Tensor initial) {
  const auto output = builder.named(updated, "updated/" + value.name());
  result_.state.push_back({role, name, value.name(), output.name(), std::move(initial)});
  outputs_.emplace_back(output.name(), ValueType{output.type(), output.shape()});
}

/// Gradients gather over several batches; the last of them applies their mean.
void StepBuilder::accumulate(GraphBuilder& builder, std::vector<Trained>& trained) {
  if (options_.accumulate == 1) return;
  apply_ = builder.declare("selvage/apply", DataType::kBool, {});
  result_.apply = apply_.name();
  builder.set_prefix("accumulate");
  for (auto& parameter : trained) {
    const auto& type = parameter.value;
    const auto slot = builder.declare("accumulated/" + parameter.name, type.type(), type.shape());
    const auto total = slot + parameter.gradient * (1 / static_cast<double>(options_.accumulate));
    parameter.gradient = total;
    auto zeros = Tensor::create(type.type(), type.shape());
    if (!zeros) continue;  // A parameter of this shape exists already.
    add_state(builder, StateRole::kOptimizer, slot.name(), slot,
              where(apply_, builder.scalar(0, type.type()), total), *std::move(zeros));
  }
}

Result<void> StepBuilder::differentiate(GraphBuilder& builder, std::vector<Trained>& trained) {
  std::vector<std::string> names;
  for (const auto& name : parameters_) {
    const auto value = builder.value(name);
    auto initial = builder.constant_value(value);
    if (!initial || value.type() != DataType::kFloat32)
      return fail(ErrorCode::kUnimplemented,
                  "parameter '" + name + "' is no float32 tensor stored in the model");
    names.push_back(name);
    trained.push_back({name, value, {}, {}});
    to_inputs_.insert(name);
  }
  for (const auto& added : adapters_)
    for (const auto& name : {added.adapter.a, added.adapter.b}) {
      names.push_back(name);
      trained.push_back({name, builder.value(name), {}, {}});
    }
  SELVAGE_TRY(const auto gradients, add_gradients(builder, losses_.total, names));
  for (std::size_t i = 0; i < trained.size(); ++i) trained[i].gradient = gradients[i];
  return {};
}

Result<void> StepBuilder::add_statistics(GraphBuilder& builder) {
  builder.set_prefix("statistics");
  for (const auto& statistic : mode_.statistics) {
    const auto value = builder.value(statistic.name);
    auto initial = builder.constant_value(value);
    if (!initial)
      return fail(ErrorCode::kUnimplemented,
                  "'" + statistic.name + "', a running statistic, is not stored in the model");
    if (!to_inputs_.insert(statistic.name).second) continue;  // Shared: the first one keeps it.
    const auto of_batch = builder.value(statistic.of_batch);
    const auto updated =
        value * statistic.momentum + of_batch * ((1 - statistic.momentum) * statistic.correction);
    add_state(builder, StateRole::kStatistic, statistic.name, value, updated, *std::move(initial));
  }
  return {};
}

Result<void> StepBuilder::add_averages(GraphBuilder& builder, const std::vector<Trained>& trained) {
  const double decay = options_.optimizer.average_decay;
  if (decay == 0) return {};
  if (!adapters_.empty())
    return fail(ErrorCode::kUnimplemented, "adapters have no moving average: leave one out");
  builder.set_prefix("average");
  for (const auto& parameter : trained) {
    auto initial = builder.constant_value(parameter.value);
    if (!initial) continue;
    const auto slot = builder.declare("average/" + parameter.name, parameter.value.type(),
                                      parameter.value.shape());
    add_state(builder, StateRole::kAverage, parameter.name, slot,
              when_applied(slot * decay + parameter.updated * (1 - decay), slot),
              *std::move(initial));
  }
  return {};
}

Result<void> StepBuilder::add_step(GraphBuilder& builder) {
  for (auto& mask : mode_.masks) builder.declare(mask.input, DataType::kFloat32, mask.shape);
  SELVAGE_TRY(losses_, add_losses(builder, options_.losses));
  std::vector<Trained> trained;
  SELVAGE_RETURN_IF_ERROR(differentiate(builder, trained));
  builder.set_prefix("");
  learning_rate_ = builder.declare("selvage/learning_rate", DataType::kFloat32, {});
  accumulate(builder, trained);
  SELVAGE_TRY(auto slots, add_updates(builder, options_.optimizer, trained, learning_rate_));
  builder.set_prefix("state");
  for (std::size_t i = 0; i < trained.size(); ++i) {
    auto& parameter = trained[i];
    const bool is_adapter = i >= parameters_.size();
    auto initial = builder.constant_value(parameter.value);
    if (is_adapter) {
      auto& added = adapters_[(i - parameters_.size()) / 2];
      initial = parameter.name == added.adapter.a ? std::move(added.a) : std::move(added.b);
    }
    add_state(builder, is_adapter ? StateRole::kAdapter : StateRole::kParameter, parameter.name,
              parameter.value, when_applied(parameter.updated, parameter.value),
              *std::move(initial));
  }
  for (auto& slot : slots)
    add_state(builder, StateRole::kOptimizer, slot.name, slot.value,
              when_applied(slot.updated, slot.value), std::move(slot.initial));
  SELVAGE_RETURN_IF_ERROR(add_statistics(builder));
  return add_averages(builder, trained);
}

/// Inputs and outputs of the whole step.
void StepBuilder::finish() {
  auto& graph = *prepared_.model.proto().mutable_graph();
  for (const auto& output : graph.output()) result_.outputs.push_back(output.name());
  graph.clear_output();
  auto& out = *graph.mutable_output();
  add_port(out, losses_.total.name(), losses_.total.type(), {});
  for (const auto& term : losses_.terms) add_port(out, term.name(), term.type(), {});
  for (const auto& name : result_.outputs) {
    const auto& type = prepared_.types.at(name);
    add_port(out, name, type.type, type.shape);
  }
  for (const auto& [name, type] : outputs_) add_port(out, name, type.type, type.shape);

  result_.batch = data_inputs(graph);
  auto& in = *graph.mutable_input();
  for (const auto& target : losses_.targets) {
    add_port(in, target.name, target.type, target.shape);
    result_.batch.push_back(target);
  }
  add_port(in, learning_rate_.name(), DataType::kFloat32, {});
  if (apply_) add_port(in, apply_.name(), DataType::kBool, {});
  for (const auto& mask : mode_.masks) add_port(in, mask.input, DataType::kFloat32, mask.shape);
  for (const auto& state : result_.state)
    add_port(in, state.input, state.initial.type(), state.initial.shape());
  google::protobuf::RepeatedPtrField<onnx::TensorProto> kept;
  for (auto& tensor : *graph.mutable_initializer())
    if (!to_inputs_.contains(tensor.name())) *kept.Add() = std::move(tensor);
  graph.mutable_initializer()->Swap(&kept);

  result_.loss = losses_.total.name();
  for (const auto& term : losses_.terms) result_.losses.push_back(term.name());
  result_.learning_rate = learning_rate_.name();
  result_.masks = std::move(mode_.masks);
  result_.seed = options_.seed;
  result_.accumulate = options_.accumulate;
  for (auto& added : adapters_) result_.adapters.push_back(std::move(added.adapter));
}

Result<TrainingGraph> StepBuilder::run(std::span<const std::string> candidates) {
  if (options_.accumulate < 1)
    return fail(ErrorCode::kInvalidArgument, "gradients of at least one batch make an update");
  SELVAGE_RETURN_IF_ERROR(choose(candidates));
  Names moving(parameters_.begin(), parameters_.end());
  if (options_.freeze_statistics) moving.clear();
  SELVAGE_TRY(mode_, enter_training_mode(prepared_, moving));
  const bool own = !options_.standard_operators;
  if (own) use_own_operators(prepared_, Names(parameters_.begin(), parameters_.end()));
  auto& proto = prepared_.model.proto();
  {
    GraphBuilder builder(*proto.mutable_graph(), prepared_.types);
    builder.allow_own_operators(own);
    builder.recompute_activations(own && options_.recompute);
    SELVAGE_RETURN_IF_ERROR(add_step(builder));
    finish();
    result_.activation_bytes = activation_bytes(*proto.mutable_graph(), builder.types());
  }
  result_.model = std::move(prepared_.model);
  return std::move(result_);
}

}  // namespace

std::uint64_t TrainingGraph::memory_bytes() const {
  std::uint64_t bytes = activation_bytes + activation_bytes / 10;
  for (const auto& tensor : state) bytes += 3 * tensor.initial.bytes().size();
  return bytes;
}

Result<TrainingGraph> build_training_graph(infer::Runtime& runtime, const graph::Model& inference,
                                           const TrainingGraphOptions& options) {
  SELVAGE_TRY(auto prepared, prepared_for(runtime, inference, options));
  const auto candidates = stored_parameters(prepared.model, inference);
  return StepBuilder(std::move(prepared), options).run(candidates);
}

namespace {

/// Losses and their targets become outputs and inputs of `prepared`; with `parameters`, so do the
/// gradients.
Result<GradientGraph> finish_forward(PreparedModel prepared, const TrainingGraphOptions& options,
                                     std::vector<std::string> parameters) {
  auto& graph = *prepared.model.proto().mutable_graph();
  EvaluationGraph result;
  result.batch = data_inputs(graph);
  for (const auto& output : graph.output()) result.outputs.push_back(output.name());
  GraphBuilder builder(graph, std::move(prepared.types));
  SELVAGE_TRY(const auto losses, add_losses(builder, options.losses));
  for (const auto& target : losses.targets) {
    add_port(*graph.mutable_input(), target.name, target.type, target.shape);
    result.batch.push_back(target);
  }
  result.loss = losses.total.name();
  add_port(*graph.mutable_output(), result.loss, losses.total.type(), {});
  for (const auto& term : losses.terms) {
    result.losses.push_back(term.name());
    add_port(*graph.mutable_output(), term.name(), term.type(), {});
  }
  std::vector<std::string> gradients;
  if (!parameters.empty()) {
    SELVAGE_TRY(const auto found, add_gradients(builder, losses.total, parameters));
    builder.set_prefix("gradients");
    for (std::size_t i = 0; i < found.size(); ++i) {
      gradients.push_back(builder.named(found[i], "gradients/" + parameters[i]).name());
      add_port(*graph.mutable_output(), gradients.back(), found[i].type(), found[i].shape());
    }
  }
  result.model = std::move(prepared.model);
  return GradientGraph{std::move(result), std::move(parameters), std::move(gradients)};
}

}  // namespace

Result<EvaluationGraph> build_evaluation_graph(infer::Runtime& runtime,
                                               const graph::Model& inference,
                                               const TrainingGraphOptions& options) {
  SELVAGE_TRY(auto prepared, prepared_for(runtime, inference, options));
  SELVAGE_TRY(auto finished, finish_forward(std::move(prepared), options, {}));
  return std::move(finished.forward);
}

Result<GradientGraph> build_gradient_graph(infer::Runtime& runtime, const graph::Model& inference,
                                           const TrainingGraphOptions& options) {
  SELVAGE_TRY(auto prepared, prepared_for(runtime, inference, options));
  auto parameters = stored_parameters(prepared.model, inference);
  if (parameters.empty())
    return fail(ErrorCode::kFailedPrecondition, "the model has no float32 weights to derive by");
  return finish_forward(std::move(prepared), options, std::move(parameters));
}

}  // namespace selvage::learn
