#include "infer/boxes.h"

#include <cmath>
#include <limits>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace selvage::infer {
namespace {

using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// A picture twice as large as the tensor.
constexpr Frame kFrame{.picture_width = 200,
                       .picture_height = 200,
                       .tensor_width = 100,
                       .tensor_height = 100,
                       .to_picture = {.scale_x = 2, .scale_y = 2}};

struct Given {
  Shape shape;
  std::vector<float> values;

  [[nodiscard]] TensorView view() const {
    return {DataType::kFloat32, shape, std::as_bytes(std::span(values)), {}};
  }
};

Result<Boxes> find(const BoxesOutput& card, const Given& boxes, const Given& scores = {}) {
  const auto box_view = boxes.view(), score_view = scores.view();
  return BoxFinder(card).find({&box_view, 1}, {&score_view, 1}, kFrame);
}

std::vector<Candidate> random_candidates(std::mt19937& random, std::size_t count) {
  std::uniform_real_distribution<float> place(0, 100), size(1, 40);
  std::vector<Candidate> candidates(count);
  for (std::size_t i = 0; i < count; ++i) {
    auto& box = candidates[i];
    box.left = place(random), box.top = place(random);
    box.right = box.left + size(random), box.bottom = box.top + size(random);
    box.score = static_cast<float>(random() % 20) / 20;  // Ties on purpose.
    box.type = static_cast<std::int32_t>(random() % 3);
    box.slot = static_cast<std::uint32_t>(i);
  }
  return candidates;
}

/// By definition: a box stands when no better one that stands overlaps it.
std::vector<std::uint32_t> standing(std::vector<Candidate> boxes, float iou, bool per_class) {
  std::ranges::stable_sort(boxes, std::ranges::greater(), &Candidate::score);
  std::vector<Candidate> kept;
  std::vector<std::uint32_t> slots;
  for (const auto& box : boxes) {
    bool stands = true;
    for (const auto& better : kept)
      if ((!per_class || better.type == box.type) && overlap(better, box) > iou) stands = false;
    if (!stands) continue;
    kept.push_back(box);
    slots.push_back(box.slot);
  }
  return slots;
}

TEST(Overlap, IsIntersectionOverUnion) {
  const Candidate a{.left = 0, .top = 0, .right = 2, .bottom = 2};
  const Candidate b{.left = 1, .top = 0, .right = 3, .bottom = 2};
  EXPECT_FLOAT_EQ(overlap(a, b), 1 / 3.0f);
  EXPECT_FLOAT_EQ(overlap(a, a), 1);
  EXPECT_EQ(overlap(a, Candidate{.left = 2, .top = 0, .right = 3, .bottom = 1}), 0);
  EXPECT_EQ(overlap(Candidate{}, Candidate{}), 0);
}

TEST(Suppress, LeavesWhatTheDefinitionLeaves) {
  std::mt19937 random(17);
  for (int round = 0; round < 400; ++round) {
    const auto candidates = random_candidates(random, random() % 60);
    const bool per_class = round % 2 == 0;
    const float iou = 0.1f * static_cast<float>(random() % 10);
    auto got = candidates;
    suppress(got, {.mode = Suppression::kHard, .iou = iou, .per_class = per_class});
    const auto wanted = standing(candidates, iou, per_class);
    ASSERT_EQ(got.size(), wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_EQ(got[i].slot, wanted[i]);
  }
}

TEST(Suppress, KeepsAtMostTheBestSoMany) {
  std::mt19937 random(19);
  auto candidates = random_candidates(random, 50);
  const auto wanted = standing(candidates, 0.9f, true);
  suppress(candidates, {.iou = 0.9f, .boxes_max = 5});
  ASSERT_EQ(candidates.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(candidates[i].slot, wanted[i]);
  auto many = random_candidates(random, 3 * kCandidatesMax);
  suppress(many, {.mode = Suppression::kNone, .boxes_max = 1u << 20});
  EXPECT_EQ(many.size(), kCandidatesMax);
}

TEST(Suppress, BlendsAGroupByScore) {
  std::vector<Candidate> candidates{
      {.left = 0, .top = 0, .right = 10, .bottom = 10, .score = 0.75f, .slot = 0},
      {.left = 2, .top = 0, .right = 12, .bottom = 10, .score = 0.25f, .slot = 1},
      {.left = 50, .top = 50, .right = 60, .bottom = 60, .score = 0.5f, .slot = 2}};
  std::vector<float> points{1, 1, 5, 9, 55, 55};
  suppress(candidates, {.mode = Suppression::kWeighted, .iou = 0.3f}, points, 2);
  ASSERT_EQ(candidates.size(), 2u);
  EXPECT_FLOAT_EQ(candidates[0].left, 0.5f);
  EXPECT_FLOAT_EQ(candidates[0].right, 10.5f);
  EXPECT_EQ(candidates[0].score, 0.75f);
  EXPECT_FLOAT_EQ(points[0], 2);
  EXPECT_FLOAT_EQ(points[1], 3);
  EXPECT_FLOAT_EQ(candidates[1].left, 50);
  EXPECT_FLOAT_EQ(points[4], 55);
}

BoxesOutput ssd_card() {
  BoxesOutput card;
  card.decoder = BoxDecoder::kSsdAnchors;
  card.boxes = {"b"}, card.scores = {"s"};
  card.in_pixels = false;
  card.anchors = {{.columns = 2, .rows = 1, .sizes = {{0.5f, 0.25f}}}};
  card.xy_scale = 10, card.wh_scale = 5;
  card.threshold = 0.5f;
  return card;
}

TEST(BoxFinder, DecodesSsd) {
  auto card = ssd_card();
  card.exponential_size = true;
  card.y_first = true;
  card.background_class = 0;
  // Anchors at (.25, .5) and (.75, .5). The second box moves by (1, 2) / 10 of its size.
  const Given boxes{{1, 2, 4}, {0, 0, 0, 0, 2, 1, 5 * std::log(2.0f), 0}};
  const Given scores{{1, 2, 3}, {0.9f, 0.1f, 0.1f, 0.9f, 0.2f, 0.8f}};
  const auto found = find(card, boxes, scores);
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->boxes.size(), 1u);
  const auto& box = found->boxes[0];
  EXPECT_EQ(box.best.index, 2);
  EXPECT_FLOAT_EQ(box.best.score, 0.8f);
  const float centre_x = 0.1f * 0.5f + 0.75f, centre_y = 0.2f * 0.25f + 0.5f;
  EXPECT_NEAR(box.left, (centre_x - 0.25f) * 200, 1e-3);
  EXPECT_NEAR(box.right, 200, 1e-3) << "cut at the picture's border";
  EXPECT_NEAR(box.top, (centre_y - 0.25f) * 200, 1e-3);
  EXPECT_NEAR(box.bottom, (centre_y + 0.25f) * 200, 1e-3);
}

TEST(BoxFinder, SsdCountsMustFitTheCard) {
  EXPECT_THAT(
      find(ssd_card(), {{1, 2, 5}, std::vector<float>(10)}, {{1, 2}, {1, 1}}).error().message,
      HasSubstr("the last dimension must be 4"));
  EXPECT_THAT(
      find(ssd_card(), {{1, 3, 4}, std::vector<float>(12)}, {{1, 3}, {1, 1, 1}}).error().message,
      HasSubstr("it has only 2 anchors"));
  EXPECT_THAT(find(ssd_card(), {{1, 1, 4}, std::vector<float>(4)}, {{1, 1}, {1}}).error().message,
              HasSubstr("the model has 1 anchors, its card 2"));
  EXPECT_THAT(
      find(ssd_card(), {{1, 2, 4}, std::vector<float>(8)}, {{1, 3}, {1, 1, 1}}).error().message,
      HasSubstr("there are 2 boxes"));
  EXPECT_FALSE(find(ssd_card(), {{1, 0, 4}, {}}, {{1, 0}, {}}));
}

TEST(BoxFinder, DecodesYoloInBothLayouts) {
  BoxesOutput card;
  card.decoder = BoxDecoder::kYolo;
  card.labels = {"cat", "dog"};
  card.threshold = 0.4f;
  const std::vector<std::vector<float>> rows{{50, 50, 20, 10, 0.1f, 0.9f},
                                             {20, 20, 10, 10, 0.6f, 0.2f},
                                             {51, 50, 20, 10, 0.1f, 0.8f},
                                             {80, 80, 10, 10, 0.3f, 0.3f},
                                             {0, 0, 0, 0, 0, 0},
                                             {0, 0, 0, 0, 0, 0},
                                             {0, 0, 0, 0, 0, 0}};
  Given by_row{{1, 7, 6}, {}}, by_column{{1, 6, 7}, {}};
  for (const auto& row : rows) by_row.values.insert(by_row.values.end(), row.begin(), row.end());
  for (std::size_t k = 0; k < 6; ++k)
    for (const auto& row : rows) by_column.values.push_back(row[k]);
  for (const auto& given : {by_row, by_column}) {
    const auto found = find(card, given);
    ASSERT_TRUE(found) << found.error().message;
    ASSERT_EQ(found->boxes.size(), 2u);
    EXPECT_EQ(found->boxes[0].best.label, "dog");
    EXPECT_FLOAT_EQ(found->boxes[0].left, 80);
    EXPECT_FLOAT_EQ(found->boxes[0].bottom, 110);
    EXPECT_EQ(found->boxes[1].best.label, "cat");
  }
  card.objectness = true;  // Now one class: score = element 4 * element 5.
  const auto found = find(card, by_row);
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->boxes.empty());
  EXPECT_THAT(find(card, {{1, 9, 5}, std::vector<float>(45)}).error().message,
              HasSubstr("more than 5 values a box"));
  EXPECT_FALSE(find(card, {{7}, std::vector<float>(7)}));
  EXPECT_FALSE(find(card, {{2, 7, 6}, std::vector<float>(84)}));
}

TEST(BoxFinder, DecodesDirectRows) {
  BoxesOutput card;
  card.suppression = Suppression::kNone;
  card.threshold = 0.3f;
  const Given rows{{1, 3, 6},
                   {10, 20, 30, 40, 0.5f, 1, 10, 20, 30, 40, 0.9f, 0, 1, 2, 3, 4, 0.1f, 0}};
  const auto found = find(card, rows);
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->boxes.size(), 2u);
  EXPECT_FLOAT_EQ(found->boxes[0].best.score, 0.9f);
  EXPECT_FLOAT_EQ(found->boxes[1].right, 60);
  card.y_first = true;
  EXPECT_FLOAT_EQ(find(card, rows)->boxes[0].left, 40);
  EXPECT_FALSE(find(card, {{1, 3, 5}, std::vector<float>(15)}));
  EXPECT_TRUE(find(card, {{1, 0, 6}, {}})->boxes.empty());
}

TEST(BoxFinder, SurvivesNumbersThatAreNone) {
  std::mt19937 random(23);
  const float odd[] = {kNan, kInfinity, -kInfinity, 3e38f, -3e38f, 1e-40f, 0, 1, 0.7f, 50};
  for (int round = 0; round < 300; ++round) {
    auto card = ssd_card();
    card.exponential_size = round % 2;
    card.suppression = Suppression::kWeighted;
    card.keypoints = 1;
    card.activation = round % 3 ? Activation::kSigmoid : Activation::kNone;
    Given boxes{{1, 2, 6}, std::vector<float>(12)}, scores{{1, 2, 2}, std::vector<float>(4)};
    for (auto& value : boxes.values) value = odd[random() % 10];
    for (auto& value : scores.values) value = odd[random() % 10];
    const auto found = find(card, boxes, scores);
    ASSERT_TRUE(found) << found.error().message;
    for (const auto& box : found->boxes) {
      EXPECT_GE(box.left, 0);
      EXPECT_LE(box.right, 200);
      EXPECT_GT(box.right, box.left);
      EXPECT_GT(box.bottom, box.top);
    }
    card.decoder = BoxDecoder::kDirect;
    EXPECT_TRUE(find(card, boxes));
    card.decoder = BoxDecoder::kYolo;
    card.transposed = false;
    EXPECT_TRUE(find(card, boxes));
  }
}

}  // namespace
}  // namespace selvage::infer
