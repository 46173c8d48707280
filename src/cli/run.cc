// `selvage run`: a model on files, and what it found.
#include <algorithm>

#include <CLI/CLI.hpp>

#include "base/histogram.h"
#include "base/json_writer.h"
#include "base/utf8.h"
#include "cli/command.h"
#include "cli/describe.h"
#include "cli/draw_target.h"
#include "cli/input_file.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/subject.h"
#include "infer/prediction_json.h"
#include "media/picture.h"

namespace selvage::cli {
namespace {

using infer::Stage;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

struct RunFlags {
  std::string model;
  std::vector<std::string> inputs;
  std::optional<std::string> draw;
  std::uint64_t limit = 0;
  SessionFlags session;
};

Result<media::Picture> picture_of(const infer::Input& input, const infer::Prediction& found) {
  if (const auto* view = std::get_if<media::PictureView>(&input)) {
    SELVAGE_TRY(auto picture, media::copy_as_rgb(*view));
    draw(found, picture);
    return picture;
  }
  const auto* sound = std::get_if<infer::SoundView>(&input);
  const auto* activity = std::get_if<infer::Activity>(&found);
  if (!sound || !activity)
    return fail(ErrorCode::kInvalidArgument,
                "--draw: only pictures, video and what is heard in a sound can be drawn");
  return draw_sound(*activity, media::Sound{static_cast<int>(sound->sample_rate),
                                            {sound->samples.begin(), sound->samples.end()}});
}

/// One prediction with its times.
struct Outcome {
  const std::string& path;
  const Sample& sample;
  infer::Prediction found;
  StageSums stages;
  nanoseconds total{};  ///< From the decoded input to the prediction.
  std::string drawn;    ///< Where its picture went, or "".

  [[nodiscard]] nanoseconds per_run(nanoseconds time) const {
    return time / static_cast<std::int64_t>(std::max<std::uint64_t>(stages.runs, 1));
  }
  /// What must stay below the line: of a sound each window, else everything.
  [[nodiscard]] nanoseconds latency() const { return windows() > 1 ? per_run(total) : total; }
  [[nodiscard]] std::uint64_t windows() const {
    return std::holds_alternative<infer::SoundView>(sample.input) ? stages.runs : 1;
  }
};

std::string times_line(const Outcome& outcome, const Style& style) {
  const bool many = outcome.windows() > 1;
  const auto shown = [&](Stage stage) {
    const auto time = outcome.stages.of(stage);
    return format_duration(many ? outcome.per_run(time) : time);
  };
  std::string text = "    decode " + format_duration(outcome.sample.decode_time) + " | ";
  if (many) text += format_plural(outcome.windows(), "window") + ", each ";
  text += "preprocess " + shown(Stage::kPreprocess) + ", run " + shown(Stage::kRun) +
          ", postprocess " + shown(Stage::kPostprocess) + ", total " +
          format_duration(outcome.latency());
  const bool under = outcome.latency() <= kLatencyLine;
  return style(Tone::kDim, text) + " " +
         style(under ? Tone::kGood : Tone::kCaution, under ? "(under 10 ms)" : "(over 10 ms)") +
         "\n";
}

std::string shown_name(const std::string& path) {
  return printable(std::filesystem::path(path).filename().string());
}

std::string outcome_text(const Outcome& outcome, const Style& style) {
  const auto& sample = outcome.sample;
  std::string text = style(Tone::kBold, shown_name(outcome.path));
  if (!sample.place.empty()) text += ", " + sample.place;
  text += style(Tone::kDim, " (" + sample.shown + ")") + ": " + headline(outcome.found) + "\n";
  text += details(outcome.found, style);
  text += times_line(outcome, style);
  if (!outcome.drawn.empty())
    text += style(Tone::kDim, "    drawn into ") + printable(outcome.drawn) + "\n";
  return text;
}

/// Frames of video and rows of tables: one line each.
std::string outcome_line(const Outcome& outcome, const Style& style) {
  return "  " + outcome.sample.place + "  " + headline(outcome.found) + "  " +
         style(Tone::kDim, format_duration(outcome.total)) + "\n";
}

void write_json(const Outcome& outcome, JsonWriter& json) {
  json.begin_object().field("input", outcome.path);
  if (!outcome.sample.place.empty()) json.field("place", outcome.sample.place);
  if (outcome.sample.time_s) json.field("time_s", *outcome.sample.time_s);
  json.field("summary", headline(outcome.found)).key("found");
  infer::write_json(outcome.found, json);
  json.field("windows", outcome.windows()).key("milliseconds").begin_object();
  json.field("decode", to_milliseconds(outcome.sample.decode_time));
  json.field("preprocess", to_milliseconds(outcome.stages.of(Stage::kPreprocess)));
  json.field("run", to_milliseconds(outcome.stages.of(Stage::kRun)));
  json.field("postprocess", to_milliseconds(outcome.stages.of(Stage::kPostprocess)));
  json.field("total", to_milliseconds(outcome.total)).end_object();
  json.field("under_10_ms", outcome.latency() <= kLatencyLine);
  if (!outcome.drawn.empty()) json.field("drawn", outcome.drawn);
  json.end_object();
}

class Runner {
 public:
  Runner(const RunFlags& flags, Output& output) : flags_(flags), output_(output) {}

  Result<void> run() {
    SELVAGE_RETURN_IF_ERROR(prepare_drawing());
    SELVAGE_TRY(const auto options, flags_.session.to_model_options());
    SELVAGE_TRY(const auto runtime, infer::Runtime::create());
    std::optional<Progress> loading(std::in_place, output_, "loading " + flags_.model, 0);
    SELVAGE_TRY(const auto subject, Subject::load(*runtime, flags_.model, options));
    SELVAGE_TRY(auto predictor, SubjectPredictor::create(subject));
    loading.reset();
    json_.begin_object().key("model").begin_object().field("name", subject.name());
    json_.field("version", subject.first_model().version()).field("path", flags_.model);
    json_.end_object().key("results").begin_array();
    for (const auto& path : flags_.inputs) {
      if (auto done = run_file(path, subject, predictor); !done) {
        if (flags_.inputs.size() == 1 && answers_ == 0) return done;
        report_failure(path, "", done.error());
        ++failures_;
      }
      if (interrupted()) break;
    }
    json_.end_array().end_object();
    if (output_.json()) output_.print(json_.text() + "\n");
    if (failures_ == 0) return {};
    return fail(ErrorCode::kInvalidArgument, std::to_string(failures_) + " of " +
                                                 std::to_string(flags_.inputs.size()) +
                                                 " inputs failed");
  }

 private:
  Result<void> prepare_drawing() {
    if (!flags_.draw) return {};
    SELVAGE_TRY(auto target, DrawTarget::create(*flags_.draw, flags_.inputs));
    draw_.emplace(std::move(target));
    return flags_.inputs.size() > 1 ? draw_->expect_several() : Result<void>();
  }

  /// One bad file, or row, of many does not cost the answers for the others.
  void report_failure(const std::string& path, const std::string& place, const Error& error) {
    output_.note(error.message);
    if (!output_.json()) return;
    json_.begin_object().field("input", path);
    if (!place.empty()) json_.field("place", place);
    json_.key("error")
        .begin_object()
        .field("code", to_string(error.code))
        .field("message", error.message);
    json_.end_object().end_object();
  }

  Result<void> run_file(const std::string& path, const Subject& subject,
                        SubjectPredictor& predictor) {
    predictor
        .reset();  // Files are streams of their own; a table's rows or a video's frames are one.
    SELVAGE_TRY(const auto file, InputFile::open(path, subject.first_model()));
    const bool many = file->kind() == InputKind::kVideo || file->kind() == InputKind::kTable;
    if (draw_ && many && flags_.limit != 1) SELVAGE_RETURN_IF_ERROR(draw_->expect_several());
    const auto style = output_.style();
    Histogram totals;
    std::uint64_t rows_failed = 0;
    bool titled = false;
    for (std::uint64_t i = 0; !interrupted() && (flags_.limit == 0 || i < flags_.limit); ++i) {
      SELVAGE_TRY(const auto sample, file->next());
      if (!sample) break;
      auto outcome = predict(path, *sample, subject, predictor);
      if (!outcome) {
        if (file->kind() != InputKind::kTable) return std::unexpected(std::move(outcome).error());
        report_failure(path, sample->place, outcome.error());
        ++rows_failed;
        continue;
      }
      if (many && !output_.json() && !std::exchange(titled, true))
        output_.print(style(Tone::kBold, shown_name(path)) +
                      style(Tone::kDim, " (" + sample->shown + ")") + "\n");
      totals.record(outcome->total);
      ++answers_;
      if (output_.json())
        write_json(*outcome, json_);
      else
        output_.print(many ? outcome_line(*outcome, style) : outcome_text(*outcome, style));
    }
    if (many && !output_.json()) print_totals(totals.snapshot());
    if (rows_failed == 0) return {};
    return fail(ErrorCode::kInvalidArgument,
                path + ": " + format_plural(rows_failed, "row") + " failed");
  }

  Result<Outcome> predict(const std::string& path, const Sample& sample, const Subject& subject,
                          SubjectPredictor& predictor) {
    const auto before = StageSums::of(subject);
    const auto start = steady_clock::now();
    auto found = predictor.predict(sample.input);
    const nanoseconds total = steady_clock::now() - start;
    if (!found)
      return std::unexpected(std::move(found).error().with_context(
          sample.place.empty() ? path : path + ", " + sample.place));
    Outcome outcome{path,  sample, *std::move(found), StageSums::of(subject).since(before),
                    total, ""};
    if (draw_) {
      SELVAGE_TRY(const auto picture, picture_of(sample.input, outcome.found));
      SELVAGE_TRY(const auto drawn, draw_->save(picture, path));
      outcome.drawn = drawn.string();
    }
    return outcome;
  }

  void print_totals(const HistogramSnapshot& totals) {
    if (totals.count == 0) return;
    const auto at = [&](double part) {
      return format_duration(nanoseconds(static_cast<std::int64_t>(totals.percentile_ns(part))));
    };
    output_.print(output_.style()(Tone::kDim, "  " + format_plural(totals.count, "prediction") +
                                                  ": p50 " + at(0.5) + ", p99 " + at(0.99) +
                                                  ", max " + at(1)) +
                  "\n");
  }

  const RunFlags& flags_;
  Output& output_;
  std::size_t answers_ = 0, failures_ = 0;
  JsonWriter json_;
  std::optional<DrawTarget> draw_;
};

Action add(CLI::App& app) {
  auto flags = std::make_shared<RunFlags>();
  app.add_option("MODEL", flags->model,
                 "A model.onnx, an ensemble.yaml, or the folder that holds one of them")
      ->required();
  app.add_option(
         "INPUT", flags->inputs,
         "Pictures (JPEG, PNG, PNM), sound (WAV), tables (CSV), arrays (NPY, NPZ) or video; "
         "- is standard input, and any pipe is read to its end")
      ->required();
  app.add_option(
         "--draw", flags->draw,
         "Draw what was found: into a .png or .jpg file, or, where there are several pictures "
         "(inputs, frames), into a folder")
      ->type_name("PATH");
  app.add_option("--limit", flags->limit, "Stop after N frames or rows of each input")
      ->type_name("N")
      ->check(whole_in_range(1, 1'000'000'000'000));
  add_session_options(app, flags->session);
  add_json_option(app);
  return [flags](Output& output) { return Runner(*flags, output).run(); };
}

constexpr Command kCommand{
    .name = "run",
    .summary = "Run a model on pictures, sound, tables, arrays or video",
    .description =
        "Prints what the model found and how long it took. The model card (model.yaml beside "
        "model.onnx) says how the input becomes tensors and what the output means; without a "
        "card the model takes arrays, and its raw outputs are summarised.\n\n"
        "Times are those of one prediction on a model that is warm; decoding the file is shown "
        "apart, since cameras and microphones deliver decoded data.",
    .examples =
        "selvage run blazeface/ photo.jpg\n"
        "selvage run blazeface/ photo.jpg --draw found.png\n"
        "selvage run ppocr/ensemble.yaml sign1.jpg sign2.jpg --draw drawn/\n"
        "selvage run silero-vad/ speech.wav --json\n"
        "selvage run blazeface/ street.mp4 --limit 100\n"
        "selvage run model.onnx inputs.npz --threads 2",
    .add = add};

}  // namespace

const Command& run_command() {
  return kCommand;
}

}  // namespace selvage::cli
