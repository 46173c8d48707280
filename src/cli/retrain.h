// Training that heals a model which a command has changed: after pruning, and behind the rounding
// of quantisation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/data_options.h"
#include "cli/output.h"
#include "compress/prune_channels.h"
#include "graph/model.h"
#include "infer/model.h"
#include "infer/runtime.h"
#include "learn/trainer.h"

namespace CLI {  // NOLINT(readability-identifier-naming): a library's
class App;
class Option;
}  // namespace CLI

namespace selvage::cli {

struct RetrainFlags {
  bool wanted = false;
  std::uint64_t epochs = 5;
  std::size_t batch = 64;
  double rate = 1e-3;
  std::string augment;
  double alpha = 0.5, temperature = 3;
  bool restart = false;
};

/// `switch_name` ("--finetune") with `help`, and the options that need it, in a group of their own.
/// What `flags` hold already are the defaults.
void add_retrain_options(CLI::App& app, RetrainFlags& flags, const char* switch_name,
                         const char* help);

/// Where a changed model comes from, and where it goes.
struct RetrainTask {
  const std::filesystem::path& original;  ///< The model file before the change: the teacher.
  const DataFlags& data;
  std::string out;  ///< The command's OUT: the checkpoint lies beside it.
  int threads = 0;  ///< 0 = one a core.
};

/// `changed`, of the same inputs and outputs as the original, with better parameters: SGD on the
/// labels and, with `alpha`, on what the original answers. kInvalidArgument without data; otherwise
/// as learn::train(). An interrupted run goes on when the command is repeated. Forget the
/// checkpoint with remove_checkpoint() once OUT is written.
[[nodiscard]] Result<learn::TrainResult> retrain(infer::Runtime& runtime,
                                                 const graph::Model& changed,
                                                 const RetrainTask& task, const RetrainFlags& flags,
                                                 Output& output);
/// The same for what quantize_static() made of `floats`: the weights are trained behind their
/// rounding, and `quantized` becomes that model with its weights rounded for good.
[[nodiscard]] Result<learn::TrainResult> retrain_quantized(
    infer::Runtime& runtime, graph::Model& quantized, const graph::Model& floats,
    const RetrainTask& task, const RetrainFlags& flags, Output& output);
void remove_checkpoint(const std::string& out);

/// learn::taylor_importance() of `model`, which was made from the file at `path`, on the training
/// part of the data: for compress::Importance::kGiven.
[[nodiscard]] Result<decltype(compress::ChannelOptions::scores)> taylor_scores(
    infer::Runtime& runtime, const std::filesystem::path& path, const infer::ModelOptions& options,
    const graph::Model& model, const DataFlags& data);

}  // namespace selvage::cli
