// Where a command's words go: results to standard output, everything else to standard error.
#pragma once

#include <iosfwd>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cli/text.h"

namespace selvage::cli {

/// Confined to one thread.
class Output {
 public:
  struct Options {
    bool json = false;      ///< One JSON object instead of text for people.
    bool colour = false;    ///< Standard output is a terminal that wants colour.
    bool progress = false;  ///< Standard error is a terminal.
  };
  Output(std::ostream& out, std::ostream& error, const Options& options)
      : out_(out), error_(error), options_(options) {}

  [[nodiscard]] bool json() const { return options_.json; }
  [[nodiscard]] bool progress() const { return options_.progress; }
  [[nodiscard]] Style style() const { return Style(options_.colour && !options_.json); }
  [[nodiscard]] std::ostream& error_stream() { return error_; }

  /// The command's result. Foreign names in it must be printable (base/utf8.h).
  void print(std::string_view text);
  /// A remark for the person at the terminal: "selvage: <text>", one line whatever names it holds.
  void note(std::string_view text);
  /// The failure that ends the command: "selvage: <message>", with --json also
  /// {"error": {"code": ..., "message": ...}} on standard output, unless a result stands there.
  void print_error(const Error& error);

 private:
  std::ostream& out_;
  std::ostream& error_;
  bool printed_ = false;
  Options options_;
};

}  // namespace selvage::cli
