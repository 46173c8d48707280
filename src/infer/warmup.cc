#include "infer/warmup.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>

#include "base/log.h"

namespace selvage::infer {
namespace {

using Duration = std::chrono::steady_clock::duration;
using Inputs = std::vector<Tensor>;

/// Small values that every model takes: 0 or 1, and for floats what lies between.
void fill_random(Tensor& tensor, std::mt19937& random) {
  const auto each = [&]<typename T>(T, auto value) {
    for (auto& element : tensor.as<T>()) element = value();
  };
  const auto bit = [&] { return random() & 1; };
  std::uniform_real_distribution<double> unit(0, 1);
  switch (tensor.type()) {
    case DataType::kFloat32: each(float{}, [&] { return static_cast<float>(unit(random)); }); break;
    case DataType::kFloat64: each(double{}, [&] { return unit(random); }); break;
    case DataType::kFloat16:
      each(std::uint16_t{}, [&] { return static_cast<std::uint16_t>(bit() * 0x3c00); });
      break;
    case DataType::kBfloat16:
      each(std::uint16_t{}, [&] { return static_cast<std::uint16_t>(bit() * 0x3f80); });
      break;
    case DataType::kString: break;
    default: {
      // Integers: the first byte of each element.
      const auto width = bits_of(tensor.type()) / 8;
      for (std::size_t i = 0; i < tensor.bytes().size(); i += width)
        tensor.bytes()[i] = static_cast<std::byte>(bit());
    }
  }
}

/// `rows` times the one row of `row`.
Result<Tensor> repeat(const Tensor& row, std::int64_t rows) {
  Shape shape = row.shape();
  shape.front() *= rows;
  SELVAGE_TRY(auto tensor, Tensor::create(row.type(), std::move(shape)));
  for (std::int64_t i = 0; i < rows; ++i) {
    std::ranges::copy(row.bytes(),
                      tensor.bytes().begin() + i * static_cast<std::int64_t>(row.bytes().size()));
    std::ranges::copy(row.strings(), tensor.strings().begin() +
                                         i * static_cast<std::int64_t>(row.strings().size()));
  }
  return tensor;
}

/// Zeros of the declared shapes, open dimensions 1.
Result<Inputs> zeros(const Signature& signature, std::int64_t rows) {
  Inputs inputs;
  for (const auto& port : signature.inputs) {
    Shape shape = port.client;
    std::ranges::replace_if(shape, [](std::int64_t size) { return size < 0; }, 1);
    if (signature.batching) shape.front() = rows;
    SELVAGE_TRY(auto tensor, Tensor::create(port.type, std::move(shape)));
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

Result<Tensor> sample_tensor(const WarmupInput& input, const Port& port, std::int64_t rows,
                             bool batching, const std::filesystem::path& folder,
                             std::mt19937& random) {
  Shape shape = input.dims;
  if (batching) shape.insert(shape.begin(), 1);
  if (input.data == WarmupInput::Data::kFile) {
    SELVAGE_TRY(auto row,
                read_tensor_file(folder / "warmup" / input.data_file, port.type, std::move(shape)));
    return batching ? repeat(row, rows) : Result<Tensor>(std::move(row));
  }
  if (batching) shape.front() = rows;
  SELVAGE_TRY(auto tensor, Tensor::create(port.type, std::move(shape), kDataFileBytesMax));
  if (input.data == WarmupInput::Data::kRandom) fill_random(tensor, random);
  return tensor;
}

Result<void> run_sample(OnnxRunner& runner, const Warmup& sample,
                        const std::filesystem::path& folder) {
  const auto& signature = runner.signature();
  std::mt19937 random(1);
  Inputs inputs;
  for (const auto& port : signature.inputs) {
    const auto given = sample.inputs.find(port.name);
    if (given == sample.inputs.end())
      return fail(ErrorCode::kInvalidArgument, "input '" + port.name + "' is missing");
    SELVAGE_TRY(auto tensor, sample_tensor(given->second, port, sample.batch_size,
                                           signature.batching, folder, random));
    inputs.push_back(std::move(tensor));
  }
  for (std::uint32_t i = 0; i < sample.count; ++i) {
    SELVAGE_RETURN_IF_ERROR(runner.try_run(inputs));
  }
  return {};
}

[[nodiscard]] bool same(const TensorView& a, const TensorView& b) {
  const auto close = [](double x, double y, double tolerance) {
    return std::abs(x - y) <= tolerance * std::max({1.0, std::abs(x), std::abs(y)});
  };
  if (a.bytes.size() != b.bytes.size()) return false;
  if (a.type == DataType::kFloat32)
    return std::ranges::equal(a.as<float>(), b.as<float>(),
                              [&](float x, float y) { return close(x, y, 1e-4); });
  if (a.type == DataType::kFloat64)
    return std::ranges::equal(a.as<double>(), b.as<double>(),
                              [&](double x, double y) { return close(x, y, 1e-9); });
  return std::ranges::equal(a.bytes, b.bytes) && std::ranges::equal(a.strings, b.strings);
}

/// One of two rows.
Result<Inputs> half(const Inputs& both, std::size_t index) {
  Inputs inputs;
  for (const auto& tensor : both) {
    Shape shape = tensor.shape();
    shape.front() = 1;
    SELVAGE_TRY(auto row, Tensor::create(tensor.type(), std::move(shape)));
    const auto bytes = tensor.bytes().subspan(index * row.bytes().size(), row.bytes().size());
    std::ranges::copy(bytes, row.bytes().begin());
    inputs.push_back(std::move(row));
  }
  return inputs;
}

/// Whether two random rows together give what they give one by one.
Result<bool> rows_independent(OnnxRunner& runner) {
  SELVAGE_TRY(auto both, zeros(runner.signature(), 2));
  std::mt19937 random(1);
  for (auto& tensor : both) fill_random(tensor, random);
  SELVAGE_TRY(const auto together, runner.try_run(both));
  for (std::size_t i = 0; i < 2; ++i) {
    SELVAGE_TRY(const auto inputs, half(both, i));
    SELVAGE_TRY(const auto alone, runner.try_run(inputs));
    for (std::size_t o = 0; o < alone.size(); ++o) {
      const auto whole = together[o].view();
      const auto bytes = whole.bytes.size() / 2;
      const auto strings = whole.strings.size() / 2;
      const TensorView part{whole.type, alone[o].shape(), whole.bytes.subspan(i * bytes, bytes),
                            whole.strings.subspan(i * strings, strings)};
      if (!same(part, alone[o].view())) return false;
    }
  }
  return true;
}

/// The shortest of three runs, per row; of one where runs are long.
Result<double> seconds_per_row(OnnxRunner& runner, std::int64_t rows) {
  using Clock = std::chrono::steady_clock;  // Measures this machine, whatever the injected clock.
  SELVAGE_TRY(const auto inputs, zeros(runner.signature(), rows));
  auto best = Duration::max();
  for (int i = 0; i < 3 && (i == 0 || best < kBatchProbeRunMax); ++i) {
    const auto start = Clock::now();
    SELVAGE_RETURN_IF_ERROR(runner.try_run(inputs));
    best = std::min(best, Clock::now() - start);
  }
  return std::chrono::duration<double>(best).count() / static_cast<double>(rows);
}

}  // namespace

std::int64_t probe_batching(OnnxRunner& runner) {
  const auto independent = rows_independent(runner);
  if (!independent || !*independent) return 0;
  auto best = seconds_per_row(runner, 1);
  if (!best || *best > std::chrono::duration<double>(kBatchProbeRunMax).count()) return 0;
  std::int64_t rows_best = 0;
  // Two sizes without a gain end the search: one may be a disturbance.
  for (std::int64_t rows = 2;
       rows <= kBatchProbeRowsMax && rows <= 4 * std::max<std::int64_t>(rows_best, 1); rows *= 2) {
    const auto time = seconds_per_row(runner, rows);
    if (!time) break;
    if (*time > *best * (1 - kBatchProbeGain)) continue;
    best = time;
    rows_best = rows;
  }
  return rows_best;
}

Result<void> warm_up(OnnxRunner& runner, const ModelConfig& config, std::int64_t rows_max,
                     const std::filesystem::path& folder) {
  for (const auto& sample : config.warmups) {
    auto done = run_sample(runner, sample, folder);
    if (!done)
      return std::unexpected(
          std::move(done).error().with_context("model_warmup '" + sample.name + "'"));
  }
  if (!config.warmups.empty()) return {};
  const auto& signature = runner.signature();
  const auto open = [&](const Port& port) {
    return std::ranges::count_if(port.client, [](std::int64_t size) { return size < 0; }) >
           (signature.batching ? 1 : 0);
  };
  const bool guesses = std::ranges::any_of(signature.inputs, open);
  const auto end = std::chrono::steady_clock::now() + kWarmUpTime;
  const auto largest = std::max<std::int64_t>(rows_max, 1);
  for (auto rows = largest; rows >= 1; --rows) {
    const bool must = rows == largest || std::has_single_bit(static_cast<std::uint64_t>(rows));
    if (!must && std::chrono::steady_clock::now() > end) continue;
    SELVAGE_TRY(const auto inputs, zeros(signature, rows));
    const auto done = runner.try_run(inputs);
    if (done) continue;
    if (!guesses) return std::unexpected(Error(done.error()).with_context("warm-up"));
    log::info(
        "the model is not warmed up: it does not run on zeros of the smallest shapes; "
        "model_warmup in config.pbtxt can name a sample",
        {{"model", runner.model().name()}, {"reason", done.error().message}});
    return {};
  }
  return {};
}

}  // namespace selvage::infer
