// The options that say which data a command reads.
#pragma once

#include <memory>
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

  /// Errors name the path.
  [[nodiscard]] Result<std::unique_ptr<infer::Dataset>> open(const infer::Model& model,
                                                             infer::Part part) const;
};
/// `--data`, required, and `--label`.
void add_data_options(CLI::App& app, DataFlags& flags);

}  // namespace selvage::cli
