#include "cli/model_change.h"

#include <chrono>

#include "base/file.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/random_input.h"
#include "compress/samples.h"
#include "graph/model.h"
#include "graph/summary.h"
#include "infer/shapes.h"

namespace selvage::cli {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

constexpr int kRounds = 10;
constexpr int kWarmUpRuns = 3;

/// One of the two models, ready to run on the input that both are timed on.
struct Timed {
  std::unique_ptr<infer::Model> model;
  std::unique_ptr<infer::Binding> binding;
  std::vector<Tensor> inputs;
  Histogram latency;

  [[nodiscard]] Result<void> run_for(std::chrono::duration<double> time) {
    const auto end = steady_clock::now() + time;
    do {
      const auto begin = steady_clock::now();
      SELVAGE_RETURN_IF_ERROR(binding->run());
      latency.record(steady_clock::now() - begin);
    } while (steady_clock::now() < end && !interrupted());
    return {};
  }
};

std::uint64_t bytes_of(const fs::path& path, const graph::Summary& summary) {
  std::error_code ignored;
  return fs::file_size(path, ignored) + summary.external_bytes;
}

Result<ModelFigures> count(infer::Runtime& runtime, const fs::path& path,
                           const infer::ModelOptions& options) {
  SELVAGE_TRY(const auto model, graph::Model::load(path));
  const auto shapes = infer::resolve_shapes(runtime, model, options.overrides.dimensions);
  const auto summary = graph::summarise(model, shapes ? *shapes : graph::ShapeMap{});
  ModelFigures figures{.file_bytes = bytes_of(path, summary),
                       .parameters = summary.parameter_count,
                       .parameter_bytes = summary.parameter_bytes};
  if (summary.macs_unknown == 0) figures.macs = summary.macs;
  return figures;
}

Result<std::unique_ptr<Timed>> prepare(infer::Runtime& runtime, const fs::path& path,
                                       const infer::ModelOptions& options,
                                       const infer::Dataset* data) {
  auto timed = std::make_unique<Timed>();
  SELVAGE_TRY(timed->model, infer::Model::load(runtime, path, options));
  const auto& session = timed->model->session();
  if (data == nullptr) {
    SELVAGE_TRY(timed->binding, bind_random_inputs(session, {}));
  } else {
    SELVAGE_TRY(timed->binding, infer::Binding::create(session));
    SELVAGE_TRY(const auto samples, compress::calibration_samples(*timed->model, *data, 1));
    SELVAGE_TRY(timed->inputs, samples.get(0));
    for (std::size_t i = 0; i < timed->inputs.size(); ++i) {
      SELVAGE_RETURN_IF_ERROR(timed->binding->bind_input(i, timed->inputs[i].view()));
    }
  }
  for (int i = 0; i < kWarmUpRuns; ++i) {
    SELVAGE_RETURN_IF_ERROR(timed->binding->run());
  }
  return timed;
}

std::vector<std::size_t> spread(std::size_t count_max, std::size_t size) {
  const auto count = std::min(count_max, size);
  std::vector<std::size_t> indices(count);
  for (std::size_t i = 0; i < count; ++i) indices[i] = i * size / count;
  return indices;
}

std::string change_of(double before, double after) {
  return before > 0 ? fixed(after / before, 2) + "x" : "";
}

double milliseconds(const HistogramSnapshot& latency, double fraction) {
  return static_cast<double>(latency.percentile_ns(fraction)) / 1e6;
}

std::string duration(const HistogramSnapshot& latency, double fraction) {
  return format_duration(
      std::chrono::nanoseconds(static_cast<std::int64_t>(latency.percentile_ns(fraction))));
}

std::string percent(double part) {
  return fixed(100 * part, 2) + " %";
}

/// "-0.31 points".
std::string points(double before, double after) {
  const double change = 100 * (after - before);
  return (change > 0 ? "+" : "") + fixed(change, 2) + " points";
}

void write_figures(const ModelFigures& figures, JsonWriter& json) {
  json.begin_object().field("file_bytes", figures.file_bytes);
  json.field("parameters", figures.parameters).field("parameter_bytes", figures.parameter_bytes);
  if (figures.macs) json.field("macs", *figures.macs);
  json.key("latency_ms").begin_object();
  json.field("p50", milliseconds(figures.latency, 0.5));
  json.field("p99", milliseconds(figures.latency, 0.99)).end_object();
  if (figures.evaluation) {
    const auto& found = *figures.evaluation;
    json.field("samples", found.samples).field("quality", found.quality());
    if (found.accuracy) json.field("accuracy", *found.accuracy);
    if (found.auroc) json.field("auroc", *found.auroc);
    if (found.mean_absolute_error) json.field("mean_absolute_error", *found.mean_absolute_error);
  }
  json.end_object();
}

Result<ModelChange> measure(infer::Runtime& runtime, const fs::path& before, const fs::path& after,
                            const infer::ModelOptions& model_options, const ChangeOptions& options,
                            Output& output) {
  ModelChange change;
  SELVAGE_TRY(change.before, count(runtime, before, model_options));
  SELVAGE_TRY(change.after, count(runtime, after, model_options));
  auto own_options = model_options;
  if (own_options.card_beside.empty()) own_options.card_beside = before;
  std::optional<Progress> progress(std::in_place, output, "measuring latency", kRounds);
  SELVAGE_TRY(const auto old_model, prepare(runtime, before, own_options, options.data));
  SELVAGE_TRY(const auto new_model, prepare(runtime, after, own_options, options.data));
  change.input = options.data != nullptr ? options.data->place(0) : "random tensors";
  const std::chrono::duration<double> slice(options.seconds / kRounds);
  for (int round = 0; round < kRounds && !interrupted(); ++round) {
    SELVAGE_RETURN_IF_ERROR(old_model->run_for(slice));
    SELVAGE_RETURN_IF_ERROR(new_model->run_for(slice));
    progress->advance();
  }
  change.before.latency = old_model->latency.snapshot();
  change.after.latency = new_model->latency.snapshot();
  if (options.data == nullptr) return change;

  compress::EvaluateOptions evaluation{.samples =
                                           spread(options.samples_max, options.data->size())};
  const auto watch = [&](const std::string& what) {
    progress.emplace(output, what, evaluation.samples.size());
    evaluation.progress = [&](std::size_t done) {
      progress->set(done);
      return !interrupted();
    };
  };
  const auto evaluate = [&](const infer::Model& model,
                            const fs::path& path) -> Result<compress::Evaluation> {
    auto found = compress::evaluate(model, *options.data, evaluation);
    if (!found) return std::unexpected(std::move(found).error().with_context(path.string()));
    return found;
  };
  if (options.data->target_kind() != infer::TargetKind::kNone) {
    watch("evaluating the original");
    SELVAGE_TRY(change.before.evaluation, evaluate(*old_model->model, before));
    watch("evaluating the result");
    SELVAGE_TRY(change.after.evaluation, evaluate(*new_model->model, after));
  }
  watch("comparing");
  SELVAGE_TRY(change.agreement,
              compress::compare(*new_model->model, *old_model->model, *options.data, evaluation));
  return change;
}

}  // namespace

Result<ModelChange> measure_change(infer::Runtime& runtime, const fs::path& before,
                                   const fs::path& after, const infer::ModelOptions& model_options,
                                   const ChangeOptions& options, Output& output) {
  auto change = measure(runtime, before, after, model_options, options, output);
  if (change || change.error().code == ErrorCode::kCancelled) return change;
  return std::unexpected(std::move(change).error().with_context(
      after.string() + " is written, but what became of the model is not known"));
}

std::string to_text(const ModelChange& change, const Style& style) {
  const auto &before = change.before, &after = change.after;
  Table table({{""}, {"before", Align::kRight}, {"after", Align::kRight}, {"", Align::kRight}});
  const auto add = [&](const char* what, std::string old_text, std::string new_text,
                       std::string ratio) {
    table.add({{what, Tone::kDim}, std::move(old_text), std::move(new_text), std::move(ratio)});
  };
  const auto ratio = [](std::uint64_t a, std::uint64_t b) {
    return change_of(static_cast<double>(a), static_cast<double>(b));
  };
  add("file", format_bytes(before.file_bytes), format_bytes(after.file_bytes),
      ratio(before.file_bytes, after.file_bytes));
  add("parameters", format_large(before.parameters), format_large(after.parameters),
      ratio(before.parameters, after.parameters));
  if (before.macs && after.macs)
    add("MACs", format_large(*before.macs), format_large(*after.macs),
        ratio(*before.macs, *after.macs));
  add("p50 of a run", duration(before.latency, 0.5), duration(after.latency, 0.5),
      change_of(milliseconds(before.latency, 0.5), milliseconds(after.latency, 0.5)));
  add("p99", duration(before.latency, 0.99), duration(after.latency, 0.99),
      change_of(milliseconds(before.latency, 0.99), milliseconds(after.latency, 0.99)));
  if (before.evaluation && after.evaluation) {
    const auto &a = *before.evaluation, &b = *after.evaluation;
    if (a.accuracy && b.accuracy)
      add("accuracy", percent(*a.accuracy), percent(*b.accuracy), points(*a.accuracy, *b.accuracy));
    else
      add("quality", significant(a.quality()), significant(b.quality()), "");
  }
  if (change.agreement)
    add("agreement", "", percent(change.agreement->agreement),
        change.agreement->sqnr_db ? format_decibels(*change.agreement->sqnr_db) : "");
  return table.to_text(style);
}

void write_json(const ModelChange& change, JsonWriter& json) {
  json.field("latency_input", change.input).key("before");
  write_figures(change.before, json);
  json.key("after");
  write_figures(change.after, json);
  if (!change.agreement) return;
  json.key("agreement").begin_object().field("agreement", change.agreement->agreement);
  if (change.agreement->sqnr_db) json.field("sqnr_db", *change.agreement->sqnr_db);
  json.end_object();
}

Result<fs::path> model_path(const fs::path& path) {
  std::error_code ignored;
  auto file = fs::is_directory(path, ignored) ? path / "model.onnx" : path;
  if (!fs::exists(file, ignored))
    return fail(ErrorCode::kNotFound,
                "no model '" + file.string() + "': give a model.onnx or the folder that holds it");
  return file;
}

Result<void> check_output_path(const fs::path& in, const fs::path& out,
                               std::initializer_list<fs::path> read_besides) {
  std::error_code ignored;
  if (fs::equivalent(in, out, ignored))
    return fail(ErrorCode::kInvalidArgument,
                "'" + out.string() + "' is the model itself: name another file to write");
  for (const auto& path : read_besides)
    if (fs::equivalent(path, out, ignored) ||
        fs::weakly_canonical(path, ignored) == fs::weakly_canonical(out, ignored))
      return fail(ErrorCode::kInvalidArgument,
                  "'" + out.string() + "' is read or written as well: name another file to write");
  if (out.has_parent_path() && !fs::is_directory(out.parent_path(), ignored))
    return fail(ErrorCode::kNotFound, "no folder '" + out.parent_path().string() + "' to write '" +
                                          out.string() + "' into");
  // Whether it may be written shows a file begun and given up.
  SELVAGE_RETURN_IF_ERROR(AtomicFile::create(out));
  return {};
}

}  // namespace selvage::cli
