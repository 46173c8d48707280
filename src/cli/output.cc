#include "cli/output.h"

#include <ostream>

#include "base/json_writer.h"
#include "base/utf8.h"

namespace selvage::cli {

void Output::print(std::string_view text) {
  out_ << text << std::flush;
  printed_ = true;
}

void Output::note(std::string_view text) {
  error_ << "selvage: " << printable(text) << "\n" << std::flush;
}

void Output::print_error(const Error& error) {
  note(error.message);
  if (!options_.json || printed_) return;
  JsonWriter json;
  json.begin_object().key("error").begin_object();
  json.field("code", to_string(error.code)).field("message", error.message);
  json.end_object().end_object();
  print(json.text() + "\n");
}

}  // namespace selvage::cli
