// ONNX Runtime in this process: found, checked, silent. Every session is made from the one Runtime.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace selvage::infer {

/// The oldest ONNX Runtime that the engine is tested with.
inline constexpr std::string_view kRuntimeVersionMin = "1.21";

/// When the runtime's library is loaded and its environment made, which take 4 and 12 MB.
enum class EnvironmentStart : std::uint8_t { kNow, kWithFirstSession };

/// Synchronised. Must outlive every session made from it. Make one per process: ONNX Runtime keeps
/// one environment per process, so a second Runtime shares it.
class Runtime {
 public:
  /// Switches the runtime's telemetry off (ORT_DISABLE_TELEMETRY, read once when the environment is
  /// made) and creates the environment: call it before other threads start, since it calls setenv.
  /// kFailedPrecondition, here or with the first session, when the library is missing or older than
  /// kRuntimeVersionMin.
  [[nodiscard]] static Result<std::unique_ptr<Runtime>> create(
      EnvironmentStart start = EnvironmentStart::kNow);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  [[nodiscard]] static std::string version();  ///< Of the loaded library: "1.30.0".
  /// Execution providers that the library has, by its own names: "CPUExecutionProvider", ...
  [[nodiscard]] static std::vector<std::string> providers();
  /// Those of them that start on this machine: their own libraries load and find a device. Tries
  /// each, which takes a moment; the libraries may write to standard error.
  [[nodiscard]] std::vector<std::string> usable_providers() const;

 private:
  struct State;  // Hides ONNX Runtime's headers from everyone above.
  friend class Session;
  explicit Runtime(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::infer
