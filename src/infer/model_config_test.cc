#include "infer/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "infer/served_version.h"

namespace selvage::infer {
namespace {

using std::chrono::microseconds;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view kWhole = R"(
# A model as Triton's documentation has them.
name: "whole"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] },
  { name: "flat" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } }
]
output { name: "y" data_type: TYPE_STRING dims: 4 dims: 5 label_filename: 'labels' '.txt' }
dynamic_batching {
  preferred_batch_size: [ 4, 2, 4 ];
  max_queue_delay_microseconds: 100
  preserve_ordering: true
  priority_levels: 2 default_priority_level: 2
  default_queue_policy < timeout_action: DELAY default_timeout_microseconds: 5 max_queue_size: 7 >
  priority_queue_policy { key: 1 value { allow_timeout_override: true } }
}
instance_group [ { kind: KIND_CPU, count: 2 } ]
version_policy: { specific { versions: [ 1, 3 ] } }
optimization { graph { level: 1 } input_pinned_memory { enable: true } }
parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
parameters { key: "note" value: { string_value: "\"a\"\n\x41\101" } }
default_model_filename: "other.onnx"
model_warmup { name: "w" batch_size: 2 inputs { key: "x" value {
  data_type: TYPE_FP32 dims: [3, 4] random_data: true } } count: 3 }
)";

TEST(ModelConfigTest, ReadsWhatOnnxModelsUse) {
  const auto config = parse_model_config(kWhole);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->name, "whole");
  EXPECT_EQ(config->backend, "onnxruntime");
  EXPECT_EQ(config->max_batch_size, 8);
  ASSERT_EQ(config->inputs.size(), 2u);
  EXPECT_THAT(config->inputs[0].dims, ElementsAre(3, -1));
  EXPECT_EQ(config->inputs[1].reshape, Shape());
  EXPECT_EQ(config->outputs[0].type, DataType::kString);
  EXPECT_EQ(config->outputs[0].label_filename, "labels.txt");
  const auto& batching = std::get<DynamicBatching>(config->scheduling);
  EXPECT_THAT(batching.preferred_batch_sizes, ElementsAre(2, 4));
  EXPECT_EQ(batching.max_queue_delay, microseconds(100));
  EXPECT_TRUE(batching.preserve_ordering);
  EXPECT_EQ(batching.default_queue_policy->timeout_action, QueuePolicy::TimeoutAction::kDelay);
  EXPECT_EQ(batching.default_queue_policy->max_queue_size, 7u);
  EXPECT_TRUE(batching.priority_queue_policies.at(1).allow_timeout_override);
  EXPECT_EQ(config->instance_groups[0].count, 2);
  EXPECT_THAT(std::get<SpecificVersions>(config->version_policy).versions, ElementsAre(1, 3));
  EXPECT_EQ(config->graph_level, GraphLevel::kExtended);
  EXPECT_EQ(config->parameters.at("note"), "\"a\"\nAA");
  EXPECT_EQ(config->default_model_filename, "other.onnx");
  EXPECT_EQ(config->warmups[0].inputs.at("x").data, WarmupInput::Data::kRandom);
  EXPECT_EQ(config->warmups[0].count, 3u);
}

TEST(ModelConfigTest, ReadsSequencesAndEnsembles) {
  const auto sequences = parse_model_config(R"(
    sequence_batching {
      max_sequence_idle_microseconds: 5000000
      oldest { max_candidate_sequences: 4 preferred_batch_size: [2] }
      control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START
                        fp32_false_true: [ 0, 1 ] } ] },
                      { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID
                        data_type: TYPE_UINT64 } } ]
      state { input_name: "s" output_name: "t" data_type: TYPE_FP32 dims: [ 2 ]
              initial_state { name: "zero" data_type: TYPE_FP32 dims: [ 2 ] zero_data: true } }
    })");
  ASSERT_TRUE(sequences) << sequences.error().message;
  const auto& batching = std::get<SequenceBatching>(sequences->scheduling);
  EXPECT_EQ(std::get<OldestStrategy>(batching.strategy).max_candidate_sequences, 4);
  EXPECT_EQ(batching.controls[0].type, DataType::kFloat32);
  EXPECT_EQ(batching.controls[1].kind, SequenceControl::Kind::kCorrelationId);
  EXPECT_THAT(batching.states[0].initial->dims, ElementsAre(2));

  const auto ensemble = parse_model_config(R"(
    platform: "ensemble"
    ensemble_scheduling { step [ { model_name: "a" model_version: -1
      input_map { key: "x" value: "in" } output_map { key: "y" value: "out" } } ] })");
  ASSERT_TRUE(ensemble) << ensemble.error().message;
  const auto& step = std::get<EnsembleScheduling>(ensemble->scheduling).steps.at(0);
  EXPECT_EQ(step.version, -1);
  EXPECT_EQ(step.input_map.at("x"), "in");
}

TEST(ModelConfigTest, ErrorsNameTheLineAndTheField) {
  struct Case {
    const char* text;
    const char* message;
    ErrorCode code = ErrorCode::kInvalidArgument;
  };
  const Case cases[] = {
      {"name: \"a\"\nmax_batch: 3", "line 2: max_batch: is not a field"},
      {"name: \"a\"\nname: \"b\"", "line 2: name: is given twice"},
      {"name: a", "name: should be a string"},
      {"max_batch_size: \"3\"", "'3' is not a whole number"},
      {"max_batch_size: -1", "not within 0 to", ErrorCode::kOutOfRange},
      {"max_batch_size: 99999999999999999999", "is not a whole number"},
      {"platform: \"tensorrt_plan\"", "'tensorrt_plan' is not supported",
       ErrorCode::kUnimplemented},
      {"backend: \"python\"", "'python' is not supported", ErrorCode::kUnimplemented},
      {"platform: \"ensemble\"", "platform"},
      {"input { name: \"x\" }", "input.data_type: is missing"},
      {"input { data_type: TYPE_FP32 }", "input.name: is missing"},
      {"input { name: \"x\" data_type: TYPE_FP8 }", "'TYPE_FP8' is not supported"},
      {"input { name: \"x\" data_type: TYPE_FP32 dims: [2,3] reshape { shape: [5] } }",
       "input.reshape"},
      {"input { name: \"x\" data_type: TYPE_FP32 optional: true }", "input.optional",
       ErrorCode::kUnimplemented},
      {"\n\ninstance_group { kind: KIND_GPU }", "line 3: instance_group.kind: 'KIND_GPU'"},
      {"instance_group { gpus: [ 1 ] }", "instance_group.gpus", ErrorCode::kUnimplemented},
      {"dynamic_batching { } sequence_batching { }", "sequence_batching"},
      {"max_batch_size: 0 dynamic_batching { }", "needs max_batch_size"},
      {"max_batch_size: 2 dynamic_batching { preferred_batch_size: 4 }", "is above max_batch_size"},
      {"dynamic_batching { priority_levels: 2 }", "default_priority_level"},
      {"dynamic_batching { priority_levels: 2 default_priority_level: 1 "
       "priority_queue_policy { key: 3 value { } } }",
       "3 is not within 1 to 2", ErrorCode::kOutOfRange},
      {"version_policy { latest { } all { } }", "more than one"},
      {"version_policy { specific { } }", "version_policy.specific.versions: is empty"},
      {"sequence_batching { direct { } oldest { } }", "sequence_batching.oldest"},
      {"sequence_batching { control_input { name: \"a\" control { kind: CONTROL_SEQUENCE_START } } "
       "}",
       "exactly one of"},
      {"sequence_batching { state { input_name: \"a\" output_name: \"b\" initial_state { "
       "data_file: \"../x\" } } }",
       "'../x' is not the name of a file"},
      {"default_model_filename: \"../m.onnx\"", "default_model_filename"},
      {"optimization { cuda { graphs: true } }", "optimization.cuda", ErrorCode::kUnimplemented},
      {"optimization { execution_accelerators { cpu_execution_accelerator { name: \"openvino\" } } "
       "}",
       "optimization.execution_accelerators", ErrorCode::kUnimplemented},
      {"response_cache { enable: true }", "response_cache", ErrorCode::kUnimplemented},
      {"model_transaction_policy { decoupled: true }", "model_transaction_policy",
       ErrorCode::kUnimplemented},
      {"parameters { key: \"a\" }", "should have a key and a value"},
      {"model_warmup { inputs { key: \"x\" value { dims: 1 } } }", "exactly one of zero_data"},
      {"input {", "line 1: the file ends inside"},
      {"name \"a\"", "needs a colon"},
      {"name: \"a", "not closed"},
      {"dims: [1, 2", "closing bracket"},
      {"= 3", "a field name should stand here"},
      {"name: \"\\q\"", "escape"},
  };
  for (const auto& [text, message, code] : cases) {
    const auto config = parse_model_config(text);
    ASSERT_FALSE(config) << text;
    EXPECT_THAT(config.error().message, HasSubstr(message)) << text;
    EXPECT_EQ(config.error().code, code) << text << ": " << config.error().message;
  }
}

TEST(ModelConfigTest, BoundsWhatItReads) {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "a {";
  EXPECT_EQ(parse_model_config(deep).error().code, ErrorCode::kOutOfRange);
  std::string wide;
  for (std::size_t i = 0; i <= kConfigFieldsMax; ++i) wide += "a:1 ";
  EXPECT_EQ(parse_model_config(wide).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(parse_model_config(std::string(kConfigBytesMax + 1, ' ')).error().code,
            ErrorCode::kOutOfRange);
  std::string lists;
  for (int i = 0; i < 100'000; ++i) lists += R"({"a":)";
  EXPECT_FALSE(parse_model_config_json(lists));
}

TEST(ModelConfigTest, TheJsonFormReadsBack) {
  const auto config = parse_model_config(kWhole);
  ASSERT_TRUE(config);
  const auto json = to_json(*config);
  EXPECT_THAT(json, HasSubstr(R"("data_type":"TYPE_FP32","dims":[3,-1])"));
  const auto again = parse_model_config_json(json);
  ASSERT_TRUE(again) << again.error().message << json;
  EXPECT_EQ(to_json(*again), json);
}

TEST(ModelConfigTest, ReadsWhatTritonSaysAboutAModel) {
  // With the fields that say nothing, in camelCase, and 64-bit numbers as strings.
  const auto config = parse_model_config_json(R"({
    "name": "m", "backend": "onnxruntime", "maxBatchSize": 4, "runtime": "",
    "input": [{"name": "x", "data_type": "TYPE_FP32", "format": "FORMAT_NONE", "dims": ["3", 4],
               "is_shape_tensor": false, "allow_ragged_batch": false, "optional": false}],
    "batch_input": [], "cc_model_filenames": {}, "metric_tags": {},
    "optimization": {"priority": "PRIORITY_DEFAULT", "eager_batching": false,
                     "gather_kernel_buffer_threshold": 0},
    "instance_group": [{"kind": "KIND_CPU", "count": 1, "gpus": [], "passive": false}],
    "dynamic_batching": {"priority_queue_policy": {"1": {"max_queue_size": 3}}},
    "parameters": {"a": {"string_value": "b"}}, "model_transaction_policy": {"decoupled": false}})");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_THAT(config->inputs[0].dims, ElementsAre(3, 4));
  EXPECT_EQ(config->parameters.at("a"), "b");
  EXPECT_EQ(
      std::get<DynamicBatching>(config->scheduling).priority_queue_policies.at(1).max_queue_size,
      3u);
  for (const char* bad : {"", "[]", "3", R"({"a": )", R"({"input": [[1]]})", R"({"nam": "x"})"})
    EXPECT_FALSE(parse_model_config_json(bad)) << bad;
}

TEST(ModelConfigTest, ParametersBecomeSessionSettings) {
  const auto settings = [](const char* key, const char* value) {
    ModelConfig config;
    config.parameters[key] = value;
    return session_settings(config);
  };
  EXPECT_EQ(settings("intra_op_thread_count", "2")->threads, 2);
  EXPECT_EQ(settings("intra_op_thread_count", "0")->threads, std::nullopt);
  EXPECT_EQ(settings("enable_mem_arena", "0")->arena, Arena::kNone);
  EXPECT_EQ(settings("session.dynamic_block_base", "4")->config.at(0).second, "4");
  EXPECT_TRUE(settings("anything", "else")->config.empty());
  EXPECT_TRUE(settings("execution_mode", "0"));
  EXPECT_EQ(settings("execution_mode", "1").error().code, ErrorCode::kUnimplemented);
  EXPECT_EQ(settings("intra_op_thread_count", "many").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(settings("gpu_mem_limit", "1").error().code, ErrorCode::kUnimplemented);
}

}  // namespace
}  // namespace selvage::infer
