#include "cli/prune_options.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>
#include <variant>

#include <CLI/CLI.hpp>

#include "cli/text.h"

namespace selvage::cli {
namespace {

using compress::PruneTargetKind;

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

/// "30%" or "0.3".
Result<double> fraction(const std::string& option, std::string_view text) {
  const bool is_percent = text.ends_with('%');
  const auto value = number(is_percent ? text.substr(0, text.size() - 1) : text);
  const double part = value.value_or(-1) / (is_percent ? 100 : 1);
  if (!value || part < 0 || part > 1)
    return fail(ErrorCode::kInvalidArgument,
                option + " " + std::string(text) + ": write a part of the whole, as 0.5 or 50%");
  return part;
}

/// What a target may be: something stays, and something goes.
Result<double> inner_fraction(const std::string& option, const std::string& text) {
  SELVAGE_TRY(const auto part, fraction(option, text));
  if (part > 0 && part < 1) return part;
  return fail(ErrorCode::kInvalidArgument,
              option + " " + text + ": more than nothing and less than all, as 0.5 or 50%");
}

/// torch's rule: a whole number is a count, anything with a point or a percent sign a fraction.
Result<std::variant<double, std::uint64_t>> weight_amount(const std::string& text) {
  std::uint64_t count = 0;
  const auto* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, count);
  if (parsed.ec == std::errc() && parsed.ptr == end) return count;
  SELVAGE_TRY(const auto part, fraction("--amount", text));
  return part;
}

/// `latency` "2.5ms" is a time, "60%" a part of `whole`.
Result<compress::PruneTarget> latency_target(const std::string& text,
                                             const compress::ChannelOptions& options,
                                             const graph::Model& model) {
  if (!text.ends_with("ms")) {
    SELVAGE_TRY(const auto part, inner_fraction("--latency", text));
    return compress::PruneTarget{.kind = PruneTargetKind::kLatency, .value = part};
  }
  const auto wanted = number(std::string_view(text).substr(0, text.size() - 2));
  if (!wanted || *wanted <= 0)
    return fail(ErrorCode::kInvalidArgument, "--latency " + text + ": write 60% or 2.5ms");
  SELVAGE_TRY(const auto now, options.measure(model));
  if (to_milliseconds(now) <= *wanted)
    return fail(ErrorCode::kFailedPrecondition,
                "the model is faster than " + text + " already: nothing needs to be pruned");
  return compress::PruneTarget{.kind = PruneTargetKind::kLatency,
                               .value = *wanted / to_milliseconds(now)};
}

void add_target_options(CLI::App& app, PruneFlags& flags) {
  constexpr auto kGroup = "How much";
  auto* amount = app.add_option("--amount", flags.amount,
                                "structured: the part of each group's channels to remove; l1, "
                                "random: a part of the weights that are not zero yet, or a whole "
                                "number of them (30%)")
                     ->type_name("PART|COUNT")
                     ->group(kGroup);
  auto* macs = app.add_option("--macs", flags.macs, "structured: multiply-accumulates to keep, 50%")
                   ->type_name("PART")
                   ->excludes(amount)
                   ->group(kGroup);
  auto* parameters = app.add_option("--params", flags.parameters, "structured: parameters to keep")
                         ->type_name("PART")
                         ->excludes(amount, macs)
                         ->group(kGroup);
  app.add_option("--latency", flags.latency,
                 "structured: the time of a run to reach, measured on this machine, 60% or 2.5ms")
      ->type_name("PART|TIME")
      ->excludes(amount, macs, parameters)
      ->group(kGroup);
  app.add_flag("--global", flags.is_global,
               "Rank all channels or weights together instead of layer by layer")
      ->group(kGroup);
  app.add_option("--round", flags.round_to,
                 "structured: channels kept are a multiple of this, which processors like (16 with "
                 "AVX-512 where that leaves enough to remove, otherwise 8)")
      ->type_name("N")
      ->check(whole_in_range(1, 1024))
      ->group(kGroup);
}

}  // namespace

Result<void> PruneFlags::check() const {
  const auto refuse = [&](const char* option) {
    return fail(ErrorCode::kInvalidArgument,
                std::string(option) + " means nothing to --method " + method);
  };
  if (sensitivity && !is_structured()) return refuse("--sensitivity");
  if (sensitivity && data.path.empty())
    return fail(ErrorCode::kInvalidArgument, "--sensitivity evaluates the model: add --data");
  if (!out.empty() && sensitivity)
    return fail(ErrorCode::kInvalidArgument, "--sensitivity writes nothing: leave OUT away");
  if (out.empty() && !sensitivity)
    return fail(ErrorCode::kInvalidArgument, "OUT is missing: name the file to write");
  if (sensitivity)
    for (const auto& [option, is_given] :
         {std::pair{"--amount", !amount.empty()}, std::pair{"--macs", !macs.empty()},
          std::pair{"--params", !parameters.empty()}, std::pair{"--latency", !latency.empty()},
          std::pair{"--global", is_global}, std::pair{"--compress", compress},
          std::pair{"--finetune", finetune.wanted}})
      if (is_given)
        return fail(ErrorCode::kInvalidArgument,
                    std::string(option) + " means nothing to --sensitivity, which writes nothing");
  if (!is_structured()) {
    if (finetune.wanted)
      return fail(ErrorCode::kInvalidArgument,
                  "--finetune would fill the zeros of --method " + method + " again");
    if (!macs.empty()) return refuse("--macs");
    if (!parameters.empty()) return refuse("--params");
    if (!latency.empty()) return refuse("--latency");
    if (!importance.empty()) return refuse("--importance");
    if (round_to) return refuse("--round");
  }
  if (method != "nm" && !pattern.empty()) return refuse("--pattern");
  if (method != "random" && seed) return refuse("--seed");
  if (method == "nm" && is_global) return refuse("--global");
  if (method == "nm" && !amount.empty()) return refuse("--amount");
  return {};
}

Result<compress::PruneWeightsOptions> PruneFlags::weight_options() const {
  compress::PruneWeightsOptions options{
      .is_global = is_global, .seed = seed.value_or(0), .excluded = excluded};
  if (!amount.empty()) {
    SELVAGE_TRY(options.amount, weight_amount(amount));
  }
  if (method == "random") options.criterion = compress::WeightCriterion::kRandom;
  if (method != "nm") return options;
  options.criterion = compress::WeightCriterion::kNOfM;
  if (pattern.empty()) return options;
  const auto colon = pattern.find(':');
  const auto n = number(pattern.substr(0, colon));
  const auto m = colon == std::string::npos ? std::nullopt : number(pattern.substr(colon + 1));
  if (!n || !m || *n != std::floor(*n) || *m != std::floor(*m) || *n < 0 || *m < 1 || *n > 1e6 ||
      *m > 1e6)
    return fail(ErrorCode::kInvalidArgument,
                "--pattern " + pattern + ": write N:M, as 2:4: of every M weights N stay");
  options.n = static_cast<int>(*n);
  options.m = static_cast<int>(*m);
  return options;
}

compress::ChannelOptions PruneFlags::channel_options() const {
  const auto measure = importance == "l1"       ? compress::Importance::kL1
                       : importance == "bn"     ? compress::Importance::kBatchNorm
                       : importance == "taylor" ? compress::Importance::kGiven
                                                : compress::Importance::kL2;
  return {
      .importance = measure, .is_global = is_global, .round_to = round_to, .excluded = excluded};
}

Result<compress::PruneTarget> PruneFlags::target(const compress::ChannelOptions& options,
                                                 const graph::Model& whole) const {
  compress::PruneTarget found{.kind = PruneTargetKind::kRatio, .value = 0.3};
  if (!latency.empty()) return latency_target(latency, options, whole);
  if (!macs.empty()) {
    found.kind = PruneTargetKind::kMacs;
    SELVAGE_TRY(found.value, inner_fraction("--macs", macs));
  } else if (!parameters.empty()) {
    found.kind = PruneTargetKind::kParameters;
    SELVAGE_TRY(found.value, inner_fraction("--params", parameters));
  } else if (!amount.empty()) {
    SELVAGE_TRY(found.value, inner_fraction("--amount", amount));
  }
  return found;
}

void add_prune_options(CLI::App& app, PruneFlags& flags) {
  app.add_option("MODEL", flags.model, "A model.onnx, or the folder that holds it")->required();
  app.add_option("OUT", flags.out, "The file to write");
  app.add_option("--method", flags.method,
                 "structured (whole channels leave, the default), l1 (the smallest weights become "
                 "zero), random, or nm (of every M weights the N largest stay)")
      ->type_name("METHOD")
      ->check(one_of({"structured", "l1", "random", "nm"}));
  app.add_option(
         "--importance", flags.importance,
         "structured: what a channel is worth: l1, l2 (the default), bn (the scale of its batch "
         "norm; l2 where there is none) or taylor (what the loss on --data would change without "
         "it)")
      ->type_name("NORM")
      ->check(one_of({"l1", "l2", "bn", "taylor"}));
  app.add_option("--pattern", flags.pattern, "nm: N:M (2:4)")->type_name("N:M");
  app.add_option("--seed", flags.seed, "random: as torch.manual_seed (0)")
      ->type_name("N")
      ->check(whole_in_range(0, std::numeric_limits<std::int64_t>::max()));
  add_list_option(app, "--exclude", flags.excluded,
                  "Leave these layers alone: names of nodes, or of groups as they are printed")
      ->type_name("NAME,...");
  add_target_options(app, flags);
  add_optional_data_options(app, flags.data);
  app.add_option("--evaluate", flags.evaluate_samples,
                 "Samples to measure quality on, spread over the data (2000)")
      ->needs("--data")
      ->type_name("N")
      ->check(whole_in_range(1, 100'000'000));
  app.add_flag("--sensitivity", flags.sensitivity,
               "Prune each group alone by a quarter, half and three quarters, and say how good the "
               "model is then; writes nothing");
  app.add_flag("--compress", flags.compress, "Also write OUT.gz, and say what compression gives");
  add_retrain_options(app, flags.finetune, "--finetune",
                      "structured: train what is left on --data before it is written");
  add_session_options(app, flags.session);
  add_json_option(app);
}

}  // namespace selvage::cli
