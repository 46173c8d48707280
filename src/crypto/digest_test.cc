#include "crypto/digest.h"

#include <filesystem>
#include <fstream>
#include <unordered_set>

#include <gtest/gtest.h>
#include <unistd.h>

namespace selvage::crypto {
namespace {

// FIPS 180-4's examples and the first entries of NIST's SHA256ShortMsg.rsp.
struct Vector {
  std::string message;
  std::string_view hex;
};

const std::vector<Vector>& vectors() {
  static const std::vector<Vector> all = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmn"
       "opq"
       "rsmnopqrstnopqrstu",
       "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
      {std::string("\xd3", 1), "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1"},
      {std::string("\x11\xaf", 2),
       "5ca7133fa735326081558ac312c620eeca9970d1e70a4b95533d956f072d1f98"},
      {std::string(1'000'000, 'a'),
       "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
  };
  return all;
}

TEST(Digest, MatchesTheStandardsVectors) {
  for (const auto& vector : vectors()) EXPECT_EQ(sha256(vector.message).hex(), vector.hex);
}

TEST(Digest, IsTheSameInPartsOfAnySize) {
  for (const auto& vector : vectors()) {
    for (const std::size_t part :
         {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{65}}) {
      if (part == 1 && vector.message.size() > 1000) continue;
      Sha256 hash;
      for (std::string_view rest = vector.message; !rest.empty();
           rest.remove_prefix(std::min(part, rest.size())))
        hash.update(rest.substr(0, part));
      EXPECT_EQ(hash.finish().hex(), vector.hex) << "in parts of " << part;
    }
  }
}

TEST(Digest, FinishStartsOver) {
  Sha256 hash;
  hash.update("something else");
  (void)hash.finish();
  hash.update("abc");
  EXPECT_EQ(hash.finish(), sha256("abc"));
}

TEST(Digest, ParsesWhatItPrintsAndNothingElse) {
  const Digest digest = sha256("abc");
  EXPECT_EQ(Digest::parse(digest.hex()), digest);
  std::string upper = digest.hex();
  for (auto& c : upper) c = static_cast<char>(std::toupper(c));
  EXPECT_EQ(Digest::parse(upper), digest);
  const std::string text = digest.hex();
  for (const std::string& bad : {std::string(), text.substr(1), text + "0", "g" + text.substr(1),
                                 " " + text.substr(1), text.substr(1) + std::string(1, '\0')}) {
    const auto parsed = Digest::parse(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(Digest, OrdersAsItsHexadecimalForm) {
  const Digest a = sha256("1");
  const Digest b = sha256("2");
  EXPECT_EQ(a < b, a.hex() < b.hex());
  EXPECT_NE(a, b);
  EXPECT_LT(Digest(), a);
  EXPECT_EQ((std::unordered_set<Digest>{a, b, a}.size()), 2u);
}

TEST(Digest, OfAFileEqualsThatOfItsBytes) {
  const auto path =
      std::filesystem::temp_directory_path() / ("digest_test." + std::to_string(::getpid()));
  // Empty, one byte, and around the size of the pieces that are read.
  for (const std::size_t size : {0u, 1u, (1u << 20) - 1, 1u << 20, (1u << 20) + 1, 3'000'000u}) {
    std::string content(size, '\0');
    for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 31 + i / 256);
    std::ofstream(path, std::ios::binary) << content;
    EXPECT_EQ(sha256_file(path), sha256(content)) << size;
  }
  std::filesystem::remove(path);
}

TEST(Digest, OfNoFileNamesThePath) {
  const auto missing = sha256_file("/nonexistent/model.onnx");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("/nonexistent/model.onnx"), std::string::npos);
  const auto folder = sha256_file("/");
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace selvage::crypto
