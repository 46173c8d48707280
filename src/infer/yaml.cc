#include "infer/yaml.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <span>
#include <sstream>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "base/exception.h"
#include "base/utf8.h"

namespace selvage::infer {
namespace {

// Builds the tree from the parser's events. The first problem is kept and all later events are
// ignored: the parser itself cannot be stopped, but its input is bounded.
class TreeBuilder final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, ErrorCode::kInvalidArgument, "aliases (*name) are not allowed: write it out");
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    leaf(mark, anchor, YamlNode::Kind::kNull, "");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const bool plain = tag == "?";
    const bool null = plain && (value.empty() || value == "~" || value == "null");
    leaf(mark, anchor, null ? YamlNode::Kind::kNull : YamlNode::Kind::kScalar, value);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    branch(mark, anchor, YamlNode::Kind::kList);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    branch(mark, anchor, YamlNode::Kind::kMap);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

  [[nodiscard]] Result<YamlNode> take() {
    if (error_) return std::unexpected(*std::move(error_));
    return std::move(root_);
  }

 private:
  struct Open {
    YamlNode node;
    std::optional<std::string> key;  // Of a map: read, its value not yet.
    int key_line = 0;
  };

  void refuse(const YAML::Mark& mark, ErrorCode code, std::string_view problem) {
    if (!error_)
      error_ = Error{code, "line " + std::to_string(mark.line + 1) + ": " + std::string(problem)};
  }

  bool admit(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor)
      refuse(mark, ErrorCode::kInvalidArgument, "anchors (&name) are not allowed");
    if (++nodes_ > kYamlNodesMax)
      refuse(mark, ErrorCode::kOutOfRange,
             "more than " + std::to_string(kYamlNodesMax) + " values");
    return !error_;
  }

  void leaf(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Kind kind,
            const std::string& value) {
    if (!admit(mark, anchor)) return;
    if (!open_.empty() && open_.back().node.kind == YamlNode::Kind::kMap && !open_.back().key) {
      auto& map = open_.back();
      if (std::ranges::find(map.node.keys, value) != map.node.keys.end())
        return refuse(mark, ErrorCode::kInvalidArgument, "'" + value + "' stands here twice");
      map.key = value;
      map.key_line = mark.line + 1;
      return;
    }
    YamlNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    node.text = value;
    place(std::move(node));
  }

  void branch(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Kind kind) {
    if (!admit(mark, anchor)) return;
    if (open_.size() >= kYamlDepthMax)
      return refuse(mark, ErrorCode::kOutOfRange,
                    "nested deeper than " + std::to_string(kYamlDepthMax));
    if (!open_.empty() && open_.back().node.kind == YamlNode::Kind::kMap && !open_.back().key)
      return refuse(mark, ErrorCode::kInvalidArgument, "a field's name must be a word");
    open_.emplace_back();
    open_.back().node.kind = kind;
    open_.back().node.line = mark.line + 1;
  }

  void close() {
    if (error_) return;
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    place(std::move(node));
  }

  void place(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    auto& parent = open_.back();
    if (parent.key) {
      node.line = parent.key_line;
      parent.node.keys.push_back(*std::exchange(parent.key, std::nullopt));
    }
    parent.node.items.push_back(std::move(node));
  }

  YamlNode root_;
  std::vector<Open> open_;
  std::size_t nodes_ = 0;
  std::optional<Error> error_;
};

std::optional<double> parse_decimal(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

std::optional<double> parse_number(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return parse_decimal(text);
  const auto above = parse_decimal(text.substr(0, slash));
  const auto below = parse_decimal(text.substr(slash + 1));
  if (!above || !below || *below == 0 || !std::isfinite(*above / *below)) return std::nullopt;
  return *above / *below;
}

/// As a person would write it: without an exponent where there is a choice.
std::string decimal(double value) {
  std::array<char, 32> buffer{};
  const bool plain = value == 0 || (std::fabs(value) >= 1e-3 && std::fabs(value) < 1e9);
  const auto format = plain ? std::chars_format::fixed : std::chars_format::general;
  return {buffer.data(),
          std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format).ptr};
}

std::optional<double> number_of(const YamlNode& node, const std::string& field, double min,
                                double max, bool whole, YamlErrors& errors) {
  const auto value =
      node.kind == YamlNode::Kind::kScalar ? parse_number(node.text) : std::optional<double>();
  if (value && *value >= min && *value <= max && (!whole || *value == std::floor(*value)))
    return value;
  errors.add(node.line, field,
             (whole ? "must be a whole number from " : "must be a number from ") + decimal(min) +
                 " to " + decimal(max));
  return std::nullopt;
}

std::string joined(const std::vector<std::string_view>& names) {
  std::string text;
  for (const auto name : names) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

/// Letters inserted, left out, replaced or swapped with their neighbour (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before, last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before = std::exchange(last, row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const auto replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u);
      row[j] = std::min({replaced, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

Result<YamlNode> parse_yaml(std::string_view text, std::uint64_t bytes_max) {
  if (text.size() > bytes_max)
    return fail(ErrorCode::kOutOfRange, "larger than " + std::to_string(bytes_max) + " bytes");
  if (!is_utf8(text)) return fail(ErrorCode::kInvalidArgument, "not UTF-8 text");
  if (text.find('\0') != std::string_view::npos)
    return fail(ErrorCode::kInvalidArgument, "holds zero bytes");
  return catch_to_result(ErrorCode::kInvalidArgument, [&]() -> Result<YamlNode> {
    try {
      std::istringstream in{std::string(text)};
      YAML::Parser parser(in);
      TreeBuilder builder;
      if (!parser.HandleNextDocument(builder)) return YamlNode{};
      TreeBuilder rest;
      if (parser.HandleNextDocument(rest))
        return fail(ErrorCode::kInvalidArgument, "more than one document");
      return builder.take();
    } catch (const YAML::Exception& e) {
      return fail(ErrorCode::kInvalidArgument,
                  "line " + std::to_string(e.mark.line + 1) + ": " + e.msg);
    }
  });
}

void YamlErrors::add(int line, std::string_view field, std::string_view problem) {
  if (first_) return;
  std::string message = "line " + std::to_string(line) + ": ";
  message.append(field).append(field.empty() ? "" : ": ").append(problem);
  first_ = Error{ErrorCode::kInvalidArgument, std::move(message)};
}

Result<void> YamlErrors::result() const {
  if (first_) return std::unexpected(*first_);
  return {};
}

YamlFields::YamlFields(const YamlNode& node, std::string path, YamlErrors& errors)
    : node_(node), path_(std::move(path)), errors_(errors) {
  if (node.kind != YamlNode::Kind::kMap && node.kind != YamlNode::Kind::kNull)
    errors_.add(node.line, path_, "must be fields and their values (name: value)");
}

const YamlNode* YamlFields::find(std::string_view key) {
  known_.emplace_back(key);
  const auto found = std::ranges::find(node_.keys, key);
  if (found == node_.keys.end()) return nullptr;
  const auto& item = node_.items[static_cast<std::size_t>(found - node_.keys.begin())];
  return item.kind == YamlNode::Kind::kNull ? nullptr : &item;
}

void YamlFields::text(std::string_view key, std::string& value) {
  const auto* node = find(key);
  if (!node) return;
  if (node->kind != YamlNode::Kind::kScalar)
    return errors_.add(node->line, path_of(key), "must be a text");
  value = node->text;
}

void YamlFields::texts(std::string_view key, std::vector<std::string>& values) {
  const auto* node = find(key);
  if (!node) return;
  values.clear();
  if (node->kind == YamlNode::Kind::kScalar) values.push_back(node->text);
  if (node->kind == YamlNode::Kind::kMap)
    return errors_.add(node->line, path_of(key), "must be a list");
  for (const auto& item : node->items) {
    if (item.kind != YamlNode::Kind::kScalar)
      return errors_.add(item.line, path_of(key), "must be a list of texts");
    values.push_back(item.text);
  }
}

void YamlFields::numbers(std::string_view key, std::vector<double>& values, double min,
                         double max) {
  if (const auto* node = find(key)) values = read_numbers(*node, path_of(key), min, max, errors_);
}

void YamlFields::finish() {
  for (std::size_t i = 0; i < node_.keys.size(); ++i) {
    const auto& key = node_.keys[i];
    if (std::ranges::find(known_, key) != known_.end()) continue;
    const auto nearest = nearest_name(key, known_);
    std::vector<std::string_view> names(known_.begin(), known_.end());
    std::ranges::sort(names);
    errors_.add(node_.items[i].line, path_of(key),
                nearest ? "unknown field; did you mean '" + std::string(*nearest) + "'?"
                        : "unknown field; known here: " + joined(names));
  }
}

std::string YamlFields::path_of(std::string_view key) const {
  return (path_.empty() ? "" : path_ + ".") + std::string(key);
}

void YamlFields::fail_at(std::string_view key, std::string_view problem) {
  const auto* node = find(key);
  errors_.add(node ? node->line : node_.line, path_of(key), problem);
}

std::optional<double> YamlFields::number_at(std::string_view key, double min, double max,
                                            bool whole) {
  const auto* node = find(key);
  return node ? number_of(*node, path_of(key), min, max, whole, errors_) : std::nullopt;
}

std::optional<std::size_t> YamlFields::choice_at(std::string_view key,
                                                 std::vector<std::string_view> names) {
  const auto* node = find(key);
  if (!node) return std::nullopt;
  const auto found = node->kind == YamlNode::Kind::kScalar
                         ? std::ranges::find(names, std::string_view(node->text))
                         : names.end();
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  errors_.add(node->line, path_of(key), "must be one of: " + joined(names));
  return std::nullopt;
}

std::vector<double> read_numbers(const YamlNode& node, const std::string& path, double min,
                                 double max, YamlErrors& errors) {
  const bool list = node.kind == YamlNode::Kind::kList;
  std::vector<double> values;
  for (const auto& item : list ? std::span(node.items) : std::span(&node, 1)) {
    const auto value = number_of(item, path, min, max, false, errors);
    if (!value) break;
    values.push_back(*value);
  }
  return values;
}

std::optional<std::string_view> nearest_name(std::string_view name,
                                             const std::vector<std::string>& known) {
  constexpr std::size_t kNameBytesMax = 64;  // Longer words are no typing mistakes.
  if (name.size() > kNameBytesMax) return std::nullopt;
  std::optional<std::string_view> nearest;
  auto distance_least = std::max<std::size_t>(1, name.size() / 3) + 1;
  for (const auto& candidate : known) {
    if (const auto distance = edit_distance(name, candidate); distance < distance_least) {
      distance_least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace selvage::infer
