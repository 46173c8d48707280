// The options of a training run, shared by `train` and `distill`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/data_options.h"
#include "learn/trainer.h"

namespace CLI {  // NOLINT(readability-identifier-naming): a library's
class App;
}

namespace selvage::cli {

struct TrainFlags {
  std::string model, out;
  DataFlags data;
  std::string validation;
  double validation_split = 0.1;
  std::uint64_t epochs = 10;
  std::size_t batch = 64;
  std::optional<double> rate;
  std::string optimizer = "adamw";
  std::optional<double> momentum, weight_decay;
  std::string schedule = "cosine";
  std::optional<double> warmup;
  std::uint64_t patience = 0;
  std::string augment;
  std::string loss = "auto";
  double label_smoothing = 0;
  std::vector<std::string> train, freeze;
  bool freeze_statistics = false;
  std::int64_t lora = 0;
  std::int64_t accumulate = 1;
  double average = 0;
  double clip_norm = 0;
  std::uint64_t seed = 0;
  int threads = 0;
  std::uint64_t memory = 0;  ///< Bytes of the whole process; 0 = no limit.
  bool low_priority = false;
  bool restart = false;
  double checkpoint_seconds = 30;
  std::string curve;

  /// Beside the output: "out.onnx.checkpoint".
  [[nodiscard]] std::string checkpoint_path() const { return out + ".checkpoint"; }
  /// Of the curve's two files, whichever of the two `curve` names, or neither.
  [[nodiscard]] std::string curve_path(const char* extension) const;
  /// All that the run writes.
  [[nodiscard]] std::vector<std::string> outs() const;
  /// kInvalidArgument for an augmentation that is none.
  [[nodiscard]] Result<learn::TrainOptions> to_options() const;
};

void add_train_options(CLI::App& app, TrainFlags& flags);

/// All threads of this process, and those to come, run only when nothing else wants the CPU.
void take_low_priority();

}  // namespace selvage::cli
