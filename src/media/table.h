// Tables from comma-separated files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace selvage::media {

struct CsvOptions {
  enum class Header : std::uint8_t {
    kDetect,   ///< The first row is the header when none of its cells is a number.
    kPresent,  ///< The first row names the columns.
    kAbsent,   ///< Columns are named "0", "1", ...
  };
  Header header = Header::kDetect;
  char delimiter = ',';
  std::uint64_t bytes_max = 1u << 30;
  std::uint64_t cells_max = 64u << 20;
  std::uint32_t columns_max = 16'384;
  std::uint32_t cell_bytes_max = 1u << 20;
};

/// Rows of text cells, all equally long. Immutable.
class Table {
 public:
  [[nodiscard]] std::size_t rows() const { return rows_; }  ///< Without the header.
  [[nodiscard]] std::size_t columns() const { return names_.size(); }
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  /// kNotFound lists the names there are.
  [[nodiscard]] Result<std::size_t> column(std::string_view name) const;
  /// Both below their counts.
  [[nodiscard]] std::string_view cell(std::size_t row, std::size_t column) const;
  /// The column as numbers; blanks around them are ignored, an empty cell is NaN.
  /// kInvalidArgument names the row, the column and what stands there.
  [[nodiscard]] Result<std::vector<double>> numbers(std::size_t column) const;

 private:
  friend class CsvReader;
  [[nodiscard]] std::string_view cell(std::size_t row, std::size_t column,
                                      std::size_t columns) const;

  std::size_t rows_ = 0;
  std::size_t first_row_ = 1;  // As people count, the header included.
  std::vector<std::string> names_;
  std::string text_;                 // All cells, one after the other.
  std::vector<std::uint32_t> ends_;  // Where in text_ each cell ends.
};

/// Reads CSV as RFC 4180 has it: quoted cells may hold delimiters, line ends and doubled quotes;
/// lines end in CRLF or LF, a UTF-8 byte order mark is skipped, empty lines are skipped.
/// Errors name the row as spreadsheets count it, from 1 with the header: kInvalidArgument for an
/// unclosed quote, text after a closing quote, a row of another length, invalid UTF-8, a repeated
/// column name or no rows at all; kOutOfRange above a limit.
[[nodiscard]] Result<Table> parse_csv(std::span<const std::byte> file,
                                      const CsvOptions& options = {});

}  // namespace selvage::media
