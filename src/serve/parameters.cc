#include "serve/parameters.h"

#include <algorithm>

namespace selvage::serve {
namespace {

std::unexpected<Error> not_a(std::string_view name, std::string_view kind) {
  return fail(ErrorCode::kInvalidArgument,
              "parameter '" + std::string(name) + "' must be " + std::string(kind));
}

Result<ParameterValue> read_value(JsonReader& reader, std::string_view name) {
  SELVAGE_TRY(const JsonKind kind, reader.kind());
  switch (kind) {
    case JsonKind::kString: {
      SELVAGE_TRY(std::string text, reader.string());
      return text;
    }
    case JsonKind::kBoolean: {
      SELVAGE_TRY(const bool value, reader.boolean());
      return value;
    }
    case JsonKind::kNumber: {
      SELVAGE_TRY(const JsonNumber number, reader.number());
      return std::visit([](auto value) { return ParameterValue(value); }, number);
    }
    default: return not_a(name, "a string, a number or a boolean");
  }
}

}  // namespace

Result<void> Parameters::add(std::string name, ParameterValue value) {
  const auto known = std::ranges::find(all_, name, &std::pair<std::string, ParameterValue>::first);
  if (known != all_.end()) {
    known->second = std::move(value);
    return {};
  }
  if (all_.size() == kCountMax)
    return fail(ErrorCode::kInvalidArgument,
                "more than " + std::to_string(kCountMax) + " parameters");
  all_.emplace_back(std::move(name), std::move(value));
  return {};
}

const ParameterValue* Parameters::find(std::string_view name) const {
  for (const auto& [known, value] : all_)
    if (known == name) return &value;
  return nullptr;
}

Result<std::optional<bool>> Parameters::boolean(std::string_view name) const {
  const auto* value = find(name);
  if (!value) return std::nullopt;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  return not_a(name, "true or false");
}

Result<std::optional<std::uint64_t>> Parameters::size(std::string_view name) const {
  const auto* value = find(name);
  if (!value) return std::nullopt;
  if (const auto* wide = std::get_if<std::uint64_t>(value)) return *wide;
  const auto* number = std::get_if<std::int64_t>(value);
  if (!number || *number < 0) return not_a(name, "an integer from 0");
  return static_cast<std::uint64_t>(*number);
}

Result<std::optional<std::string>> Parameters::text(std::string_view name) const {
  const auto* value = find(name);
  if (!value) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  return not_a(name, "a string");
}

Result<Parameters> read_parameters(JsonReader& reader) {
  Parameters parameters;
  std::string name;
  SELVAGE_RETURN_IF_ERROR(reader.begin_object());
  while (true) {
    SELVAGE_TRY(const bool more, reader.next_key(name));
    if (!more) return parameters;
    SELVAGE_TRY(ParameterValue value, read_value(reader, name));
    SELVAGE_RETURN_IF_ERROR(parameters.add(name, std::move(value)));
  }
}

}  // namespace selvage::serve
