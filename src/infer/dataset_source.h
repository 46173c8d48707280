// Where a data set's samples come from: one reader for each kind of file. Internal to dataset.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "infer/dataset.h"
#include "media/array.h"

namespace selvage::infer {

/// One of the inputs that samples fill.
struct GivenInput {
  std::size_t index = 0;  ///< Among the session's.
  ValueInfo info;
};

/// What the model wants to know of a data set, and how the caller wants it read.
struct SourceRequest {
  std::span<const GivenInput> inputs;
  const ModelCard& card;
  const DatasetOptions& options;
};

/// The answers to all samples.
struct Targets {
  TargetKind kind = TargetKind::kNone;
  std::vector<std::string> classes;
  std::vector<std::int64_t> labels;  ///< With kClass.
  std::vector<float> values;         ///< With kValues: `width` a sample.
  std::size_t width = 0;
};

/// A file as it was when it was opened.
struct FileStamp {
  std::filesystem::path path;
  std::uint64_t bytes = 0;
  std::int64_t changed_ns = 0;

  /// kNotFound, kInvalidArgument for what is no file.
  [[nodiscard]] static Result<FileStamp> take(const std::filesystem::path& path);
  /// kFailedPrecondition names the file if it is no longer the same.
  [[nodiscard]] Result<void> check() const;
};

/// Immutable, safe from any thread.
class SampleSource {
 public:
  virtual ~SampleSource() = default;
  [[nodiscard]] virtual std::size_t size() const = 0;
  [[nodiscard]] virtual std::string place(std::size_t index) const = 0;
  /// The views in `to` point into `to` or into the source.
  [[nodiscard]] virtual Result<void> read(std::size_t index, DecodedSample& to) const = 0;
  /// Each read decodes a file, so that keeping the result pays.
  [[nodiscard]] virtual bool decodes() const { return false; }
  /// All samples have the same size.
  [[nodiscard]] virtual bool is_uniform() const { return true; }

  Targets targets;
  bool takes_label = false;  ///< DatasetOptions::label names one of its columns or arrays.
  std::vector<FileStamp> files;
};

/// Errors name the file.
[[nodiscard]] Result<std::unique_ptr<SampleSource>> open_source(const std::filesystem::path& path,
                                                                const SourceRequest& request);

// The kinds, each in a file of its own.
[[nodiscard]] Result<std::unique_ptr<SampleSource>> open_files(const std::filesystem::path& folder,
                                                               const SourceRequest& request);
[[nodiscard]] Result<std::unique_ptr<SampleSource>> open_test_data(
    const std::filesystem::path& folder, const SourceRequest& request);
[[nodiscard]] Result<std::unique_ptr<SampleSource>> open_idx(const std::filesystem::path& images,
                                                             const SourceRequest& request);
[[nodiscard]] Result<std::unique_ptr<SampleSource>> open_npz(const std::filesystem::path& file,
                                                             const SourceRequest& request);
[[nodiscard]] Result<std::unique_ptr<SampleSource>> open_npy(const std::filesystem::path& file,
                                                             const SourceRequest& request);
[[nodiscard]] Result<std::unique_ptr<SampleSource>> open_csv(const std::filesystem::path& file,
                                                             const SourceRequest& request);

/// The class labels of a card, empty if it has none.
[[nodiscard]] const std::vector<std::string>& card_labels(const ModelCard& card);
/// Numbers names: by the card's labels if it has some, else by value if all are whole numbers, else
/// sorted. `names` has an entry for each sample or class; kInvalidArgument names one that the card
/// lacks.
[[nodiscard]] Result<Targets> number_classes(std::span<const std::string_view> names,
                                             const ModelCard& card);
/// Whole numbers become classes, unless the card asks for a regression; others values.
/// kInvalidArgument names the row (counted from 0) of a negative class or one above the limit.
[[nodiscard]] Result<Targets> targets_of_numbers(std::span<const double> numbers, std::size_t width,
                                                 bool whole, const ModelCard& card);

/// ArrayElement's type among tensors'.
[[nodiscard]] DataType tensor_type(media::ArrayElement element);

/// From decoded samples to input tensors. Confined to one thread; card and inputs must outlive it.
class SampleEncoder {
 public:
  /// `first` is any sample; `uniform`: all others have its size.
  [[nodiscard]] static Result<std::unique_ptr<SampleEncoder>> create(
      std::span<const GivenInput> inputs, const ModelCard& card, const Input& first, bool uniform);
  ~SampleEncoder();

  [[nodiscard]] std::span<const DatasetInput> inputs() const;
  /// Of a batch of one.
  [[nodiscard]] Result<std::vector<Shape>> shapes(const Input& sample) const;
  /// Each of `tensors` has exactly the bytes of shapes().
  [[nodiscard]] Result<void> encode(const Input& sample,
                                    std::span<const std::span<std::byte>> tensors);

 private:
  struct State;
  explicit SampleEncoder(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// `shape` as `declared` has it: dimensions of 1 may come or go in front, and a tensor of one
/// dimension takes all elements in a row. Empty where they do not fit. -1 in `declared` is open.
[[nodiscard]] std::optional<Shape> fit_shape(std::span<const std::int64_t> declared,
                                             std::span<const std::int64_t> shape);

}  // namespace selvage::infer
