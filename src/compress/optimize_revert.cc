#include "compress/optimize_revert.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace selvage::compress {
namespace {

class Reverter {
 public:
  explicit Reverter(const RevertOptions& options) : options_(options) {
    outcome_.quality = options.quality;
  }

  Result<RevertOutcome> run() {
    std::vector<std::size_t> groups(options_.groups);
    std::iota(groups.begin(), groups.end(), std::size_t{0});
    SELVAGE_TRY(auto ranked, rank(groups));
    // Each step back removes one group for good, and each step forward another: this ends.
    bool is_tolerant = true;
    while (!ranked.empty() && outcome_.quality < options_.quality_wanted && options_.keep_going()) {
      const auto worst = ranked.front();
      ranked.erase(ranked.begin());
      outcome_.reverted.push_back(worst);
      SELVAGE_TRY(const auto quality, options_.quality_of(outcome_.reverted));
      ++outcome_.evaluations;
      if (quality >= outcome_.quality || is_tolerant) {
        outcome_.quality = quality;
        is_tolerant = false;
        continue;
      }
      outcome_.reverted.pop_back();
      is_tolerant = true;
      SELVAGE_TRY(ranked, rank(ranked));
    }
    return std::move(outcome_);
  }

 private:
  /// By the error that is left when a group is reverted on top of those that are.
  Result<std::vector<std::size_t>> rank(const std::vector<std::size_t>& groups) {
    std::vector<std::pair<double, std::size_t>> errors;
    for (const auto group : groups) {
      if (!options_.keep_going()) return std::vector<std::size_t>();
      auto reverted = outcome_.reverted;
      reverted.push_back(group);
      const auto error = options_.error_of(reverted);
      if (!error && error.error().code == ErrorCode::kCancelled)
        return std::unexpected(error.error());
      errors.emplace_back(error ? *error : std::numeric_limits<double>::infinity(), group);
    }
    if (groups.size() == options_.groups)
      for (const auto& [error, group] : errors) outcome_.errors.push_back(error);
    std::ranges::stable_sort(errors, {}, &std::pair<double, std::size_t>::first);
    std::vector<std::size_t> ranked;
    for (const auto& [error, group] : errors) ranked.push_back(group);
    return ranked;
  }

  const RevertOptions& options_;
  RevertOutcome outcome_;
};

}  // namespace

Result<RevertOutcome> revert_until_good(const RevertOptions& options) {
  return Reverter(options).run();
}

}  // namespace selvage::compress
