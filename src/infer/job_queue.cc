#include "infer/job_queue.h"

#include <algorithm>
#include <utility>

namespace selvage::infer {
namespace {

[[nodiscard]] bool is_preferred(const std::vector<std::int32_t>& sizes, std::int64_t rows) {
  return std::ranges::binary_search(
      sizes, rows, {}, [](std::int32_t size) { return static_cast<std::int64_t>(size); });
}

}  // namespace

PriorityQueue::PriorityQueue(Options options, Compatible compatible)
    : options_(std::move(options)),
      compatible_(std::move(compatible)),
      levels_(std::max<std::uint64_t>(options_.levels, 1)) {
  for (std::size_t i = 0; i < levels_.size(); ++i) {
    const auto own = options_.level_policies.find(i + 1);
    levels_[i].policy = own == options_.level_policies.end() ? options_.policy : own->second;
  }
}

PriorityQueue::Level& PriorityQueue::level_of(const Job& job) {
  const bool stated = job.priority >= 1 && job.priority <= levels_.size();
  const auto level = stated ? job.priority : std::max<std::uint64_t>(options_.default_level, 1);
  return levels_[level - 1];
}

SteadyTime PriorityQueue::deadline_of(const Job& job, const Level& level) {
  auto timeout = job.timeout.value_or(std::chrono::microseconds(0));
  if (level.policy) {
    const auto standard = level.policy->default_timeout;
    const bool shorter = timeout.count() > 0 && (standard.count() == 0 || timeout < standard);
    if (!level.policy->allow_timeout_override || !shorter) timeout = standard;
  }
  return deadline_after(job.submitted, timeout);
}

Result<void> PriorityQueue::push(std::shared_ptr<Job> job) {
  auto& level = level_of(*job);
  const auto own = level.policy ? level.policy->max_queue_size : 0;
  const bool full =
      own > 0 ? level.waiting.size() + level.delayed.size() >= own : size_ >= options_.jobs_max;
  if (full)
    return fail(ErrorCode::kUnavailable,
                "the queue is full: " + std::to_string(own > 0 ? own : options_.jobs_max) +
                    " requests wait already; try again later");
  job->deadline = deadline_of(*job, level);
  next_deadline_ = std::min(next_deadline_, job->deadline);
  rows_ += job->rows;
  ++size_;
  level.waiting.push_back(std::move(job));
  return {};
}

std::size_t PriorityQueue::choose(std::int64_t rows_max, std::int64_t& rows) {
  chosen_.clear();
  rows = 0;
  std::size_t looked_at = 0, cut = 0;
  const auto full = [&] { return rows >= rows_max || looked_at >= kScanMax; };
  for (const auto& level : levels_) {
    for (const auto* list : {&level.waiting, &level.delayed}) {
      for (auto* job = list->first(); job != nullptr; job = JobList::next(*job)) {
        ++looked_at;
        if (chosen_.empty()) {
          chosen_.push_back(job);
          rows = job->rows;
          if (job->alone) return 0;
        } else if (!job->alone && rows + job->rows <= rows_max &&
                   compatible_(*chosen_.front(), *job)) {
          chosen_.push_back(job);
          rows += job->rows;
        } else {
          if (full()) return cut;
          continue;
        }
        if (is_preferred(options_.limits.preferred, rows)) cut = chosen_.size();
        if (full()) return cut;
      }
    }
  }
  return cut;
}

std::optional<SteadyTime> PriorityQueue::take(SteadyTime now, const Load& load, Batch& batch) {
  if (size_ == 0) return std::nullopt;
  const auto& limits = options_.limits;
  std::int64_t rows = 0;
  const auto cut = choose(
      limits.shared() ? std::min(limits.rows_max, load.fair_share(rows_)) : limits.rows_max, rows);
  if (cut > 0 && rows < limits.rows_max) {
    chosen_.resize(cut);
  } else if (limits.delay.count() > 0 && rows < limits.rows_max && !chosen_.front()->alone) {
    const auto oldest = std::ranges::min(chosen_, {}, &Job::submitted)->submitted;
    if (now < oldest + limits.delay) return oldest + limits.delay;
  }
  for (auto* job : chosen_) {
    batch.rows += job->rows;
    batch.jobs.push_back(leave(*job));
  }
  return std::nullopt;
}

std::shared_ptr<Job> PriorityQueue::leave(Job& job) {
  if (--size_ == 0) next_deadline_ = SteadyTime::max();
  rows_ -= job.rows;
  return JobList::remove(job);
}

std::shared_ptr<Job> PriorityQueue::remove(Job& job) {
  return leave(job);
}

SteadyTime PriorityQueue::expire(SteadyTime now, Jobs& expired) {
  using Action = QueuePolicy::TimeoutAction;
  next_deadline_ = SteadyTime::max();
  for (auto& level : levels_) {
    const bool delay = level.policy && level.policy->timeout_action == Action::kDelay;
    for (auto* job = level.waiting.first(); job != nullptr;) {
      auto* next = JobList::next(*job);
      if (job->deadline > now) {
        next_deadline_ = std::min(next_deadline_, job->deadline);
      } else if (delay) {
        level.delayed.push_back(JobList::remove(*job));
      } else {
        expired.push_back(leave(*job));
      }
      job = next;
    }
  }
  return next_deadline_;
}

void PriorityQueue::take_all(Jobs& jobs) {
  for (auto& level : levels_)
    for (auto* list : {&level.waiting, &level.delayed})
      while (!list->empty()) jobs.push_back(leave(*list->first()));
  next_deadline_ = SteadyTime::max();
}

SteadyTime deadline_after(SteadyTime from, std::chrono::microseconds timeout) {
  constexpr std::chrono::microseconds kTimeoutMax = std::chrono::hours(24 * 365);
  return timeout.count() > 0 && timeout <= kTimeoutMax ? from + timeout : SteadyTime::max();
}

std::size_t preferred_cut(const std::vector<std::int32_t>& preferred, std::size_t rows) {
  const auto above = std::ranges::upper_bound(
      preferred, rows, {}, [](std::int32_t size) { return static_cast<std::size_t>(size); });
  return above == preferred.begin() ? 0 : static_cast<std::size_t>(*std::prev(above));
}

}  // namespace selvage::infer
