// The search, with figures that are made up: nothing here takes time or depends on the machine.
#include "compress/optimize.h"

#include <algorithm>
#include <fstream>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "compress/optimize_journal.h"

namespace selvage::compress {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

/// Says what the test told it, and remembers what it was asked. A model is a file that names its
/// recipe.
class FakeBench final : public Workbench {
 public:
  explicit FakeBench(FakeClock& clock) : clock_(clock) {}

  crypto::Digest settings() const override { return crypto::sha256(settings_text); }
  Result<void> build(const Recipe& recipe, const fs::path& file) override {
    ++builds;
    clock_.advance(std::chrono::seconds(1));
    if (builds == cancel_at) return fail(ErrorCode::kCancelled, "interrupted");
    const auto name = describe(recipe);
    if (failing == name) return fail(ErrorCode::kFailedPrecondition, "cannot be");
    recipes_[name] = recipe;
    return write_atomically(file, name);
  }
  Result<double> quality(const fs::path& file) override {
    SELVAGE_TRY(const auto name, read_text(file));
    const auto& recipe = recipes_[name];
    if (recipe.kind == CandidateKind::kOriginal) return 0.9;
    double lost = lost_by[recipe.kind];
    if (recipe.bias_corrected) lost -= gained_by["bias"];
    for (const auto& node : recipe.float_nodes) lost -= gained_by[node];
    return 0.9 - lost;
  }
  Result<Figures> measure(const fs::path& file) override {
    SELVAGE_TRY(const auto name, read_text(file));
    const auto& recipe = recipes_[name];
    const double ratio =
        ratio_of[recipe.kind] + 0.05 * static_cast<double>(recipe.float_nodes.size());
    return Figures{.latency = {.p50_ms = ratio,
                               .p99_ms = ratio,
                               .original_p50_ms = 1,
                               .ratio = ratio,
                               .ratio_low = ratio,
                               .ratio_high = ratio},
                   .file_bytes = bytes_of[recipe.kind],
                   .resident_bytes = 1};
  }
  Result<double> output_error(const Recipe& recipe) override {
    ++rankings;
    double error = 1;
    for (const auto& node : recipe.float_nodes) error -= gained_by[node];
    return error;
  }
  Result<std::vector<std::vector<std::string>>> groups(const Recipe&) override {
    return std::vector<std::vector<std::string>>{{"a"}, {"b", "c"}, {"d"}};
  }

  std::string settings_text = "one model and its data";
  std::map<CandidateKind, double> lost_by, ratio_of{{CandidateKind::kOriginal, 1}};
  std::map<CandidateKind, std::uint64_t> bytes_of{{CandidateKind::kOriginal, 1000}};
  std::map<std::string, double> gained_by;
  std::string failing;
  int builds = 0, rankings = 0;
  int cancel_at = -1;

 private:
  FakeClock& clock_;
  std::map<std::string, Recipe> recipes_;
};

class Optimize : public testing::Test {
 protected:
  Optimize() : bench_(clock_) {
    folder_ = fs::path(testing::TempDir()) /
              ("optimize-" + std::to_string(::getpid()) + "-" +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    tell(CandidateKind::kFloat, 0, 0.95, 1000);
    tell(CandidateKind::kDynamic, 0.002, 1.4, 300);
    tell(CandidateKind::kStatic, 0.005, 0.4, 280);
    tell(CandidateKind::kChannels, 0.5, 0.5, 500);
  }
  ~Optimize() override { fs::remove_all(folder_); }

  void tell(CandidateKind kind, double lost, double ratio, std::uint64_t bytes) {
    bench_.lost_by[kind] = lost;
    bench_.ratio_of[kind] = ratio;
    bench_.bytes_of[kind] = bytes;
  }
  Result<OptimizeResult> search() {
    options_.work = folder_;
    options_.clock = &clock_;
    return optimize(bench_, recipes_, options_);
  }
  static const Candidate& chosen(const OptimizeResult& found) {
    return found.candidates[found.chosen];
  }

  FakeClock clock_;
  FakeBench bench_;
  fs::path folder_;
  OptimizeOptions options_;
  std::vector<Recipe> recipes_{{.kind = CandidateKind::kFloat},
                               {.kind = CandidateKind::kDynamic},
                               {.kind = CandidateKind::kStatic},
                               {.kind = CandidateKind::kChannels, .macs = 0.5}};
};

TEST_F(Optimize, TakesWhatIsSmallAndFastAndSaysWhyNotTheOthers) {
  const auto found = search();
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_THAT(found->candidates, SizeIs(8));  // And three calibrations.
  EXPECT_EQ(chosen(*found).recipe.kind, CandidateKind::kStatic);
  EXPECT_THAT(found->candidates[2].objection, HasSubstr("slower than the original: 1.4x"));
  EXPECT_THAT(found->candidates[4].objection, HasSubstr("quality drops by 0.5"));
  EXPECT_FALSE(found->candidates[0].is_on_front);  // Folded it is as good, and faster.
  EXPECT_TRUE(found->candidates[1].is_on_front);
  EXPECT_TRUE(found->candidates[3].is_on_front);
  EXPECT_FALSE(found->candidates[4].is_on_front);
}

TEST_F(Optimize, TakesTheOriginalWhereNothingIsBetter) {
  for (const auto kind : {CandidateKind::kFloat, CandidateKind::kStatic}) tell(kind, 0, 1.2, 900);
  const auto found = search();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->chosen, 0);
}

TEST_F(Optimize, OneThatFailsSaysHowAndTheOthersGoOn) {
  bench_.failing = "static int8, per tensor, minmax";
  const auto found = search();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->candidates[3].objection, "cannot be");
  EXPECT_FALSE(found->candidates[3].figures);
  EXPECT_EQ(chosen(*found).recipe.kind, CandidateKind::kFloat);
}

TEST_F(Optimize, PutsTheWorstLayersBackUntilTheQualityIsGoodEnough) {
  bench_.lost_by[CandidateKind::kStatic] = 0.1;
  bench_.gained_by = {{"a", 0.01}, {"b", 0.06}, {"c", 0.01}, {"d", 0.02}};
  const auto found = search();
  ASSERT_TRUE(found);
  ASSERT_THAT(found->candidates, SizeIs(13));  // Three calibrations, four with help in vain.
  // b and c, then d: 0.1 - 0.07 - 0.02 = 0.01, what is allowed.
  EXPECT_THAT(chosen(*found).recipe.float_nodes, ElementsAre("b", "c", "d"));
  ASSERT_THAT(found->sensitivities, SizeIs(1));
  const auto& layers = found->sensitivities[0].layers;
  EXPECT_EQ(found->sensitivities[0].candidate, 3);
  EXPECT_THAT(layers[0].nodes, ElementsAre("b", "c"));
  EXPECT_NEAR(layers[0].error_without, 0.93, 1e-12);
}

TEST_F(Optimize, TriesHelpBeforeItPutsLayersBack) {
  bench_.lost_by[CandidateKind::kStatic] = 0.1;
  bench_.gained_by = {{"bias", 0.095}};
  const auto found = search();
  ASSERT_TRUE(found);
  EXPECT_TRUE(chosen(*found).recipe.bias_corrected);
  EXPECT_EQ(bench_.rankings, 0);
}

TEST_F(Optimize, LeavesLayersAloneWhereThatIsNotWorthIt) {
  bench_.lost_by[CandidateKind::kStatic] = 0.1;
  bench_.ratio_of[CandidateKind::kStatic] = 1.1;
  const auto found = search();
  ASSERT_TRUE(found);
  EXPECT_THAT(found->sensitivities, IsEmpty());
  EXPECT_EQ(bench_.rankings, 0);
}

TEST_F(Optimize, IsDeterministic) {
  bench_.lost_by[CandidateKind::kStatic] = 0.1;
  bench_.gained_by = {{"a", 0.02}, {"b", 0.05}, {"d", 0.03}};
  const auto first = search();
  fs::remove_all(folder_);
  const auto second = search();
  ASSERT_TRUE(first && second);
  ASSERT_EQ(first->candidates.size(), second->candidates.size());
  EXPECT_EQ(first->chosen, second->chosen);
  for (std::size_t i = 0; i < first->candidates.size(); ++i) {
    EXPECT_EQ(first->candidates[i].recipe, second->candidates[i].recipe);
    EXPECT_EQ(first->candidates[i].figures, second->candidates[i].figures);
  }
}

TEST_F(Optimize, GoesOnWhereItWasInterrupted) {
  bench_.cancel_at = 4;
  const auto stopped = search();
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  bench_.builds = 0;
  bench_.cancel_at = -1;
  const auto found = search();
  ASSERT_TRUE(found);
  EXPECT_EQ(bench_.builds, 5);  // The one that was interrupted, the last, three calibrations.
  EXPECT_TRUE(found->candidates[2].is_resumed);
  EXPECT_FALSE(found->candidates[3].is_resumed);
  EXPECT_EQ(chosen(*found).recipe.kind, CandidateKind::kStatic);
}

TEST_F(Optimize, KnowsNothingOfOtherSettingsOrDamagedRecords) {
  ASSERT_TRUE(search());
  bench_.builds = 0;
  bench_.settings_text = "another model";
  ASSERT_TRUE(search());
  EXPECT_EQ(bench_.builds, 8);

  for (const auto& entry : fs::directory_iterator(folder_))
    if (entry.path().extension() == ".json") std::ofstream(entry.path()) << "{\"figures\": {\"qual";
  bench_.builds = 0;
  ASSERT_TRUE(search());
  EXPECT_EQ(bench_.builds, 8);
}

TEST_F(Optimize, StaysWithinItsTimeBudget) {
  options_.budget = std::chrono::milliseconds(3500);  // A build takes a second.
  const auto found = search();
  ASSERT_TRUE(found);
  EXPECT_THAT(found->candidates, SizeIs(4));
  EXPECT_EQ(found->skipped, 4);  // Pruning, and three calibrations.
  EXPECT_EQ(chosen(*found).recipe.kind, CandidateKind::kStatic);
}

TEST_F(Optimize, ReportsHowFarItIs) {
  std::vector<std::size_t> done;
  std::optional<std::chrono::nanoseconds> left;
  options_.progress = [&](const OptimizeProgress& progress) {
    done.push_back(progress.done);
    EXPECT_GT(progress.total, progress.done);
    left = progress.left;
  };
  ASSERT_TRUE(search());
  EXPECT_THAT(done, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_EQ(left, std::chrono::seconds(1));  // Each took a second.
}

TEST_F(Optimize, CleansUpAfterItself) {
  ASSERT_TRUE(search());
  EXPECT_FALSE(fs::is_empty(folder_));
  std::ofstream(folder_ / "mine.txt") << "not the search's";
  forget_search(bench_, folder_);
  EXPECT_TRUE(fs::exists(folder_ / "mine.txt"));
  fs::remove(folder_ / "mine.txt");
  EXPECT_TRUE(fs::is_empty(folder_));
  forget_search(bench_, folder_);
  EXPECT_FALSE(fs::exists(folder_));
}

TEST_F(Optimize, FailsWhereTheOriginalDoes) {
  bench_.failing = "original";
  const auto found = search();
  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().message, HasSubstr("original cannot be measured: cannot be"));
}

TEST(Journal, KeepsEveryFigure) {
  const auto folder =
      fs::path(testing::TempDir()) / ("optimize-journal-" + std::to_string(::getpid()));
  fs::remove_all(folder);
  const auto journal = Journal::open(folder, crypto::sha256("settings"));
  ASSERT_TRUE(journal);
  const Record record{.failure = {},
                      .quality = 1.0 / 3,
                      .output_error = 1e-300,
                      .figures = Figures{.quality = 1.0 / 3,
                                         .latency = {.p50_ms = 0.1,
                                                     .p99_ms = 0.2,
                                                     .original_p50_ms = 0.3,
                                                     .ratio = 0.4,
                                                     .ratio_low = 0.5,
                                                     .ratio_high = 0.6},
                                         .file_bytes = (std::uint64_t{1} << 60) + 1,
                                         .resident_bytes = 7}};
  const Recipe recipe{.kind = CandidateKind::kStatic, .float_nodes = {"a\"b"}};
  ASSERT_TRUE(journal->keep(recipe, record));
  EXPECT_EQ(journal->find(recipe), record);
  EXPECT_EQ(journal->find({.kind = CandidateKind::kStatic}), Record{});
  fs::remove_all(folder);
}

}  // namespace
}  // namespace selvage::compress
