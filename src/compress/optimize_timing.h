// Two models timed in turns on the same inputs. Internal to src/compress.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "compress/pareto.h"
#include "infer/model.h"

namespace selvage::compress {

/// A model with its inputs bound, which has run once on each. Confined to one thread.
class TimedModel {
 public:
  /// `resident_before`: as resident_bytes_trimmed() before the model was loaded.
  [[nodiscard]] static Result<std::unique_ptr<TimedModel>> create(
      std::unique_ptr<infer::Model> model, std::vector<std::vector<Tensor>> inputs,
      std::uint64_t resident_before);
  [[nodiscard]] std::uint64_t resident_bytes() const { return resident_bytes_; }
  /// One run on each of the inputs.
  [[nodiscard]] Result<void> run();
  /// The same, each run's time recorded.
  [[nodiscard]] Result<void> run(Histogram& latency);

 private:
  TimedModel() = default;
  std::unique_ptr<infer::Model> model_;
  std::vector<std::vector<Tensor>> inputs_;
  std::vector<std::unique_ptr<infer::Binding>> bindings_;
  std::uint64_t resident_bytes_ = 0;
};

/// The process's own memory, after what is free has been given back. 0 where the system does not
/// tell.
[[nodiscard]] std::uint64_t resident_bytes_trimmed();

/// kCancelled when `keep_going` says so.
[[nodiscard]] Result<LatencyFigures> time_in_turns(TimedModel& candidate, TimedModel& original,
                                                   double seconds,
                                                   const std::function<bool()>& keep_going);

}  // namespace selvage::compress
