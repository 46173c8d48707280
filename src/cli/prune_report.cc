#include "cli/prune_report.h"

#include <algorithm>
#include <utility>

#include "base/json_writer.h"
#include "cli/training_run.h"
#include "graph/sparsity.h"

namespace selvage::cli {
namespace {

constexpr std::size_t kShownFrozenMax = 12;

std::string percent(double part) {
  return fixed(100 * part, 1) + " %";
}

double zero_part(std::span<const graph::TensorSparsity> tensors) {
  double zeros = 0, elements = 0;
  for (const auto& tensor : tensors) {
    zeros += static_cast<double>(tensor.zeros);
    elements += static_cast<double>(tensor.elements);
  }
  return elements > 0 ? zeros / elements : 0;
}

std::string weights_text(const compress::PruneWeightsReport& found, const Style& style) {
  std::string text = "  zero weights  " + percent(zero_part(found.before)) + " before, " +
                     percent(zero_part(found.after)) + " after, in " +
                     format_plural(found.after.size(), "tensor") + "\n";
  for (const auto& skipped : found.skipped)
    text +=
        "  " + style(Tone::kDim, "left alone") + "  " + skipped.name + ": " + skipped.reason + "\n";
  return text + "  " +
         style(Tone::kCaution,
               "The runtime computes with zeros as with any number: this saves space once the file "
               "is compressed, not time.") +
         "\n";
}

std::string channels_text(const PruneReport& report, const Style& style) {
  Table table({{"channels"}, {"before", Align::kRight}, {"after", Align::kRight}});
  for (const auto& group : report.groups)
    table.add({group.name, format_count(group.before), format_count(group.after)});
  auto text = table.to_text(style) + "  " + style(Tone::kDim, report.verified) + "\n";
  if (report.frozen.empty()) return text;
  text += "\n  " + style(Tone::kBold, "Channels that must stay") + "\n";
  Table frozen({{""}, {"", Align::kRight}, {""}});
  for (const auto& entry :
       std::span(report.frozen).first(std::min(report.frozen.size(), kShownFrozenMax)))
    frozen.add({entry.name,
                format_count(static_cast<std::uint64_t>(entry.channels)),
                {entry.reason, Tone::kDim}});
  text += frozen.to_text(style);
  if (report.frozen.size() > kShownFrozenMax)
    text += "  and " + format_plural(report.frozen.size() - kShownFrozenMax, "layer") +
            " more (--json)\n";
  return text;
}

}  // namespace

std::string to_text(const PruneReport& report, const PruneFlags& flags, const Style& style) {
  std::string text = style(Tone::kBold, flags.out) + ": " + flags.method + " pruning\n\n";
  text += to_text(*report.change, style) + "\n";
  text += report.weights ? weights_text(*report.weights, style) : channels_text(report, style);
  if (report.training) text += "  fine-tuned    " + summary_text(*report.training) + "\n";
  if (report.gzip_after)
    text +=
        "  compressed    " + format_bytes(*report.gzip_after) + ", " +
        fixed(static_cast<double>(*report.gzip_after) / static_cast<double>(*report.gzip_before),
              2) +
        "x of the original compressed, in " + flags.out + ".gz\n";
  return text;
}

std::string to_json(const PruneReport& report, const PruneFlags& flags) {
  JsonWriter json;
  json.begin_object().field("model", flags.model).field("out", flags.out);
  json.field("method", flags.method);
  if (report.weights) {
    json.field("zeros_before", zero_part(report.weights->before));
    json.field("zeros_after", zero_part(report.weights->after));
    json.key("tensors").begin_array();
    for (const auto& tensor : report.weights->after)
      json.begin_object()
          .field("name", tensor.name)
          .field("elements", tensor.elements)
          .field("zeros", tensor.zeros)
          .end_object();
    json.end_array().key("skipped").begin_array();
    for (const auto& skipped : report.weights->skipped)
      json.begin_object().field("name", skipped.name).field("reason", skipped.reason).end_object();
    json.end_array();
  } else {
    json.field("verified", report.verified).key("groups").begin_array();
    for (const auto& group : report.groups)
      json.begin_object()
          .field("name", group.name)
          .field("before", group.before)
          .field("after", group.after)
          .end_object();
    json.end_array().key("frozen").begin_array();
    for (const auto& entry : report.frozen)
      json.begin_object()
          .field("name", entry.name)
          .field("channels", entry.channels)
          .field("reason", entry.reason)
          .end_object();
    json.end_array();
  }
  if (report.gzip_after)
    json.field("gzip_bytes_before", *report.gzip_before)
        .field("gzip_bytes_after", *report.gzip_after);
  if (report.training) {
    json.key("finetuned").begin_object();
    write_json(*report.training, json);
    json.end_object();
  }
  write_json(*report.change, json);
  return json.end_object().text() + "\n";
}

std::string to_text(std::span<const compress::Sensitivity> found, const Style& style) {
  std::vector<Column> columns{{"pruned alone"}, {"channels", Align::kRight}};
  for (const auto ratio : kScanRatios) columns.push_back({"-" + percent(ratio), Align::kRight});
  Table table(std::move(columns));
  for (const auto& group : found) {
    std::vector<Cell> row{group.group, format_count(static_cast<std::uint64_t>(group.channels))};
    for (std::size_t i = 0; i < kScanRatios.size(); ++i)
      row.emplace_back(i < group.points.size() ? fixed(group.points[i].metric, 4) + " (-" +
                                                     percent(group.points[i].ratio) + ")"
                                               : "");
    table.add(std::move(row));
  }
  return table.to_text(style);
}

std::string to_json(std::span<const compress::Sensitivity> found, const PruneFlags& flags) {
  JsonWriter json;
  json.begin_object().field("model", flags.model).key("sensitivity").begin_array();
  for (const auto& group : found) {
    json.begin_object().field("group", group.group).field("channels", group.channels);
    json.key("points").begin_array();
    for (const auto& point : group.points)
      json.begin_object().field("ratio", point.ratio).field("metric", point.metric).end_object();
    json.end_array().end_object();
  }
  return json.end_array().end_object().text() + "\n";
}

}  // namespace selvage::cli
