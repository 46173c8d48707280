// JSON and binary tensors, from bytes to elements and back.
#include <cmath>
#include <cstring>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/base64.h"
#include "serve/compression.h"
#include "serve/error_map.h"
#include "serve/infer_http.h"
#include "serve/json_reader.h"
#include "serve/route.h"
#include "serve/tensor_binary.h"
#include "serve/tensor_json.h"
#include "serve/wire_type.h"

namespace selvage::serve {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

Result<Tensor> read(std::string_view json, DataType type, const Shape& shape) {
  JsonReader reader(json);
  auto tensor = read_tensor(reader, type, shape, json.size());
  if (tensor)
    if (auto end = reader.end(); !end) return std::unexpected(end.error());
  return tensor;
}

template <typename T>
std::vector<T> values(const Result<Tensor>& tensor) {
  if (!tensor) {
    ADD_FAILURE() << tensor.error().message;
    return {};
  }
  const auto all = tensor->as<T>();
  return {all.begin(), all.end()};
}

TEST(JsonTensor, FlatAndNestedAreTheSame) {
  EXPECT_THAT(values<float>(read("[1,2.5,-3e2,4]", DataType::kFloat32, {2, 2})),
              ElementsAre(1.f, 2.5f, -300.f, 4.f));
  EXPECT_THAT(values<float>(read("[ [1, 2.5], [-3e2, 4] ]", DataType::kFloat32, {2, 2})),
              ElementsAre(1.f, 2.5f, -300.f, 4.f));
  EXPECT_THAT(values<int>(read("[[[1],[2]]]", DataType::kInt32, {1, 2, 1})), ElementsAre(1, 2));
  EXPECT_THAT(values<int>(read("[]", DataType::kInt32, {0, 3})), ElementsAre());
  EXPECT_THAT(values<int>(read("[7]", DataType::kInt32, {})), ElementsAre(7));
}

TEST(JsonTensor, SixtyFourBitIntegersAreExact) {
  EXPECT_THAT(values<std::int64_t>(
                  read("[9223372036854775807,-9223372036854775808]", DataType::kInt64, {2})),
              ElementsAre(INT64_MAX, INT64_MIN));
  EXPECT_THAT(values<std::uint64_t>(read("[18446744073709551615]", DataType::kUint64, {1})),
              ElementsAre(UINT64_MAX));
}

TEST(JsonTensor, BareTokensOfFloats) {
  const auto found = values<float>(read("[NaN,Infinity,-Infinity]", DataType::kFloat32, {3}));
  ASSERT_EQ(found.size(), 3u);
  EXPECT_TRUE(std::isnan(found[0]));
  EXPECT_EQ(found[1], std::numeric_limits<float>::infinity());
  EXPECT_EQ(found[2], -std::numeric_limits<float>::infinity());
  std::string text;
  ASSERT_TRUE(append_tensor(text, Tensor::from<float>({3}, found)->view()));
  EXPECT_EQ(text, "[NaN,Infinity,-Infinity]");
}

TEST(JsonTensor, ExtremeFloats) {
  EXPECT_THAT(
      values<float>(read("[1e-50,3.4028235e38,1.17549435e-38]", DataType::kFloat32, {3})),
      ElementsAre(0.f, std::numeric_limits<float>::max(), std::numeric_limits<float>::min()));
  EXPECT_FALSE(read("[1e39]", DataType::kFloat32, {1}));
  EXPECT_FALSE(read("[1e999]", DataType::kFloat64, {1}));
  EXPECT_THAT(values<double>(read("[5e-324,1e-999]", DataType::kFloat64, {2})),
              ElementsAre(5e-324, 0.));
}

TEST(JsonTensor, BooleansAndStrings) {
  const auto flags = read("[true,false]", DataType::kBool, {2});
  EXPECT_THAT(values<bool>(flags), ElementsAre(true, false));
  const auto words = read(R"(["a\"\u00e9\ud83d\ude00\n",""])", DataType::kString, {2});
  ASSERT_TRUE(words) << words.error().message;
  EXPECT_THAT(words->strings(), ElementsAre("a\"\u00e9\U0001F600\n", ""));
  std::string text;
  ASSERT_TRUE(append_tensor(text, words->view()));
  EXPECT_EQ(text, "[\"a\\\"\u00e9\U0001F600\\n\",\"\"]");
}

struct Bad {
  std::string_view json;
  DataType type;
  Shape shape;
  std::string_view reason;
};

TEST(JsonTensor, SaysWhatIsWrong) {
  const std::vector<Bad> cases = {
      {"[1,2,3]", DataType::kFloat32, {2}, "more elements"},
      {"[1]", DataType::kFloat32, {2}, "too few"},
      {"[[1,2],[3]]", DataType::kFloat32, {2, 2}, "too few"},
      {"[[1],[2,3]]", DataType::kInt32, {3}, "nested deeper"},
      {"[[1,2],[3,4],[5,6]]", DataType::kInt32, {2, 2}, "more rows"},
      {"[1,[2]]", DataType::kInt32, {2}, "byte"},
      {"[1.5]", DataType::kInt32, {1}, "INT32"},
      {"[1e2]", DataType::kInt32, {1}, "INT32"},
      {"[128]", DataType::kInt8, {1}, "INT8"},
      {"[-1]", DataType::kUint64, {1}, "UINT64"},
      {"[18446744073709551616]", DataType::kUint64, {1}, "UINT64"},
      {"[NaN]", DataType::kInt64, {1}, "INT64"},
      {"[01]", DataType::kInt64, {1}, "leading zero"},
      {"[.5]", DataType::kFloat32, {1}, "value"},
      {"[1.]", DataType::kFloat32, {1}, "point"},
      {"[+1]", DataType::kFloat32, {1}, "value"},
      {"[nan]", DataType::kFloat32, {1}, "value"},
      {"[\"1\"]", DataType::kFloat32, {1}, "value"},
      {"[1]", DataType::kBool, {1}, "true or false"},
      {"[null]", DataType::kFloat32, {1}, "value"},
      {"[1", DataType::kFloat32, {1}, "too early"},
      {"{}", DataType::kFloat32, {1}, "array"},
      {"[\"\xff\"]", DataType::kString, {1}, "UTF-8"},
      {"[\"\xed\xa0\x80\"]", DataType::kString, {1}, "UTF-8"},
      {"[\"\\ud800\"]", DataType::kString, {1}, "surrogate"},
      {"[\"\n\"]", DataType::kString, {1}, "control"},
      {"[1]", DataType::kFloat16, {1}, "binary"},
      {"[1]", DataType::kFloat32, {1'000'000'000'000}, "too few"},
      {"[1]", DataType::kFloat32, {INT64_MAX, INT64_MAX}, "not a size"},
  };
  for (const auto& bad : cases) {
    const auto found = read(bad.json, bad.type, bad.shape);
    ASSERT_FALSE(found) << bad.json;
    EXPECT_EQ(found.error().code, ErrorCode::kInvalidArgument) << bad.json;
    EXPECT_THAT(found.error().message, HasSubstr(bad.reason)) << bad.json;
  }
}

TEST(JsonReader, NestingIsBounded) {
  const auto nested = [](int depth) {
    return std::string(static_cast<std::size_t>(depth), '[') +
           std::string(static_cast<std::size_t>(depth), ']');
  };
  const std::string deep = nested(JsonReader::kDepthMax),
                    deeper = nested(JsonReader::kDepthMax + 1);
  EXPECT_TRUE(JsonReader(deep).skip());
  EXPECT_FALSE(JsonReader(deeper).skip());
  const std::string abyss(1'000'000, '[');
  EXPECT_FALSE(JsonReader(abyss).skip());
}

TEST(JsonReader, SkipsWhatItChecks) {
  const std::string text = R"( {"a":[1,{"b":null}],"c":"\u0041","d":{}} ,)";
  JsonReader reader(text);
  const auto skipped = reader.skip();
  ASSERT_TRUE(skipped) << skipped.error().message;
  EXPECT_EQ(*skipped, R"({"a":[1,{"b":null}],"c":"\u0041","d":{}})");
  for (const auto* bad :
       {"{\"a\" 1}", "{\"a\":1,}", "[1,]", "[1 2]", "tru", "{1:2}", "\"\\x\"", ""})
    EXPECT_FALSE(JsonReader(bad).skip()) << bad;
}

TEST(BinaryTensor, ReadsInPlaceWhereItCan) {
  alignas(8) std::array<std::byte, 17> bytes{};
  const Shape shape = {2, 2};
  const auto in_place = read_binary(DataType::kFloat32, shape, std::span(bytes).first(16));
  ASSERT_TRUE(in_place) << in_place.error().message;
  EXPECT_EQ(in_place->view.bytes.data(), bytes.data());
  const auto copied = read_binary(DataType::kFloat32, shape, std::span(bytes).subspan(1));
  ASSERT_TRUE(copied) << copied.error().message;
  EXPECT_EQ(copied->view.bytes.data(), copied->copy.bytes().data());
  const Shape none = {2, 0};
  const auto empty = read_binary(DataType::kFloat32, none, std::span(bytes).subspan(1, 0));
  ASSERT_TRUE(empty) << empty.error().message;
  EXPECT_TRUE(empty->view.bytes.empty());
}

TEST(BinaryTensor, StringsComeBack) {
  const std::vector<std::string> words = {"", std::string("a\0b", 3), std::string(300, 'x')};
  const auto bytes = encode_strings(words);
  const Shape shape = {3};
  EXPECT_EQ(bytes.size(), binary_size({DataType::kString, shape, {}, words}));
  const auto tensor = read_binary(DataType::kString, shape, bytes);
  ASSERT_TRUE(tensor) << tensor.error().message;
  EXPECT_THAT(tensor->view.strings, testing::ElementsAreArray(words));
}

TEST(BinaryTensor, RefusesWrongSizes) {
  std::array<std::byte, 16> bytes{};
  const auto refused = [&](DataType type, const Shape& shape, std::size_t size) {
    return !read_binary(type, shape, std::span(bytes).first(size));
  };
  EXPECT_TRUE(refused(DataType::kFloat32, {2}, 7));
  EXPECT_TRUE(refused(DataType::kFloat32, {2}, 9));
  EXPECT_TRUE(refused(DataType::kFloat32, {INT64_MAX}, 8));
  EXPECT_TRUE(refused(DataType::kFloat32, {INT64_MAX, INT64_MAX}, 8));
  EXPECT_TRUE(refused(DataType::kFloat32, {-1}, 8));
  EXPECT_TRUE(refused(DataType::kString, {2}, 7));
  EXPECT_TRUE(refused(DataType::kString, {2}, 9));
  EXPECT_TRUE(refused(DataType::kString, {INT64_MAX}, 16));
  bytes[0] = std::byte{200};
  EXPECT_TRUE(refused(DataType::kString, {1}, 16));
  bytes[0] = std::byte{2};
  EXPECT_TRUE(refused(DataType::kBool, {1}, 1));
}

// As Triton has it: the body is the one element, without its length before it.
TEST(RawRequest, BytesAreOneElement) {
  BodyBudget budget(1u << 20);
  const SharedMemory shared(SharedMemoryAccess::kRefused);
  const auto decode = [&](const Shape& shape, std::string_view content) {
    Body body(budget);
    EXPECT_TRUE(body.append(std::as_bytes(std::span(content))));
    infer::ModelMetadata metadata;
    metadata.name = "m";
    metadata.inputs = {{"IN", DataType::kString, shape}};
    return decode_raw_infer(std::move(body), metadata, shared);
  };
  for (const Shape& shape : {Shape{1}, Shape{-1}, Shape{-1, 1}}) {
    const auto call = decode(shape, "\x02\x01 any");
    ASSERT_TRUE(call) << call.error().message;
    const auto& tensor = call->request.inputs.at(0).tensor;
    EXPECT_THAT(tensor.strings, ElementsAre("\x02\x01 any"));
    EXPECT_THAT(tensor.shape, Each(1));
    EXPECT_TRUE(call->binary_outputs);
  }
  EXPECT_TRUE(decode({1}, ""));
  EXPECT_FALSE(decode({3}, "any"));
}

TEST(WireType, NamesComeBack) {
  for (int i = 0; i <= 23; ++i) {
    const auto type = static_cast<DataType>(i);
    if (wire_name(type).empty()) continue;
    EXPECT_EQ(data_type_of_wire(wire_name(type)), type);
  }
  EXPECT_EQ(data_type_of_wire("STRING"), std::nullopt);
  EXPECT_EQ(data_type_of_wire(""), std::nullopt);
}

TEST(ErrorMap, IsTotalAndFollowsTheProtocol) {
  for (int i = 0; i <= static_cast<int>(ErrorCode::kInternal); ++i) {
    const auto code = static_cast<ErrorCode>(i);
    EXPECT_GE(http_status(code), 400u) << to_string(code);
    EXPECT_LT(http_status(code), 600u) << to_string(code);
    EXPECT_GE(grpc_status(code), 1) << to_string(code);
    EXPECT_LE(grpc_status(code), 16) << to_string(code);
  }
  EXPECT_EQ(http_status(ErrorCode::kNotFound), 404u);
  EXPECT_EQ(http_status(ErrorCode::kUnavailable), 503u);
  EXPECT_EQ(http_status(ErrorCode::kUnimplemented), 501u);
  EXPECT_EQ(grpc_status(ErrorCode::kNotFound), 5);
  EXPECT_EQ(grpc_status(ErrorCode::kUnavailable), 14);
  EXPECT_EQ(grpc_status(ErrorCode::kCancelled), 1);
}

TEST(Base64, ComesBackAndRefusesTheRest) {
  for (const std::string text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
    const auto encoded = encode_base64(std::as_bytes(std::span(text)));
    const auto bytes = decode_base64(encoded);
    ASSERT_TRUE(bytes) << encoded;
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()), text);
  }
  EXPECT_EQ(encode_base64(std::as_bytes(std::span("foob", 4))), "Zm9vYg==");
  for (const auto* bad : {"Zg", "Zg=", "Zh==", "Z===", "====", "Zg==Zg==", "Zm9 ", "Zm9-"})
    EXPECT_FALSE(decode_base64(bad)) << bad;
}

TEST(Compression, ComesBackWithinItsBound) {
  BodyBudget budget(64u << 20);
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += std::to_string(i);
  const std::span<const std::byte> piece = std::as_bytes(std::span(text));
  for (const Coding coding : {Coding::kGzip, Coding::kDeflate}) {
    const auto packed = compress(std::array{piece.first(1000), piece.subspan(1000)}, coding);
    ASSERT_TRUE(packed);
    EXPECT_LT(packed->size(), text.size());
    const auto bytes = std::as_bytes(std::span(*packed));
    const auto plain = decompress(bytes, coding, text.size(), budget, 5);
    ASSERT_TRUE(plain) << plain.error().message;
    EXPECT_EQ(plain->text(), text);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(plain->bytes().data() + 5) % Body::kAlignment, 0u);
    const auto bomb = decompress(bytes, coding, text.size() - 1, budget);
    ASSERT_FALSE(bomb);
    EXPECT_EQ(bomb.error().code, ErrorCode::kOutOfRange);
    EXPECT_FALSE(decompress(bytes.first(bytes.size() - 1), coding, text.size(), budget));
    std::string longer = *packed + "x";
    EXPECT_FALSE(decompress(std::as_bytes(std::span(longer)), coding, text.size(), budget));
    EXPECT_FALSE(decompress(piece, coding, text.size(), budget));
    EXPECT_FALSE(decompress({}, coding, text.size(), budget));
  }
  EXPECT_EQ(budget.used(), 0u);
}

TEST(Route, FindsEndpoints) {
  const auto found = [](std::string_view target) {
    const auto route = find_route(target);
    return route ? std::optional(route->endpoint) : std::nullopt;
  };
  EXPECT_EQ(found("/"), Endpoint::kStatusPage);
  EXPECT_EQ(found("/v2"), Endpoint::kServerMetadata);
  EXPECT_EQ(found("/v2/"), Endpoint::kServerMetadata);
  EXPECT_EQ(found("/v2/health/live?x=1"), Endpoint::kLive);
  EXPECT_EQ(found("/v2/models/stats"), Endpoint::kModelStatistics);
  EXPECT_EQ(found("/v2/models/m/versions/3/infer"), Endpoint::kInfer);
  EXPECT_EQ(found("/v2/models/m/versions/v3/infer"), std::nullopt);
  EXPECT_EQ(found("/v2/models/m/versions"), std::nullopt);
  EXPECT_EQ(found("/v2/repository/index"), Endpoint::kIndex);
  EXPECT_EQ(found("/v2/repository/r/index"), Endpoint::kIndex);
  EXPECT_EQ(found("/v2/repository/r/models/m/load"), Endpoint::kLoad);
  EXPECT_EQ(found("/v2/repository/models/m/unload"), Endpoint::kUnload);
  EXPECT_EQ(found("/v2/systemsharedmemory/status"), Endpoint::kSharedMemoryStatus);
  EXPECT_EQ(found("/v2/systemsharedmemory/region/r/register"), Endpoint::kSharedMemoryRegister);
  EXPECT_EQ(found("/v2/systemsharedmemory/register"), std::nullopt);
  EXPECT_EQ(found("/v1/models/m:predict"), Endpoint::kPredict);
  EXPECT_EQ(found("/v3"), std::nullopt);
  EXPECT_EQ(found("v2"), std::nullopt);
  EXPECT_EQ(found("/v2/models/%"), std::nullopt);
  EXPECT_EQ(find_route("/v2/models/a%20b%2Fc")->name, "a b/c");
  EXPECT_EQ(find_route("/v2/models/m/versions/7")->version, "7");
  std::string many = "/v2";
  for (int i = 0; i < 10'000; ++i) many += "/x";
  EXPECT_EQ(found(many), std::nullopt);
}

}  // namespace
}  // namespace selvage::serve
