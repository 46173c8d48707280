#include "infer/config_keys.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/log.h"
#include "infer/ort.h"
#include "infer/yaml.h"

namespace selvage::infer {
namespace {

/// From onnxruntime_session_options_config_keys.h and the library. Left out are those that name
/// files to read or write, which a stranger's model card must not choose, and those of the ORT
/// format: models come as ONNX.
const std::vector<std::string>& known_keys() {
  static const std::vector<std::string> keys{
      "mlas.disable_kleidiai",
      "mlas.enable_gemm_fastmath_arm64_bfloat16",
      "mlas.kleidiai.conv_igemm_max_work",
      "mlas.nchwc_pointwise_conv_max_input_channel_batch",
      "mlas.use_lut_gemm",
      "optimization.disable_specified_optimizers",
      "optimization.enable_cast_chain_elimination",
      "optimization.enable_gelu_approximation",
      "optimization.enable_memory_probe_recompute_config",
      "optimization.memory_optimizer_config",
      "optimization.minimal_build_optimizations",
      "session.allow_released_opsets_only",
      "session.compile_only",
      "session.debug_layout_transformation",
      "session.disable_aot_function_inlining",
      "session.disable_cpu_ep_fallback",
      "session.disable_double_qdq_remover",
      "session.disable_model_compile",
      "session.disable_prepacking",
      "session.disable_qdq_constant_folding",
      "session.disable_quant_qdq",
      "session.dynamic_block_base",
      "session.enable_dq_matmulnbits_fusion",
      "session.enable_quant_qdq_cleanup",
      "session.enable_saved_runtime_optimizations",
      "session.fail_on_suboptimal_compiled_model",
      "session.force_spinning_stop",
      "session.gqa_value_layout",
      "session.graph_optimizations_loop_level",
      "session.inter_op.allow_spinning",
      "session.inter_op.spin_backoff_max",
      "session.inter_op.spin_duration_us",
      "session.intra_op.allow_spinning",
      "session.intra_op.spin_backoff_max",
      "session.intra_op.spin_duration_us",
      "session.intra_op_thread_affinities",
      "session.layer_assignment_settings",
      "session.max_shape_override",
      "session.name_based_layer_assignment",
      "session.node_partition_config_file",
      "session.qdq_matmulnbits_accuracy_level",
      "session.qdq_matmulnbits_block_size",
      "session.qdqisint8allowed",
      "session.record_ep_graph_assignment_info",
      "session.resource_cuda_partitioning_settings",
      "session.save_external_prepacked_constant_initializers",
      "session.set_denormal_as_zero",
      "session.strict_shape_type_inference",
      "session.use_device_allocator_for_initializers",
      "session.use_env_allocators",
      "session.x64quantprecision",
  };
  return keys;
}

}  // namespace

Result<void> check_config_key(std::string_view key, std::string_view runtime_version) {
  const auto& known = known_keys();
  if (key.starts_with("ep.") || std::ranges::find(known, key) != known.end()) return {};
  const std::string name(key);
  const std::string version(runtime_version);
  if (ort::version_number(version) > ort::version_number(kConfigKeysVersion)) {
    log::warning_once("this setting is not known here; ONNX Runtime may ignore it",
                      {{"setting", name}, {"runtime", version}});
    return {};
  }
  const auto nearest = nearest_name(key, known);
  return fail(ErrorCode::kInvalidArgument,
              "ONNX Runtime " + version + " has no setting '" + name + "' that can be chosen here" +
                  (nearest ? ": did you mean '" + std::string(*nearest) + "'?" : ""));
}

}  // namespace selvage::infer
