// Text for people: numbers with units, aligned tables, colour where the terminal wants it.
#pragma once

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace selvage::cli {

/// "1.43", "0.60": always '.' and `decimals` digits after it.
[[nodiscard]] std::string fixed(double value, int decimals);
/// Three significant digits for any size: "0.0123", "4.56", "1230", "1.2e+09".
[[nodiscard]] std::string significant(double value);
/// As short as it can be said: "16", "44.1".
[[nodiscard]] std::string shortest(double value);
/// "34.3 dB" of signal over error; "equal" without any error, "not finite" where that has no bound.
[[nodiscard]] std::string format_decibels(double value);
/// "845 us", "1.43 ms", "2.10 s".
[[nodiscard]] std::string format_duration(std::chrono::nanoseconds value);
[[nodiscard]] inline double to_milliseconds(std::chrono::nanoseconds value) {
  return std::chrono::duration<double, std::milli>(value).count();
}
/// "512 B", "4.6 KB", "45.8 MB": steps of 1,000, as sizes are read.
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);
/// "1,234,567".
[[nodiscard]] std::string format_count(std::uint64_t count);
/// "4.56", "701", "5,109": how many a second.
[[nodiscard]] std::string format_rate(double per_second);
/// "31.2 million": three significant digits above a million.
[[nodiscard]] std::string format_large(std::uint64_t count);
/// "1 face", "2 faces", "3 boxes": for labels of any kind.
[[nodiscard]] std::string format_plural(std::uint64_t count, std::string_view what);

/// Columns that a terminal gives to UTF-8 text: wide characters take two.
[[nodiscard]] std::size_t display_width(std::string_view text);
/// `text` in lines of at most `width` columns, each begun with `indent`; its own line ends stay.
[[nodiscard]] std::string wrap(std::string_view text, std::size_t width, std::string_view indent);

enum class Tone : std::uint8_t { kPlain, kBold, kDim, kGood, kCaution, kBad };

/// Colours text with terminal escapes, or leaves it as it is.
class Style {
 public:
  explicit Style(bool colour) : colour_(colour) {}
  [[nodiscard]] std::string operator()(Tone tone, std::string_view text) const;

 private:
  bool colour_;
};

/// Made from its text alone, as most cells are, or with a tone.
struct Cell {
  // NOLINTBEGIN(google-explicit-constructor): rows are lists of texts.
  Cell(std::string cell_text, Tone cell_tone = Tone::kPlain)
      : text(std::move(cell_text)), tone(cell_tone) {}
  Cell(const char* cell_text) : text(cell_text) {}
  // NOLINTEND(google-explicit-constructor)
  std::string text;
  Tone tone = Tone::kPlain;
};

enum class Align : std::uint8_t { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kLeft;
};

/// Rows under titles, columns as wide as their content. Columns without any content are left out,
/// and the titles where all are empty.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  /// Cells may hold foreign text: their printable form is shown (base/utf8.h).
  void add(std::vector<Cell> row);
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  /// Lines that each end in a line feed, begun with `indent` spaces.
  [[nodiscard]] std::string to_text(const Style& style, std::size_t indent = 2) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace selvage::cli
