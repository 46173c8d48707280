// System shared memory (the protocol's system_shared_memory extension): clients on this machine put
// tensors into POSIX shared memory and name them instead of sending them. Off unless switched on:
// whoever may call the server may then name any object that the server's user may open.
//
// A client can shrink an object while it is being read: the pages that vanish are replaced by zeros
// (a handler of SIGBUS, installed with the first region), so that this hurts that client's answers
// and nothing else. A client that changes values while they are used gets answers of no meaning.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace selvage::serve {

enum class SharedMemoryAccess : std::uint8_t { kRefused, kAllowed };

struct RegionInfo {
  std::string name;
  std::string key;  ///< As shm_open takes it: "/frames".
  std::uint64_t offset = 0;
  std::uint64_t byte_size = 0;
};

/// Bytes of a region. Keeps it mapped.
struct RegionBytes {
  std::span<std::byte> bytes;
  std::shared_ptr<const void> keepalive;
};

/// Synchronised.
class SharedMemory {
 public:
  static constexpr std::size_t kRegionsMax = 256;

  explicit SharedMemory(SharedMemoryAccess access) : access_(access) {}

  [[nodiscard]] bool allowed() const { return access_ == SharedMemoryAccess::kAllowed; }

  /// kPermissionDenied when switched off.
  [[nodiscard]] Result<void> check_allowed() const;
  /// The same; kAlreadyExists for a name in use; kInvalidArgument for a
  /// key that is not one name, an empty size, or an end beyond the object's; kNotFound without such
  /// an object; kResourceExhausted above kRegionsMax.
  [[nodiscard]] Result<void> add(const RegionInfo& region);
  /// kNotFound. "" removes all. Requests that use a region keep it until they end.
  [[nodiscard]] Result<void> remove(std::string_view name);
  /// By name; "" lists all. kNotFound.
  [[nodiscard]] Result<std::vector<RegionInfo>> list(std::string_view name) const;
  /// `size` bytes from `offset` of a region. kNotFound; kInvalidArgument beyond its end.
  [[nodiscard]] Result<RegionBytes> bytes(std::string_view name, std::uint64_t offset,
                                          std::uint64_t size) const;

 private:
  struct Region;
  const SharedMemoryAccess access_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Region>, std::less<>> regions_;
};

}  // namespace selvage::serve
