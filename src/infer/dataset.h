// Labelled samples as a model's input tensors: what calibration, evaluation and training read.
//
//   SELVAGE_TRY(auto data, Dataset::open("fashion-mnist/", *model, {.part = Part::kTest}));
//   SELVAGE_TRY(auto tensors, data->sample(0));                     // A batch of one,
//   SELVAGE_RETURN_IF_ERROR(data->read(indices, {&bytes, 1}));      // or many into your memory.
//
// What a path may be:
//   folder of folders of files   one class a folder, in the order of the card's labels, else of the
//                                numbers that the folders are named by, else of their names
//   folder of files              without labels
//   folder of test_data_set_*    ONNX's test data: input_0.pb, ... are one sample
//   IDX images (.gz too)         MNIST's format; the labels lie beside: train-images-idx3-ubyte and
//                                train-labels-idx1-ubyte; or the folder of both
//   .npz                         arrays x and y, or those named by inputs and DatasetOptions::label
//   .npy                         x alone; or a folder with x.npy and y.npy
//   .csv                         a row a sample, one column the label
// The files of a folder are pictures (JPEG, PNG, PGM, PPM), sounds (WAV), arrays (NPY, or NPZ with
// an array an input), ONNX tensors (.pb) or raw tensors (.bin, .raw: the input's elements).
//
// How a sample becomes tensors is what the model card says. Without a card: pictures and 8-bit
// arrays are scaled to [0, 1], other numbers are converted to the input's type as they are, sounds
// are cut or filled with zeros to the input's length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"
#include "crypto/digest.h"
#include "infer/model.h"
#include "infer/model_card.h"
#include "infer/session.h"
#include "media/picture.h"
#include "media/sound.h"

namespace selvage::infer {

// Beyond these: kOutOfRange.
inline constexpr std::uint64_t kDatasetFileBytesMax = std::uint64_t{4} << 30;  ///< Unpacked.
inline constexpr std::size_t kDatasetFilesMax = 4'000'000;
inline constexpr std::int64_t kDatasetClassesMax = 100'000;

/// Which half of a data set that comes in two (train-images..., t10k-images...; train/, test/).
enum class Part : std::uint8_t { kTrain, kTest };

struct DatasetOptions {
  Part part = Part::kTrain;
  /// The label's column of a CSV file or array of an NPZ. Empty: "label", "class", "target" or "y",
  /// else none.
  std::string label = {};
  /// Encoded samples of pictures and sounds are kept in memory when all of them fit into this.
  std::uint64_t cache_bytes_max = std::uint64_t{512} << 20;
};

/// What a sample's answer is.
enum class TargetKind : std::uint8_t {
  kNone,
  kClass,   ///< A class's number: from folders, integers, or text (numbered in sorted order).
  kValues,  ///< Numbers: from labels that are fractions, or rows of them.
};

/// A sample before it is encoded, as a Predictor takes it. Movable.
struct DecodedSample {
  /// Points into the members below or into the data set, which must outlive it.
  Input input;

  media::Picture picture;
  media::Sound sound;
  std::vector<double> row;
  std::vector<Tensor> tensors;
  std::vector<TensorView> views;
};

/// One of the model's inputs, as the data set fills it.
struct DatasetInput {
  std::size_t index = 0;  ///< Among the session's inputs.
  std::string name;
  DataType type = DataType::kUndefined;
  Shape shape;          ///< Of one sample, without the batch's dimension; -1 where samples differ.
  bool batched = true;  ///< The tensor's first dimension is the batch; else one sample a run.
  std::size_t bytes = 0;  ///< Of one sample; 0 where samples differ in shape.
};

/// Immutable for the caller and safe from any thread.
class Dataset {
 public:
  /// Finds and lists the samples; decodes what is one file (IDX, NPY, CSV) and, of folders, the
  /// first sample. Errors name the file and row. kNotFound; kInvalidArgument for files that
  /// are damaged, do not fit the model's inputs, or disagree in number with their labels, and for
  /// a path without samples; kOutOfRange above a limit.
  [[nodiscard]] static Result<std::unique_ptr<Dataset>> open(const std::filesystem::path& path,
                                                             std::span<const ValueInfo> inputs,
                                                             const ModelCard& card,
                                                             const DatasetOptions& options = {});
  [[nodiscard]] static Result<std::unique_ptr<Dataset>> open(const std::filesystem::path& path,
                                                             const Model& model,
                                                             const DatasetOptions& options = {});
  ~Dataset();
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  [[nodiscard]] std::size_t size() const;
  /// The inputs that the samples fill: all but those that the card lists as state or constants.
  [[nodiscard]] std::span<const DatasetInput> inputs() const;
  /// Samples share one shape and the inputs take batches: read() may take several at once.
  [[nodiscard]] bool takes_batches() const;
  /// "photos/cat/3.jpg", "data.csv, row 17", "train-images-idx3-ubyte.gz, image 5".
  [[nodiscard]] std::string place(std::size_t index) const;

  [[nodiscard]] TargetKind target_kind() const;
  /// Names of the classes; numbers as text where they have none. Empty without classes.
  [[nodiscard]] const std::vector<std::string>& classes() const;
  [[nodiscard]] std::int64_t label(std::size_t index) const;  ///< With kClass.
  /// With kValues; equally many for each sample.
  [[nodiscard]] std::span<const float> values(std::size_t index) const;

  /// The sample's tensors, a batch of one, in the order of inputs().
  [[nodiscard]] Result<std::vector<Tensor>> sample(std::size_t index) const;
  /// Several samples into the caller's memory: sample k of the batch lies at k * inputs()[i].bytes
  /// of `tensors[i]`. Needs takes_batches(). kFailedPrecondition for a file that has changed since
  /// open(); an error names its sample, and what the tensors then hold is undefined.
  [[nodiscard]] Result<void> read(std::span<const std::size_t> indices,
                                  std::span<const std::span<std::byte>> tensors) const;
  [[nodiscard]] Result<DecodedSample> decode(std::size_t index) const;

  /// Whether the file is one of the samples' or labels'. False for what does not exist.
  [[nodiscard]] bool reads(const std::filesystem::path& file) const;
  /// kFailedPrecondition names the first file whose size or time of change is not what it was at
  /// open(). Asks the operating system about every file.
  [[nodiscard]] Result<void> check_unchanged() const;
  /// Of the files' names below the path, their sizes and times of change, and the labels.
  [[nodiscard]] const crypto::Digest& fingerprint() const;

 private:
  struct State;
  explicit Dataset(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Which samples train and which validate.
struct Split {
  std::vector<std::size_t> train, validation;
};
/// A part `fraction` (0 to 1) of the samples, at random from `seed`; of each class alike, where
/// there are classes. Both lists ascend. The same on every machine.
[[nodiscard]] Split split(const Dataset& data, double fraction, std::uint64_t seed);

}  // namespace selvage::infer
