// The whole path from a picture in memory to what it shows, for comparison with other programs:
//   predict_bench MODEL PICTURE [--calls N]
// prints one JSON object: microseconds at the percentiles, and what was found.
#include <cstdlib>
#include <cstring>

#include "base/file.h"
#include "bench/compare.h"
#include "infer/model.h"
#include "media/picture.h"

namespace selvage::bench {
namespace {

template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "predict_bench: %s\n", result.error().message.c_str());
    std::exit(1);
  }
  return *std::move(result);
}

int measure(const char* model_path, const char* picture_path, int calls) {
  const auto runtime = must(infer::Runtime::create());
  const auto model = must(infer::Model::load(*runtime, model_path));
  const auto predictor = must(infer::Predictor::create(*model));
  const auto bytes = must(read_bytes(picture_path, 64u << 20));
  const auto picture = must(media::decode_picture(bytes));
  std::size_t boxes = 0;
  Samples samples;
  for (int i = 0; i < calls + calls / 10; ++i) {
    const auto us = time_us([&] {
      const auto found = must(predictor->predict(picture.view()));
      boxes = std::get<infer::Boxes>(found).boxes.size();
    });
    if (i >= calls / 10) samples.us.push_back(us);
  }
  std::printf("{\"p50_us\": %.1f, \"p99_us\": %.1f, \"boxes\": %zu, \"calls\": %d}\n",
              samples.percentile(0.5), samples.percentile(0.99), boxes, calls);
  return 0;
}

}  // namespace
}  // namespace selvage::bench

int main(int argc, char** argv) {
  const bool with_calls = argc == 5 && std::strcmp(argv[3], "--calls") == 0;
  const int calls = with_calls ? std::atoi(argv[4]) : 500;
  if ((argc != 3 && !with_calls) || calls < 1) {
    std::fprintf(stderr, "usage: predict_bench MODEL PICTURE [--calls N]\n");
    return 2;
  }
  return selvage::bench::measure(argv[1], argv[2], calls);
}
