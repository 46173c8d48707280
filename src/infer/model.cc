#include "infer/model.h"

#include <algorithm>

#include "base/system_error.h"

namespace selvage::infer {
namespace {

constexpr std::size_t kNamesMax = 5;  // That a message lists.

/// "; name one of a.onnx, b.onnx", or "" where there is none.
std::string other_models(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(folder, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error))
    if (it->path().extension() == ".onnx") names.push_back(it->path().filename().string());
  std::ranges::sort(names);
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesMax); ++i)
    text += (i == 0 ? "; name the file: " : ", ") + names[i];
  return text + (names.size() > kNamesMax ? ", ..." : "");
}

std::string name_from(const std::filesystem::path& file) {
  if (file.stem() != "model") return file.stem().string();
  std::error_code error;
  const auto folder = std::filesystem::absolute(file, error).parent_path().filename().string();
  return folder.empty() ? "model" : folder;
}

}  // namespace

std::int64_t usual_side(const ModelCard& card) {
  constexpr int kSide = 640;
  const auto* image = std::get_if<ImageInput>(&card.input.kind);
  if (image == nullptr) return 0;
  const int side = std::min(kSide, image->max_side);
  return std::int64_t{std::max(side / image->multiple_of, 1)} * image->multiple_of;
}

std::string_view to_string(Stage stage) {
  switch (stage) {
    case Stage::kPreprocess: return "preprocess";
    case Stage::kRun: return "run";
    case Stage::kPostprocess: return "postprocess";
    case Stage::kTotal: break;
  }
  return "total";
}

Result<std::filesystem::path> find_model_file(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return path;
  auto file = path / "model.onnx";
  if (std::filesystem::exists(file, error)) return file;
  if (error) return system_error("open", file, error.value());
  return fail(ErrorCode::kNotFound,
              "no model.onnx in the folder '" + path.string() + "'" + other_models(path));
}

Result<std::unique_ptr<Model>> Model::load(Runtime& runtime, const std::filesystem::path& path,
                                           const ModelOptions& options) {
  SELVAGE_TRY(const auto file, find_model_file(path));
  std::unique_ptr<Model> model(new Model);
  SELVAGE_TRY(model->card_,
              load_model_card(options.card_beside.empty() ? file : options.card_beside));
  auto session = options.session;
  model->card_.session.apply_to(session);
  options.overrides.apply_to(session);
  if (session.usual_side == 0) session.usual_side = usual_side(model->card_);
  SELVAGE_TRY(model->session_, Session::load(runtime, file, session));
  model->name_ = !options.name.empty()        ? options.name
                 : !model->card_.name.empty() ? model->card_.name
                                              : name_from(file);
  model->version_ = options.version.empty() ? "1" : options.version;
  return model;
}

}  // namespace selvage::infer
