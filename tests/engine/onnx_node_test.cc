// ONNX's own backend tests through the engine: every case that bare ONNX Runtime passes, we pass.
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>

#include "base/file.h"
#include "graph/tensor.h"
#include "infer/ort.h"
#include "infer/session.h"
#include "infer/session_state.h"

namespace selvage::infer {
namespace {

namespace fs = std::filesystem;
using google::protobuf::io::CodedInputStream;

constexpr double kRelativeTolerance = 1e-3;
constexpr double kAbsoluteTolerance = 1e-5;

Result<Tensor> tensor_of(const onnx::TensorProto& proto) {
  SELVAGE_TRY(const auto data, graph::TensorData::open(proto, {}));
  const auto& view = data.view();
  Shape shape(view.shape.begin(), view.shape.end());
  if (view.type == DataType::kString)
    return Tensor::from_strings(std::move(shape), {view.strings.begin(), view.strings.end()});
  SELVAGE_TRY(auto tensor, Tensor::create(view.type, std::move(shape)));
  std::ranges::copy(view.bytes, tensor.bytes().begin());
  return tensor;
}

Result<Value> parse_value(std::string_view bytes, ValueKind kind);

/// onnx-data.proto, as far as the tests use it. SequenceProto: elem_type 2, tensors 3, sequences 5,
/// optionals 7. OptionalProto: elem_type 2 (1 tensor, 3 sequence), tensor 3, sequence 5.
Result<Value> parse_container(std::string_view bytes, ValueKind kind) {
  CodedInputStream stream(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                          static_cast<int>(bytes.size()));
  std::vector<Value> elements;
  while (const auto tag = stream.ReadTag()) {
    const auto field = tag >> 3;
    if ((tag & 7) != 2) {
      google::protobuf::internal::WireFormatLite::SkipField(&stream, tag);
      continue;
    }
    std::uint32_t size = 0;
    std::string content;
    if (!stream.ReadVarint32(&size) || !stream.ReadString(&content, static_cast<int>(size)))
      return fail(ErrorCode::kDataLoss, "cut short");
    if (field != 3 && field != 5 && field != 7) continue;
    SELVAGE_TRY(auto element, parse_value(content, field == 3   ? ValueKind::kTensor
                                                   : field == 5 ? ValueKind::kSequence
                                                                : ValueKind::kOptional));
    elements.push_back(std::move(element));
  }
  if (kind == ValueKind::kSequence) return Value(std::move(elements));
  return elements.empty() ? Value() : std::move(elements.front());
}

Result<Value> parse_value(std::string_view bytes, ValueKind kind) {
  if (kind != ValueKind::kTensor) return parse_container(bytes, kind);
  onnx::TensorProto proto;
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return fail(ErrorCode::kDataLoss, "not a tensor");
  SELVAGE_TRY(auto tensor, tensor_of(proto));
  return Value(std::move(tensor));
}

float from_half(std::uint16_t half) {
  const auto exponent = (half >> 10) & 0x1f;
  const auto mantissa = half & 0x3ff;
  const float sign = (half & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 31) return mantissa != 0 ? std::nanf("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(mantissa | 0x400), exponent - 25);
}

/// The elements as doubles, for types that compare with a tolerance; nothing for the others.
std::vector<double> as_doubles(const Tensor& tensor) {
  std::vector<double> values;
  const auto append = [&](auto elements) { values.assign(elements.begin(), elements.end()); };
  if (tensor.type() == DataType::kFloat32) append(tensor.as<float>());
  if (tensor.type() == DataType::kFloat64) append(tensor.as<double>());
  if (tensor.type() == DataType::kFloat16)
    for (const auto half : tensor.as<std::uint16_t>()) values.push_back(from_half(half));
  return values;
}

bool close(double expected, double got) {
  if (std::isnan(expected) || std::isnan(got)) return std::isnan(expected) && std::isnan(got);
  if (expected == got) return true;
  return std::abs(expected - got) <= kAbsoluteTolerance + kRelativeTolerance * std::abs(expected);
}

bool same(const Value& expected, const Value& got) {
  if (expected.index() != got.index()) return false;
  if (std::holds_alternative<std::monostate>(expected)) return true;
  if (const auto* list = std::get_if<std::vector<Value>>(&expected))
    return std::ranges::equal(*list, std::get<std::vector<Value>>(got), same);
  if (!std::holds_alternative<Tensor>(expected)) return false;
  const auto& left = std::get<Tensor>(expected);
  const auto& right = std::get<Tensor>(got);
  if (left.type() != right.type() || left.shape() != right.shape()) return false;
  const auto left_values = as_doubles(left);
  if (!left_values.empty()) return std::ranges::equal(left_values, as_doubles(right), close);
  return std::ranges::equal(left.bytes(), right.bytes()) &&
         std::ranges::equal(left.strings(), right.strings());
}

/// One `test_data_set_*`: inputs and expected outputs by position.
struct DataSet {
  std::vector<Value> inputs, outputs;
};

Result<std::vector<Value>> read_values(const fs::path& folder, std::string_view prefix,
                                       std::span<const ValueInfo> declared) {
  std::vector<Value> values;
  for (std::size_t i = 0;; ++i) {
    const auto path = folder / (std::string(prefix) + "_" + std::to_string(i) + ".pb");
    if (!fs::exists(path)) return values;
    SELVAGE_TRY(const auto bytes, read_text(path));
    SELVAGE_TRY(auto value,
                parse_value(bytes, i < declared.size() ? declared[i].kind : ValueKind::kTensor));
    values.push_back(std::move(value));
  }
}

/// ONNX Runtime as it comes: default options, straight from the bytes.
class BareSession {
 public:
  BareSession() {
    // The engine's environment is the process's; this only takes another reference to it.
    OrtEnv* environment = nullptr;
    EXPECT_TRUE(
        ort::to_result(ort::api().CreateEnv(ORT_LOGGING_LEVEL_FATAL, "bare", &environment)));
    environment_.reset(environment);
    OrtMemoryInfo* memory = nullptr;
    EXPECT_TRUE(ort::to_result(
        ort::api().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory)));
    memory_.reset(memory);
  }

  [[nodiscard]] Result<std::vector<Value>> run(std::span<const std::byte> model,
                                               std::span<const std::string> input_names,
                                               std::span<const std::string> output_names,
                                               std::span<const Value> inputs) const {
    OrtSessionOptions* raw_options = nullptr;
    SELVAGE_RETURN_IF_ERROR(ort::to_result(ort::api().CreateSessionOptions(&raw_options)));
    const ort::Handle<OrtSessionOptions> options(raw_options);
    SELVAGE_RETURN_IF_ERROR(ort::to_result(ort::api().SetIntraOpNumThreads(raw_options, 1)));
    OrtSession* raw_session = nullptr;
    SELVAGE_RETURN_IF_ERROR(ort::to_result(ort::api().CreateSessionFromArray(
        environment_.get(), model.data(), model.size(), raw_options, &raw_session)));
    const ort::Handle<OrtSession> session(raw_session);
    std::vector<ort::Handle<OrtValue>> owned;
    std::vector<const OrtValue*> given;
    std::vector<const char*> given_names, got_names;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      SELVAGE_TRY(auto value, to_ort(inputs[i], memory_.get()));
      given.push_back(value.get());
      given_names.push_back(input_names[i].c_str());
      owned.push_back(std::move(value));
    }
    for (const auto& name : output_names) got_names.push_back(name.c_str());
    std::vector<OrtValue*> got(output_names.size(), nullptr);
    SELVAGE_RETURN_IF_ERROR(
        ort::to_result(ort::api().Run(raw_session, nullptr, given_names.data(), given.data(),
                                      given.size(), got_names.data(), got.size(), got.data())));
    std::vector<ort::Handle<OrtValue>> results(got.begin(), got.end());
    std::vector<Value> values;
    for (const auto& result : results) {
      SELVAGE_TRY(auto value, from_ort(result.get()));
      values.push_back(std::move(value));
    }
    return values;
  }

 private:
  ort::Handle<OrtEnv> environment_;
  ort::Handle<OrtMemoryInfo> memory_;
};

bool all_same(const Result<std::vector<Value>>& got, std::span<const Value> expected) {
  return got && std::ranges::equal(expected, *got, same);
}

/// Through a Binding, the way a server runs it; only for models whose values are all tensors.
Result<std::vector<Value>> run_bound(const Session& session, std::span<const Value> inputs) {
  std::vector<Shape> shapes;
  for (const auto& input : inputs) shapes.push_back(std::get<Tensor>(input).shape());
  SELVAGE_TRY(const auto binding, Binding::create(session, shapes));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto& tensor = std::get<Tensor>(inputs[i]);
    if (tensor.type() == DataType::kString) {
      SELVAGE_RETURN_IF_ERROR(binding->set_strings(i, tensor.strings()));
    } else {
      std::ranges::copy(tensor.bytes(), binding->input_bytes(i).begin());
    }
  }
  SELVAGE_RETURN_IF_ERROR(binding->run());
  std::vector<Value> values;
  for (std::size_t i = 0; i < binding->output_count(); ++i) {
    const auto view = binding->output(i);
    Shape shape(view.shape.begin(), view.shape.end());
    if (view.type == DataType::kString) {
      SELVAGE_TRY(auto tensor, Tensor::from_strings(std::move(shape),
                                                    {view.strings.begin(), view.strings.end()}));
      values.emplace_back(std::move(tensor));
    } else {
      SELVAGE_TRY(auto tensor, Tensor::create(view.type, std::move(shape)));
      std::ranges::copy(view.bytes, tensor.bytes().begin());
      values.emplace_back(std::move(tensor));
    }
  }
  return values;
}

bool all_tensors(std::span<const ValueInfo> infos) {
  return std::ranges::all_of(infos,
                             [](const ValueInfo& info) { return info.kind == ValueKind::kTensor; });
}

std::vector<std::string> names_of(std::span<const ValueInfo> infos) {
  std::vector<std::string> names;
  for (const auto& info : infos) names.push_back(info.name);
  return names;
}

struct Count {
  int bare_passes = 0, we_pass = 0, cases = 0, bare_does_not_load = 0;
};

/// Whether bare ONNX Runtime can make a session of the model at all.
bool bare_loads(const BareSession& bare, std::span<const std::byte> model) {
  const auto loaded = bare.run(model, {}, {}, {});
  // Without outputs to compute a loaded model complains about the call, not about the model.
  return loaded || loaded.error().message.find("output") != std::string::npos;
}

void run_case(const fs::path& folder, Runtime& runtime, const BareSession& bare, Count& count) {
  SCOPED_TRACE(folder.string());
  const auto model = read_bytes(folder / "model.onnx", 1u << 30);
  ASSERT_TRUE(model) << model.error().message;
  ++count.cases;
  const auto session = Session::load(runtime, folder / "model.onnx", {.threads = 1});
  if (!session) {
    EXPECT_FALSE(bare_loads(bare, *model)) << session.error().message;
    ++count.bare_does_not_load;
    return;
  }
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.is_directory()) continue;
    const auto inputs = read_values(entry.path(), "input", (*session)->inputs());
    const auto expected = read_values(entry.path(), "output", (*session)->outputs());
    ASSERT_TRUE(inputs && expected) << entry.path();
    const auto input_names = names_of((*session)->inputs());
    const auto output_names = names_of((*session)->outputs());
    if (inputs->size() != input_names.size()) continue;
    if (!all_same(bare.run(*model, input_names, output_names, *inputs), *expected)) continue;
    ++count.bare_passes;
    const auto ours = (*session)->run(*inputs);
    EXPECT_TRUE(all_same(ours, *expected)) << (ours ? "differs" : ours.error().message);
    if (all_tensors((*session)->inputs()) && all_tensors((*session)->outputs())) {
      const auto bound = run_bound(**session, *inputs);
      EXPECT_TRUE(all_same(bound, *expected)) << (bound ? "differs" : bound.error().message);
    }
    ++count.we_pass;
  }
}

class OnnxNodeTest : public testing::TestWithParam<const char*> {};

TEST_P(OnnxNodeTest, WePassWhatTheRuntimePasses) {
  const auto root = fs::path(SELVAGE_DEPS_DIR) / "data" / "onnx-testdata" / GetParam();
  ASSERT_TRUE(fs::exists(root)) << root << " is missing: run `make setup`";
  const auto runtime = Runtime::create();
  ASSERT_TRUE(runtime);
  const BareSession bare;
  std::set<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root))
    if (fs::exists(entry.path() / "model.onnx")) folders.insert(entry.path());
  ASSERT_FALSE(folders.empty());
  Count count;
  for (const auto& folder : folders) run_case(folder, **runtime, bare, count);
  RecordProperty("bare_passes", count.bare_passes);
  std::printf(
      "%s: %d models, %d data sets pass bare, %d through the engine, %d models the runtime "
      "itself does not load\n",
      GetParam(), count.cases, count.bare_passes, count.we_pass, count.bare_does_not_load);
  EXPECT_GT(count.bare_passes, 0);
}

INSTANTIATE_TEST_SUITE_P(Suites, OnnxNodeTest,
                         testing::Values("node", "simple", "pytorch-converted",
                                         "pytorch-operator"));

}  // namespace
}  // namespace selvage::infer
