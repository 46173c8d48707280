// libselvage_video.so: FFmpeg behind video_module.h. Nothing of it is linked into the program.
extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <system_error>

#include <dlfcn.h>
#include <sys/stat.h>

#include "media/picture.h"
#include "media/video_module.h"

// The reader's state, and what its errors are written to.
struct SelvageVideo {
  AVFormatContext* format = nullptr;
  AVCodecContext* codec = nullptr;
  SwsContext* scaler = nullptr;
  AVPacket* packet = nullptr;
  AVFrame* frame = nullptr;
  AVFrame* converted = nullptr;
  int stream = -1;
  std::int64_t start = 0;  // The first frame's time, in the stream's units.
  bool at_end = false;     // The decoder has been told that no more packets come.
  std::uint64_t pixels_max = 0;

  SelvageVideo() = default;
  SelvageVideo(const SelvageVideo&) = delete;
  SelvageVideo& operator=(const SelvageVideo&) = delete;
  ~SelvageVideo() {
    sws_freeContext(scaler);
    av_frame_free(&converted);
    av_frame_free(&frame);
    av_packet_free(&packet);
    avcodec_free_context(&codec);
    avformat_close_input(&format);
  }
};

namespace {

using selvage::media::YuvMatrix;

struct Message {
  char* text;
  std::size_t bytes;

  SelvageVideoStatus operator()(SelvageVideoStatus status, const std::string& what) const {
    std::snprintf(text, bytes, "%s", what.c_str());
    return status;
  }
};

std::string ffmpeg_text(int error) {
  char text[AV_ERROR_MAX_STRING_SIZE] = "";
  av_strerror(error, text, sizeof text);
  return text;
}

/// Cameras need libavdevice, which pulls in half a desktop: used where it is installed.
const AVInputFormat* camera_format() {
#define SELVAGE_TEXT_INNER(x) #x
#define SELVAGE_TEXT(x) SELVAGE_TEXT_INNER(x)
  // All FFmpeg libraries of one release have the same major version, libavutil excepted.
  void* library = dlopen("libavdevice.so." SELVAGE_TEXT(LIBAVFORMAT_VERSION_MAJOR), RTLD_NOW);
  if (library == nullptr) return nullptr;
  const auto register_all = reinterpret_cast<void (*)()>(dlsym(library, "avdevice_register_all"));
  if (register_all == nullptr) return nullptr;
  register_all();
  return av_find_input_format("video4linux2");
}

SelvageVideoStatus open_input(SelvageVideo& video, const std::string& path,
                              const Message& message) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0)
    return message(kSelvageVideoNotFound, std::generic_category().message(errno));
  const bool is_camera = S_ISCHR(status.st_mode);
  const AVInputFormat* format = is_camera ? camera_format() : nullptr;
  if (is_camera && format == nullptr)
    return message(kSelvageVideoUnsupported,
                   "cameras need FFmpeg's libavdevice (Debian 12: apt install libavdevice59)");
  AVDictionary* options = nullptr;
  // Playlists name other files and addresses: nothing but local files is opened.
  av_dict_set(&options, "protocol_whitelist", "file", 0);
  const std::string url = is_camera ? path : "file:" + path;
  const int error = avformat_open_input(&video.format, url.c_str(), format, &options);
  av_dict_free(&options);
  if (error < 0) return message(kSelvageVideoInvalid, ffmpeg_text(error));
  return kSelvageVideoOk;
}

SelvageVideoStatus check_size(const SelvageVideo& video, int width, int height,
                              const Message& message) {
  if (width <= 0 || height <= 0)  // Probing refuses frames above the limit without a word.
    return message(kSelvageVideoInvalid, "the frames have no size, or one above the limit of " +
                                             std::to_string(video.pixels_max) + " pixels");
  const auto pixels = static_cast<std::uint64_t>(width) * static_cast<std::uint64_t>(height);
  if (pixels <= video.pixels_max) return kSelvageVideoOk;
  return message(kSelvageVideoTooLarge, "frames of " + std::to_string(width) + " x " +
                                            std::to_string(height) + " are above the limit of " +
                                            std::to_string(video.pixels_max) + " pixels");
}

SelvageVideoStatus open_codec(SelvageVideo& video, const Message& message) {
  for (unsigned i = 0; i < video.format->nb_streams; ++i)
    if (const auto& stated = *video.format->streams[i]->codecpar; stated.width > 0) {
      const auto status = check_size(video, stated.width, stated.height, message);
      if (status != kSelvageVideoOk) return status;
    }
  // Probing decodes frames too.
  std::vector<AVDictionary*> options(video.format->nb_streams);
  for (auto& option : options)
    av_dict_set_int(&option, "max_pixels", static_cast<std::int64_t>(video.pixels_max), 0);
  int error = avformat_find_stream_info(video.format, options.empty() ? nullptr : options.data());
  for (auto& option : options) av_dict_free(&option);
  if (error < 0) return message(kSelvageVideoInvalid, ffmpeg_text(error));
  const AVCodec* decoder = nullptr;
  video.stream = av_find_best_stream(video.format, AVMEDIA_TYPE_VIDEO, -1, -1, &decoder, 0);
  if (video.stream == AVERROR_DECODER_NOT_FOUND)
    return message(kSelvageVideoUnsupported, "FFmpeg has no decoder for it");
  if (video.stream < 0) return message(kSelvageVideoInvalid, "there is no video in it");
  const AVStream& stream = *video.format->streams[video.stream];
  const auto status = check_size(video, stream.codecpar->width, stream.codecpar->height, message);
  if (status != kSelvageVideoOk) return status;
  video.codec = avcodec_alloc_context3(decoder);
  video.packet = av_packet_alloc();
  video.frame = av_frame_alloc();
  video.converted = av_frame_alloc();
  if (!video.codec || !video.packet || !video.frame || !video.converted)
    return message(kSelvageVideoOutOfMemory, "out of memory");
  error = avcodec_parameters_to_context(video.codec, stream.codecpar);
  // FFmpeg itself refuses pictures above this, before it allocates them.
  video.codec->max_pixels = static_cast<std::int64_t>(video.pixels_max);
  if (error >= 0) error = avcodec_open2(video.codec, decoder, nullptr);
  if (error < 0) return message(kSelvageVideoInvalid, ffmpeg_text(error));
  for (unsigned i = 0; i < video.format->nb_streams; ++i)
    if (static_cast<int>(i) != video.stream) video.format->streams[i]->discard = AVDISCARD_ALL;
  if (stream.start_time != AV_NOPTS_VALUE) video.start = stream.start_time;
  return kSelvageVideoOk;
}

void describe(const SelvageVideo& video, SelvageVideoInfo& info) {
  const AVStream& stream = *video.format->streams[video.stream];
  info.width = video.codec->width;
  info.height = video.codec->height;
  const AVRational rate =
      av_guess_frame_rate(video.format, video.format->streams[video.stream], nullptr);
  info.frames_per_second = rate.num > 0 && rate.den > 0 ? av_q2d(rate) : 0;
  info.duration_ns = -1;
  if (stream.duration > 0)
    info.duration_ns =
        av_rescale_q(stream.duration, stream.time_base, AVRational{1, 1'000'000'000});
  else if (video.format->duration > 0)
    info.duration_ns = av_rescale(video.format->duration, 1'000'000'000, AV_TIME_BASE);
  std::snprintf(info.codec, sizeof info.codec, "%s", avcodec_get_name(video.codec->codec_id));
}

/// Reads until the decoder gives a frame. Damaged packets and frames are passed over.
SelvageVideoStatus decode_frame(SelvageVideo& video, const Message& message) {
  // Frames that a decoder still holds at the end; before, every turn takes a packet.
  constexpr int kErrorsAtEndMax = 1'000;
  int errors_at_end = 0;
  while (true) {
    const int error = avcodec_receive_frame(video.codec, video.frame);
    if (error == 0) return kSelvageVideoOk;
    if (error == AVERROR_EOF) return kSelvageVideoEnd;
    if (error == AVERROR(ENOMEM)) return message(kSelvageVideoOutOfMemory, "out of memory");
    if (video.at_end && (error == AVERROR(EAGAIN) || ++errors_at_end > kErrorsAtEndMax))
      return kSelvageVideoEnd;
    if (video.at_end) continue;
    const int read = av_read_frame(video.format, video.packet);
    if (read < 0) {
      video.at_end = true;
      static_cast<void>(avcodec_send_packet(video.codec, nullptr));
      continue;
    }
    if (video.packet->stream_index == video.stream)
      static_cast<void>(avcodec_send_packet(video.codec, video.packet));
    av_packet_unref(video.packet);
  }
}

YuvMatrix matrix_of(const AVFrame& frame) {
  if (frame.color_range == AVCOL_RANGE_JPEG || frame.format == AV_PIX_FMT_YUVJ420P)
    return YuvMatrix::kBt601Full;
  return frame.colorspace == AVCOL_SPC_BT709 ? YuvMatrix::kBt709 : YuvMatrix::kBt601;
}

/// Any pixel format that is not one of ours becomes I420.
SelvageVideoStatus convert(SelvageVideo& video, const Message& message) {
  AVFrame& to = *video.converted;
  const AVFrame& from = *video.frame;
  if (to.width != from.width || to.height != from.height) {
    av_frame_unref(&to);
    to.width = from.width;
    to.height = from.height;
    to.format = AV_PIX_FMT_YUV420P;
    if (av_frame_get_buffer(&to, 0) < 0) return message(kSelvageVideoOutOfMemory, "out of memory");
  }
  video.scaler = sws_getCachedContext(video.scaler, from.width, from.height,
                                      static_cast<AVPixelFormat>(from.format), to.width, to.height,
                                      AV_PIX_FMT_YUV420P, SWS_POINT, nullptr, nullptr, nullptr);
  if (video.scaler == nullptr) {
    const char* name = av_get_pix_fmt_name(static_cast<AVPixelFormat>(from.format));
    return message(kSelvageVideoUnsupported,
                   std::string("pixel format ") + (name != nullptr ? name : "unknown"));
  }
  sws_scale(video.scaler, from.data, from.linesize, 0, from.height, to.data, to.linesize);
  return kSelvageVideoOk;
}

std::int64_t time_of(const SelvageVideo& video) {
  const std::int64_t time = video.frame->best_effort_timestamp;
  if (time == AV_NOPTS_VALUE) return 0;
  return av_rescale_q(time - video.start, video.format->streams[video.stream]->time_base,
                      AVRational{1, 1'000'000'000});
}

SelvageVideoStatus open_video(const char* path, std::uint64_t pixels_max, SelvageVideo** result,
                              SelvageVideoInfo* info, char* text, std::size_t text_bytes) {
  const Message message{text, text_bytes};
  av_log_set_level(AV_LOG_QUIET);  // What matters is returned.
  auto* video = new (std::nothrow) SelvageVideo;
  if (video == nullptr) return message(kSelvageVideoOutOfMemory, "out of memory");
  video->pixels_max = pixels_max;
  auto status = open_input(*video, path, message);
  if (status == kSelvageVideoOk) status = open_codec(*video, message);
  if (status != kSelvageVideoOk) {
    delete video;
    return status;
  }
  describe(*video, *info);
  *result = video;
  return status;
}

SelvageVideoStatus next_frame(SelvageVideo* video, SelvageVideoFrame* out, char* text,
                              std::size_t text_bytes) {
  const Message message{text, text_bytes};
  auto status = decode_frame(*video, message);
  if (status != kSelvageVideoOk) return status;
  const AVFrame* frame = video->frame;
  status = check_size(*video, frame->width, frame->height, message);
  if (status != kSelvageVideoOk) return status;
  const bool nv12 = frame->format == AV_PIX_FMT_NV12;
  const bool i420 = frame->format == AV_PIX_FMT_YUV420P || frame->format == AV_PIX_FMT_YUVJ420P;
  out->yuv_matrix = static_cast<std::int32_t>(matrix_of(*frame));
  if (!nv12 && !i420) {
    status = convert(*video, message);
    if (status != kSelvageVideoOk) return status;
    frame = video->converted;
    // swscale makes limited-range BT.601 unless told otherwise.
    out->yuv_matrix = static_cast<std::int32_t>(YuvMatrix::kBt601);
  }
  out->is_nv12 = nv12;
  out->width = frame->width;
  out->height = frame->height;
  for (int i = 0; i < 3; ++i) {
    out->planes[i] = frame->data[i];
    out->strides[i] = frame->linesize[i];
  }
  out->time_ns = time_of(*video);
  return kSelvageVideoOk;
}

void close_video(SelvageVideo* video) {
  delete video;
}

}  // namespace

const SelvageVideoModule* selvage_video_module() {
  static constexpr SelvageVideoModule kModule{selvage::media::kVideoModuleVersion, open_video,
                                              next_frame, close_video};
  return &kModule;
}
