#include <set>

#include "infer/card_sections.h"

namespace selvage::infer {
namespace {

constexpr double kValueMax = 1e9;  // Of scales, means and the like: far beyond any sensible one.
constexpr double kScaleMin = 1e-9;

void read_per_channel(YamlFields& fields, std::string_view key, double min,
                      std::array<float, 3>& channels) {
  if (!fields.find(key)) return;
  std::vector<double> values;
  fields.numbers(key, values, min, kValueMax);
  if (values.size() != 1 && values.size() != channels.size())
    return fields.fail_at(key, "must be one number or three");
  for (std::size_t c = 0; c < channels.size(); ++c)
    channels[c] = static_cast<float>(values[values.size() == 1 ? 0 : c]);
}

ImageInput read_image(YamlFields& fields) {
  ImageInput image;
  auto& transform = image.transform;
  fields.number("width", image.width, 1, kImageSideMax);
  fields.number("height", image.height, 1, kImageSideMax);
  fields.number("multiple_of", image.multiple_of, 1, 1024);
  fields.number("max_side", image.max_side, 1, kImageSideMax);
  fields.number("min_width", image.min_width, 1, kImageSideMax);
  fields.number("max_width", image.max_width, 1, kImageSideMax);
  if (image.min_width > image.max_width) fields.fail_at("min_width", "is above max_width");
  fields.choice("fit", transform.fit,
                {{"stretch", media::Fit::kStretch},
                 {"letterbox", media::Fit::kLetterbox},
                 {"letterbox-top-left", media::Fit::kLetterboxTopLeft},
                 {"cover", media::Fit::kCover}});
  fields.number("cover_fraction", transform.cover_fraction, 0.01, 1);
  fields.choice("filter", transform.filter,
                {{"nearest", media::Filter::kNearest},
                 {"bilinear", media::Filter::kBilinear},
                 {"antialias", media::Filter::kAntialias}});
  fields.choice("colours", transform.colour,
                {{"rgb", media::ColourOrder::kRgb},
                 {"bgr", media::ColourOrder::kBgr},
                 {"gray", media::ColourOrder::kGray}});
  fields.choice("layout", image.layout,
                {{"nchw", media::Layout::kNchw}, {"nhwc", media::Layout::kNhwc}});
  fields.number("pad_value", transform.pad_value, 0, 255);
  fields.number("scale", transform.value_scale, kScaleMin, kValueMax);
  read_per_channel(fields, "mean", -kValueMax, transform.mean);
  read_per_channel(fields, "std", kScaleMin, transform.deviation);
  fields.number("fourth_channel", image.fourth_channel, -kValueMax, kValueMax);
  return image;
}

AudioInput read_audio(YamlFields& fields) {
  AudioInput audio;
  fields.number("rate", audio.rate, 100, 768'000);
  fields.number("window", audio.window, 1, kWindowSamplesMax);
  fields.number("context", audio.context, 0, kWindowSamplesMax);
  return audio;
}

Column read_column(const YamlNode& node, YamlErrors& errors) {
  Column column;
  YamlFields fields(node, "input.columns", errors);
  fields.text("name", column.name);
  if (column.name.empty()) fields.fail_at("name", "every column needs a name");
  fields.texts("categories", column.categories);
  fields.flag("one_hot", column.one_hot);
  if (column.one_hot && column.categories.empty()) fields.fail_at("one_hot", "needs categories");
  fields.number("mean", column.mean, -kValueMax, kValueMax);
  fields.number("std", column.deviation, kScaleMin, kValueMax);
  std::optional<double> min, max;
  fields.number("min", min, -kValueMax, kValueMax);
  fields.number("max", max, -kValueMax, kValueMax);
  if (min.has_value() != max.has_value() || (min && *min >= *max))
    fields.fail_at("min", "needs a max above it");
  else if (min && (fields.find("mean") || fields.find("std")))
    fields.fail_at("min", "a column has either min and max or mean and std");
  else if (min) {
    column.mean = *min;
    column.deviation = *max - *min;
  }
  fields.finish();
  return column;
}

TableInput read_table(YamlFields& fields, YamlErrors& errors) {
  TableInput table;
  const auto* columns = fields.find("columns");
  if (!columns) return table;
  if (columns->kind != YamlNode::Kind::kList) fields.fail_at("columns", "must be a list");
  std::set<std::string> names;
  for (const auto& item : columns->items) {
    table.columns.push_back(read_column(item, errors));
    if (!names.insert(table.columns.back().name).second)
      errors.add(item.line, "input.columns",
                 "'" + table.columns.back().name + "' stands here twice");
  }
  return table;
}

void read_state(YamlFields& fields, YamlErrors& errors, InputCard& input) {
  if (const auto* state = fields.find("state")) {
    YamlFields pairs(*state, "input.state", errors);
    for (const auto& name : state->keys) {
      pairs.text(name, input.state.emplace_back(name, "").output);
      if (input.state.back().output.empty())
        pairs.fail_at(name, "must name the output that feeds this input");
    }
  }
  if (const auto* constants = fields.find("constants")) {
    YamlFields values(*constants, "input.constants", errors);
    for (const auto& name : constants->keys) {
      auto& constant = input.constants.emplace_back(name);
      values.numbers(name, constant.values, -9e15, 9e15);
      if (constant.values.empty()) values.fail_at(name, "must be a number or a list of numbers");
    }
  }
}

}  // namespace

InputCard read_input_section(const YamlNode& node, YamlErrors& errors) {
  enum class Kind : std::uint8_t { kRaw, kImage, kAudio, kTable };
  InputCard input;
  YamlFields fields(node, "input", errors);
  Kind kind = Kind::kRaw;
  fields.choice("kind", kind,
                {{"raw", Kind::kRaw},
                 {"image", Kind::kImage},
                 {"audio", Kind::kAudio},
                 {"table", Kind::kTable}});
  switch (kind) {
    case Kind::kRaw: break;
    case Kind::kImage: {
      auto image = read_image(fields);
      fields.text("tensor", image.tensor);
      input.kind = std::move(image);
      break;
    }
    case Kind::kAudio: {
      auto audio = read_audio(fields);
      fields.text("tensor", audio.tensor);
      input.kind = std::move(audio);
      break;
    }
    case Kind::kTable: {
      auto table = read_table(fields, errors);
      fields.text("tensor", table.tensor);
      input.kind = std::move(table);
      break;
    }
  }
  read_state(fields, errors, input);
  fields.finish();
  return input;
}

}  // namespace selvage::infer
