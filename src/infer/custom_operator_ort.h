// Custom operators in the runtime's terms. Internal to src/infer.
#pragma once

#include <memory>
#include <vector>

#include "infer/custom_operator.h"
#include "infer/ort.h"

namespace selvage::infer {

/// The domain of a session's operators, which the session must not outlive.
class OperatorDomain {
 public:
  [[nodiscard]] static Result<std::unique_ptr<OperatorDomain>> create(
      std::span<const CustomOperator* const> operators);
  ~OperatorDomain();
  OperatorDomain(const OperatorDomain&) = delete;
  OperatorDomain& operator=(const OperatorDomain&) = delete;

  [[nodiscard]] Result<void> add_to(OrtSessionOptions* options) const;

 private:
  struct Entry;
  OperatorDomain();
  std::vector<std::unique_ptr<Entry>> entries_;
  OrtCustomOpDomain* domain_ = nullptr;
};

}  // namespace selvage::infer
