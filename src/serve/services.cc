#include "serve/services.h"

#include <memory>

namespace selvage::serve {
namespace {

using Done = std::move_only_function<void(Result<void>)>;

void run_later(Tasks& tasks, std::move_only_function<Result<void>()> work, Done done) {
  auto shared = std::make_shared<Done>(std::move(done));
  const bool queued =
      tasks.submit([shared, work = std::move(work)]() mutable { (*shared)(work()); });
  if (!queued)
    (*shared)(fail(ErrorCode::kUnavailable, "too many models wait to be loaded: try again later"));
}

}  // namespace

std::vector<std::string_view> extensions(const SharedMemory& shared) {
  std::vector<std::string_view> names = {"classification",
                                         "sequence",
                                         "sequence(string_id)",
                                         "model_repository",
                                         "model_repository(unload_dependents)",
                                         "schedule_policy",
                                         "model_configuration",
                                         "binary_tensor_data",
                                         "parameters",
                                         "statistics"};
  if (shared.allowed()) names.emplace_back("system_shared_memory");
  return names;
}

Result<void> check_cuda_region(const SharedMemory& shared, std::string_view name) {
  SELVAGE_RETURN_IF_ERROR(shared.check_allowed());
  if (name.empty()) return {};
  return fail(ErrorCode::kNotFound, "no region '" + std::string(name) + "' is registered");
}

Result<void> refuse_cuda_region(std::string_view name) {
  return fail(ErrorCode::kUnimplemented,
              "region '" + std::string(name) + "': models run on the CPU; register system memory");
}

void load_later(Services& services, std::string model, infer::LoadOverrides overrides, Done done) {
  BudgetShare share(services.bodies);  // Until it is loaded: many may wait.
  std::uint64_t bytes = overrides.config_json.size();
  for (const auto& file : overrides.files) bytes += file.content.size();
  if (auto kept = share.add(bytes); !kept) return done(std::move(kept));
  run_later(
      services.loading,
      [&backend = services.backend, share = std::move(share), model = std::move(model),
       overrides = std::move(overrides)] { return backend.load(model, overrides); },
      std::move(done));
}

void unload_later(Services& services, std::string model, infer::Dependents dependents, Done done) {
  run_later(
      services.loading,
      [&backend = services.backend, model = std::move(model), dependents] {
        return backend.unload(model, dependents);
      },
      std::move(done));
}

}  // namespace selvage::serve
