// Help texts that read like documentation, made from the command line's own description.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

namespace selvage::cli {

/// What help and the manual page say about the whole program.
struct ProgramText {
  struct Term {
    std::string_view name, meaning;
  };
  std::string_view summary;      ///< Half a line.
  std::string_view description;  ///< Paragraphs.
  std::string_view examples;     ///< One a line, indented, in columns.
  std::span<const Term> environment, exit_codes;
};
[[nodiscard]] const ProgramText& program_text();

class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override;
};

/// "-v, --verbose", "--threads N", "MODEL": an option as it is typed.
[[nodiscard]] std::string option_usage(const CLI::Option& option);
/// Options that help shows, in the order in which they were added.
[[nodiscard]] std::vector<const CLI::Option*> shown_options(const CLI::App& app);
/// The options' groups, in the order of their first option.
[[nodiscard]] std::vector<std::string> option_groups(const CLI::App& app);

}  // namespace selvage::cli
