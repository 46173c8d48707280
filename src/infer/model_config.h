// How a model is to be served: Triton's ModelConfig, as far as ONNX models on a CPU use it, read
// from config.pbtxt (protobuf's text format) or from its JSON form. A field that is not supported
// is an error which names it: nothing that a file says is silently left out. Meaning of the fields:
// model_config.proto in triton-inference-server/common.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"

namespace selvage::infer {

// Limits of what a configuration may say. Beyond them: kOutOfRange, with the line.
inline constexpr std::uint64_t kConfigBytesMax = 1u << 20;
inline constexpr int kConfigDepthMax = 16;
inline constexpr std::size_t kConfigFieldsMax = 50'000;
inline constexpr std::int32_t kBatchSizeMax = 65'536;
inline constexpr std::int32_t kInstancesMax = 1'024;
inline constexpr std::uint64_t kPriorityLevelsMax = 1'024;
inline constexpr std::int32_t kCandidateSequencesMax = 1'000'000;
inline constexpr std::uint32_t kWarmupCountMax = 10'000;

struct TensorConfig {
  std::string name;
  DataType type = DataType::kUndefined;
  Shape dims;                    ///< As clients send it, without the batch dimension if batching.
  std::optional<Shape> reshape;  ///< What the model gets instead of `dims`.
  std::string label_filename;    ///< Outputs only.
};

/// Which of the versions in the folder are served.
struct LatestVersions {
  std::uint32_t count = 1;
};
struct AllVersions {};
struct SpecificVersions {
  std::vector<std::int64_t> versions;
};
using VersionPolicy = std::variant<LatestVersions, AllVersions, SpecificVersions>;

struct QueuePolicy {
  enum class TimeoutAction : std::uint8_t { kReject, kDelay };
  TimeoutAction timeout_action = TimeoutAction::kReject;
  std::chrono::microseconds default_timeout{0};  ///< 0 = none.
  bool allow_timeout_override = false;           ///< Requests may shorten it.
  std::uint32_t max_queue_size = 0;              ///< 0 = the repository's limit.
};

struct DynamicBatching {
  std::vector<std::int32_t> preferred_batch_sizes;
  std::chrono::microseconds max_queue_delay{0};
  bool preserve_ordering = false;
  std::uint64_t priority_levels = 0;
  std::uint64_t default_priority_level = 0;
  std::optional<QueuePolicy> default_queue_policy;
  std::map<std::uint64_t, QueuePolicy> priority_queue_policies;
};

struct SequenceControl {
  enum class Kind : std::uint8_t { kStart, kReady, kEnd, kCorrelationId };
  Kind kind = Kind::kStart;
  std::string input;  ///< The model's input that receives it.
  DataType type = DataType::kUndefined;
  double false_value = 0, true_value = 1;  ///< Not for kCorrelationId.
};

/// What a state is when a sequence starts.
struct InitialState {
  std::string name;
  DataType type = DataType::kUndefined;
  Shape dims;
  std::string data_file;  ///< In NAME/initial_state/; "" = zeros.
};

struct SequenceState {
  std::string input_name, output_name;
  DataType type = DataType::kUndefined;
  Shape dims;                           ///< Without the batch dimension.
  std::optional<InitialState> initial;  ///< Empty: zeros, open dimensions 1.
};

/// As many sequences at once as there are slots: max_batch_size in each instance.
struct DirectStrategy {
  std::chrono::microseconds max_queue_delay{0};
  float minimum_slot_utilization = 0;
};
/// Up to `max_candidate_sequences` at once, the oldest requests first.
struct OldestStrategy {
  std::int32_t max_candidate_sequences = 0;
  std::vector<std::int32_t> preferred_batch_sizes;
  std::chrono::microseconds max_queue_delay{0};
  bool preserve_ordering = false;
};

struct SequenceBatching {
  std::variant<DirectStrategy, OldestStrategy> strategy;
  std::chrono::microseconds max_idle{1'000'000};
  std::vector<SequenceControl> controls;
  std::vector<SequenceState> states;
};

struct EnsembleConfigStep {
  std::string model;
  std::int64_t version = -1;                     ///< -1 = the highest that is served.
  std::map<std::string, std::string> input_map;  ///< The model's tensor to the ensemble's.
  std::map<std::string, std::string> output_map;
};

struct EnsembleScheduling {
  std::vector<EnsembleConfigStep> steps;
};

struct InstanceGroup {
  std::string name;
  std::int32_t count = 1;
};

struct WarmupInput {
  enum class Data : std::uint8_t { kZero, kRandom, kFile };
  DataType type = DataType::kUndefined;
  Shape dims;
  Data data = Data::kZero;
  std::string data_file;  ///< In NAME/warmup/.
};

struct Warmup {
  std::string name;
  std::uint32_t batch_size = 1;
  std::map<std::string, WarmupInput> inputs;
  std::uint32_t count = 1;
};

/// `optimization.graph.level`.
enum class GraphLevel : std::int8_t { kBasic = -1, kDefault = 0, kExtended = 1, kNone = 2 };

struct ModelConfig {
  std::string name;      ///< "" = the folder's; otherwise it must be the same.
  std::string platform;  ///< "onnxruntime_onnx" or "ensemble".
  std::string backend;   ///< "onnxruntime", "" for ensembles.
  VersionPolicy version_policy;
  std::optional<std::int32_t> max_batch_size;  ///< 0 = no batch dimension. Empty: see complete().
  std::vector<TensorConfig> inputs, outputs;
  GraphLevel graph_level = GraphLevel::kDefault;
  std::variant<std::monostate, DynamicBatching, SequenceBatching, EnsembleScheduling> scheduling;
  std::vector<InstanceGroup> instance_groups;
  std::string default_model_filename;  ///< "" = model.onnx.
  std::map<std::string, std::string> parameters;
  std::vector<Warmup> warmups;
};

/// From protobuf's text format. kInvalidArgument and kUnimplemented name the line and the field;
/// kOutOfRange above the limits.
[[nodiscard]] Result<ModelConfig> parse_model_config(std::string_view text);
/// From the JSON form, with proto field names or their camelCase.
[[nodiscard]] Result<ModelConfig> parse_model_config_json(std::string_view json);
/// The JSON form as Triton's model_configuration extension gives it.
[[nodiscard]] std::string to_json(const ModelConfig& config);

/// "TYPE_FP32"; "TYPE_INVALID" for types that the protocol does not carry.
[[nodiscard]] std::string_view config_type_name(DataType type);

}  // namespace selvage::infer
