// Side-by-side timing in one process and one run: rounds of A and B in turn, so that a machine
// whose speed drifts drifts for both. Percentiles are exact (sorted samples), since the ratios
// asked for are finer than a histogram's buckets.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace selvage::bench {

using Clock = std::chrono::steady_clock;

struct Samples {
  std::vector<double> us;

  [[nodiscard]] double percentile(double fraction) {
    std::ranges::sort(us);
    const auto rank =
        static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(us.size())));
    return us[std::clamp<std::size_t>(rank, 1, us.size()) - 1];
  }
};

/// One timed call.
template <typename Function>
double time_us(Function&& function) {
  const auto start = Clock::now();
  function();
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

struct Plan {
  int rounds = 40;   ///< Of A then B; every other round B goes first.
  int calls = 50;    ///< Of each per round.
  int warm_up = 30;  ///< Calls of each before the first round.
  int lead_in = 10;  ///< Untimed calls of each at the start of its turn.
  /// Before each turn: the runtime's threads spin on for a while after a call, and would take the
  /// other side's core.
  std::chrono::milliseconds rest{100};
};

struct Pair {
  Samples a, b;
};

template <typename A, typename B>
Pair compare(const Plan& plan, A&& a, B&& b) {
  Pair pair;
  for (int i = 0; i < plan.warm_up; ++i) a(), b();
  const auto turn = [&](auto& function, Samples& samples) {
    std::this_thread::sleep_for(plan.rest);
    for (int i = 0; i < plan.lead_in; ++i) function();
    for (int i = 0; i < plan.calls; ++i) samples.us.push_back(time_us(function));
  };
  for (int round = 0; round < plan.rounds; ++round) {
    if (round % 2 == 0) {
      turn(a, pair.a);
      turn(b, pair.b);
    } else {
      turn(b, pair.b);
      turn(a, pair.a);
    }
  }
  return pair;
}

/// One row: what, then A and B in microseconds and A/B, at each percentile.
inline void print_header(std::string_view a, std::string_view b) {
  std::printf("%-44s %6s %12.*s %12.*s %8s\n", "", "", static_cast<int>(a.size()), a.data(),
              static_cast<int>(b.size()), b.data(), "ratio");
}

inline void print_row(std::string_view what, std::string_view percentile, double a, double b) {
  std::printf("%-44.*s %6.*s %9.1f us %9.1f us %7.3fx\n", static_cast<int>(what.size()),
              what.data(), static_cast<int>(percentile.size()), percentile.data(), a, b, a / b);
}

inline void print_pair(std::string_view what, Pair& pair,
                       std::initializer_list<double> percentiles = {0.5, 0.99}) {
  for (const double p : percentiles) {
    char name[16];
    std::snprintf(name, sizeof name, "p%g", p * 100);
    print_row(what, name, pair.a.percentile(p), pair.b.percentile(p));
  }
}

}  // namespace selvage::bench
