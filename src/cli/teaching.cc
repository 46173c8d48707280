#include "cli/teaching.h"

#include <functional>

#include "cli/interrupt.h"
#include "cli/model_change.h"
#include "cli/progress.h"
#include "compress/evaluate.h"
#include "graph/sort.h"
#include "infer/cache.h"
#include "infer/model.h"

namespace selvage::cli {
namespace {

constexpr std::size_t kBatch = 64;

/// A teacher and the same samples as it sees them.
struct Teacher {
  std::unique_ptr<infer::Model> model;
  std::unique_ptr<infer::Dataset> data;

  static Result<Teacher> open(infer::Runtime& runtime, const std::string& path,
                              const Lesson& lesson) {
    Teacher teacher;
    SELVAGE_TRY(teacher.model,
                infer::Model::load(runtime, path, {.session = {.threads = lesson.threads}}));
    SELVAGE_TRY(teacher.data, lesson.flags.open(*teacher.model, infer::Part::kTrain));
    if (teacher.data->size() != lesson.data.size())
      return fail(ErrorCode::kInvalidArgument,
                  "teacher '" + path + "' finds " + std::to_string(teacher.data->size()) +
                      " samples in the data, the student " + std::to_string(lesson.data.size()));
    SELVAGE_RETURN_IF_ERROR(teacher.check_labels(path, lesson.data));
    return teacher;
  }

  /// Cards number the classes: were they numbered differently, the student would learn one class
  /// under another's name.
  [[nodiscard]] Result<void> check_labels(const std::string& path,
                                          const infer::Dataset& students) const {
    if (students.target_kind() != infer::TargetKind::kClass ||
        data->target_kind() != infer::TargetKind::kClass)
      return {};
    for (std::size_t i = 0; i < data->size(); ++i)
      if (data->label(i) != students.label(i))
        return fail(ErrorCode::kInvalidArgument,
                    students.place(i) + " is class " + std::to_string(data->label(i)) +
                        " to teacher '" + path + "' and class " +
                        std::to_string(students.label(i)) +
                        " to the student: give both cards the same labels");
    return {};
  }
};

Result<learn::TeacherOutputs> ask_teacher(infer::Runtime& runtime, const std::string& path,
                                          const Lesson& lesson, Output& output) {
  SELVAGE_TRY(const auto teacher, Teacher::open(runtime, path, lesson));
  Progress progress(output, "asking " + path, lesson.data.size());
  auto found = compress::collect_outputs(
      *teacher.model, *teacher.data, {.batch = kBatch, .samples = {}, .progress = [&](auto done) {
                                        progress.set(done);
                                        return !interrupted();
                                      }});
  if (!found) return std::unexpected(std::move(found).error().with_context(path));
  learn::TeacherOutputs outputs{.width = found->width, .values = std::move(found->values)};
  learn::to_logits(outputs);
  return outputs;
}

/// Of the data and the teachers' files, their cards included: those say what a teacher sees.
Result<crypto::Sha256> key_of(std::span<const std::string> teachers, const Lesson& lesson) {
  crypto::Sha256 sha;
  sha.update(lesson.data.fingerprint().bytes());
  for (const auto& teacher : teachers) {
    SELVAGE_TRY(const auto path, model_path(teacher));
    SELVAGE_TRY(const auto digest, crypto::sha256_file(path));
    sha.update(digest.bytes());
    for (const auto& card : {std::filesystem::path(path).replace_extension(".yaml"),
                             path.parent_path() / "model.yaml"})
      if (const auto found = crypto::sha256_file(card)) sha.update(found->bytes());
  }
  return sha;
}

/// What `ask` says, from the cache where it has been asked before.
Result<learn::TeacherOutputs> remember(const crypto::Digest& key,
                                       const std::function<Result<learn::TeacherOutputs>()>& ask,
                                       Output& output) {
  const auto folder = infer::default_cache_folder();
  if (folder.empty()) return ask();
  const auto file = folder / ("teacher-" + key.hex().substr(0, 32));
  if (auto known = learn::load_teacher(key, file)) return *std::move(known);
  SELVAGE_TRY(auto outputs, ask());
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  if (const auto saved = learn::save_teacher(outputs, key, file); !saved)
    output.note("the teachers' answers were not kept: " + saved.error().message);
  return outputs;
}

}  // namespace

Result<learn::TeacherOutputs> ask_teachers(infer::Runtime& runtime,
                                           std::span<const std::string> teachers,
                                           const Lesson& lesson, Output& output) {
  SELVAGE_TRY(auto sha, key_of(teachers, lesson));
  const auto ask = [&]() -> Result<learn::TeacherOutputs> {
    std::vector<learn::TeacherOutputs> all;
    for (const auto& teacher : teachers) {
      SELVAGE_TRY(auto outputs, ask_teacher(runtime, teacher, lesson, output));
      all.push_back(std::move(outputs));
    }
    return learn::mean_of(all);
  };
  return remember(sha.finish(), ask, output);
}

Result<learn::TeacherOutputs> ask_for_value(infer::Runtime& runtime, const std::string& teacher,
                                            const std::string& value, const Lesson& lesson,
                                            Output& output) {
  SELVAGE_TRY(auto sha, key_of({&teacher, 1}, lesson));
  sha.update(std::as_bytes(std::span(value)));
  const auto ask = [&]() -> Result<learn::TeacherOutputs> {
    SELVAGE_TRY(const auto opened, Teacher::open(runtime, teacher, lesson));
    SELVAGE_TRY(const auto path, model_path(teacher));
    SELVAGE_TRY(const auto graph, graph::load_checked(path));
    const Progress progress(output, "asking " + teacher + " for " + value, 0);
    auto found =
        learn::read_value(runtime, graph, value, *opened.data, lesson.threads, &interrupted);
    if (!found) return std::unexpected(std::move(found).error().with_context(teacher));
    return found;
  };
  return remember(sha.finish(), ask, output);
}

}  // namespace selvage::cli
