// One training step as one ONNX model: forward pass, losses, backward pass
// and optimiser. Inputs are the batch, the targets, the learning rate and the state (parameters,
// running statistics, optimiser state); outputs are the loss, the model's own outputs and the new
// state.
//
//   SELVAGE_TRY(auto graph, build_training_graph(runtime, model, options));
//   SELVAGE_TRY(auto session, TrainingSession::create(runtime, std::move(graph), {.threads = 2}));
//   for (...) SELVAGE_TRY(const float loss, session->step(batch, learning_rate));
//   SELVAGE_TRY(auto trained, export_model(model, session->parameters()));
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "graph/model.h"
#include "infer/runtime.h"
#include "learn/loss.h"
#include "learn/optimizer.h"

namespace selvage::learn {

/// Low-rank adapters (Hu 2021, arXiv 2106.09685): a weight W of a matching MatMul, Gemm or Conv
/// (group 1) becomes W + scale / rank * A.B with small trained A and B, W itself stays fixed.
struct LoraOptions {
  std::int64_t rank = 0;                      ///< 0 = no adapters.
  float scale = 1;                            ///< Called alpha in the paper.
  std::vector<std::string> patterns = {"*"};  ///< Of weight names.
  std::uint64_t seed = 0;                     ///< Of A's initial values; B begins with zeros.
};

struct TrainingGraphOptions {
  /// The size of every open first dimension of an input; a graph has one batch size.
  std::int64_t batch = 64;
  /// Inputs with other open dimensions: their whole shapes, by name.
  std::vector<std::pair<std::string, Shape>> input_shapes;
  std::vector<LossTerm> losses;
  OptimizerOptions optimizer;
  /// Parameters to train: those that match `train` (empty = all) and no pattern of `freeze`.
  /// A pattern that fits no parameter is refused with kInvalidArgument.
  std::vector<std::string> train;
  std::vector<std::string> freeze;
  LoraOptions lora;
  /// BatchNormalization keeps its running statistics (and normalises by them), as in inference.
  /// Those whose scale is not trained do so in any case.
  bool freeze_statistics = false;
  /// One update is made of the mean gradient of this many batches.
  std::int64_t accumulate = 1;
  /// Only ONNX's own operators in the graph, so that any runtime can run it. Otherwise a
  /// TrainingSession runs convolutions, batch normalisation and max pooling with kernels of ours
  /// (kernels.h).
  bool standard_operators = false;
  /// The backward pass computes normalised activations anew instead of keeping them: a third less
  /// memory for at most some more time, and the same bits. Only with kernels of ours.
  bool recompute = true;
  /// Of Dropout: the same seed and the same step drop the same.
  std::uint64_t seed = 0;
};

enum class StateRole : std::uint8_t {
  kParameter,  ///< A trained initialiser of the model.
  kStatistic,  ///< A running mean or variance.
  kAdapter,    ///< LoRA's A and B.
  kOptimizer,  ///< Momentum, squares, step counts, accumulated gradients, random state.
  kAverage,    ///< The moving average of a parameter.
};

/// A value that each step reads from `input` and writes anew to `output`.
struct StateTensor {
  StateRole role = StateRole::kParameter;
  std::string name;  ///< kParameter, kStatistic, kAverage: of the model's initialiser.
  std::string input, output;
  Tensor initial;
};

struct BatchInput {
  std::string name;
  DataType type = DataType::kFloat32;
  Shape shape;
  bool is_target = false;
};

/// A LoRA adapter, for merging: base + scale * A.B, seen in base's shape.
struct Adapter {
  std::string weight;  ///< The initialiser that it adds to.
  std::string a, b;    ///< Names of state tensors.
  float scale = 1;     ///< Rank included.
  Tensor base;
};

/// What a Dropout keeps, drawn anew for each step: 0 with probability `ratio`, else 1 / (1 -
/// ratio).
struct DropoutMask {
  std::string input;
  Shape shape;
  float ratio = 0.5f;
};

struct TrainingGraph {
  graph::Model model;
  std::vector<BatchInput> batch;     ///< The model's inputs in their order, then the targets.
  std::string learning_rate;         ///< A float32 scalar input.
  std::string apply;                 ///< A bool scalar input; empty without accumulation.
  std::string loss;                  ///< A float32 scalar output: the weighted sum.
  std::vector<std::string> losses;   ///< Each term's own, unweighted; one per LossTerm.
  std::vector<std::string> outputs;  ///< The model's outputs as graph outputs, in their order.
  std::vector<StateTensor> state;
  std::vector<Adapter> adapters;
  std::vector<DropoutMask> masks;
  std::uint64_t seed = 0;  ///< Of the masks.
  std::int64_t accumulate = 1;
  /// Of the values that a step keeps at once, at the fullest; what kernels need beside that and
  /// the state do not count.
  std::uint64_t activation_bytes = 0;

  /// What a TrainingSession takes: the state thrice (read, written, initial), the activations and a
  /// tenth for gaps between them.
  [[nodiscard]] std::uint64_t memory_bytes() const;
};

/// `inference` must have passed graph::check(). kInvalidArgument: an output, input or option that
/// does not fit, named. kUnimplemented: an operator without a gradient between a loss and a trained
/// parameter, with the path. kFailedPrecondition: nothing to train. Takes the runtime for shapes
/// and for folding constants; safe from any thread.
[[nodiscard]] Result<TrainingGraph> build_training_graph(infer::Runtime& runtime,
                                                         const graph::Model& inference,
                                                         const TrainingGraphOptions& options);

/// The model in inference mode with its losses as further outputs, for validation: run it with
/// infer::Session. Of the options only sizes and losses count. Errors as build_training_graph().
struct EvaluationGraph {
  graph::Model model;
  std::vector<BatchInput> batch;
  std::string loss;
  std::vector<std::string> losses;
  std::vector<std::string> outputs;
};
[[nodiscard]] Result<EvaluationGraph> build_evaluation_graph(infer::Runtime& runtime,
                                                             const graph::Model& inference,
                                                             const TrainingGraphOptions& options);

/// The model in inference mode with the gradients of its loss as further outputs.
struct GradientGraph {
  EvaluationGraph forward;
  std::vector<std::string> parameters;  ///< trainable_parameters() that the model stores.
  std::vector<std::string> gradients;   ///< Outputs of forward.model, one for each of these.
};
/// Options and errors as build_evaluation_graph(); kUnimplemented as build_training_graph().
[[nodiscard]] Result<GradientGraph> build_gradient_graph(infer::Runtime& runtime,
                                                         const graph::Model& inference,
                                                         const TrainingGraphOptions& options);

/// Names of the initialisers that training would change, in the model's order: float32, between an
/// input and an output, and in a place where a parameter belongs (not a bound of Clip, not the 0.5
/// of a Gelu).
[[nodiscard]] std::vector<std::string> trainable_parameters(const graph::Model& model);

struct NamedTensor {
  std::string name;
  Tensor value;
};

/// A copy of `inference` with these initialisers (or Constant nodes) replaced by name; all else
/// stays as it was. kNotFound for a name that the model lacks, kInvalidArgument for another shape.
[[nodiscard]] Result<graph::Model> export_model(const graph::Model& inference,
                                                std::span<const NamedTensor> values);

}  // namespace selvage::learn
