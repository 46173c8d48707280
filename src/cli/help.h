// Help texts that read like documentation, made from the command line's own description.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace selvage::cli {

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
