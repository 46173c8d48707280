#include "media/video.h"

#include <array>

#include <dlfcn.h>
#include <unistd.h>

#include "media/video_module.h"

namespace selvage::media {
namespace {

Result<const SelvageVideoModule*> load_module(const std::filesystem::path& file) {
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  const auto unusable = [&](const std::string& why) {
    return fail(ErrorCode::kUnimplemented,
                "the video module '" + file.string() + "' cannot be used: " + why);
  };
  if (library == nullptr) {
    const char* why = ::dlerror();  // NOLINT(concurrency-mt-unsafe): glibc's is each thread's own
    return unusable(why != nullptr ? why : "unknown reason");
  }
  using Entry = const SelvageVideoModule* (*)();
  const auto entry = reinterpret_cast<Entry>(::dlsym(library, "selvage_video_module"));
  if (entry == nullptr) return unusable("it is not a video module");
  const auto* module = entry();
  if (module->version != kVideoModuleVersion)
    return unusable("it is of version " + std::to_string(module->version) + ", not " +
                    std::to_string(kVideoModuleVersion) + "; install the same release of both");
  // Never unloaded: FFmpeg keeps state of its own for as long as the process lives.
  return module;
}

/// Where the module may lie: beside the program (a build's bin/), in lib/selvage next to its bin/
/// (an installation), or where the build put it (tests).
Result<const SelvageVideoModule*> find_module() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  const std::array<std::filesystem::path, 3> folders{
      program, program.parent_path() / SELVAGE_LIBDIR / "selvage", SELVAGE_VIDEO_BUILD_DIR};
  std::string searched;
  for (const auto& folder : folders) {
    const auto file = folder / kVideoModuleFile;
    if (std::filesystem::exists(file, error)) return load_module(file);
    searched += (searched.empty() ? "" : ", ") + folder.string();
  }
  return fail(ErrorCode::kUnimplemented,
              std::string("video needs the module ") + kVideoModuleFile +
                  ", which is not there: install FFmpeg's libraries (Debian: libavformat-dev "
                  "libavcodec-dev libswscale-dev) and build again. Looked in " +
                  searched);
}

Result<const SelvageVideoModule*> module_once() {
  static const auto module = find_module();
  return module;
}

ErrorCode code_of(SelvageVideoStatus status) {
  switch (status) {
    case kSelvageVideoNotFound: return ErrorCode::kNotFound;
    case kSelvageVideoUnsupported: return ErrorCode::kUnimplemented;
    case kSelvageVideoTooLarge: return ErrorCode::kOutOfRange;
    case kSelvageVideoOutOfMemory: return ErrorCode::kResourceExhausted;
    default: return ErrorCode::kInvalidArgument;
  }
}

constexpr std::size_t kMessageBytes = 512;

}  // namespace

struct VideoReader::State {
  const SelvageVideoModule* module = nullptr;
  SelvageVideo* video = nullptr;
  VideoInfo info;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (video != nullptr) module->close(video);
  }
};

VideoReader::VideoReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
VideoReader::VideoReader(VideoReader&& other) noexcept = default;
VideoReader& VideoReader::operator=(VideoReader&& other) noexcept = default;
VideoReader::~VideoReader() = default;

const VideoInfo& VideoReader::info() const {
  return state_->info;
}

Result<VideoReader> VideoReader::open(const std::string& path, std::uint64_t pixels_max) {
  auto state = std::make_unique<State>();
  SELVAGE_TRY(state->module, module_once());
  SelvageVideoInfo info{};
  char message[kMessageBytes] = "";
  const auto status =
      state->module->open(path.c_str(), pixels_max, &state->video, &info, message, sizeof message);
  if (status != kSelvageVideoOk) return fail(code_of(status), "video '" + path + "': " + message);
  state->info = {.width = info.width,
                 .height = info.height,
                 .frames_per_second = info.frames_per_second,
                 .duration = std::nullopt,
                 .codec = info.codec};
  if (info.duration_ns >= 0) state->info.duration = std::chrono::nanoseconds(info.duration_ns);
  return VideoReader(std::move(state));
}

Result<std::optional<VideoFrame>> VideoReader::next() {
  SelvageVideoFrame frame{};
  char message[kMessageBytes] = "";
  const auto status = state_->module->next(state_->video, &frame, message, sizeof message);
  if (status == kSelvageVideoEnd) return std::nullopt;
  if (status != kSelvageVideoOk) return fail(code_of(status), std::string("video: ") + message);
  VideoFrame result{.picture = {.format = frame.is_nv12 ? PixelFormat::kNv12 : PixelFormat::kI420,
                                .width = frame.width,
                                .height = frame.height,
                                .planes = {},
                                .yuv_matrix = static_cast<YuvMatrix>(frame.yuv_matrix)},
                    .time = std::chrono::nanoseconds(frame.time_ns)};
  for (std::size_t i = 0; i < 3; ++i)
    result.picture.planes[i] = {frame.planes[i], static_cast<std::ptrdiff_t>(frame.strides[i])};
  return result;
}

}  // namespace selvage::media
