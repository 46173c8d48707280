// What a search has found out so far, in a folder: a search that was killed goes on from there.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/result.h"
#include "compress/candidate.h"
#include "compress/pareto.h"
#include "crypto/digest.h"

namespace selvage::compress {

/// What is known of a candidate.
struct Record {
  std::string failure;                 ///< Why it cannot be made or run; then nothing else is set.
  std::optional<double> quality;       ///< On the evaluation samples.
  std::optional<double> output_error;  ///< On calibration samples; see RevertOptions::error_of.
  std::optional<Figures> figures;

  friend bool operator==(const Record&, const Record&) = default;
};

/// One small JSON file and perhaps one model a candidate, both named by a digest of the recipe and
/// of everything that the results depend on: other data or settings find nothing. Each file is
/// written atomically; one that is damaged counts as missing. Confined to one thread and process.
class Journal {
 public:
  /// Makes the folder. kPermissionDenied, kIo.
  [[nodiscard]] static Result<Journal> open(const std::filesystem::path& folder,
                                            const crypto::Digest& settings);

  [[nodiscard]] Record find(const Recipe& recipe) const;
  [[nodiscard]] Result<void> keep(const Recipe& recipe, const Record& record) const;
  /// Where the candidate's model lies, if it does.
  [[nodiscard]] std::filesystem::path model_of(const Recipe& recipe) const;
  /// Its external data, too.
  void forget_model(const Recipe& recipe) const;
  /// Deletes what this search has written, and the folder if it is empty then.
  void clear() const;

 private:
  Journal(std::filesystem::path folder, const crypto::Digest& settings)
      : folder_(std::move(folder)), settings_(settings) {}
  [[nodiscard]] std::string name_of(const Recipe& recipe) const;

  std::filesystem::path folder_;
  crypto::Digest settings_;
};

}  // namespace selvage::compress
