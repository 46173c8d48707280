// What teachers say about training data: asked once, kept in the cache.
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "cli/data_options.h"
#include "cli/output.h"
#include "infer/dataset.h"
#include "infer/runtime.h"
#include "learn/teacher.h"

namespace selvage::cli {

/// The data that a student is to be taught on, as its options name them and as it sees them itself.
struct Lesson {
  const DataFlags& flags;
  const infer::Dataset& data;
  int threads = 1;  ///< For the teachers.
};

/// The mean of the teachers' logits for every sample, each seen through its own card.
[[nodiscard]] Result<learn::TeacherOutputs> ask_teachers(infer::Runtime& runtime,
                                                         std::span<const std::string> teachers,
                                                         const Lesson& lesson, Output& output);
/// A value inside one teacher: errors as learn::read_value().
[[nodiscard]] Result<learn::TeacherOutputs> ask_for_value(infer::Runtime& runtime,
                                                          const std::string& teacher,
                                                          const std::string& value,
                                                          const Lesson& lesson, Output& output);

}  // namespace selvage::cli
