#include "cli/quantize_report.h"

#include <map>
#include <utility>

#include "base/json_writer.h"
#include "cli/training_run.h"

namespace selvage::cli {
namespace {

constexpr std::size_t kShownNodesMax = 3;  // Of those kept for one reason.

struct KeptGroup {
  std::size_t count = 0;
  std::string names;
};

std::map<std::pair<std::string, std::string>, KeptGroup> group_kept(
    const compress::QuantizationReport& report) {
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

}  // namespace

std::string to_text(const QuantizeReport& report, const QuantizeFlags& flags, const Style& style) {
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
  text += ", " + format_plural(done.kept.size(), flags.storage ? "weight" : "operator") +
          " kept in float:\n";
  Table table({{""}, {"", Align::kRight}, {""}, {""}});
  for (const auto& [key, group] : group_kept(done))
    table.add({key.first, format_count(group.count), {key.second, Tone::kDim}, group.names});
  return text + table.to_text(style, 4);
}

std::string to_json(const QuantizeReport& report, const QuantizeFlags& flags) {
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

}  // namespace selvage::cli
