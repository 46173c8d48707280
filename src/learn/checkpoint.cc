#include "learn/checkpoint.h"

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "crypto/digest.h"

namespace selvage::learn {
namespace {

constexpr std::string_view kMagic = "SELVCKPT";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeadBytes = 8 + 4 + 8;
constexpr std::size_t kDigestBytes = crypto::Digest::kSize;
constexpr std::uint64_t kRankMax = 64;

class Writer {
 public:
  template <typename T>
    requires std::is_arithmetic_v<T>
  void number(T value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void optional(const std::optional<double>& value) {
    number<std::uint8_t>(value.has_value());
    number(value.value_or(0));
  }
  void block(std::span<const std::byte> bytes) {
    number<std::uint64_t>(bytes.size());
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void text(std::string_view text) { block(std::as_bytes(std::span(text))); }
  void raw(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  [[nodiscard]] std::vector<std::byte>& bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// The digest has vouched for the bytes: a reader that runs over their end has met another
/// version's layout, or somebody's work.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

  std::span<const std::byte> take(std::uint64_t count) {
    ok_ = ok_ && count <= rest_.size();
    if (!ok_) return {};
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  template <typename T>
    requires std::is_arithmetic_v<T>
  void number(T& value) {
    const auto bytes = take(sizeof(T));
    if (ok_) std::memcpy(&value, bytes.data(), sizeof(T));
  }
  template <typename T>
  T number() {
    T value{};
    number(value);
    return value;
  }
  void optional(std::optional<double>& value) {
    const bool present = number<std::uint8_t>() != 0;
    const auto stored = number<double>();
    if (present) value = stored;
  }
  std::span<const std::byte> block() { return take(number<std::uint64_t>()); }
  std::string text() {
    const auto bytes = block();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

 private:
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

void write(Writer& out, const EpochRecord& record) {
  out.number(record.epoch);
  out.number(record.learning_rate);
  out.number(record.train_loss);
  out.optional(record.train_accuracy);
  out.optional(record.validation_loss);
  out.optional(record.validation_accuracy);
  out.number(record.seconds);
  out.number(record.samples_per_second);
}

EpochRecord read_record(Reader& in) {
  EpochRecord record;
  in.number(record.epoch);
  in.number(record.learning_rate);
  in.number(record.train_loss);
  in.optional(record.train_accuracy);
  in.optional(record.validation_loss);
  in.optional(record.validation_accuracy);
  in.number(record.seconds);
  in.number(record.samples_per_second);
  return record;
}

void write(Writer& out, const NamedTensor& tensor) {
  out.text(tensor.name);
  out.number(static_cast<std::uint8_t>(tensor.value.type()));
  out.number<std::uint64_t>(tensor.value.shape().size());
  for (const auto size : tensor.value.shape()) out.number(size);
  out.block(tensor.value.bytes());
}

std::unexpected<Error> damaged(const char* what) {
  return fail(ErrorCode::kDataLoss,
              std::string("not a checkpoint of this version, or damaged: ") + what);
}

Result<NamedTensor> read_tensor(Reader& in) {
  NamedTensor tensor{.name = in.text(), .value = {}};
  const auto type = static_cast<DataType>(in.number<std::uint8_t>());
  const auto rank = in.number<std::uint64_t>();
  if (!in.ok() || rank > kRankMax) return damaged("a tensor");
  Shape shape(rank);
  for (auto& size : shape) in.number(size);
  const auto bytes = in.block();
  if (!in.ok() || byte_size(type, shape) != bytes.size()) return damaged("a tensor");
  SELVAGE_TRY(tensor.value, Tensor::create(type, std::move(shape)));
  std::ranges::copy(bytes, tensor.value.bytes().begin());
  return tensor;
}

Result<Checkpoint> read_content(Reader in) {
  Checkpoint checkpoint;
  checkpoint.settings = in.text();
  in.number(checkpoint.epoch);
  in.number(checkpoint.step);
  in.number(checkpoint.loss_sum);
  in.number(checkpoint.correct);
  in.number(checkpoint.seconds);
  in.number(checkpoint.best_epoch);
  in.number(checkpoint.best_score);
  in.number(checkpoint.reductions);
  in.number(checkpoint.epochs_since_best);
  in.number(checkpoint.epochs_on_plateau);
  checkpoint.finished = in.number<std::uint8_t>() != 0;
  for (auto left = in.number<std::uint64_t>(); in.ok() && left > 0; --left)
    checkpoint.history.push_back(read_record(in));
  const auto state = in.block();
  checkpoint.state.assign(state.begin(), state.end());
  for (auto left = in.number<std::uint64_t>(); in.ok() && left > 0; --left) {
    SELVAGE_TRY(auto tensor, read_tensor(in));
    checkpoint.best.push_back(std::move(tensor));
  }
  if (!in.ok() || !in.at_end()) return damaged("its length");
  return checkpoint;
}

}  // namespace

std::vector<std::byte> serialise(const Checkpoint& checkpoint) {
  Writer out;
  out.raw(kMagic);
  out.number(kVersion);
  out.number(std::uint64_t{0});  // The length, once it is known.
  out.text(checkpoint.settings);
  out.number(checkpoint.epoch);
  out.number(checkpoint.step);
  out.number(checkpoint.loss_sum);
  out.number(checkpoint.correct);
  out.number(checkpoint.seconds);
  out.number(checkpoint.best_epoch);
  out.number(checkpoint.best_score);
  out.number(checkpoint.reductions);
  out.number(checkpoint.epochs_since_best);
  out.number(checkpoint.epochs_on_plateau);
  out.number<std::uint8_t>(checkpoint.finished);
  out.number<std::uint64_t>(checkpoint.history.size());
  for (const auto& record : checkpoint.history) write(out, record);
  out.block(checkpoint.state);
  out.number<std::uint64_t>(checkpoint.best.size());
  for (const auto& tensor : checkpoint.best) write(out, tensor);

  auto& bytes = out.bytes();
  const std::uint64_t length = bytes.size() - kHeadBytes;
  std::memcpy(bytes.data() + kHeadBytes - sizeof length, &length, sizeof length);
  const auto digest = crypto::sha256(std::span<const std::byte>(bytes));
  bytes.insert(bytes.end(), digest.bytes().begin(), digest.bytes().end());
  return std::move(bytes);
}

Result<Checkpoint> parse_checkpoint(std::span<const std::byte> bytes) {
  if (bytes.size() < kHeadBytes + kDigestBytes) return damaged("cut short");
  Reader head(bytes.first(kHeadBytes));
  const auto magic = head.take(kMagic.size());
  if (std::memcmp(magic.data(), kMagic.data(), kMagic.size()) != 0) return damaged("its beginning");
  if (head.number<std::uint32_t>() != kVersion) return damaged("its version");
  const auto content = bytes.subspan(kHeadBytes, bytes.size() - kHeadBytes - kDigestBytes);
  if (head.number<std::uint64_t>() != content.size()) return damaged("cut short");
  const auto digest = crypto::sha256(bytes.first(bytes.size() - kDigestBytes));
  if (!std::ranges::equal(digest.bytes(), bytes.last(kDigestBytes))) return damaged("its checksum");
  return read_content(Reader(content));
}

Result<void> save_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& path) {
  return write_atomically(path, serialise(checkpoint));
}

Result<std::optional<Checkpoint>> load_checkpoint(const std::filesystem::path& path) {
  const auto bytes = read_bytes(path, kCheckpointBytesMax);
  if (!bytes && bytes.error().code == ErrorCode::kNotFound) return std::nullopt;
  if (!bytes) return std::unexpected(bytes.error());
  auto checkpoint = parse_checkpoint(*bytes);
  if (!checkpoint)
    return std::unexpected(std::move(checkpoint).error().with_context(path.string()));
  return std::optional(*std::move(checkpoint));
}

std::string first_difference(std::string_view before, std::string_view now) {
  const auto take_line = [](std::string_view& text) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return line;
  };
  while (!before.empty() || !now.empty()) {
    const auto old_line = take_line(before), new_line = take_line(now);
    if (old_line == new_line) continue;
    const auto name = new_line.substr(0, new_line.find('='));
    const auto value = [](std::string_view line) {
      const auto equals = line.find('=');
      return std::string(equals == std::string_view::npos ? line : line.substr(equals + 1));
    };
    return std::string(name) + " was " + value(old_line) + ", now is " + value(new_line);
  }
  return "";
}

}  // namespace selvage::learn
