#include "learn/schedule.h"

#include <array>
#include <cmath>
#include <numbers>
#include <utility>

namespace selvage::learn {
namespace {

constexpr std::array<std::pair<std::string_view, ScheduleKind>, 4> kWords{
    {{"constant", ScheduleKind::kConstant},
     {"step", ScheduleKind::kStep},
     {"cosine", ScheduleKind::kCosine},
     {"plateau", ScheduleKind::kPlateau}}};

}  // namespace

std::optional<ScheduleKind> parse_schedule(std::string_view word) {
  for (const auto& [name, kind] : kWords)
    if (name == word) return kind;
  return std::nullopt;
}

std::string_view to_string(ScheduleKind kind) {
  for (const auto& [name, value] : kWords)
    if (value == kind) return name;
  return "";
}

double schedule_factor(const ScheduleOptions& options, std::uint64_t step, std::uint64_t steps,
                       std::uint64_t steps_per_epoch, int reductions) {
  const double warmup = options.warmup_epochs * static_cast<double>(steps_per_epoch);
  const auto now = static_cast<double>(step);
  if (now < warmup) return (now + 1) / (warmup + 1);
  const double part = (now - warmup) / std::max(1.0, static_cast<double>(steps) - warmup);
  switch (options.kind) {
    case ScheduleKind::kConstant: return 1;
    case ScheduleKind::kStep: return part < 0.5 ? 1 : part < 0.75 ? 0.1 : 0.01;
    case ScheduleKind::kCosine: return 0.5 * (1 + std::cos(std::numbers::pi * part));
    case ScheduleKind::kPlateau: return std::ldexp(1.0, -reductions);
  }
  return 1;
}

}  // namespace selvage::learn
