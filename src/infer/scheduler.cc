#include "infer/scheduler.h"

#include <algorithm>

#include "infer/session.h"

namespace selvage::infer {
namespace {

// When this thread will have had the time for itself that is due to it for what it has computed.
SteadyTime& free_from() {
  thread_local SteadyTime time = SteadyTime::min();
  return time;
}

}  // namespace

bool Batch::begin_run(Binding& binding) {
  const std::scoped_lock lock(mutex_);
  if (cancelled_) return false;
  running_ = &binding;
  return true;
}

bool Batch::end_run() {
  const std::scoped_lock lock(mutex_);
  running_ = nullptr;
  return cancelled_;
}

void Batch::cancel_one() {
  {
    const std::scoped_lock lock(mutex_);
    if (++cancelled_jobs_ < jobs.size()) return;
  }
  cancel_all();
}

void Batch::cancel_all() {
  const std::scoped_lock lock(mutex_);
  if (std::exchange(cancelled_, true)) return;
  if (running_ != nullptr) running_->cancel();
}

void OrderedAnswers::deliver(std::uint64_t ticket, Deliver deliver) {
  std::unique_lock lock(mutex_);
  const auto place = static_cast<std::size_t>(ticket - first_);
  if (waiting_.size() <= place) waiting_.resize(place + 1);
  waiting_[place] = std::move(deliver);
  if (delivering_) return;  // Whoever delivers now will come to it.
  delivering_ = true;
  while (!waiting_.empty() && waiting_.front()) {
    auto next = std::move(waiting_.front());
    waiting_.pop_front();
    ++first_;
    lock.unlock();
    next();
    lock.lock();
  }
  delivering_ = false;
}

void Job::cancel() {
  scheduler->cancel(*this);
}

Scheduler::Scheduler(Options options, std::unique_ptr<JobQueue> queue,
                     std::unique_ptr<Runner> runner, WorkerPool& pool, const Clock& clock)
    : options_(options),
      queue_(std::move(queue)),
      runner_(std::move(runner)),
      pool_(pool),
      clock_(clock),
      ordered_(options.preserve_ordering ? std::make_unique<OrderedAnswers>() : nullptr) {}

bool Scheduler::claim_worker() {
  // One that was called takes as much as fits into a batch, so a second is called only for a
  // second job: at worst it finds nothing.
  if (closed_ || !queue_->runnable() || called_ >= queue_->size() ||
      called_ + running_.size() >= options_.instances)
    return false;
  ++called_;
  return true;
}

bool Scheduler::claim_caller(const Job& job) {
  // Alone in every respect: whoever came before must not wait for longer because of this one.
  if (!job.here || run_time_ >= kQuickRun || job.submitted + kCallerBurst < free_from() ||
      queue_->size() != 1 || called_ > 0 || running_.size() >= options_.instances)
    return false;
  ++called_;
  return true;
}

void Scheduler::work_here(SteadyTime began) {
  if (work()) pool_.post(shared_from_this());
  const auto now = clock_.steady_now();
  free_from() = std::max(free_from(), began) + (now - began) * 3 / 2;
}

void Scheduler::note_run(std::chrono::nanoseconds took) {
  constexpr int kWeight = 8;
  run_time_ += (std::min<std::chrono::nanoseconds>(took, 2 * kQuickRun) - run_time_) / kWeight;
}

std::optional<SteadyTime> Scheduler::claim_alarm(SteadyTime time) {
  if (closed_ || time >= alarm_) return std::nullopt;
  // Alarms stay until they ring: far ones, each before the last, would only ever become more.
  alarm_ = std::min(time, clock_.steady_now() + kAlarmMax);
  return alarm_;
}

void Scheduler::expire(SteadyTime now, Jobs& expired) {
  if (now < queue_->next_expiry()) return;
  queue_->expire(now, expired);
  for (const auto& job : expired) job->state = Job::State::kAnswered;
}

void Scheduler::submit(const std::shared_ptr<Job>& job) {
  job->submitted = clock_.steady_now();
  Jobs expired;
  Result<void> pushed;
  bool here = false;
  bool call = false;
  bool company = false;
  std::optional<SteadyTime> alarm;
  {
    const std::scoped_lock lock(mutex_);
    job->ticket = tickets_++;
    expire(job->submitted, expired);  // Makes room.
    if (closed_)
      pushed = selvage::fail(ErrorCode::kUnavailable, "the model is being taken away; try again");
    else
      pushed = queue_->push(job);
    job->state = pushed ? Job::State::kQueued : Job::State::kAnswered;
    here = pushed && claim_caller(*job);
    call = !here && claim_worker();
    company = queue_->size() >= awaited_;
    alarm = claim_alarm(queue_->next_expiry());
  }
  if (call) pool_.post(shared_from_this());
  if (company) company_.notify_all();
  if (alarm) pool_.wake_at(*alarm, weak_from_this());
  fail_expired(expired);
  if (!pushed) fail(*job, std::move(pushed).error());
  if (here) work_here(job->submitted);
}

void Scheduler::cancel(Job& job) {
  std::shared_ptr<Job> queued;
  {
    const std::scoped_lock lock(mutex_);
    if (job.cancelled.exchange(true)) return;
    if (job.state == Job::State::kRunning) job.batch->cancel_one();
    if (job.state != Job::State::kQueued) return;
    job.state = Job::State::kAnswered;
    queued = queue_->remove(job);
  }
  fail(job, {ErrorCode::kCancelled, "the request was cancelled"});
}

void Scheduler::close() {
  Jobs queued;
  {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    queue_->take_all(queued);
    for (const auto& job : queued) job->state = Job::State::kAnswered;
    for (auto* batch : running_) batch->cancel_all();
  }
  company_.notify_all();
  for (const auto& job : queued) fail(*job, {ErrorCode::kUnavailable, "the server is stopping"});
}

std::size_t Scheduler::pending() const {
  const std::scoped_lock lock(mutex_);
  return queue_->size();
}

void Scheduler::fail(Job& job, Error error) {
  statistics_.record_failure(error.code, clock_.steady_now() - job.submitted);
  if (!ordered_) return job.fail(std::move(error));
  // It may have to wait for its turn: something must own it.
  ordered_->deliver(job.ticket,
                    [owner = job.shared_from_this(), error = std::move(error)]() mutable {
                      owner->fail(std::move(error));
                    });
}

void Scheduler::fail_expired(const Jobs& expired) {
  for (const auto& job : expired)
    fail(*job, {ErrorCode::kDeadlineExceeded, "the request waited longer than its timeout"});
}

bool Scheduler::work() {
  Batch batch;
  Jobs expired;
  bool call = false;
  std::optional<SteadyTime> alarm;
  {
    const std::scoped_lock lock(mutex_);
    --called_;
    batch.taken = clock_.steady_now();
    expire(batch.taken, expired);
    auto wait_until = SteadyTime::max();
    Load load{.instances = options_.instances};
    for (const auto* other : running_) load.running_rows += other->rows;
    if (!closed_) wait_until = queue_->take(batch.taken, load, batch).value_or(wait_until);
    for (const auto& job : batch.jobs) {
      job->state = Job::State::kRunning;
      job->batch = &batch;
    }
    if (!batch.jobs.empty()) {
      running_.push_back(&batch);
      call = claim_worker();
    }
    alarm = claim_alarm(std::min(wait_until, queue_->next_expiry()));
  }
  if (call) pool_.post(shared_from_this());
  if (alarm) pool_.wake_at(*alarm, weak_from_this());
  fail_expired(expired);
  if (batch.jobs.empty()) return false;
  runner_->run(*this, batch);
  return end(batch);
}

void Scheduler::await_company(std::size_t jobs, std::chrono::nanoseconds ran) {
  const auto wait = std::min<std::chrono::nanoseconds>(ran / kCompanyWaitPart, kCompanyWaitMax);
  if (jobs < 2 || wait < kCompanyWaitMin) return;
  std::unique_lock lock(mutex_);
  if (awaited_ != SIZE_MAX) return;  // One worker waits; the others take what there is.
  awaited_ = jobs;
  company_.wait_for(lock, wait, [&] { return closed_ || queue_->size() >= jobs; });
  awaited_ = SIZE_MAX;
}

bool Scheduler::end(Batch& batch) {
  const auto now = clock_.steady_now();
  await_company(batch.jobs.size(), now - batch.taken);
  std::optional<SteadyTime> alarm;
  bool again = false;
  {
    const std::scoped_lock lock(mutex_);
    std::erase(running_, &batch);
    if (batch.jobs.size() == 1 && batch.ran) note_run(*batch.ran - batch.taken);
    for (const auto& job : batch.jobs) {
      job->state = Job::State::kAnswered;
      job->batch = nullptr;
      queue_->ended(*job, now);
    }
    again = claim_worker();
    alarm = claim_alarm(queue_->next_expiry());
  }
  if (alarm) pool_.wake_at(*alarm, weak_from_this());
  return again;
}

void Scheduler::wake() {
  Jobs expired;
  bool call = false;
  std::optional<SteadyTime> alarm;
  {
    const std::scoped_lock lock(mutex_);
    alarm_ = SteadyTime::max();
    expire(clock_.steady_now(), expired);
    call = claim_worker();
    alarm = claim_alarm(queue_->next_expiry());
  }
  if (call) pool_.post(shared_from_this());
  if (alarm) pool_.wake_at(*alarm, weak_from_this());
  fail_expired(expired);
}

}  // namespace selvage::infer
