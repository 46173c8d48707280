#include "compress/optimize.h"

#include <algorithm>
#include <limits>

#include "compress/optimize_journal.h"
#include "compress/optimize_revert.h"
#include "graph/model.h"

namespace selvage::compress {
namespace {

namespace fs = std::filesystem;
using std::chrono::nanoseconds;

/// Candidates whose layers are reverted: each costs as much as many others.
constexpr std::size_t kRevertedMax = 2;
/// Worth it only where the quantised candidate is this much better than what there is: float layers
/// will make it slower and larger.
constexpr double kWorthReverting = 0.95;

bool ends_search(const Error& error) {
  return error.code == ErrorCode::kCancelled || error.code == ErrorCode::kIo ||
         error.code == ErrorCode::kResourceExhausted;
}

class Search {
 public:
  Search(Workbench& bench, std::span<const Recipe> recipes, const OptimizeOptions& options,
         Journal journal)
      : bench_(bench),
        recipes_(recipes),
        options_(options),
        journal_(std::move(journal)),
        begin_(options.clock->steady_now()),
        total_(recipes.size() + 1) {}

  Result<OptimizeResult> run() {
    SELVAGE_RETURN_IF_ERROR(try_recipe({}));
    if (const auto& original = result_.candidates.front(); !original.figures)
      return fail(ErrorCode::kFailedPrecondition,
                  "the original cannot be measured: " + original.objection);
    for (const auto& recipe : recipes_) {
      if (result_.candidates.size() > 1 && is_spent()) {
        result_.skipped = recipes_.size() + 1 - result_.candidates.size();
        break;
      }
      SELVAGE_RETURN_IF_ERROR(try_recipe(recipe));
    }
    SELVAGE_RETURN_IF_ERROR(try_all(calibrations_of(fastest_static())));
    if (const auto promising = most_promising())
      SELVAGE_RETURN_IF_ERROR(try_all(rescues_of(result_.candidates[*promising].recipe)));
    for (std::size_t i = 0; i < kRevertedMax && !is_mixed_taken(); ++i)
      SELVAGE_RETURN_IF_ERROR(revert());
    decide();
    result_.time = elapsed();
    return std::move(result_);
  }

 private:
  [[nodiscard]] nanoseconds elapsed() const { return options_.clock->steady_now() - begin_; }
  [[nodiscard]] bool is_spent() const { return options_.budget && elapsed() >= *options_.budget; }
  [[nodiscard]] const Figures& original() const { return *result_.candidates.front().figures; }

  void report(const std::string& what) const {
    if (!options_.progress) return;
    OptimizeProgress progress{
        .done = result_.candidates.size(), .total = total_, .what = what, .left = {}};
    if (progress.done > 0) {
      const auto each = elapsed() / static_cast<std::int64_t>(progress.done);
      progress.left = each * static_cast<std::int64_t>(total_ - std::min(total_, progress.done));
      if (options_.budget)
        progress.left = std::clamp(*options_.budget - elapsed(), nanoseconds(0), *progress.left);
    }
    options_.progress(progress);
  }

  Result<void> try_recipe(const Recipe& recipe);
  Result<Figures> measure(const Recipe& recipe, Record& record);
  Result<double> quality_of(const Recipe& recipe);
  Result<double> error_of(const Recipe& recipe);
  [[nodiscard]] std::optional<std::size_t> most_promising() const;
  [[nodiscard]] bool is_mixed_taken() const {
    const auto& last = result_.candidates.back();
    return !last.recipe.float_nodes.empty() && last.objection.empty();
  }
  Result<void> try_all(const std::vector<Recipe>& recipes);
  [[nodiscard]] Recipe fastest_static() const;
  Result<void> revert();
  void decide();

  Workbench& bench_;
  std::span<const Recipe> recipes_;
  const OptimizeOptions& options_;
  Journal journal_;
  SteadyTime begin_;
  std::size_t total_;
  OptimizeResult result_;
  std::vector<std::size_t> reverted_;  // Candidates that had their turn.
};

/// What is missing of a candidate's figures. Its model stays only while it may be taken.
Result<Figures> Search::measure(const Recipe& recipe, Record& record) {
  const auto file = journal_.model_of(recipe);
  SELVAGE_RETURN_IF_ERROR(bench_.build(recipe, file));
  SELVAGE_TRY(auto figures, bench_.measure(file));
  if (!record.quality) {
    SELVAGE_TRY(record.quality, bench_.quality(file));
  }
  figures.quality = *record.quality;
  return figures;
}

Result<void> Search::try_recipe(const Recipe& recipe) {
  report(describe(recipe));
  auto record = journal_.find(recipe);
  Candidate candidate{.recipe = recipe, .figures = {}, .objection = {}};
  candidate.is_resumed = record.figures.has_value() || !record.failure.empty();
  if (!candidate.is_resumed) {
    if (auto figures = measure(recipe, record))
      record.figures = *figures;
    else if (ends_search(figures.error()))
      return std::unexpected(std::move(figures).error());
    else
      record.failure = figures.error().message;
    SELVAGE_RETURN_IF_ERROR(journal_.keep(recipe, record));
  }
  candidate.figures = record.figures;
  candidate.objection = record.failure;
  const bool is_original = result_.candidates.empty();
  if (candidate.figures && !is_original)
    candidate.objection = objection(*candidate.figures, original(), options_.targets);
  if (!candidate.objection.empty() || is_original) journal_.forget_model(recipe);
  result_.candidates.push_back(std::move(candidate));
  return {};
}

/// The candidate that would be taken if only its quality were better.
std::optional<std::size_t> Search::most_promising() const {
  double best = 1;
  for (const auto& candidate : result_.candidates)
    if (candidate.figures && candidate.objection.empty())
      best = std::min(best, score(*candidate.figures, original()));
  std::optional<std::size_t> promising;
  for (std::size_t i = 1; i < result_.candidates.size(); ++i) {
    const auto& candidate = result_.candidates[i];
    const bool is_eligible = candidate.recipe.kind == CandidateKind::kStatic &&
                             candidate.recipe.float_nodes.empty() && candidate.figures &&
                             !candidate.objection.empty() &&
                             std::ranges::find(reverted_, i) == reverted_.end();
    if (!is_eligible) continue;
    auto forgiven = *candidate.figures;
    forgiven.quality = original().quality;
    if (!objection(forgiven, original(), options_.targets).empty() ||
        score(forgiven, original()) > kWorthReverting * best)
      continue;
    // The speeds of calibrations are alike: the one that keeps most needs the fewest steps.
    if (!promising || candidate.figures->quality > result_.candidates[*promising].figures->quality)
      promising = i;
  }
  return promising;
}

Result<double> Search::quality_of(const Recipe& recipe) {
  auto record = journal_.find(recipe);
  if (record.quality) return *record.quality;
  report(describe(recipe));
  const auto file = journal_.model_of(recipe);
  SELVAGE_RETURN_IF_ERROR(bench_.build(recipe, file));
  SELVAGE_TRY(record.quality, bench_.quality(file));
  SELVAGE_RETURN_IF_ERROR(journal_.keep(recipe, record));
  journal_.forget_model(recipe);
  return *record.quality;
}

Result<double> Search::error_of(const Recipe& recipe) {
  auto record = journal_.find(recipe);
  if (record.output_error) return *record.output_error;
  SELVAGE_TRY(record.output_error, bench_.output_error(recipe));
  SELVAGE_RETURN_IF_ERROR(journal_.keep(recipe, record));
  return *record.output_error;
}

Result<void> Search::try_all(const std::vector<Recipe>& recipes) {
  total_ += recipes.size();
  for (const auto& recipe : recipes) {
    if (is_spent())
      ++result_.skipped;
    else
      SELVAGE_RETURN_IF_ERROR(try_recipe(recipe));
  }
  return {};
}

/// Calibration changes quality, and neither time nor size: it is worth refining only for the best
/// of the formats, and not at all where none is better than the original.
Recipe Search::fastest_static() const {
  auto targets = options_.targets;
  targets.max_drop = std::numeric_limits<double>::infinity();
  std::vector<Figures> figures;
  std::vector<const Recipe*> recipes;
  for (const auto& candidate : result_.candidates) {
    if (candidate.recipe.kind != CandidateKind::kStatic || !candidate.figures) continue;
    figures.push_back(*candidate.figures);
    recipes.push_back(&candidate.recipe);
  }
  const auto fastest = choose(figures, original(), targets);
  return fastest ? *recipes[*fastest] : Recipe{};
}

Result<void> Search::revert() {
  const auto promising = is_spent() ? std::nullopt : most_promising();
  if (!promising) return {};
  const auto index = *promising;
  reverted_.push_back(index);
  const auto recipe = result_.candidates[index].recipe;
  ++total_;
  const auto groups = bench_.groups(recipe);
  if (!groups) return {};
  const auto with = [&](const Reverted& reverted) {
    auto mixed = recipe;
    for (const auto group : reverted)
      mixed.float_nodes.insert(mixed.float_nodes.end(), (*groups)[group].begin(),
                               (*groups)[group].end());
    std::ranges::sort(mixed.float_nodes);
    return mixed;
  };
  std::size_t ranked = 0;
  const RevertOptions options{
      .groups = groups->size(),
      .quality = result_.candidates[index].figures->quality,
      .quality_wanted = original().quality - options_.targets.max_drop,
      .quality_of = [&](const Reverted& reverted) { return quality_of(with(reverted)); },
      .error_of =
          [&](const Reverted& reverted) {
            report("ranking the layers of " + describe(recipe) + ", " + std::to_string(++ranked) +
                   " of " + std::to_string(groups->size()));
            return error_of(with(reverted));
          },
      .keep_going = [&] { return !is_spent(); }};
  auto outcome = revert_until_good(options);
  if (!outcome && ends_search(outcome.error())) return std::unexpected(std::move(outcome).error());
  if (!outcome) return {};
  if (!outcome->errors.empty()) {
    SELVAGE_TRY(const auto error, error_of(recipe));
    Sensitivities found{.candidate = index, .error = error, .layers = {}};
    for (std::size_t g = 0; g < groups->size(); ++g)
      found.layers.push_back({(*groups)[g], outcome->errors[g]});
    std::ranges::stable_sort(found.layers, {}, &LayerError::error_without);
    result_.sensitivities.push_back(std::move(found));
  }
  if (outcome->reverted.empty()) return {};
  return try_recipe(with(outcome->reverted));
}

void Search::decide() {
  std::vector<Figures> figures;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < result_.candidates.size(); ++i) {
    if (!result_.candidates[i].figures) continue;
    figures.push_back(*result_.candidates[i].figures);
    places.push_back(i);
  }
  const auto front = pareto_front(figures);
  for (std::size_t k = 0; k < places.size(); ++k)
    result_.candidates[places[k]].is_on_front = front[k];
  // The original is no rival of its own candidates.
  const auto rivals = std::span(figures).subspan(1);
  if (const auto chosen = choose(rivals, original(), options_.targets))
    result_.chosen = places[*chosen + 1];
}

}  // namespace

Result<OptimizeResult> optimize(Workbench& bench, std::span<const Recipe> recipes,
                                const OptimizeOptions& options) {
  SELVAGE_TRY(auto journal, Journal::open(options.work, bench.settings()));
  return Search(bench, recipes, options, std::move(journal)).run();
}

Result<void> save_candidate(Workbench& bench, const Recipe& recipe, const fs::path& work,
                            const fs::path& out) {
  SELVAGE_TRY(const auto journal, Journal::open(work, bench.settings()));
  const auto kept = journal.model_of(recipe);
  std::error_code ignored;
  if (!fs::exists(kept, ignored)) return bench.build(recipe, out);
  SELVAGE_TRY(auto model, graph::Model::load(kept));
  return model.save(out);
}

void forget_search(const Workbench& bench, const fs::path& work) {
  if (const auto journal = Journal::open(work, bench.settings())) journal->clear();
}

}  // namespace selvage::compress
