#include "infer/config_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <nlohmann/json.hpp>

#include "infer/model_config.h"

namespace selvage::infer {
namespace {

using Kind = ConfigNode::Kind;

std::string at_line(int line) {
  return line > 0 ? "line " + std::to_string(line) + ": " : "";
}

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// One pass over the text, by recursive descent of at most kConfigDepthMax levels.
class TextParser {
 public:
  explicit TextParser(std::string_view text) : text_(text) {}

  Result<ConfigNode> parse() {
    ConfigNode root{.line = 1, .kind = Kind::kMessage};
    SELVAGE_RETURN_IF_ERROR(members(root, '\0', 0));
    return root;
  }

 private:
  [[nodiscard]] std::unexpected<Error> error(std::string_view problem) const {
    return fail(ErrorCode::kInvalidArgument, at_line(line_) + std::string(problem));
  }

  void skip_space() {
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
        if (at_ == text_.size()) return;
      } else if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
        return;
      }
      line_ += text_[at_] == '\n';
    }
  }

  [[nodiscard]] char peek() {
    skip_space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(char c) {
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }

  Result<void> members(ConfigNode& message, char end, int depth) {
    if (depth > kConfigDepthMax)
      return fail(ErrorCode::kOutOfRange, at_line(line_) + "messages are nested deeper than " +
                                              std::to_string(kConfigDepthMax));
    for (;;) {
      const char c = peek();
      if (at_ == text_.size())
        return end == '\0' ? Result<void>() : error("the file ends inside of a message");
      if (end != '\0' && c == end) {
        ++at_;
        return {};
      }
      SELVAGE_RETURN_IF_ERROR(field(message, depth));
      if (!accept(',')) accept(';');
    }
  }

  Result<void> field(ConfigNode& message, int depth) {
    if (!is_name_start(peek())) return error("a field name should stand here");
    const auto name = word();
    const bool colon = accept(':');
    if (!accept('[')) return value(message, name, colon, depth);
    if (!colon && peek() != '{' && peek() != '<' && peek() != ']')
      return error("'" + name + "' needs a colon before its values");
    if (accept(']')) return {};
    do {
      SELVAGE_RETURN_IF_ERROR(value(message, name, true, depth));
    } while (accept(','));
    return accept(']') ? Result<void>()
                       : error("the list of '" + name + "' needs a comma or a closing bracket");
  }

  Result<void> value(ConfigNode& message, const std::string& name, bool colon, int depth) {
    if (++count_ > kConfigFieldsMax)
      return fail(ErrorCode::kOutOfRange, at_line(line_) + "there are more than " +
                                              std::to_string(kConfigFieldsMax) + " fields");
    const char c = peek();
    ConfigNode node{.name = name, .line = line_};
    if (c == '{' || c == '<') {
      ++at_;
      node.kind = Kind::kMessage;
      SELVAGE_RETURN_IF_ERROR(members(node, c == '{' ? '}' : '>', depth + 1));
    } else if (!colon) {
      return error("'" + name + "' needs a colon or a brace");
    } else if (c == '"' || c == '\'') {
      node.kind = Kind::kQuoted;
      while (peek() == '"' || peek() == '\'') SELVAGE_RETURN_IF_ERROR(quoted(node.text));
    } else {
      if (accept('-')) node.text = "-";
      if (!is_name_start(peek()) && !is_digit(peek()) && peek() != '.')
        return error("'" + name + "' has no value");
      node.text += word();
    }
    message.members.push_back(std::move(node));
    return {};
  }

  /// A name, an enumerator or a number without its sign.
  std::string word() {
    const auto start = at_;
    const auto belongs = [&](std::size_t i) {
      const char c = text_[i];
      if (is_name_start(c) || is_digit(c) || c == '.') return true;
      return (c == '-' || c == '+') && is_digit(text_[start]) &&
             (text_[i - 1] == 'e' || text_[i - 1] == 'E');
    };
    do ++at_;
    while (at_ < text_.size() && belongs(at_));
    return std::string(text_.substr(start, at_ - start));
  }

  Result<void> quoted(std::string& value) {
    const char quote = text_[at_++];
    for (;;) {
      if (at_ == text_.size() || text_[at_] == '\n') return error("a string is not closed");
      const char c = text_[at_++];
      if (c == quote) return {};
      if (c != '\\') {
        value += c;
        continue;
      }
      SELVAGE_TRY(const char escaped, escape());
      value += escaped;
    }
  }

  Result<char> escape() {
    if (at_ == text_.size()) return error("a string is not closed");
    const char c = text_[at_++];
    constexpr std::string_view kLetters = "abfnrtv\\'\"?";
    constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"?";
    if (const auto known = kLetters.find(c); known != std::string_view::npos)
      return kMeanings[known];
    const bool hex = c == 'x' || c == 'X';
    if (!hex && (c < '0' || c > '7'))
      return error(std::string("the escape \\") + c + " is not supported");
    const char* begin = text_.data() + at_ - (hex ? 0 : 1);
    const char* limit = std::min(begin + (hex ? 2 : 3), text_.data() + text_.size());
    unsigned int number = 0;
    const auto read = std::from_chars(begin, limit, number, hex ? 16 : 8);
    if (read.ec != std::errc() || number > 255) return error("an escape is not a byte");
    at_ = static_cast<std::size_t>(read.ptr - text_.data());
    return static_cast<char>(number);
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int line_ = 1;
  std::size_t count_ = 0;
};

/// Builds the tree from events, so that no deep or wide document is ever held twice.
class JsonBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return true; }
  bool boolean(bool value) override { return scalar(Kind::kBare, value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override {
    return scalar(Kind::kBare, std::to_string(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    return scalar(Kind::kBare, std::to_string(value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    return scalar(Kind::kBare, text);
  }
  bool string(string_t& value) override { return scalar(Kind::kQuoted, value); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override {
    if (!enter()) return false;
    if (levels_.empty()) {
      levels_.push_back({&root_, false, ""});
      return true;
    }
    auto* parent = levels_.back().node;
    parent->members.push_back(ConfigNode{.name = levels_.back().key,
                                         .kind = Kind::kMessage,
                                         .json = true,
                                         .text = "",
                                         .members = {}});
    levels_.push_back({&parent->members.back(), false, ""});
    return true;
  }
  bool key(string_t& name) override {
    levels_.back().key = name;
    return true;
  }
  bool end_object() override {
    levels_.pop_back();
    return true;
  }
  /// A list's elements become repeated members of the message that holds it.
  bool start_array(std::size_t) override {
    if (levels_.empty()) return refuse("the configuration is not an object");
    if (levels_.back().list) return refuse("a list in a list");
    if (!enter()) return false;
    levels_.push_back({levels_.back().node, true, levels_.back().key});
    return true;
  }
  bool end_array() override {
    levels_.pop_back();
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& e) override {
    return refuse(e.what());
  }

  [[nodiscard]] const std::string& problem() const { return problem_; }
  [[nodiscard]] ConfigNode take() { return std::move(root_); }

 private:
  struct Level {
    ConfigNode* node;
    bool list;
    std::string key;
  };
  bool refuse(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }
  bool enter() {
    if (levels_.size() > static_cast<std::size_t>(kConfigDepthMax))
      return refuse("nested too deep");
    return ++count_ <= kConfigFieldsMax || refuse("too many fields");
  }
  bool scalar(Kind kind, std::string text) {
    if (levels_.empty()) return refuse("the configuration is not an object");
    if (++count_ > kConfigFieldsMax) return refuse("too many fields");
    levels_.back().node->members.push_back(ConfigNode{.name = levels_.back().key,
                                                      .kind = kind,
                                                      .json = true,
                                                      .text = std::move(text),
                                                      .members = {}});
    return true;
  }

  ConfigNode root_{.name = "", .kind = Kind::kMessage, .json = true, .text = "", .members = {}};
  std::vector<Level> levels_;
  std::size_t count_ = 0;
  std::string problem_;
};

/// "max_batch_size" from "maxBatchSize".
std::string snake_case(std::string_view name) {
  std::string snake;
  for (const char c : name) {
    if (c >= 'A' && c <= 'Z') snake += '_';
    snake += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return snake;
}

bool says_nothing(const ConfigNode& node) {
  if (node.kind == Kind::kMessage) return std::ranges::all_of(node.members, says_nothing);
  return node.text.empty() || node.text == "0" || node.text == "false" || node.text == "0.0" ||
         node.text.ends_with("_NONE") || node.text.ends_with("_DEFAULT");
}

}  // namespace

Result<ConfigNode> parse_text_format(std::string_view text) {
  if (text.size() > kConfigBytesMax)
    return fail(ErrorCode::kOutOfRange,
                "the configuration is larger than " + std::to_string(kConfigBytesMax) + " bytes");
  return TextParser(text).parse();
}

Result<ConfigNode> parse_json_config(std::string_view json) {
  if (json.size() > kConfigBytesMax)
    return fail(ErrorCode::kOutOfRange,
                "the configuration is larger than " + std::to_string(kConfigBytesMax) + " bytes");
  JsonBuilder builder;
  if (!nlohmann::json::sax_parse(json, &builder))
    return fail(ErrorCode::kInvalidArgument, "the configuration's JSON: " + builder.problem());
  return builder.take();
}

void ConfigErrors::add(ErrorCode code, int line, std::string_view field, std::string_view problem) {
  if (!first_)
    first_ = Error{code, at_line(line) + std::string(field) + ": " + std::string(problem)};
}

Result<void> ConfigErrors::result() const {
  if (first_) return std::unexpected(*first_);
  return {};
}

std::string ConfigFields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : path_ + "." + std::string(name);
}

void ConfigFields::fail_at(std::string_view name, std::string_view problem, ErrorCode code) {
  const auto nodes = find_all(name);
  errors_.add(code, nodes.empty() ? node_.line : nodes.front()->line, path_of(name), problem);
}

std::vector<const ConfigNode*> ConfigFields::find_all(std::string_view name) {
  known_.emplace_back(name);
  std::vector<const ConfigNode*> found;
  for (const auto& member : node_.members)
    if (member.name == name || (member.json && snake_case(member.name) == name))
      found.push_back(&member);
  return found;
}

const ConfigNode* ConfigFields::find(std::string_view name) {
  const auto nodes = find_all(name);
  if (nodes.empty()) return nullptr;
  if (nodes.size() > 1)
    errors_.add(ErrorCode::kInvalidArgument, nodes[1]->line, path_of(name), "is given twice");
  return nodes.front();
}

bool ConfigFields::has(std::string_view name) {
  return !find_all(name).empty();
}

void ConfigFields::text(std::string_view name, std::string& value) {
  const auto* node = find(name);
  if (node == nullptr) return;
  if (node->kind == Kind::kQuoted)
    value = node->text;
  else
    fail_at(name, "should be a string in quotes");
}

std::optional<std::int64_t> ConfigFields::integer_of(const ConfigNode& node, std::int64_t min,
                                                     std::int64_t max) {
  const auto& text = node.text;
  const bool scalar = node.kind == Kind::kBare || (node.json && node.kind == Kind::kQuoted);
  const bool negative = text.starts_with('-');
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  std::int64_t value = 0;
  const auto* begin = text.data() + (hex ? 2 : negative ? 1 : 0);
  const auto* end = text.data() + text.size();
  const auto read = std::from_chars(begin, end, value, hex ? 16 : 10);
  if (!scalar || read.ec != std::errc() || read.ptr != end || begin == end || value < 0) {
    errors_.add(ErrorCode::kInvalidArgument, node.line, path_of(node.name),
                "'" + text + "' is not a whole number");
    return std::nullopt;
  }
  if (negative) value = -value;
  if (value >= min && value <= max) return value;
  errors_.add(ErrorCode::kOutOfRange, node.line, path_of(node.name),
              text + " is not within " + std::to_string(min) + " to " + std::to_string(max));
  return std::nullopt;
}

std::optional<double> ConfigFields::number_of(const ConfigNode& node) {
  double value = 0;
  auto text = std::string_view(node.text);
  if (text.ends_with('f')) text.remove_suffix(1);
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (node.kind == Kind::kBare && read.ec == std::errc() && read.ptr == text.data() + text.size() &&
      std::isfinite(value))
    return value;
  errors_.add(ErrorCode::kInvalidArgument, node.line, path_of(node.name),
              "'" + node.text + "' is not a number");
  return std::nullopt;
}

std::optional<bool> ConfigFields::flag_of(const ConfigNode& node) {
  if (node.kind == Kind::kBare) {
    if (node.text == "true" || node.text == "True" || node.text == "t" || node.text == "1")
      return true;
    if (node.text == "false" || node.text == "False" || node.text == "f" || node.text == "0")
      return false;
  }
  errors_.add(ErrorCode::kInvalidArgument, node.line, path_of(node.name),
              "'" + node.text + "' is neither true nor false");
  return std::nullopt;
}

void ConfigFields::flag(std::string_view name, bool& value) {
  if (const auto* node = find(name))
    if (const auto read = flag_of(*node)) value = *read;
}

void ConfigFields::flags(std::string_view name, std::vector<double>& values) {
  for (const auto* node : find_all(name))
    if (const auto read = flag_of(*node)) values.push_back(*read ? 1 : 0);
}

void ConfigFields::number(std::string_view name, double& value, double min, double max) {
  const auto* node = find(name);
  if (node == nullptr) return;
  const auto read = number_of(*node);
  if (!read) return;
  value = *read;
  if (value < min || value > max) fail_at(name, node->text + " is out of range");
}

void ConfigFields::numbers(std::string_view name, std::vector<double>& values) {
  for (const auto* node : find_all(name))
    if (const auto read = number_of(*node)) values.push_back(*read);
}

const ConfigNode* ConfigFields::message(std::string_view name) {
  const auto* node = find(name);
  if (node == nullptr || node->kind == Kind::kMessage) return node;
  fail_at(name, "should be a message in braces");
  return nullptr;
}

std::vector<const ConfigNode*> ConfigFields::messages(std::string_view name) {
  auto nodes = find_all(name);
  for (const auto* node : nodes)
    if (node->kind != Kind::kMessage) {
      fail_at(name, "should be a message in braces");
      return {};
    }
  return nodes;
}

std::vector<std::pair<std::string, const ConfigNode*>> ConfigFields::entries(
    std::string_view name) {
  std::vector<std::pair<std::string, const ConfigNode*>> found;
  for (const auto* node : messages(name)) {
    if (node->json) {
      for (const auto& member : node->members) found.emplace_back(member.name, &member);
      continue;
    }
    const auto part = [&](std::string_view wanted) {
      const auto at = std::ranges::find(node->members, wanted, &ConfigNode::name);
      return at == node->members.end() ? nullptr : &*at;
    };
    const auto *key = part("key"), *value = part("value");
    if (key == nullptr || value == nullptr || node->members.size() != 2 ||
        key->kind == Kind::kMessage) {
      fail_at(name, "should have a key and a value");
      return {};
    }
    found.emplace_back(key->text, value);
  }
  return found;
}

void ConfigFields::unsupported(std::string_view name, std::string_view why) {
  if (!std::ranges::all_of(find_all(name), [](const auto* node) { return says_nothing(*node); }))
    fail_at(name, "is not supported: " + std::string(why), ErrorCode::kUnimplemented);
}

void ConfigFields::finish() {
  for (const auto& member : node_.members) {
    const auto name = member.json ? snake_case(member.name) : member.name;
    if (std::ranges::find(known_, name) == known_.end())
      errors_.add(ErrorCode::kInvalidArgument, member.line, path_of(member.name),
                  "is not a field that is known here");
  }
}

}  // namespace selvage::infer
