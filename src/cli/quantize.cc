// `selvage quantize`: a model in fewer bits.
#include <algorithm>
#include <memory>

#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/model_change.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/quantize_options.h"
#include "cli/quantize_report.h"
#include "cli/retrain.h"
#include "cli/training_run.h"
#include "compress/convert_float.h"
#include "compress/correct_bias.h"
#include "compress/equalize.h"
#include "compress/float_stem.h"
#include "compress/pad_inputs.h"
#include "compress/prepare.h"
#include "compress/quantize_dynamic.h"
#include "compress/quantize_static.h"
#include "compress/quantize_weights.h"
#include "compress/samples.h"
#include "graph/sort.h"
#include "infer/graph_runtime.h"

namespace selvage::cli {
namespace {

Result<compress::CalibrationMethod> method_named(const std::string& name) {
  using compress::CalibrationMethod;
  for (const auto method : {CalibrationMethod::kMinMax, CalibrationMethod::kEntropy,
                            CalibrationMethod::kPercentile, CalibrationMethod::kMse})
    if (to_string(method) == name) return method;
  return fail(ErrorCode::kInvalidArgument, "no calibration is named '" + name + "'");
}

/// Shown once calibration says how long it is.
class CalibrationProgress {
 public:
  explicit CalibrationProgress(Output& output) : output_(output) {}
  [[nodiscard]] std::function<bool(std::size_t, std::size_t)> callback() {
    return [this](std::size_t done, std::size_t total) {
      if (!progress_) progress_.emplace(output_, "calibrating", total);
      progress_->set(done);
      return !interrupted();
    };
  }
  void finish() { progress_.reset(); }

 private:
  Output& output_;
  std::optional<Progress> progress_;
};

Result<void> quantize_statically(infer::Runtime& runtime, const std::filesystem::path& path,
                                 graph::Model& model, const infer::Model& original,
                                 const infer::Dataset& data, const QuantizeFlags& flags,
                                 QuantizeReport& report, Output& output) {
  SELVAGE_TRY(auto options, flags.static_options());
  SELVAGE_TRY(const auto samples, compress::calibration_samples(original, data, flags.samples));
  if (flags.equalize) {
    SELVAGE_TRY(report.equalized, compress::equalize_layers(model));
  }
  if (flags.smooth) {
    SELVAGE_TRY(report.smoothed,
                compress::smooth_activations(runtime, model, samples, *flags.smooth));
  }
  std::vector<std::string> stem;
  // Training behind the rounding wants all that can be rounded.
  if (compress::kPadsThinInputs && !flags.no_passes && !flags.training.wanted)
    stem = compress::keep_stem_in_float(model, options);
  SELVAGE_TRY(const auto values, compress::static_candidates(model, options));
  SELVAGE_TRY(const auto method, method_named(flags.calibration));
  report.samples = samples.count;
  report.method = "static " + flags.activations + " activations, " + flags.weights + " weights, " +
                  flags.calibration + " calibration";
  const compress::CalibrationOptions defaults;
  CalibrationProgress progress(output);
  const compress::CalibrationOptions calibration{
      .method = method,
      .moving_average = flags.moving_average,
      .bins = flags.bins.value_or(defaults.bins),
      .percentile = flags.percentile.value_or(defaults.percentile),
      .type = options.activations,
      .memory_max = flags.memory_megabytes * kMegabyte,
      .progress = progress.callback()};
  SELVAGE_TRY(const auto ranges, compress::calibrate(runtime, model, values, samples, calibration));
  progress.finish();
  if (flags.correct_bias) {
    SELVAGE_TRY(report.corrected,
                compress::correct_biases(runtime, model, ranges, options, samples));
  }
  const auto floats = flags.training.wanted ? model.copy() : graph::Model();
  SELVAGE_TRY(report.quantization, compress::quantize_static(model, ranges, options));
  for (auto& node : report.quantization.kept)
    if (std::ranges::find(stem, node.name) != stem.end()) node.reason = "faster in float";
  if (flags.training.wanted) {
    report.method += ", trained behind the rounding";
    const RetrainTask task{path, flags.data, flags.out, flags.session.threads.value_or(0)};
    SELVAGE_TRY(report.training,
                retrain_quantized(runtime, model, floats, task, flags.training, output));
  }
  if (compress::kPadsThinInputs && !flags.no_passes) compress::pad_thin_inputs(model);
  return {};
}

Result<void> quantize_dynamically(graph::Model& model, const QuantizeFlags& flags,
                                  QuantizeReport& report) {
  report.method = "dynamic, " + flags.weights + " weights";
  SELVAGE_TRY(report.quantization,
              compress::quantize_dynamic(model, {.weights = quantized_type_named(flags.weights),
                                                 .per_channel = flags.per_channel,
                                                 .width = flags.width(),
                                                 .selection = flags.selection}));
  return {};
}

Result<void> quantize_weights_only(infer::Runtime& runtime, graph::Model& model,
                                   const infer::Model& original, const infer::Dataset* data,
                                   const QuantizeFlags& flags, QuantizeReport& report) {
  using compress::RoundingMethod;
  const compress::WeightOnlyOptions options{
      .bits = flags.bits,
      .block_size = flags.block,
      .symmetry =
          flags.symmetric ? compress::Symmetry::kSymmetric : compress::Symmetry::kAsymmetric,
      .rounding = flags.rounding == "gptq"       ? RoundingMethod::kGptq
                  : flags.rounding == "adaround" ? RoundingMethod::kAdaRound
                  : flags.rounding == "hqq"      ? RoundingMethod::kHqq
                                                 : RoundingMethod::kNearest,
      .accuracy_level = flags.accuracy_level,
      .selection = flags.selection};
  report.method = "weights of " + std::to_string(flags.bits) + " bits in blocks of " +
                  std::to_string(flags.block) + ", " + flags.rounding;
  compress::Samples samples;
  if (compress::needs_samples(options.rounding)) {
    if (data == nullptr)
      return fail(ErrorCode::kInvalidArgument,
                  "--rounding " + flags.rounding + " needs samples: name them with --data");
    SELVAGE_TRY(samples, compress::calibration_samples(original, *data, flags.samples));
    report.samples = samples.count;
  }
  SELVAGE_TRY(report.quantization, compress::quantize_weights(runtime, model, samples, options));
  return {};
}

Result<void> convert_to_16_bits(infer::Runtime& runtime, graph::Model& model,
                                const infer::Model& original, const infer::Dataset* data,
                                const QuantizeFlags& flags, QuantizeReport& report,
                                Output& output) {
  compress::FloatOptions options{
      .type = flags.floats == "float16" ? DataType::kFloat16 : DataType::kBfloat16,
      .use = flags.storage ? compress::FloatUse::kStorage : compress::FloatUse::kCompute,
      .selection = flags.selection};
  compress::RangeMap ranges;
  if (data != nullptr && !flags.storage && options.type == DataType::kFloat16) {
    SELVAGE_TRY(const auto samples, compress::calibration_samples(original, *data, flags.samples));
    CalibrationProgress progress(output);
    SELVAGE_TRY(ranges,
                compress::calibrate(runtime, model, compress::computed_values(model), samples,
                                    {.memory_max = flags.memory_megabytes * kMegabyte,
                                     .progress = progress.callback()}));
    options.ranges = &ranges;
    report.samples = samples.count;
  }
  report.method = flags.floats + (flags.storage ? " weights, computed in float32" : "");
  SELVAGE_TRY(auto done, compress::convert_floats(model, options, infer::graph_context(runtime)));
  report.quantization = {.quantized_nodes = done.converted_nodes,
                         .quantized_weights = done.converted_weights,
                         .kept = std::move(done.islands)};
  return {};
}

/// The result must load before it becomes a file.
Result<void> check_loads(infer::Runtime& runtime, const graph::Model& model,
                         const QuantizeFlags& flags) {
  const auto bytes = model.serialise();
  if (!bytes) return {};  // Above 2 GB: only a file can be loaded.
  const auto session = infer::Session::load(runtime, *bytes, {.threads = 1});
  if (session) return {};
  auto error = Error(session.error()).with_context("the runtime does not take the quantised model");
  if (flags.floats == "bfloat16" && !flags.storage)
    error.message +=
        "; it computes little in bfloat16 on processors: --storage keeps only the file in 16 bits, "
        "and --to float16 computes in them";
  return std::unexpected(std::move(error));
}

enum class Mode : std::uint8_t { kStatic, kDynamic, kWeightOnly, kFloats };

Result<Mode> mode_of(const QuantizeFlags& flags) {
  if (flags.is_dynamic) return Mode::kDynamic;
  if (flags.is_weight_only) return Mode::kWeightOnly;
  if (!flags.floats.empty()) return Mode::kFloats;
  if (!flags.data.path.empty()) return Mode::kStatic;
  return fail(ErrorCode::kInvalidArgument,
              flags.is_static
                  ? "static quantisation is calibrated on samples: name them with --data"
                  : "how? --data calibrates activations on samples (convolutions), --dynamic "
                    "needs no data (recurrent models, transformers), --weight-only is for large "
                    "products");
}

Result<void> quantize(const QuantizeFlags& flags, Output& output) {
  SELVAGE_TRY(const auto mode, mode_of(flags));
  if (flags.training.wanted && (mode != Mode::kStatic || flags.format != "qdq"))
    return fail(ErrorCode::kInvalidArgument, "--train is for --static with --format qdq");
  SELVAGE_TRY(const auto path, model_path(flags.model));
  SELVAGE_RETURN_IF_ERROR(check_output_path(path, flags.out, {flags.data.path}));
  SELVAGE_TRY(const auto options, flags.session.to_model_options());
  SELVAGE_TRY(const auto runtime, infer::Runtime::create());
  SELVAGE_TRY(const auto original, infer::Model::load(*runtime, path, options));
  std::unique_ptr<infer::Dataset> calibration, test;
  if (!flags.data.path.empty()) {
    const auto outs = std::span(&flags.out, 1);
    SELVAGE_TRY(calibration, flags.data.open(*original, infer::Part::kTrain, outs));
    SELVAGE_TRY(test, flags.data.open(*original, infer::Part::kTest, outs));
  }
  SELVAGE_TRY(auto model, graph::load_whole(path));
  QuantizeReport report;
  if (!flags.no_passes) {
    SELVAGE_TRY(report.bound, compress::prepare_model(*runtime, model, *original));
  }
  switch (mode) {
    case Mode::kStatic:
      SELVAGE_RETURN_IF_ERROR(quantize_statically(*runtime, path, model, *original, *calibration,
                                                  flags, report, output));
      break;
    case Mode::kDynamic: SELVAGE_RETURN_IF_ERROR(quantize_dynamically(model, flags, report)); break;
    case Mode::kWeightOnly:
      SELVAGE_RETURN_IF_ERROR(
          quantize_weights_only(*runtime, model, *original, calibration.get(), flags, report));
      break;
    case Mode::kFloats:
      SELVAGE_RETURN_IF_ERROR(
          convert_to_16_bits(*runtime, model, *original, calibration.get(), flags, report, output));
      break;
  }
  SELVAGE_RETURN_IF_ERROR(check_loads(*runtime, model, flags));
  SELVAGE_RETURN_IF_ERROR(model.save(flags.out));
  if (flags.training.wanted) remove_checkpoint(flags.out);
  if (!flags.no_measure) {
    const ChangeOptions change{.data = test.get(), .samples_max = flags.evaluate_samples};
    SELVAGE_TRY(report.change, measure_change(*runtime, path, flags.out, options, change, output));
  }
  output.print(output.json() ? to_json(report, flags) : to_text(report, flags, output.style()));
  return {};
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<QuantizeFlags>();
  add_quantize_options(app, *flags);
  return [flags](Output& output) { return quantize(*flags, output); };
}

constexpr Command kCommand{
    .name = "quantize",
    .summary = "Make a model smaller and faster with 8-bit numbers",
    .description =
        "Writes a model whose weights, and with --static activations, are integers, and measures "
        "both: size, latency on this machine, and with --data how much they agree and, where there "
        "are labels, accuracy. What cannot be quantised stays in float and is listed. Results "
        "equal those of onnxruntime.quantization for equal settings.",
    .examples =
        "selvage quantize model.onnx small.onnx --data photos/\n"
        "selvage quantize model.onnx small.onnx --data photos/ --calibration entropy "
        "--per-channel\n"
        "selvage quantize model.onnx small.onnx --data photos/ --weights int4 --per-channel "
        "--train\n"
        "selvage quantize speech.onnx small.onnx --dynamic\n"
        "selvage quantize decoder.onnx small.onnx --weight-only --block 32\n"
        "selvage quantize model.onnx half.onnx --to float16 --storage\n"
        "selvage quantize model.onnx small.onnx --data x.npz --exclude-types Softmax,Sigmoid\n"
        "selvage quantize model.onnx small.onnx --data photos/ --json | jq .after.file_bytes",
    .add = add};

}  // namespace

const Command& quantize_command() {
  return kCommand;
}

}  // namespace selvage::cli
