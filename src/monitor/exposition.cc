#include "monitor/exposition.h"

#include <array>
#include <charconv>
#include <cmath>

namespace selvage::monitor {
namespace {

constexpr std::array<double, 17> kBounds = {0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002,
                                            0.005,   0.01,   0.02,   0.05,   0.1,   0.2,
                                            0.5,     1,      2,      5,      10};

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Inf" : "+Inf";
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value);
  return {digits, end};
}

// The three characters that label values escape.
void append_label_value(std::string& to, std::string_view value) {
  for (const char c : value) {
    if (c == '\n') {
      to += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') to += '\\';
    to += c;
  }
}

}  // namespace

std::span<const double> latency_bounds_s() {
  return kBounds;
}

void Exposition::family(std::string_view name, Kind kind, std::string_view help) {
  family_ = name;
  text_ += "# HELP " + family_ + ' ';
  text_ += help;
  text_ += "\n# TYPE " + family_;
  text_ += kind == Kind::kCounter ? " counter\n"
           : kind == Kind::kGauge ? " gauge\n"
                                  : " histogram\n";
}

void Exposition::line(std::string_view suffix, const Labels& labels, std::string_view bound,
                      std::string_view value) {
  text_ += family_;
  text_ += suffix;
  char separator = '{';
  const auto label = [&](std::string_view name, std::string_view of) {
    text_ += separator;
    text_ += name;
    text_ += "=\"";
    append_label_value(text_, of);
    text_ += '"';
    separator = ',';
  };
  for (const auto& [name, of] : labels) label(name, of);
  if (!bound.empty()) label("le", bound);
  if (separator == ',') text_ += '}';
  text_ += ' ';
  text_ += value;
  text_ += '\n';
}

void Exposition::sample(const Labels& labels, std::uint64_t value) {
  line("", labels, "", std::to_string(value));
}

void Exposition::sample(const Labels& labels, double value) {
  line("", labels, "", number_text(value));
}

void Exposition::histogram(const Labels& labels, const HistogramSnapshot& values) {
  for (const double bound : kBounds) {
    const auto ns = static_cast<std::uint64_t>(std::llround(bound * 1e9));
    line("_bucket", labels, number_text(bound), std::to_string(values.count_at_most(ns)));
  }
  line("_bucket", labels, "+Inf", std::to_string(values.count));
  line("_sum", labels, "", number_text(static_cast<double>(values.sum_ns) / 1e9));
  line("_count", labels, "", std::to_string(values.count));
}

}  // namespace selvage::monitor
