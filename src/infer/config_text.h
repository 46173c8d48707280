// Protobuf's text format, and its JSON form, as one bounded tree of named values, without a schema;
// and reading fields out of it with errors that name the line and the field. Internal to
// model_config.cc.
// Format: https://protobuf.dev/reference/protobuf/textformat-spec (no extensions, no Any).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/result.h"

namespace selvage::infer {

/// A scalar or a message. A repeated field is several nodes of the same name.
struct ConfigNode {
  enum class Kind : std::uint8_t { kBare, kQuoted, kMessage };
  std::string name;
  int line = 0;  ///< From 1; 0 in JSON, whose parser does not tell.
  Kind kind = Kind::kBare;
  bool json = false;
  std::string text;                 ///< Of a scalar, unescaped.
  std::vector<ConfigNode> members;  ///< Of a message.
};

/// kInvalidArgument names the line; kOutOfRange above kConfigBytesMax, -DepthMax, -FieldsMax.
[[nodiscard]] Result<ConfigNode> parse_text_format(std::string_view text);
[[nodiscard]] Result<ConfigNode> parse_json_config(std::string_view json);

/// Remembers the first error only; what comes after it is usually its consequence.
class ConfigErrors {
 public:
  void add(ErrorCode code, int line, std::string_view field, std::string_view problem);
  [[nodiscard]] bool any() const { return first_.has_value(); }
  [[nodiscard]] Result<void> result() const;

 private:
  std::optional<Error> first_;
};

/// The fields of one message. A field that is absent leaves its variable alone; one that is wrong
/// adds an error. Ask for every known field, then call finish().
class ConfigFields {
 public:
  /// `path` is how errors call this message; "" at the top. `node` and `errors` must outlive this.
  ConfigFields(const ConfigNode& node, std::string path, ConfigErrors& errors)
      : node_(node), path_(std::move(path)), errors_(errors) {}

  void text(std::string_view name, std::string& value);
  void flag(std::string_view name, bool& value);
  template <typename T>
  void integer(std::string_view name, T& value, std::int64_t min, std::int64_t max);
  template <typename T>
  void integers(std::string_view name, std::vector<T>& values, std::int64_t min, std::int64_t max);
  void number(std::string_view name, double& value, double min, double max);
  void numbers(std::string_view name, std::vector<double>& values);
  void flags(std::string_view name, std::vector<double>& values);  ///< As 0 and 1.
  /// An enumerator by name or number.
  template <typename T>
  void choice(std::string_view name, T& value,
              std::initializer_list<std::pair<std::string_view, T>> choices);

  /// The message, or nullptr when absent.
  [[nodiscard]] const ConfigNode* message(std::string_view name);
  [[nodiscard]] std::vector<const ConfigNode*> messages(std::string_view name);
  /// A map's entries; the values are nodes called "value" or, in JSON, by their key.
  [[nodiscard]] std::vector<std::pair<std::string, const ConfigNode*>> entries(
      std::string_view name);
  [[nodiscard]] bool has(std::string_view name);

  /// Known to Triton and not to us: fine while it says what absence says (0, false, "", nothing).
  void unsupported(std::string_view name, std::string_view why);
  /// Fields that change nothing on a CPU.
  void without_effect(std::string_view name) { static_cast<void>(find_all(name)); }

  /// Every field that nobody asked for is an error.
  void finish();

  [[nodiscard]] std::string path_of(std::string_view name) const;
  [[nodiscard]] ConfigErrors& errors() { return errors_; }
  void fail_at(std::string_view name, std::string_view problem,
               ErrorCode code = ErrorCode::kInvalidArgument);

 private:
  [[nodiscard]] std::vector<const ConfigNode*> find_all(std::string_view name);
  [[nodiscard]] const ConfigNode* find(std::string_view name);  ///< An error when repeated.
  [[nodiscard]] std::optional<std::int64_t> integer_of(const ConfigNode& node, std::int64_t min,
                                                       std::int64_t max);
  [[nodiscard]] std::optional<double> number_of(const ConfigNode& node);
  [[nodiscard]] std::optional<bool> flag_of(const ConfigNode& node);

  const ConfigNode& node_;
  std::string path_;
  ConfigErrors& errors_;
  std::vector<std::string> known_;
};

template <typename T>
void ConfigFields::integer(std::string_view name, T& value, std::int64_t min, std::int64_t max) {
  if (const auto* node = find(name))
    if (const auto read = integer_of(*node, min, max)) value = static_cast<T>(*read);
}

template <typename T>
void ConfigFields::integers(std::string_view name, std::vector<T>& values, std::int64_t min,
                            std::int64_t max) {
  for (const auto* node : find_all(name))
    if (const auto read = integer_of(*node, min, max)) values.push_back(static_cast<T>(*read));
}

template <typename T>
void ConfigFields::choice(std::string_view name, T& value,
                          std::initializer_list<std::pair<std::string_view, T>> choices) {
  const auto* node = find(name);
  if (node == nullptr) return;
  std::string known;
  for (const auto& [word, meaning] : choices) {
    if (node->kind != ConfigNode::Kind::kMessage && node->text == word) {
      value = meaning;
      return;
    }
    known += (known.empty() ? "" : ", ") + std::string(word);
  }
  fail_at(name, "'" + node->text + "' is not supported; it can be " + known);
}

}  // namespace selvage::infer
