// Protobuf's wire format, read before the decoder allocates anything: damage is named by its
// position, and what decoding would cost is known and bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace google::protobuf {
class Descriptor;
}

namespace selvage::graph {

/// Walks over the encoding of a `type` and returns about how many bytes of memory the decoded
/// message takes, as an upper bound within a factor of two. Skips over tensor data without touching
/// it. kDataLoss where a field is malformed or longer than what surrounds it, with the byte's
/// position; kOutOfRange where messages nest deeper than `depth_max`.
[[nodiscard]] Result<std::uint64_t> scan_wire(std::span<const std::byte> bytes,
                                              const google::protobuf::Descriptor& type,
                                              int depth_max);

}  // namespace selvage::graph
