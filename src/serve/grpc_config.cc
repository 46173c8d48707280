#include "serve/grpc_config.h"

#include <array>
#include <utility>

namespace selvage::serve {
namespace {

using infer::DynamicBatching;
using infer::EnsembleScheduling;
using infer::SequenceBatching;
using std::chrono::microseconds;

std::uint64_t count(microseconds duration) {
  return static_cast<std::uint64_t>(duration.count());
}

inference::DataType to_proto(DataType type) {
  inference::DataType value = inference::TYPE_INVALID;
  return inference::DataType_Parse(std::string(infer::config_type_name(type)), &value)
             ? value
             : inference::TYPE_INVALID;
}

template <typename List>
void set_shape(const Shape& shape, List* to) {
  to->Add(shape.begin(), shape.end());
}

template <typename Proto>
void write_tensor(const infer::TensorConfig& from, Proto& to) {
  to.set_name(from.name);
  to.set_data_type(to_proto(from.type));
  set_shape(from.dims, to.mutable_dims());
  if (from.reshape) set_shape(*from.reshape, to.mutable_reshape()->mutable_shape());
}

void write(const infer::VersionPolicy& from, inference::ModelVersionPolicy& to) {
  if (const auto* latest = std::get_if<infer::LatestVersions>(&from)) {
    to.mutable_latest()->set_num_versions(latest->count);
  } else if (const auto* some = std::get_if<infer::SpecificVersions>(&from)) {
    to.mutable_specific()->mutable_versions()->Add(some->versions.begin(), some->versions.end());
  } else {
    to.mutable_all();
  }
}

void write(const infer::QueuePolicy& from, inference::ModelQueuePolicy& to) {
  to.set_timeout_action(from.timeout_action == infer::QueuePolicy::TimeoutAction::kDelay
                            ? inference::ModelQueuePolicy::DELAY
                            : inference::ModelQueuePolicy::REJECT);
  to.set_default_timeout_microseconds(count(from.default_timeout));
  to.set_allow_timeout_override(from.allow_timeout_override);
  to.set_max_queue_size(from.max_queue_size);
}

void write(const DynamicBatching& from, inference::ModelDynamicBatching& to) {
  to.mutable_preferred_batch_size()->Add(from.preferred_batch_sizes.begin(),
                                         from.preferred_batch_sizes.end());
  to.set_max_queue_delay_microseconds(count(from.max_queue_delay));
  to.set_preserve_ordering(from.preserve_ordering);
  to.set_priority_levels(from.priority_levels);
  to.set_default_priority_level(from.default_priority_level);
  if (from.default_queue_policy)
    write(*from.default_queue_policy, *to.mutable_default_queue_policy());
  for (const auto& [level, policy] : from.priority_queue_policies)
    write(policy, (*to.mutable_priority_queue_policy())[level]);
}

void write(const infer::SequenceControl& from, inference::ModelSequenceBatching::ControlInput& to) {
  using Kind = infer::SequenceControl::Kind;
  using Control = inference::ModelSequenceBatching::Control;
  constexpr std::array<std::pair<Kind, Control::Kind>, 4> kKinds{
      {{Kind::kStart, Control::CONTROL_SEQUENCE_START},
       {Kind::kReady, Control::CONTROL_SEQUENCE_READY},
       {Kind::kEnd, Control::CONTROL_SEQUENCE_END},
       {Kind::kCorrelationId, Control::CONTROL_SEQUENCE_CORRID}}};
  to.set_name(from.input);
  Control& control = *to.add_control();
  for (const auto& [kind, value] : kKinds)
    if (kind == from.kind) control.set_kind(value);
  if (from.kind == Kind::kCorrelationId) {
    control.set_data_type(to_proto(from.type));
    return;
  }
  for (const double value : {from.false_value, from.true_value}) {
    if (from.type == DataType::kFloat32)
      control.add_fp32_false_true(static_cast<float>(value));
    else if (from.type == DataType::kBool)
      control.add_bool_false_true(value != 0);
    else
      control.add_int32_false_true(static_cast<std::int32_t>(value));
  }
}

void write(const infer::SequenceState& from, inference::ModelSequenceBatching::State& to) {
  to.set_input_name(from.input_name);
  to.set_output_name(from.output_name);
  to.set_data_type(to_proto(from.type));
  set_shape(from.dims, to.mutable_dims());
  if (!from.initial) return;
  auto& initial = *to.add_initial_state();
  initial.set_name(from.initial->name);
  initial.set_data_type(to_proto(from.initial->type));
  set_shape(from.initial->dims, initial.mutable_dims());
  if (from.initial->data_file.empty())
    initial.set_zero_data(true);
  else
    initial.set_data_file(from.initial->data_file);
}

void write(const SequenceBatching& from, inference::ModelSequenceBatching& to) {
  to.set_max_sequence_idle_microseconds(count(from.max_idle));
  if (const auto* direct = std::get_if<infer::DirectStrategy>(&from.strategy)) {
    auto& strategy = *to.mutable_direct();
    strategy.set_max_queue_delay_microseconds(count(direct->max_queue_delay));
    strategy.set_minimum_slot_utilization(direct->minimum_slot_utilization);
  } else if (const auto* oldest = std::get_if<infer::OldestStrategy>(&from.strategy)) {
    auto& strategy = *to.mutable_oldest();
    strategy.set_max_candidate_sequences(oldest->max_candidate_sequences);
    strategy.mutable_preferred_batch_size()->Add(oldest->preferred_batch_sizes.begin(),
                                                 oldest->preferred_batch_sizes.end());
    strategy.set_max_queue_delay_microseconds(count(oldest->max_queue_delay));
    strategy.set_preserve_ordering(oldest->preserve_ordering);
  }
  for (const auto& control : from.controls) write(control, *to.add_control_input());
  for (const auto& state : from.states) write(state, *to.add_state());
}

void write(const EnsembleScheduling& from, inference::ModelEnsembling& to) {
  for (const auto& step : from.steps) {
    auto& added = *to.add_step();
    added.set_model_name(step.model);
    added.set_model_version(step.version);
    added.mutable_input_map()->insert(step.input_map.begin(), step.input_map.end());
    added.mutable_output_map()->insert(step.output_map.begin(), step.output_map.end());
  }
}

void write(const infer::Warmup& from, inference::ModelWarmup& to) {
  to.set_name(from.name);
  to.set_batch_size(from.batch_size);
  to.set_count(from.count);
  for (const auto& [name, input] : from.inputs) {
    auto& added = (*to.mutable_inputs())[name];
    added.set_data_type(to_proto(input.type));
    set_shape(input.dims, added.mutable_dims());
    switch (input.data) {
      case infer::WarmupInput::Data::kZero: added.set_zero_data(true); break;
      case infer::WarmupInput::Data::kRandom: added.set_random_data(true); break;
      case infer::WarmupInput::Data::kFile: added.set_input_data_file(input.data_file); break;
    }
  }
}

}  // namespace

void write_config(const infer::ModelConfig& from, inference::ModelConfig& to) {
  to.set_name(from.name);
  to.set_platform(from.platform);
  to.set_backend(from.backend);
  write(from.version_policy, *to.mutable_version_policy());
  to.set_max_batch_size(from.max_batch_size.value_or(0));
  for (const auto& input : from.inputs) write_tensor(input, *to.add_input());
  for (const auto& output : from.outputs) {
    auto& added = *to.add_output();
    write_tensor(output, added);
    added.set_label_filename(output.label_filename);
  }
  for (const auto& group : from.instance_groups) {
    auto& added = *to.add_instance_group();
    added.set_name(group.name);
    added.set_count(group.count);
    added.set_kind(inference::ModelInstanceGroup::KIND_CPU);
  }
  if (const auto* dynamic = std::get_if<DynamicBatching>(&from.scheduling))
    write(*dynamic, *to.mutable_dynamic_batching());
  if (const auto* sequence = std::get_if<SequenceBatching>(&from.scheduling))
    write(*sequence, *to.mutable_sequence_batching());
  if (const auto* ensemble = std::get_if<EnsembleScheduling>(&from.scheduling))
    write(*ensemble, *to.mutable_ensemble_scheduling());
  if (from.graph_level != infer::GraphLevel::kDefault)
    to.mutable_optimization()->mutable_graph()->set_level(std::to_underlying(from.graph_level));
  to.set_default_model_filename(from.default_model_filename);
  for (const auto& [name, value] : from.parameters)
    (*to.mutable_parameters())[name].set_string_value(value);
  for (const auto& warmup : from.warmups) write(warmup, *to.add_model_warmup());
}

}  // namespace selvage::serve
