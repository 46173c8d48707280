// Frames of video files and cameras. FFmpeg does the work in libselvage_video.so, a module that is
// loaded on first use: a program that shows no video neither links nor loads FFmpeg.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "media/picture.h"

namespace selvage::media {

struct VideoInfo {
  int width = 0;
  int height = 0;
  double frames_per_second = 0;                      ///< 0 when the file does not say.
  std::optional<std::chrono::nanoseconds> duration;  ///< Empty for cameras and streams.
  std::string codec;                                 ///< FFmpeg's name: "h264", "mpeg4", ...
};

struct VideoFrame {
  PictureView picture;            ///< kI420 or kNv12. Valid until the reader's next call.
  std::chrono::nanoseconds time;  ///< Since the beginning of the video.
};

/// Confined to one thread.
class VideoReader {
 public:
  /// Opens a file, or a camera by its device path (/dev/video0). Nothing but local files is opened,
  /// whatever a file refers to. kNotFound: no such file; kInvalidArgument: not a video;
  /// kUnimplemented: the module, the codec or the camera library is not installed (the message says
  /// what to install); kOutOfRange: frames above `pixels_max`.
  [[nodiscard]] static Result<VideoReader> open(const std::string& path,
                                                std::uint64_t pixels_max = 64u << 20);
  VideoReader(VideoReader&& other) noexcept;
  VideoReader& operator=(VideoReader&& other) noexcept;
  ~VideoReader();

  [[nodiscard]] const VideoInfo& info() const;
  /// The next frame; nothing at the end. Damaged frames are skipped, as players do.
  [[nodiscard]] Result<std::optional<VideoFrame>> next();

 private:
  struct State;
  explicit VideoReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace selvage::media
