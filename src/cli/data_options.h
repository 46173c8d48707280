// The options that say which data a command reads.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "infer/dataset.h"
#include "infer/model.h"

namespace CLI {  // NOLINT(readability-identifier-naming): a library's
class App;
}

namespace selvage::cli {

struct DataFlags {
  std::string path;
  std::string label;
  const char* option = "--data";  ///< That names the path; errors do too.

  /// kInvalidArgument if one of `outs`, which the command is to write, is one of the data's files.
  [[nodiscard]] Result<std::unique_ptr<infer::Dataset>> open(
      const infer::Model& model, infer::Part part, std::span<const std::string> outs = {}) const;
};
/// `--data`, required, and `--label`.
void add_data_options(CLI::App& app, DataFlags& flags);
/// The same where a command can do without data; then `--label` needs them.
void add_optional_data_options(CLI::App& app, DataFlags& flags);

}  // namespace selvage::cli
