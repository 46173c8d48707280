// What a command made of a model: size, parameters, work, latency and quality, before and after.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>

#include "base/histogram.h"
#include "base/json_writer.h"
#include "base/result.h"
#include "cli/output.h"
#include "compress/evaluate.h"
#include "infer/dataset.h"
#include "infer/model.h"

namespace selvage::cli {

struct ModelFigures {
  std::uint64_t file_bytes = 0;  ///< External data included.
  std::uint64_t parameters = 0;
  std::uint64_t parameter_bytes = 0;
  std::optional<std::uint64_t> macs;  ///< Of a run on the smallest input; if all are known.
  HistogramSnapshot latency;
  std::optional<compress::Evaluation> evaluation;
};

struct ModelChange {
  ModelFigures before, after;
  std::string input;                             ///< What latency was measured on.
  std::optional<compress::Agreement> agreement;  ///< Of the two; needs data.
};

struct ChangeOptions {
  const infer::Dataset* data = nullptr;  ///< Null: random inputs, and no quality.
  std::size_t samples_max = 2000;        ///< For quality, spread evenly.
  double seconds = 2;                    ///< For the latency of each.
};

/// Measures two model files side by side, their runs taking turns so that neither gets the quieter
/// machine. `options` are those of loading; `after` is read with the card of `before`.
[[nodiscard]] Result<ModelChange> measure_change(infer::Runtime& runtime,
                                                 const std::filesystem::path& before,
                                                 const std::filesystem::path& after,
                                                 const infer::ModelOptions& model_options,
                                                 const ChangeOptions& options, Output& output);

[[nodiscard]] std::string to_text(const ModelChange& change, const Style& style);
/// The fields "before", "after" and, with data, "agreement", into an open object.
void write_json(const ModelChange& change, JsonWriter& json);

/// The file of a model named by itself or by its folder. kNotFound.
[[nodiscard]] Result<std::filesystem::path> model_path(const std::filesystem::path& path);
/// Before work that takes minutes: kInvalidArgument if writing to `out` would replace the model
/// `in` or what is read besides (empty paths count for nothing); kNotFound if there is no folder to
/// write it into; otherwise as AtomicFile::create().
[[nodiscard]] Result<void> check_output_path(
    const std::filesystem::path& in, const std::filesystem::path& out,
    std::initializer_list<std::filesystem::path> read_besides = {});

}  // namespace selvage::cli
