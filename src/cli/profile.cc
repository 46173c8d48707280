#include "cli/profile.h"

#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "base/exception.h"

namespace selvage::cli {
namespace {

using nlohmann::json;
using std::chrono::microseconds;

constexpr std::string_view kKernelTime = "_kernel_time";
constexpr std::string_view kProvider = "ExecutionProvider";

std::string without_suffix(std::string text, std::string_view suffix) {
  if (text.ends_with(suffix)) text.resize(text.size() - suffix.size());
  return text;
}

/// When the warm-up's last run began and how long it took: what follows counts.
std::int64_t warm_from(const json& events, std::uint64_t runs_ignored) {
  std::uint64_t runs = 0;
  for (const auto& event : events) {
    if (event.value("name", "") != "model_run") continue;
    ++runs;
    if (runs == runs_ignored)
      return event.at("ts").get<std::int64_t>() + event.at("dur").get<std::int64_t>();
  }
  return 0;
}

Profile read_events(const json& events, std::uint64_t runs_ignored) {
  Profile profile;
  const auto from = warm_from(events, runs_ignored);
  microseconds all_runs{0};
  std::map<std::string, std::pair<ProfiledNode, microseconds>> nodes;
  for (const auto& event : events) {
    if (event.value("ts", std::int64_t{0}) < from) continue;
    const auto name = event.value("name", "");
    const microseconds duration(event.value("dur", std::int64_t{0}));
    if (name == "model_run") {
      ++profile.runs;
      all_runs += duration;
    } else if (event.value("cat", "") == "Node" && name.ends_with(kKernelTime)) {
      auto& [node, sum] = nodes[name];
      if (node.name.empty()) {
        const auto& args = event.at("args");
        node.name = without_suffix(name, kKernelTime);
        node.type = args.value("op_name", "");
        node.provider = without_suffix(args.value("provider", ""), kProvider);
      }
      sum += duration;
    }
  }
  if (profile.runs == 0) return profile;
  const auto runs = static_cast<std::int64_t>(profile.runs);
  profile.run_mean = std::chrono::nanoseconds(all_runs) / runs;
  for (auto& [name, entry] : nodes) {
    entry.first.mean = std::chrono::nanoseconds(entry.second) / runs;
    profile.nodes.push_back(std::move(entry.first));
  }
  std::ranges::stable_sort(profile.nodes, std::ranges::greater(), &ProfiledNode::mean);
  return profile;
}

}  // namespace

Result<Profile> parse_trace(std::string_view text, std::uint64_t runs_ignored) {
  auto profile = catch_to_result(ErrorCode::kDataLoss, [&]() -> Result<Profile> {
    return read_events(json::parse(text), runs_ignored);
  });
  if (!profile) return std::unexpected(std::move(profile).error().with_context("the profile"));
  if (profile->runs == 0)
    return fail(ErrorCode::kDataLoss, "the profile holds no run; is this ONNX Runtime's format?");
  return profile;
}

}  // namespace selvage::cli
