#include "media/table.h"

#include <charconv>
#include <limits>
#include <unordered_set>

#include "base/exception.h"
#include "base/utf8.h"
#include "media/byte_reader.h"

namespace selvage::media {
namespace {

std::string_view without_blanks(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::optional<double> parse_number(std::string_view text) {
  text = without_blanks(text);
  // from_chars knows no plus sign.
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Quoted, for messages.
std::string quote(std::string_view text) {
  constexpr std::size_t kShown = 40;
  std::string out("'");
  out.append(text.substr(0, kShown)).append(text.size() > kShown ? "...'" : "'");
  return out;
}

}  // namespace

class CsvReader {
 public:
  CsvReader(std::string_view text, const CsvOptions& options) : text_(text), options_(options) {}

  Result<Table> read() {
    SELVAGE_RETURN_IF_ERROR(check_options());
    if (text_.starts_with("\xEF\xBB\xBF")) text_.remove_prefix(3);
    skip_line_ends();
    if (text_.empty()) return fail(ErrorCode::kInvalidArgument, "CSV: there are no rows");
    SELVAGE_RETURN_IF_ERROR(read_row());
    columns_ = table_.ends_.size();
    SELVAGE_RETURN_IF_ERROR(take_header());
    for (skip_line_ends(); !text_.empty(); skip_line_ends()) {
      const std::size_t before = table_.ends_.size();
      SELVAGE_RETURN_IF_ERROR(read_row());
      const std::size_t cells = table_.ends_.size() - before;
      if (cells != columns_)
        return wrong("has " + std::to_string(cells) + " cells, not " + std::to_string(columns_) +
                     " like the first");
    }
    table_.rows_ = table_.ends_.size() / columns_;
    return std::move(table_);
  }

 private:
  [[nodiscard]] std::unexpected<Error> wrong(const std::string& what) const {
    return fail(ErrorCode::kInvalidArgument, "CSV: row " + std::to_string(row_) + " " + what);
  }
  [[nodiscard]] std::unexpected<Error> beyond(const std::string& what, std::uint64_t limit) const {
    return fail(ErrorCode::kOutOfRange, "CSV: row " + std::to_string(row_) + ": " + what +
                                            " above the limit of " + std::to_string(limit));
  }

  [[nodiscard]] Result<void> check_options() const {
    const char delimiter = options_.delimiter;
    if (delimiter == '"' || delimiter == '\r' || delimiter == '\n' ||
        static_cast<unsigned char>(delimiter) >= 0x80)
      return fail(ErrorCode::kInvalidArgument,
                  "CSV: the delimiter must be an ASCII character other than a quote or a line end");
    if (text_.size() > options_.bytes_max ||
        text_.size() > std::numeric_limits<std::uint32_t>::max())
      return fail(ErrorCode::kOutOfRange, "CSV: " + std::to_string(text_.size()) +
                                              " bytes are above the limit of " +
                                              std::to_string(options_.bytes_max));
    return {};
  }

  [[nodiscard]] bool at_line_end() const {
    return text_.empty() || text_.front() == '\n' || text_.starts_with("\r\n");
  }

  void skip_line_ends() {
    while (!text_.empty() && at_line_end()) skip_line_end();
  }
  void skip_line_end() { text_.remove_prefix(text_.front() == '\r' ? 2 : 1); }

  Result<void> read_row() {
    ++row_;
    for (std::uint32_t cells = 1;; ++cells) {
      if (cells > options_.columns_max) return beyond("columns", options_.columns_max);
      if (table_.ends_.size() >= options_.cells_max) return beyond("cells", options_.cells_max);
      SELVAGE_RETURN_IF_ERROR(read_cell());
      if (at_line_end()) break;
      text_.remove_prefix(1);  // The delimiter.
    }
    if (!text_.empty()) skip_line_end();
    return {};
  }

  Result<void> read_cell() {
    auto& out = table_.text_;
    const std::size_t begin = out.size();
    if (text_.starts_with('"')) {
      SELVAGE_RETURN_IF_ERROR(read_quoted(out));
    } else {
      const char stops[] = {options_.delimiter, '\n'};
      std::size_t end = std::min(text_.find_first_of(std::string_view(stops, 2)), text_.size());
      if (end < text_.size() && text_[end] == '\n' && end > 0 && text_[end - 1] == '\r') --end;
      out.append(text_.substr(0, end));
      text_.remove_prefix(end);
    }
    const std::string_view cell = std::string_view(out).substr(begin);
    if (cell.size() > options_.cell_bytes_max)
      return beyond("bytes in a cell", options_.cell_bytes_max);
    if (!is_utf8(cell)) return wrong("is not valid UTF-8");
    table_.ends_.push_back(static_cast<std::uint32_t>(out.size()));
    return {};
  }

  Result<void> read_quoted(std::string& out) {
    while (true) {
      text_.remove_prefix(1);  // The opening quote, or the second of a doubled one.
      const std::size_t end = text_.find('"');
      if (end == std::string_view::npos) return wrong("opens a quote and does not close it");
      out.append(text_.substr(0, end));
      text_.remove_prefix(end + 1);
      if (!text_.starts_with('"')) break;
      out.push_back('"');
    }
    if (!at_line_end() && text_.front() != options_.delimiter)
      return wrong("has text behind a closing quote");
    return {};
  }

  /// The first row becomes the names, or stays and the columns are numbered.
  Result<void> take_header() {
    bool is_header = options_.header == CsvOptions::Header::kPresent;
    if (options_.header == CsvOptions::Header::kDetect) {
      is_header = true;
      for (std::size_t c = 0; c < columns_; ++c)
        is_header = is_header && !parse_number(table_.cell(0, c, columns_));
    }
    std::unordered_set<std::string_view> seen;
    for (std::size_t c = 0; c < columns_; ++c) {
      const auto name = without_blanks(table_.cell(0, c, columns_));
      if (is_header && !seen.insert(name).second)
        return wrong("names column " + quote(name) + " twice");
      table_.names_.push_back(is_header ? std::string(name) : std::to_string(c));
    }
    if (is_header) {
      table_.text_.clear();
      table_.ends_.clear();
      table_.first_row_ = 2;
    }
    return {};
  }

  std::string_view text_;
  CsvOptions options_;
  Table table_;
  std::size_t columns_ = 0;
  std::size_t row_ = 0;
};

std::string_view Table::cell(std::size_t row, std::size_t column) const {
  return cell(row, column, columns());
}

std::string_view Table::cell(std::size_t row, std::size_t column, std::size_t columns) const {
  const std::size_t index = row * columns + column;
  const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
  return std::string_view(text_).substr(begin, ends_[index] - begin);
}

Result<std::size_t> Table::column(std::string_view name) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  if (found != names_.end()) return static_cast<std::size_t>(found - names_.begin());
  std::string known;
  for (const auto& column : names_) {
    if (known.size() > 200) {
      known += ", ...";
      break;
    }
    known.append(known.empty() ? "" : ", ").append(quote(column));
  }
  return fail(ErrorCode::kNotFound,
              "no column " + quote(name) + " in the table; there are " + known);
}

Result<std::vector<double>> Table::numbers(std::size_t column) const {
  std::vector<double> values;
  SELVAGE_RETURN_IF_ERROR(catch_to_result(ErrorCode::kInternal, [&] { values.reserve(rows_); }));
  for (std::size_t row = 0; row < rows_; ++row) {
    const auto text = without_blanks(cell(row, column));
    const auto number = parse_number(text);
    if (!number && !text.empty())
      return fail(ErrorCode::kInvalidArgument, "CSV: row " + std::to_string(first_row_ + row) +
                                                   ", column " + quote(names_[column]) + ": " +
                                                   quote(text) + " is not a number");
    values.push_back(number.value_or(std::numeric_limits<double>::quiet_NaN()));
  }
  return values;
}

Result<Table> parse_csv(std::span<const std::byte> file, const CsvOptions& options) {
  return catch_to_result(ErrorCode::kInternal,
                         [&] { return CsvReader(as_text(file), options).read(); });
}

}  // namespace selvage::media
