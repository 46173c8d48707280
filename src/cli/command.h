// What a command is. Each lies in a file of its own and is listed in app.cc.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "base/result.h"
#include "cli/output.h"

namespace CLI {  // NOLINT(readability-identifier-naming): a library's
class App;
}

namespace selvage::cli {

/// What the chosen command does once the command line was read.
using Action = std::function<Result<void>(Output&)>;

struct Command {
  std::string_view name;
  std::string_view summary;      ///< Half a line, for the list of commands.
  std::string_view description;  ///< Paragraphs.
  std::string_view examples;     ///< One a line; may be empty.
  /// Adds the command's arguments and options to `app`, which outlives the returned action.
  Action (*add)(CLI::App& app);
  bool hidden = false;
};

[[nodiscard]] const Command& run_command();
[[nodiscard]] const Command& bench_command();
[[nodiscard]] const Command& serve_command();
[[nodiscard]] const Command& inspect_command();
[[nodiscard]] const Command& evaluate_command();
[[nodiscard]] const Command& optimize_command();
[[nodiscard]] const Command& quantize_command();
[[nodiscard]] const Command& diff_command();
[[nodiscard]] const Command& prune_command();
[[nodiscard]] const Command& new_command();
[[nodiscard]] const Command& train_command();
[[nodiscard]] const Command& distill_command();
[[nodiscard]] const Command& doctor_command();
[[nodiscard]] const Command& completion_command();
[[nodiscard]] const Command& man_command();

/// All of the above, in the order in which they are listed.
[[nodiscard]] std::span<const Command* const> commands();

}  // namespace selvage::cli
