#include "graph/wire.h"

#include <string>
#include <unordered_map>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

namespace selvage::graph {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

enum class WireType : std::uint8_t {
  kVarint = 0,
  kFixed64 = 1,
  kLengthDelimited = 2,
  kGroupStart = 3,
  kGroupEnd = 4,
  kFixed32 = 5,
};

// What the decoder allocates for each thing, on a 64-bit machine with libstdc++.
constexpr std::uint64_t kPointerBytes = 8;
constexpr std::uint64_t kStringBytes = 48;  // std::string and malloc's own part.
constexpr std::uint64_t kScalarBytes = 8;
constexpr std::uint64_t kUnknownFieldBytes = 16;
constexpr std::uint64_t kShortStringBytes = 15;  // Kept inside std::string.

class Scanner {
 public:
  Scanner(std::span<const std::byte> bytes, int depth_max) : bytes_(bytes), depth_max_(depth_max) {}

  /// Fields of `type` (null in an unknown group) up to `end`, or to the end of group `group`.
  Result<void> message(const Descriptor* type, std::size_t end, int depth, std::uint32_t group = 0);
  [[nodiscard]] std::uint64_t decoded_bytes() const { return decoded_bytes_; }

 private:
  struct Tag {
    std::uint32_t field;
    WireType wire;
  };
  Result<std::uint64_t> varint(std::size_t end);
  Result<Tag> tag(std::size_t end);
  Result<void> skip(std::uint64_t count, std::size_t end);
  Result<void> length_delimited(const FieldDescriptor* field, std::size_t end, int depth);
  std::uint64_t size_of(const Descriptor* type);

  [[nodiscard]] std::unexpected<Error> damaged(std::string_view what) const {
    return fail(ErrorCode::kDataLoss, std::string(what) + " at byte " + std::to_string(position_) +
                                          " of " + std::to_string(bytes_.size()));
  }

  std::span<const std::byte> bytes_;
  int depth_max_;
  std::size_t position_ = 0;
  std::uint64_t decoded_bytes_ = 0;
  std::unordered_map<const Descriptor*, std::uint64_t> sizes_;
};

Result<std::uint64_t> Scanner::varint(std::size_t end) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    if (position_ == end) return damaged("the data end within a number");
    const auto byte = std::to_integer<std::uint64_t>(bytes_[position_++]);
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  return damaged("a number is too long");
}

Result<Scanner::Tag> Scanner::tag(std::size_t end) {
  SELVAGE_TRY(const auto value, varint(end));
  const auto wire = value & 7;
  if (value > UINT32_MAX || value >> 3 == 0 || wire > 5) return damaged("there is no valid field");
  return Tag{static_cast<std::uint32_t>(value >> 3), static_cast<WireType>(wire)};
}

Result<void> Scanner::skip(std::uint64_t count, std::size_t end) {
  if (count > end - position_) return damaged("a field is cut short");
  position_ += static_cast<std::size_t>(count);
  return {};
}

std::uint64_t Scanner::size_of(const Descriptor* type) {
  auto& size = sizes_[type];
  if (size == 0) {
    auto* const factory = google::protobuf::MessageFactory::generated_factory();
    size = factory->GetPrototype(type)->SpaceUsedLong();
  }
  return size;
}

Result<void> Scanner::length_delimited(const FieldDescriptor* field, std::size_t end, int depth) {
  SELVAGE_TRY(const auto length, varint(end));
  if (length > end - position_) return damaged("a field is cut short");
  const auto field_end = position_ + static_cast<std::size_t>(length);
  if (field != nullptr && field->type() == FieldDescriptor::TYPE_MESSAGE) {
    decoded_bytes_ += size_of(field->message_type()) + kPointerBytes;
    return message(field->message_type(), field_end, depth + 1);
  }
  if (field != nullptr && field->is_packable()) {
    const bool is_fixed = field->cpp_type() == FieldDescriptor::CPPTYPE_FLOAT ||
                          field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE;
    decoded_bytes_ += is_fixed ? length : length * kScalarBytes;
  } else {
    decoded_bytes_ += kPointerBytes + kStringBytes + (length > kShortStringBytes ? length : 0);
  }
  position_ = field_end;
  return {};
}

Result<void> Scanner::message(const Descriptor* type, std::size_t end, int depth,
                              std::uint32_t group) {
  if (depth > depth_max_)
    return fail(ErrorCode::kOutOfRange,
                "messages nest deeper than the limit of " + std::to_string(depth_max_));
  while (position_ < end) {
    SELVAGE_TRY(const auto next, tag(end));
    const auto* const field =
        type == nullptr ? nullptr : type->FindFieldByNumber(static_cast<int>(next.field));
    switch (next.wire) {
      case WireType::kVarint: {
        SELVAGE_RETURN_IF_ERROR(varint(end));
        decoded_bytes_ += field == nullptr ? kUnknownFieldBytes : kScalarBytes;
        break;
      }
      case WireType::kFixed64:
      case WireType::kFixed32:
        SELVAGE_RETURN_IF_ERROR(skip(next.wire == WireType::kFixed64 ? 8 : 4, end));
        decoded_bytes_ += field == nullptr ? kUnknownFieldBytes : kScalarBytes;
        break;
      case WireType::kLengthDelimited:
        SELVAGE_RETURN_IF_ERROR(length_delimited(field, end, depth));
        break;
      case WireType::kGroupStart:  // The schema has no groups, so this is an unknown field.
        decoded_bytes_ += kUnknownFieldBytes + kStringBytes;
        SELVAGE_RETURN_IF_ERROR(message(nullptr, end, depth + 1, next.field));
        break;
      case WireType::kGroupEnd:
        if (next.field != group) return damaged("a group ends that was not begun");
        return {};
    }
  }
  if (group != 0) return damaged("a group does not end");
  return {};
}

}  // namespace

Result<std::uint64_t> scan_wire(std::span<const std::byte> bytes, const Descriptor& type,
                                int depth_max) {
  Scanner scanner(bytes, depth_max);
  SELVAGE_RETURN_IF_ERROR(scanner.message(&type, bytes.size(), 0));
  return scanner.decoded_bytes();
}

}  // namespace selvage::graph
