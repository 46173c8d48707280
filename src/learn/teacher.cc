#include "learn/teacher.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include <selvage/onnx.pb.h>

#include "base/file.h"
#include "infer/session.h"

namespace selvage::learn {
namespace {

// The file: key, width (8 bytes), values, SHA-256 of all before.
constexpr std::size_t kDigestBytes = crypto::Digest::kSize;
constexpr std::size_t kHeadBytes = kDigestBytes + sizeof(std::uint64_t);

/// The teacher with `value` as its only output.
Result<graph::Model> with_output(const graph::Model& teacher, const std::string& value) {
  auto model = teacher.copy();
  auto& graph = *model.proto().mutable_graph();
  const bool is_made = std::ranges::any_of(graph.node(), [&](const auto& node) {
    return std::ranges::find(node.output(), value) != node.output().end();
  });
  if (!is_made)
    return fail(ErrorCode::kNotFound, "no node of the teacher has an output '" + value + "'");
  graph.clear_output();
  graph.add_output()->set_name(value);
  return model;
}

}  // namespace

Result<TeacherOutputs> read_value(infer::Runtime& runtime, const graph::Model& teacher,
                                  const std::string& value, const infer::Dataset& data, int threads,
                                  const std::function<bool()>& stop) {
  SELVAGE_TRY(const auto model, with_output(teacher, value));
  SELVAGE_TRY(const auto bytes, model.serialise());
  SELVAGE_TRY(const auto session, infer::Session::load(runtime, bytes, {.threads = threads}));
  if (session->outputs()[0].type != DataType::kFloat32 || !data.takes_batches() ||
      data.inputs().size() != session->inputs().size())
    return fail(ErrorCode::kInvalidArgument,
                "'" + value + "' is no float32 value of a teacher that takes batches");
  constexpr std::size_t kBatch = 64;
  TeacherOutputs outputs;
  for (std::size_t first = 0; first < data.size(); first += kBatch) {
    if (stop && stop()) return fail(ErrorCode::kCancelled, "interrupted");
    const auto count = std::min(kBatch, data.size() - first);
    std::vector<std::size_t> samples(count);
    std::iota(samples.begin(), samples.end(), first);
    std::vector<infer::Value> inputs(session->inputs().size());
    std::vector<std::span<std::byte>> spans;
    for (const auto& input : data.inputs()) {
      auto shape = input.shape;
      shape.insert(shape.begin(), static_cast<std::int64_t>(count));
      SELVAGE_TRY(auto tensor, Tensor::create(input.type, std::move(shape)));
      spans.push_back(
          std::get<Tensor>(inputs[input.index] = infer::Value(std::move(tensor))).bytes());
    }
    SELVAGE_RETURN_IF_ERROR(data.read(samples, spans));
    SELVAGE_TRY(const auto found, session->run(inputs));
    const auto* tensor = std::get_if<Tensor>(&found[0]);
    if (tensor == nullptr || tensor->shape().empty() ||
        tensor->shape()[0] != static_cast<std::int64_t>(count) || tensor->bytes().empty())
      return fail(ErrorCode::kInvalidArgument, "'" + value + "' has no row a sample");
    const auto rows = tensor->as<float>();
    outputs.width = rows.size() / count;
    if (outputs.width * sizeof(float) * data.size() > kTeacherBytesMax)
      return fail(ErrorCode::kOutOfRange,
                  "'" + value +
                      "' of every sample takes more than 1 GiB: choose a smaller value, "
                      "such as one behind a pooling");
    outputs.values.reserve(outputs.width * data.size());
    outputs.values.insert(outputs.values.end(), rows.begin(), rows.end());
  }
  return outputs;
}

void to_logits(TeacherOutputs& outputs) {
  if (outputs.width < 2) return;
  constexpr double kTolerance = 1e-3;
  for (std::size_t at = 0; at < outputs.values.size(); at += outputs.width) {
    double sum = 0;
    for (std::size_t i = at; i < at + outputs.width; ++i) {
      if (outputs.values[i] < 0) return;
      sum += static_cast<double>(outputs.values[i]);
    }
    if (std::abs(sum - 1) > kTolerance) return;
  }
  constexpr float kLeast = 1e-12f;  // A probability of 0 becomes -27.6.
  for (auto& value : outputs.values) value = std::log(std::max(value, kLeast));
}

Result<TeacherOutputs> mean_of(std::span<const TeacherOutputs> teachers) {
  TeacherOutputs mean = teachers.front();
  const auto share = 1 / static_cast<float>(teachers.size());
  for (auto& value : mean.values) value *= share;
  for (const auto& teacher : teachers.subspan(1)) {
    if (teacher.width != mean.width || teacher.values.size() != mean.values.size())
      return fail(ErrorCode::kInvalidArgument,
                  "the teachers disagree about the number of classes: " +
                      std::to_string(mean.width) + " and " + std::to_string(teacher.width));
    for (std::size_t i = 0; i < mean.values.size(); ++i)
      mean.values[i] += share * teacher.values[i];
  }
  return mean;
}

Result<void> save_teacher(const TeacherOutputs& outputs, const crypto::Digest& key,
                          const std::filesystem::path& path) {
  std::vector<std::byte> bytes(key.bytes().begin(), key.bytes().end());
  const std::uint64_t width = outputs.width;
  const auto append = [&](std::span<const std::byte> more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
  };
  append(std::as_bytes(std::span(&width, 1)));
  append(std::as_bytes(std::span(outputs.values)));
  append(crypto::sha256(std::span<const std::byte>(bytes)).bytes());
  return write_atomically(path, bytes);
}

std::optional<TeacherOutputs> load_teacher(const crypto::Digest& key,
                                           const std::filesystem::path& path) {
  const auto file = read_bytes(path, kTeacherBytesMax);
  if (!file || file->size() < kHeadBytes + kDigestBytes) return std::nullopt;
  const std::span<const std::byte> bytes(*file);
  const auto content = bytes.first(bytes.size() - kDigestBytes);
  if (!std::ranges::equal(content.first(kDigestBytes), key.bytes()) ||
      !std::ranges::equal(crypto::sha256(content).bytes(), bytes.last(kDigestBytes)))
    return std::nullopt;
  std::uint64_t width = 0;
  std::memcpy(&width, content.data() + kDigestBytes, sizeof width);
  const auto values = content.subspan(kHeadBytes);
  if (width == 0 || values.size() % (width * sizeof(float)) != 0) return std::nullopt;
  TeacherOutputs outputs{.width = width,
                         .values = std::vector<float>(values.size() / sizeof(float))};
  std::memcpy(outputs.values.data(), values.data(), values.size());
  return outputs;
}

}  // namespace selvage::learn
