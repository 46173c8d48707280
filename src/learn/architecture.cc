#include "learn/architecture.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "graph/check.h"
#include "learn/architecture_builder.h"

namespace selvage::learn {
namespace {

using Build = Flow (*)(NetworkBuilder& net, std::int64_t classes);

std::string item(const std::string& container, std::int64_t index) {
  return container + "." + std::to_string(index);
}

/// 2NN of McMahan 2017 (arXiv 1602.05629): 199,210 parameters for 28 x 28 and 10 classes.
Flow mlp(NetworkBuilder& net, std::int64_t classes) {
  auto x = net.flatten("flatten", net.input());
  x = net.relu("relu", net.linear("fc1", x, 200));
  x = net.relu("relu", net.linear("fc2", x, 200));
  return net.linear("fc3", x, classes);
}

/// LeCun 1998 with ReLU and maximum pooling: 61,706 parameters for 28 x 28 and 10 classes. Pooling
/// stands before ReLU, which is the same function and less work.
Flow lenet5(NetworkBuilder& net, std::int64_t classes) {
  auto x = net.conv_padded("conv1", net.input(), 6, 5, 2);
  x = net.relu("relu", net.max_pool("pool", x));
  x = net.conv_padded("conv2", x, 16, 5, 0);
  x = net.relu("relu", net.max_pool("pool", x));
  x = net.flatten("flatten", x);
  x = net.relu("relu", net.linear("fc1", x, 120));
  x = net.relu("relu", net.linear("fc2", x, 84));
  return net.linear("fc3", x, classes);
}

Flow residual_block(NetworkBuilder& net, const std::string& module, const Flow& x,
                    std::int64_t channels, std::int64_t stride) {
  const ConvOptions strided{.stride = stride, .bias = false};
  auto y = net.batch_norm(module + ".bn1", net.conv(module + ".conv1", x, channels, 3, strided));
  y = net.relu(module + ".relu", y);
  y = net.batch_norm(module + ".bn2", net.conv(module + ".conv2", y, channels, 3, {.bias = false}));
  auto shortcut = x;
  if (stride != 1 || x.shape[1] != channels)
    shortcut = net.batch_norm(module + ".downsample.1",
                              net.conv(module + ".downsample.0", x, channels, 1, strided));
  return net.relu(module + ".relu", net.add(module, y, shortcut));
}

/// He 2015 (arXiv 1512.03385), section 4.2, with projections (option B): 272,474 parameters for
/// 3 x 32 x 32 and 10 classes.
Flow resnet20(NetworkBuilder& net, std::int64_t classes) {
  auto x = net.batch_norm("bn1", net.conv("conv1", net.input(), 16, 3, {.bias = false}));
  x = net.relu("relu", x);
  for (std::int64_t stage = 0; stage < 3; ++stage)
    for (std::int64_t block = 0; block < 3; ++block)
      x = residual_block(net, item("layer" + std::to_string(stage + 1), block), x,
                         std::int64_t{16} << stage, stage > 0 && block == 0 ? 2 : 1);
  return net.linear("fc", net.global_pool("avgpool", x), classes);
}

/// Sandler 2018 (arXiv 1801.04381), figure 4.
Flow inverted_residual(NetworkBuilder& net, const std::string& module, const Flow& x,
                       std::int64_t channels, std::int64_t stride, std::int64_t expansion) {
  const auto wide = x.shape[1] * expansion;
  std::int64_t part = 0;
  auto y = x;
  if (expansion != 1) {
    const auto name = item(module + ".conv", part++);
    y = net.batch_norm(name + ".1", net.conv(name + ".0", y, wide, 1, {.bias = false}));
    y = net.relu6(name + ".2", y);
  }
  const auto depthwise = item(module + ".conv", part++);
  y = net.conv(depthwise + ".0", y, wide, 3, {.stride = stride, .groups = wide, .bias = false});
  y = net.relu6(depthwise + ".2", net.batch_norm(depthwise + ".1", y));
  const auto project = item(module + ".conv", part++);
  y = net.conv(project, y, channels, 1, {.bias = false});
  y = net.batch_norm(item(module + ".conv", part), y);
  return stride == 1 && x.shape[1] == channels ? net.add(module, x, y) : y;
}

/// MobileNetV2's blocks, fewer and narrower. Pictures above 64 pixels are halved by the first
/// layer.
Flow mobilenet_small(NetworkBuilder& net, std::int64_t classes) {
  struct Stage {
    std::int64_t expansion, channels, blocks, stride;
  };
  constexpr std::array kStages{Stage{1, 16, 1, 1}, Stage{4, 24, 2, 2}, Stage{4, 40, 2, 2},
                               Stage{4, 64, 2, 1}};
  constexpr std::int64_t kLargeSide = 64;
  const auto stride = net.input().shape[2] > kLargeSide ? 2 : 1;
  auto x = net.conv("features.0.0", net.input(), 16, 3, {.stride = stride, .bias = false});
  x = net.relu6("features.0.2", net.batch_norm("features.0.1", x));
  std::int64_t index = 1;
  for (const auto& stage : kStages)
    for (std::int64_t block = 0; block < stage.blocks; ++block)
      x = inverted_residual(net, item("features", index++), x, stage.channels,
                            block == 0 ? stage.stride : 1, stage.expansion);
  const auto last = item("features", index);
  x = net.batch_norm(last + ".1", net.conv(last + ".0", x, 256, 1, {.bias = false}));
  x = net.relu6(last + ".2", x);
  return net.linear("classifier.1", net.global_pool("avgpool", x), classes);
}

/// One encoder block of Dosovitskiy 2020 (arXiv 2010.11929): norm first.
Flow transformer_block(NetworkBuilder& net, const std::string& module, const Flow& x,
                       std::int64_t heads) {
  const auto tokens = x.shape[1], width = x.shape[2], head = width / heads;
  const auto attention = module + ".attn";
  auto y = net.linear(attention + ".qkv", net.layer_norm(module + ".norm1", x), 3 * width);
  y = net.reshape(attention, y, {-1, tokens, 3, heads, head});
  y = net.transpose(attention, y, {2, 0, 3, 1, 4});
  const auto query = net.pick(attention + ".q", y, 0, 0);
  const auto key = net.pick(attention + ".k", y, 0, 1);
  const auto value = net.pick(attention + ".v", y, 0, 2);
  const auto scaled = net.scale(attention, query, 1 / std::sqrt(static_cast<float>(head)));
  auto weights = net.matmul(attention, scaled, net.transpose(attention, key, {0, 1, 3, 2}));
  weights = net.softmax(attention, weights);
  y = net.transpose(attention, net.matmul(attention, weights, value), {0, 2, 1, 3});
  y = net.linear(attention + ".proj", net.reshape(attention + ".out", y, {-1, tokens, width}),
                 width);
  const auto middle = net.add(module, x, y);
  y = net.linear(module + ".mlp.fc1", net.layer_norm(module + ".norm2", middle), 4 * width);
  y = net.linear(module + ".mlp.fc2", net.gelu(module + ".mlp.act", y), width);
  return net.add(module, middle, y);
}

constexpr std::int64_t kPatchLarge = 16, kPatchSmall = 4, kPatchLargeSide = 128;

/// DeiT-Ti (Touvron 2020, arXiv 2012.12877): 5,717,416 parameters for 3 x 224 x 224 and 1000
/// classes. Patches of 16, for pictures below 128 pixels of 4.
Flow vit_tiny(NetworkBuilder& net, std::int64_t classes) {
  constexpr std::int64_t kWidth = 192, kDepth = 12, kHeads = 3;
  const auto& shape = net.input().shape;
  const auto patch = std::min(shape[2], shape[3]) >= kPatchLargeSide ? kPatchLarge : kPatchSmall;
  auto x = net.conv_padded("patch_embed.proj", net.input(), kWidth, patch, 0, {.stride = patch});
  const auto tokens = x.shape[2] * x.shape[3];
  x = net.transpose("patch_embed", net.reshape("patch_embed", x, {-1, kWidth, tokens}), {0, 2, 1});
  net.token_parameter("cls_token", {1, 1, kWidth});
  net.token_parameter("pos_embed", {1, tokens + 1, kWidth});
  x = net.add_parameter("pos", "pos_embed", net.prepend("cls", "cls_token", x));
  for (std::int64_t block = 0; block < kDepth; ++block)
    x = transformer_block(net, item("blocks", block), x, kHeads);
  return net.linear("head", net.pick("pool", net.layer_norm("norm", x), 1, 0), classes);
}

Flow cnn1d(NetworkBuilder& net, std::int64_t classes) {
  auto x = net.input();
  struct Stage {
    std::int64_t channels, kernel;
  };
  std::int64_t index = 1;
  for (const auto [channels, kernel] : {Stage{32, 7}, Stage{64, 5}, Stage{128, 3}}) {
    const auto number = std::to_string(index++);
    x = net.conv("conv" + number, x, channels, kernel, {.bias = false});
    x = net.max_pool("pool", net.batch_norm("bn" + number, x));
    x = net.relu("relu", x);
  }
  return net.linear("fc", net.global_pool("avgpool", x), classes);
}

Flow gru(NetworkBuilder& net, std::int64_t classes) {
  constexpr std::int64_t kHidden = 64;
  return net.linear("fc", net.gru("gru", net.input(), kHidden), classes);
}

Flow autoencoder(NetworkBuilder& net, std::int64_t /*classes*/) {
  auto x = net.flatten("flatten", net.input());
  const auto width = x.shape[1];
  // A funnel to an eighth, and never wider than 128.
  const auto outer = std::clamp<std::int64_t>(width / 2, 2, 128);
  const auto inner = std::clamp<std::int64_t>(width / 8, 1, 32);
  x = net.relu("encoder.1", net.linear("encoder.0", x, outer));
  x = net.relu("encoder.3", net.linear("encoder.2", x, inner));
  x = net.relu("decoder.1", net.linear("decoder.0", x, outer));
  x = net.linear("decoder.2", x, width);
  return net.input().shape.size() == 2 ? x : net.reshape("unflatten", x, net.input().shape);
}

/// What an architecture asks of its input.
struct Rule {
  ArchitectureInfo info;
  Build build;
  std::size_t rank;       ///< 0 = any.
  std::int64_t side_min;  ///< Of the dimensions behind the first.
};

constexpr std::array kRules{
    Rule{{"mlp", "Two hidden layers of 200 (McMahan's 2NN)", "any"}, mlp, 0, 1},
    Rule{{"lenet5", "Two convolutions, three linear layers (LeCun 1998)", "CxHxW"}, lenet5, 3, 12},
    Rule{{"resnet20", "20 layers with shortcuts, for small pictures (He 2015)", "CxHxW"},
         resnet20,
         3,
         4},
    Rule{{"mobilenet-small", "Depthwise separable blocks (MobileNetV2's, fewer)", "CxHxW"},
         mobilenet_small,
         3,
         4},
    Rule{{"vit-tiny", "Vision transformer of 12 blocks, width 192 (DeiT-Ti)", "CxHxW"},
         vit_tiny,
         3,
         4},
    Rule{{"cnn1d", "Three convolutions over time, for signals", "CxL"}, cnn1d, 2, 8},
    Rule{{"gru", "A recurrent layer of 64 over a sequence's steps", "TxF"}, gru, 2, 1},
    Rule{{"autoencoder", "Through a narrow middle back to its input, for anomalies", "any", false},
         autoencoder,
         0,
         1}};

Result<void> check_input(const Rule& rule, const ArchitectureOptions& options) {
  const auto& shape = options.input;
  const auto refuse = [&](const std::string& why) {
    return fail(ErrorCode::kInvalidArgument,
                "an input of " + to_string(shape) + ": " + std::string(rule.info.name) + " " + why);
  };
  if (shape.empty() || (rule.rank != 0 && shape.size() != rule.rank))
    return refuse("takes " + std::string(rule.info.input == "any" ? "at least one dimension"
                                                                  : rule.info.input));
  std::int64_t elements = 1;
  for (const auto size : shape) {
    if (size < 1 || size > kInputSideMax || size > kInputElementsMax / elements)
      return refuse("takes sizes from 1 to " + std::to_string(kInputSideMax) +
                    ", together at most " + std::to_string(kInputElementsMax) + " elements");
    elements *= size;
  }
  for (std::size_t d = 1; d < shape.size(); ++d)
    if (shape[d] < rule.side_min)
      return refuse("takes sides of at least " + std::to_string(rule.side_min));
  if (rule.build == vit_tiny) {
    const auto patch = std::min(shape[1], shape[2]) >= kPatchLargeSide ? kPatchLarge : kPatchSmall;
    if (shape[1] % patch != 0 || shape[2] % patch != 0)
      return refuse("takes sides that are multiples of " + std::to_string(patch));
  }
  if (options.classes < 1 || options.classes > kClassesMax)
    return fail(
        ErrorCode::kInvalidArgument,
        std::to_string(options.classes) + " classes: from 1 to " + std::to_string(kClassesMax));
  return {};
}

}  // namespace

std::span<const ArchitectureInfo> architectures() {
  static const auto all = [] {
    std::array<ArchitectureInfo, kRules.size()> infos;
    std::ranges::transform(kRules, infos.begin(), &Rule::info);
    return infos;
  }();
  return all;
}

Result<graph::Model> make_architecture(std::string_view name, const ArchitectureOptions& options) {
  const auto* rule = std::ranges::find(kRules, name, [](const Rule& r) { return r.info.name; });
  if (rule == kRules.end()) {
    std::string known;
    for (const auto& one : kRules)
      known += (known.empty() ? "" : ", ") + std::string(one.info.name);
    return fail(ErrorCode::kNotFound,
                "no architecture '" + std::string(name) + "'; there are " + known);
  }
  SELVAGE_RETURN_IF_ERROR(check_input(*rule, options));
  NetworkBuilder net(name, options.input, options.seed);
  auto model = net.finish(rule->build(net, options.classes));
  SELVAGE_RETURN_IF_ERROR(graph::check(model));
  return model;
}

}  // namespace selvage::learn
