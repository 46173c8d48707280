// Values inside of a model, run by run: what calibration, comparison and correction look at.
// Internal to src/compress.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "compress/calibrate.h"
#include "graph/model.h"
#include "infer/session.h"

namespace selvage::compress {

/// As the reference runs models to calibrate them: nothing fused, nothing rounded, so that values
/// agree bit for bit.
[[nodiscard]] infer::SessionOptions plain_options();

/// Those of `values` that are float32 tensors and inputs of the model or outputs of its nodes, in
/// groups of neighbours that take about `memory_max` bytes together in one run of `sample`.
[[nodiscard]] Result<std::vector<std::vector<std::string>>> group_values(
    infer::Runtime& runtime, const graph::Model& model, std::span<const std::string> values,
    std::span<const Tensor> sample, std::uint64_t memory_max);

/// A model some of whose values can be seen after each run. Confined to one thread.
class ExposedModel {
 public:
  [[nodiscard]] static Result<ExposedModel> create(infer::Runtime& runtime,
                                                   const graph::Model& model,
                                                   std::span<const std::string> values);

  [[nodiscard]] const infer::Session& session() const { return *session_; }
  /// kInvalidArgument where the tensors do not fit the inputs, which they must outlive.
  [[nodiscard]] Result<void> run(std::span<const Tensor> inputs);
  /// Value `index` of those given to create(), of the last run; valid until the next.
  [[nodiscard]] TensorView value(std::size_t index) const;

 private:
  struct Place {
    bool is_input = false;
    std::size_t index = 0;
  };
  std::unique_ptr<infer::Session> session_;
  std::unique_ptr<infer::Binding> binding_;
  std::vector<Place> places_;
  std::span<const Tensor> inputs_;
};

using VisitValue = std::function<void(const std::string& name, const TensorView& value)>;
/// Runs every sample and visits each of `values` after each run, groups as group_values() makes
/// them of half a gigabyte: all runs of one group come before those of the next. Names that
/// group_values() leaves out are not visited. `samples` has at least one.
[[nodiscard]] Result<void> for_each_value(infer::Runtime& runtime, const graph::Model& model,
                                          std::span<const std::string> values,
                                          const Samples& samples, const VisitValue& visit);

}  // namespace selvage::compress
