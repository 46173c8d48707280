// YAML files that people write, as a bounded tree, and reading fields out of it with errors that
// name the line and the field. Anchors and aliases are refused: nothing we read needs them, and
// they are how a small file becomes a large one.
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

inline constexpr std::size_t kYamlDepthMax = 16;
inline constexpr std::size_t kYamlNodesMax = 20'000;

struct YamlNode {
  enum class Kind : std::uint8_t { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  int line = 0;                   ///< From 1; of the key, for a value in a map.
  std::string text;               ///< Of a scalar.
  std::vector<std::string> keys;  ///< Of a map, each once, in the file's order.
  std::vector<YamlNode> items;    ///< Of a list or a map.
};

/// One document, UTF-8. kInvalidArgument names the line: syntax, aliases, repeated or structured
/// keys; kOutOfRange above the limits.
[[nodiscard]] Result<YamlNode> parse_yaml(std::string_view text, std::uint64_t bytes_max);

/// What fills a T: itself, or what an optional holds.
template <typename T>
struct YamlValueOf {
  using Type = T;
};
template <typename T>
struct YamlValueOf<std::optional<T>> {
  using Type = T;
};

/// Remembers the first error only; what comes after it is usually its consequence.
class YamlErrors {
 public:
  void add(int line, std::string_view field, std::string_view problem);
  [[nodiscard]] bool any() const { return first_.has_value(); }
  [[nodiscard]] Result<void> result() const;

 private:
  std::optional<Error> first_;
};

/// The fields of one map. A field that is absent (or null) leaves its variable alone; one that is
/// wrong adds an error. Ask for every known field, then call finish().
class YamlFields {
 public:
  /// `path` is how errors call this map: "input.state"; "" at the top. A null node has no fields.
  /// `node` and `errors` must outlive this.
  YamlFields(const YamlNode& node, std::string path, YamlErrors& errors);

  [[nodiscard]] const YamlNode* find(std::string_view key);  ///< nullptr when absent or null.
  void text(std::string_view key, std::string& value);
  /// A list of scalars, or one scalar as a list of one.
  void texts(std::string_view key, std::vector<std::string>& values);
  template <typename Bool>  // bool or std::optional<bool>
  void flag(std::string_view key, Bool& value) {
    choice(key, value, {{"false", false}, {"true", true}});
  }
  /// A decimal number or a fraction ("1/255"), in [min, max]; whole for integers.
  template <typename T>
  void number(std::string_view key, T& value, double min, double max);
  void numbers(std::string_view key, std::vector<double>& values, double min, double max);
  /// One of a few words.
  template <typename T>
  void choice(
      std::string_view key, T& value,
      std::initializer_list<std::pair<std::string_view, typename YamlValueOf<T>::Type>> choices);
  /// Every field that nobody asked for is an error which names the nearest known one.
  void finish();

  /// "input.state" for "state".
  [[nodiscard]] std::string path_of(std::string_view key) const;
  void fail_at(std::string_view key, std::string_view problem);

 private:
  [[nodiscard]] std::optional<double> number_at(std::string_view key, double min, double max,
                                                bool whole);
  [[nodiscard]] std::optional<std::size_t> choice_at(std::string_view key,
                                                     std::vector<std::string_view> names);

  const YamlNode& node_;
  std::string path_;
  YamlErrors& errors_;
  std::vector<std::string> known_;
};

/// The elements of a list of numbers, or of one number, as YamlFields::number reads each.
[[nodiscard]] std::vector<double> read_numbers(const YamlNode& node, const std::string& path,
                                               double min, double max, YamlErrors& errors);

/// The known name with the smallest edit distance, if it is near enough to be meant.
[[nodiscard]] std::optional<std::string_view> nearest_name(std::string_view name,
                                                           const std::vector<std::string>& known);

template <typename T>
void YamlFields::number(std::string_view key, T& value, double min, double max) {
  using Number = typename YamlValueOf<T>::Type;
  if (const auto read = number_at(key, min, max, std::is_integral_v<Number>))
    value = static_cast<Number>(*read);
}

template <typename T>
void YamlFields::choice(
    std::string_view key, T& value,
    std::initializer_list<std::pair<std::string_view, typename YamlValueOf<T>::Type>> choices) {
  std::vector<std::string_view> names;
  for (const auto& [name, unused] : choices) names.push_back(name);
  if (const auto index = choice_at(key, std::move(names)))
    value = (choices.begin() + *index)->second;
}

}  // namespace selvage::infer
