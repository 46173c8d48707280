#include "compress/optimize_journal.h"

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json_writer.h"
#include "base/system_error.h"

namespace selvage::compress {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kRecordBytesMax = 64u << 10;
constexpr std::size_t kNameDigits = 24;  // 96 bits of a digest.
constexpr std::size_t kSettingsDigits = 12;

/// Everything that makes a recipe, and nothing that only describes it.
std::string canonical(const Recipe& recipe) {
  JsonWriter json;
  json.begin_object().field("kind", to_string(recipe.kind));
  json.field("per_channel", recipe.per_channel).field("activations", to_string(recipe.activations));
  json.field("calibration", to_string(recipe.calibration)).list("types", recipe.types);
  json.list("float_nodes", recipe.float_nodes).field("macs", recipe.macs);
  json.field("connected", recipe.connected);
  json.field("equalized", recipe.equalized).field("bias_corrected", recipe.bias_corrected);
  json.field("smoothed", recipe.smoothed).field("bits", recipe.bits);
  json.field("computes_in_16_bits", recipe.computes_in_16_bits);
  return json.end_object().text();
}

void write_figures(const Figures& figures, JsonWriter& json) {
  json.begin_object().field("quality", figures.quality);
  json.field("p50_ms", figures.latency.p50_ms).field("p99_ms", figures.latency.p99_ms);
  json.field("original_p50_ms", figures.latency.original_p50_ms);
  json.field("ratio", figures.latency.ratio).field("ratio_low", figures.latency.ratio_low);
  json.field("ratio_high", figures.latency.ratio_high).field("file_bytes", figures.file_bytes);
  json.field("resident_bytes", figures.resident_bytes).end_object();
}

std::optional<double> number(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

std::optional<std::uint64_t> count(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_unsigned()) return std::nullopt;
  return found->get<std::uint64_t>();
}

/// Nothing unless all figures are there.
std::optional<Figures> read_figures(const nlohmann::json& object) {
  const auto quality = number(object, "quality"), p50 = number(object, "p50_ms"),
             p99 = number(object, "p99_ms"), original = number(object, "original_p50_ms"),
             ratio = number(object, "ratio"), low = number(object, "ratio_low"),
             high = number(object, "ratio_high");
  const auto file = count(object, "file_bytes"), resident = count(object, "resident_bytes");
  if (!quality || !p50 || !p99 || !original || !ratio || !low || !high || !file || !resident)
    return std::nullopt;
  return Figures{.quality = *quality,
                 .latency = {.p50_ms = *p50,
                             .p99_ms = *p99,
                             .original_p50_ms = *original,
                             .ratio = *ratio,
                             .ratio_low = *low,
                             .ratio_high = *high},
                 .file_bytes = *file,
                 .resident_bytes = *resident};
}

bool belongs_to(const fs::path& file, const std::string& prefix) {
  return file.filename().string().starts_with(prefix);
}

/// Errors do not matter: what is left over is small, and found again by nobody.
void remove_files(const fs::path& folder, const std::string& prefix, bool models_only) {
  std::error_code ignored;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (belongs_to(entry.path(), prefix) && !(models_only && entry.path().extension() == ".json"))
      files.push_back(entry.path());
  for (const auto& file : files) fs::remove(file, ignored);
}

}  // namespace

Result<Journal> Journal::open(const fs::path& folder, const crypto::Digest& settings) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return system_error("create the folder", folder, error.value());
  return Journal(folder, settings);
}

std::string Journal::name_of(const Recipe& recipe) const {
  const auto digest = crypto::sha256(settings_.hex() + canonical(recipe));
  return settings_.hex().substr(0, kSettingsDigits) + "-" + digest.hex().substr(0, kNameDigits);
}

fs::path Journal::model_of(const Recipe& recipe) const {
  return folder_ / (name_of(recipe) + ".onnx");
}

Record Journal::find(const Recipe& recipe) const {
  const auto text = read_text(folder_ / (name_of(recipe) + ".json"), kRecordBytesMax);
  if (!text) return {};
  const auto object = nlohmann::json::parse(*text, nullptr, false);
  if (!object.is_object()) return {};
  Record record{.failure = {},
                .quality = number(object, "quality"),
                .output_error = number(object, "output_error"),
                .figures = {}};
  if (const auto found = object.find("failure"); found != object.end() && found->is_string())
    record.failure = found->get<std::string>();
  if (const auto found = object.find("figures"); found != object.end() && found->is_object())
    record.figures = read_figures(*found);
  return record;
}

Result<void> Journal::keep(const Recipe& recipe, const Record& record) const {
  JsonWriter json;
  json.begin_object().field("recipe", describe(recipe));  // For the curious.
  if (!record.failure.empty()) json.field("failure", record.failure);
  if (record.quality) json.field("quality", *record.quality);
  if (record.output_error) json.field("output_error", *record.output_error);
  if (record.figures) {
    json.key("figures");
    write_figures(*record.figures, json);
  }
  return write_atomically(folder_ / (name_of(recipe) + ".json"), json.end_object().text() + "\n");
}

void Journal::forget_model(const Recipe& recipe) const {
  remove_files(folder_, name_of(recipe) + ".", true);
}

void Journal::clear() const {
  remove_files(folder_, settings_.hex().substr(0, kSettingsDigits) + "-", false);
  std::error_code ignored;
  fs::remove(folder_, ignored);  // Does nothing to a folder that is not empty.
}

}  // namespace selvage::compress
