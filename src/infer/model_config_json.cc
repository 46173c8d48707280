// The configuration as the model_configuration extension shows it: proto field names, with the
// fields that have defaults left out where they say nothing, except those that clients read.
#include <nlohmann/json.hpp>

#include "infer/model_config.h"

namespace selvage::infer {
namespace {

using Json = nlohmann::ordered_json;

Json tensor_json(const TensorConfig& tensor, bool output) {
  Json json = {
      {"name", tensor.name}, {"data_type", config_type_name(tensor.type)}, {"dims", tensor.dims}};
  if (tensor.reshape) json["reshape"] = {{"shape", *tensor.reshape}};
  if (output) json["label_filename"] = tensor.label_filename;
  return json;
}

Json version_policy_json(const VersionPolicy& policy) {
  if (const auto* latest = std::get_if<LatestVersions>(&policy))
    return {{"latest", {{"num_versions", latest->count}}}};
  if (const auto* specific = std::get_if<SpecificVersions>(&policy))
    return {{"specific", {{"versions", specific->versions}}}};
  return {{"all", Json::object()}};
}

Json queue_policy_json(const QueuePolicy& policy) {
  const bool delay = policy.timeout_action == QueuePolicy::TimeoutAction::kDelay;
  return {{"timeout_action", delay ? "DELAY" : "REJECT"},
          {"default_timeout_microseconds", policy.default_timeout.count()},
          {"allow_timeout_override", policy.allow_timeout_override},
          {"max_queue_size", policy.max_queue_size}};
}

Json dynamic_json(const DynamicBatching& batching) {
  Json json = {{"preferred_batch_size", batching.preferred_batch_sizes},
               {"max_queue_delay_microseconds", batching.max_queue_delay.count()},
               {"preserve_ordering", batching.preserve_ordering},
               {"priority_levels", batching.priority_levels},
               {"default_priority_level", batching.default_priority_level},
               {"priority_queue_policy", Json::object()}};
  if (batching.default_queue_policy)
    json["default_queue_policy"] = queue_policy_json(*batching.default_queue_policy);
  for (const auto& [level, policy] : batching.priority_queue_policies)
    json["priority_queue_policy"][std::to_string(level)] = queue_policy_json(policy);
  return json;
}

Json control_json(const SequenceControl& control) {
  using Kind = SequenceControl::Kind;
  Json json;
  switch (control.kind) {
    case Kind::kStart: json["kind"] = "CONTROL_SEQUENCE_START"; break;
    case Kind::kReady: json["kind"] = "CONTROL_SEQUENCE_READY"; break;
    case Kind::kEnd: json["kind"] = "CONTROL_SEQUENCE_END"; break;
    case Kind::kCorrelationId:
      json["kind"] = "CONTROL_SEQUENCE_CORRID";
      json["data_type"] = config_type_name(control.type);
      return json;
  }
  if (control.type == DataType::kInt32)
    json["int32_false_true"] = {static_cast<std::int32_t>(control.false_value),
                                static_cast<std::int32_t>(control.true_value)};
  else if (control.type == DataType::kFloat32)
    json["fp32_false_true"] = {control.false_value, control.true_value};
  else
    json["bool_false_true"] = {control.false_value != 0, control.true_value != 0};
  return json;
}

Json state_json(const SequenceState& state) {
  Json json = {{"input_name", state.input_name},
               {"output_name", state.output_name},
               {"data_type", config_type_name(state.type)},
               {"dims", state.dims}};
  if (!state.initial) return json;
  Json initial = {{"name", state.initial->name},
                  {"data_type", config_type_name(state.initial->type)},
                  {"dims", state.initial->dims}};
  if (state.initial->data_file.empty())
    initial["zero_data"] = true;
  else
    initial["data_file"] = state.initial->data_file;
  json["initial_state"] = Json::array({initial});
  return json;
}

Json sequence_json(const SequenceBatching& batching) {
  Json json = {{"max_sequence_idle_microseconds", batching.max_idle.count()}};
  if (const auto* direct = std::get_if<DirectStrategy>(&batching.strategy))
    json["direct"] = {{"max_queue_delay_microseconds", direct->max_queue_delay.count()},
                      {"minimum_slot_utilization", direct->minimum_slot_utilization}};
  if (const auto* oldest = std::get_if<OldestStrategy>(&batching.strategy))
    json["oldest"] = {{"max_candidate_sequences", oldest->max_candidate_sequences},
                      {"preferred_batch_size", oldest->preferred_batch_sizes},
                      {"max_queue_delay_microseconds", oldest->max_queue_delay.count()},
                      {"preserve_ordering", oldest->preserve_ordering}};
  json["control_input"] = Json::array();
  for (const auto& control : batching.controls)
    json["control_input"].push_back(
        {{"name", control.input}, {"control", Json::array({control_json(control)})}});
  json["state"] = Json::array();
  for (const auto& state : batching.states) json["state"].push_back(state_json(state));
  return json;
}

Json ensemble_json(const EnsembleScheduling& ensemble) {
  Json steps = Json::array();
  for (const auto& step : ensemble.steps)
    steps.push_back({{"model_name", step.model},
                     {"model_version", step.version},
                     {"input_map", step.input_map},
                     {"output_map", step.output_map}});
  return {{"step", std::move(steps)}};
}

Json warmup_json(const Warmup& warmup) {
  Json inputs = Json::object();
  for (const auto& [name, input] : warmup.inputs) {
    Json json = {{"data_type", config_type_name(input.type)}, {"dims", input.dims}};
    switch (input.data) {
      case WarmupInput::Data::kZero: json["zero_data"] = true; break;
      case WarmupInput::Data::kRandom: json["random_data"] = true; break;
      case WarmupInput::Data::kFile: json["input_data_file"] = input.data_file; break;
    }
    inputs[name] = std::move(json);
  }
  return {{"name", warmup.name},
          {"batch_size", warmup.batch_size},
          {"inputs", std::move(inputs)},
          {"count", warmup.count}};
}

}  // namespace

std::string to_json(const ModelConfig& config) {
  Json json = {{"name", config.name},
               {"platform", config.platform},
               {"backend", config.backend},
               {"version_policy", version_policy_json(config.version_policy)},
               {"max_batch_size", config.max_batch_size.value_or(0)},
               {"input", Json::array()},
               {"output", Json::array()}};
  for (const auto& tensor : config.inputs) json["input"].push_back(tensor_json(tensor, false));
  for (const auto& tensor : config.outputs) json["output"].push_back(tensor_json(tensor, true));
  json["optimization"] = Json::object();
  if (config.graph_level != GraphLevel::kDefault)
    json["optimization"]["graph"] = {{"level", static_cast<int>(config.graph_level)}};
  if (const auto* dynamic = std::get_if<DynamicBatching>(&config.scheduling))
    json["dynamic_batching"] = dynamic_json(*dynamic);
  if (const auto* sequence = std::get_if<SequenceBatching>(&config.scheduling))
    json["sequence_batching"] = sequence_json(*sequence);
  if (const auto* ensemble = std::get_if<EnsembleScheduling>(&config.scheduling))
    json["ensemble_scheduling"] = ensemble_json(*ensemble);
  json["instance_group"] = Json::array();
  for (const auto& group : config.instance_groups)
    json["instance_group"].push_back(
        {{"name", group.name}, {"kind", "KIND_CPU"}, {"count", group.count}});
  json["default_model_filename"] = config.default_model_filename;
  json["parameters"] = Json::object();
  for (const auto& [key, value] : config.parameters)
    json["parameters"][key] = {{"string_value", value}};
  json["model_warmup"] = Json::array();
  for (const auto& warmup : config.warmups) json["model_warmup"].push_back(warmup_json(warmup));
  // Bytes that are not UTF-8 would make dump() throw.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace selvage::infer
