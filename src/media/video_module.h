// The border between the program and libselvage_video.so: plain C types, one function to look up.
// Private to this folder. A change of anything here changes kVideoModuleVersion.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

/// A reader of the module's.
struct SelvageVideo;

enum SelvageVideoStatus : std::int32_t {
  kSelvageVideoOk = 0,
  kSelvageVideoEnd = 1,
  kSelvageVideoNotFound = 2,
  kSelvageVideoInvalid = 3,
  kSelvageVideoUnsupported = 4,
  kSelvageVideoTooLarge = 5,
  kSelvageVideoOutOfMemory = 6,
};

struct SelvageVideoInfo {
  std::int32_t width;
  std::int32_t height;
  double frames_per_second;  // 0: unknown.
  std::int64_t duration_ns;  // -1: unknown.
  char codec[32];
};

struct SelvageVideoFrame {
  std::int32_t is_nv12;     // Else I420.
  std::int32_t yuv_matrix;  // A media::YuvMatrix.
  std::int32_t width;
  std::int32_t height;
  const std::uint8_t* planes[3];
  std::int64_t strides[3];
  std::int64_t time_ns;
};

struct SelvageVideoModule {
  std::int32_t version;
  /// `message` receives what went wrong, ended by a zero.
  SelvageVideoStatus (*open)(const char* path, std::uint64_t pixels_max, SelvageVideo** video,
                             SelvageVideoInfo* info, char* message, std::size_t message_bytes);
  /// The frame is valid until the next call for this video.
  SelvageVideoStatus (*next)(SelvageVideo* video, SelvageVideoFrame* frame, char* message,
                             std::size_t message_bytes);
  void (*close)(SelvageVideo* video);
};

/// What the module exports.
__attribute__((visibility("default"))) const SelvageVideoModule* selvage_video_module();
}

namespace selvage::media {

inline constexpr std::int32_t kVideoModuleVersion = 1;
inline constexpr const char* kVideoModuleFile = "libselvage_video.so";

}  // namespace selvage::media
