// The free-form `parameters` of requests, inputs and outputs, whichever protocol brought them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "serve/json_reader.h"

namespace selvage::serve {

using ParameterValue = std::variant<bool, std::int64_t, std::uint64_t, double, std::string>;

/// Few and unordered: searched from the front. The last of two equal names wins, as in JSON trees.
class Parameters {
 public:
  static constexpr std::size_t kCountMax = 256;

  /// kInvalidArgument above kCountMax.
  [[nodiscard]] Result<void> add(std::string name, ParameterValue value);

  /// Empty when absent. kInvalidArgument, naming the parameter, for another type or range.
  [[nodiscard]] Result<std::optional<bool>> boolean(std::string_view name) const;
  [[nodiscard]] Result<std::optional<std::uint64_t>> size(std::string_view name) const;
  [[nodiscard]] Result<std::optional<std::string>> text(std::string_view name) const;
  [[nodiscard]] const ParameterValue* find(std::string_view name) const;
  [[nodiscard]] const std::vector<std::pair<std::string, ParameterValue>>& all() const {
    return all_;
  }

 private:
  std::vector<std::pair<std::string, ParameterValue>> all_;
};

/// An object of strings, numbers and booleans.
[[nodiscard]] Result<Parameters> read_parameters(JsonReader& reader);

}  // namespace selvage::serve
