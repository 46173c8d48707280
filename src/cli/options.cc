#include "cli/options.h"

#include <array>
#include <charconv>

#include <CLI/CLI.hpp>

#include "cli/text.h"
#include "infer/cache.h"

namespace selvage::cli {
namespace {

constexpr std::array<std::pair<std::string_view, infer::PowerProfile>, 3> kPowers{
    {{"latency", infer::PowerProfile::kLatency},
     {"balanced", infer::PowerProfile::kBalanced},
     {"low-power", infer::PowerProfile::kLowPower}}};
constexpr std::array<std::pair<std::string_view, infer::Optimization>, 4> kOptimizations{
    {{"none", infer::Optimization::kNone},
     {"basic", infer::Optimization::kBasic},
     {"extended", infer::Optimization::kExtended},
     {"all", infer::Optimization::kAll}}};
constexpr std::array<std::pair<std::string_view, infer::Arena>, 2> kArenas{
    {{"grow", infer::Arena::kGrowAsNeeded}, {"none", infer::Arena::kNone}}};

template <typename Choices>
std::vector<std::string> words_of(const Choices& choices) {
  std::vector<std::string> words;
  words.reserve(choices.size());
  for (const auto& [word, unused] : choices) words.emplace_back(word);
  return words;
}

/// The value of `word`, which the command line has already checked; nothing for "".
template <typename T, std::size_t N>
std::optional<T> value_of(const std::array<std::pair<std::string_view, T>, N>& choices,
                          std::string_view word) {
  for (const auto& [name, value] : choices)
    if (name == word) return value;
  return std::nullopt;
}

/// The number that is the whole of `text`.
template <typename T>
std::optional<T> parse(std::string_view text) {
  T value = 0;
  const auto* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return value;
}

using Setting = std::pair<std::string, std::string>;

Result<Setting> parse_setting(const std::string& text) {
  const auto equals = text.find('=');
  if (equals == 0 || equals == std::string::npos || equals + 1 == text.size())
    return fail(ErrorCode::kInvalidArgument, "'" + text + "' is not NAME=VALUE");
  return Setting(text.substr(0, equals), text.substr(equals + 1));
}

Result<std::pair<std::string, std::int64_t>> parse_dimension(const std::string& text) {
  SELVAGE_TRY(const auto pair, parse_setting(text));
  const auto size = parse<std::int64_t>(pair.second);
  if (!size || *size < 1)
    return fail(ErrorCode::kInvalidArgument,
                "'" + text + "': the size must be a whole number above 0");
  return std::pair(pair.first, *size);
}

/// The number as a person would write it, without an exponent.
std::string plain(double value) {
  std::array<char, 32> buffer{};
  return {buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                       std::chars_format::fixed)
                             .ptr};
}

}  // namespace

std::string_view to_string(infer::PowerProfile power) {
  for (const auto& [word, value] : kPowers)
    if (value == power) return word;
  return "";
}

void add_json_option(CLI::App& app) {
  app.add_flag("--json")
      ->description("Print one JSON object for programs; docs/commands.md has its fields")
      ->group("General");
}

CLI::Option* add_list_option(CLI::App& app, const char* name, std::vector<std::string>& words,
                             const char* help) {
  return app.add_option(name, words, help)->delimiter(',')->allow_extra_args(false);
}

CLI::Validator in_range(double min, double max) {
  return CLI::Validator(
      [min, max](const std::string& text) {
        const auto value = parse<double>(text);
        if (value && *value >= min && *value <= max) return std::string();
        return "'" + text + "' is not a number from " + plain(min) + " to " + plain(max);
      },
      "");
}

CLI::Validator whole_in_range(std::int64_t min, std::int64_t max) {
  return CLI::Validator(
      [min, max](const std::string& text) {
        const auto value = parse<std::int64_t>(text);
        if (value && *value >= min && *value <= max) return std::string();
        return "'" + text + "' is not a whole number from " + std::to_string(min) + " to " +
               std::to_string(max);
      },
      "");
}

CLI::Validator size_value() {
  return CLI::Validator(
      [](std::string& text) {
        // The library's own would take -1 for 2^64 - 1.
        if (text.starts_with('-')) return "'" + text + "' is not a size, such as 150MB";
        return CLI::AsSizeValue(true)(text);
      },
      "");
}

CLI::Validator one_of(std::vector<std::string> words) {
  return CLI::Validator(
      [words = std::move(words)](const std::string& word) {
        std::string message = "'" + word + "' is not one of ";
        for (std::size_t i = 0; i < words.size(); ++i) {
          if (words[i] == word) return std::string();
          message += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
        }
        return message;
      },
      "");
}

void add_session_options(CLI::App& app, SessionFlags& flags) {
  constexpr auto kGroup = "Session (wins over the model card)";
  app.add_option("--threads", flags.threads,
                 "Threads that compute one run; 0 = measured once and remembered (the default)")
      ->type_name("N")
      ->check(whole_in_range(0, 256))
      ->group(kGroup);
  app.add_option(
         "--power", flags.power,
         "latency (threads wait spinning: lowest tail), balanced (the default) or low-power "
         "(one thread, no spinning)")
      ->type_name("PROFILE")
      ->check(one_of(words_of(kPowers)))
      ->group(kGroup);
  app.add_option("--provider", flags.providers,
                 "Execution provider to prefer, such as cuda or xnnpack; may be repeated. The CPU "
                 "always comes last")
      ->type_name("NAME")
      ->check(CLI::Validator(
          [](const std::string& name) { return name.empty() ? "needs a name" : std::string(); },
          ""))
      ->allow_extra_args(false)
      ->group(kGroup);
  app.add_option("--optimization", flags.optimization,
                 "Of the graph: none, basic, extended or all (the default)")
      ->type_name("LEVEL")
      ->check(one_of(words_of(kOptimizations)))
      ->group(kGroup);
  app.add_option("--spin-us", flags.spin_us,
                 "Microseconds that threads spin for more work before they sleep; 0 = never")
      ->type_name("N")
      ->check(whole_in_range(0, 1'000'000))
      ->group(kGroup);
  app.add_option("--arena", flags.arena,
                 "Memory: grow (keeps what it needed, the default) or none (smallest, slower)")
      ->type_name("KIND")
      ->check(one_of(words_of(kArenas)))
      ->group(kGroup);
  app.add_option("--dim", flags.dimensions,
                 "Fixes a dimension that the model names, such as batch=1; may be repeated")
      ->type_name("NAME=N")
      ->check(parsed_by(parse_dimension))
      ->allow_extra_args(false)
      ->group(kGroup);
  app.add_option("--config", flags.config,
                 "ONNX Runtime's own session setting, such as session.dynamic_block_base=4; may be "
                 "repeated")
      ->type_name("KEY=VALUE")
      ->check(parsed_by(parse_setting))
      ->allow_extra_args(false)
      ->group(kGroup);
  app.add_flag("--no-cache", flags.no_cache,
               "Neither read nor write optimised models and measured thread counts")
      ->group(kGroup);
}

Result<infer::ModelOptions> SessionFlags::to_model_options() const {
  infer::ModelOptions options;
  if (!no_cache) options.session.cache_folder = infer::default_cache_folder();
  auto& set = options.overrides;
  set.threads = threads;
  set.power = value_of(kPowers, power);
  set.optimization = value_of(kOptimizations, optimization);
  set.arena = value_of(kArenas, arena);
  set.spin_us = spin_us;
  if (!providers.empty()) set.providers = providers;
  for (const auto& text : dimensions) {
    SELVAGE_TRY(auto dimension, parse_dimension(text));
    set.dimensions.push_back(std::move(dimension));
  }
  for (const auto& text : config) {
    SELVAGE_TRY(auto setting, parse_setting(text));
    set.config.push_back(std::move(setting));
  }
  return options;
}

std::vector<std::string> SessionFlags::to_arguments() const {
  std::vector<std::string> arguments;
  const auto add = [&](const char* name, const std::string& value) {
    if (value.empty()) return;
    arguments.emplace_back(name);
    arguments.push_back(value);
  };
  const auto add_all = [&](const char* name, const std::vector<std::string>& values) {
    for (const auto& value : values) add(name, value);
  };
  add("--threads", threads ? std::to_string(*threads) : "");
  add("--power", power);
  add_all("--provider", providers);
  add("--optimization", optimization);
  add("--spin-us", spin_us ? std::to_string(*spin_us) : "");
  add("--arena", arena);
  add_all("--dim", dimensions);
  add_all("--config", config);
  if (no_cache) arguments.emplace_back("--no-cache");
  return arguments;
}

}  // namespace selvage::cli
