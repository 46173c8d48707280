// What the serving core costs and what its batching gains, each beside the bare engine in one run:
//   serving_bench [--seconds N]
// - a lone request through submit() and back, beside the same Binding::run in the caller's thread;
// - requests a second for an identity of one float, from two threads;
// - one matrix product and four in a row, limited by reading their weights, 32 clients, beside the
//   best fixed batch that so many clients can fill.
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <latch>
#include <mutex>
#include <semaphore>
#include <thread>

#include <unistd.h>

#include "bench/compare.h"
#include "graph/testing.h"
#include "infer/repository.h"

namespace selvage::bench {
namespace {

namespace fs = std::filesystem;
using graph::testing::ModelBuilder;
using infer::InferenceRequest;
using infer::InferenceResponse;
using infer::ModelRepository;

constexpr std::int64_t kWide = 1'024;  // Of the matrix product: 4 MB of weights.
constexpr int kClients = 32;           // Of the matrix product.

template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "serving_bench: %s\n", result.error().message.c_str());
    std::exit(1);
  }
  return *std::move(result);
}

void write(const fs::path& path, std::span<const std::byte> content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(content.data()),
             static_cast<std::streamsize>(content.size()));
}
void write(const fs::path& path, std::string_view text) {
  write(path, std::as_bytes(std::span(text)));
}

/// Layers of kWide x kWide, with a rectifier after all but the last.
std::vector<std::byte> perceptron(int layers) {
  const std::vector<float> weights(kWide * kWide, 0.01f);
  ModelBuilder builder;
  builder.input("x", DataType::kFloat32, {-1, kWide});
  std::string value = "x";
  for (int i = 1; i <= layers; ++i) {
    const std::string at = std::to_string(i);
    const std::string product = i == layers ? "y" : "h" + at;
    builder.initialiser("w" + at, {kWide, kWide}, weights);
    builder.node("Gemm", {value, "w" + at}, {product});
    if (i < layers) builder.node("Relu", {product}, {value = "r" + at});
  }
  return builder.output("y", DataType::kFloat32, {-1, kWide}).bytes();
}

/// A repository in a temporary folder.
class Folder {
 public:
  Folder() {
    const auto identity = graph::testing::identity_model(DataType::kFloat32, {-1, 1}).bytes();
    for (const char* name : {"identity", "identity-single"})
      write(path_ / name / "1/model.onnx", identity);
    for (const char* name : {"product", "product-single"})
      write(path_ / name / "1/model.onnx", perceptron(1));
    for (const char* name : {"perceptron", "perceptron-single"})
      write(path_ / name / "1/model.onnx", perceptron(4));
    write(path_ / "identity/config.pbtxt", "max_batch_size: 64 dynamic_batching { }");
    for (const char* name : {"product", "perceptron"})
      write(path_ / name / "config.pbtxt", "max_batch_size: 32 dynamic_batching { }");
    for (const char* name : {"identity-single", "product-single", "perceptron-single"})
      write(path_ / name / "config.pbtxt", "max_batch_size: 1");
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  const fs::path path_ =
      fs::temp_directory_path() / ("selvage-serving-bench-" + std::to_string(::getpid()));
};

/// One row for a model, and requests with it.
struct Client {
  Client(ModelRepository& where, const std::string& model) : repository(where) {
    const auto metadata = must(repository.metadata(model));
    shape = metadata.inputs[0].shape;
    shape[0] = 1;
    row.assign(static_cast<std::size_t>(shape[1]), 1.0f);
    request.model = model;
    request.inputs = {
        {metadata.inputs[0].name, {DataType::kFloat32, shape, std::as_bytes(std::span(row)), {}}}};
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void ask() {
    std::binary_semaphore done(0);
    repository.submit(InferenceRequest(request), [&](Result<InferenceResponse> response) {
      if (!response) std::abort();
      done.release();
    });
    done.acquire();
  }

  ModelRepository& repository;
  Shape shape;
  std::vector<float> row;
  InferenceRequest request;
};

void lone_request(ModelRepository& repository, const std::string& model) {
  Client client(repository, model);
  const auto shared = must(repository.model(model));
  const std::vector<Shape> shapes = {client.shape};
  const auto binding = must(infer::Binding::create(shared->session(), shapes));
  auto pair = compare(
      {}, [&] { client.ask(); },
      [&] {
        if (!binding->run()) std::abort();
      });
  print_pair("lone request, " + model, pair);
}

/// Completions a second of `threads` clients that each keep `window` requests in flight.
double closed_loop(ModelRepository& repository, const std::string& model, int threads, int window,
                   double seconds) {
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> answered{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < threads; ++t)
    clients.emplace_back([&] {
      Client client(repository, model);
      std::counting_semaphore<> free(window);
      while (!done) {
        free.acquire();
        repository.submit(InferenceRequest(client.request), [&](Result<InferenceResponse> r) {
          if (!r) std::abort();
          answered.fetch_add(1, std::memory_order_relaxed);
          free.release();
        });
      }
      for (int i = 0; i < window; ++i) free.acquire();
    });
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds / 4));
  const auto before = answered.load();
  const auto start = Clock::now();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  const auto count = answered.load() - before;
  const double took = std::chrono::duration<double>(Clock::now() - start).count();
  done = true;
  for (auto& client : clients) client.join();
  return static_cast<double>(count) / took;
}

/// The same with clients that ask again from where they are answered, as an event loop would: no
/// threads of their own that the workers would have to share the cores with.
double event_loop(ModelRepository& repository, const std::string& model, int clients,
                  double seconds) {
  Client client(repository, model);
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> answered{0};
  std::counting_semaphore<> ended(0);
  std::function<void()> ask = [&] {
    repository.submit(InferenceRequest(client.request), [&](Result<InferenceResponse> response) {
      if (!response) std::abort();
      answered.fetch_add(1, std::memory_order_relaxed);
      if (done)
        ended.release();
      else
        ask();
    });
  };
  for (int i = 0; i < clients; ++i) ask();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds / 4));
  const auto before = answered.load();
  const auto start = Clock::now();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  const auto count = answered.load() - before;
  const double took = std::chrono::duration<double>(Clock::now() - start).count();
  done = true;
  for (int i = 0; i < clients; ++i) ended.acquire();
  return static_cast<double>(count) / took;
}

/// Rows a second of bare runs of a fixed batch on `threads` threads.
double bare(const infer::Session& session, std::int64_t rows, std::int64_t width, int threads,
            double seconds) {
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> runs{0};
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t)
    workers.emplace_back([&] {
      const std::vector<Shape> shapes = {{rows, width}};
      const auto binding = must(infer::Binding::create(session, shapes));
      while (!done) {
        if (!binding->run()) std::abort();
        runs.fetch_add(1, std::memory_order_relaxed);
      }
    });
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds / 4));
  const auto before = runs.load();
  const auto start = Clock::now();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  const auto count = runs.load() - before;
  const double took = std::chrono::duration<double>(Clock::now() - start).count();
  done = true;
  for (auto& worker : workers) worker.join();
  return static_cast<double>(count) * static_cast<double>(rows) / took;
}

/// Rows in a run, on average over what `function` does.
template <typename Function>
double mean_batch(const ModelRepository& repository, const std::string& model,
                  Function&& function) {
  const auto before = must(repository.statistics(model)).at(0);
  function();
  const auto after = must(repository.statistics(model)).at(0);
  return static_cast<double>(after.inference_count - before.inference_count) /
         static_cast<double>(after.execution_count - before.execution_count);
}

void print_rate(std::string_view what, double rate, double base) {
  std::printf("%-52.*s %12.0f /s %8.3fx\n", static_cast<int>(what.size()), what.data(), rate,
              rate / base);
}

/// Dynamic batches of many clients beside the best fixed batch.
void batching(ModelRepository& repository, const std::string& name, int cores, double seconds) {
  std::printf("\n%s, %d clients\n", name.c_str(), kClients);
  const auto model = must(repository.model(name));
  double best = 0;
  for (const std::int64_t rows : {1, 2, 4, 8, 16, 32}) {
    // So many clients have so many rows under way, and no more.
    const int threads = std::min(cores, static_cast<int>(kClients / rows));
    const double rate = bare(model->session(), rows, kWide, threads, seconds);
    best = std::max(best, rate);
    print_rate(
        "bare run, batch " + std::to_string(rows) + " on " + std::to_string(threads) + " threads",
        rate, best);
  }
  print_rate("submit(), one by one", event_loop(repository, name + "-single", kClients, seconds),
             best);
  double rate = 0;
  const double rows =
      mean_batch(repository, name, [&] { rate = event_loop(repository, name, kClients, seconds); });
  print_rate("submit(), batches, beside the best fixed batch", rate, best);
  std::printf("rows in a batch: %.1f\n", rows);
}

int measure(double seconds) {
  const Folder folder;
  const auto runtime = must(infer::Runtime::create());
  const auto repository =
      must(ModelRepository::create(*runtime, {.folders = {folder.path()}, .control = {}}));
  print_header("submit()", "bare run");
  lone_request(*repository, "identity");
  lone_request(*repository, "product");
  lone_request(*repository, "product-single");

  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  std::printf("\nidentity of one float, 2 threads of clients, %d workers\n", cores);
  const double runs = bare(must(repository->model("identity"))->session(), 1, 1, cores, seconds);
  print_rate("bare run of one row", runs, runs);
  print_rate("submit(), one by one", closed_loop(*repository, "identity-single", 2, 64, seconds),
             runs);
  print_rate("submit(), batches", closed_loop(*repository, "identity", 2, 64, seconds), runs);

  for (const char* name : {"product", "perceptron"}) batching(*repository, name, cores, seconds);
  return 0;
}

}  // namespace
}  // namespace selvage::bench

int main(int argc, char** argv) {
  const bool given = argc == 3 && std::strcmp(argv[1], "--seconds") == 0;
  const double seconds = given ? std::atof(argv[2]) : 2;
  if ((argc != 1 && !given) || seconds <= 0) {
    std::fprintf(stderr, "usage: serving_bench [--seconds N]\n");
    return 2;
  }
  return selvage::bench::measure(seconds);
}
