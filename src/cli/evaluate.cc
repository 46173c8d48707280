// `selvage evaluate`: how good a model is on data.
#include "compress/evaluate.h"

#include <algorithm>
#include <cmath>

#include <CLI/CLI.hpp>

#include "base/json_writer.h"
#include "cli/command.h"
#include "cli/data_options.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "infer/dataset.h"

namespace selvage::cli {
namespace {

using compress::Agreement;
using compress::Evaluation;

/// Above this a table does not fit a page; --json has everything.
constexpr std::size_t kShownClassesMax = 25;

struct EvaluateFlags {
  std::string model, against;
  DataFlags data;
  std::size_t batch = 64;
  SessionFlags session;
};

struct Report {
  std::string model, against;
  std::string data;
  std::optional<Evaluation> evaluation;  ///< Empty where only agreement is asked for.
  std::optional<Evaluation> reference;
  std::optional<Agreement> agreement;
  std::string no_labels;  ///< Why there is no evaluation beside an agreement.
};

// --- Text
// -----------------------------------------------------------------------------------------

std::string percent(double part) {
  return fixed(100 * part, 2) + " %";
}

std::string run_name(std::size_t batch) {
  return batch == 1 ? "run" : "run of " + std::to_string(batch);
}

std::string per_sample(const Evaluation& found) {
  if (found.latency.sum_ns == 0) return "";
  return format_rate(static_cast<double>(found.samples) /
                     (static_cast<double>(found.latency.sum_ns) / 1e9)) +
         " samples/s";
}

std::vector<std::pair<std::string, std::string>> facts_of(const Evaluation& found) {
  std::vector<std::pair<std::string, std::string>> facts;
  const auto add = [&](const char* name, std::optional<double> value, auto text) {
    if (value) facts.emplace_back(name, text(*value));
  };
  add("accuracy", found.accuracy, percent);
  add("macro F1", found.macro_f1, [](double value) { return fixed(value, 4); });
  add("AUROC", found.auroc, [](double value) { return fixed(value, 4); });
  add("mean absolute error", found.mean_absolute_error, significant);
  add("root mean square error", found.root_mean_square_error, significant);
  const auto time = [](std::uint64_t ns) {
    return format_duration(std::chrono::nanoseconds(static_cast<std::int64_t>(ns)));
  };
  facts.emplace_back(
      "p50, p99 of a " + run_name(found.batch),
      time(found.latency.percentile_ns(0.5)) + ", " + time(found.latency.percentile_ns(0.99)));
  facts.emplace_back("throughput", per_sample(found));
  return facts;
}

std::string facts_text(const Report& report, const Style& style) {
  const bool two = report.reference.has_value();
  Table table({{""}, {two ? "model" : "", Align::kRight}, {two ? "against" : "", Align::kRight}});
  const auto facts = facts_of(*report.evaluation);
  const auto others = two ? facts_of(*report.reference) : facts;
  for (std::size_t i = 0; i < facts.size(); ++i) {
    const bool same = two && i < others.size();
    table.add({{facts[i].first, Tone::kDim}, facts[i].second, same ? others[i].second : ""});
  }
  return table.to_text(style);
}

std::string classes_text(const Evaluation& found, const Style& style) {
  Table table({{"class"},
               {"samples", Align::kRight},
               {"recall", Align::kRight},
               {"precision", Align::kRight},
               {"F1", Align::kRight}});
  for (std::size_t c = 0; c < found.classes.size(); ++c) {
    const auto& one = found.per_class[c];
    if (one.samples + one.predicted == 0) continue;
    table.add({found.classes[c], format_count(one.samples), percent(one.recall),
               percent(one.precision), fixed(one.f1, 4)});
  }
  return "\n" + table.to_text(style);
}

/// Rows are what the labels say, columns what the model says.
std::string confusion_text(const Evaluation& found, const Style& style) {
  const auto classes = found.classes.size();
  if (found.confusion.empty() || classes > kShownClassesMax) return "";
  std::vector<Column> columns{{"label \\ found"}};
  for (const auto& name : found.classes) columns.push_back({name.substr(0, 8), Align::kRight});
  Table table(std::move(columns));
  for (std::size_t label = 0; label < classes; ++label) {
    std::vector<Cell> row{found.classes[label]};
    for (std::size_t predicted = 0; predicted < classes; ++predicted) {
      const auto count = found.confusion[label * classes + predicted];
      row.emplace_back(count == 0 ? "." : std::to_string(count), label == predicted ? Tone::kGood
                                                                 : count == 0       ? Tone::kDim
                                                                                    : Tone::kPlain);
    }
    table.add(std::move(row));
  }
  return "\n" + table.to_text(style);
}

std::string agreement_text(const Report& report, const Style& style) {
  const auto& found = *report.agreement;
  Table table({{""}, {""}});
  table.add({{"agreement with " + report.against, Tone::kDim}, percent(found.agreement)});
  if (found.sqnr_db) table.add({{"SQNR", Tone::kDim}, format_decibels(*found.sqnr_db)});
  if (found.largest_difference)
    table.add({{"largest difference", Tone::kDim}, significant(*found.largest_difference)});
  return "\n" + table.to_text(style);
}

std::string report_text(const Report& report, const Style& style) {
  const auto samples = report.evaluation ? report.evaluation->samples : report.agreement->samples;
  std::string text = style(Tone::kBold, report.model) + " on " + report.data + ", " +
                     format_plural(samples, "sample") + "\n\n";
  if (report.evaluation) {
    text += facts_text(report, style);
    if (!report.evaluation->per_class.empty() &&
        report.evaluation->classes.size() <= kShownClassesMax)
      text += classes_text(*report.evaluation, style);
    text += confusion_text(*report.evaluation, style);
  }
  if (report.agreement) text += agreement_text(report, style);
  if (!report.no_labels.empty()) text += "\n  " + report.no_labels + "\n";
  return text;
}

// --- JSON
// -----------------------------------------------------------------------------------------

void optional_field(JsonWriter& json, const char* name, std::optional<double> value) {
  if (value) json.field(name, *value);
}

void evaluation_json(JsonWriter& json, const Evaluation& found) {
  json.begin_object().field("task", to_string(found.task)).field("samples", found.samples);
  optional_field(json, "accuracy", found.accuracy);
  optional_field(json, "macro_f1", found.macro_f1);
  optional_field(json, "auroc", found.auroc);
  optional_field(json, "mean_absolute_error", found.mean_absolute_error);
  optional_field(json, "root_mean_square_error", found.root_mean_square_error);
  if (!found.per_class.empty()) {
    json.key("classes").begin_array();
    for (std::size_t c = 0; c < found.classes.size(); ++c) {
      const auto& one = found.per_class[c];
      json.begin_object().field("name", found.classes[c]).field("samples", one.samples);
      json.field("recall", one.recall).field("precision", one.precision).field("f1", one.f1);
      json.end_object();
    }
    json.end_array();
  }
  if (!found.confusion.empty()) {
    json.key("confusion").begin_array();
    for (std::size_t label = 0; label < found.classes.size(); ++label) {
      json.begin_array();
      for (std::size_t predicted = 0; predicted < found.classes.size(); ++predicted)
        json.value(found.confusion[label * found.classes.size() + predicted]);
      json.end_array();
    }
    json.end_array();
  }
  json.field("batch", found.batch).key("latency_ms").begin_object();
  for (const auto& [name, fraction] : {std::pair("p50", 0.5), std::pair("p99", 0.99)})
    json.field(name, static_cast<double>(found.latency.percentile_ns(fraction)) / 1e6);
  json.field("mean", found.latency.mean_ns() / 1e6).end_object().end_object();
}

std::string report_json(const Report& report) {
  JsonWriter json;
  json.begin_object().field("model", report.model).field("data", report.data);
  if (report.evaluation) {
    json.key("evaluation");
    evaluation_json(json, *report.evaluation);
  }
  if (!report.against.empty()) json.field("against", report.against);
  if (report.reference) {
    json.key("reference");
    evaluation_json(json, *report.reference);
  }
  if (report.agreement) {
    const auto& found = *report.agreement;
    json.key("agreement").begin_object().field("task", to_string(found.task));
    json.field("samples", found.samples).field("agreement", found.agreement);
    optional_field(json, "sqnr_db", found.sqnr_db);  // null where the two are equal.
    optional_field(json, "largest_difference", found.largest_difference);
    json.end_object();
  }
  return json.end_object().text() + "\n";
}

// --- Work
// -----------------------------------------------------------------------------------------

compress::EvaluateOptions with_progress(const EvaluateFlags& flags, Progress& progress) {
  return {.batch = flags.batch, .samples = {}, .progress = [&progress](std::size_t done) {
            progress.set(done);
            return !interrupted();
          }};
}

Result<Evaluation> evaluate_model(const infer::Model& model, const infer::Dataset& data,
                                  const EvaluateFlags& flags, const std::string& name,
                                  Output& output) {
  Progress progress(output, "evaluating " + name, data.size());
  return compress::evaluate(model, data, with_progress(flags, progress));
}

Result<void> evaluate(const EvaluateFlags& flags, Output& output) {
  SELVAGE_TRY(const auto options, flags.session.to_model_options());
  SELVAGE_TRY(const auto runtime, infer::Runtime::create());
  SELVAGE_TRY(const auto model, infer::Model::load(*runtime, flags.model, options));
  SELVAGE_TRY(const auto data, flags.data.open(*model, infer::Part::kTest));
  Report report{.model = flags.model, .against = flags.against, .data = flags.data.path};
  auto found = evaluate_model(*model, *data, flags, flags.model, output);
  if (found)
    report.evaluation = *std::move(found);
  else if (flags.against.empty() || found.error().code == ErrorCode::kCancelled ||
           data->target_kind() != infer::TargetKind::kNone)
    return std::unexpected(std::move(found).error().with_context(flags.model));
  else
    report.no_labels = "without labels there is no accuracy";

  if (!flags.against.empty()) {
    SELVAGE_TRY(const auto other, infer::Model::load(*runtime, flags.against, options));
    if (report.evaluation) {
      auto beside = evaluate_model(*other, *data, flags, flags.against, output);
      if (!beside) return std::unexpected(std::move(beside).error().with_context(flags.against));
      report.reference = *std::move(beside);
    }
    Progress progress(output, "comparing", data->size());
    SELVAGE_TRY(report.agreement,
                compress::compare(*model, *other, *data, with_progress(flags, progress)));
  }
  output.print(output.json() ? report_json(report) : report_text(report, output.style()));
  return {};
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<EvaluateFlags>();
  app.add_option("MODEL", flags->model, "A model.onnx, or the folder that holds it")->required();
  add_data_options(app, flags->data);
  app.add_option("--against", flags->against,
                 "A second model: shows its figures beside, and how far the two agree. Needs no "
                 "labels")
      ->type_name("MODEL");
  app.add_option("--batch", flags->batch, "Samples a run, where the model takes batches (64)")
      ->type_name("N")
      ->check(whole_in_range(1, 4096));
  add_session_options(app, flags->session);
  add_json_option(app);
  return [flags](Output& output) { return evaluate(*flags, output); };
}

constexpr Command kCommand{
    .name = "evaluate",
    .summary = "Measure how good a model is on data",
    .description =
        "Accuracy, F1 and a confusion matrix where the labels are classes, AUROC for scores, the "
        "mean absolute error for numbers, and with --against how far two models say the same: "
        "equal classes, overlapping boxes, equal text. Data with a training and a test part "
        "(train-images..., t10k-images...; train/, test/) give their test part.",
    .examples =
        "selvage evaluate model.onnx --data fashion-mnist/\n"
        "selvage evaluate small.onnx --data photos/ --against model.onnx\n"
        "selvage evaluate detector/ --data readings.csv --label anomaly\n"
        "selvage evaluate model.onnx --data test.npz --json | jq .evaluation.accuracy",
    .add = add};

}  // namespace

const Command& evaluate_command() {
  return kCommand;
}

}  // namespace selvage::cli
