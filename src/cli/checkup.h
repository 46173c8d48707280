// What is right and wrong with a machine for inference, and how to mend it.
#pragma once

#include <string>
#include <vector>

#include "cli/machine.h"
#include "infer/runtime.h"

namespace selvage::cli {

enum class Severity : std::uint8_t { kOk, kAdvice, kProblem };
[[nodiscard]] std::string_view to_string(Severity severity);

struct Finding {
  std::string id;     ///< Stable, for programs: "cpu-governor".
  std::string title;  ///< "frequency governor"
  Severity severity = Severity::kOk;
  std::string found;  ///< What is so.
  std::string mend;   ///< What to do, unless it is fine.
};

// Each group looks at one side of the machine. Nothing is changed; what cannot be read is left out.
[[nodiscard]] std::vector<Finding> check_processor(const Machine& machine);
[[nodiscard]] std::vector<Finding> check_frequency(const Machine& machine);
[[nodiscard]] std::vector<Finding> check_limits(const Machine& machine);
[[nodiscard]] std::vector<Finding> check_memory(const Machine& machine);
[[nodiscard]] std::vector<Finding> check_software(const Machine& machine,
                                                  const infer::Runtime& runtime);
/// Takes about a second.
[[nodiscard]] std::vector<Finding> check_by_measuring(const Machine& machine);

}  // namespace selvage::cli
