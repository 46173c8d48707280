#include "infer/ensemble.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "base/file.h"
#include "infer/yaml.h"

namespace selvage::infer {
namespace {

constexpr std::string_view kPicture = "picture";
constexpr std::string_view kCropsOf = "crops of ";

/// A line of text that is so much higher than wide is read from bottom to top (PaddleOCR's
/// get_rotate_crop_image).
constexpr double kUprightMin = 1.5;

EnsembleStep read_step(const std::string& name, const YamlNode& node, YamlErrors& errors) {
  YamlFields fields(node, "steps." + name, errors);
  EnsembleStep step{.name = name, .model = {}, .crops_of = {}};
  std::string model, input(kPicture);
  fields.text("model", model);
  fields.text("input", input);
  fields.finish();
  step.model = model;
  if (model.empty()) fields.fail_at("model", "every step needs a model");
  if (input.starts_with(kCropsOf))
    step.crops_of = input.substr(kCropsOf.size());
  else if (input != kPicture)
    fields.fail_at("input", "must be 'picture' or 'crops of STEP'");
  return step;
}

/// What the steps' inputs make of them: one detector, the others on its crops.
void check_graph(const YamlNode& steps, EnsembleCard& card, YamlErrors& errors) {
  std::map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < card.steps.size(); ++i) index[card.steps[i].name] = i;
  const auto complain = [&](std::size_t step, const std::string& problem) {
    errors.add(steps.items[step].line, "steps." + card.steps[step].name, problem);
  };
  for (std::size_t i = 0; i < card.steps.size(); ++i) {
    const auto& wanted = card.steps[i].crops_of;
    if (wanted.empty() || index.contains(wanted)) continue;
    const auto nearest = nearest_name(wanted, steps.keys);
    complain(i, "there is no step '" + wanted + "'" +
                    (nearest ? "; did you mean '" + std::string(*nearest) + "'?" : ""));
  }
  if (errors.any()) return;
  for (std::size_t i = 0; i < card.steps.size(); ++i) {
    std::size_t at = i, walked = 0;
    while (!card.steps[at].crops_of.empty() && walked <= card.steps.size()) {
      at = index[card.steps[at].crops_of];
      ++walked;
    }
    if (walked > card.steps.size()) return complain(i, "its input depends on itself");
    if (walked > 1)
      return complain(i, "crops of crops are not supported: take crops of '" + card.steps[at].name +
                             "', which sees the whole picture");
  }
  const auto sees_picture = [](const EnsembleStep& step) { return step.crops_of.empty(); };
  if (std::ranges::count_if(card.steps, sees_picture) != 1)
    errors.add(steps.line, "steps", "exactly one step must take the picture");
  std::ranges::stable_partition(card.steps, sees_picture);
}

media::Quad quad_of(const Box& box) {
  const double left = box.left, top = box.top, right = box.right, bottom = box.bottom;
  return {media::Point{left, top}, {right, top}, {right, bottom}, {left, bottom}};
}

media::Quad quad_of(const TextRegion& region) {
  media::Quad quad;
  std::ranges::transform(region.corners, quad.begin(), [](const Point& corner) {
    return media::Point{static_cast<double>(corner.x), static_cast<double>(corner.y)};
  });
  const auto [width, height] = media::size_of(quad);
  if (height >= width * kUprightMin) std::ranges::rotate(quad, quad.begin() + 1);
  return quad;
}

/// Cutting a region at the picture's border may leave a triangle or a line, which is no crop.
bool is_crop(const media::Quad& quad) {
  constexpr double kAreaMin = 1;  // Twice the area of each corner's triangle, in pixels.
  const auto turns_right = [&](std::size_t i) {
    const auto& [p, q, r] = std::tie(quad[i], quad[(i + 1) % 4], quad[(i + 2) % 4]);
    return (q.x - p.x) * (r.y - q.y) - (q.y - p.y) * (r.x - q.x) > kAreaMin;
  };
  return turns_right(0) && turns_right(1) && turns_right(2) && turns_right(3);
}

// Nothing where no class reached its threshold.
std::optional<Detail> detail_of(const std::string& step, Prediction&& prediction) {
  if (auto* text = std::get_if<Text>(&prediction))
    return Detail{step, {.index = 0, .score = text->confidence, .label = std::move(text->text)}};
  auto& classes = std::get<Classification>(prediction).classes;
  if (classes.empty()) return std::nullopt;
  return Detail{step, std::move(classes.front())};
}

void merge(const std::string& step, Prediction&& prediction, Box& box) {
  if (auto detail = detail_of(step, std::move(prediction)))
    box.details.push_back(*std::move(detail));
}

void merge(const std::string&, Prediction&& prediction, TextRegion& region) {
  if (auto* text = std::get_if<Text>(&prediction)) {
    region.text = std::move(text->text);
    region.confidence = text->confidence;
  }
}

template <typename Regions>
Result<void> look_at(Regions& regions, const media::PictureView& picture, const std::string& step,
                     Predictor& predictor, std::vector<media::Quad>& crops) {
  crops.clear();
  for (const auto& region : regions) crops.push_back(quad_of(region));
  SELVAGE_TRY(auto predictions, predictor.predict_crops(picture, crops));
  for (std::size_t i = 0; i < predictions.size(); ++i)
    merge(step, std::move(predictions[i]), regions[i]);
  return {};
}

Result<void> check_models(const EnsembleCard& card, std::span<const Ensemble::Step> steps) {
  const auto complain = [](const std::string& step, std::string_view problem) {
    return fail(ErrorCode::kInvalidArgument, "step '" + step + "': " + std::string(problem));
  };
  const auto& found = steps[0].model->card().output;
  const bool text = std::holds_alternative<TextRegionsOutput>(found);
  if (!text && !std::holds_alternative<BoxesOutput>(found))
    return complain(card.steps[0].name, "its model's card must say boxes or text-regions");
  for (const auto& step : steps.subspan(1)) {
    const auto& output = step.model->card().output;
    if (std::holds_alternative<CtcTextOutput>(output)) continue;
    if (text)
      return complain(step.name, "text regions can only be read: its card must say ctc-text");
    if (!std::holds_alternative<ClassificationOutput>(output))
      return complain(step.name, "its model's card must say classification or ctc-text");
  }
  return {};
}

}  // namespace

Result<EnsembleCard> parse_ensemble_card(std::string_view yaml) {
  SELVAGE_TRY(const YamlNode root, parse_yaml(yaml, kCardBytesMax));
  YamlErrors errors;
  YamlFields fields(root, "", errors);
  EnsembleCard card;
  fields.text("name", card.name);
  fields.text("description", card.description);
  const auto* steps = fields.find("steps");
  fields.finish();
  if (!steps || steps->kind != YamlNode::Kind::kMap || steps->keys.empty())
    fields.fail_at("steps", "an ensemble needs named steps");
  SELVAGE_RETURN_IF_ERROR(errors.result());
  if (steps->keys.size() > kEnsembleStepsMax)
    fields.fail_at("steps", "more than " + std::to_string(kEnsembleStepsMax) + " steps");
  SELVAGE_RETURN_IF_ERROR(errors.result());
  for (std::size_t i = 0; i < steps->keys.size(); ++i)
    card.steps.push_back(read_step(steps->keys[i], steps->items[i], errors));
  if (!errors.any()) check_graph(*steps, card, errors);
  SELVAGE_RETURN_IF_ERROR(errors.result());
  return card;
}

Result<std::unique_ptr<Ensemble>> Ensemble::load(Runtime& runtime,
                                                 const std::filesystem::path& path,
                                                 const ModelOptions& options) {
  if (!options.overrides.dimensions.empty())
    return fail(ErrorCode::kInvalidArgument,
                "dimensions cannot be fixed for all models of an ensemble: each model's card does "
                "that (session: {dimensions: {NAME: N}})");
  std::error_code error;
  const auto file = std::filesystem::is_directory(path, error) ? path / "ensemble.yaml" : path;
  const auto in_file = [&](Error e) {
    return std::unexpected(std::move(e).with_context(file.string()));
  };
  SELVAGE_TRY(const auto text, read_text(file, kCardBytesMax));
  auto card = parse_ensemble_card(text);
  if (!card) return in_file(std::move(card).error());
  std::unique_ptr<Ensemble> ensemble(new Ensemble);
  ensemble->card_ = *std::move(card);
  if (ensemble->card_.name.empty())
    ensemble->card_.name = std::filesystem::absolute(file, error).parent_path().filename().string();
  const ModelOptions each{
      .name = {}, .version = {}, .session = options.session, .overrides = options.overrides};
  for (const auto& step : ensemble->card_.steps) {
    auto model = Model::load(runtime, file.parent_path() / step.model, each);
    if (!model) return in_file(std::move(model).error().with_context("step '" + step.name + "'"));
    ensemble->steps_.push_back({step.name, *std::move(model)});
  }
  if (auto checked = check_models(ensemble->card_, ensemble->steps_); !checked)
    return in_file(std::move(checked).error());
  return ensemble;
}

Result<std::unique_ptr<EnsemblePredictor>> EnsemblePredictor::create(const Ensemble& ensemble) {
  std::unique_ptr<EnsemblePredictor> predictor(new EnsemblePredictor(ensemble));
  for (const auto& step : ensemble.steps()) {
    SELVAGE_TRY(auto each, Predictor::create(*step.model));
    predictor->predictors_.push_back(std::move(each));
  }
  return predictor;
}

Result<Prediction> EnsemblePredictor::predict(const media::PictureView& picture) {
  const auto steps = ensemble_.steps();
  SELVAGE_TRY(auto prediction, predictors_[0]->predict(picture));
  const auto no_crop = [](const auto& region) { return !is_crop(quad_of(region)); };
  auto* boxes = std::get_if<Boxes>(&prediction);
  auto* texts = std::get_if<TextRegions>(&prediction);
  if (boxes) std::erase_if(boxes->boxes, no_crop);
  if (texts) std::erase_if(texts->regions, no_crop);
  for (std::size_t i = 1; i < steps.size(); ++i) {
    const auto looked =
        boxes ? look_at(boxes->boxes, picture, steps[i].name, *predictors_[i], crops_)
              : look_at(texts->regions, picture, steps[i].name, *predictors_[i], crops_);
    if (!looked)
      return std::unexpected(Error(looked.error()).with_context("step '" + steps[i].name + "'"));
  }
  return prediction;
}

}  // namespace selvage::infer
