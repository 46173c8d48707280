#include "base/log.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/json_writer.h"
#include "base/utf8.h"

namespace selvage::log {
namespace {

constexpr std::size_t kLinesRemembered = 1000;

std::atomic<Format>& chosen_format() {
  static std::atomic<Format> format{Format::kText};
  return format;
}

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>("selvage",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_level(spdlog::level::warn);
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarning: return spdlog::level::warn;
    case Level::kError: return spdlog::level::err;
    case Level::kOff: return spdlog::level::off;
  }
  return spdlog::level::off;
}

/// As it stands, or quoted where blanks or '=' would end it early.
void append_value(std::string& out, std::string_view value) {
  const auto shown = printable(value);
  if (!shown.empty() && shown.find_first_of(" \"=") == std::string::npos) {
    out += shown;
    return;
  }
  out += '"';
  for (const char c : shown) {
    if (c == '"') out += '\\';
    out += c;
  }
  out += '"';
}

/// The fields of the JSON object that the pattern opens and closes.
std::string json_line(std::string_view message, Fields fields) {
  JsonWriter json;
  json.begin_object().field("message", message);
  for (const auto& [key, value] : fields) json.field(key, value);
  json.end_object();
  return json.text().substr(1, json.text().size() - 2);
}

std::string text_line(std::string_view message, Fields fields) {
  std::string line = printable(message);
  for (const auto& [key, value] : fields) {
    line.append(" ").append(key).append("=");
    append_value(line, value);
  }
  return line;
}

std::string line_of(std::string_view message, Fields fields) {
  return chosen_format().load() == Format::kJson ? json_line(message, fields)
                                                 : text_line(message, fields);
}

void write(Level level, std::string_view message, Fields fields) {
  const auto severity = to_spdlog(level);
  if (logger().should_log(severity)) logger().log(severity, "{}", line_of(message, fields));
}

}  // namespace

void configure(Level level, Format format) {
  chosen_format().store(format);
  logger().set_level(to_spdlog(level));
  logger().set_pattern(format == Format::kJson
                           ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})"
                           : "%Y-%m-%dT%H:%M:%S.%e%z %l %v");
}

void debug(std::string_view message, Fields fields) {
  write(Level::kDebug, message, fields);
}
void info(std::string_view message, Fields fields) {
  write(Level::kInfo, message, fields);
}
void warning(std::string_view message, Fields fields) {
  write(Level::kWarning, message, fields);
}
void error(std::string_view message, Fields fields) {
  write(Level::kError, message, fields);
}
void warning_once(std::string_view message, Fields fields) {
  static std::mutex mutex;
  static std::set<std::string> written;
  {
    const std::scoped_lock lock(mutex);
    if (written.size() >= kLinesRemembered || !written.insert(line_of(message, fields)).second)
      return;
  }
  write(Level::kWarning, message, fields);
}

}  // namespace selvage::log
