#include "infer/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::infer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint64_t kBytes = 1 << 16;

std::string error_of(std::string_view text) {
  const auto parsed = parse_yaml(text, kBytes);
  return parsed ? "" : parsed.error().message;
}

TEST(Yaml, ReadsMapsListsAndScalarsWithTheirLines) {
  const auto root = parse_yaml("a: 1\nb:\n  - x\n  - [y, z]\nc: ~\n", kBytes);
  ASSERT_TRUE(root) << root.error().message;
  EXPECT_THAT(root->keys, ElementsAre("a", "b", "c"));
  EXPECT_EQ(root->items[0].text, "1");
  EXPECT_EQ(root->items[1].kind, YamlNode::Kind::kList);
  EXPECT_EQ(root->items[1].line, 2);
  EXPECT_EQ(root->items[1].items[1].items[0].text, "y");
  EXPECT_EQ(root->items[1].items[1].line, 4);
  EXPECT_EQ(root->items[2].kind, YamlNode::Kind::kNull);
}

TEST(Yaml, AnEmptyDocumentHasNoFields) {
  for (const auto* text : {"", "# nothing\n", "---\n"}) {
    const auto root = parse_yaml(text, kBytes);
    ASSERT_TRUE(root) << root.error().message;
    EXPECT_EQ(root->kind, YamlNode::Kind::kNull);
  }
}

TEST(Yaml, RefusesWhatMakesSmallFilesLargeOrAmbiguous) {
  EXPECT_THAT(error_of("a: &x [1, 1]\nb: *x\n"), HasSubstr("line 1: anchors"));
  EXPECT_THAT(error_of("b: *x\n"), HasSubstr("line 1"));
  EXPECT_THAT(error_of("a: 1\na: 2\n"), HasSubstr("line 2: 'a' stands here twice"));
  EXPECT_THAT(error_of("? [a]\n: 1\n"), HasSubstr("must be a word"));
  EXPECT_THAT(error_of("a: 1\n---\nb: 2\n"), HasSubstr("more than one document"));
  EXPECT_THAT(error_of("a: [1\n"), HasSubstr("line"));
  EXPECT_THAT(error_of("a: \xff\n"), HasSubstr("UTF-8"));
  EXPECT_THAT(error_of(std::string("a: \0b", 5)), HasSubstr("zero bytes"));
  EXPECT_THAT(error_of(std::string(kBytes + 1, ' ')), HasSubstr("larger than"));
  EXPECT_THAT(error_of(std::string(40, '[') + std::string(40, ']')), HasSubstr("nested deeper"));
  std::string many = "a: [";
  for (std::size_t i = 0; i <= kYamlNodesMax; ++i) many += "1,";
  EXPECT_THAT(error_of(many + "]"), HasSubstr("more than 20000 values"));
}

TEST(Yaml, ManyNestedBracketsAreAnErrorAndNoCrash) {
  EXPECT_NE(error_of(std::string(20'000, '[')), "");
  EXPECT_NE(error_of(std::string(20'000, '{')), "");
}

struct Numbers {
  int whole = 7;
  std::optional<float> real;
  bool flag = false;
  std::vector<double> list;
  std::vector<std::string> words;
};

std::string read(std::string_view text, Numbers& numbers) {
  const auto root = parse_yaml(text, kBytes);
  if (!root) return root.error().message;
  YamlErrors errors;
  YamlFields fields(*root, "top", errors);
  fields.number("whole", numbers.whole, 1, 10);
  fields.number("real", numbers.real, -1, 1);
  fields.flag("flag", numbers.flag);
  fields.numbers("list", numbers.list, 0, 10);
  fields.texts("words", numbers.words);
  fields.finish();
  const auto result = errors.result();
  return result ? "" : result.error().message;
}

TEST(YamlFields, ReadsWhatIsThereAndLeavesTheRest) {
  Numbers numbers;
  EXPECT_EQ(read("real: 1/4\nflag: true\nlist: [1, 2.5]\nwords: one\n", numbers), "");
  EXPECT_EQ(numbers.whole, 7);
  EXPECT_EQ(numbers.real, 0.25f);
  EXPECT_TRUE(numbers.flag);
  EXPECT_THAT(numbers.list, ElementsAre(1, 2.5));
  EXPECT_THAT(numbers.words, ElementsAre("one"));
}

TEST(YamlFields, ErrorsNameLineAndField) {
  const std::pair<const char*, const char*> cases[] = {
      {"whole: 11", "line 1: top.whole: must be a whole number from 1 to 10"},
      {"whole: 1.5", "line 1: top.whole: must be a whole number"},
      {"whole: [1]", "line 1: top.whole"},
      {"real: nan", "top.real: must be a number from -1 to 1"},
      {"real: inf", "top.real"},
      {"real: 1/0", "top.real"},
      {"real: 0x1p-1", "top.real"},
      {"flag: yes", "top.flag: must be one of: false, true"},
      {"list: [1, x]", "top.list"},
      {"words: {a: 1}", "top.words: must be a list"},
      {"\nwhle: 3", "line 2: top.whle: unknown field; did you mean 'whole'?"},
      {"entirely: 3", "unknown field; known here: flag, list, real, whole, words"},
      {"[1, 2]", "must be fields and their values"},
  };
  for (const auto& [text, message] : cases) {
    Numbers numbers;
    EXPECT_THAT(read(text, numbers), HasSubstr(message)) << text;
  }
}

TEST(Yaml, NearestNameIsOnlyOneThatCouldBeMeant) {
  const std::vector<std::string> known{"width", "height", "filter"};
  EXPECT_EQ(nearest_name("widht", known), "width");
  EXPECT_EQ(nearest_name("hieght", known), "height");
  EXPECT_EQ(nearest_name("colour", known), std::nullopt);
  EXPECT_EQ(nearest_name(std::string(1 << 20, 'w'), known), std::nullopt);
}

}  // namespace
}  // namespace selvage::infer
