#include "serve/shared_memory.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace selvage::serve {
namespace {

// Mappings that the SIGBUS handler may repair. A slot is taken by its first address.
struct Slot {
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};
};
// Regions that were removed stay mapped while requests use them: some more than kRegionsMax.
std::array<Slot, 2 * SharedMemory::kRegionsMax>
    slots;                  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables):
                            // signal handlers reach nothing else
std::uintptr_t page_bytes;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): the same

// Puts a page of zeros where the object ended. Calls only what is safe in a signal handler.
void repair(int signal, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (const Slot& slot : slots) {
    const std::uintptr_t begin = slot.begin.load();
    if (begin == 0 || address < begin || address >= slot.end.load()) continue;
    const std::uintptr_t page = address & ~(page_bytes - 1);
    // mmap(2) takes the address as a pointer, and only as one.
    auto* const at = reinterpret_cast<void*>(page);  // NOLINT(performance-no-int-to-ptr)
    if (::mmap(at, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) != MAP_FAILED)
      return;
  }
  ::signal(signal, SIG_DFL);  // Not ours: it happens again and ends the process.
}

void install_repair() {
  static std::once_flag once;
  std::call_once(once, [] {
    page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    struct sigaction action = {};
    action.sa_sigaction = repair;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigaction(SIGBUS, &action, nullptr);
  });
}

bool enter_slot(std::uintptr_t begin, std::size_t size) {
  for (Slot& slot : slots) {
    std::uintptr_t none = 0;
    if (!slot.begin.compare_exchange_strong(none, begin)) continue;
    slot.end.store(begin + size);
    return true;
  }
  return false;
}

void leave_slot(std::uintptr_t begin) {
  for (Slot& slot : slots) {
    if (slot.begin.load() != begin) continue;
    slot.end.store(0);
    slot.begin.store(0);
    return;
  }
}

Error last_error(const std::string& what) {
  const int number = errno;
  const auto code = number == ENOENT   ? ErrorCode::kNotFound
                    : number == EACCES ? ErrorCode::kPermissionDenied
                                       : ErrorCode::kIo;
  return {code,
          what + ": " + std::strerror(number)};  // NOLINT(concurrency-mt-unsafe): glibc's is safe
}

// A file descriptor that closes itself: the mapping lives on without it.
struct Descriptor {
  explicit Descriptor(int number) : fd(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  int fd;
};

Result<void> check(const RegionInfo& region) {
  if (region.name.empty() || region.name.size() > 255)
    return fail(ErrorCode::kInvalidArgument, "a region needs a name of at most 255 bytes");
  const std::string_view key = region.key;
  const auto inner = key.starts_with('/') ? key.substr(1) : key;
  if (inner.empty() || inner.size() > 250 || inner.find('/') != std::string_view::npos ||
      inner.find('\0') != std::string_view::npos || inner == "." || inner == "..")
    return fail(ErrorCode::kInvalidArgument,
                "the key of a region is one name, as shm_open takes it: '/frames'");
  if (region.byte_size == 0)
    return fail(ErrorCode::kInvalidArgument, "region '" + region.name + "' has no bytes");
  return {};
}

}  // namespace

struct SharedMemory::Region {
  RegionInfo info;
  std::byte* memory = nullptr;  // The whole object from its start.
  std::size_t memory_bytes = 0;

  Region() = default;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region() {
    if (!memory) return;
    leave_slot(reinterpret_cast<std::uintptr_t>(memory));
    ::munmap(memory, memory_bytes);
  }
};

Result<void> SharedMemory::check_allowed() const {
  if (allowed()) return {};
  return fail(ErrorCode::kPermissionDenied,
              "shared memory is switched off: start the server with --allow-shared-memory");
}

Result<void> SharedMemory::add(const RegionInfo& info) {
  SELVAGE_RETURN_IF_ERROR(check_allowed());
  SELVAGE_RETURN_IF_ERROR(check(info));
  const std::lock_guard lock(mutex_);
  if (regions_.contains(info.name))
    return fail(ErrorCode::kAlreadyExists, "region '" + info.name + "' is already registered");
  if (regions_.size() == kRegionsMax)
    return fail(ErrorCode::kResourceExhausted,
                std::to_string(kRegionsMax) + " regions are registered: unregister one");

  const std::string what = "shared memory '" + info.key + "'";
  const Descriptor object(::shm_open(info.key.c_str(), O_RDWR | O_CLOEXEC, 0));
  if (object.fd < 0) return std::unexpected(last_error(what));
  struct stat status = {};
  if (::fstat(object.fd, &status) != 0) return std::unexpected(last_error(what));
  const auto object_bytes = static_cast<std::uint64_t>(status.st_size);
  if (info.offset > object_bytes || info.byte_size > object_bytes - info.offset)
    return fail(ErrorCode::kInvalidArgument, "region '" + info.name + "' ends beyond " + what +
                                                 " of " + std::to_string(object_bytes) + " bytes");

  auto region = std::make_shared<Region>();
  region->info = info;
  region->memory_bytes = static_cast<std::size_t>(info.offset + info.byte_size);
  void* const memory =
      ::mmap(nullptr, region->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, object.fd, 0);
  if (memory == MAP_FAILED) return std::unexpected(last_error(what));
  region->memory = static_cast<std::byte*>(memory);
  install_repair();
  if (!enter_slot(reinterpret_cast<std::uintptr_t>(memory), region->memory_bytes))
    return fail(ErrorCode::kResourceExhausted, "too many removed regions are still in use");
  regions_.emplace(info.name, std::move(region));
  return {};
}

Result<void> SharedMemory::remove(std::string_view name) {
  const std::lock_guard lock(mutex_);
  if (name.empty()) {
    regions_.clear();
    return {};
  }
  const auto at = regions_.find(name);
  if (at == regions_.end())
    return fail(ErrorCode::kNotFound, "no region '" + std::string(name) + "' is registered");
  regions_.erase(at);
  return {};
}

Result<std::vector<RegionInfo>> SharedMemory::list(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  std::vector<RegionInfo> found;
  for (const auto& [known, region] : regions_)
    if (name.empty() || name == known) found.push_back(region->info);
  if (found.empty() && !name.empty())
    return fail(ErrorCode::kNotFound, "no region '" + std::string(name) + "' is registered");
  return found;
}

Result<RegionBytes> SharedMemory::bytes(std::string_view name, std::uint64_t offset,
                                        std::uint64_t size) const {
  const std::lock_guard lock(mutex_);
  const auto at = regions_.find(name);
  if (at == regions_.end())
    return fail(ErrorCode::kNotFound, "no region '" + std::string(name) + "' is registered");
  const Region& region = *at->second;
  if (offset > region.info.byte_size || size > region.info.byte_size - offset)
    return fail(ErrorCode::kInvalidArgument, std::to_string(size) + " bytes from " +
                                                 std::to_string(offset) + " end beyond region '" +
                                                 std::string(name) + "' of " +
                                                 std::to_string(region.info.byte_size) + " bytes");
  return RegionBytes{{region.memory + region.info.offset + offset, static_cast<std::size_t>(size)},
                     at->second};
}

}  // namespace selvage::serve
