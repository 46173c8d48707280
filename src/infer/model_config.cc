#include "infer/model_config.h"

#include <algorithm>
#include <array>

#include "infer/config_text.h"

namespace selvage::infer {
namespace {

constexpr std::int64_t kInt64Max = INT64_MAX;
constexpr std::int64_t kMicrosecondsMax = std::int64_t{1'000'000} * 86'400 * 365;
constexpr std::int64_t kDimensionMax = std::int64_t{1} << 40;
constexpr std::size_t kRankMax = 32;

using TypeName = std::pair<std::string_view, DataType>;
constexpr std::array<TypeName, 14> kTypes = {{
    {"TYPE_BOOL", DataType::kBool},
    {"TYPE_UINT8", DataType::kUint8},
    {"TYPE_UINT16", DataType::kUint16},
    {"TYPE_UINT32", DataType::kUint32},
    {"TYPE_UINT64", DataType::kUint64},
    {"TYPE_INT8", DataType::kInt8},
    {"TYPE_INT16", DataType::kInt16},
    {"TYPE_INT32", DataType::kInt32},
    {"TYPE_INT64", DataType::kInt64},
    {"TYPE_FP16", DataType::kFloat16},
    {"TYPE_FP32", DataType::kFloat32},
    {"TYPE_FP64", DataType::kFloat64},
    {"TYPE_STRING", DataType::kString},
    {"TYPE_BF16", DataType::kBfloat16},
}};

void read_type(ConfigFields& fields, DataType& type) {
  fields.choice<DataType>(
      "data_type", type,
      {kTypes[0], kTypes[1], kTypes[2], kTypes[3], kTypes[4], kTypes[5], kTypes[6], kTypes[7],
       kTypes[8], kTypes[9], kTypes[10], kTypes[11], kTypes[12], kTypes[13]});
}

void read_shape(ConfigFields& fields, std::string_view name, Shape& shape) {
  fields.integers(name, shape, -1, kDimensionMax);
  if (shape.size() > kRankMax)
    fields.fail_at(name, "has more than " + std::to_string(kRankMax) + " dimensions",
                   ErrorCode::kOutOfRange);
}

void read_microseconds(ConfigFields& fields, std::string_view name,
                       std::chrono::microseconds& value) {
  std::int64_t count = value.count();
  fields.integer(name, count, 0, kMicrosecondsMax);
  value = std::chrono::microseconds(count);
}

void read_batch_sizes(ConfigFields& fields, std::vector<std::int32_t>& sizes) {
  fields.integers("preferred_batch_size", sizes, 1, kBatchSizeMax);
  std::ranges::sort(sizes);
  const auto [first, last] = std::ranges::unique(sizes);
  sizes.erase(first, last);
}

/// A file's own name, without a folder: what is read never lies outside of the model's folder.
void read_file_name(ConfigFields& fields, std::string_view name, std::string& value) {
  fields.text(name, value);
  if (value == "." || value == ".." ||
      value.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
    fields.fail_at(name, "'" + value + "' is not the name of a file in the model's folder");
}

enum class Side : std::uint8_t { kInput, kOutput };

TensorConfig read_tensor(const ConfigNode& node, std::string path, Side side,
                         ConfigErrors& errors) {
  ConfigFields fields(node, std::move(path), errors);
  TensorConfig tensor;
  fields.text("name", tensor.name);
  if (tensor.name.empty()) fields.fail_at("name", "is missing");
  read_type(fields, tensor.type);
  if (tensor.type == DataType::kUndefined) fields.fail_at("data_type", "is missing");
  read_shape(fields, "dims", tensor.dims);
  if (const auto* reshape = fields.message("reshape")) {
    ConfigFields inner(*reshape, fields.path_of("reshape"), errors);
    tensor.reshape.emplace();
    read_shape(inner, "shape", *tensor.reshape);
    inner.finish();
    const auto from = element_count(tensor.dims), to = element_count(*tensor.reshape);
    if (!from || !to || *from != *to)
      fields.fail_at("reshape", "must have fixed dimensions and as many elements as dims");
  }
  fields.unsupported("is_shape_tensor", "only TensorRT models have shape tensors");
  fields.unsupported("is_non_linear_format_io", "only TensorRT models have it");
  if (side == Side::kOutput) {
    fields.text("label_filename", tensor.label_filename);
  } else {
    fields.without_effect("format");
    fields.unsupported("allow_ragged_batch", "requests of different shapes are run one by one");
    fields.unsupported("optional", "ONNX models need every input");
  }
  fields.finish();
  return tensor;
}

VersionPolicy read_version_policy(const ConfigNode& node, ConfigErrors& errors) {
  ConfigFields fields(node, "version_policy", errors);
  VersionPolicy policy;
  const auto* latest = fields.message("latest");
  const auto* all = fields.message("all");
  const auto* specific = fields.message("specific");
  if ((latest != nullptr) + (all != nullptr) + (specific != nullptr) > 1)
    errors.add(ErrorCode::kInvalidArgument, node.line, "version_policy",
               "has more than one of latest, all and specific");
  if (latest != nullptr) {
    ConfigFields inner(*latest, "version_policy.latest", errors);
    LatestVersions choice;
    inner.integer("num_versions", choice.count, 0, UINT32_MAX);
    choice.count = std::max(choice.count, 1u);
    inner.finish();
    policy = choice;
  }
  if (all != nullptr) policy = AllVersions{};
  if (specific != nullptr) {
    ConfigFields inner(*specific, "version_policy.specific", errors);
    SpecificVersions choice;
    inner.integers("versions", choice.versions, 1, kInt64Max);
    if (choice.versions.empty()) inner.fail_at("versions", "is empty");
    inner.finish();
    policy = std::move(choice);
  }
  fields.finish();
  return policy;
}

QueuePolicy read_queue_policy(const ConfigNode& node, std::string path, ConfigErrors& errors) {
  using Action = QueuePolicy::TimeoutAction;
  ConfigFields fields(node, std::move(path), errors);
  QueuePolicy policy;
  fields.choice<Action>("timeout_action", policy.timeout_action,
                        {{"REJECT", Action::kReject}, {"DELAY", Action::kDelay}});
  read_microseconds(fields, "default_timeout_microseconds", policy.default_timeout);
  fields.flag("allow_timeout_override", policy.allow_timeout_override);
  fields.integer("max_queue_size", policy.max_queue_size, 0, UINT32_MAX);
  fields.finish();
  return policy;
}

DynamicBatching read_dynamic_batching(const ConfigNode& node, ConfigErrors& errors) {
  ConfigFields fields(node, "dynamic_batching", errors);
  DynamicBatching batching;
  read_batch_sizes(fields, batching.preferred_batch_sizes);
  read_microseconds(fields, "max_queue_delay_microseconds", batching.max_queue_delay);
  fields.flag("preserve_ordering", batching.preserve_ordering);
  fields.integer("priority_levels", batching.priority_levels, 0, kPriorityLevelsMax);
  fields.integer("default_priority_level", batching.default_priority_level, 0, kPriorityLevelsMax);
  if (batching.priority_levels > 0 && (batching.default_priority_level < 1 ||
                                       batching.default_priority_level > batching.priority_levels))
    fields.fail_at("default_priority_level", "must be within 1 to priority_levels, " +
                                                 std::to_string(batching.priority_levels));
  if (const auto* policy = fields.message("default_queue_policy"))
    batching.default_queue_policy =
        read_queue_policy(*policy, "dynamic_batching.default_queue_policy", errors);
  for (const auto& [key, value] : fields.entries("priority_queue_policy")) {
    ConfigNode holder{.name = "", .line = value->line, .kind = ConfigNode::Kind::kMessage};
    holder.members.push_back({.name = "key", .line = value->line, .text = key});
    ConfigFields level_field(holder, "dynamic_batching.priority_queue_policy", errors);
    std::uint64_t level = 0;
    level_field.integer(
        "key", level, 1,
        static_cast<std::int64_t>(std::max<std::uint64_t>(batching.priority_levels, 1)));
    if (value->kind != ConfigNode::Kind::kMessage)
      fields.fail_at("priority_queue_policy", "should have messages as values");
    else
      batching.priority_queue_policies[level] =
          read_queue_policy(*value, "dynamic_batching.priority_queue_policy", errors);
  }
  fields.finish();
  return batching;
}

SequenceControl read_control(const ConfigNode& node, const std::string& input,
                             ConfigErrors& errors) {
  using ControlKind = SequenceControl::Kind;
  ConfigFields fields(node, "sequence_batching.control_input.control", errors);
  SequenceControl control{.input = input};
  fields.choice<ControlKind>("kind", control.kind,
                             {{"CONTROL_SEQUENCE_START", ControlKind::kStart},
                              {"CONTROL_SEQUENCE_READY", ControlKind::kReady},
                              {"CONTROL_SEQUENCE_END", ControlKind::kEnd},
                              {"CONTROL_SEQUENCE_CORRID", ControlKind::kCorrelationId}});
  std::vector<double> ints, floats, bools;
  fields.integers("int32_false_true", ints, INT32_MIN, INT32_MAX);
  fields.numbers("fp32_false_true", floats);
  fields.flags("bool_false_true", bools);
  read_type(fields, control.type);
  fields.finish();
  const bool given = !ints.empty() || !floats.empty() || !bools.empty();
  if (control.kind == ControlKind::kCorrelationId) {
    if (control.type == DataType::kUndefined || given)
      fields.fail_at("data_type", "a CORRID control has a data_type and no false_true values");
    return control;
  }
  const auto& values = !ints.empty() ? ints : !floats.empty() ? floats : bools;
  if (values.size() != 2 || ints.size() + floats.size() + bools.size() != 2) {
    fields.fail_at("kind",
                   "needs exactly one of int32_false_true, fp32_false_true and bool_false_true, "
                   "with two values");
    return control;
  }
  control.type = !ints.empty()     ? DataType::kInt32
                 : !floats.empty() ? DataType::kFloat32
                                   : DataType::kBool;
  control.false_value = values[0];
  control.true_value = values[1];
  return control;
}

SequenceState read_state(const ConfigNode& node, ConfigErrors& errors) {
  ConfigFields fields(node, "sequence_batching.state", errors);
  SequenceState state;
  fields.text("input_name", state.input_name);
  fields.text("output_name", state.output_name);
  if (state.input_name.empty()) fields.fail_at("input_name", "is missing");
  if (state.output_name.empty()) fields.fail_at("output_name", "is missing");
  read_type(fields, state.type);
  read_shape(fields, "dims", state.dims);
  const auto initial = fields.messages("initial_state");
  if (initial.size() > 1) fields.fail_at("initial_state", "is given twice");
  if (!initial.empty()) {
    ConfigFields inner(*initial.front(), "sequence_batching.state.initial_state", errors);
    auto& start = state.initial.emplace();
    inner.text("name", start.name);
    read_type(inner, start.type);
    inner.integers("dims", start.dims, 0, kDimensionMax);
    bool zero = false;
    inner.flag("zero_data", zero);
    read_file_name(inner, "data_file", start.data_file);
    if (inner.has("zero_data") == inner.has("data_file"))
      inner.fail_at("zero_data", "exactly one of zero_data and data_file is needed");
    inner.finish();
  }
  fields.without_effect("use_same_buffer_for_input_output");
  fields.unsupported("use_growable_memory", "it is for CUDA memory");
  fields.finish();
  return state;
}

SequenceBatching read_sequence_batching(const ConfigNode& node, ConfigErrors& errors) {
  ConfigFields fields(node, "sequence_batching", errors);
  SequenceBatching batching;
  const auto* direct = fields.message("direct");
  const auto* oldest = fields.message("oldest");
  if (direct != nullptr && oldest != nullptr) fields.fail_at("oldest", "stands beside direct");
  if (direct != nullptr) {
    ConfigFields inner(*direct, "sequence_batching.direct", errors);
    DirectStrategy strategy;
    read_microseconds(inner, "max_queue_delay_microseconds", strategy.max_queue_delay);
    double utilization = 0;
    inner.number("minimum_slot_utilization", utilization, 0, 1);
    strategy.minimum_slot_utilization = static_cast<float>(utilization);
    inner.finish();
    batching.strategy = strategy;
  } else if (oldest != nullptr) {
    ConfigFields inner(*oldest, "sequence_batching.oldest", errors);
    OldestStrategy strategy;
    inner.integer("max_candidate_sequences", strategy.max_candidate_sequences, 0,
                  kCandidateSequencesMax);
    read_batch_sizes(inner, strategy.preferred_batch_sizes);
    read_microseconds(inner, "max_queue_delay_microseconds", strategy.max_queue_delay);
    inner.flag("preserve_ordering", strategy.preserve_ordering);
    inner.finish();
    batching.strategy = std::move(strategy);
  }
  std::chrono::microseconds idle{0};
  read_microseconds(fields, "max_sequence_idle_microseconds", idle);
  if (idle.count() > 0) batching.max_idle = idle;
  for (const auto* control_input : fields.messages("control_input")) {
    ConfigFields inner(*control_input, "sequence_batching.control_input", errors);
    std::string name;
    inner.text("name", name);
    if (name.empty()) inner.fail_at("name", "is missing");
    const auto controls = inner.messages("control");
    if (controls.size() != 1) inner.fail_at("control", "exactly one control for each input");
    for (const auto* control : controls)
      batching.controls.push_back(read_control(*control, name, errors));
    inner.finish();
  }
  for (const auto* state : fields.messages("state"))
    batching.states.push_back(read_state(*state, errors));
  fields.unsupported("iterative_sequence", "ONNX models do not reschedule requests");
  fields.finish();
  return batching;
}

std::map<std::string, std::string> read_tensor_map(ConfigFields& fields, std::string_view name) {
  std::map<std::string, std::string> map;
  for (const auto& [key, value] : fields.entries(name)) {
    if (value->kind != ConfigNode::Kind::kQuoted)
      fields.fail_at(name, "should have strings as values");
    if (!map.emplace(key, value->text).second) fields.fail_at(name, "has '" + key + "' twice");
  }
  return map;
}

EnsembleScheduling read_ensemble(const ConfigNode& node, ConfigErrors& errors) {
  ConfigFields fields(node, "ensemble_scheduling", errors);
  EnsembleScheduling ensemble;
  for (const auto* message : fields.messages("step")) {
    ConfigFields inner(*message, "ensemble_scheduling.step", errors);
    EnsembleConfigStep step;
    inner.text("model_name", step.model);
    if (step.model.empty()) inner.fail_at("model_name", "is missing");
    inner.integer("model_version", step.version, -1, kInt64Max);
    if (step.version == 0) step.version = -1;
    step.input_map = read_tensor_map(inner, "input_map");
    step.output_map = read_tensor_map(inner, "output_map");
    inner.unsupported("model_namespace", "it is reserved");
    inner.finish();
    ensemble.steps.push_back(std::move(step));
  }
  if (ensemble.steps.empty()) fields.fail_at("step", "is missing");
  fields.unsupported("max_inflight_responses", "every step answers once");
  fields.finish();
  return ensemble;
}

InstanceGroup read_instance_group(const ConfigNode& node, ConfigErrors& errors) {
  ConfigFields fields(node, "instance_group", errors);
  InstanceGroup group;
  fields.text("name", group.name);
  std::int32_t count = 0;
  fields.integer("count", count, 0, kInstancesMax);
  group.count = std::max(count, 1);
  int kind = 0;
  fields.choice<int>("kind", kind, {{"KIND_AUTO", 0}, {"KIND_CPU", 1}});
  fields.unsupported("gpus", "models run on the CPU; use KIND_CPU");
  fields.unsupported("rate_limiter", "instances share the server's workers");
  fields.unsupported("secondary_devices", "models run on the CPU");
  fields.unsupported("profile", "it is for TensorRT");
  fields.unsupported("passive", "every instance takes requests");
  fields.without_effect("host_policy");
  fields.finish();
  return group;
}

Warmup read_warmup(const ConfigNode& node, ConfigErrors& errors) {
  ConfigFields fields(node, "model_warmup", errors);
  Warmup warmup;
  fields.text("name", warmup.name);
  fields.integer("batch_size", warmup.batch_size, 1, kBatchSizeMax);
  std::uint32_t count = 0;
  fields.integer("count", count, 0, kWarmupCountMax);
  warmup.count = std::max(count, 1u);
  for (const auto& [name, value] : fields.entries("inputs")) {
    ConfigFields inner(*value, "model_warmup.inputs", errors);
    WarmupInput input;
    read_type(inner, input.type);
    inner.integers("dims", input.dims, 0, kDimensionMax);
    bool unused = false;
    inner.flag("zero_data", unused);
    inner.flag("random_data", unused);
    read_file_name(inner, "input_data_file", input.data_file);
    const bool zero = inner.has("zero_data"), random = inner.has("random_data");
    const bool file = inner.has("input_data_file");
    if (zero + random + file != 1)
      inner.fail_at("zero_data",
                    "exactly one of zero_data, random_data and input_data_file is needed");
    input.data = file     ? WarmupInput::Data::kFile
                 : random ? WarmupInput::Data::kRandom
                          : WarmupInput::Data::kZero;
    inner.finish();
    warmup.inputs.emplace(name, std::move(input));
  }
  fields.finish();
  return warmup;
}

GraphLevel read_optimization(const ConfigNode& node, ConfigErrors& errors) {
  ConfigFields fields(node, "optimization", errors);
  std::int8_t level = 0;
  if (const auto* graph = fields.message("graph")) {
    ConfigFields inner(*graph, "optimization.graph", errors);
    inner.integer("level", level, -1, 2);
    inner.finish();
  }
  fields.unsupported("priority", "it is for TensorRT");
  fields.unsupported("cuda", "models run on the CPU");
  fields.unsupported("execution_accelerators",
                     "say `providers` in the `session` of model.yaml instead");
  fields.without_effect("input_pinned_memory");  // Pinned memory is about GPUs.
  fields.without_effect("output_pinned_memory");
  fields.unsupported("gather_kernel_buffer_threshold", "it is for TensorRT");
  fields.unsupported("eager_batching", "it is for TensorRT");
  fields.finish();
  return static_cast<GraphLevel>(level);
}

void read_platform(ConfigFields& fields, ModelConfig& config) {
  fields.text("platform", config.platform);
  fields.text("backend", config.backend);
  if (!config.backend.empty() && config.backend != "onnxruntime")
    fields.fail_at("backend", "'" + config.backend + "' is not supported; only 'onnxruntime' is",
                   ErrorCode::kUnimplemented);
  if (!config.platform.empty() && config.platform != "onnxruntime_onnx" &&
      config.platform != "ensemble")
    fields.fail_at(
        "platform",
        "'" + config.platform + "' is not supported; only 'onnxruntime_onnx' and 'ensemble' are",
        ErrorCode::kUnimplemented);
  std::string runtime;
  fields.text("runtime", runtime);
  if (!runtime.empty() && runtime != "onnxruntime")
    fields.fail_at("runtime", "is not supported", ErrorCode::kUnimplemented);
}

void read_scheduling(ConfigFields& fields, ModelConfig& config, ConfigErrors& errors) {
  const auto* dynamic = fields.message("dynamic_batching");
  const auto* sequence = fields.message("sequence_batching");
  const auto* ensemble = fields.message("ensemble_scheduling");
  if ((dynamic != nullptr) + (sequence != nullptr) + (ensemble != nullptr) > 1)
    fields.fail_at(ensemble != nullptr ? "ensemble_scheduling" : "sequence_batching",
                   "stands beside another scheduling choice");
  if (dynamic != nullptr) config.scheduling = read_dynamic_batching(*dynamic, errors);
  if (sequence != nullptr) config.scheduling = read_sequence_batching(*sequence, errors);
  if (ensemble != nullptr) config.scheduling = read_ensemble(*ensemble, errors);
  if ((config.platform == "ensemble") != (ensemble != nullptr))
    fields.fail_at("platform", "is 'ensemble' exactly when there is ensemble_scheduling");
  if (config.platform.empty()) config.platform = "onnxruntime_onnx";
  if (config.backend.empty() && ensemble == nullptr) config.backend = "onnxruntime";
}

void read_unsupported(ConfigFields& fields) {
  fields.unsupported("batch_input", "ragged batches are not supported");
  fields.unsupported("batch_output", "ragged batches are not supported");
  fields.unsupported("cc_model_filenames", "it is for GPUs");
  fields.without_effect("metric_tags");
  fields.unsupported("model_operations", "custom operator libraries are not loaded");
  fields.unsupported("model_transaction_policy", "every request has one response");
  fields.unsupported("model_repository_agents", "models are loaded as they are");
  fields.unsupported("response_cache", "there is no response cache");
  fields.without_effect("model_metrics");
}

/// Preferred sizes and the like only make sense within max_batch_size.
void check_batch_sizes(ConfigFields& fields, const ModelConfig& config) {
  const auto* dynamic = std::get_if<DynamicBatching>(&config.scheduling);
  const auto max = config.max_batch_size;
  if (dynamic != nullptr && max && *max == 0)
    fields.fail_at("dynamic_batching", "needs max_batch_size above 0");
  if (dynamic != nullptr && max && !dynamic->preferred_batch_sizes.empty() &&
      dynamic->preferred_batch_sizes.back() > *max)
    fields.fail_at("dynamic_batching", "preferred_batch_size " +
                                           std::to_string(dynamic->preferred_batch_sizes.back()) +
                                           " is above max_batch_size " + std::to_string(*max));
}

Result<ModelConfig> read_config(const ConfigNode& root) {
  ConfigErrors errors;
  ConfigFields fields(root, "", errors);
  ModelConfig config;
  fields.text("name", config.name);
  read_platform(fields, config);
  if (const auto* policy = fields.message("version_policy"))
    config.version_policy = read_version_policy(*policy, errors);
  if (fields.has("max_batch_size")) {
    config.max_batch_size = 0;
    fields.integer("max_batch_size", *config.max_batch_size, 0, kBatchSizeMax);
  }
  for (const auto* node : fields.messages("input"))
    config.inputs.push_back(read_tensor(*node, "input", Side::kInput, errors));
  for (const auto* node : fields.messages("output"))
    config.outputs.push_back(read_tensor(*node, "output", Side::kOutput, errors));
  if (const auto* optimization = fields.message("optimization"))
    config.graph_level = read_optimization(*optimization, errors);
  read_scheduling(fields, config, errors);
  for (const auto* node : fields.messages("instance_group"))
    config.instance_groups.push_back(read_instance_group(*node, errors));
  read_file_name(fields, "default_model_filename", config.default_model_filename);
  for (const auto& [key, value] : fields.entries("parameters")) {
    ConfigFields inner(*value, "parameters." + key, errors);
    inner.text("string_value", config.parameters[key]);
    inner.finish();
  }
  for (const auto* node : fields.messages("model_warmup"))
    config.warmups.push_back(read_warmup(*node, errors));
  read_unsupported(fields);
  check_batch_sizes(fields, config);
  fields.finish();
  SELVAGE_RETURN_IF_ERROR(errors.result());
  return config;
}

}  // namespace

Result<ModelConfig> parse_model_config(std::string_view text) {
  SELVAGE_TRY(const auto root, parse_text_format(text));
  return read_config(root);
}

Result<ModelConfig> parse_model_config_json(std::string_view json) {
  SELVAGE_TRY(const auto root, parse_json_config(json));
  return read_config(root);
}

std::string_view config_type_name(DataType type) {
  const auto* known = std::ranges::find(kTypes, type, &TypeName::second);
  return known == kTypes.end() ? "TYPE_INVALID" : known->first;
}

}  // namespace selvage::infer
