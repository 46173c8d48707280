// A model in memory, ready to run: ONNX Runtime's session with the settings that an edge machine
// needs, every tensor type, and no work of ours on the hot path.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "infer/custom_operator.h"
#include "infer/runtime.h"

namespace selvage::infer {

enum class Optimization : std::uint8_t { kNone, kBasic, kExtended, kAll };

/// What matters on this machine. Decides whatever SessionOptions leaves to it.
enum class PowerProfile : std::uint8_t {
  kLatency,   ///< Threads spin for a while between runs: lowest tail, warm cores.
  kBalanced,  ///< Threads spin briefly. The default.
  kLowPower,  ///< One thread, no spinning.
};

enum class Arena : std::uint8_t {
  kGrowAsNeeded,  ///< ONNX Runtime's arena, growing by what is asked and not by powers of two.
  kNone,  ///< Plain malloc: smallest resident size, slower on models with large activations.
};

struct SessionOptions {
  Optimization optimization = Optimization::kAll;
  /// By preference, by ONNX Runtime's names or their short forms ("cuda", "xnnpack"); those that
  /// the library lacks are passed over with one warning. The CPU always comes last.
  std::vector<std::string> providers;
  PowerProfile power = PowerProfile::kBalanced;
  /// That compute one run, the caller included; 1 to 256. 0 = what was measured to be fastest on
  /// this machine, remembered in the cache (tune.h); without a cache folder 0 means 1.
  int threads = 0;
  /// For that measurement: the size of open dimensions other than the first (pictures of any size).
  /// 0 = unknown, and a model that leaves such dimensions open gets one thread.
  std::int64_t usual_side = 0;
  std::optional<std::uint32_t> spin_us;  ///< Overrides the profile's; 0 = never spin.
  Arena arena = Arena::kGrowAsNeeded;
  /// Plans one block for all activations once shapes have been seen. Off: they are taken from the
  /// arena one by one, which keeps less resident where many live long, as in training.
  bool memory_pattern = true;
  bool flush_denormals = true;    ///< Treat denormal numbers as zero on all compute threads.
  std::string thread_affinities;  ///< As `session.intra_op_thread_affinities` takes it.
  /// Fixes symbolic dimensions by name: {"batch", 1}.
  std::vector<std::pair<std::string, std::int64_t>> dimensions;
  /// Passed to ONNX Runtime as they are: {"session.dynamic_block_base", "4"}.
  std::vector<std::pair<std::string, std::string>> config;
  /// Operators of our own that the model uses; with any, the optimised model is not cached. They
  /// must outlive the session.
  std::vector<const CustomOperator*> operators;
  /// Where optimised models are kept between starts (see cache.h); empty = nowhere.
  std::filesystem::path cache_folder;
  /// Writes a per-operator trace beside this prefix until the session ends; empty = none.
  std::filesystem::path profile_prefix;
};

enum class ValueKind : std::uint8_t { kTensor, kSequence, kMap, kOptional, kSparseTensor, kOther };

/// A declared input or output.
struct ValueInfo {
  std::string name;
  ValueKind kind = ValueKind::kTensor;
  DataType type = DataType::kUndefined;  ///< Of the elements, for tensors.
  Shape shape;                           ///< -1 where the model leaves it open.
  std::vector<std::string> symbols;  ///< The open dimensions' names ("" where none), same length.
};

/// Whatever a model takes or gives: a tensor, nothing (an empty optional), a list, or a map (as
/// ONNX-ML classifiers return) of keys to values in two equally long tensors.
struct Value;
struct MapValue {
  Tensor keys;
  Tensor values;
};
struct Value : std::variant<std::monostate, Tensor, std::vector<Value>, MapValue> {
  using variant::variant;
};

class Binding;

/// Immutable after load, so one session serves any number of threads at once; weights exist once.
class Session {
 public:
  /// Checks the file (graph/check.h) before the runtime sees it, unless the cache vouches for it.
  /// Errors name the file: kNotFound, kInvalidArgument or kDataLoss for a bad model, kUnimplemented
  /// for an operator that the runtime lacks.
  [[nodiscard]] static Result<std::unique_ptr<Session>> load(Runtime& runtime,
                                                             const std::filesystem::path& model,
                                                             const SessionOptions& options = {});
  /// From memory, which may be freed afterwards. Models with external data must be files.
  [[nodiscard]] static Result<std::unique_ptr<Session>> load(Runtime& runtime,
                                                             std::span<const std::byte> model,
                                                             const SessionOptions& options = {});
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] std::span<const ValueInfo> inputs() const;
  [[nodiscard]] std::span<const ValueInfo> outputs() const;
  [[nodiscard]] std::optional<std::size_t> input_index(std::string_view name) const;
  [[nodiscard]] std::optional<std::size_t> output_index(std::string_view name) const;
  /// As they were decided: `threads` and `spin_us` hold what is in force.
  [[nodiscard]] const SessionOptions& options() const;
  [[nodiscard]] bool loaded_from_cache() const;

  /// Runs once and returns every output, freshly allocated: for tools and tests. `inputs` are in
  /// the order of inputs(). kInvalidArgument names the input whose type, rank or size is wrong.
  [[nodiscard]] Result<std::vector<Value>> run(std::span<const Value> inputs) const;

  /// Lets the arena take so many bytes in one piece, which runs then divide as they need: pieces
  /// taken one by one are never joined. What no run touches does not become resident.
  /// kResourceExhausted.
  [[nodiscard]] Result<void> reserve(std::uint64_t bytes);

  /// Ends profiling and returns the trace's path; kFailedPrecondition without profile_prefix.
  [[nodiscard]] Result<std::filesystem::path> end_profiling();

 private:
  friend class Binding;
  struct State;
  explicit Session(std::unique_ptr<State> state);
  [[nodiscard]] static Result<std::unique_ptr<Session>> open(Runtime& runtime,
                                                             std::span<const std::byte> model,
                                                             const std::filesystem::path& folder,
                                                             const SessionOptions& options);
  std::unique_ptr<State> state_;
};

/// Preallocated inputs and outputs for one call at a time. After the first run with a set of
/// shapes, run() neither allocates nor copies on our side. Only for models whose inputs and outputs
/// are tensors (others: Session::run).
///
///   SELVAGE_TRY(auto binding, Binding::create(session));
///   std::ranges::copy(pixels, binding->input(0).begin<float>());
///   SELVAGE_RETURN_IF_ERROR(binding->run());
///   auto scores = binding->output(0).as<float>();
///
/// Confined to one thread at a time. The session must outlive it.
class Binding {
 public:
  /// Allocates inputs of `input_shapes` (in the order of inputs(); empty = the declared shapes with
  /// open dimensions set to 1) and every output whose shape follows from them; the runtime
  /// allocates the others at each run.
  [[nodiscard]] static Result<std::unique_ptr<Binding>> create(
      const Session& session, std::span<const Shape> input_shapes = {});
  ~Binding();
  Binding(const Binding&) = delete;
  Binding& operator=(const Binding&) = delete;

  /// An input's elements, to be filled before run(). For kString see set_strings.
  [[nodiscard]] std::span<std::byte> input_bytes(std::size_t index);
  template <typename T>
  [[nodiscard]] std::span<T> input(std::size_t index) {
    const auto bytes = input_bytes(index);
    return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
  [[nodiscard]] std::span<const std::int64_t> input_shape(std::size_t index) const;
  [[nodiscard]] Result<void> set_strings(std::size_t index, std::span<const std::string> values);

  /// Reads the input from the caller's memory, without a copy, until the next bind_input or
  /// set_shape; it must stay valid during run(). kInvalidArgument when type, rank, a fixed
  /// dimension or the number of bytes is wrong.
  [[nodiscard]] Result<void> bind_input(std::size_t index, const TensorView& tensor);
  /// Writes the output into the caller's memory, which must hold exactly `shape`, until an input's
  /// shape changes.
  [[nodiscard]] Result<void> bind_output(std::size_t index, Shape shape,
                                         std::span<std::byte> bytes);
  /// Recurrent state: what the last run wrote to `output` becomes `input` of the next, without a
  /// copy. output(`output`) is meaningless until then.
  [[nodiscard]] Result<void> feed_back(std::size_t output, std::size_t input);
  /// Gives an input a new shape (and new, zeroed memory of ours).
  [[nodiscard]] Result<void> set_shape(std::size_t index, Shape shape);

  /// Asks a run in progress on another thread to stop soon: it ends with kCancelled. Between runs
  /// it does nothing.
  void cancel();

  [[nodiscard]] Result<void> run();

  /// Of the last successful run; valid until the next one.
  [[nodiscard]] TensorView output(std::size_t index) const;
  [[nodiscard]] std::size_t output_count() const;

 private:
  struct State;
  explicit Binding(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::infer
