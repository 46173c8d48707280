#include "base/file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/exception.h"
#include "base/system_error.h"

namespace selvage {
namespace {

constexpr mode_t kPermissionBits = 07777;
constexpr int kNameAttempts = 100;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int value() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }

 private:
  int fd_;
};

/// Opens `path` for reading where it is a regular file, and never waits for a pipe's other end.
Result<Descriptor> open_regular(const std::filesystem::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return system_error("open", path);
  struct stat status{};
  if (::fstat(file.value(), &status) != 0) return system_error("read", path);
  if (S_ISDIR(status.st_mode))
    return fail(ErrorCode::kInvalidArgument, "'" + path.string() + "' is a folder, not a file");
  if (!S_ISREG(status.st_mode))
    return fail(ErrorCode::kInvalidArgument,
                "'" + path.string() + "' is a pipe or a device, not a file");
  return file;
}

/// The size that the file states, or an error for what cannot be read.
Result<std::uint64_t> stated_size(const Descriptor& file, const std::filesystem::path& path) {
  if (!file.valid()) return system_error("open", path);
  struct stat status{};
  if (::fstat(file.value(), &status) != 0) return system_error("read", path);
  if (S_ISDIR(status.st_mode))
    return fail(ErrorCode::kInvalidArgument, "'" + path.string() + "' is a folder, not a file");
  return static_cast<std::uint64_t>(status.st_size);
}

/// As read(2), but signals do not interrupt it. 0 at the end.
Result<std::size_t> read_some(const Descriptor& file, std::span<std::byte> room,
                              const std::filesystem::path& path) {
  while (true) {
    const auto got = ::read(file.value(), room.data(), room.size());
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return system_error("read", path);
  }
}

std::unexpected<Error> too_large(const std::filesystem::path& path, std::uint64_t bytes_max) {
  return fail(ErrorCode::kOutOfRange, "'" + path.string() + "' is larger than the limit of " +
                                          std::to_string(bytes_max) + " bytes");
}

template <typename Container>
Result<Container> read_whole(const std::filesystem::path& path, std::uint64_t bytes_max,
                             Pipes pipes) {
  SELVAGE_TRY(const auto file,
              pipes == Pipes::kRefuse
                  ? open_regular(path)
                  : Result<Descriptor>(Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC))));
  SELVAGE_TRY(const auto size, stated_size(file, path));
  if (size > bytes_max) return too_large(path, bytes_max);
  // The size is a hint: pipes and files in /proc report none, and a file can grow while it is read.
  Container content(static_cast<std::size_t>(size) + 1, typename Container::value_type{});
  std::size_t used = 0;
  while (true) {
    const auto room = std::as_writable_bytes(std::span(content)).subspan(used);
    SELVAGE_TRY(const auto got, read_some(file, room, path));
    if (got == 0) break;
    used += got;
    if (used > bytes_max) return too_large(path, bytes_max);
    if (used == content.size())
      content.resize(static_cast<std::size_t>(std::min<std::uint64_t>(2 * used, bytes_max + 1)));
  }
  content.resize(used);
  return content;
}

/// The Result of `read`, or which file was too large for the memory that is left.
template <typename Function>
auto with_memory(const std::filesystem::path& path, Function read) {
  auto content = catch_to_result(ErrorCode::kInternal, read);
  if (!content && content.error().code == ErrorCode::kResourceExhausted)
    content =
        std::unexpected(std::move(content).error().with_context("read '" + path.string() + "'"));
  return content;
}

Result<void> write_all(int fd, std::span<const std::byte> content,
                       const std::filesystem::path& path) {
  while (!content.empty()) {
    const auto put = ::write(fd, content.data(), content.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error("write", path);
    content = content.subspan(static_cast<std::size_t>(put));
  }
  return {};
}

/// Where to write so that `path` has the new content: behind symbolic links, and never in place of
/// a device, a pipe or a folder.
Result<std::filesystem::path> replaceable(const std::filesystem::path& path) {
  std::error_code error;
  const bool is_link = std::filesystem::is_symlink(path, error);
  auto target = is_link ? std::filesystem::weakly_canonical(path, error) : path;
  if (error && is_link)
    return fail(ErrorCode::kIo, "follow '" + path.string() + "': " + error.message());
  if (struct stat status{}; ::stat(target.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
    return fail(ErrorCode::kInvalidArgument,
                "'" + path.string() + "' is a folder, a device or a pipe; name a file to write");
  return target;
}

}  // namespace

Result<std::string> read_text(const std::filesystem::path& path, std::uint64_t bytes_max,
                              Pipes pipes) {
  return with_memory(path, [&] { return read_whole<std::string>(path, bytes_max, pipes); });
}

Result<std::vector<std::byte>> read_bytes(const std::filesystem::path& path,
                                          std::uint64_t bytes_max, Pipes pipes) {
  return with_memory(path,
                     [&] { return read_whole<std::vector<std::byte>>(path, bytes_max, pipes); });
}

Result<void> read_pieces(const std::filesystem::path& path,
                         const std::function<void(std::span<const std::byte>)>& take) {
  constexpr std::size_t kPieceBytes = 1 << 20;
  SELVAGE_TRY(const auto file, open_regular(path));
  std::vector<std::byte> piece(kPieceBytes);
  while (true) {
    SELVAGE_TRY(const auto got, read_some(file, piece, path));
    if (got == 0) return {};
    take(std::span(piece).first(got));
  }
}

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& path) {
  SELVAGE_TRY(const auto target, replaceable(path));
  static std::atomic<std::uint64_t> serial{0};
  for (int attempt = 0; attempt < kNameAttempts; ++attempt) {
    auto temporary = target.string() + "." + std::to_string(::getpid()) + "-" +
                     std::to_string(serial.fetch_add(1)) + ".tmp";
    // 0666 less the umask, as every program makes new files.
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) return AtomicFile(path, std::move(temporary), fd);
    if (errno != EEXIST) return system_error("create", path);
  }
  return system_error("create", path);
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<void> AtomicFile::append(std::span<const std::byte> piece) {
  return write_all(fd_, piece, path_);
}

Result<void> AtomicFile::commit(const std::filesystem::path& path) {
  SELVAGE_TRY(const auto target, replaceable(path));
  if (struct stat old{};
      ::stat(target.c_str(), &old) == 0 && ::fchmod(fd_, old.st_mode & kPermissionBits) != 0)
    return system_error("write", path);
  if (::fsync(fd_) != 0) return system_error("sync", path);
  // close() may report what an earlier write left behind.
  if (::close(std::exchange(fd_, -1)) != 0) return system_error("write", path);
  if (::rename(temporary_.c_str(), target.c_str()) != 0) return system_error("write", path);
  temporary_.clear();
  const auto folder = target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
  const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid() || ::fsync(directory.value()) != 0) return system_error("sync", folder);
  return {};
}

Result<void> write_atomically(const std::filesystem::path& path,
                              std::span<const std::byte> content) {
  SELVAGE_TRY(AtomicFile file, AtomicFile::create(path));
  SELVAGE_RETURN_IF_ERROR(file.append(content));
  return file.commit(path);
}

Result<void> write_atomically(const std::filesystem::path& path, std::string_view content) {
  return write_atomically(path, std::as_bytes(std::span(content)));
}

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  SELVAGE_TRY(const auto file, open_regular(path));
  SELVAGE_TRY(const auto stated, stated_size(file, path));
  const auto size = static_cast<std::size_t>(stated);
  if (size == 0) return MappedFile(std::span<const std::byte>());
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.value(), 0);
  if (address == MAP_FAILED) return system_error("map", path);
  return MappedFile(std::span(static_cast<const std::byte*>(address), size));
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  // munmap takes a non-const pointer but does not write through it.
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace selvage
