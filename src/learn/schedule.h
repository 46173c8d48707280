// How the learning rate changes while training goes on.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace selvage::learn {

enum class ScheduleKind : std::uint8_t {
  kConstant,
  kStep,     ///< A tenth after half of the steps, a hundredth after three quarters.
  kCosine,   ///< Half a cosine from the full rate to zero (Loshchilov and Hutter 2016).
  kPlateau,  ///< Halved whenever `patience` epochs in a row did not improve on the best.
};
[[nodiscard]] std::optional<ScheduleKind> parse_schedule(std::string_view word);
[[nodiscard]] std::string_view to_string(ScheduleKind kind);

struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::kCosine;
  double warmup_epochs = 0;  ///< The rate first rises linearly from 0.
  int patience = 3;          ///< Of kPlateau.
};

/// The rate at step `step` of `steps`, as a part of the full one. `reductions`: how often kPlateau
/// has halved it.
[[nodiscard]] double schedule_factor(const ScheduleOptions& options, std::uint64_t step,
                                     std::uint64_t steps, std::uint64_t steps_per_epoch,
                                     int reductions);

}  // namespace selvage::learn
