// Holds read_infer_message() against protobuf's own reading. For tests and fuzzers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "serve/infer_message.h"

namespace selvage::serve::testing {

/// The bytes as slices of `size` bytes each.
[[nodiscard]] inline grpc::ByteBuffer cut(std::string_view bytes, std::size_t size) {
  std::vector<grpc::Slice> slices;
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    const auto part = bytes.substr(at, size);
    slices.emplace_back(part.data(), part.size());
  }
  return {slices.data(), slices.size()};
}

/// Maps in one order, so that equal messages are equal texts.
[[nodiscard]] inline std::string to_text(const inference::ModelInferRequest& message) {
  std::string text;
  google::protobuf::io::StringOutputStream stream(&text);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return text;
}

/// Whether both find the same message, or both none.
[[nodiscard]] inline bool reads_as_protobuf_does(std::string_view bytes, std::size_t slice_size,
                                                 BodyBudget& budget) {
  auto buffer = cut(bytes, slice_size);
  const auto found = read_infer_message(buffer, budget);
  inference::ModelInferRequest expected;
  const bool valid = expected.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  if (found.has_value() != valid) return false;
  if (!valid) return true;
  const auto equal = [](std::span<const std::byte> raw, const std::string& text) {
    return std::ranges::equal(raw, std::as_bytes(std::span(text)));
  };
  if (!std::ranges::equal((*found)->raw, expected.raw_input_contents(), equal)) return false;
  auto head = (*found)->head;
  head.clear_raw_input_contents();
  expected.clear_raw_input_contents();
  return to_text(head) == to_text(expected);
}

}  // namespace selvage::serve::testing
