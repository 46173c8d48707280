#include "cli/progress.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <ostream>

#include "base/utf8.h"

namespace selvage::cli {
namespace {

using std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(1);
constexpr auto kInterval = std::chrono::milliseconds(200);
constexpr std::string_view kClearLine = "\r\033[K";

}  // namespace

Progress::Progress(Output& output, std::string_view what, std::uint64_t total)
    : output_(output), what_(printable(what)), total_(total) {
  if (output.progress())
    thread_ = std::jthread([this](const std::stop_token& stop) { draw_until(stop); });
}

Progress::~Progress() = default;

void Progress::draw_until(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  const auto start = steady_clock::now();
  const auto stopped = [&] { return stop.stop_requested(); };
  if (changed.wait_for(lock, stop, kPatience, stopped)) return;
  auto& error = output_.error_stream();
  do {
    error << kClearLine << line(steady_clock::now() - start) << std::flush;
  } while (!changed.wait_for(lock, stop, kInterval, stopped));
  error << kClearLine << std::flush;
}

void Progress::set_status(std::string status) {
  const std::scoped_lock lock(status_mutex_);
  status_ = std::move(status);
}

std::string Progress::line(steady_clock::duration elapsed) {
  const auto seconds = std::chrono::duration<double>(elapsed).count();
  if (total_ == 0) return what_ + "  " + fixed(seconds, 0) + " s";
  constexpr std::size_t kWidth = 24;
  const double part = std::min(1.0, static_cast<double>(done_.load(std::memory_order_relaxed)) /
                                        static_cast<double>(total_));
  const auto filled = static_cast<std::size_t>(part * kWidth);
  std::string bar = what_ + "  [" + std::string(filled, '#') + std::string(kWidth - filled, '.') +
                    "] " + fixed(part * 100, 0) + " %";
  if (part > 0.02) bar += ", " + fixed(seconds / part - seconds, 0) + " s left";
  const std::scoped_lock lock(status_mutex_);
  return status_.empty() ? bar : bar + ", " + status_;
}

}  // namespace selvage::cli
