// Operators of our own inside the runtime: nodes of the domain "selvage",
// computed by kernels that run on the runtime's threads. All their tensors are
// float32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"

namespace selvage::infer {

inline constexpr std::string_view kOperatorDomain = "selvage";

/// A node's attributes, read while the session is created.
class OperatorAttributes {
 public:
  virtual ~OperatorAttributes() = default;
  /// Empty where the node has no such attribute.
  [[nodiscard]] virtual std::vector<std::int64_t> integers(const char* name) const = 0;
  [[nodiscard]] virtual float number(const char* name, float otherwise) const = 0;
};

/// One call of a kernel. Spans are valid during the call.
class OperatorCall {
 public:
  struct Input {
    Shape shape;
    std::span<const float> values;
  };
  virtual ~OperatorCall() = default;
  [[nodiscard]] virtual std::size_t input_count() const = 0;
  [[nodiscard]] virtual Result<Input> input(std::size_t index) = 0;
  /// Makes the output; its elements are not initialised.
  [[nodiscard]] virtual Result<std::span<float>> output(std::size_t index, const Shape& shape) = 0;

  /// Calls task(i) for 0 <= i < count on the runtime's threads and waits for
  /// all of them.
  template <typename Task>
  [[nodiscard]] Result<void> parallel(std::size_t count, const Task& task) {
    return run_parallel(
        count,
        [](void* context, std::size_t index) { (*static_cast<const Task*>(context))(index); },
        const_cast<Task*>(&task));
  }

 private:
  [[nodiscard]] virtual Result<void> run_parallel(std::size_t count,
                                                  void (*task)(void*, std::size_t),
                                                  void* context) = 0;
};

/// What one node does. compute() may be called by several threads at once if
/// the session is.
class OperatorKernel {
 public:
  virtual ~OperatorKernel() = default;
  [[nodiscard]] virtual Result<void> compute(OperatorCall& call) const = 0;
};

/// A kind of operator. For SessionOptions::operators; must outlive the session.
struct CustomOperator {
  const char* name;
  std::size_t inputs, outputs;
  Result<std::unique_ptr<OperatorKernel>> (*create)(const OperatorAttributes& attributes);
};

}  // namespace selvage::infer
