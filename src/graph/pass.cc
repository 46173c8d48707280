#include "graph/pass.h"

#include <algorithm>
#include <array>

#include "graph/check.h"
#include "graph/passes.h"

namespace selvage::graph {
namespace {

constexpr std::array kStandard{
    Pass{.name = "initialiser-inputs",
         .summary = "weights that IR version 3 lists as inputs become constants",
         .run = drop_initialiser_inputs},
    Pass{.name = "constant-nodes",
         .summary = "Constant nodes become initialisers",
         .run = store_constant_nodes},
    Pass{.name = "identities",
         .summary = "Identity, Dropout outside of training and factors of 1 leave",
         .run = remove_identities},
    Pass{.name = "fold-constants",
         .summary = "what depends on constants only is computed once",
         .run = fold_constants},
    Pass{.name = "branches",
         .summary = "If of a constant gives way to the branch that it takes",
         .run = inline_branches},
    Pass{.name = "hard-sigmoids",
         .summary = "Clip(x + c) / h becomes HardSigmoid",
         .run = find_hard_sigmoids},
    Pass{.name = "fold-batch-norm",
         .summary = "BatchNormalization and constant factors are merged into the weights before",
         .run = fold_after_layers},
    Pass{.name = "fold-factors",
         .summary = "numbers that a Conv's input is scaled and shifted by go into its weights",
         .run = fold_before_layers},
    Pass{.name = "dead-code",
         .summary = "nodes and initialisers that no output needs leave",
         .run = remove_dead_code}};

constexpr Pass kInferTypes{
    .name = "infer-types", .summary = "all values get types and shapes", .run = declare_types};

Result<void> check_names(std::span<const Pass> passes, const std::vector<std::string>& disabled) {
  for (const auto& name : disabled) {
    if (std::ranges::find(passes, name, &Pass::name) != passes.end()) continue;
    std::string known;
    for (const auto& pass : passes) known.append(known.empty() ? "" : ", ").append(pass.name);
    return fail(ErrorCode::kInvalidArgument, "no pass '" + name + "'; there are " + known);
  }
  return {};
}

std::unexpected<Error> broken(const Pass& pass, const Error& error) {
  return fail(ErrorCode::kInternal, "pass " + std::string(pass.name) + " broke the model: " +
                                        error.message + " (disable the pass, and please report)");
}

/// One pass and what is asked of it afterwards.
Result<std::size_t> run_one(Model& model, const Pass& pass, const PassOptions& options) {
  const auto before = options.same ? model.copy() : Model();
  SELVAGE_TRY(const auto edits, pass.run(model, options.context));
  if (edits == 0) return edits;
  if (options.check_each)
    if (const auto valid = check(model); !valid) return broken(pass, valid.error());
  if (options.same)
    if (const auto same = options.same(before, model); !same) return broken(pass, same.error());
  return edits;
}

}  // namespace

std::span<const Pass> standard_passes() {
  return kStandard;
}

const Pass& infer_types_pass() {
  return kInferTypes;
}

Result<std::vector<PassReport>> run_passes(Model& model, std::span<const Pass> passes,
                                           const PassOptions& options) {
  using std::chrono::steady_clock;
  SELVAGE_RETURN_IF_ERROR(check_names(passes, options.disabled));
  std::vector<PassReport> reports;
  for (const auto& pass : passes) {
    PassReport report{.name = pass.name};
    report.is_disabled = std::ranges::find(options.disabled, pass.name) != options.disabled.end();
    if (!report.is_disabled) {
      const auto start = steady_clock::now();
      SELVAGE_TRY(report.edits, run_one(model, pass, options));
      report.time = steady_clock::now() - start;
    }
    reports.push_back(report);
  }
  return reports;
}

}  // namespace selvage::graph
