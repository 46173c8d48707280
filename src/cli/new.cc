// `selvage new`: a small network to begin with.
#include <algorithm>
#include <charconv>
#include <optional>

#include <CLI/CLI.hpp>

#include "base/json_writer.h"
#include "cli/command.h"
#include "cli/options.h"
#include "graph/summary.h"
#include "learn/architecture.h"

namespace selvage::cli {
namespace {

struct NewFlags {
  std::string architecture, out, input;
  std::optional<std::int64_t> classes;
  std::uint64_t seed = 0;
};

/// "1x28x28".
Result<Shape> parse_shape(std::string_view text) {
  Shape shape;
  const auto* at = text.data();
  const auto* const end = at + text.size();
  while (true) {
    std::int64_t size = 0;
    const auto [next, error] = std::from_chars(at, end, size);
    if (error != std::errc() || size < 1 || (next != end && *next != 'x'))
      return fail(ErrorCode::kInvalidArgument, "--input " + std::string(text) +
                                                   ": sizes are whole numbers with x between, such "
                                                   "as 1x28x28");
    shape.push_back(size);
    if (next == end) return shape;
    at = next + 1;
  }
}

Result<void> make(const NewFlags& flags, Output& output) {
  SELVAGE_TRY(const auto shape, parse_shape(flags.input));
  learn::ArchitectureOptions options{.input = shape, .seed = flags.seed};
  const auto has_classes =
      std::ranges::find(learn::architectures(), flags.architecture, &learn::ArchitectureInfo::name)
          ->has_classes;
  if (flags.classes && !has_classes)
    return fail(ErrorCode::kInvalidArgument,
                "--classes: " + flags.architecture + " gives back what goes in, and has none");
  if (flags.classes) options.classes = *flags.classes;
  SELVAGE_TRY(auto model, learn::make_architecture(flags.architecture, options));
  SELVAGE_RETURN_IF_ERROR(model.save(flags.out));
  const auto summary = graph::summarise(model);
  if (!output.json()) {
    output.print(flags.out + " is a new " + flags.architecture + " for inputs of " + flags.input +
                 " with " + format_count(summary.parameter_count) + " parameters\n");
    return {};
  }
  JsonWriter json;
  json.begin_object().field("out", flags.out).field("architecture", flags.architecture);
  json.list("input", shape);
  if (has_classes) json.field("classes", options.classes);
  json.field("seed", flags.seed);
  json.field("parameters", summary.parameter_count).field("nodes", summary.nodes);
  output.print(json.end_object().text() + "\n");
  return {};
}

std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const auto& one : learn::architectures()) names.emplace_back(one.name);
  return names;
}

std::string architecture_help() {
  std::string text;
  for (const auto& one : learn::architectures())
    text += std::string(text.empty() ? "" : "; ") + std::string(one.name) + " (" +
            std::string(one.input) + "): " + std::string(one.summary);
  return text;
}

Action add(CLI::App& app) {
  auto flags = std::make_shared<NewFlags>();
  app.add_option("ARCH", flags->architecture, architecture_help())
      ->required()
      ->check(one_of(names()));
  app.add_option("OUT", flags->out, "Where the model goes")->required();
  app.add_option("--input", flags->input, "Size of a sample, such as 1x28x28")
      ->required()
      ->type_name("AxBx...");
  app.add_option("--classes", flags->classes, "Outputs of the last layer (10)")
      ->type_name("N")
      ->check(whole_in_range(1, learn::kClassesMax));
  app.add_option("--seed", flags->seed, "Decides the initial weights (0)")
      ->type_name("N")
      ->check(whole_in_range(0, kSeedMax));
  add_json_option(app);
  return [flags](Output& output) { return make(*flags, output); };
}

constexpr Command kCommand{
    .name = "new",
    .summary = "Make a small network to train",
    .description =
        "Writes an ONNX model with fresh weights, drawn as PyTorch draws them, and with PyTorch's "
        "parameter names. It takes batches of any size. Train it with `selvage train`.",
    .examples =
        "selvage new lenet5 start.onnx --input 1x28x28 --classes 10\n"
        "selvage new resnet20 start.onnx --input 3x32x32 --classes 5 --seed 7\n"
        "selvage new cnn1d start.onnx --input 1x360 --classes 2\n"
        "selvage new autoencoder start.onnx --input 6",
    .add = add};

}  // namespace

const Command& new_command() {
  return kCommand;
}

}  // namespace selvage::cli
