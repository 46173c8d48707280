// How long it takes to store a model's matrices in 8 bits, without the command around it, which
// also loads both models into the runtime. Prints the seconds until the model is read, quantised
// and written, the best of three of each; what syncing takes of the last shows an OUT in memory
// (/dev/shm). Beside onnxruntime.quantization: tools/peers/quantize.
//
//   quantize_bench MODEL OUT
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>

#include "base/check.h"
#include "compress/quantize_dynamic.h"
#include "graph/model.h"

using namespace selvage;

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: quantize_bench MODEL OUT\n");
    return 2;
  }
  constexpr int kRounds = 3;
  using std::chrono::steady_clock;
  const auto seconds_since = [](steady_clock::time_point begin) {
    return std::chrono::duration<double>(steady_clock::now() - begin).count();
  };
  double loaded = std::numeric_limits<double>::infinity(), quantised = loaded, written = loaded;
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = steady_clock::now();
    auto model = graph::Model::load(argv[1]);
    SELVAGE_CHECK(model.has_value());
    loaded = std::min(loaded, seconds_since(begin));
    const auto report = compress::quantize_dynamic(
        *model, {.width = compress::Width::kFull, .selection = {.types = {"MatMul", "Gemm"}}});
    SELVAGE_CHECK(report.has_value());
    quantised = std::min(quantised, seconds_since(begin));
    SELVAGE_CHECK(model->save(argv[2]).has_value());
    written = std::min(written, seconds_since(begin));
  }
  std::printf("%.4f %.4f %.4f\n", loaded, quantised, written);
  return 0;
}
