// Runs batches of requests on a model: gathers their tensors, runs once, shares out the results.
// Internal to the serving core.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "infer/chain_runner.h"
#include "infer/model.h"
#include "infer/scheduler.h"
#include "infer/sequence_queue.h"
#include "infer/signature.h"

namespace selvage::infer {

class RunSlot;
class SlotPool;

/// Immutable but for its pools, which are synchronised.
///
/// A request that runs alone is read where it lies; several are copied into one input. Outputs are
/// written to memory that is kept from run to run, of which every response of a batch holds its
/// part, or, for a request that runs alone, to where the client wants them. When a batch fails, its
/// requests are tried one by one, so that one that is wrong does not fail the others.
class OnnxRunner final : public Runner {
 public:
  /// `name` and `version` are what responses carry. At most `idle_max` sets of buffers are kept.
  OnnxRunner(std::shared_ptr<const Model> model, Signature signature, std::string name,
             std::string version, std::size_t idle_max);
  ~OnnxRunner() override;

  /// Checks the request and sets what the scheduler must know. kInvalidArgument.
  [[nodiscard]] Result<void> prepare(InferJob& job) const;
  [[nodiscard]] bool compatible(const Job& a, const Job& b) const;
  void run(Scheduler& scheduler, Batch& batch) override;

  /// Runs on inputs in the order of the signature, as a request with them would, and checks that
  /// the outputs are what the signature says. For warming up.
  [[nodiscard]] Result<std::vector<Tensor>> try_run(std::span<const Tensor> inputs);

  [[nodiscard]] const Signature& signature() const { return signature_; }
  [[nodiscard]] const Model& model() const { return *model_; }
  [[nodiscard]] const std::shared_ptr<const Model>& shared_model() const { return model_; }

 private:
  struct Run;  // One execution in progress.
  [[nodiscard]] Result<void> infer(Scheduler& scheduler, Batch& batch,
                                   std::span<const std::shared_ptr<Job>> jobs);
  void predict(Scheduler& scheduler, const Batch& batch, PredictJob& job);
  [[nodiscard]] Result<void> bind(RunSlot& slot, const Run& run) const;
  [[nodiscard]] Result<void> bind_sequence(RunSlot& slot, const Run& run) const;
  [[nodiscard]] Result<void> bind_outputs(RunSlot& slot, const Run& run) const;
  [[nodiscard]] Result<void> check_rows(RunSlot& slot, const Run& run) const;
  [[nodiscard]] Result<void> keep_state(RunSlot& slot, const Run& run) const;
  [[nodiscard]] Result<InferenceResponse> respond(const std::shared_ptr<RunSlot>& slot,
                                                  const Run& run, InferJob& job,
                                                  std::int64_t first_row) const;
  void answer(Scheduler& scheduler, const Batch& batch, Run& run,
              const std::shared_ptr<RunSlot>& slot) const;
  [[nodiscard]] const Tensor& state_of(const Job& job, std::size_t index) const;

  const std::shared_ptr<const Model> model_;
  const Signature signature_;
  const std::string name_, version_;
  bool rows_alike_ = true;  // Only the first dimension is open.
  bool work_alike_ = true;  // Every row takes the same work: nothing else is open.
  const std::shared_ptr<SlotPool> slots_;
  IdlePool<Predictor> predictors_;
};

}  // namespace selvage::infer
