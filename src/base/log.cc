#include "base/log.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace selvage::log {
namespace {

std::atomic<Format> g_format{Format::kText};
constexpr std::size_t kLinesRemembered = 1000;

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

/// Escapes what would break the line or the quotes: the text may come from a stranger.
void append_quoted(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

std::string line_of(std::string_view message, Fields fields) {
  std::string line;
  if (g_format.load() == Format::kJson) {
    line += "\"message\":";
    append_quoted(line, message);
    for (const auto& [key, value] : fields) {
      line += ',';
      append_quoted(line, key);
      line += ':';
      append_quoted(line, value);
    }
  } else {
    line += message;
    for (const auto& [key, value] : fields) {
      line += ' ';
      line += key;
      line += '=';
      if (value.find_first_of(" \"\n\t=") == std::string::npos && !value.empty()) {
        line += value;
      } else {
        append_quoted(line, value);
      }
    }
  }
  return line;
}

void write(Level level, std::string_view message, Fields fields) {
  const auto severity = to_spdlog(level);
  if (logger().should_log(severity)) logger().log(severity, "{}", line_of(message, fields));
}

}  // namespace

void configure(Level level, Format format) {
  g_format.store(format);
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
