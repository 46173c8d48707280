// `selvage doctor`: what is wrong with this machine for inference, and how to mend it.
#include <algorithm>

#include <CLI/CLI.hpp>

#include "base/json_writer.h"
#include "base/utf8.h"
#include "cli/checkup.h"
#include "cli/command.h"
#include "cli/load.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/workload.h"

namespace selvage::cli {
namespace {

struct DoctorFlags {
  std::string model;
  std::string root = "/";
  SessionFlags session;
};

struct Section {
  std::string_view title;
  std::vector<Finding> findings;
};

/// Whether the model loads and how fast it runs here. A model that fails is a finding, not an
/// error.
std::vector<Finding> check_model(infer::Runtime& runtime, const DoctorFlags& flags) {
  Finding loads{"model-loads", "loads", Severity::kOk, "", ""};
  const auto failed = [&](const Error& error) {
    loads.severity = Severity::kProblem;
    loads.found = error.message;
    loads.mend = "see `selvage inspect " + flags.model + "`";
    return std::vector{loads};
  };
  const auto options = flags.session.to_model_options();
  if (!options) return failed(options.error());
  const auto start = std::chrono::steady_clock::now();
  auto workload = Workload::create(runtime, {.model = flags.model}, *options);
  if (!workload) return failed(workload.error());
  const auto& session = workload->subject().first_model().session();
  loads.found = "in " + format_duration(std::chrono::steady_clock::now() - start) +
                (session.loaded_from_cache() ? ", from the cache" : ", optimised") + "; " +
                format_plural(static_cast<std::uint64_t>(session.options().threads), "thread");

  if (const auto warm = warm_up(workload->callers()); !warm) return failed(warm.error());
  const auto load = apply_load(workload->callers(), {.time = std::chrono::seconds(1)});
  if (!load) return failed(load.error());
  const auto at = [&](double part) {
    return std::chrono::nanoseconds(static_cast<std::int64_t>(load->latency.percentile_ns(part)));
  };
  Finding speed{"model-latency", "latency", Severity::kOk,
                "p50 " + format_duration(at(0.5)) + ", p99 " + format_duration(at(0.99)) + " on " +
                    workload->input(),
                ""};
  if (at(0.99) > kLatencyLine) {
    speed.severity = Severity::kAdvice;
    speed.mend =
        "above 10 ms: `selvage bench --compare` finds the best settings, `selvage inspect "
        "--profile` shows where the time goes";
  }
  return {loads, speed};
}

Tone tone_of(Severity severity) {
  switch (severity) {
    case Severity::kOk: return Tone::kGood;
    case Severity::kAdvice: return Tone::kCaution;
    case Severity::kProblem: return Tone::kBad;
  }
  return Tone::kPlain;
}

std::size_t count(const std::vector<Section>& sections, Severity severity) {
  std::size_t sum = 0;
  for (const auto& section : sections)
    sum += static_cast<std::size_t>(
        std::ranges::count(section.findings, severity, &Finding::severity));
  return sum;
}

std::string to_text(const std::vector<Section>& sections, const Style& style) {
  constexpr std::size_t kWidth = 100;
  constexpr std::string_view kMarginText = "                               ";
  std::string text;
  for (const auto& section : sections) {
    text += style(Tone::kBold, section.title) + "\n";
    for (const auto& finding : section.findings) {
      const std::string severity(to_string(finding.severity));
      std::string head = "  " + style(tone_of(finding.severity), severity) +
                         std::string(9 - severity.size(), ' ') + finding.title;
      head += std::string(20 - std::min<std::size_t>(20, finding.title.size()), ' ');
      const auto found =
          wrap(finding.found.empty() ? "-" : printable(finding.found), kWidth, kMarginText);
      text += head + found.substr(kMarginText.size());
      if (!finding.mend.empty()) text += wrap("-> " + printable(finding.mend), kWidth, kMarginText);
    }
    text += "\n";
  }
  const auto problems = count(sections, Severity::kProblem);
  const auto advice = count(sections, Severity::kAdvice);
  if (problems + advice == 0) return text + style(Tone::kGood, "Nothing to mend.") + "\n";
  return text + format_plural(problems, "problem") + ", " +
         (advice == 1 ? "1 piece" : format_count(advice) + " pieces") + " of advice.\n";
}

std::string to_json(const std::vector<Section>& sections) {
  JsonWriter json;
  json.begin_object().field("problems", count(sections, Severity::kProblem));
  json.field("advice", count(sections, Severity::kAdvice)).key("findings").begin_array();
  for (const auto& section : sections)
    for (const auto& finding : section.findings)
      json.begin_object()
          .field("id", finding.id)
          .field("section", section.title)
          .field("title", finding.title)
          .field("severity", to_string(finding.severity))
          .field("found", finding.found)
          .field("mend", finding.mend)
          .end_object();
  json.end_array().end_object();
  return json.text() + "\n";
}

Result<void> examine(const DoctorFlags& flags, Output& output) {
  const Machine machine(flags.root);
  SELVAGE_TRY(const auto runtime, infer::Runtime::create());
  std::vector<Section> sections;
  {
    const Progress progress(output, "measuring", 0);
    sections = {{"Processor", check_processor(machine)},
                {"Frequency and heat", check_frequency(machine)},
                {"Memory", check_memory(machine)},
                {"Limits", check_limits(machine)},
                {"Software", check_software(machine, *runtime)},
                {"Measured", check_by_measuring(machine)}};
    if (!flags.model.empty()) sections.push_back({"Model", check_model(*runtime, flags)});
  }
  output.print(output.json() ? to_json(sections) : to_text(sections, output.style()));
  return {};
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<DoctorFlags>();
  app.add_option("MODEL", flags->model, "Also load and time this model on random tensors");
  app.add_option("--root", flags->root, "Where /proc and /sys are looked for, for tests")
      ->group("");
  add_session_options(app, flags->session);
  add_json_option(app);
  return [flags](Output& output) { return examine(*flags, output); };
}

constexpr Command kCommand{
    .name = "doctor",
    .summary = "Say what is wrong with this machine for inference, and how to mend it",
    .description =
        "Looks at the processor, its frequency, memory, limits and software, and measures for "
        "about "
        "a second how fast memory is and how late threads are woken. Changes nothing. Each finding "
        "is ok, advice (inference works, but slower or less steadily than it could) or a problem, "
        "and says how to mend it.",
    .examples =
        "selvage doctor\n"
        "selvage doctor model.onnx\n"
        "selvage doctor --json | jq '.findings[] | select(.severity == \"problem\")'",
    .add = add};

}  // namespace

const Command& doctor_command() {
  return kCommand;
}

}  // namespace selvage::cli
