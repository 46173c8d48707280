// `selvage quantize`: a model in fewer bits.
#include <map>

#include <CLI/CLI.hpp>

#include "base/json_writer.h"
#include "cli/command.h"
#include "cli/data_options.h"
#include "cli/interrupt.h"
#include "cli/model_change.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/retrain.h"
#include "cli/training_run.h"
#include "compress/convert_float.h"
#include "compress/correct_bias.h"
#include "compress/equalize.h"
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

using compress::QuantizationReport;
using compress::Symmetry;
using compress::Width;

constexpr std::size_t kShownNodesMax = 3;  // Of those kept for one reason.

struct QuantizeFlags {
  std::string model, out;
  bool is_static = false, is_dynamic = false, is_weight_only = false;
  std::string floats;  ///< "float16" or "bfloat16".
  bool storage = false;
  DataFlags data;
  std::size_t samples = 300;

  std::string format = "qdq";
  std::string activations{to_string(compress::kFastActivations)}, weights = "int8";
  bool per_channel = false, symmetric = false;
  bool reduce_range = false, full_range = false;
  bool float_bias = false;

  int bits = 4, block = 128, accuracy_level = 0;
  std::string rounding = "nearest";

  std::string calibration = "minmax";
  int bins = 2048;
  double percentile = 99.999;
  std::optional<float> moving_average;
  std::uint64_t memory_megabytes = 512;

  compress::NodeSelection selection;
  bool connected = false;
  std::vector<std::string> overrides;
  bool no_passes = false, no_measure = false;
  bool equalize = false, correct_bias = false;
  std::optional<float> smooth;
  std::size_t evaluate_samples = 2000;
  RetrainFlags training;
  SessionFlags session;

  [[nodiscard]] std::optional<Width> width() const {
    if (reduce_range) return Width::kReduced;
    if (full_range) return Width::kFull;
    return std::nullopt;
  }
};

struct Report {
  std::string method;
  QuantizationReport quantization;
  std::optional<std::size_t> samples;
  std::optional<std::size_t> equalized, smoothed, corrected;
  std::vector<std::string> bound;  ///< Inputs that nothing reads any more.
  std::optional<learn::TrainResult> training;
  std::optional<ModelChange> change;
};

DataType type_named(const std::string& name) {
  for (const auto type : {DataType::kInt8, DataType::kUint8, DataType::kInt16, DataType::kUint16,
                          DataType::kInt4, DataType::kUint4})
    if (to_string(type) == name) return type;
  return DataType::kUndefined;
}

Result<compress::CalibrationMethod> method_named(const std::string& name) {
  using compress::CalibrationMethod;
  for (const auto method : {CalibrationMethod::kMinMax, CalibrationMethod::kEntropy,
                            CalibrationMethod::kPercentile, CalibrationMethod::kMse})
    if (to_string(method) == name) return method;
  return fail(ErrorCode::kInvalidArgument, "no calibration is named '" + name + "'");
}

// --- Overrides
// ------------------------------------------------------------------------------------

template <typename T>
Result<T> number_of(std::string_view text, std::string_view where) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return fail(ErrorCode::kInvalidArgument,
                "'" + std::string(text) + "' in " + std::string(where) + " is no number");
  return value;
}

Result<void> set_override(compress::TensorOverride& own, std::string_view key,
                          std::string_view value, const std::string& where) {
  if (key == "type") {
    own.type = type_named(std::string(value));
    if (*own.type == DataType::kUndefined)
      return fail(ErrorCode::kInvalidArgument,
                  "'" + std::string(value) + "' in " + where + " is no quantised type");
  } else if (key == "symmetric") {
    own.symmetry = value == "yes" ? Symmetry::kSymmetric : Symmetry::kAsymmetric;
  } else if (key == "min") {
    SELVAGE_TRY(own.min, number_of<float>(value, where));
  } else if (key == "max") {
    SELVAGE_TRY(own.max, number_of<float>(value, where));
  } else if (key == "scale") {
    SELVAGE_TRY(own.scale, number_of<float>(value, where));
  } else if (key == "zero-point") {
    SELVAGE_TRY(own.zero_point, number_of<std::int32_t>(value, where));
  } else {
    return fail(ErrorCode::kInvalidArgument,
                "'" + std::string(key) + "' in " + where +
                    ": an override has type, symmetric, min, max, scale and zero-point");
  }
  return {};
}

/// "TENSOR=type:uint16,min:-1,max:3". The name may hold any of these signs but the last '='.
Result<std::unordered_map<std::string, compress::TensorOverride>> parse_overrides(
    const std::vector<std::string>& words) {
  std::unordered_map<std::string, compress::TensorOverride> overrides;
  for (const auto& word : words) {
    const auto where = "--override " + word;
    const auto equals = word.rfind('=');
    if (equals == std::string::npos || equals == 0)
      return fail(ErrorCode::kInvalidArgument, where + ": write TENSOR=KEY:VALUE,...");
    auto& own = overrides[word.substr(0, equals)];
    std::string_view rest = std::string_view(word).substr(equals + 1);
    while (!rest.empty()) {
      const auto part = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(rest.size(), part.size() + 1));
      const auto colon = part.find(':');
      if (colon == std::string_view::npos)
        return fail(ErrorCode::kInvalidArgument, where + ": write TENSOR=KEY:VALUE,...");
      SELVAGE_RETURN_IF_ERROR(
          set_override(own, part.substr(0, colon), part.substr(colon + 1), where));
    }
  }
  return overrides;
}

// --- Work
// -----------------------------------------------------------------------------------------

Result<compress::StaticOptions> static_options(const QuantizeFlags& flags) {
  SELVAGE_TRY(auto overrides, parse_overrides(flags.overrides));
  return compress::StaticOptions{
      .format = flags.format == "qdq" ? compress::QuantizationFormat::kQdq
                                      : compress::QuantizationFormat::kQOperator,
      .activations = type_named(flags.activations),
      .weights = type_named(flags.weights),
      .per_channel = flags.per_channel,
      .activation_symmetry = flags.symmetric ? Symmetry::kSymmetric : Symmetry::kAsymmetric,
      .width = flags.width(),
      .quantize_bias = !flags.float_bias && !flags.training.wanted,
      .selection = flags.selection,
      .connected_only = flags.connected,
      .overrides = std::move(overrides)};
}

Result<void> quantize_statically(infer::Runtime& runtime, const std::filesystem::path& path,
                                 graph::Model& model, const infer::Model& original,
                                 const infer::Dataset& data, const QuantizeFlags& flags,
                                 Report& report, Output& output) {
  SELVAGE_TRY(const auto options, static_options(flags));
  SELVAGE_TRY(const auto samples, compress::calibration_samples(original, data, flags.samples));
  if (flags.equalize) {
    SELVAGE_TRY(report.equalized, compress::equalize_layers(model));
  }
  if (flags.smooth) {
    SELVAGE_TRY(report.smoothed,
                compress::smooth_activations(runtime, model, samples, *flags.smooth));
  }
  SELVAGE_TRY(const auto values, compress::static_candidates(model, options));
  SELVAGE_TRY(const auto method, method_named(flags.calibration));
  report.samples = samples.count;
  report.method = "static " + flags.activations + " activations, " + flags.weights + " weights, " +
                  flags.calibration + " calibration";
  std::optional<Progress> progress;
  const compress::CalibrationOptions calibration{
      .method = method,
      .moving_average = flags.moving_average,
      .bins = flags.bins,
      .percentile = flags.percentile,
      .type = options.activations,
      .memory_max = flags.memory_megabytes << 20,
      .progress = [&](std::size_t done, std::size_t total) {
        if (!progress) progress.emplace(output, "calibrating", total);
        progress->set(done);
        return !interrupted();
      }};
  SELVAGE_TRY(const auto ranges, compress::calibrate(runtime, model, values, samples, calibration));
  progress.reset();
  if (flags.correct_bias) {
    SELVAGE_TRY(report.corrected,
                compress::correct_biases(runtime, model, ranges, options, samples));
  }
  const auto floats = flags.training.wanted ? model.copy() : graph::Model();
  SELVAGE_TRY(report.quantization, compress::quantize_static(model, ranges, options));
  if (flags.training.wanted) {
    report.method += ", trained behind the rounding";
    const RetrainTask task{path, flags.data, flags.out, flags.session.threads.value_or(0)};
    SELVAGE_TRY(report.training,
                retrain_quantized(runtime, model, floats, task, flags.training, output));
  }
  if (compress::kPadsThinInputs && !flags.no_passes) compress::pad_thin_inputs(model);
  return {};
}

Result<void> quantize_dynamically(graph::Model& model, const QuantizeFlags& flags, Report& report) {
  report.method = "dynamic, " + flags.weights + " weights";
  SELVAGE_TRY(report.quantization,
              compress::quantize_dynamic(model, {.weights = type_named(flags.weights),
                                                 .per_channel = flags.per_channel,
                                                 .width = flags.width(),
                                                 .selection = flags.selection}));
  return {};
}

Result<void> quantize_weights_only(infer::Runtime& runtime, graph::Model& model,
                                   const infer::Model& original, const infer::Dataset* data,
                                   const QuantizeFlags& flags, Report& report) {
  using compress::RoundingMethod;
  const compress::WeightOnlyOptions options{
      .bits = flags.bits,
      .block_size = flags.block,
      .symmetry = flags.symmetric ? Symmetry::kSymmetric : Symmetry::kAsymmetric,
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
                                const QuantizeFlags& flags, Report& report) {
  const compress::FloatOptions options{
      .type = flags.floats == "float16" ? DataType::kFloat16 : DataType::kBfloat16,
      .use = flags.storage ? compress::FloatUse::kStorage : compress::FloatUse::kCompute,
      .selection = flags.selection};
  report.method = flags.floats + (flags.storage ? " weights, computed in float32" : "");
  SELVAGE_TRY(auto done, compress::convert_floats(model, options, infer::graph_context(runtime)));
  report.quantization = {.quantized_nodes = done.converted_nodes,
                         .quantized_weights = done.converted_weights,
                         .kept = std::move(done.islands)};
  return {};
}

/// The result must load before it becomes a file.
Result<void> check_loads(infer::Runtime& runtime, const graph::Model& model) {
  const auto bytes = model.serialise();
  if (!bytes) return {};  // Above 2 GB: only a file can be loaded.
  const auto session = infer::Session::load(runtime, *bytes, {.threads = 1});
  if (!session)
    return std::unexpected(
        Error(session.error()).with_context("the runtime does not take the quantised model"));
  return {};
}

// --- Text
// -----------------------------------------------------------------------------------------

struct KeptGroup {
  std::size_t count = 0;
  std::string names;
};

std::map<std::pair<std::string, std::string>, KeptGroup> group_kept(
    const QuantizationReport& report) {
  std::map<std::pair<std::string, std::string>, KeptGroup> groups;
  for (const auto& node : report.kept) {
    // Names of tensors differ from node to node: those are told by an example.
    auto& group = groups[{node.type, node.reason}];
    if (group.count++ < kShownNodesMax)
      group.names += (group.names.empty() ? "" : ", ") + node.name;
    else if (group.count == kShownNodesMax + 1)
      group.names += ", ...";
  }
  return groups;
}

std::string report_text(const Report& report, const QuantizeFlags& flags, const Style& style) {
  const auto& done = report.quantization;
  std::string text = style(Tone::kBold, flags.out) + ": " + report.method;
  if (report.samples) text += " on " + format_plural(*report.samples, "sample");
  text += "\n\n";
  if (report.change) text += to_text(*report.change, style) + "\n";
  text += "  " + format_plural(done.quantized_nodes, "operator") + " and " +
          format_plural(done.quantized_weights, "weight") + " quantised";
  const auto rescued = [&](std::optional<std::size_t> count, const char* what) {
    if (count) text += ", " + format_count(*count) + " " + what;
  };
  rescued(report.equalized, "layer pairs equalised");
  rescued(report.smoothed, "activations smoothed");
  rescued(report.corrected, "biases corrected");
  for (const auto& input : report.bound)
    text += "\n  '" + input + "' is what the card says from now on, whatever is passed";
  if (report.training) text += "\n  trained: " + summary_text(*report.training);
  if (done.kept.empty()) return text + "\n";
  text += ", " + format_plural(done.kept.size(), "operator") + " kept in float:\n";
  Table table({{""}, {"", Align::kRight}, {""}, {""}});
  for (const auto& [key, group] : group_kept(done))
    table.add({key.first, format_count(group.count), {key.second, Tone::kDim}, group.names});
  return text + table.to_text(style, 4);
}

std::string report_json(const Report& report, const QuantizeFlags& flags) {
  JsonWriter json;
  json.begin_object().field("model", flags.model).field("out", flags.out);
  json.field("method", report.method);
  if (report.samples) json.field("calibration_samples", *report.samples);
  json.field("quantized_nodes", report.quantization.quantized_nodes);
  json.field("quantized_weights", report.quantization.quantized_weights);
  if (report.equalized) json.field("equalized_pairs", *report.equalized);
  if (report.smoothed) json.field("smoothed_activations", *report.smoothed);
  if (report.corrected) json.field("corrected_biases", *report.corrected);
  if (!report.bound.empty()) json.list("bound_inputs", report.bound);
  json.key("kept").begin_array();
  for (const auto& node : report.quantization.kept)
    json.begin_object()
        .field("name", node.name)
        .field("type", node.type)
        .field("reason", node.reason)
        .end_object();
  json.end_array();
  if (report.training) {
    json.key("training").begin_object();
    write_json(*report.training, json);
    json.end_object();
  }
  if (report.change) write_json(*report.change, json);
  return json.end_object().text() + "\n";
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
  SELVAGE_RETURN_IF_ERROR(check_output_path(path, flags.out));
  SELVAGE_TRY(const auto options, flags.session.to_model_options());
  SELVAGE_TRY(const auto runtime, infer::Runtime::create());
  SELVAGE_TRY(const auto original, infer::Model::load(*runtime, path, options));
  std::unique_ptr<infer::Dataset> calibration, test;
  if (!flags.data.path.empty()) {
    SELVAGE_TRY(calibration, flags.data.open(*original, infer::Part::kTrain));
    SELVAGE_TRY(test, flags.data.open(*original, infer::Part::kTest));
  }
  SELVAGE_TRY(auto model, graph::load_checked(path));
  Report report;
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
      SELVAGE_RETURN_IF_ERROR(convert_to_16_bits(*runtime, model, flags, report));
      break;
  }
  SELVAGE_RETURN_IF_ERROR(check_loads(*runtime, model));
  SELVAGE_RETURN_IF_ERROR(model.save(flags.out));
  if (flags.training.wanted) remove_checkpoint(flags.out);
  if (!flags.no_measure) {
    const ChangeOptions change{.data = test.get(), .samples_max = flags.evaluate_samples};
    SELVAGE_TRY(report.change, measure_change(*runtime, path, flags.out, options, change, output));
  }
  output.print(output.json() ? report_json(report, flags)
                             : report_text(report, flags, output.style()));
  return {};
}

void add_calibration_options(CLI::App& app, QuantizeFlags& flags) {
  constexpr auto kGroup = "Calibration";
  app.add_option("--samples", flags.samples, "Samples to calibrate on, spread over the data (300)")
      ->type_name("N")
      ->check(whole_in_range(1, 1'000'000))
      ->group(kGroup);
  app.add_option("--calibration", flags.calibration,
                 "Range of an activation: minmax (the extremes, the default), entropy, percentile "
                 "or mse (which cut off rare extremes)")
      ->type_name("METHOD")
      ->check(one_of({"minmax", "entropy", "percentile", "mse"}))
      ->group(kGroup);
  app.add_option("--bins", flags.bins,
                 "Of the histograms (2048). onnxruntime.quantization's default for entropy is 128, "
                 "which finds nothing but the extremes")
      ->type_name("N")
      ->check(whole_in_range(128, compress::kCalibrationBinsMax))
      ->group(kGroup);
  app.add_option("--percentile", flags.percentile, "For percentile (99.999)")
      ->type_name("P")
      ->check(in_range(50, 100))
      ->group(kGroup);
  app.add_option("--moving-average", flags.moving_average,
                 "For minmax: each sample moves the range by this part of the way to its own")
      ->type_name("C")
      ->check(in_range(0, 1))
      ->group(kGroup);
  app.add_option("--memory", flags.memory_megabytes,
                 "Megabytes for the values that one run watches (512); less memory, more runs")
      ->type_name("MB")
      ->check(whole_in_range(1, 1 << 20))
      ->group(kGroup);
}

void add_format_options(CLI::App& app, QuantizeFlags& flags) {
  constexpr auto kGroup = "Format";
  app.add_option("--format", flags.format,
                 "Of static quantisation: qdq (pairs around float operators, the default) or "
                 "qoperator (integer operators)")
      ->type_name("FORMAT")
      ->check(one_of({"qdq", "qoperator"}))
      ->group(kGroup);
  app.add_option("--activations", flags.activations,
                 "int8, uint8, int16 or uint16; uint8 on x86, where it is much faster, and int8 "
                 "elsewhere")
      ->type_name("TYPE")
      ->check(one_of({"int8", "uint8", "int16", "uint16"}))
      ->group(kGroup);
  app.add_option("--weights", flags.weights, "int8 (the default), uint8, int4 or uint4")
      ->type_name("TYPE")
      ->check(one_of({"int8", "uint8", "int4", "uint4"}))
      ->group(kGroup);
  app.add_flag("--per-channel", flags.per_channel, "A scale for each output channel of a weight")
      ->group(kGroup);
  app.add_flag("--symmetric", flags.symmetric, "Activations have their zero in the middle")
      ->group(kGroup);
  auto* reduced =
      app.add_flag("--reduce-range", flags.reduce_range,
                   "Weights have one bit less, so that 8-bit products cannot saturate. The default "
                   "on processors without VNNI")
          ->group(kGroup);
  app.add_flag("--full-range", flags.full_range, "Weights have all bits on any processor")
      ->excludes(reduced)
      ->group(kGroup);
  app.add_flag("--float-bias", flags.float_bias, "Biases stay in float")->group(kGroup);
}

void add_weight_only_options(CLI::App& app, QuantizeFlags& flags) {
  constexpr auto kGroup = "Weight-only";
  app.add_option("--bits", flags.bits, "4 (the default) or 8")
      ->type_name("N")
      ->check(one_of({"4", "8"}))
      ->group(kGroup);
  app.add_option("--block", flags.block, "Weights of a column that share a scale: 16 to 1024 (128)")
      ->type_name("N")
      ->check(whole_in_range(compress::kBlockSizeMin, compress::kBlockSizeMax))
      ->group(kGroup);
  app.add_option("--rounding", flags.rounding,
                 "nearest (the default), hqq (zero points that suit outliers), gptq (later "
                 "weights make up for the errors of earlier ones) or adaround (up or down so that "
                 "results change least); the last two need --data")
      ->type_name("METHOD")
      ->check(one_of({"nearest", "hqq", "gptq", "adaround"}))
      ->group(kGroup);
  app.add_option("--accuracy-level", flags.accuracy_level,
                 "What the runtime may compute in: 0 its choice (the default), 1 float32, 4 int8")
      ->type_name("N")
      ->check(whole_in_range(0, 4))
      ->group(kGroup);
}

void add_rescue_options(CLI::App& app, QuantizeFlags& flags) {
  constexpr auto kGroup = "Rescue";
  app.add_flag("--equalize", flags.equalize,
               "Balance the channels of neighbouring layers first (cross-layer equalisation): for "
               "depthwise convolutions and weights whose channels differ widely")
      ->group(kGroup);
  app.add_flag("--correct-bias", flags.correct_bias,
               "Take the mean error of quantised weights back in the biases")
      ->group(kGroup);
  app.add_option("--smooth", flags.smooth,
                 "Move outliers of activations into the weights of the products behind them "
                 "(SmoothQuant; 0.5 is usual): for transformers")
      ->type_name("ALPHA")
      ->check(in_range(0, 1))
      ->group(kGroup);
}

void add_selection_options(CLI::App& app, QuantizeFlags& flags) {
  constexpr auto kGroup = "Selection";
  const auto add = [&](const char* name, std::vector<std::string>& words, const char* help,
                       const char* what) {
    app.add_option(name, words, help)
        ->type_name(what)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->group(kGroup);
  };
  add("--types", flags.selection.types, "Quantise operators of these types only", "TYPE,...");
  add("--nodes", flags.selection.nodes, "Quantise these nodes only", "NODE,...");
  add("--exclude-types", flags.selection.excluded_types, "Keep operators of these types in float",
      "TYPE,...");
  add("--exclude-nodes", flags.selection.excluded_nodes, "Keep these nodes in float", "NODE,...");
  app.add_flag("--connected", flags.connected,
               "Of static quantisation: quantise what is no product (Conv, Gemm, MatMul, ...) only "
               "between quantised operators, so that none stands alone in a float network")
      ->group(kGroup);
  app.add_option("--override", flags.overrides,
                 "For one tensor: type, symmetric, min, max, or scale and zero-point, as in "
                 "x=type:uint16,min:-1,max:3. May be repeated")
      ->type_name("TENSOR=KEY:VALUE,...")
      ->allow_extra_args(false)
      ->group(kGroup);
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<QuantizeFlags>();
  app.add_option("MODEL", flags->model, "A model.onnx, or the folder that holds it")->required();
  app.add_option("OUT", flags->out, "The file to write")->required();
  auto* is_static = app.add_flag(
      "--static", flags->is_static,
      "Weights and activations, with ranges measured on --data. The default where there are data");
  app.add_flag("--dynamic", flags->is_dynamic,
               "Weights only are stored as integers, activations are quantised as they come: "
               "MatMul, Gemm, LSTM, Attention, Gather. Needs no data")
      ->excludes(is_static);
  app.add_flag(
         "--weight-only", flags->is_weight_only,
         "The matrices of MatMul and Gemm in 4 or 8 bits, block by block; activations stay in "
         "float")
      ->excludes("--static")
      ->excludes("--dynamic");
  app.add_option("--to", flags->floats,
                 "16-bit floats instead of integers: float16 or bfloat16. Operators that lose too "
                 "much stay in float32")
      ->type_name("TYPE")
      ->check(one_of({"float16", "bfloat16"}))
      ->excludes("--static")
      ->excludes("--dynamic")
      ->excludes("--weight-only");
  app.add_flag("--storage", flags->storage,
               "With --to: only the file is in 16 bits, the model computes in float32 as before")
      ->needs("--to");
  add_data_options(app, flags->data);
  app.get_option("--data")->required(false);
  app.add_option("--evaluate", flags->evaluate_samples,
                 "Samples to compare quality on, before and after (2000)")
      ->type_name("N")
      ->check(whole_in_range(1, 100'000'000));
  app.add_flag("--no-passes", flags->no_passes,
               "Do not fold constants and batch normalisation first");
  app.add_flag("--no-measure", flags->no_measure,
               "Do not measure latency and quality before and after");
  add_format_options(app, *flags);
  add_calibration_options(app, *flags);
  add_rescue_options(app, *flags);
  add_weight_only_options(app, *flags);
  add_selection_options(app, *flags);
  add_retrain_options(app, flags->training, "--train",
                      "Static: train the weights behind their rounding (quantisation-aware "
                      "training), which 4 bits need; biases stay in float");
  add_session_options(app, flags->session);
  add_json_option(app);
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
