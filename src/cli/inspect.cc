// `selvage inspect`: what is in a model, and where its time goes.
#include <algorithm>
#include <map>

#include <CLI/CLI.hpp>

#include "base/file.h"
#include "base/json_writer.h"
#include "base/utf8.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "cli/random_input.h"
#include "cli/scratch_folder.h"
#include "cli/subject.h"
#include "graph/model.h"
#include "graph/sort.h"
#include "graph/sparsity.h"
#include "graph/summary.h"
#include "infer/model_card.h"
#include "infer/session.h"
#include "infer/shapes.h"

namespace selvage::cli {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kTopNodes = 12;
constexpr std::uint64_t kShownSparsity = 100;  // A hundredth of the weights are zero, or more.
constexpr std::uint64_t kWarmUpRuns = 3;
constexpr std::uint64_t kProfiledRunsMax = 50;
constexpr std::uint64_t kProfiledEventsMax = 40'000;  // Of the trace, which is parsed in memory.
constexpr std::uint64_t kTraceBytesMax = 256u << 20;
constexpr auto kProfileTime = std::chrono::seconds(3);

struct InspectFlags {
  std::string model;
  bool profile = false;
  std::vector<std::string> shapes;
  SessionFlags session;
};

struct Report {
  std::filesystem::path path;
  std::uint64_t file_bytes = 0;
  infer::ModelCard card;
  graph::Summary summary;
  std::uint64_t weights = 0, zero_weights = 0;  ///< See graph/sparsity.h.
  std::string shapes_problem;  ///< Why shapes inside the graph are unknown, if they are.
  std::optional<Profile> profile;
};

// --- Text
// -----------------------------------------------------------------------------------------

std::string shape_text(const graph::ValueSummary& value) {
  if (!value.shape) return "any rank";
  std::string text = "[";
  for (const auto& dimension : *value.shape) {
    text += text.size() > 1 ? "," : "";
    if (dimension.size >= 0)
      text += std::to_string(dimension.size);
    else
      text += dimension.symbol.empty() ? "?" : dimension.symbol;
  }
  return text + "]";
}

std::string operator_name(const graph::OperatorSummary& op) {
  return op.domain.empty() ? op.type : op.domain + ":" + op.type;
}

std::string heading(std::string_view text, const Style& style) {
  return "\n" + style(Tone::kBold, text) + "\n";
}

/// How to fix the first open dimension that a name is known for.
std::string dimension_hint(const graph::Summary& summary) {
  for (const auto& input : summary.inputs)
    for (const auto& dimension : input.shape.value_or(std::vector<graph::DimensionSummary>{}))
      if (dimension.size < 0 && !dimension.symbol.empty())
        return ": fix open dimensions with --dim, such as --dim " + dimension.symbol + "=1";
  return "";
}

std::string percent(double part, double whole) {
  return whole > 0 ? fixed(100 * part / whole, 1) + " %" : "";
}

std::string facts_text(const Report& report, const Style& style) {
  const auto& summary = report.summary;
  Table table({{""}, {""}});
  const auto add = [&](const char* what, std::string text) {
    std::ranges::replace(text, '\n', ' ');  // Descriptions may be paragraphs.
    if (!text.empty()) table.add({{what, Tone::kDim}, std::move(text)});
  };
  std::string opsets;
  for (const auto& [domain, version] : summary.opsets)
    opsets += (opsets.empty() ? "" : ", ") + (domain.empty() ? "" : domain + " ") +
              std::to_string(version);
  add("file", report.path.string() + ", " + format_bytes(report.file_bytes));
  add("description",
      report.card.description.empty() ? summary.description : report.card.description);
  add("licence", report.card.licence);
  add("source", report.card.source);
  add("made by", summary.producer);
  add("format", "ONNX IR " + std::to_string(summary.ir_version) + ", opset " + opsets);
  add("parameters", format_large(summary.parameter_count) + " in " +
                        format_bytes(summary.parameter_bytes) +
                        (summary.external_bytes > 0
                             ? ", " + format_bytes(summary.external_bytes) + " outside the file"
                             : ""));
  if (report.zero_weights >= report.weights / kShownSparsity && report.zero_weights > 0)
    add("sparsity",
        percent(static_cast<double>(report.zero_weights), static_cast<double>(report.weights)) +
            " of the weights are zero");
  std::string work = format_large(summary.macs) + " multiply-accumulates (MACs) a run";
  if (summary.macs_unknown > 0)
    work += ", and " + format_plural(summary.macs_unknown, "node") + " of unknown size" +
            dimension_hint(summary);
  add("work", work);
  for (const auto& [key, value] : summary.metadata)
    add("metadata", key + " = " + (value.size() > 60 ? value.substr(0, 60) + "..." : value));
  add("note", report.shapes_problem);
  return table.to_text(style);
}

std::string values_text(const char* title, const std::vector<graph::ValueSummary>& values,
                        const Style& style) {
  Table table({{title}, {"type"}, {"shape"}});
  for (const auto& value : values) table.add({value.name, value.type, shape_text(value)});
  return "\n" + table.to_text(style);
}

std::string operators_text(const graph::Summary& summary, const Style& style) {
  Table table(
      {{"operator"}, {"count", Align::kRight}, {"MACs", Align::kRight}, {"", Align::kRight}});
  for (const auto& op : summary.operators)
    table.add({operator_name(op), format_count(op.count), op.macs > 0 ? format_large(op.macs) : "",
               op.macs > 0
                   ? percent(static_cast<double>(op.macs), static_cast<double>(summary.macs))
                   : ""});
  return heading("Operators: " + format_plural(summary.nodes, "node"), style) +
         table.to_text(style);
}

std::string parameters_text(const graph::Summary& summary, const Style& style) {
  if (summary.parameters.size() < 2) return "";
  Table table(
      {{"type"}, {"tensors", Align::kRight}, {"elements", Align::kRight}, {"size", Align::kRight}});
  for (const auto& part : summary.parameters)
    table.add({std::string(to_string(part.type)), format_count(part.tensors),
               format_count(part.elements), format_bytes(part.bytes)});
  return heading("Parameters", style) + table.to_text(style);
}

struct OperatorTime {
  std::string type;
  std::uint64_t count = 0;
  std::chrono::nanoseconds mean{};
};

std::vector<OperatorTime> by_operator(const Profile& profile) {
  std::map<std::string, OperatorTime> times;
  for (const auto& node : profile.nodes) {
    auto& time = times[node.type];
    time.type = node.type;
    ++time.count;
    time.mean += node.mean;
  }
  std::vector<OperatorTime> sorted;
  sorted.reserve(times.size());
  for (auto& [type, time] : times) sorted.push_back(std::move(time));
  std::ranges::stable_sort(sorted, std::ranges::greater(), &OperatorTime::mean);
  return sorted;
}

std::string profile_text(const Profile& profile, const Style& style) {
  const auto whole = static_cast<double>(profile.run_mean.count());
  const auto share = [&](std::chrono::nanoseconds time) {
    return percent(static_cast<double>(time.count()), whole);
  };
  Table operators(
      {{"operator"}, {"nodes", Align::kRight}, {"time", Align::kRight}, {"share", Align::kRight}});
  std::chrono::nanoseconds sum{};
  for (const auto& op : by_operator(profile)) {
    operators.add({op.type, format_count(op.count), format_duration(op.mean), share(op.mean)});
    sum += op.mean;
  }
  operators.add({{"between operators", Tone::kDim},
                 "",
                 format_duration(std::max(std::chrono::nanoseconds{0}, profile.run_mean - sum)),
                 share(std::max(std::chrono::nanoseconds{0}, profile.run_mean - sum))});
  Table nodes({{"slowest nodes"},
               {"operator"},
               {"provider"},
               {"time", Align::kRight},
               {"share", Align::kRight}});
  for (std::size_t i = 0; i < std::min(kTopNodes, profile.nodes.size()); ++i) {
    const auto& node = profile.nodes[i];
    nodes.add({node.name, node.type, node.provider, format_duration(node.mean), share(node.mean)});
  }
  return heading("Profile: " + format_duration(profile.run_mean) + " a run with tracing, mean of " +
                     std::to_string(profile.runs) + ", after the runtime's optimisations",
                 style) +
         operators.to_text(style) + "\n" + nodes.to_text(style);
}

std::string report_text(const Report& report, const Style& style) {
  const auto& name = report.card.name;
  std::string text =
      style(Tone::kBold, printable(name.empty() ? report.path.filename().string() : name)) + "\n";
  text += facts_text(report, style);
  text += values_text("input", report.summary.inputs, style);
  text += values_text("output", report.summary.outputs, style);
  text += operators_text(report.summary, style);
  text += parameters_text(report.summary, style);
  if (report.profile) text += profile_text(*report.profile, style);
  return text;
}

// --- JSON
// -----------------------------------------------------------------------------------------

void write_values(std::string_view key, const std::vector<graph::ValueSummary>& values,
                  JsonWriter& json) {
  json.key(key).begin_array();
  for (const auto& value : values) {
    json.begin_object().field("name", value.name).field("type", value.type).key("shape");
    if (!value.shape) {
      json.null().end_object();
      continue;
    }
    json.begin_array();
    for (const auto& dimension : *value.shape) {
      if (dimension.size >= 0)
        json.value(dimension.size);
      else
        json.value(dimension.symbol.empty() ? "?" : dimension.symbol);
    }
    json.end_array().end_object();
  }
  json.end_array();
}

void write_profile(const Profile& profile, JsonWriter& json) {
  json.key("profile").begin_object().field("runs", profile.runs);
  json.field("run_milliseconds", to_milliseconds(profile.run_mean)).key("operators").begin_array();
  for (const auto& op : by_operator(profile))
    json.begin_object()
        .field("type", op.type)
        .field("nodes", op.count)
        .field("milliseconds", to_milliseconds(op.mean))
        .end_object();
  json.end_array().key("nodes").begin_array();
  for (const auto& node : profile.nodes)
    json.begin_object()
        .field("name", node.name)
        .field("type", node.type)
        .field("provider", node.provider)
        .field("milliseconds", to_milliseconds(node.mean))
        .end_object();
  json.end_array().end_object();
}

std::string report_json(const Report& report) {
  const auto& summary = report.summary;
  JsonWriter json;
  json.begin_object().field("path", report.path.string()).field("file_bytes", report.file_bytes);
  json.field("name", report.card.name).field("description", report.card.description);
  json.field("licence", report.card.licence).field("source", report.card.source);
  json.field("producer", summary.producer).field("ir_version", summary.ir_version);
  json.key("opsets").begin_object();
  for (const auto& [domain, version] : summary.opsets)
    json.field(domain.empty() ? "ai.onnx" : domain, version);
  json.end_object().key("metadata").begin_object();
  for (const auto& [key, value] : summary.metadata) json.field(key, value);
  json.end_object();
  write_values("inputs", summary.inputs, json);
  write_values("outputs", summary.outputs, json);
  json.field("nodes", summary.nodes).field("macs", summary.macs);
  json.field("macs_unknown", summary.macs_unknown).key("operators").begin_array();
  for (const auto& op : summary.operators)
    json.begin_object()
        .field("domain", op.domain)
        .field("type", op.type)
        .field("count", op.count)
        .field("macs", op.macs)
        .field("macs_unknown", op.macs_unknown)
        .end_object();
  json.end_array().field("parameter_count", summary.parameter_count);
  json.field("parameter_bytes", summary.parameter_bytes);
  json.field("weights", report.weights).field("zero_weights", report.zero_weights);
  json.field("external_bytes", summary.external_bytes).key("parameters").begin_array();
  for (const auto& part : summary.parameters)
    json.begin_object()
        .field("type", to_string(part.type))
        .field("tensors", part.tensors)
        .field("elements", part.elements)
        .field("bytes", part.bytes)
        .end_object();
  json.end_array();
  if (report.profile) write_profile(*report.profile, json);
  json.end_object();
  return json.text() + "\n";
}

// --- Work
// -----------------------------------------------------------------------------------------

Result<Profile> profile_model(infer::Runtime& runtime, const Report& report,
                              const InspectFlags& flags, Output& output) {
  SELVAGE_TRY(const auto scratch, ScratchFolder::create());
  SELVAGE_TRY(const auto given, flags.session.to_model_options());
  infer::SessionOptions options = given.session;
  report.card.session.apply_to(options);
  given.overrides.apply_to(options);
  options.usual_side = infer::usual_side(report.card);
  options.profile_prefix = scratch.path() / "trace";
  SELVAGE_TRY(const auto session, infer::Session::load(runtime, report.path, options));
  SELVAGE_TRY(const auto binding, bind_random_inputs(*session, flags.shapes));
  const auto runs =
      kWarmUpRuns + std::clamp<std::uint64_t>(
                        kProfiledEventsMax / std::max<std::uint64_t>(1, report.summary.nodes), 1,
                        kProfiledRunsMax);
  Progress progress(output, "profiling", runs);
  const auto end = steady_clock::now() + kProfileTime;
  for (std::uint64_t i = 0; i < runs && !interrupted(); ++i) {
    if (i > kWarmUpRuns && steady_clock::now() > end) break;
    if (auto done = binding->run(); !done)
      return std::unexpected(explain_failed_run(*session, flags.shapes, std::move(done).error()));
    progress.advance();
  }
  if (interrupted()) return fail(ErrorCode::kCancelled, "interrupted");
  SELVAGE_TRY(const auto trace, session->end_profiling());
  SELVAGE_TRY(const auto text, read_text(trace, kTraceBytesMax));
  return parse_trace(text, kWarmUpRuns);
}

Result<std::filesystem::path> model_file(const std::filesystem::path& path) {
  SELVAGE_RETURN_IF_ERROR(check_model_path(path));
  std::error_code ignored;
  if (std::filesystem::exists(path / "ensemble.yaml", ignored) || path.extension() == ".yaml")
    return fail(ErrorCode::kInvalidArgument,
                "'" + path.string() + "' is an ensemble: inspect the models it names one by one");
  SELVAGE_TRY(auto file, infer::find_model_file(path));
  if (!std::filesystem::is_regular_file(file, ignored))
    return fail(ErrorCode::kInvalidArgument,
                "'" + file.string() +
                    "' is a pipe or a device: a model is read several times, so save it first");
  return file;
}

Result<void> inspect(const InspectFlags& flags, Output& output) {
  Report report;
  SELVAGE_TRY(report.path, model_file(flags.model));
  std::error_code ignored;
  report.file_bytes = std::filesystem::file_size(report.path, ignored);
  SELVAGE_TRY(report.card, infer::load_model_card(report.path));
  SELVAGE_TRY(const auto model, graph::load_checked(report.path));
  SELVAGE_TRY(const auto sparsity, graph::measure_sparsity(model));
  for (const auto& tensor : sparsity) {
    report.weights += tensor.elements;
    report.zero_weights += tensor.zeros;
  }
  SELVAGE_TRY(const auto options, flags.session.to_model_options());
  SELVAGE_RETURN_IF_ERROR(
      infer::check_dimensions(graph::summarise(model), options.overrides.dimensions));
  SELVAGE_TRY(const auto runtime, infer::Runtime::create());
  {
    const Progress progress(output, "working out shapes", 0);
    auto shapes = infer::resolve_shapes(*runtime, model, options.overrides.dimensions);
    if (!shapes) report.shapes_problem = shapes.error().message;
    report.summary = graph::summarise(model, shapes ? *shapes : graph::ShapeMap{});
  }
  if (flags.profile) {
    SELVAGE_TRY(report.profile, profile_model(*runtime, report, flags, output));
  }
  output.print(output.json() ? report_json(report) : report_text(report, output.style()));
  return {};
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<InspectFlags>();
  app.add_option("MODEL", flags->model, "A model.onnx, or the folder that holds it")->required();
  auto* profile = app.add_flag("--profile", flags->profile,
                               "Run the model and show where the time goes, operator by operator");
  app.add_option("--shape", flags->shapes,
                 "With --profile: the size of an input, such as x=1x3x640x640; open dimensions are "
                 "1 otherwise. May be repeated")
      ->type_name("INPUT=AxBx...")
      ->check(parsed_by(parse_input_shape))
      ->allow_extra_args(false)
      ->needs(profile);
  add_session_options(app, flags->session);
  add_json_option(app);
  return [flags](Output& output) { return inspect(*flags, output); };
}

constexpr Command kCommand{
    .name = "inspect",
    .summary = "Show what is in a model, and where its time goes",
    .description =
        "Inputs, outputs, operators, parameters, metadata and the work of a run in "
        "multiply-accumulates (MACs). Shapes inside the graph are worked out by the runtime; a "
        "dimension that the model leaves open by name can be fixed with --dim.",
    .examples =
        "selvage inspect blazeface/\n"
        "selvage inspect model.onnx --dim batch=1\n"
        "selvage inspect model.onnx --profile --threads 1\n"
        "selvage inspect model.onnx --json | jq .macs",
    .add = add};

}  // namespace

const Command& inspect_command() {
  return kCommand;
}

}  // namespace selvage::cli
