// `selvage diff`: where two models of the same network part.
#include <algorithm>
#include <cmath>
#include <limits>

#include <CLI/CLI.hpp>

#include "base/file.h"
#include "base/json_writer.h"
#include "cli/command.h"
#include "cli/data_options.h"
#include "cli/interrupt.h"
#include "cli/layer_plot.h"
#include "cli/model_change.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "compress/compare_layers.h"
#include "compress/samples.h"
#include "graph/sort.h"

namespace selvage::cli {
namespace {

using compress::LayerDifference;

struct DiffFlags {
  std::string first, second, plot;
  DataFlags data;
  std::size_t samples = 16;
  std::size_t top = 20;
  std::uint64_t memory_megabytes = 512;
  SessionFlags session;
};

std::vector<LayerDifference> worst_first(std::vector<LayerDifference> layers) {
  std::ranges::stable_sort(layers, {}, &LayerDifference::sqnr_db);
  return layers;
}

std::string report_text(const std::vector<LayerDifference>& layers, std::size_t samples,
                        const DiffFlags& flags, const Style& style) {
  std::string text = style(Tone::kBold, flags.second) + " against " + flags.first + ", " +
                     format_plural(samples, "sample") + ", worst first\n\n";
  Table table({{"SQNR", Align::kRight},
               {"operator"},
               {"value"},
               {"range", Align::kRight},
               {"largest difference", Align::kRight}});
  const auto sorted = worst_first(layers);
  for (std::size_t i = 0; i < std::min(flags.top, sorted.size()); ++i) {
    const auto& layer = sorted[i];
    table.add({format_decibels(layer.sqnr_db), layer.type, layer.name,
               layer.range ? significant(static_cast<double>(layer.range->min)) + " to " +
                                 significant(static_cast<double>(layer.range->max))
                           : "NaN",
               significant(layer.largest_difference)});
  }
  text += table.to_text(style);
  if (sorted.size() > flags.top)
    text += "  and " + format_plural(sorted.size() - flags.top, "value") +
            " that are closer: --top shows more\n";
  return text;
}

std::string report_json(const std::vector<LayerDifference>& layers, std::size_t samples,
                        const DiffFlags& flags) {
  JsonWriter json;
  json.begin_object().field("first", flags.first).field("second", flags.second);
  json.field("samples", samples).key("values").begin_array();
  for (const auto& layer : worst_first(layers)) {
    json.begin_object().field("name", layer.name).field("type", layer.type);
    json.field("sqnr_db", layer.sqnr_db);  // null where it has no bound.
    json.field("equal", layer.sqnr_db == std::numeric_limits<double>::infinity());
    json.field("largest_difference", layer.largest_difference);
    if (layer.range) json.field("min", layer.range->min).field("max", layer.range->max);
    json.end_object();
  }
  return json.end_array().end_object().text() + "\n";
}

Result<void> diff(const DiffFlags& flags, Output& output) {
  SELVAGE_TRY(const auto first_path, model_path(flags.first));
  SELVAGE_TRY(const auto second_path, model_path(flags.second));
  if (!flags.plot.empty())
    SELVAGE_RETURN_IF_ERROR(
        check_output_path(first_path, flags.plot, {second_path, flags.data.path}));
  SELVAGE_TRY(const auto options, flags.session.to_model_options());
  SELVAGE_TRY(const auto runtime, infer::Runtime::create());
  SELVAGE_TRY(const auto model, infer::Model::load(*runtime, first_path, options));
  SELVAGE_TRY(const auto data,
              flags.data.open(*model, infer::Part::kTest, std::span(&flags.plot, 1)));
  SELVAGE_TRY(const auto samples, compress::calibration_samples(*model, *data, flags.samples));
  SELVAGE_TRY(const auto first, graph::load_whole(first_path));
  SELVAGE_TRY(const auto second, graph::load_whole(second_path));
  std::optional<Progress> progress;
  SELVAGE_TRY(const auto layers,
              compress::compare_layers(*runtime, first, second, samples,
                                       {.memory_max = flags.memory_megabytes * kMegabyte,
                                        .progress = [&](std::size_t done, std::size_t total) {
                                          if (!progress)
                                            progress.emplace(output, "comparing", total);
                                          progress->set(done);
                                          return !interrupted();
                                        }}));
  progress.reset();
  if (!flags.plot.empty()) {
    SELVAGE_RETURN_IF_ERROR(write_atomically(
        flags.plot, plot_layers(flags.second + " against " + flags.first, layers)));
    output.note("the layers are drawn in " + flags.plot);
  }
  output.print(output.json() ? report_json(layers, samples.count, flags)
                             : report_text(layers, samples.count, flags, output.style()));
  return {};
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<DiffFlags>();
  app.add_option("FIRST", flags->first, "The original: a model.onnx, or the folder that holds it")
      ->required();
  app.add_option("SECOND", flags->second, "What was made of it")->required();
  add_data_options(app, flags->data);
  app.add_option("--samples", flags->samples, "Samples to compare on, spread over the data (16)")
      ->type_name("N")
      ->check(whole_in_range(1, 1'000'000));
  app.add_option("--top", flags->top, "Values to list (20); --json lists all")
      ->type_name("N")
      ->check(whole_in_range(1, 1'000'000));
  app.add_option("--plot", flags->plot, "Draw the error of every value into this SVG file")
      ->type_name("FILE");
  app.add_option("--memory", flags->memory_megabytes,
                 "Megabytes for the values that one run watches (512)")
      ->type_name("MB")
      ->check(whole_in_range(1, 1 << 20));
  add_session_options(app, flags->session);
  add_json_option(app);
  return [flags](Output& output) { return diff(*flags, output); };
}

constexpr Command kCommand{
    .name = "diff",
    .summary = "Show where two models of the same network differ",
    .description =
        "Runs both on the same samples, aligns the values inside of them by name, and ranks them "
        "by the signal-to-noise ratio of the second (SQNR, 20 log10(|x| / |x - y|)): the first "
        "value that is poor in the order of the network is where to look. About 30 dB and more "
        "rarely costs accuracy, below 15 dB often does.",
    .examples =
        "selvage diff model.onnx small.onnx --data photos/\n"
        "selvage diff model.onnx small.onnx --data photos/ --plot layers.svg\n"
        "selvage diff model.onnx small.onnx --data photos/ --json | jq '.values[0]'",
    .add = add};

}  // namespace

const Command& diff_command() {
  return kCommand;
}

}  // namespace selvage::cli
