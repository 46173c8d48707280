// What teachers say about every sample of a data set, worked out once and kept on disk: a student
// learns from it (Hinton 2015, arXiv 1503.02531).
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "crypto/digest.h"
#include "graph/model.h"
#include "infer/dataset.h"
#include "infer/runtime.h"

namespace selvage::learn {

/// The logits of a teacher for every sample, or another of its values, row by row.
struct TeacherOutputs {
  std::size_t width = 0;
  std::vector<float> values;

  [[nodiscard]] std::span<const float> row(std::size_t sample) const {
    return std::span(values).subspan(sample * width, width);
  }
};

/// Turns outputs that are probabilities (each row of them adds up to 1) into logits; others stay.
void to_logits(TeacherOutputs& outputs);
/// The mean of several teachers' logits. kInvalidArgument unless all have the same size.
[[nodiscard]] Result<TeacherOutputs> mean_of(std::span<const TeacherOutputs> teachers);

/// What a value inside `teacher` is for every sample. `data` were opened for the teacher. `stop` is
/// asked between batches (kCancelled). kNotFound for a value that no node makes; kInvalidArgument
/// for one that is not float32 with a row a sample; kOutOfRange where all rows take more than
/// kTeacherBytesMax.
[[nodiscard]] Result<TeacherOutputs> read_value(infer::Runtime& runtime,
                                                const graph::Model& teacher,
                                                const std::string& value,
                                                const infer::Dataset& data, int threads,
                                                const std::function<bool()>& stop);
inline constexpr std::uint64_t kTeacherBytesMax = std::uint64_t{1} << 30;

/// A file that holds the outputs for `key`: the digest of teachers and data. As
/// write_atomically().
[[nodiscard]] Result<void> save_teacher(const TeacherOutputs& outputs, const crypto::Digest& key,
                                        const std::filesystem::path& path);
/// Nothing if there is no such file, or one for another key or damaged: then they are worked out
/// again.
[[nodiscard]] std::optional<TeacherOutputs> load_teacher(const crypto::Digest& key,
                                                         const std::filesystem::path& path);

}  // namespace selvage::learn
