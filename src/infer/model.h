// A model with its card: from a picture, a sound or a row to what it means. This is the engine's
// front door; Session is the floor below it.
//
//   SELVAGE_TRY(auto runtime, Runtime::create());
//   SELVAGE_TRY(auto model, Model::load(*runtime, "blazeface/model.onnx"));
//   SELVAGE_TRY(auto predictor, Predictor::create(*model));
//   SELVAGE_TRY(auto found, predictor->predict(picture.view()));
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/histogram.h"
#include "base/result.h"
#include "infer/model_card.h"
#include "infer/prediction.h"
#include "infer/session.h"
#include "media/picture.h"
#include "media/transform.h"

namespace selvage::infer {

/// The stages of one prediction, each timed into its own histogram.
enum class Stage : std::uint8_t { kPreprocess, kRun, kPostprocess, kTotal };
inline constexpr std::size_t kStageCount = 4;
[[nodiscard]] std::string_view to_string(Stage stage);

struct ModelOptions {
  std::string name;                   ///< Empty: the card's, or the folder's.
  std::string version;                ///< Empty: "1".
  SessionOptions session;             ///< What the card's `session` does not say.
  SessionSettings overrides;          ///< Wins over the card: what a person typed.
  std::filesystem::path card_beside;  ///< Look for the card beside this, not beside the model.
};

/// The model file that `path` means: itself, or model.onnx in a folder. kNotFound names the other
/// models in the folder; kPermissionDenied where it may not be looked into.
[[nodiscard]] Result<std::filesystem::path> find_model_file(const std::filesystem::path& path);

/// SessionOptions::usual_side of a model that takes pictures of any size; 0 for other models.
[[nodiscard]] std::int64_t usual_side(const ModelCard& card);

/// Immutable but for its histograms, which are synchronised: shared by any number of threads.
class Model {
 public:
  /// `path` is model.onnx or the folder that holds it; the card is beside it, if there
  /// (load_model_card says where).
  /// Errors name the file, and for a card the line and field.
  [[nodiscard]] static Result<std::unique_ptr<Model>> load(Runtime& runtime,
                                                           const std::filesystem::path& path,
                                                           const ModelOptions& options = {});
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& version() const { return version_; }
  [[nodiscard]] const ModelCard& card() const { return card_; }
  [[nodiscard]] const Session& session() const { return *session_; }
  [[nodiscard]] Histogram& times(Stage stage) const {
    return times_[static_cast<std::size_t>(stage)];
  }

 private:
  Model() = default;
  std::string name_, version_;
  ModelCard card_;
  std::unique_ptr<Session> session_;
  mutable std::array<Histogram, kStageCount> times_;
};

/// A sound: mono samples in [-1, 1]. Whoever makes it keeps the samples alive.
struct SoundView {
  std::span<const float> samples;
  std::uint32_t sample_rate = 0;
};
/// A row of a table, in the card's column order.
struct RowView {
  std::span<const double> values;
};
/// Tensors in the order of the session's inputs, without those that the card lists as `state` or
/// `constants`.
struct TensorsView {
  std::span<const TensorView> tensors;
};
using Input = std::variant<media::PictureView, SoundView, RowView, TensorsView>;

/// One caller's buffers and, for recurrent models, its state. Warm after create(): the model has
/// run once with this predictor's buffers. Confined to one thread at a time; the model must outlive
/// it.
class Predictor {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Predictor>> create(const Model& model);
  ~Predictor();
  Predictor(const Predictor&) = delete;
  Predictor& operator=(const Predictor&) = delete;

  /// kInvalidArgument when the card expects another kind of input, and for a sound without
  /// samples. A sound is taken whole: state is
  /// reset first, then the card's windows slide over it (resampled when its rate differs). Other
  /// inputs carry the card's `state` from call to call, until reset().
  [[nodiscard]] Result<Prediction> predict(const Input& input);

  /// One prediction for each part of the picture, in the same order. Each crop goes from the
  /// picture's own pixels into the input tensor in one pass. Places that a prediction names are
  /// pixels of the straightened crop. Image models only; at most kBoxesMax quads.
  [[nodiscard]] Result<std::vector<Prediction>> predict_crops(const media::PictureView& picture,
                                                              std::span<const media::Quad> crops);

  /// Streams: feeds samples at the card's rate as they arrive and returns the scores of the frames
  /// they completed; state and an unfinished frame are kept for the next call. The scores are valid
  /// until then. Audio models with `activity` output only.
  [[nodiscard]] Result<std::span<const float>> push(std::span<const float> samples);
  void reset();  ///< Forgets state and unfinished frames.

  /// What the model itself gave in the last run, in the order of its outputs; valid until the next
  /// call. Empty before the first.
  [[nodiscard]] std::span<const TensorView> outputs() const;

 private:
  struct State;
  explicit Predictor(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::infer
