// Loss and accuracy over epochs, as a picture (SVG) and as a table.
#pragma once

#include <span>
#include <string>

#include "learn/checkpoint.h"

namespace selvage::cli {

[[nodiscard]] std::string plot_training(const std::string& title,
                                        std::span<const learn::EpochRecord> history);
/// "epoch,learning_rate,train_loss,..."; empty cells where there is nothing.
[[nodiscard]] std::string training_csv(std::span<const learn::EpochRecord> history);

}  // namespace selvage::cli
