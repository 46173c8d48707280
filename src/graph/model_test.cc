#include "graph/model.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>
#include <unistd.h>

#include "base/file.h"
#include "graph/check.h"
#include "graph/tensor.h"
#include "graph/testing.h"

namespace selvage::graph {
namespace {

#if !defined(__has_feature)
#define __has_feature(feature) 0  // g++
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::ModelBuilder;

std::vector<std::byte> to_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

class ModelFileTest : public ::testing::Test {
 protected:
  ModelFileTest() { fs::create_directories(folder_ / "other"); }
  ~ModelFileTest() override { fs::remove_all(folder_); }
  [[nodiscard]] static std::vector<fs::path> data_files(const fs::path& folder) {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".data") found.push_back(entry.path());
    return found;
  }
  fs::path folder_ =
      fs::temp_directory_path() / ("selvage-model-test-" + std::to_string(::getpid()));
};

/// A model with everything that must survive: functions, subgraphs, metadata, sparse initialisers,
/// external references, training information, annotations, unknown fields.
ModelBuilder rich_model() {
  auto builder = testing::conv_model();
  auto& model = builder.proto();
  auto& entry = *model.add_metadata_props();
  entry.set_key("author");
  entry.set_value("somebody");
  auto& function = *model.add_functions();
  function.set_name("Twice");
  function.set_domain("local");
  function.add_input("a");
  function.add_output("b");
  auto& body = *function.add_node();
  body.set_op_type("Add");
  body.add_input("a");
  body.add_input("a");
  body.add_output("b");
  model.add_training_info()->mutable_algorithm()->set_name("step");
  auto& graph = *model.mutable_graph();
  auto& sparse = *graph.add_sparse_initializer();
  sparse.mutable_values()->set_name("s");
  sparse.add_dims(3);
  auto& external = *graph.add_initializer();
  external.set_name("e");
  external.set_data_location(onnx::TensorProto::EXTERNAL);
  auto& location = *external.add_external_data();
  location.set_key("location");
  location.set_value("elsewhere.bin");
  graph.add_quantization_annotation()->set_tensor_name("w");
  auto& conditional = *graph.add_node();
  conditional.set_op_type("If");
  auto& branch = *conditional.add_attribute();
  branch.set_name("then_branch");
  branch.mutable_g()->set_name("then");
  const auto add_unknown = [](google::protobuf::Message& message) {
    message.GetReflection()->MutableUnknownFields(&message)->AddLengthDelimited(9999, "future");
    message.GetReflection()->MutableUnknownFields(&message)->AddVarint(10000, 7);
  };
  add_unknown(model);
  add_unknown(graph);
  add_unknown(*graph.mutable_initializer(0));
  add_unknown(conditional);
  return builder;
}

TEST_F(ModelFileTest, EverythingSurvivesARoundTripByteForByte) {
  const auto bytes = rich_model().bytes();
  const auto path = folder_ / "model.onnx";
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  ASSERT_TRUE(write_atomically(path, text));
  auto model = Model::load(path);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->serialise().value(), bytes);
  EXPECT_EQ(model->copy().serialise().value(), bytes);
  EXPECT_EQ(model->folder(), folder_);
  ASSERT_TRUE(model->save(folder_ / "again.onnx"));
  EXPECT_EQ(read_text(folder_ / "again.onnx").value(), text);
  EXPECT_TRUE(data_files(folder_).empty());
}

TEST(Model, CutShortAtEveryByteIsAnErrorOrASmallerModel) {
  const auto bytes = rich_model().bytes();
  std::size_t errors = 0;
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto model = Model::parse(std::span(bytes).first(size));
    if (!model) {
      EXPECT_EQ(model.error().code, ErrorCode::kDataLoss) << size;
      ++errors;
    } else {  // Cut between two fields: complete as far as protobuf can tell.
      EXPECT_EQ(model->serialise()->size(), size);
      (void)check(*model);
    }
  }
  EXPECT_GT(errors, bytes.size() - 20);
}

TEST(Model, DamageIsNamedWithItsPlace) {
  const auto message_of = [](std::string_view text) {
    const auto model = Model::parse(to_bytes(text));
    return model ? std::string("accepted") : model.error().message;
  };
  EXPECT_THAT(message_of(""), HasSubstr("empty"));
  EXPECT_THAT(message_of("version https://git-lfs.github.com/spec/v1\n"),
              HasSubstr("git lfs pull"));
  EXPECT_THAT(message_of("<!DOCTYPE html><html>"), HasSubstr("not an ONNX model"));
  EXPECT_THAT(message_of(std::string_view("\x08\x08\x3a\x05\x0a", 5)),
              HasSubstr("cut short at byte 4"));
  EXPECT_THAT(message_of(std::string_view("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12)),
              HasSubstr("number is too long"));
  EXPECT_THAT(message_of(std::string_view("\x00\x00", 2)), HasSubstr("no valid field at byte 1"));
  EXPECT_THAT(message_of(std::string_view("\x0c", 1)), HasSubstr("group ends"));
  EXPECT_THAT(message_of(std::string_view("\x0b\x08\x01", 3)), HasSubstr("group does not end"));
}

TEST(Model, ATensorThatClaimsMoreThanTheFileHasIsRefused) {
  // graph.initializer.raw_data of 2 GB less a byte, in a file of a few bytes.
  const auto model = Model::parse(
      to_bytes(std::string_view("\x3a\x0a\x2a\x08\x4a\xff\xff\xff\xff\x07\x00\x00", 12)));
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kDataLoss);
}

TEST(Model, NestingIsBoundedLikeProtobufsOwn) {
  const auto nested = [](int levels) {
    onnx::ModelProto proto;
    auto* graph = proto.mutable_graph();
    for (int i = 0; i < levels; ++i) graph = graph->add_node()->add_attribute()->mutable_g();
    const auto text = proto.SerializeAsString();
    return Model::parse(to_bytes(text));
  };
  EXPECT_TRUE(nested(33));
  const auto deep = nested(34);
  ASSERT_FALSE(deep);
  EXPECT_EQ(deep.error().code, ErrorCode::kOutOfRange);
  EXPECT_THAT(deep.error().message, HasSubstr("nest deeper than the limit of 100"));
  EXPECT_EQ(nested(5000).error().code, ErrorCode::kOutOfRange);
  // Groups are no part of ONNX but of the wire format.
  EXPECT_EQ(Model::parse(to_bytes(std::string(100'000, '\x0b'))).error().code,
            ErrorCode::kOutOfRange);
}

TEST(Model, BytesThatWouldMultiplyInMemoryAreRefused) {
  // Two bytes make an empty node of about 200: 10 MB would take 2 GB.
  std::string nodes;
  for (int i = 0; i < 5'000'000; ++i) nodes += std::string_view("\x0a\x00", 2);
  onnx::ModelProto proto;
  std::string file("\x3a", 1);
  for (auto size = nodes.size();; size >>= 7) {
    file += static_cast<char>(size < 0x80 ? size : (size & 0x7f) | 0x80);
    if (size < 0x80) break;
  }
  const auto model = Model::parse(to_bytes(file + nodes));
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kOutOfRange);
  EXPECT_THAT(model.error().message, HasSubstr("bytes of memory"));
}

TEST(Model, FilesAboveTheLimitNameTheWayOut) {
  const auto bytes = testing::identity_model().bytes();
  const auto model = Model::parse(bytes, {.bytes_max = bytes.size() - 1});
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kOutOfRange);
  EXPECT_THAT(model.error().message, HasSubstr("external data"));
  EXPECT_TRUE(Model::parse(bytes, {.bytes_max = bytes.size()}));
}

TEST(Model, LoadErrorsNameThePath) {
  const auto missing = Model::load("/nonexistent/model.onnx");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent/model.onnx"));
}

/// A model whose one large initialiser has `bytes` bytes of raw data.
Model large_model(std::size_t bytes) {
  auto builder = testing::identity_model();
  auto& tensor = *builder.proto().mutable_graph()->add_initializer();
  tensor.set_name("large");
  tensor.set_data_type(onnx::TensorProto::UINT8);
  tensor.add_dims(static_cast<std::int64_t>(bytes));
  tensor.mutable_raw_data()->resize(bytes);
  for (std::size_t i = 0; i < bytes; ++i)
    (*tensor.mutable_raw_data())[i] = static_cast<char>(i * 7);
  return builder.build();
}

TEST_F(ModelFileTest, ExternalDataGoToAFileBesideTheModelAndBack) {
  auto model = large_model(5000);
  model.proto().mutable_graph()->add_initializer()->CopyFrom(model.proto().graph().initializer(0));
  model.proto().mutable_graph()->mutable_initializer(1)->set_name("second");
  const auto before = model.serialise().value();
  const auto path = folder_ / "split.onnx";
  ASSERT_TRUE(model.save(path, {.external_data = true}));
  EXPECT_EQ(model.serialise().value(), before) << "saving changed the model in memory";
  ASSERT_EQ(data_files(folder_).size(), 1u);
  EXPECT_EQ(fs::file_size(data_files(folder_)[0]), 8192u + 5000u);
  EXPECT_LT(fs::file_size(path), 1000u);

  auto loaded = Model::load(path);
  ASSERT_TRUE(loaded);
  ASSERT_TRUE(check(*loaded)) << check(*loaded).error().message;
  for (int i = 0; i < 2; ++i) {
    const auto& original = model.proto().graph().initializer(i).raw_data();
    const auto data = TensorData::open(loaded->proto().graph().initializer(i), loaded->folder());
    ASSERT_TRUE(data) << data.error().message;
    EXPECT_TRUE(std::ranges::equal(data->view().bytes, std::as_bytes(std::span(original))));
  }
  // In another folder the data must come along.
  ASSERT_TRUE(loaded->save(folder_ / "other" / "copy.onnx"));
  EXPECT_EQ(data_files(folder_ / "other").size(), 1u);
  fs::remove(data_files(folder_)[0]);
  EXPECT_EQ(check(*loaded).error().code, ErrorCode::kNotFound);
  const auto copy = Model::load(folder_ / "other" / "copy.onnx");
  ASSERT_TRUE(copy);
  EXPECT_TRUE(check(*copy));
}

TEST_F(ModelFileTest, EmbeddedDataNeedNoFile) {
  auto model = large_model(5000);
  const auto path = folder_ / "split.onnx";
  ASSERT_TRUE(model.save(path, {.external_data = true}));
  auto loaded = Model::load(path);
  ASSERT_TRUE(loaded);
  ASSERT_TRUE(loaded->embed()) << loaded->embed().error().message;
  EXPECT_EQ(loaded->serialise().value(), model.serialise().value());
  EXPECT_TRUE(check(Model::parse(loaded->serialise().value()).value()));
  // Not over what the file that was loaded still needs.
  const auto refused = loaded->copy().save(data_files(folder_)[0]);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(check(*Model::load(path)));
  ASSERT_TRUE(loaded->save(folder_ / "whole.onnx"));
  fs::remove(data_files(folder_)[0]);
  EXPECT_TRUE(check(*Model::load(folder_ / "whole.onnx")));
  EXPECT_EQ(Model::load(path)->embed().error().code, ErrorCode::kNotFound);
}

TEST_F(ModelFileTest, AFailedSaveLeavesTheModelInMemoryAsItWas) {
  auto model = large_model(5000);
  const auto before = model.serialise().value();
  EXPECT_EQ(model.save(folder_ / "missing" / "m.onnx", {.external_data = true}).error().code,
            ErrorCode::kNotFound);
  EXPECT_EQ(model.serialise().value(), before);
  // A reference that leads nowhere cannot be moved.
  auto& tensor = *model.proto().mutable_graph()->add_initializer();
  tensor.set_name("gone");
  tensor.set_data_type(onnx::TensorProto::UINT8);
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto with_gone = model.serialise().value();
  ASSERT_TRUE(model.save(folder_ / "m.onnx"));
  auto loaded = Model::load(folder_ / "m.onnx");
  ASSERT_TRUE(loaded);
  EXPECT_FALSE(loaded->save(folder_ / "other" / "m.onnx", {.external_data = true}));
  EXPECT_EQ(loaded->serialise().value(), with_gone);
  EXPECT_TRUE(fs::is_empty(folder_ / "other"));
}

std::size_t resident_peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6)) * 1024;
  return 0;
}

TEST_F(ModelFileTest, LoadEditAndSaveTakeAtMostTwiceTheSizeOfTheFile) {
  if (kIsSanitized) GTEST_SKIP() << "the sanitizer's allocator keeps what was freed";
  static constexpr std::size_t kBytes = 100u << 20;
  const auto path = folder_ / "large.onnx";
  {
    auto model = large_model(kBytes);
    ASSERT_TRUE(model.save(path));
  }
  std::ofstream("/proc/self/clear_refs") << "5";  // Starts the peak anew.
  const auto before = resident_peak_bytes();
  if (before > kBytes) GTEST_SKIP() << "this kernel does not let a process reset its peak";
  auto model = Model::load(path);
  ASSERT_TRUE(model);
  ASSERT_TRUE(check(*model));
  model->proto().set_producer_name("edited");
  ASSERT_TRUE(model->save(folder_ / "edited.onnx"));
  const auto taken = resident_peak_bytes() - before;
  EXPECT_GT(taken, kBytes) << "the measure is broken";
  EXPECT_LT(taken, 2 * kBytes + (8u << 20));
}

}  // namespace
}  // namespace selvage::graph
