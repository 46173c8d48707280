// `selvage completion` and `selvage man`: made from the command line's own description.
#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "cli/help.h"
#include "cli/options.h"

namespace selvage::cli {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* option : shown_options(app))
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

const CLI::App& app_of(const CLI::App& top, const Command& command) {
  return *top.get_subcommand(std::string(command.name));
}

std::vector<const Command*> shown_commands() {
  std::vector<const Command*> shown;
  for (const auto* command : commands())
    if (!command->hidden) shown.push_back(command);
  return shown;
}

std::string bash_completion(const CLI::App& top) {
  std::vector<std::string> first;
  for (const auto* command : shown_commands()) first.emplace_back(command->name);
  for (auto& name : option_names(top)) first.push_back(std::move(name));
  std::string cases;
  for (const auto* command : shown_commands())
    cases += "    " + std::string(command->name) + ") words='" +
             joined(option_names(app_of(top, *command))) + "' ;;\n";
  return R"(# bash completion for selvage; written by `selvage completion bash`.
_selvage() {
  local word=${COMP_WORDS[COMP_CWORD]} command= words=
  for command in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do [[ $command == -* ]] || break; done
  case $command in
)" + cases +
         "    *) words='" + joined(first) + "' ;;\n" + R"(  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  [[ $word == -* || ( -n $word && ${#COMPREPLY[@]} -gt 0 ) || -z $command ]] ||
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
}
complete -o filenames -F _selvage selvage
)";
}

/// Text inside '...[...]' of zsh's _arguments.
std::string zsh_escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') safe += '\\';
    safe += c == '\'' ? "'\\''" : std::string(1, c);
  }
  return safe;
}

std::string zsh_completion(const CLI::App& top) {
  std::string text =
      "#compdef selvage\n# Written by `selvage completion zsh`.\n_selvage() {\n"
      "  local -a commands=(\n";
  for (const auto* command : shown_commands())
    text += "    '" + std::string(command->name) + ":" + zsh_escaped(command->summary) + "'\n";
  text +=
      "  )\n  if (( CURRENT == 2 )); then _describe command commands; return; fi\n"
      "  local command=$words[2]\n  shift words; (( CURRENT-- ))\n  case $command in\n";
  for (const auto* command : shown_commands()) {
    text += "    " + std::string(command->name) + ") _arguments";
    for (const auto* option : shown_options(app_of(top, *command))) {
      if (option->get_positional()) continue;
      for (const auto& name : option->get_lnames()) {
        text += " \\\n      '--" + name + "[" + zsh_escaped(option->get_description()) + "]";
        text += option->get_items_expected_max() > 0
                    ? ":" + zsh_escaped(option->get_type_name()) + ":_files'"
                    : "'";
      }
    }
    text += " '*:file:_files' ;;\n";
  }
  return text + "  esac\n}\n_selvage \"$@\"\n";
}

/// Text as it is, for roff.
std::string roff_escaped(std::string_view text) {
  std::string safe;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) safe += "\\&";
    if (c == '\\')
      safe += "\\e";
    else if (c == '-')
      safe += "\\-";
    else
      safe += c;
    line_begins = c == '\n';
  }
  return safe;
}

/// Lines that keep their breaks and columns.
std::string roff_verbatim(std::string_view text) {
  return ".nf\n" + roff_escaped(text) + ".fi\n";
}

std::string roff_term(std::string_view name, std::string_view meaning) {
  return ".TP\n.B " + roff_escaped(name) + "\n" + roff_escaped(meaning) + "\n";
}

std::string roff_options(const CLI::App& app) {
  std::string text;
  for (const auto* option : shown_options(app))
    text += roff_term(option_usage(*option), option->get_description());
  return text;
}

std::string manual(const CLI::App& top) {
  const auto& program = program_text();
  std::string page = ".TH SELVAGE 1 \"\" \"selvage " + roff_escaped(top.version()) +
                     "\" \"User Commands\"\n.SH NAME\nselvage \\- " +
                     roff_escaped(program.summary) +
                     "\n.SH SYNOPSIS\n.B selvage\n.I COMMAND\n[OPTION]... [ARGUMENT]...\n"
                     ".SH DESCRIPTION\n" +
                     roff_escaped(program.description) + ".SH COMMANDS\n";
  for (const auto* command : shown_commands()) page += roff_term(command->name, command->summary);
  for (const auto* command : shown_commands()) {
    page += ".SS selvage " + roff_escaped(command->name) + "\n" +
            roff_escaped(command->description) + "\n" + roff_options(app_of(top, *command));
    if (!command->examples.empty())
      page += ".PP\nExamples:\n.PP\n" + roff_verbatim(std::string(command->examples) + "\n");
  }
  page += ".SH OPTIONS\n" + roff_options(top) + ".SH ENVIRONMENT\n";
  for (const auto& [name, meaning] : program.environment) page += roff_term(name, meaning);
  page += ".SH EXIT STATUS\n";
  for (const auto& [code, meaning] : program.exit_codes) page += roff_term(code, meaning);
  return page + ".SH EXAMPLES\n" + roff_verbatim(program.examples);
}

Action add_completion(CLI::App& app) {
  auto shell = std::make_shared<std::string>();
  app.add_option("SHELL", *shell, "bash or zsh")->required()->check(one_of({"bash", "zsh"}));
  return [&app, shell](Output& output) -> Result<void> {
    const auto& top = *app.get_parent();
    output.print(*shell == "bash" ? bash_completion(top) : zsh_completion(top));
    return {};
  };
}

Action add_man(CLI::App& app) {
  return [&app](Output& output) -> Result<void> {
    output.print(manual(*app.get_parent()));
    return {};
  };
}

constexpr Command kCompletion{
    .name = "completion",
    .summary = "Print a script that completes commands in bash or zsh",
    .description = "Installed packages bring the script along; this is for everybody else.",
    .examples =
        "source <(selvage completion bash)\n"
        "selvage completion zsh > ~/.zfunc/_selvage",
    .add = add_completion};

constexpr Command kMan{.name = "man",
                       .summary = "Print the manual page",
                       .description = "For packages: selvage man > selvage.1",
                       .examples = "",
                       .add = add_man,
                       .hidden = true};

}  // namespace

const Command& completion_command() {
  return kCompletion;
}
const Command& man_command() {
  return kMan;
}

}  // namespace selvage::cli
