// A data set's samples through a model, batch by batch. Internal to src/compress.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/histogram.h"
#include "base/result.h"
#include "base/tensor.h"
#include "infer/dataset.h"
#include "infer/model.h"

namespace selvage::compress {

/// Reads samples into tensors, as many at once as data and models can take. Confined to one thread.
class BatchReader {
 public:
  /// `batch` 1 where the data do not take batches.
  BatchReader(const infer::Dataset& data, std::size_t batch) : data_(data), batch_(batch) {}
  /// The tensors of the samples, in the order of data.inputs(); valid until the next call.
  [[nodiscard]] Result<std::span<const TensorView>> read(std::span<const std::size_t> indices);

 private:
  [[nodiscard]] Result<void> read_many(std::span<const std::size_t> indices);

  const infer::Dataset& data_;
  std::size_t batch_;
  std::vector<Tensor> tensors_;
  std::vector<std::vector<std::byte>> bytes_;
  std::vector<Shape> shapes_;
  std::vector<TensorView> views_;
};

/// One model on those tensors. Its recurrent state is zero in each run. Confined to one thread.
class ModelRunner {
 public:
  [[nodiscard]] static Result<ModelRunner> create(const infer::Model& model,
                                                  const infer::Dataset& data);
  /// Runs and returns the output that the card means, as floats; valid until the next call.
  [[nodiscard]] Result<std::span<const float>> run(std::span<const TensorView> inputs);
  [[nodiscard]] const Histogram& latency() const { return *latency_; }

 private:
  ModelRunner() = default;
  std::unique_ptr<infer::Binding> binding_;
  std::unique_ptr<Histogram> latency_ = std::make_unique<Histogram>();
  std::vector<std::size_t> inputs_;  // Of the session, in the data set's order.
  std::size_t output_ = 0;
  std::vector<float> scratch_;
};

/// How many samples each run takes: `wanted`, or 1 where the data do not take batches or the model
/// has state or constants.
[[nodiscard]] std::size_t batch_for(const infer::Model& model, const infer::Dataset& data,
                                    std::size_t wanted);
/// The output that the card means, among the session's.
[[nodiscard]] Result<std::size_t> main_output(const infer::Model& model);

/// The error for a sample to which `whose` ("the model's") output cannot be judged: it blames the
/// sample's own numbers where they are not finite. `inputs` hold `count` samples, that one at `at`;
/// none where it is no tensor.
[[nodiscard]] std::unexpected<Error> not_finite(const infer::Dataset& data, std::size_t sample,
                                                std::span<const TensorView> inputs, std::size_t at,
                                                std::size_t count, std::string_view whose);

/// Calls `each` with slices of the chosen samples; after each, `progress` may stop: kCancelled.
[[nodiscard]] Result<void> for_each_batch(
    const infer::Dataset& data, std::span<const std::size_t> samples, std::size_t batch,
    const std::function<bool(std::size_t)>& progress,
    const std::function<Result<void>(std::span<const std::size_t>)>& each);

}  // namespace selvage::compress
