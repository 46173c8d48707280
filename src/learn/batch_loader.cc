#include "learn/batch_loader.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "base/random.h"

namespace selvage::learn {
namespace {

/// Batches in flight: one in use, one ready, one in the making.
constexpr std::size_t kBatches = 3;

// Streams of an epoch's generator that no sample's number reaches.
constexpr std::uint64_t kOrderStream = ~std::uint64_t{0};
constexpr std::uint64_t kMixStream = std::uint64_t{1} << 63;

std::span<float> floats(std::vector<std::byte>& bytes) {
  return {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
}

void allocate(const BatchPlan& plan, Batch& batch) {
  if (!batch.bytes.empty()) return;
  for (const auto& input : plan.inputs) {
    batch.bytes.emplace_back(byte_size(input.type, input.shape).value_or(0));
    batch.tensors.push_back(
        {.type = input.type, .shape = input.shape, .bytes = batch.bytes.back(), .strings = {}});
  }
}

/// Every row becomes a share of itself and the rest of the row after it.
void mix_rows(std::span<float> rows, std::size_t width, float share) {
  const std::vector<float> first(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(width));
  for (std::size_t at = 0; at < rows.size(); at += width) {
    const float* const other = at + width < rows.size() ? &rows[at + width] : first.data();
    for (std::size_t i = 0; i < width; ++i)
      rows[at + i] = share * rows[at + i] + (1 - share) * other[i];
  }
}

void fill_target(const BatchPlan& plan, const Batch& batch, DataType type,
                 std::vector<std::byte>& bytes, std::span<const float> input) {
  const auto& objective = plan.objective;
  if (type == DataType::kInt64) {
    auto* labels = reinterpret_cast<std::int64_t*>(bytes.data());
    for (const auto sample : batch.samples) *labels++ = plan.data.label(sample);
    return;
  }
  const auto values = floats(bytes);
  const auto width = values.size() / batch.samples.size();
  std::ranges::fill(values, 0.0f);
  for (std::size_t k = 0; k < batch.samples.size(); ++k) {
    const auto row = values.subspan(k * width, width);
    const auto sample = batch.samples[k];
    switch (objective.source) {
      case TargetSource::kClass: row[static_cast<std::size_t>(plan.data.label(sample))] = 1; break;
      case TargetSource::kBinary: row[0] = static_cast<float>(plan.data.label(sample)); break;
      case TargetSource::kValues:
        std::ranges::transform(plan.data.values(sample), row.begin(), [&](float value) {
          return (value - objective.offset) / objective.scale;
        });
        break;
      case TargetSource::kInput: std::ranges::copy(input.subspan(k * width, width), row.begin());
    }
  }
}

}  // namespace

std::vector<std::size_t> epoch_order(const BatchPlan& plan, std::uint64_t epoch) {
  auto order = plan.samples;
  Random(plan.seed).split(epoch).split(kOrderStream).shuffle(std::span(order));
  return order;
}

Result<void> make_batch(const BatchPlan& plan, std::span<const std::size_t> order,
                        std::uint64_t epoch, std::uint64_t step, Batch& batch) {
  allocate(plan, batch);
  const auto random = Random(plan.seed).split(epoch);
  const auto chosen = order.subspan(step * plan.batch(), plan.batch());
  batch.samples.assign(chosen.begin(), chosen.end());

  const auto inputs = plan.data.inputs();
  std::vector<std::span<std::byte>> spans(
      batch.bytes.begin(), batch.bytes.begin() + static_cast<std::ptrdiff_t>(inputs.size()));
  SELVAGE_RETURN_IF_ERROR(plan.data.read(batch.samples, spans));

  const auto picture = floats(batch.bytes[0]);
  const auto width = picture.size() / batch.samples.size();
  if (plan.augment.changes_samples()) {
    Augmenter augmenter(plan.augment, inputs[0].shape);
    for (std::size_t k = 0; k < batch.samples.size(); ++k)
      augmenter.apply(picture.subspan(k * width, width), random.split(batch.samples[k]));
  }
  std::optional<float> share;
  if (plan.augment.mixup > 0) {
    auto draw = random.split(kMixStream + step);
    share = mixup_share(plan.augment.mixup, draw);
    mix_rows(picture, width, *share);
  }
  batch.mixed = share.has_value();
  for (std::size_t i = inputs.size(); i < plan.inputs.size(); ++i) {
    auto& bytes = batch.bytes[i];
    const auto teacher =
        std::ranges::find(plan.teachers, plan.inputs[i].name, &TeacherTarget::name);
    if (teacher != plan.teachers.end()) {
      auto to = floats(bytes).begin();
      for (const auto sample : batch.samples)
        to = std::ranges::copy(teacher->outputs->row(sample), to).out;
    } else {
      fill_target(plan, batch, plan.inputs[i].type, bytes, picture);
      if (plan.objective.source == TargetSource::kInput) continue;  // Mixed already.
    }
    if (share && plan.inputs[i].type == DataType::kFloat32)
      mix_rows(floats(bytes), bytes.size() / sizeof(float) / batch.samples.size(), *share);
  }
  return {};
}

struct BatchLoader::State {
  State(const BatchPlan& its_plan, std::uint64_t first_epoch, std::uint64_t first_step)
      : plan(its_plan), epoch(first_epoch), step(first_step) {}

  const BatchPlan& plan;
  // Of the next batch to be made; the thread's alone.
  std::uint64_t epoch, step;
  std::vector<std::size_t> order;

  std::array<Batch, kBatches> batches;
  std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<std::size_t> free{0, 1, 2};
  std::deque<std::size_t> ready;
  std::optional<std::size_t> in_use;
  std::optional<Error> error;
  std::jthread thread;  // Last: it ends before what it uses.

  void run(const std::stop_token& stop) {
    while (true) {
      std::size_t slot = 0;
      {
        std::unique_lock lock(mutex);
        if (!changed.wait(lock, stop, [&] { return !free.empty(); })) return;
        slot = free.front();
        free.pop_front();
      }
      if (step >= plan.steps_per_epoch()) {
        step = 0;
        ++epoch;
        order.clear();
      }
      if (order.empty()) order = epoch_order(plan, epoch);
      auto made = make_batch(plan, order, epoch, step++, batches[slot]);
      const std::scoped_lock lock(mutex);
      if (made)
        ready.push_back(slot);
      else
        error = std::move(made).error();
      changed.notify_all();
      if (error) return;
    }
  }
};

BatchLoader::BatchLoader(const BatchPlan& plan, std::uint64_t epoch, std::uint64_t step)
    : state_(std::make_unique<State>(plan, epoch, step)) {
  state_->thread =
      std::jthread([state = state_.get()](const std::stop_token& stop) { state->run(stop); });
}

BatchLoader::~BatchLoader() = default;

Result<const Batch*> BatchLoader::next() {
  auto& state = *state_;
  std::unique_lock lock(state.mutex);
  if (state.in_use) {
    state.free.push_back(*state.in_use);
    state.in_use.reset();
    state.changed.notify_all();
  }
  state.changed.wait(lock, [&] { return !state.ready.empty() || state.error; });
  if (state.ready.empty()) return std::unexpected(*state.error);
  state.in_use = state.ready.front();
  state.ready.pop_front();
  return &state.batches[*state.in_use];
}

}  // namespace selvage::learn
