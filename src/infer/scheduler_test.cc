#include "infer/scheduler.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "infer/sequence_queue.h"

namespace selvage::infer {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

/// Holds every batch until it is let through, and remembers what was in it.
class HeldRunner final : public Runner {
 public:
  void run(Scheduler& scheduler, Batch& batch) override {
    {
      std::unique_lock lock(mutex_);
      std::vector<std::string> ids;
      for (const auto& job : batch.jobs) ids.push_back(id_of(*job));
      batches_.push_back(ids);
      threads_.push_back(std::this_thread::get_id());
      changed_.notify_all();
      changed_.wait(lock, [&] { return open_ > 0; });
      --open_;
    }
    if (during_) during_();
    batch.ran = scheduler.clock().steady_now();
    if (after_) after_();
    for (const auto& job : batch.jobs) {
      if (job->cancelled) {
        scheduler.fail(*job, {ErrorCode::kCancelled, "cancelled"});
        continue;
      }
      scheduler.succeed(*job, [owner = job] {
        auto& infer = static_cast<InferJob&>(*owner);
        infer.callback(InferenceResponse{.id = infer.request.id});
      });
    }
  }
  /// Lets `count` more batches through.
  void open(int count = 1) {
    const std::scoped_lock lock(mutex_);
    open_ += count;
    changed_.notify_all();
  }
  void close() {
    const std::scoped_lock lock(mutex_);
    open_ = 0;
  }
  void wait_for_batches(std::size_t count) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, std::chrono::seconds(20),
                                  [&] { return batches_.size() >= count; }));
  }
  /// Called in every run. Set it before the first.
  void during(std::function<void()> function) { during_ = std::move(function); }
  /// The same, behind the run and before its answers.
  void after(std::function<void()> function) { after_ = std::move(function); }
  /// Where the last batch ran.
  [[nodiscard]] std::thread::id last_thread() {
    const std::scoped_lock lock(mutex_);
    return threads_.back();
  }
  [[nodiscard]] std::vector<std::vector<std::string>> batches() {
    const std::scoped_lock lock(mutex_);
    return batches_;
  }

 private:
  static std::string id_of(const Job& job) { return static_cast<const InferJob&>(job).request.id; }
  std::mutex mutex_;
  std::condition_variable changed_;
  int open_ = 0;
  std::vector<std::vector<std::string>> batches_;
  std::vector<std::thread::id> threads_;
  std::function<void()> during_, after_;
};

/// A scheduler over a held runner, and what became of each request.
class SchedulerTest : public testing::Test {
 protected:
  void start(PriorityQueue::Options options, Scheduler::Options scheduling = {}) {
    options.jobs_max = options.jobs_max == 0 ? 100 : options.jobs_max;
    start_with(std::make_unique<PriorityQueue>(
                   std::move(options),
                   [](const Job& a, const Job& b) { return a.sequence_id == b.sequence_id; }),
               scheduling);
  }
  void start_with(std::unique_ptr<JobQueue> queue, Scheduler::Options scheduling = {}) {
    auto runner = std::make_unique<HeldRunner>();
    runner_ = runner.get();
    scheduler_ =
        std::make_shared<Scheduler>(scheduling, std::move(queue), std::move(runner), pool_, clock_);
  }
  ~SchedulerTest() override {
    if (scheduler_) scheduler_->close();
    if (runner_ != nullptr) runner_->open(1'000'000);
    pool_.stop();
  }

  std::shared_ptr<InferJob> submit(const std::string& id,
                                   const std::function<void(Job&)>& change = {}) {
    auto job = std::make_shared<InferJob>();
    job->request.id = id;
    job->scheduler = scheduler_;
    if (change) change(*job);
    job->callback = [this, id](Result<InferenceResponse> response) {
      const std::scoped_lock lock(mutex_);
      order_.push_back(id);
      answers_[id] = response ? "ok" : std::string(to_string(response.error().code));
      answered_.notify_all();
    };
    scheduler_->submit(job);
    return job;
  }
  std::string answer_to(const std::string& id) {
    std::unique_lock lock(mutex_);
    answered_.wait_for(lock, std::chrono::seconds(20), [&] { return answers_.contains(id); });
    return answers_.contains(id) ? answers_[id] : "none";
  }
  bool is_answered(const std::string& id) {
    const std::scoped_lock lock(mutex_);
    return answers_.contains(id);
  }
  std::vector<std::string> order() {
    const std::scoped_lock lock(mutex_);
    return order_;
  }

  FakeClock clock_;
  WorkerPool pool_{2, clock_};
  std::shared_ptr<Scheduler> scheduler_;
  HeldRunner* runner_ = nullptr;
  std::mutex mutex_;
  std::condition_variable answered_;
  std::map<std::string, std::string> answers_;
  std::vector<std::string> order_;
};

TEST_F(SchedulerTest, BatchesWhatIsQueuedWhileTheWorkersAreBusy) {
  start({.limits = {.rows_max = 4}});
  submit("lone");
  runner_->wait_for_batches(1);
  for (const char* id : {"a", "b", "c", "d", "e"}) submit(id);
  runner_->open(3);
  EXPECT_EQ(answer_to("e"), "ok");
  EXPECT_THAT(runner_->batches(),
              ElementsAre(SizeIs(1), ElementsAre("a", "b", "c", "d"), ElementsAre("e")));
}

/// Requests that may run where they are submitted, one by one, until one does.
class QuickRunTest : public SchedulerTest {
 protected:
  bool runs_here(int tries) {
    for (int i = 0; i < tries; ++i) {
      const auto id = "try " + std::to_string(i);
      submit(id, [](Job& job) { job.here = true; });
      EXPECT_EQ(answer_to(id), "ok");
      if (runner_->last_thread() == std::this_thread::get_id()) return true;
    }
    return false;
  }
};

TEST_F(QuickRunTest, QuickModelsRunWhereTheRequestArrives) {
  start({});
  runner_->open(1'000);
  EXPECT_FALSE(runs_here(5)) << "nobody knows yet how long it takes";
  ASSERT_TRUE(runs_here(900));
  submit("here", [](Job& job) { job.here = true; });
  EXPECT_TRUE(is_answered("here"));
  submit("elsewhere");
  EXPECT_EQ(answer_to("elsewhere"), "ok");
  EXPECT_NE(runner_->last_thread(), std::this_thread::get_id());
}

TEST_F(QuickRunTest, SlowModelsRunOnWorkers) {
  start({});
  runner_->open(1'000);
  runner_->during([this] { clock_.advance(Scheduler::kQuickRun); });
  EXPECT_FALSE(runs_here(100));
}

TEST_F(QuickRunTest, WhatAnAnswerTakesIsNotTheModelsTime) {
  start({});
  runner_->open(1'000);
  runner_->after([this] { clock_.advance(10 * Scheduler::kQuickRun); });
  std::jthread([this] { EXPECT_TRUE(runs_here(1'000)); });
}

TEST_F(QuickRunTest, ThreadsKeepAThirdOfTheirTime) {
  constexpr auto kRun = Scheduler::kQuickRun / 2;
  start({});
  runner_->open(1'000);
  std::jthread([&] {  // With a time of its own.
    ASSERT_TRUE(runs_here(500));
    runner_->during([&] { clock_.advance(kRun); });
    int here = 0;
    for (int i = 0; i < 100; ++i) {
      const std::string id = "busy" + std::to_string(i);
      submit(id, [](Job& job) { job.here = true; });
      EXPECT_EQ(answer_to(id), "ok");
      here += runner_->last_thread() == std::this_thread::get_id() ? 1 : 0;
    }
    // The burst at least; and two thirds of what all runs took, while nothing else took any time.
    EXPECT_GE(here, 8);
    EXPECT_LE(here, 75);
  });
}

TEST_F(QuickRunTest, NobodyRunsAnythingWhileOthersWait) {
  start({.limits = {.rows_max = 4}});
  runner_->open(1'000);
  ASSERT_TRUE(runs_here(1'000));
  runner_->close();
  const auto before = runner_->batches().size();
  submit("held");
  runner_->wait_for_batches(before + 1);
  submit("a", [](Job& job) { job.here = true; });  // Would never return if it ran here.
  submit("b", [](Job& job) { job.here = true; });
  EXPECT_EQ(scheduler_->pending(), 2u);
  runner_->open(2);
  EXPECT_EQ(answer_to("b"), "ok");
  EXPECT_THAT(runner_->batches().back(), ElementsAre("a", "b"));
}

TEST_F(SchedulerTest, RunsAsManyInstancesAsAllowedAtOnce) {
  start({}, {.instances = 2});
  for (const char* id : {"a", "b", "c"}) submit(id);
  runner_->wait_for_batches(2);
  EXPECT_EQ(scheduler_->pending(), 1u);
  runner_->open(3);
  EXPECT_EQ(answer_to("c"), "ok");
  EXPECT_THAT(runner_->batches(), SizeIs(3));
}

TEST_F(SchedulerTest, CountsRowsAndPassesOverWhatDoesNotFit) {
  start({.limits = {.rows_max = 4}});
  submit("lone");
  runner_->wait_for_batches(1);
  submit("two", [](Job& job) { job.rows = 2; });
  submit("three", [](Job& job) { job.rows = 3; });
  submit("other", [](Job& job) { job.sequence_id = std::uint64_t{7}; });
  submit("one");
  submit("large", [](Job& job) { job.rows = 9; });
  submit("solo", [](Job& job) { job.alone = true; });
  runner_->open(6);
  for (const char* id : {"two", "three", "other", "one", "large", "solo"})
    EXPECT_EQ(answer_to(id), "ok");
  EXPECT_THAT(runner_->batches(),
              ElementsAre(ElementsAre("lone"), ElementsAre("two", "one"), ElementsAre("three"),
                          ElementsAre("other"), ElementsAre("large"), ElementsAre("solo")));
}

TEST_F(SchedulerTest, LeavesTheOtherWorkersTheirShare) {
  start({.limits = {.rows_max = 8}}, {.instances = 2});
  submit("1");
  runner_->wait_for_batches(1);
  submit("2");
  runner_->wait_for_batches(2);
  for (const char* id : {"3", "4", "5", "6", "7"}) submit(id);
  runner_->open(1);  // Of 5 that wait and 1 that runs, half.
  runner_->wait_for_batches(3);
  runner_->open(1);
  runner_->wait_for_batches(4);
  runner_->open(2);
  EXPECT_EQ(answer_to("7"), "ok");
  EXPECT_THAT(runner_->batches(), ElementsAre(SizeIs(1), SizeIs(1), SizeIs(3), SizeIs(2)));
}

TEST_F(SchedulerTest, ClientsThatAskAgainKeepTheWorkersEquallyBusy) {
  start({.limits = {.rows_max = 32}}, {.instances = 2});
  std::atomic<bool> asking{true};
  std::function<void()> ask = [&] {
    auto job = std::make_shared<InferJob>();
    job->scheduler = scheduler_;
    job->callback = [&](const Result<InferenceResponse>&) {
      if (asking) ask();
    };
    scheduler_->submit(job);
  };
  for (std::size_t client = 0; client < 32; ++client) {
    ask();
    if (client < 2) runner_->wait_for_batches(client + 1);
  }
  for (std::size_t batch = 3; batch <= 12; ++batch) {
    runner_->open();
    runner_->wait_for_batches(batch);
  }
  asking = false;
  runner_->open(100);
  scheduler_->close();
  pool_.stop();
  auto batches = runner_->batches();
  batches.resize(12);
  batches.erase(batches.begin(), batches.begin() + 2);
  EXPECT_THAT(batches, Each(SizeIs(16)));
}

TEST_F(SchedulerTest, CutsAtPreferredSizes) {
  start({.limits = {.rows_max = 8, .preferred = {2, 4}}});
  submit("lone");
  runner_->wait_for_batches(1);
  for (const char* id : {"1", "2", "3", "4", "5", "6", "7"}) submit(id);
  runner_->open(5);
  EXPECT_EQ(answer_to("7"), "ok");
  EXPECT_THAT(runner_->batches(), ElementsAre(SizeIs(1), SizeIs(4), SizeIs(2), SizeIs(1)));
}

TEST_F(SchedulerTest, WaitsForCompanyOnlyAsLongAsConfigured) {
  start({.limits = {.rows_max = 4, .preferred = {2}, .delay = milliseconds(10)}});
  runner_->open(2);
  submit("a");
  std::this_thread::sleep_for(milliseconds(30));
  EXPECT_THAT(runner_->batches(), SizeIs(0)) << "the clock stands still";
  submit("b");  // Makes the preferred size.
  EXPECT_EQ(answer_to("b"), "ok");
  submit("c");
  std::this_thread::sleep_for(milliseconds(5));
  clock_.advance(milliseconds(11));
  EXPECT_EQ(answer_to("c"), "ok");
  EXPECT_THAT(runner_->batches(), ElementsAre(ElementsAre("a", "b"), ElementsAre("c")));
}

TEST_F(SchedulerTest, HigherPrioritiesGoFirst) {
  start({.levels = 3, .default_level = 2});
  submit("lone");
  runner_->wait_for_batches(1);
  submit("low", [](Job& job) { job.priority = 3; });
  submit("default");
  submit("high", [](Job& job) { job.priority = 1; });
  submit("out of range", [](Job& job) { job.priority = 9; });
  runner_->open(5);
  EXPECT_EQ(answer_to("low"), "ok");
  EXPECT_THAT(order(), ElementsAre("lone", "high", "default", "out of range", "low"));
}

TEST_F(SchedulerTest, RefusesAtOnceWhenTheQueueIsFull) {
  start({.levels = 2,
         .default_level = 1,
         .level_policies = {{2, QueuePolicy{.max_queue_size = 1}}},
         .jobs_max = 2});
  submit("lone");
  runner_->wait_for_batches(1);
  submit("a", [](Job& job) { job.priority = 2; });
  submit("b", [](Job& job) { job.priority = 2; });
  EXPECT_TRUE(is_answered("b"));
  EXPECT_EQ(answer_to("b"), "unavailable");
  submit("c");
  submit("d");
  EXPECT_EQ(answer_to("d"), "unavailable");
  runner_->open(3);
  EXPECT_EQ(answer_to("c"), "ok");
  const auto statistics = scheduler_->statistics().snapshot();
  EXPECT_EQ(statistics.fail.count, 2u);
  EXPECT_EQ(statistics.failures[static_cast<std::size_t>(FailureReason::kRejected)], 2u);
}

TEST_F(SchedulerTest, DeadlinesAreKeptWhileEveryWorkerIsBusy) {
  start({});
  submit("lone");
  runner_->wait_for_batches(1);
  submit("late", [](Job& job) { job.timeout = milliseconds(5); });
  submit("patient", [](Job& job) { job.timeout = std::chrono::hours(1); });
  submit("huge", [](Job& job) { job.timeout = microseconds::max(); });
  EXPECT_FALSE(is_answered("late"));
  clock_.advance(milliseconds(6));
  EXPECT_EQ(answer_to("late"), "deadline exceeded");
  runner_->open(3);
  EXPECT_EQ(answer_to("patient"), "ok");
  EXPECT_EQ(answer_to("huge"), "ok");
}

// Each timeout ends before the last one: what is no longer needed must not pile up.
TEST_F(SchedulerTest, FarDeadlinesLeaveNothingBehind) {
  start({});
  runner_->open(200);
  for (int i = 0; i < 200; ++i) {
    const auto id = std::to_string(i);
    submit(id, [&](Job& job) { job.timeout = std::chrono::hours(1000 - i); });
    EXPECT_EQ(answer_to(id), "ok");
  }
  EXPECT_LE(pool_.alarms(), 1u);
  submit("lone");
  runner_->wait_for_batches(201);
  submit("late", [](Job& job) { job.timeout = std::chrono::hours(1); });
  EXPECT_EQ(pool_.alarms(), 1u);
  clock_.advance(std::chrono::minutes(61));
  EXPECT_EQ(answer_to("late"), "deadline exceeded");
}

TEST_F(SchedulerTest, QueuePoliciesDecideAboutTimeouts) {
  using Action = QueuePolicy::TimeoutAction;
  start({.levels = 2,
         .default_level = 1,
         .policy = QueuePolicy{.default_timeout = milliseconds(10)},
         .level_policies = {{2, QueuePolicy{.timeout_action = Action::kDelay,
                                            .default_timeout = milliseconds(10),
                                            .allow_timeout_override = true}}}});
  submit("lone");
  runner_->wait_for_batches(1);
  submit("no override", [](Job& job) { job.timeout = milliseconds(1); });
  submit("override", [](Job& job) {
    job.priority = 2;
    job.timeout = milliseconds(1);
  });
  submit("longer", [](Job& job) {
    job.priority = 2;
    job.timeout = milliseconds(100);
  });
  clock_.advance(milliseconds(5));
  submit("fresh", [](Job& job) { job.priority = 2; });
  std::this_thread::sleep_for(milliseconds(10));
  runner_->open(5);
  EXPECT_EQ(answer_to("override"), "ok");
  // The delayed one comes after those of its level that are in time.
  EXPECT_THAT(order(), ElementsAre("lone", "no override", "longer", "fresh", "override"));
}

TEST_F(SchedulerTest, CancelTakesAQueuedRequestOutAndMarksARunningOne) {
  start({.limits = {.rows_max = 4}});
  const auto running = submit("running");
  runner_->wait_for_batches(1);
  const auto queued = submit("queued");
  queued->cancel();
  EXPECT_TRUE(is_answered("queued"));
  EXPECT_EQ(answer_to("queued"), "cancelled");
  EXPECT_EQ(scheduler_->pending(), 0u);
  running->cancel();
  EXPECT_FALSE(is_answered("running"));
  runner_->open(1);
  EXPECT_EQ(answer_to("running"), "cancelled");
  running->cancel();
  queued->cancel();
  EXPECT_THAT(order(), SizeIs(2));
}

TEST_F(SchedulerTest, AnswersInOrderWhenAsked) {
  start({}, {.instances = 2, .preserve_ordering = true});
  submit("a");
  runner_->wait_for_batches(1);
  const auto b = submit("b");
  runner_->wait_for_batches(2);
  const auto c = submit("c");
  c->cancel();
  EXPECT_FALSE(is_answered("c")) << "its turn is after a and b";
  runner_->open(2);
  EXPECT_EQ(answer_to("c"), "cancelled");
  EXPECT_THAT(order(), ElementsAre("a", "b", "c"));
}

TEST_F(SchedulerTest, CloseFailsWhatWaits) {
  start({});
  submit("running");
  runner_->wait_for_batches(1);
  submit("queued");
  scheduler_->close();
  EXPECT_EQ(answer_to("queued"), "unavailable");
  submit("late");
  EXPECT_EQ(answer_to("late"), "unavailable");
  runner_->open(1);
  EXPECT_EQ(answer_to("running"), "ok");
}

class SequenceTest : public SchedulerTest {
 protected:
  void start_sequences(SequenceQueue::Options options, Scheduler::Options scheduling = {}) {
    options.jobs_max = options.jobs_max == 0 ? 100 : options.jobs_max;
    if (options.max_idle.count() == 0) options.max_idle = std::chrono::seconds(1);
    start_with(
        std::make_unique<SequenceQueue>(options, [](const Job&, const Job&) { return true; }),
        scheduling);
  }
  std::shared_ptr<InferJob> send(const std::string& name, std::uint64_t sequence,
                                 SequenceFlags flags = {}) {
    return submit(name, [&](Job& job) {
      job.sequence_id = sequence;
      job.sequence_flags = flags;
    });
  }
};

TEST_F(SequenceTest, RunsEachSequenceInOrderAndDifferentOnesTogether) {
  start_sequences({.limits = {.rows_max = 4}, .candidates = 4}, {.instances = 2});
  send("a1", 1, {.start = true});
  runner_->wait_for_batches(1);
  send("a2", 1);
  send("b1", 2, {.start = true});
  runner_->wait_for_batches(2);  // a2 has to wait for a1, b1 does not.
  send("a3", 1, {.end = true});
  send("b2", 2, {.end = true});
  runner_->open(5);
  EXPECT_EQ(answer_to("a3"), "ok");
  EXPECT_EQ(answer_to("b2"), "ok");
  EXPECT_THAT(runner_->batches()[0], ElementsAre("a1"));
  EXPECT_THAT(runner_->batches()[1], ElementsAre("b1"));
}

TEST_F(SequenceTest, RefusesWhatBelongsToNoSequence) {
  start_sequences({.candidates = 4});
  runner_->open(10);
  submit("none");
  EXPECT_EQ(answer_to("none"), "invalid argument");
  send("zero", 0, {.start = true});
  EXPECT_EQ(answer_to("zero"), "invalid argument");
  send("unknown", 5);
  EXPECT_EQ(answer_to("unknown"), "invalid argument");
  send("start", 5, {.start = true, .end = true});
  EXPECT_EQ(answer_to("start"), "ok");
  send("after", 5);
  EXPECT_EQ(answer_to("after"), "invalid argument");
}

TEST_F(SequenceTest, SurplusSequencesWaitUntilAPlaceIsFree) {
  start_sequences({.candidates = 1});
  runner_->open(10);
  send("a1", 1, {.start = true});
  EXPECT_EQ(answer_to("a1"), "ok");
  send("b1", 2, {.start = true});
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(is_answered("b1"));
  send("a2", 1, {.end = true});
  EXPECT_EQ(answer_to("a2"), "ok");
  EXPECT_EQ(answer_to("b1"), "ok");
}

TEST_F(SequenceTest, IdleSequencesAreForgotten) {
  start_sequences({.candidates = 1, .max_idle = milliseconds(10)});
  runner_->open(10);
  send("a1", 1, {.start = true});
  EXPECT_EQ(answer_to("a1"), "ok");
  send("b1", 2, {.start = true});
  // Again and again: a1 becomes idle a moment after its answer.
  for (int i = 0; i < 1'000 && !is_answered("b1"); ++i) {
    clock_.advance(milliseconds(11));
    std::this_thread::sleep_for(milliseconds(5));
  }
  EXPECT_EQ(answer_to("b1"), "ok") << "the idle sequence made room";
  send("a2", 1);
  EXPECT_EQ(answer_to("a2"), "invalid argument");
}

TEST_F(SequenceTest, CancelledAndLateRequestsLeaveTheirSequence) {
  start_sequences({.candidates = 2});
  send("a1", 1, {.start = true});
  runner_->wait_for_batches(1);
  const auto a2 = send("a2", 1);
  submit("a3", [](Job& job) {
    job.sequence_id = std::uint64_t{1};
    job.timeout = milliseconds(1);
  });
  send("a4", 1, {.end = true});
  a2->cancel();
  clock_.advance(milliseconds(2));
  EXPECT_EQ(answer_to("a3"), "deadline exceeded");
  runner_->open(2);
  EXPECT_EQ(answer_to("a4"), "ok");
  EXPECT_EQ(answer_to("a2"), "cancelled");
}

TEST(GateTest, CountsAndWaits) {
  const auto gate = std::make_shared<Gate>();
  auto pass = GatePass::enter(gate);
  EXPECT_TRUE(static_cast<bool>(pass));
  gate->close();
  EXPECT_FALSE(static_cast<bool>(GatePass::enter(gate)));
  EXPECT_FALSE(gate->wait_empty(milliseconds(1)));
  std::thread leaver([&] { pass = GatePass(); });
  EXPECT_TRUE(gate->wait_empty(std::chrono::seconds(20)));
  leaver.join();
}

}  // namespace
}  // namespace selvage::infer
