// Where a training run stands, as a file: written whole or not at all, checked when read.
//
// Format, little-endian: "SELVCKPT", version (4 bytes), length of what follows but the digest
// (8 bytes), content, SHA-256 of everything before it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "learn/training_graph.h"

namespace selvage::learn {

/// What one epoch came to.
struct EpochRecord {
  std::uint64_t epoch = 0;   ///< From 1.
  double learning_rate = 0;  ///< At its end.
  double train_loss = 0;
  std::optional<double> train_accuracy;
  std::optional<double> validation_loss;
  std::optional<double> validation_accuracy;
  double seconds = 0;
  double samples_per_second = 0;
};

struct Checkpoint {
  /// What the run was started with, a setting a line: a run with other settings cannot go on here.
  std::string settings;
  std::uint64_t epoch = 0;  ///< Finished.
  std::uint64_t step = 0;   ///< Finished in the epoch after.
  double loss_sum = 0;      ///< Of those steps, by samples.
  std::uint64_t correct = 0;
  double seconds = 0;  ///< That they took.
  std::vector<EpochRecord> history;
  std::uint64_t best_epoch = 0;  ///< 0 = none yet.
  double best_score = 0;
  std::int32_t reductions = 0;  ///< Of the learning rate, on plateaus.
  std::uint64_t epochs_since_best = 0;
  std::uint64_t epochs_on_plateau = 0;
  bool finished = false;
  std::vector<std::byte> state;   ///< TrainingSession::save().
  std::vector<NamedTensor> best;  ///< Parameters of the best epoch.
};

inline constexpr std::uint64_t kCheckpointBytesMax = std::uint64_t{16} << 30;

[[nodiscard]] std::vector<std::byte> serialise(const Checkpoint& checkpoint);
/// kDataLoss for bytes that serialise() did not write, or not of this version.
[[nodiscard]] Result<Checkpoint> parse_checkpoint(std::span<const std::byte> bytes);

/// As write_atomically(): after a crash the old checkpoint is there or the new one.
[[nodiscard]] Result<void> save_checkpoint(const Checkpoint& checkpoint,
                                           const std::filesystem::path& path);
/// Nothing if there is no such file. Errors name the file.
[[nodiscard]] Result<std::optional<Checkpoint>> load_checkpoint(const std::filesystem::path& path);

/// The first setting in which two lists differ, as "batch was 64, now is 32"; empty if none.
[[nodiscard]] std::string first_difference(std::string_view before, std::string_view now);

}  // namespace selvage::learn
