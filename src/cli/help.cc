#include "cli/help.h"

#include <array>

#include "cli/command.h"
#include "cli/text.h"

namespace selvage::cli {
namespace {

constexpr std::size_t kWidth = 88;
constexpr std::size_t kColumn = 24;  // Where descriptions begin.

using Term = ProgramText::Term;

constexpr std::string_view kSummary = "run ONNX models on edge machines";

constexpr std::string_view kDescription =
    R"(Selvage takes an .onnx file and real input - a photograph, a recording, a table - and
says what the model found, how long each stage took and what would make it faster. A
model card (model.yaml beside model.onnx) says what the tensors mean; without one, models
take and give arrays. Nothing is sent anywhere: ONNX Runtime's telemetry is switched off.
)";

constexpr std::string_view kExamples =
    R"(  selvage doctor                              is this machine ready for inference?
  selvage run blazeface/ photo.jpg            what is in the picture?
  selvage run blazeface/ photo.jpg --draw found.png
  selvage bench blazeface/ --input photo.jpg  how fast, how steady, how much memory?
  selvage COMMAND --help                      everything about a command
)";

constexpr std::array<Term, 3> kEnvironment{
    {{"SELVAGE_CACHE",
      "folder of optimised models and measured thread counts; otherwise $XDG_CACHE_HOME/selvage or "
      "~/.cache/selvage"},
     {"SELVAGE_LOG",
      "what is logged to standard error: debug, info, warning (the default), error or off"},
     {"NO_COLOR", "any value: no colour"}}};

constexpr std::array<Term, 4> kExitCodes{
    {{"0", "done"},
     {"1",
      "failed; standard error says why and what to do, and with --json standard output holds "
      "{\"error\": {\"code\": ..., \"message\": ...}}"},
     {"2", "the command line is wrong"},
     {"130", "ended by Ctrl-C"}}};

std::string entry(const std::string& left, std::string_view right) {
  const std::string indent(kColumn, ' ');
  std::string text = "  " + left;
  auto lines = wrap(right, kWidth, indent);
  if (lines.empty()) return text + "\n";
  if (text.size() + 2 > kColumn) return text + "\n" + lines;
  return text + std::string(kColumn - text.size(), ' ') + lines.substr(kColumn);
}

std::string usage_line(const CLI::App& app, const std::string& name) {
  std::string usage = "Usage: " + name + " [OPTION]...";
  for (const auto* option : shown_options(app)) {
    if (!option->get_positional()) continue;
    std::string argument = option->get_name();
    if (option->get_expected_max() > 1) argument += "...";
    usage += " " + (option->get_required() ? argument : "[" + argument + "]");
  }
  return usage + "\n";
}

std::string option_list(const CLI::App& app) {
  std::string text;
  for (const auto* option : shown_options(app))
    if (option->get_positional()) text += entry(option->get_name(), option->get_description());
  if (!text.empty()) text = "\nArguments:\n" + text;
  for (const auto& group : option_groups(app)) {
    text += "\n" + group + ":\n";
    for (const auto* option : shown_options(app))
      if (!option->get_positional() && option->get_group() == group)
        text += entry(option_usage(*option), option->get_description());
  }
  return text;
}

/// What stands for the value: as the command says, or by CLI11's name of its type, without the
/// checks that CLI11 appends.
std::string type_of(const CLI::Option& option) {
  const std::string name = option.get_type_name();
  const auto type = name.substr(0, name.find(':'));
  return type == "INT" || type == "UINT" || type == "FLOAT" ? "N" : type;
}

std::string terms(std::string_view title, std::span<const Term> all) {
  std::string text = "\n" + std::string(title) + ":\n";
  for (const auto& [name, meaning] : all) text += entry(std::string(name), meaning);
  return text;
}

std::string top_help(const CLI::App& app) {
  std::string text =
      "selvage - " + std::string(kSummary) + "\n\nUsage: selvage COMMAND [OPTION]...\n\n";
  text += kDescription;
  text += "\nCommands:\n";
  for (const auto* command : commands())
    if (!command->hidden) text += entry(std::string(command->name), command->summary);
  text += option_list(app);
  text += "\nStart here:\n" + std::string(kExamples);
  return text + terms("Environment", kEnvironment) + terms("Exit codes", kExitCodes);
}

}  // namespace

const ProgramText& program_text() {
  static constexpr ProgramText kText{.summary = kSummary,
                                     .description = kDescription,
                                     .examples = kExamples,
                                     .environment = kEnvironment,
                                     .exit_codes = kExitCodes};
  return kText;
}

std::string option_usage(const CLI::Option& option) {
  if (option.get_positional()) return option.get_name();
  std::string usage;
  for (const auto& name : option.get_snames()) usage += "-" + name + ", ";
  for (const auto& name : option.get_lnames()) usage += "--" + name + ", ";
  usage.resize(usage.size() - 2);
  if (option.get_items_expected_max() > 0) usage += " " + type_of(option);
  return usage;
}

std::vector<const CLI::Option*> shown_options(const CLI::App& app) {
  std::vector<const CLI::Option*> shown;
  for (const auto* option : app.get_options())
    if (!option->get_group().empty()) shown.push_back(option);
  return shown;
}

std::vector<std::string> option_groups(const CLI::App& app) {
  std::vector<std::string> groups;
  for (const auto* option : shown_options(app))
    if (!option->get_positional() && std::ranges::find(groups, option->get_group()) == groups.end())
      groups.push_back(option->get_group());
  // What every command has comes last.
  std::ranges::stable_partition(groups, [](const std::string& name) { return name != "General"; });
  return groups;
}

std::string HelpFormatter::make_help(const CLI::App* app, std::string /*name*/,
                                     CLI::AppFormatMode /*mode*/) const {
  if (app->get_parent() == nullptr) return top_help(*app);
  for (const auto* command : commands()) {
    if (command->name != app->get_name()) continue;
    const std::string name = "selvage " + app->get_name();
    std::string text = name + " - " + std::string(command->summary) + "\n\n";
    text += usage_line(*app, name) + "\n" + wrap(command->description, kWidth, "");
    text += option_list(*app);
    if (!command->examples.empty()) text += "\nExamples:\n" + wrap(command->examples, 200, "  ");
    return text;
  }
  return {};
}

}  // namespace selvage::cli
