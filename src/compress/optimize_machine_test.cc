// The search on real models and data. Latency is measured, so nothing here says what it must be.
#include "compress/optimize_machine.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <selvage/onnx.pb.h>
#include <unistd.h>

#include "base/file.h"
#include "compress/optimize_revert.h"
#include "graph/tensor.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

namespace fs = std::filesystem;
using infer::Dataset;
using infer::Part;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const fs::path kDeps = SELVAGE_DEPS_DIR;

infer::Runtime& runtime() {
  static const auto made = infer::Runtime::create().value();
  return *made;
}

class OptimizeMachine : public testing::Test {
 protected:
  OptimizeMachine()
      : folder_(fs::path(testing::TempDir()) /
                ("optimize-machine-" + std::to_string(::getpid()) + "-" +
                 testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "pictures");
  }
  ~OptimizeMachine() override { fs::remove_all(folder_); }

  void open(const fs::path& model, const fs::path& data, const MachineOptions& options) {
    model_ = model;
    const auto loaded = infer::Model::load(runtime(), model_);
    ASSERT_TRUE(loaded) << loaded.error().message;
    auto calibration = Dataset::open(data, **loaded, {.part = Part::kTrain});
    auto evaluation = Dataset::open(data, **loaded, {.part = Part::kTest});
    ASSERT_TRUE(calibration) << calibration.error().message;
    ASSERT_TRUE(evaluation) << evaluation.error().message;
    calibration_ = *std::move(calibration);
    evaluation_ = *std::move(evaluation);
    auto machine = Machine::create(runtime(), model_, *calibration_, *evaluation_, options);
    ASSERT_TRUE(machine) << machine.error().message;
    machine_ = *std::move(machine);
  }
  /// BlazeFace and a few pictures, two of them with faces.
  void open_faces() {
    // Every second one calibrates, in the order of their names: the first with a face does not.
    int number = 0;
    for (const auto* name : {"skimage/coffee.png", "skimage/astronaut.png", "skimage/chelsea.png",
                             "skimage/rocket.jpg", "opencv/messi5.jpg", "opencv/building.jpg"})
      fs::copy_file(kDeps / "data" / name,
                    folder_ / "pictures" /
                        (std::to_string(number++) + "-" + fs::path(name).filename().string()));
    open(kDeps / "models/blazeface-front/model.onnx", folder_ / "pictures",
         {.latency_seconds = 0.02});
  }
  Result<OptimizeResult> search(std::span<const Recipe> recipes, double max_drop = 0.01) {
    return optimize(*machine_, recipes,
                    {.targets = {.max_drop = max_drop}, .work = folder_ / "work"});
  }

  fs::path folder_, model_;
  std::unique_ptr<Dataset> calibration_, evaluation_;
  std::unique_ptr<Machine> machine_;
};

TEST_F(OptimizeMachine, QuantisesAFaceDetectorThatStillFindsFaces) {
  ASSERT_NO_FATAL_FAILURE(open_faces());
  EXPECT_FALSE(machine_->is_labelled());
  EXPECT_THAT(machine_->samples().evaluation, SizeIs(3));  // The others calibrate.
  const std::vector<Recipe> recipes{{.kind = CandidateKind::kFloat},
                                    {.kind = CandidateKind::kStatic, .per_channel = true}};
  const auto found = search(recipes, 0.5);
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_GE(found->candidates.size(), 3);
  for (const auto& candidate : found->candidates)
    ASSERT_TRUE(candidate.figures) << candidate.objection;
  const auto& original = *found->candidates[0].figures;
  const auto& folded = *found->candidates[1].figures;
  const auto& quantised = *found->candidates[2].figures;
  EXPECT_EQ(original.quality, 1);
  EXPECT_GT(folded.quality, 0.99);
  EXPECT_GT(quantised.quality, 0.5);
  EXPECT_LT(quantised.file_bytes, original.file_bytes * 2 / 3);
  EXPECT_GT(original.resident_bytes, 0);
  for (const auto& figures : {original, folded, quantised}) {
    EXPECT_GT(figures.latency.p50_ms, 0);
    EXPECT_LE(figures.latency.ratio_low, figures.latency.ratio);
    EXPECT_LE(figures.latency.ratio, figures.latency.ratio_high);
  }

  // What is saved is the candidate, loadable with the original's card.
  ASSERT_TRUE(save_candidate(*machine_, recipes[1], folder_ / "work", folder_ / "out.onnx"));
  const auto loaded = infer::Model::load(runtime(), folder_ / "out.onnx", {.card_beside = model_});
  EXPECT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(fs::file_size(folder_ / "out.onnx"), quantised.file_bytes);
}

TEST_F(OptimizeMachine, RanksEveryProductOfAModel) {
  ASSERT_NO_FATAL_FAILURE(open_faces());
  const Recipe recipe{.kind = CandidateKind::kStatic};
  const auto groups = machine_->groups(recipe);
  ASSERT_TRUE(groups);
  ASSERT_GT(groups->size(), 10);
  const auto all = machine_->output_error(recipe);
  ASSERT_TRUE(all) << all.error().message;
  auto without = recipe;
  // The errors of layers partly cancel, so only a small part of them surely sums up to less.
  for (std::size_t g = 0; g < groups->size() * 3 / 4; ++g)
    without.float_nodes.insert(without.float_nodes.end(), (*groups)[g].begin(), (*groups)[g].end());
  const auto part = machine_->output_error(without);
  ASSERT_TRUE(part) << part.error().message;
  EXPECT_GT(*all, 0);
  EXPECT_LT(*part, *all);
  const auto layers = machine_->compare_layers(recipe);
  ASSERT_TRUE(layers) << layers.error().message;
  EXPECT_GT(layers->size(), groups->size());
  const auto unknown =
      machine_->output_error({.kind = CandidateKind::kStatic, .float_nodes = {"no such node"}});
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("no such node"));
}

TEST_F(OptimizeMachine, StopsWhenAsked) {
  bool stop = false;
  for (const auto* name : {"astronaut.png", "coffee.png"})
    fs::copy_file(kDeps / "data/skimage" / name, folder_ / "pictures" / name);
  ASSERT_NO_FATAL_FAILURE(open(kDeps / "models/blazeface-front/model.onnx", folder_ / "pictures",
                               {.latency_seconds = 0.02, .keep_going = [&] { return !stop; }}));
  stop = true;
  const auto found = search({});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kCancelled);
}

TEST_F(OptimizeMachine, CountsWhatLabelsSay) {
  const auto model = kDeps / "models/fashion-cnn/model.onnx";
  if (!fs::exists(model)) GTEST_SKIP() << "no " << model;
  ASSERT_NO_FATAL_FAILURE(
      open(model, kDeps / "data/fashion-mnist",
           {.calibration_max = 50, .evaluation_max = 400, .seed = 7, .latency_seconds = 0.02}));
  EXPECT_TRUE(machine_->is_labelled());
  EXPECT_EQ(machine_->quality_name(), "accuracy");
  const std::vector<Recipe> recipes{{.kind = CandidateKind::kStatic, .per_channel = true},
                                    {.kind = CandidateKind::kChannels, .macs = 0.5}};
  const auto found = search(recipes, 0.02);
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_GE(found->candidates.size(), 3);
  ASSERT_TRUE(found->candidates[1].figures) << found->candidates[1].objection;
  ASSERT_TRUE(found->candidates[2].figures) << found->candidates[2].objection;
  const auto& original = *found->candidates[0].figures;
  EXPECT_GT(original.quality, 0.88);
  EXPECT_GT(found->candidates[1].figures->quality, original.quality - 0.02);
  EXPECT_LT(found->candidates[1].figures->file_bytes, original.file_bytes * 3 / 10);
  EXPECT_LT(found->candidates[2].figures->file_bytes, original.file_bytes);
  EXPECT_LT(found->candidates[2].figures->quality, original.quality);
}

/// Multiplies the elements whose place `chosen` takes.
template <typename Chosen>
void multiply(graph::Model& model, std::string_view name, float factor, Chosen chosen) {
  for (auto& tensor : *model.proto().mutable_graph()->mutable_initializer()) {
    if (tensor.name() != name) continue;
    auto values = graph::read_floats(tensor, model.folder()).value();
    for (std::size_t i = 0; i < values.size(); ++i)
      if (chosen(i)) values[i] *= factor;
    graph::store_floats(tensor, DataType::kFloat32, graph::shape_of(tensor), values);
    return;
  }
  FAIL() << "no initialiser " << name;
}

TEST_F(OptimizeMachine, RevertsOrEqualisesTheLayerThatQuantisesBadly) {
  const auto source = kDeps / "models/fashion-cnn";
  if (!fs::exists(source)) GTEST_SKIP() << "no " << source;
  fs::copy(source, folder_ / "cnn", fs::copy_options::recursive);
  // The same network, but for a channel that the first convolution makes a thousandth of and the
  // second a thousandfold: one scale leaves nothing of the second's other weights, and it does not
  // help that each output channel has its own.
  auto model = graph::Model::load(folder_ / "cnn/model.onnx").value();
  constexpr std::size_t kInputs = 32, kKernel = 9;
  for (const auto* name : {"1.weight", "1.bias"})
    multiply(model, name, 0.001f, [](std::size_t i) { return i == 0; });
  multiply(model, "4.weight", 1000, [](std::size_t i) { return i / kKernel % kInputs == 0; });
  ASSERT_TRUE(model.save(folder_ / "cnn/model.onnx"));
  ASSERT_NO_FATAL_FAILURE(open(folder_ / "cnn/model.onnx", kDeps / "data/fashion-mnist",
                               {.calibration_max = 50, .evaluation_max = 400, .seed = 7}));
  const auto quality_of = [&](const Recipe& recipe) -> Result<double> {
    SELVAGE_RETURN_IF_ERROR(machine_->build(recipe, folder_ / "candidate.onnx"));
    return machine_->quality(folder_ / "candidate.onnx");
  };
  const double original = quality_of({}).value();
  const Recipe plain{.kind = CandidateKind::kStatic, .per_channel = true};
  const double bad = quality_of(plain).value();
  EXPECT_LT(bad, original - 0.1);
  auto equalised = plain;
  equalised.equalized = true;
  EXPECT_GT(quality_of(equalised).value(), original - 0.01);

  const auto groups = machine_->groups(plain).value();
  const auto without = [&](const Reverted& reverted) {
    auto recipe = plain;
    for (const auto group : reverted)
      recipe.float_nodes.insert(recipe.float_nodes.end(), groups[group].begin(),
                                groups[group].end());
    return recipe;
  };
  const auto found = revert_until_good(
      {.groups = groups.size(),
       .quality = bad,
       .quality_wanted = original - 0.02,
       .quality_of = [&](const Reverted& reverted) { return quality_of(without(reverted)); },
       .error_of =
           [&](const Reverted& reverted) { return machine_->output_error(without(reverted)); },
       .keep_going = [] { return true; }});
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_FALSE(found->reverted.empty());
  EXPECT_LT(found->reverted.size(), groups.size());
  EXPECT_THAT(groups[found->reverted.front()], testing::Contains("/4/Conv"));
  EXPECT_GE(found->quality, original - 0.02);
}

TEST_F(OptimizeMachine, KeepsCalibrationAndEvaluationApart) {
  const auto model = kDeps / "models/fashion-cnn/model.onnx";
  if (!fs::exists(model)) GTEST_SKIP() << "no " << model;
  const auto loaded = infer::Model::load(runtime(), model);
  ASSERT_TRUE(loaded);
  const auto train = Dataset::open(kDeps / "data/fashion-mnist", **loaded, {.part = Part::kTrain});
  const auto test = Dataset::open(kDeps / "data/fashion-mnist", **loaded, {.part = Part::kTest});
  ASSERT_TRUE(train && test);
  const auto apart = divide_samples(**train, **test, 300, 20'000, 0);
  EXPECT_EQ(apart.calibration_count, 300);
  EXPECT_THAT(apart.evaluation, SizeIs(10'000));

  const auto shared = divide_samples(**test, **test, 300, 20'000, 0);
  EXPECT_EQ(shared.calibration_count, 300);
  EXPECT_THAT(shared.evaluation, SizeIs(9'700));
  for (std::size_t i = 0; i < 300; ++i)
    EXPECT_FALSE(std::ranges::binary_search(shared.evaluation, i * 10'000 / 300));

  const auto some = divide_samples(**test, **test, 9'000, 100, 1);
  EXPECT_EQ(some.calibration_count, 5'000);
  EXPECT_THAT(some.evaluation, SizeIs(100));
  EXPECT_EQ(divide_samples(**test, **test, 9'000, 100, 1).evaluation, some.evaluation);
  EXPECT_NE(divide_samples(**test, **test, 9'000, 100, 2).evaluation, some.evaluation);
}

TEST(Recipes, AreWhatAModelCanHave) {
  const auto model = graph::Model::load(kDeps / "models/blazeface-front/model.onnx");
  ASSERT_TRUE(model);
  const auto recipes = recipes_for(*model);
  const auto count = [&](CandidateKind kind) {
    return std::ranges::count(recipes, kind, &Recipe::kind);
  };
  EXPECT_EQ(count(CandidateKind::kFloat), 1);
  EXPECT_EQ(count(CandidateKind::kDynamic), 0);  // Nothing but convolutions.
  EXPECT_EQ(count(CandidateKind::kStatic), 5);
  EXPECT_EQ(count(CandidateKind::kChannels), 2);
  for (std::size_t i = 0; i < recipes.size(); ++i)
    EXPECT_EQ(std::ranges::count(recipes, describe(recipes[i]), describe), 1) << i;
}

TEST(Recipes, SayTheirCommand) {
  const CommandNames names{
      .model = "m.onnx", .out = "o.onnx", .data = "d", .label = "l", .calibration_samples = 9};
  EXPECT_THAT(command({}, names), IsEmpty());
  EXPECT_THAT(command({.kind = CandidateKind::kChannels, .macs = 0.75}, names),
              testing::ElementsAre("prune", "m.onnx", "o.onnx", "--macs", "75%"));
  EXPECT_THAT(command({.kind = CandidateKind::kDynamic, .per_channel = true}, names),
              testing::ElementsAre("quantize", "m.onnx", "o.onnx", "--dynamic", "--per-channel"));
  EXPECT_THAT(command({.kind = CandidateKind::kStatic,
                       .activations = DataType::kUint8,
                       .calibration = CalibrationMethod::kMse,
                       .types = {"Conv", "Gemm"},
                       .float_nodes = {"a", "b c"},
                       .equalized = true},
                      names),
              testing::ElementsAre("quantize", "m.onnx", "o.onnx", "--static", "--samples", "9",
                                   "--calibration", "mse", "--activations", "uint8", "--types",
                                   "Conv,Gemm", "--exclude-nodes", "a", "--exclude-nodes", "b c",
                                   "--equalize", "--data", "d", "--label", "l"));
}

}  // namespace
}  // namespace selvage::compress
