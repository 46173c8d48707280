#include "cli/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/utf8.h"

namespace selvage::cli {
namespace {

std::string to_text(double value, std::chars_format format, int precision) {
  std::array<char, 400> buffer{};  // The largest double has 309 digits before the point.
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format, precision).ptr;
  return {buffer.data(), end};
}

/// The first code point of `text` and its bytes; a broken sequence counts as one byte.
std::pair<char32_t, std::size_t> first_code_point(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t length = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (length == 1 || text.size() < length) return {lead, 1};
  char32_t code = lead & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i)
    code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3Fu);
  return {code, length};
}

/// East Asian wide and full-width blocks (Unicode's EastAsianWidth W and F, joined where the gaps
/// are unassigned) and emoji.
bool is_wide(char32_t code) {
  return (code >= 0x1100 && code <= 0x115F) || (code >= 0x2E80 && code <= 0xA4CF) ||
         (code >= 0xAC00 && code <= 0xD7A3) || (code >= 0xF900 && code <= 0xFAFF) ||
         (code >= 0xFE30 && code <= 0xFE6F) || (code >= 0xFF00 && code <= 0xFF60) ||
         (code >= 0xFFE0 && code <= 0xFFE6) || (code >= 0x1F300 && code <= 0x1FAFF) ||
         (code >= 0x20000 && code <= 0x3FFFD);
}

bool is_combining(char32_t code) {
  return code >= 0x300 && code <= 0x36F;
}

void append_padded(std::string& line, const Style& style, const Cell& cell, const Column& column,
                   std::size_t width, bool last) {
  const std::string padding(width - std::min(width, display_width(cell.text)), ' ');
  if (column.align == Align::kRight) line += padding;
  line += style(cell.tone, cell.text);
  if (column.align == Align::kLeft && !last) line += padding;
}

}  // namespace

std::string fixed(double value, int decimals) {
  return to_text(value, std::chars_format::fixed, decimals);
}

std::string significant(double value) {
  const double size = std::abs(value);
  if (value == 0) return "0";
  if (size < 1e-3 || size >= 1e6) return to_text(value, std::chars_format::scientific, 2);
  const int before = static_cast<int>(std::floor(std::log10(size))) + 1;
  return fixed(value, std::max(0, 3 - before));
}

std::string shortest(double value) {
  std::array<char, 32> buffer{};
  return {buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr};
}

std::string format_decibels(double value) {
  if (std::isfinite(value)) return fixed(value, 1) + " dB";
  return value > 0 ? "equal" : "not finite";
}

std::string format_duration(std::chrono::nanoseconds value) {
  const auto ns = static_cast<double>(value.count());
  if (ns < 1e3) return fixed(ns, 0) + " ns";
  if (ns < 1e6) return fixed(ns / 1e3, ns < 1e5 ? 1 : 0) + " us";
  if (ns < 1e9) return fixed(ns / 1e6, ns < 1e7 ? 2 : ns < 1e8 ? 1 : 0) + " ms";
  return fixed(ns / 1e9, 2) + " s";
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array kUnits{" KB", " MB", " GB", " TB", " PB", " EB"};
  if (bytes < 1000) return std::to_string(bytes) + " B";
  double size = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  for (; size >= 999.5 && unit + 1 < kUnits.size(); ++unit) size /= 1000;
  return fixed(size, size < 100 ? 1 : 0) + kUnits[unit];
}

std::string format_count(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (auto i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3)
    digits.insert(static_cast<std::size_t>(i), ",");
  return digits;
}

std::string format_rate(double per_second) {
  if (per_second < 1000) return significant(per_second);
  return format_count(static_cast<std::uint64_t>(std::llround(per_second)));
}

std::string format_large(std::uint64_t count) {
  const auto value = static_cast<double>(count);
  if (value < 1e6) return format_count(count);
  if (value < 1e9) return significant(value / 1e6) + " million";
  return significant(value / 1e9) + " billion";
}

std::string format_plural(std::uint64_t count, std::string_view what) {
  std::string words = format_count(count) + " " + std::string(what);
  if (count == 1 || what.empty()) return words;
  const auto ends = [&](std::string_view tail) { return what.ends_with(tail); };
  const char last = what.back();
  if (last < 'a' || last > 'z') return words;
  if (ends("s") || ends("x") || ends("ch") || ends("sh")) return words + "es";
  if (ends("y") && what.size() > 1 &&
      std::string_view("aeiou").find(what[what.size() - 2]) == std::string_view::npos) {
    words.pop_back();
    return words + "ies";
  }
  return words + "s";
}

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const auto [code, length] = first_code_point(text);
    width += is_combining(code) ? 0u : is_wide(code) ? 2u : 1u;
    text.remove_prefix(length);
  }
  return width;
}

std::string wrap(std::string_view text, std::size_t width, std::string_view indent) {
  std::string wrapped;
  std::string line;
  const auto end_line = [&] {
    wrapped += line.empty() ? "\n" : std::string(indent) + line + "\n";
    line.clear();
  };
  while (!text.empty()) {
    const auto end = text.find_first_of(" \n");
    const auto word = text.substr(0, end);
    if (!line.empty() && indent.size() + line.size() + 1 + word.size() > width) end_line();
    if (!word.empty()) line += (line.empty() ? "" : " ") + std::string(word);
    if (end == std::string_view::npos) break;
    if (text[end] == '\n') end_line();
    text.remove_prefix(end + 1);
  }
  if (!line.empty()) end_line();
  return wrapped;
}

std::string Style::operator()(Tone tone, std::string_view text) const {
  if (!colour_ || tone == Tone::kPlain || text.empty()) return std::string(text);
  constexpr std::array kCodes{"", "1", "2", "32", "33", "31"};
  return std::string("\033[") + kCodes[static_cast<std::size_t>(tone)] + "m" + std::string(text) +
         "\033[0m";
}

void Table::add(std::vector<Cell> row) {
  for (auto& cell : row) cell.text = printable(cell.text);
  rows_.push_back(std::move(row));
}

std::string Table::to_text(const Style& style, std::size_t indent) const {
  std::vector<std::size_t> widths(columns_.size(), 0);
  for (const auto& row : rows_)
    for (std::size_t c = 0; c < row.size(); ++c)
      widths[c] = std::max(widths[c], display_width(row[c].text));
  std::vector<Cell> titles;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    titles.emplace_back(columns_[c].title, Tone::kDim);
    if (widths[c] > 0) widths[c] = std::max(widths[c], display_width(columns_[c].title));
  }
  std::size_t last = 0;
  for (std::size_t c = 0; c < widths.size(); ++c)
    if (widths[c] > 0) last = c;

  std::string text;
  const auto add_row = [&](const std::vector<Cell>& row) {
    std::string line(indent, ' ');
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (widths[c] == 0) continue;
      append_padded(line, style, row[c], columns_[c], widths[c], c == last);
      if (c != last) line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  if (std::ranges::any_of(columns_, [](const Column& column) { return !column.title.empty(); }))
    add_row(titles);
  for (const auto& row : rows_) add_row(row);
  return text;
}

}  // namespace selvage::cli
