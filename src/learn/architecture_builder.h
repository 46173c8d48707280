// Networks layer by layer, as a PyTorch module would be exported. Internal to src/learn.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/random.h"
#include "base/tensor.h"
#include "graph/model.h"

namespace selvage::learn {

/// A value on its way through the network. The shape's first dimension, the batch, is -1.
struct Flow {
  std::string name;
  Shape shape;
};

struct ConvOptions {
  std::int64_t stride = 1;
  std::int64_t groups = 1;
  bool bias = true;
};

/// A layer's `module` is its path: "layer1.0.conv1" has the parameter "layer1.0.conv1.weight" and
/// the node "/layer1/layer1.0/conv1/Conv". Confined to one thread.
class NetworkBuilder {
 public:
  NetworkBuilder(std::string_view name, const Shape& input, std::uint64_t seed);

  [[nodiscard]] const Flow& input() const { return input_; }
  /// "Same" padding for odd kernels unless `padding` says otherwise; one or two dimensions, as the
  /// flow has them.
  Flow conv(const std::string& module, const Flow& x, std::int64_t channels, std::int64_t kernel,
            const ConvOptions& options = {});
  Flow conv_padded(const std::string& module, const Flow& x, std::int64_t channels,
                   std::int64_t kernel, std::int64_t padding, const ConvOptions& options = {});
  Flow batch_norm(const std::string& module, const Flow& x);
  Flow layer_norm(const std::string& module, const Flow& x);
  /// On the last dimension.
  Flow linear(const std::string& module, const Flow& x, std::int64_t outputs);
  /// The last hidden state of [N,T,F]. The parameters have ONNX's layout: gates z, r, h.
  Flow gru(const std::string& module, const Flow& x, std::int64_t hidden);

  Flow relu(const std::string& module, const Flow& x);
  Flow relu6(const std::string& module, const Flow& x);
  Flow gelu(const std::string& module, const Flow& x);
  Flow max_pool(const std::string& module, const Flow& x);     ///< 2, stride 2.
  Flow global_pool(const std::string& module, const Flow& x);  ///< The mean, flat: [N,C].
  Flow flatten(const std::string& module, const Flow& x);
  Flow add(const std::string& module, const Flow& a, const Flow& b);
  Flow matmul(const std::string& module, const Flow& a, const Flow& b);
  Flow scale(const std::string& module, const Flow& x, float factor);
  Flow softmax(const std::string& module, const Flow& x);
  Flow transpose(const std::string& module, const Flow& x, const std::vector<std::int64_t>& order);
  Flow reshape(const std::string& module, const Flow& x, const Shape& shape);
  /// One index of a dimension, which goes.
  Flow pick(const std::string& module, const Flow& x, std::int64_t axis, std::int64_t index);
  /// `parameter`, of shape [1,...], for every sample, before `x` along axis 1.
  Flow prepend(const std::string& module, const std::string& parameter, const Flow& x);
  Flow add_parameter(const std::string& module, const std::string& parameter, const Flow& x);

  /// Close to normal with deviation 0.02, as timm's tokens and positions are.
  void token_parameter(const std::string& name, const Shape& shape);

  [[nodiscard]] graph::Model finish(const Flow& output);

 private:
  using Attribute =
      std::pair<std::string, std::variant<std::int64_t, std::vector<std::int64_t>, float>>;
  std::string node(const std::string& module, std::string_view type,
                   const std::vector<std::string>& inputs,
                   const std::vector<Attribute>& attributes = {}, std::size_t outputs = 1,
                   std::size_t result = 0);
  void initialiser(const std::string& name, const Shape& shape, const std::vector<float>& values);
  void filled(const std::string& name, const Shape& shape, float value);
  void uniform(const std::string& name, const Shape& shape, double bound);
  std::string integers(const std::string& name, const std::vector<std::int64_t>& values);
  std::string constant(const std::string& module, float value);
  std::string unique(const std::string& name);  ///< With _1, _2, ... as exports number repeats.

  graph::Model model_;
  Random random_;
  Flow input_;
  std::map<std::string, int> names_;
};

}  // namespace selvage::learn
