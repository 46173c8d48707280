#include "cli/quantize_options.h"

#include <charconv>
#include <cmath>
#include <string_view>
#include <unordered_map>

#include <CLI/CLI.hpp>

#include "compress/quantize_weights.h"

namespace selvage::cli {
namespace {

using compress::Symmetry;
using compress::Width;

template <typename T>
Result<T> number_of(std::string_view text, std::string_view where) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() ||
      !std::isfinite(static_cast<double>(value)))
    return fail(ErrorCode::kInvalidArgument,
                "'" + std::string(text) + "' in " + std::string(where) + " is no number");
  return value;
}

Result<void> set_override(compress::TensorOverride& own, std::string_view key,
                          std::string_view value, const std::string& where) {
  if (key == "type") {
    own.type = quantized_type_named(std::string(value));
    if (*own.type == DataType::kUndefined)
      return fail(ErrorCode::kInvalidArgument,
                  "'" + std::string(value) + "' in " + where + " is no quantised type");
  } else if (key == "symmetric") {
    if (value != "yes" && value != "no")
      return fail(ErrorCode::kInvalidArgument, "symmetric is yes or no in " + where);
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
    if (equals == std::string::npos || equals == 0 || equals + 1 == word.size())
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
    add_list_option(app, name, words, help)->type_name(what)->group(kGroup);
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

/// Options of some ways of quantising are refused by the others rather than ignored.
void restrict_to_their_ways(CLI::App& app) {
  const auto refuse = [&](std::initializer_list<const char*> ways,
                          std::initializer_list<const char*> names) {
    for (const auto* name : names)
      for (const auto* way : ways) app.get_option(name)->excludes(way);
  };
  refuse(
      {"--dynamic", "--weight-only", "--to"},
      {"--calibration", "--bins", "--percentile", "--moving-average", "--format", "--activations",
       "--float-bias", "--equalize", "--correct-bias", "--smooth", "--connected", "--override"});
  refuse({"--weight-only", "--to"},
         {"--weights", "--per-channel", "--reduce-range", "--full-range"});
  refuse({"--dynamic", "--to"}, {"--symmetric"});
  refuse({"--dynamic", "--storage"}, {"--samples", "--memory"});
  refuse({"--weight-only"}, {"--memory"});
  for (const auto* name : {"--bits", "--block", "--rounding", "--accuracy-level"})
    app.get_option(name)->needs("--weight-only");
}

}  // namespace

DataType quantized_type_named(const std::string& name) {
  for (const auto type : {DataType::kInt8, DataType::kUint8, DataType::kInt16, DataType::kUint16,
                          DataType::kInt4, DataType::kUint4})
    if (to_string(type) == name) return type;
  return DataType::kUndefined;
}

std::optional<Width> QuantizeFlags::width() const {
  if (reduce_range) return Width::kReduced;
  if (full_range) return Width::kFull;
  return std::nullopt;
}

Result<compress::StaticOptions> QuantizeFlags::static_options() const {
  const auto refuse = [&](const char* option) {
    return fail(ErrorCode::kInvalidArgument,
                std::string(option) + " means nothing to --calibration " + calibration);
  };
  if (bins && calibration == "minmax") return refuse("--bins");
  if (percentile && calibration != "percentile") return refuse("--percentile");
  if (moving_average && calibration != "minmax") return refuse("--moving-average");
  SELVAGE_TRY(auto parsed, parse_overrides(overrides));
  return compress::StaticOptions{
      .format = format == "qdq" ? compress::QuantizationFormat::kQdq
                                : compress::QuantizationFormat::kQOperator,
      .activations = quantized_type_named(activations),
      .weights = quantized_type_named(weights),
      .per_channel = per_channel,
      .activation_symmetry = symmetric ? Symmetry::kSymmetric : Symmetry::kAsymmetric,
      .width = width(),
      .quantize_bias = !float_bias && !training.wanted,
      .selection = selection,
      .connected_only = connected,
      .overrides = std::move(parsed)};
}

void add_quantize_options(CLI::App& app, QuantizeFlags& flags) {
  app.add_option("MODEL", flags.model, "A model.onnx, or the folder that holds it")->required();
  app.add_option("OUT", flags.out, "The file to write")->required();
  auto* is_static = app.add_flag(
      "--static", flags.is_static,
      "Weights and activations, with ranges measured on --data. The default where there are data");
  app.add_flag("--dynamic", flags.is_dynamic,
               "Weights only are stored as integers, activations are quantised as they come: "
               "MatMul, Gemm, LSTM, Attention, Gather; of GRU and RNN only the file. Needs no data")
      ->excludes(is_static);
  app.add_flag(
         "--weight-only", flags.is_weight_only,
         "The matrices of MatMul and Gemm in 4 or 8 bits, block by block; activations stay in "
         "float")
      ->excludes("--static")
      ->excludes("--dynamic");
  app.add_option("--to", flags.floats,
                 "16-bit floats instead of integers: float16 or bfloat16. Operators that lose too "
                 "much stay in float32; with --data, those too whose values leave the range of "
                 "float16")
      ->type_name("TYPE")
      ->check(one_of({"float16", "bfloat16"}))
      ->excludes("--static")
      ->excludes("--dynamic")
      ->excludes("--weight-only");
  app.add_flag("--storage", flags.storage,
               "With --to: only the file is in 16 bits, the model computes in float32 as before")
      ->needs("--to");
  add_optional_data_options(app, flags.data);
  app.add_option("--evaluate", flags.evaluate_samples,
                 "Samples to compare quality on, before and after (2000)")
      ->needs("--data")
      ->type_name("N")
      ->check(whole_in_range(1, 100'000'000));
  app.add_flag("--no-passes", flags.no_passes,
               "Do not fold constants and batch normalisation first");
  app.add_flag("--no-measure", flags.no_measure,
               "Do not measure latency and quality before and after");
  add_format_options(app, flags);
  add_calibration_options(app, flags);
  add_rescue_options(app, flags);
  add_weight_only_options(app, flags);
  add_selection_options(app, flags);
  add_retrain_options(app, flags.training, "--train",
                      "Static: train the weights behind their rounding (quantisation-aware "
                      "training), which 4 bits need; biases stay in float");
  add_session_options(app, flags.session);
  add_json_option(app);
  restrict_to_their_ways(app);
}

}  // namespace selvage::cli
