#include "cli/app.h"

#include <array>
#include <ostream>
#include <string>

#include <signal.h>
#include <unistd.h>

#include "base/environment.h"
#include "base/exception.h"
#include "base/log.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "infer/runtime.h"
#include "infer/yaml.h"

namespace selvage::cli {
namespace {

Result<void> configure_log() {
  const auto wanted = environment("SELVAGE_LOG");
  constexpr std::array<std::pair<std::string_view, log::Level>, 6> kLevels{
      {{"", log::Level::kWarning},
       {"debug", log::Level::kDebug},
       {"info", log::Level::kInfo},
       {"warning", log::Level::kWarning},
       {"error", log::Level::kError},
       {"off", log::Level::kOff}}};
  for (const auto& [name, level] : kLevels) {
    if (name != wanted) continue;
    log::configure(level, log::Format::kText);
    return {};
  }
  return fail(ErrorCode::kInvalidArgument,
              "SELVAGE_LOG is '" + wanted + "': set it to debug, info, warning, error or off");
}

std::string suggestion(const std::string& word, const std::vector<std::string>& known) {
  const auto nearest = infer::nearest_name(word, known);
  return nearest ? ": did you mean '" + std::string(*nearest) + "'?" : "";
}

/// What to say about words that nothing takes.
std::string describe_extras(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  const auto extras = app.remaining(true);
  const std::string word = extras.empty() ? "" : extras.front().substr(0, extras.front().find('='));
  if (chosen.empty() && !word.starts_with('-')) {
    std::vector<std::string> names;
    for (const auto* command : commands())
      if (!command->hidden) names.emplace_back(command->name);
    return "no command '" + word + "'" + suggestion(word, names);
  }
  if (!word.starts_with('-')) return "unexpected argument '" + word + "'";
  std::vector<std::string> names;
  for (const auto* option : shown_options(chosen.empty() ? app : *chosen.front()))
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  return "no option '" + word + "'" + suggestion(word, names);
}

int usage_error(Output& output, const CLI::App& app, const std::string& message) {
  std::string program = "selvage";
  for (const auto* chosen : app.get_subcommands()) program += " " + chosen->get_name();
  const auto end = message.ends_with('?') || message.ends_with('.') ? " " : "; ";
  output.print_error({ErrorCode::kInvalidArgument,
                      message + end + (end[0] == ';' ? "see `" : "See `") + program + " --help`"});
  return kExitUsage;
}

/// Takes what CLI11 threw; its messages are turned into ours where they are not plain.
int handle_parse_error(const CLI::App& app, const CLI::ParseError& error, Output& output) {
  if (dynamic_cast<const CLI::CallForHelp*>(&error)) {
    const auto chosen = app.get_subcommands();
    output.print((chosen.empty() ? app : *chosen.front()).help());
    return kExitOk;
  }
  if (dynamic_cast<const CLI::CallForVersion*>(&error)) {
    output.print("selvage " + app.version() + "\n");
    return kExitOk;
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&error))
    return usage_error(output, app, describe_extras(app));
  if (dynamic_cast<const CLI::RequiredError*>(&error)) {
    if (app.get_subcommands().empty()) {
      // "selvage bnech model" is an unknown command rather than a missing one.
      if (!app.remaining(true).empty()) return usage_error(output, app, describe_extras(app));
      return usage_error(output, app, "which command?");
    }
    // A misspelt option is what went wrong, not the arguments that were to follow it.
    if (const auto extras = app.remaining(true); !extras.empty() && extras.front().starts_with('-'))
      return usage_error(output, app, describe_extras(app));
    std::string what = error.what();
    return usage_error(output, app, what.substr(0, what.find(" is required")) + " is missing");
  }
  std::string what = error.what();
  for (char& c : what)
    if (c == '\n') c = ' ';
  return usage_error(output, app, what);
}

bool asks_for_json(int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i)
    if (std::string_view(argv[i]) == "--json") return true;
  return false;
}

int run_action(const CLI::App& app, const std::vector<Action>& actions, Output& output) {
  for (std::size_t i = 0; i < actions.size(); ++i) {
    if (!app.got_subcommand(std::string(commands()[i]->name))) continue;
    const auto done = catch_to_result(ErrorCode::kInternal, [&] { return actions[i](output); });
    if (!done) {
      output.print_error(done.error());
      return done.error().code == ErrorCode::kCancelled ? kExitInterrupted : kExitFailed;
    }
    return interrupted() ? kExitInterrupted : kExitOk;
  }
  return kExitUsage;
}

}  // namespace

std::span<const Command* const> commands() {
  static const std::array all{&run_command(),      &bench_command(),      &serve_command(),
                              &inspect_command(),  &evaluate_command(),   &optimize_command(),
                              &quantize_command(), &diff_command(),       &prune_command(),
                              &new_command(),      &train_command(),      &distill_command(),
                              &doctor_command(),   &completion_command(), &man_command()};
  return all;
}

std::unique_ptr<CLI::App> make_app(std::string_view version, std::vector<Action>& actions) {
  auto app = std::make_unique<CLI::App>();
  app->name("selvage");
  app->require_subcommand(1);
  app->formatter(std::make_shared<HelpFormatter>());
  app->set_version_flag("--version", std::string(version), "Print the version");
  app->get_version_ptr()->group("General");
  app->set_help_flag("-h,--help", "Show this help")->group("General");
  app->add_flag("--json")->group("");  // Before or after the command, `--json` is understood.
  for (const auto* command : commands()) {
    auto* sub = app->add_subcommand(std::string(command->name), std::string(command->summary));
    sub->set_help_flag("-h,--help", "Show this help")->group("General");
    actions.push_back(command->add(*sub));
  }
  return app;
}

namespace {

int parse_and_run(int argc, const char* const* argv, std::string_view version, Output& output) {
  if (const auto configured = configure_log(); !configured) {
    output.print_error(configured.error());
    return kExitUsage;
  }
  std::vector<Action> actions;
  const auto app = make_app(version, actions);
  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return handle_parse_error(*app, e, output);
  }
  watch_interrupts();
  // Writing beyond the shell's limit of a file's size fails then, as on a full disk.
  ::signal(SIGXFSZ, SIG_IGN);
  return run_action(*app, actions, output);
}

}  // namespace

int run_program(int argc, const char* const* argv, std::string_view version, std::ostream& out,
                std::ostream& error) {
  const bool dumb = environment("TERM") == "dumb";
  Output output(out, error,
                {.json = asks_for_json(argc, argv),
                 .colour = environment("NO_COLOR").empty() && !dumb && ::isatty(STDOUT_FILENO) == 1,
                 .progress = !dumb && ::isatty(STDERR_FILENO) == 1});
  const int code = parse_and_run(argc, argv, version, output);
  if (out) return code;
  output.note("standard output could not be written");
  return kExitFailed;
}

}  // namespace selvage::cli
