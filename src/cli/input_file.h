// Files that models look at: pictures, WAV, CSV, NPY/NPZ and video, as a sequence of samples.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "infer/model.h"

namespace selvage::cli {

enum class InputKind : std::uint8_t { kPicture, kSound, kTable, kArrays, kVideo };
[[nodiscard]] std::string_view to_string(InputKind kind);

/// One thing to predict on. The views in it are valid until the reader's next call.
struct Sample {
  infer::Input input;
  std::string place;  ///< Within the file: "row 3", "0.400 s"; "" where the file is one sample.
  std::string shown;  ///< "512 x 512 pixels", "7.1 s at 16 kHz", ...
  std::optional<double> time_s;            ///< Of a video's frame.
  std::chrono::nanoseconds decode_time{};  ///< Reading included.
};

/// Confined to one thread.
class InputFile {
 public:
  virtual ~InputFile() = default;
  /// Opens `path` as what `model` takes. Pictures, WAV and arrays are known by their content, CSV
  /// by its name (.csv, .txt) or by a model that takes a table, video by what is left.
  /// kInvalidArgument when the model takes something else; the message says what. Otherwise as
  /// InputSource::open; files above kInputBytesMax are kOutOfRange (video has no such limit).
  [[nodiscard]] static Result<std::unique_ptr<InputFile>> open(const std::filesystem::path& path,
                                                               const infer::Model& model);
  [[nodiscard]] virtual InputKind kind() const = 0;
  /// Nothing at the end.
  [[nodiscard]] virtual Result<std::optional<Sample>> next() = 0;
};

}  // namespace selvage::cli
