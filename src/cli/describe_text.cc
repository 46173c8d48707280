#include <algorithm>
#include <cmath>
#include <map>

#include "base/utf8.h"
#include "cli/describe.h"
#include "infer/elements.h"

namespace selvage::cli {
namespace {

using infer::Class;

constexpr std::size_t kHeadlineWidth = 64;
constexpr std::size_t kRowsMax = 40;       // Of a table; the rest is counted.
constexpr std::size_t kTensorsValues = 8;  // The first elements of a tensor that are shown.

// Labels come from a model's files, texts from pictures: only their printable form is shown.

std::string name_of(const Class& found) {
  if (!found.label.empty()) return printable(found.label);
  return "class " + std::to_string(found.index);
}

std::string quoted(const std::string& text) {
  return "\"" + printable(text) + "\"";
}

/// "2 faces, 1 cat": most frequent first.
std::string count_labels(const std::vector<infer::Box>& boxes) {
  std::map<std::string, std::uint64_t> counts;
  for (const auto& box : boxes)
    ++counts[box.best.label.empty() ? "box" : printable(box.best.label)];
  std::vector<std::pair<std::string, std::uint64_t>> sorted(counts.begin(), counts.end());
  std::ranges::stable_sort(sorted, std::ranges::greater(),
                           &std::pair<std::string, std::uint64_t>::second);
  std::string text;
  for (const auto& [label, count] : sorted)
    text += (text.empty() ? "" : ", ") + format_plural(count, label);
  return text;
}

/// The first texts, as many as fit on a line.
std::string joined_texts(const std::vector<infer::TextRegion>& regions) {
  std::string text;
  std::size_t left_out = 0;
  for (const auto& region : regions) {
    if (region.text.empty()) continue;
    if (left_out > 0 ||
        (!text.empty() && display_width(text) + display_width(region.text) > kHeadlineWidth))
      ++left_out;
    else
      text += (text.empty() ? "" : ", ") + quoted(region.text);
  }
  return left_out == 0 ? text : text + " and " + std::to_string(left_out) + " more";
}

/// Shares of the picture by class, largest first.
std::vector<std::pair<std::string, double>> shares(const infer::Segmentation& found) {
  std::array<std::uint64_t, 256> counts{};
  for (const auto pixel : found.classes) ++counts[pixel];
  std::vector<std::pair<std::string, double>> result;
  for (std::size_t c = 0; c < counts.size(); ++c) {
    if (counts[c] == 0) continue;
    const std::string name =
        c < found.labels.size() ? printable(found.labels[c]) : "class " + std::to_string(c);
    result.emplace_back(name,
                        static_cast<double>(counts[c]) / static_cast<double>(found.classes.size()));
  }
  std::ranges::stable_sort(result, std::ranges::greater(), &std::pair<std::string, double>::second);
  return result;
}

struct Headline {
  std::string operator()(const infer::Classification& found) const {
    if (found.classes.empty()) return "no class above the threshold";
    return name_of(found.classes.front()) + " " + fixed(found.classes.front().score, 2);
  }
  std::string operator()(const infer::Boxes& found) const {
    return found.boxes.empty() ? "nothing found" : count_labels(found.boxes);
  }
  std::string operator()(const infer::TextRegions& found) const {
    if (found.regions.empty()) return "no text found";
    const auto texts = joined_texts(found.regions);
    return texts.empty() ? format_plural(found.regions.size(), "text region") : texts;
  }
  std::string operator()(const infer::Text& found) const {
    return found.text.empty() ? "no text" : quoted(found.text) + " " + fixed(found.confidence, 2);
  }
  std::string operator()(const infer::Segmentation& found) const {
    std::string text;
    for (const auto& [name, share] : shares(found))
      text += (text.empty() ? "" : ", ") + name + " " + fixed(share * 100, 1) + " %";
    return text;
  }
  std::string operator()(const infer::Anomaly& found) const {
    return std::string(found.anomalous ? "anomaly" : "normal") + ": score " +
           significant(found.score) + ", threshold " + significant(found.threshold);
  }
  std::string operator()(const infer::Embedding& found) const {
    double square = 0;
    for (const float value : found.values) square += double{value} * double{value};
    return "embedding of " + format_plural(found.values.size(), "value") + ", length " +
           significant(std::sqrt(square));
  }
  std::string operator()(const infer::Keypoints& found) const {
    return format_plural(found.points.size(), "point");
  }
  std::string operator()(const infer::Lines& found) const {
    return found.lines.empty() ? "no lines found" : format_plural(found.lines.size(), "line");
  }
  std::string operator()(const infer::Regression& found) const {
    std::string text;
    for (std::size_t i = 0; i < found.values.size(); ++i)
      text += (i == 0 ? "" : ", ") +
              (i < found.names.size() ? printable(found.names[i]) + " = " : "") +
              significant(found.values[i]);
    return text;
  }
  std::string operator()(const infer::Activity& found) const {
    double active = 0;
    for (const auto& segment : found.segments) active += segment.end_s - segment.start_s;
    const double length = found.frame_s * static_cast<double>(found.scores.size());
    if (found.segments.empty()) return "nothing heard in " + fixed(length, 1) + " s";
    return "active " + fixed(std::min(active, length), 1) + " s of " + fixed(length, 1) +
           " s, in " + format_plural(found.segments.size(), "part");
  }
  std::string operator()(const infer::RawTensors& found) const {
    return format_plural(found.tensors.size(), "output");
  }
};

/// The table's text, and how many rows were left out of it.
std::string limited(const Table& table, std::size_t rows, const Style& style) {
  std::string text = table.to_text(style, 4);
  if (rows > kRowsMax)
    text += "    ... and " + format_count(rows - kRowsMax) + " more (--json shows all)\n";
  return text;
}

std::string pixel(float value) {
  return fixed(value, 0);
}

// --- Tensors
// --------------------------------------------------------------------------------------

std::string first_strings(const Tensor& tensor) {
  std::string text;
  for (std::size_t i = 0; i < std::min(kTensorsValues, tensor.strings().size()); ++i)
    text += (i == 0 ? "" : ", ") + quoted(tensor.strings()[i]);
  return text + (tensor.strings().size() > kTensorsValues ? ", ..." : "");
}

std::vector<Cell> tensor_row(const std::string& name, const Tensor& tensor) {
  const std::string type(to_string(tensor.type()));
  const std::string shape = to_string(tensor.shape());
  if (tensor.type() == DataType::kString)
    return {name, type, shape, "", "", "", first_strings(tensor)};
  const auto numbers = infer::as_doubles(tensor.view()).value_or(std::vector<double>());
  if (numbers.empty()) return {name, type, shape, "", "", "", ""};
  double sum = 0;
  for (const double number : numbers) sum += number;
  const auto [smallest, largest] = std::ranges::minmax_element(numbers);
  std::string first;
  for (std::size_t i = 0; i < std::min(kTensorsValues, numbers.size()); ++i)
    first += (i == 0 ? "" : ", ") + significant(numbers[i]);
  if (numbers.size() > kTensorsValues) first += ", ...";
  return {name,
          type,
          shape,
          significant(*smallest),
          significant(sum / static_cast<double>(numbers.size())),
          significant(*largest),
          first};
}

// --------------------------------------------------------------------------------------------------

struct Details {
  const Style& style;

  std::string operator()(const infer::Classification& found) const {
    Table table({{"class"}, {"score", Align::kRight}});
    for (std::size_t i = 0; i < std::min(kRowsMax, found.classes.size()); ++i)
      table.add({name_of(found.classes[i]), fixed(found.classes[i].score, 3)});
    return found.classes.size() < 2 ? "" : limited(table, found.classes.size(), style);
  }

  std::string operator()(const infer::Boxes& found) const {
    Table table({{"what"},
                 {"score", Align::kRight},
                 {"left", Align::kRight},
                 {"top", Align::kRight},
                 {"right", Align::kRight},
                 {"bottom", Align::kRight},
                 {"more"}});
    for (std::size_t i = 0; i < std::min(kRowsMax, found.boxes.size()); ++i) {
      const auto& box = found.boxes[i];
      std::string more;
      for (const auto& detail : box.details)
        more += (more.empty() ? "" : ", ") + detail.step + ": " + name_of(detail.found) + " " +
                fixed(detail.found.score, 2);
      table.add({name_of(box.best), fixed(box.best.score, 2), pixel(box.left), pixel(box.top),
                 pixel(box.right), pixel(box.bottom), more});
    }
    return found.boxes.empty() ? "" : limited(table, found.boxes.size(), style);
  }

  std::string operator()(const infer::TextRegions& found) const {
    Table table({{"text"},
                 {"confidence", Align::kRight},
                 {"left", Align::kRight},
                 {"top", Align::kRight},
                 {"found with", Align::kRight}});
    for (std::size_t i = 0; i < std::min(kRowsMax, found.regions.size()); ++i) {
      const auto& region = found.regions[i];
      table.add({region.text, region.text.empty() ? "" : fixed(region.confidence, 2),
                 pixel(region.corners[0].x), pixel(region.corners[0].y), fixed(region.score, 2)});
    }
    return found.regions.empty() ? "" : limited(table, found.regions.size(), style);
  }

  std::string operator()(const infer::Keypoints& found) const {
    Table table({{"point"}, {"score", Align::kRight}, {"x", Align::kRight}, {"y", Align::kRight}});
    for (std::size_t i = 0; i < std::min(kRowsMax, found.points.size()); ++i) {
      const auto& point = found.points[i];
      table.add({point.label.empty() ? std::to_string(i) : point.label, fixed(point.score, 2),
                 pixel(point.point.x), pixel(point.point.y)});
    }
    return found.points.empty() ? "" : limited(table, found.points.size(), style);
  }

  std::string operator()(const infer::Lines& found) const {
    Table table({{"score", Align::kRight},
                 {"from x", Align::kRight},
                 {"y", Align::kRight},
                 {"to x", Align::kRight},
                 {"y", Align::kRight}});
    constexpr std::size_t kLinesMax = 10;  // Lines are looked at drawn, not as numbers.
    for (std::size_t i = 0; i < std::min(kLinesMax, found.lines.size()); ++i) {
      const auto& line = found.lines[i];
      table.add({fixed(line.score, 2), pixel(line.from.x), pixel(line.from.y), pixel(line.to.x),
                 pixel(line.to.y)});
    }
    if (found.lines.empty()) return "";
    std::string text = table.to_text(style, 4);
    if (found.lines.size() > kLinesMax)
      text += "    ... and " + format_count(found.lines.size() - kLinesMax) +
              " more (--json shows all, --draw draws them)\n";
    return text;
  }

  std::string operator()(const infer::Activity& found) const {
    Table table({{"from", Align::kRight}, {"to", Align::kRight}, {"score", Align::kRight}});
    for (std::size_t i = 0; i < std::min(kRowsMax, found.segments.size()); ++i) {
      const auto& segment = found.segments[i];
      table.add({fixed(segment.start_s, 2) + " s", fixed(segment.end_s, 2) + " s",
                 fixed(segment.score, 2)});
    }
    return found.segments.empty() ? "" : limited(table, found.segments.size(), style);
  }

  std::string operator()(const infer::RawTensors& found) const {
    Table table({{"output"},
                 {"type"},
                 {"shape"},
                 {"min", Align::kRight},
                 {"mean", Align::kRight},
                 {"max", Align::kRight},
                 {"first elements"}});
    for (std::size_t i = 0; i < std::min(kRowsMax, found.tensors.size()); ++i)
      table.add(tensor_row(found.names[i], found.tensors[i]));
    return limited(table, found.tensors.size(), style);
  }

  template <typename Other>
  std::string operator()(const Other&) const {
    return "";
  }
};

}  // namespace

std::string headline(const infer::Prediction& found) {
  return std::visit(Headline{}, found);
}

std::string details(const infer::Prediction& found, const Style& style) {
  return std::visit(Details{style}, found);
}

}  // namespace selvage::cli
