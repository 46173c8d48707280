#include "infer/tune.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

#include "base/log.h"
#include "infer/cache.h"
#include "infer/session_options.h"

namespace selvage::infer {
namespace {

using std::chrono::steady_clock;

constexpr auto kTuneTime = std::chrono::milliseconds(120);
constexpr int kWarmUpRuns = 3;
constexpr int kRunsMax = 50;
/// A core given to one model is a core taken from the others: a thread has to earn it.
constexpr double kTuneGain = 0.8;

int cores() {
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 256u));
}

crypto::Digest tuning_key(std::span<const std::byte> model, const SessionOptions& options) {
  crypto::Sha256 hash;
  hash.update("threads ");
  hash.update(cache_key(crypto::sha256(model), options).hex());
  hash.update(" side " + std::to_string(options.usual_side));
  hash.update(" cores " + std::to_string(cores()));
  hash.update(" spin " + std::to_string(options.spin_us.value_or(0)));
  for (const auto& provider : options.providers) hash.update(" on " + provider);
  return hash.finish();
}

std::optional<int> remembered(const ModelCache& cache, const crypto::Digest& key) {
  const auto entry = cache.find(key);
  if (!entry) return std::nullopt;
  const std::string text(reinterpret_cast<const char*>(entry->payload.data()),
                         entry->payload.size());
  int threads = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (parsed.ec != std::errc() || threads < 1 || threads > cores()) return std::nullopt;
  return threads;
}

/// What the model usually takes: one item, and open sides as the options say. Nothing when they do
/// not say and the model has open sides.
std::optional<std::vector<Shape>> usual_shapes(const Session& session, std::int64_t usual_side) {
  std::vector<Shape> shapes;
  for (const auto& input : session.inputs()) {
    auto shape = input.shape;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] >= 0) continue;
      if (i > 0 && usual_side == 0) return std::nullopt;
      shape[i] = i == 0 ? 1 : usual_side;
    }
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

/// The median time of a run on zeros, or nothing when the model cannot run on them.
std::optional<steady_clock::duration> median_run(const Session& session, std::int64_t usual_side) {
  const auto shapes = usual_shapes(session, usual_side);
  if (!shapes) return std::nullopt;
  const auto binding = Binding::create(session, *shapes);
  if (!binding) return std::nullopt;
  for (int i = 0; i < kWarmUpRuns; ++i)
    if (!(*binding)->run()) return std::nullopt;
  std::vector<steady_clock::duration> times;
  const auto end = steady_clock::now() + kTuneTime;
  while (times.size() < kRunsMax && (times.empty() || steady_clock::now() < end)) {
    const auto start = steady_clock::now();
    if (!(*binding)->run()) return std::nullopt;
    times.push_back(steady_clock::now() - start);
  }
  std::ranges::nth_element(times, times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2));
  return times[times.size() / 2];
}

}  // namespace

Result<int> tuned_threads(
    std::span<const std::byte> model, const SessionOptions& options,
    const std::function<Result<std::unique_ptr<Session>>(int threads)>& load) {
  if (options.cache_folder.empty()) return 1;
  const ModelCache cache(options.cache_folder);
  const auto key = tuning_key(model, options);
  if (const auto threads = remembered(cache, key)) return *threads;

  int best = 1;  // Remembered as well where nothing can be measured: loading twice is dear.
  std::optional<steady_clock::duration> best_time;
  for (int threads = 1; threads <= cores(); threads *= 2) {
    SELVAGE_TRY(const auto session, load(threads));
    const auto time = median_run(*session, options.usual_side);
    if (!time) break;
    const auto seconds = std::chrono::duration<double>(*time).count();
    if (!best_time || seconds < kTuneGain * std::chrono::duration<double>(*best_time).count()) {
      best = threads;
      best_time = time;
    }
  }
  const auto text = std::to_string(best);
  if (const auto stored = cache.store(key, std::as_bytes(std::span(text))); !stored)
    log::warning_once("the measured thread count is not remembered",
                      {{"reason", stored.error().message}});
  return best;
}

}  // namespace selvage::infer
