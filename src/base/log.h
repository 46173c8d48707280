// Structured logs: one line an event, `key=value` fields after the message, to standard error.
// Log once, where an error is handled; functions that return a Result do not log.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace selvage::log {

enum class Level { kDebug, kInfo, kWarning, kError, kOff };
enum class Format { kText, kJson };

/// Sets what is written and how, for the whole process. Safe from any thread. Starts as kWarning,
/// kText.
void configure(Level level, Format format);

/// A field is quoted as needed: log::info("model ready", {{"model", name}, {"ms", "12"}}).
using Fields = std::initializer_list<std::pair<std::string_view, std::string>>;

void debug(std::string_view message, Fields fields = {});
void info(std::string_view message, Fields fields = {});
void warning(std::string_view message, Fields fields = {});
void error(std::string_view message, Fields fields = {});

/// As warning(), but a line that this process has written before is not written again.
void warning_once(std::string_view message, Fields fields = {});

}  // namespace selvage::log
