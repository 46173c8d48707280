#include "cli/train_options.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <thread>

#include <CLI/CLI.hpp>
#include <sched.h>
#include <sys/resource.h>

#include "cli/options.h"
#include "cli/text.h"
#include "learn/objective.h"

namespace selvage::cli {
namespace {

using learn::OptimizerKind;
using learn::ScheduleKind;

/// What an optimiser starts with where nothing is typed: measured on lenet5, mlp and cnn1d from
/// scratch (docs/training.md).
struct Defaults {
  std::string_view word;
  OptimizerKind kind;
  double rate;
  double momentum;
  double weight_decay;
};
constexpr double kWarmupPart = 0.05;  // Of the run: what large rates need at first.
constexpr std::array kOptimizers{Defaults{"sgd", OptimizerKind::kSgd, 0.05, 0.9, 5e-4},
                                 Defaults{"adam", OptimizerKind::kAdam, 3e-3, 0, 0},
                                 Defaults{"adamw", OptimizerKind::kAdamW, 3e-3, 0, 0.01},
                                 Defaults{"rmsprop", OptimizerKind::kRmsProp, 1e-3, 0, 0},
                                 Defaults{"adagrad", OptimizerKind::kAdagrad, 1e-2, 0, 0},
                                 Defaults{"lion", OptimizerKind::kLion, 1e-4, 0, 0.1}};

std::vector<std::string> optimizer_words() {
  std::vector<std::string> words;
  for (const auto& one : kOptimizers) words.emplace_back(one.word);
  return words;
}

void add_data_flags(CLI::App& app, TrainFlags& flags) {
  constexpr auto kGroup = "Data";
  auto* const validation =
      app.add_option("--validation", flags.validation,
                     "Data that only judge each epoch; otherwise a part of --data does")
          ->type_name("PATH")
          ->group(kGroup);
  app.add_option("--validation-split", flags.validation_split,
                 "That part (0.1); 0 keeps the last epoch instead of the best")
      ->type_name("PART")
      ->check(in_range(0, 0.9))
      ->excludes(validation)
      ->group(kGroup);
  app.add_option("--augment", flags.augment,
                 "Random changes to the samples: flip,crop=0.8,shift=2,colour=0.2,noise=0.05,"
                 "mixup=0.2 or some of them")
      ->type_name("LIST")
      ->group(kGroup);
}

void add_optimizer_flags(CLI::App& app, TrainFlags& flags) {
  constexpr auto kGroup = "Optimiser";
  app.add_option("--lr", flags.rate,
                 "Learning rate (sgd 0.05, adam and adamw 0.003, rmsprop 0.001, adagrad 0.01, lion "
                 "0.0001), meant for training from scratch; a tenth suits fine-tuning")
      ->type_name("RATE")
      ->check(in_range(1e-12, 1e3))
      ->group(kGroup);
  app.add_option("--optimizer", flags.optimizer,
                 "sgd, adam, adamw (the default), rmsprop, adagrad "
                 "or lion")
      ->type_name("NAME")
      ->check(one_of(optimizer_words()))
      ->group(kGroup);
  app.add_option("--momentum", flags.momentum, "Of sgd (0.9) and rmsprop (0)")
      ->type_name("PART")
      ->check(in_range(0, 0.9999))
      ->group(kGroup);
  app.add_option("--weight-decay", flags.weight_decay,
                 "Pulls parameters towards 0 (sgd 0.0005, adamw 0.01, lion 0.1, others 0)")
      ->type_name("RATE")
      ->check(in_range(0, 10))
      ->group(kGroup);
  app.add_option("--schedule", flags.schedule,
                 "How the rate falls: cosine (the default), step, plateau or constant")
      ->type_name("NAME")
      ->check(one_of({"cosine", "step", "plateau", "constant"}))
      ->group(kGroup);
  app.add_option("--warmup", flags.warmup,
                 "Epochs in which the rate rises from 0 (a twentieth of all)")
      ->type_name("EPOCHS")
      ->check(in_range(0, 1e6))
      ->group(kGroup);
  app.add_option("--clip-norm", flags.clip_norm, "Limits the length of the gradient; 0 = not")
      ->type_name("NORM")
      ->check(in_range(0, 1e9))
      ->group(kGroup);
  app.add_option("--accumulate", flags.accumulate,
                 "Batches whose mean gradient makes one update (1): a larger batch in less memory")
      ->type_name("N")
      ->check(whole_in_range(1, 4096))
      ->group(kGroup);
  app.add_option("--average", flags.average,
                 "Keep a moving average of the parameters with this decay, such as 0.999, and give "
                 "that back")
      ->type_name("DECAY")
      ->check(in_range(0, 0.999999))
      ->group(kGroup);
}

void add_model_flags(CLI::App& app, TrainFlags& flags) {
  constexpr auto kGroup = "Model";
  app.add_option("--loss", flags.loss,
                 "auto (by labels and output, the default), cross-entropy, binary, mse, l1, huber "
                 "or reconstruction")
      ->type_name("NAME")
      ->check(one_of(learn::loss_words()))
      ->group(kGroup);
  app.add_option("--label-smoothing", flags.label_smoothing, "Of cross-entropy (0)")
      ->type_name("PART")
      ->check(in_range(0, 0.99))
      ->group(kGroup);
  app.add_option("--train-only", flags.train,
                 "Train only parameters whose names match, such as 'fc*'; may be repeated")
      ->type_name("PATTERN")
      ->allow_extra_args(false)
      ->group(kGroup);
  app.add_option("--freeze", flags.freeze,
                 "Keep parameters whose names match, such as 'layer1*'; may be repeated")
      ->type_name("PATTERN")
      ->allow_extra_args(false)
      ->group(kGroup);
  app.add_flag("--freeze-statistics", flags.freeze_statistics,
               "Keep the running means and variances of batch normalisation")
      ->group(kGroup);
  app.add_option("--lora", flags.lora,
                 "Train low-rank adapters of this rank instead of the weights, and merge them")
      ->type_name("RANK")
      ->check(whole_in_range(0, 1024))
      ->group(kGroup);
}

void add_run_flags(CLI::App& app, TrainFlags& flags) {
  constexpr auto kGroup = "Run";
  app.add_option("--seed", flags.seed, "Decides order, split and augmentation (0)")
      ->type_name("N")
      ->check(whole_in_range(0, kSeedMax))
      ->group(kGroup);
  app.add_option("--threads", flags.threads, "Threads that compute a step; 0 = one a core")
      ->type_name("N")
      ->check(whole_in_range(0, 256))
      ->group(kGroup);
  app.add_option("--memory", flags.memory,
                 "What this process may take, such as 150MB: a run that would need more is refused "
                 "before it begins, with what would fit (--batch, --accumulate)")
      ->type_name("SIZE")
      ->transform(size_value())
      ->group(kGroup);
  app.add_flag("--low-priority", flags.low_priority,
               "Compute only when nothing else on this machine wants to, such as live inference")
      ->group(kGroup);
  app.add_option("--checkpoint-seconds", flags.checkpoint_seconds,
                 "Time between checkpoints, which also end each epoch (30); 0 = each step")
      ->type_name("S")
      ->check(in_range(0, 86'400))
      ->group(kGroup);
  app.add_flag("--restart", flags.restart, "Forget the checkpoint of an unfinished run")
      ->group(kGroup);
  app.add_option("--curve", flags.curve,
                 "Draw loss and accuracy into NAME.svg, and list them in "
                 "NAME.csv")
      ->type_name("NAME")
      ->group(kGroup);
}

}  // namespace

Result<learn::TrainOptions> TrainFlags::to_options() const {
  const auto& defaults = *std::ranges::find(kOptimizers, optimizer, &Defaults::word);
  learn::TrainOptions options;
  options.epochs = epochs;
  options.batch = batch;
  options.learning_rate = rate.value_or(defaults.rate);
  options.optimizer.kind = defaults.kind;
  if (momentum && defaults.kind != OptimizerKind::kSgd && defaults.kind != OptimizerKind::kRmsProp)
    return fail(ErrorCode::kInvalidArgument,
                "--momentum is for --optimizer sgd and rmsprop, but " + optimizer + " trains");
  options.optimizer.momentum = static_cast<float>(momentum.value_or(defaults.momentum));
  options.optimizer.weight_decay = static_cast<float>(weight_decay.value_or(defaults.weight_decay));
  options.optimizer.average_decay = static_cast<float>(average);
  options.optimizer.clip_norm = static_cast<float>(clip_norm);
  if (defaults.kind == OptimizerKind::kAdagrad) options.optimizer.epsilon = 1e-10f;
  if (defaults.kind == OptimizerKind::kLion) options.optimizer.beta2 = 0.99f;
  options.schedule.kind = *learn::parse_schedule(schedule);
  if (warmup && *warmup > static_cast<double>(epochs))
    return fail(ErrorCode::kInvalidArgument,
                "--warmup " + shortest(*warmup) + ": the run has only --epochs " +
                    std::to_string(epochs) + ", so that the rate would never be reached");
  if (validation_split == 0 && (patience > 0 || options.schedule.kind == ScheduleKind::kPlateau))
    return fail(ErrorCode::kInvalidArgument,
                std::string(patience > 0 ? "--patience" : "--schedule plateau") +
                    " needs data that judge each epoch, but --validation-split is 0");
  options.schedule.warmup_epochs = warmup.value_or(kWarmupPart * static_cast<double>(epochs));
  SELVAGE_TRY(options.augment, learn::parse_augmentation(augment));
  options.loss = loss;
  options.label_smoothing = static_cast<float>(label_smoothing);
  options.train = train;
  options.freeze = freeze;
  options.freeze_statistics = freeze_statistics;
  options.lora = {.rank = lora, .scale = static_cast<float>(lora), .seed = seed};
  options.accumulate = accumulate;
  options.validation_fraction = validation_split;
  options.patience = patience;
  options.seed = seed;
  const auto cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  options.threads = threads > 0 ? threads : cores;
  options.checkpoint = checkpoint_path();
  options.checkpoint_seconds = checkpoint_seconds;
  return options;
}

std::string TrainFlags::curve_path(const char* extension) const {
  std::filesystem::path path(curve);
  if (path.extension() == ".svg" || path.extension() == ".csv") path.replace_extension();
  return path.string() + extension;
}

std::vector<std::string> TrainFlags::outs() const {
  std::vector<std::string> paths{out, checkpoint_path()};
  if (!curve.empty()) paths.insert(paths.end(), {curve_path(".svg"), curve_path(".csv")});
  return paths;
}

void add_train_options(CLI::App& app, TrainFlags& flags) {
  app.add_option("OUT", flags.out, "Where the trained model goes")->required();
  add_data_options(app, flags.data);
  app.add_option("--epochs", flags.epochs, "Times that every sample is seen (10)")
      ->type_name("N")
      ->check(whole_in_range(1, 1'000'000));
  app.add_option("--batch", flags.batch, "Samples a step (64)")
      ->type_name("N")
      ->check(whole_in_range(1, 65'536));
  app.add_option("--patience", flags.patience,
                 "Stop after N epochs without a better one; 0 = train them all (the default)")
      ->type_name("N")
      ->check(whole_in_range(0, 1'000'000));
  add_data_flags(app, flags);
  add_optimizer_flags(app, flags);
  add_model_flags(app, flags);
  add_run_flags(app, flags);
  add_json_option(app);
}

void take_low_priority() {
  // Three kernels' ways; what one refuses the others may grant.
  std::ofstream("/proc/self/autogroup") << "19";
  static_cast<void>(::setpriority(PRIO_PROCESS, 0, 19));
  const sched_param none{};
  static_cast<void>(::sched_setscheduler(0, SCHED_IDLE, &none));
}

}  // namespace selvage::cli
