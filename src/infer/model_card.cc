#include "infer/model_card.h"

#include "base/file.h"
#include "infer/card_sections.h"
#include "infer/yaml.h"

namespace selvage::infer {
namespace {

constexpr double kThreadsMax = 256;
constexpr double kSpinUsMax = 1e6;
constexpr double kDimensionMax = 1e9;

/// Whether model.yaml beside `model` describes it.
bool owns_common_card(const std::filesystem::path& model) {
  if (model.filename() == "model.onnx") return true;
  const auto folder = model.has_parent_path() ? model.parent_path() : std::filesystem::path(".");
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(folder, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error))
    if (it->path().extension() == ".onnx" && it->path().filename() != model.filename())
      return false;
  return true;
}

}  // namespace

void SessionSettings::apply_to(SessionOptions& options) const {
  if (optimization) options.optimization = *optimization;
  if (providers) options.providers = *providers;
  if (power) options.power = *power;
  if (threads) options.threads = *threads;
  if (spin_us) options.spin_us = spin_us;
  if (arena) options.arena = *arena;
  if (flush_denormals) options.flush_denormals = *flush_denormals;
  for (const auto& dimension : dimensions) {
    const auto known = std::ranges::find(options.dimensions, dimension.first,
                                         &std::pair<std::string, std::int64_t>::first);
    if (known != options.dimensions.end())
      known->second = dimension.second;
    else
      options.dimensions.push_back(dimension);
  }
  options.config.insert(options.config.end(), config.begin(), config.end());
}

Result<ModelCard> parse_model_card(std::string_view yaml, const std::filesystem::path& folder) {
  SELVAGE_TRY(const YamlNode root, parse_yaml(yaml, kCardBytesMax));
  YamlErrors errors;
  YamlFields fields(root, "", errors);
  ModelCard card;
  fields.text("name", card.name);
  fields.text("description", card.description);
  fields.text("licence", card.licence);
  fields.text("source", card.source);
  if (const auto* session = fields.find("session"))
    card.session = read_session_section(*session, errors);
  if (const auto* input = fields.find("input")) card.input = read_input_section(*input, errors);
  if (const auto* output = fields.find("output"))
    card.output = read_output_section(*output, folder, errors);
  fields.finish();
  SELVAGE_RETURN_IF_ERROR(errors.result());
  return card;
}

std::optional<std::filesystem::path> find_model_card(const std::filesystem::path& model) {
  std::error_code error;
  auto own = std::filesystem::path(model).replace_extension(".yaml");
  if (std::filesystem::exists(own, error)) return own;
  auto common = model.parent_path() / "model.yaml";
  if (std::filesystem::exists(common, error) && owns_common_card(model)) return common;
  return std::nullopt;
}

Result<ModelCard> load_model_card(const std::filesystem::path& model) {
  const auto path = find_model_card(model);
  if (!path) return ModelCard{};
  SELVAGE_TRY(const auto text, read_text(*path, kCardBytesMax));
  auto card = parse_model_card(text, model.parent_path());
  if (!card) return std::unexpected(std::move(card).error().with_context(path->string()));
  return card;
}

SessionSettings read_session_section(const YamlNode& node, YamlErrors& errors) {
  SessionSettings settings;
  YamlFields fields(node, "session", errors);
  fields.choice("optimization", settings.optimization,
                {{"none", Optimization::kNone},
                 {"basic", Optimization::kBasic},
                 {"extended", Optimization::kExtended},
                 {"all", Optimization::kAll}});
  fields.choice("power", settings.power,
                {{"latency", PowerProfile::kLatency},
                 {"balanced", PowerProfile::kBalanced},
                 {"low-power", PowerProfile::kLowPower}});
  fields.choice("arena", settings.arena, {{"grow", Arena::kGrowAsNeeded}, {"none", Arena::kNone}});
  if (fields.find("providers")) fields.texts("providers", settings.providers.emplace());
  fields.flag("flush_denormals", settings.flush_denormals);
  fields.number("threads", settings.threads, 0, kThreadsMax);
  fields.number("spin_us", settings.spin_us, 0, kSpinUsMax);
  if (const auto* dimensions = fields.find("dimensions")) {
    YamlFields sizes(*dimensions, "session.dimensions", errors);
    for (const auto& name : dimensions->keys) {
      std::int64_t size = 1;
      sizes.number(name, size, 1, kDimensionMax);
      settings.dimensions.emplace_back(name, size);
    }
  }
  if (const auto* config = fields.find("config")) {
    YamlFields entries(*config, "session.config", errors);
    for (const auto& key : config->keys)
      entries.text(key, settings.config.emplace_back(key, "").second);
  }
  fields.finish();
  return settings;
}

}  // namespace selvage::infer
