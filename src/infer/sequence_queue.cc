#include "infer/sequence_queue.h"

#include <algorithm>

namespace selvage::infer {
namespace {

std::string to_string(const SequenceId& id) {
  if (const auto* number = std::get_if<std::uint64_t>(&id)) return std::to_string(*number);
  if (const auto* text = std::get_if<std::string>(&id)) return "'" + *text + "'";
  return "none";
}

bool is_none(const SequenceId& id) {
  if (const auto* number = std::get_if<std::uint64_t>(&id)) return *number == 0;
  if (const auto* text = std::get_if<std::string>(&id)) return text->empty();
  return true;
}

void erase(std::deque<SequenceSlot*>& slots, SequenceSlot* slot) {
  slots.erase(std::remove(slots.begin(), slots.end(), slot), slots.end());
}

}  // namespace

SequenceQueue::SequenceQueue(Options options, Compatible compatible)
    : options_(std::move(options)), compatible_(std::move(compatible)) {}

Result<void> SequenceQueue::push(std::shared_ptr<Job> job) {
  if (is_none(job->sequence_id))
    return fail(ErrorCode::kInvalidArgument,
                "the model keeps state: requests need a sequence_id other than 0");
  if (size_ >= options_.jobs_max)
    return fail(ErrorCode::kUnavailable, "the queue is full: " + std::to_string(options_.jobs_max) +
                                             " requests wait already; try again later");
  auto found = slots_.find(job->sequence_id);
  const bool known = found != slots_.end() && !found->second->ending_;
  if (!known && !job->sequence_flags.start)
    return fail(ErrorCode::kInvalidArgument,
                "sequence " + to_string(job->sequence_id) +
                    " is not known (it has ended, or was idle too long): its first request must "
                    "have sequence_start");
  if (found == slots_.end()) {
    auto slot = std::make_unique<SequenceSlot>();
    slot->id = job->sequence_id;
    backlog_.push_back(slot.get());
    found = slots_.emplace(job->sequence_id, std::move(slot)).first;
  }
  auto& slot = *found->second;
  const bool was_idle = slot.active_ && !slot.running_ && slot.pending_.empty();
  if (was_idle) idle_.erase({slot.idle_since_, &slot});
  job->deadline =
      deadline_after(job->submitted, job->timeout.value_or(std::chrono::microseconds(0)));
  next_deadline_ = std::min(next_deadline_, job->deadline);
  job->sequence = &slot;
  slot.ending_ = job->sequence_flags.end;
  slot.pending_.push_back(std::move(job));
  ++size_;
  if (was_idle) make_ready(slot);
  fill_candidates();
  return {};
}

std::optional<SteadyTime> SequenceQueue::take(SteadyTime now, const Load& load, Batch& batch) {
  if (ready_.empty()) return std::nullopt;
  auto limit = std::max<std::int64_t>(options_.limits.rows_max, 1);
  if (options_.limits.shared())
    limit = std::min(limit, load.fair_share(static_cast<std::int64_t>(ready_.size())));
  const auto rows_max = static_cast<std::size_t>(limit);
  std::vector<SequenceSlot*> chosen;
  for (auto* slot : ready_) {
    if (chosen.size() == rows_max) break;
    if (chosen.empty() || compatible_(*chosen.front()->pending_.first(), *slot->pending_.first()))
      chosen.push_back(slot);
  }
  const auto cut = preferred_cut(options_.limits.preferred, chosen.size());
  if (cut > 0 && chosen.size() < rows_max) {
    chosen.resize(cut);
  } else if (options_.limits.delay.count() > 0 && chosen.size() < rows_max &&
             (options_.slots_wanted == 0 || chosen.size() < options_.slots_wanted)) {
    const auto until = chosen.front()->pending_.first()->submitted + options_.limits.delay;
    if (now < until) return until;
  }
  for (auto* slot : chosen) {
    erase(ready_, slot);
    slot->running_ = true;
    batch.rows += slot->pending_.first()->rows;
    batch.jobs.push_back(JobList::remove(*slot->pending_.first()));
  }
  size_ -= chosen.size();
  if (size_ == 0) next_deadline_ = SteadyTime::max();
  return std::nullopt;
}

std::shared_ptr<Job> SequenceQueue::remove(Job& job) {
  auto& slot = *job.sequence;
  auto removed = JobList::remove(job);
  --size_;
  if (job.sequence_flags.end) slot.ending_ = false;
  job.sequence = nullptr;
  if (slot.running_ || (!slot.active_ && !slot.pending_.empty())) return removed;
  if (!slot.active_) {
    forget(slot);
    return removed;
  }
  erase(ready_, &slot);
  if (slot.pending_.empty())
    make_idle(slot, job.submitted);
  else
    make_ready(slot);  // Its next job has another place in the order of arrival.
  return removed;
}

void SequenceQueue::ended(Job& job, SteadyTime now) {
  auto& slot = *job.sequence;
  job.sequence = nullptr;
  slot.running_ = false;
  if (!slot.pending_.empty())
    make_ready(slot);
  else if (slot.ending_)
    forget(slot);
  else
    make_idle(slot, now);
  fill_candidates();
}

SteadyTime SequenceQueue::expire(SteadyTime now, Jobs& expired) {
  if (now >= next_deadline_) {
    next_deadline_ = SteadyTime::max();
    std::vector<Job*> late;
    for (const auto& [id, slot] : slots_)
      for (auto* job = slot->pending_.first(); job != nullptr; job = JobList::next(*job)) {
        if (job->deadline <= now)
          late.push_back(job);
        else
          next_deadline_ = std::min(next_deadline_, job->deadline);
      }
    for (auto* job : late) expired.push_back(remove(*job));
  }
  while (!idle_.empty() && idle_.begin()->first + options_.max_idle <= now)
    forget(*idle_.begin()->second);
  fill_candidates();
  return next_expiry();
}

SteadyTime SequenceQueue::next_expiry() const {
  if (idle_.empty()) return next_deadline_;
  return std::min(next_deadline_, idle_.begin()->first + options_.max_idle);
}

void SequenceQueue::take_all(Jobs& jobs) {
  for (const auto& [id, slot] : slots_)
    while (!slot->pending_.empty()) {
      slot->pending_.first()->sequence = nullptr;
      jobs.push_back(JobList::remove(*slot->pending_.first()));
    }
  ready_.clear();
  size_ = 0;
  next_deadline_ = SteadyTime::max();
}

void SequenceQueue::make_idle(SequenceSlot& slot, SteadyTime now) {
  slot.idle_since_ = now;
  idle_.emplace(now, &slot);
}

void SequenceQueue::make_ready(SequenceSlot& slot) {
  // By the arrival of their next jobs, so that no sequence starves.
  const auto place = std::ranges::upper_bound(
      ready_, slot.pending_.first()->ticket, {},
      [](const SequenceSlot* other) { return other->pending_.first()->ticket; });
  ready_.insert(place, &slot);
}

void SequenceQueue::forget(SequenceSlot& slot) {
  if (slot.active_) {
    --active_;
    idle_.erase({slot.idle_since_, &slot});
  } else {
    erase(backlog_, &slot);
  }
  // The key lies inside of the slot that is erased.
  const auto id = slot.id;
  slots_.erase(id);
}

void SequenceQueue::fill_candidates() {
  while (active_ < options_.candidates && !backlog_.empty()) {
    auto* slot = backlog_.front();
    backlog_.pop_front();
    slot->active_ = true;
    ++active_;
    make_ready(*slot);
  }
}

}  // namespace selvage::infer
