// Options that several commands share.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "infer/model.h"

namespace CLI {  // NOLINT(readability-identifier-naming): a library's
class App;
class Option;
class Validator;
}  // namespace CLI

namespace selvage::cli {

/// `--json`, which output.h's Output already knows.
void add_json_option(CLI::App& app);

/// Accepts a number from `min` to `max`.
[[nodiscard]] CLI::Validator in_range(double min, double max);

/// Accepts a whole number from `min` to `max`.
[[nodiscard]] CLI::Validator whole_in_range(std::int64_t min, std::int64_t max);

/// Of options that count megabytes.
inline constexpr std::uint64_t kMegabyte = 1'000'000;

/// Accepts a size such as 150MB, and makes it bytes.
[[nodiscard]] CLI::Validator size_value();

/// The largest `--seed`: what std::int64_t holds.
inline constexpr std::int64_t kSeedMax = std::numeric_limits<std::int64_t>::max();

/// Accepts one of `words`; the message of a refusal lists them.
[[nodiscard]] CLI::Validator one_of(std::vector<std::string> words);

/// An option of words that commas part, and that may be repeated.
CLI::Option* add_list_option(CLI::App& app, const char* name, std::vector<std::string>& words,
                             const char* help);

/// Accepts what `parse`, from a text to a Result, accepts, with the same words.
template <typename Parse>
[[nodiscard]] auto parsed_by(Parse parse) {
  return [parse](const std::string& text) {
    const auto value = parse(text);
    return value ? std::string() : value.error().message;
  };
}

/// How a model is loaded, as typed. What is not typed is left to the model card.
struct SessionFlags {
  std::optional<int> threads;
  std::string power;
  std::vector<std::string> providers;
  std::string optimization;
  std::optional<std::uint32_t> spin_us;
  std::string arena;
  std::vector<std::string> dimensions;  ///< "batch=1"
  std::vector<std::string> config;      ///< "session.dynamic_block_base=4"
  bool no_cache = false;

  /// kInvalidArgument for a word or pair that is none.
  [[nodiscard]] Result<infer::ModelOptions> to_model_options() const;
  /// As they would be typed.
  [[nodiscard]] std::vector<std::string> to_arguments() const;
};
void add_session_options(CLI::App& app, SessionFlags& flags);

[[nodiscard]] std::string_view to_string(infer::PowerProfile power);

}  // namespace selvage::cli
