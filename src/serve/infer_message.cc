#include "serve/infer_message.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "serve/grpc_message.h"
#include "serve/infer_call.h"

namespace selvage::serve {
namespace {

enum WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kDelimited = 2, kFixed32 = 5 };
constexpr std::uint32_t kRawInputContents = 7;
constexpr int kTagBytesMax = 5, kVarintBytesMax = 10;
constexpr std::size_t kHeadBytesMax = 64u << 10;  // Larger ones hold typed contents.

/// Reads on over the ends of slices. Confined.
class SliceReader {
 public:
  explicit SliceReader(std::span<const grpc::Slice> slices) : slices_(slices) {
    for (const auto& slice : slices) left_ += slice.size();
    skip_empty();
  }

  [[nodiscard]] std::uint64_t left() const { return left_; }
  /// What follows and lies in one piece.
  [[nodiscard]] std::span<const std::byte> piece() const {
    if (slices_.empty()) return {};
    return std::as_bytes(std::span(slices_.front().begin(), slices_.front().size())).subspan(at_);
  }
  /// At most a piece.
  void skip(std::size_t bytes) {
    at_ += bytes;
    left_ -= bytes;
    skip_empty();
  }
  /// Calls `take` with the next `bytes`, piece by piece. False when fewer are left.
  template <typename Take>
  [[nodiscard]] bool for_each(std::uint64_t bytes, Take&& take) {
    if (bytes > left_) return false;
    while (bytes > 0) {
      const auto part = piece().first(std::min<std::uint64_t>(bytes, piece().size()));
      if (!take(part)) return false;
      skip(part.size());
      bytes -= part.size();
    }
    return true;
  }

 private:
  void skip_empty() {
    while (!slices_.empty() && at_ == slices_.front().size()) {
      slices_ = slices_.subspan(1);
      at_ = 0;
    }
  }
  std::span<const grpc::Slice> slices_;
  std::size_t at_ = 0;
  std::uint64_t left_ = 0;
};

/// Splits a message into raw_input_contents and the rest. Confined.
class Splitter {
 public:
  Splitter(std::span<const grpc::Slice> slices, BodyBudget& budget, InferMessage& to)
      : reader_(slices), budget_(budget), to_(to) {}

  /// False for a message that protobuf has to look at. Errors as read_infer_message().
  Result<bool> split() {
    while (reader_.left() > 0) {
      const std::size_t field_at = head_.size();
      const auto tag = varint(kTagBytesMax);
      if (!tag || *tag > UINT32_MAX || head_.size() > kHeadBytesMax) return false;
      const auto field = static_cast<std::uint32_t>(*tag >> 3);
      const auto type = static_cast<std::uint8_t>(*tag & 7);
      if (field == 0) return false;
      if (field == kRawInputContents) {
        const auto length = type == kDelimited ? varint(kTagBytesMax) : std::nullopt;
        if (!length || *length > reader_.left() || to_.raw.size() == kTensorsMax) return false;
        head_.resize(field_at);
        SELVAGE_RETURN_IF_ERROR(add_raw(*length));
        continue;
      }
      if (!keep(type)) return false;
    }
    return true;
  }

  [[nodiscard]] const std::string& head() const { return head_; }

 private:
  // Also into head_.
  std::optional<std::uint64_t> varint(int bytes_max) {
    std::uint64_t value = 0;
    varint_bytes_ = 0;
    for (int shift = 0; varint_bytes_ < static_cast<std::size_t>(bytes_max); shift += 7) {
      if (reader_.left() == 0) return std::nullopt;
      const auto byte = std::to_integer<std::uint8_t>(reader_.piece().front());
      reader_.skip(1);
      head_ += static_cast<char>(byte);
      ++varint_bytes_;
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    return std::nullopt;
  }

  // The value of a field that goes into head_ as it is.
  bool keep(std::uint8_t type) {
    std::uint64_t bytes = 0;
    if (type == kVarint) return varint(kVarintBytesMax).has_value();
    if (type == kFixed64) {
      bytes = 8;
    } else if (type == kFixed32) {
      bytes = 4;
    } else if (type == kDelimited) {
      const auto length = varint(kTagBytesMax);
      if (!length) return false;
      bytes = *length;
    } else {
      return false;  // Groups.
    }
    if (bytes > kHeadBytesMax) return false;
    return reader_.for_each(bytes, [this](std::span<const std::byte> part) {
      head_.append(reinterpret_cast<const char*>(part.data()), part.size());
      return true;
    });
  }

  Result<void> add_raw(std::uint64_t length) {
    if (length <= reader_.piece().size()) {
      to_.raw.push_back(reader_.piece().first(static_cast<std::size_t>(length)));
      reader_.skip(static_cast<std::size_t>(length));
      return {};
    }
    Body whole(budget_);
    SELVAGE_RETURN_IF_ERROR(whole.reserve(length));
    Result<void> done;
    static_cast<void>(reader_.for_each(length, [&](std::span<const std::byte> part) {
      done = whole.append(part);
      return done.has_value();
    }));
    SELVAGE_RETURN_IF_ERROR(done);
    to_.raw.push_back(whole.bytes());
    to_.gathered.push_back(std::move(whole));
    return {};
  }

  SliceReader reader_;
  BodyBudget& budget_;
  InferMessage& to_;
  std::string head_;
  std::size_t varint_bytes_ = 0;  // Of the last one.
};

// What a message's elements take; the rest is small beside its wire form.
std::uint64_t memory_of(const inference::ModelInferRequest& message) {
  const auto texts = [](const auto& values) {
    std::uint64_t bytes = 0;
    for (const std::string& value : values) bytes += value.size();
    return bytes +
           static_cast<std::uint64_t>(values.size()) * (sizeof(void*) + sizeof(std::string));
  };
  std::uint64_t bytes = texts(message.raw_input_contents());
  for (const auto& input : message.inputs()) {
    const auto& from = input.contents();
    const int words =
        from.int_contents_size() + from.uint_contents_size() + from.fp32_contents_size();
    const int double_words =
        from.int64_contents_size() + from.uint64_contents_size() + from.fp64_contents_size();
    bytes += static_cast<std::uint64_t>(from.bool_contents_size()) +
             4 * static_cast<std::uint64_t>(words) + 8 * static_cast<std::uint64_t>(double_words) +
             texts(from.bytes_contents());
  }
  return bytes;
}

}  // namespace

Result<std::shared_ptr<const InferMessage>> read_infer_message(grpc::ByteBuffer& buffer,
                                                               BodyBudget& budget) {
  auto message = std::make_shared<InferMessage>(budget);
  if (!buffer.Dump(&message->slices).ok())
    return fail(ErrorCode::kInvalidArgument, "the message cannot be decompressed");
  Splitter splitter(message->slices, budget, *message);
  SELVAGE_TRY(const bool usual, splitter.split());
  if (usual) {
    buffer.Clear();
    if (!message->head.ParseFromString(splitter.head()))
      return fail(ErrorCode::kInvalidArgument, "the message is not valid protobuf");
    return message;
  }
  message->raw.clear();
  message->gathered.clear();
  message->slices.clear();
  SELVAGE_RETURN_IF_ERROR(parse_message(buffer, message->head));
  buffer.Clear();
  SELVAGE_RETURN_IF_ERROR(message->share.add(memory_of(message->head)));
  for (const auto& raw : message->head.raw_input_contents())
    message->raw.push_back(std::as_bytes(std::span(raw)));
  return message;
}

}  // namespace selvage::serve
