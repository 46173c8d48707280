// How many threads a model should have on this machine: measured once, remembered in the cache.
// Internal to src/infer; users say `threads: 0` in SessionOptions.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "infer/session.h"

namespace selvage::infer {

/// Loads the model with 1, 2, 4, ... threads up to the number of cores, runs it for at
/// most kTuneTime each, and returns the smallest count that no larger one beats by kTuneGain at the
/// median. 1 without a cache folder, and, not remembered, for a model that cannot run on zeros of
/// its usual shapes. Errors are those of loading the model.
[[nodiscard]] Result<int> tuned_threads(
    std::span<const std::byte> model, const SessionOptions& options,
    const std::function<Result<std::unique_ptr<Session>>(int threads)>& load);

}  // namespace selvage::infer
