#include "cli/data_options.h"

#include <CLI/CLI.hpp>

namespace selvage::cli {

Result<std::unique_ptr<infer::Dataset>> DataFlags::open(const infer::Model& model, infer::Part part,
                                                        std::span<const std::string> outs) const {
  auto data = infer::Dataset::open(path, model, {.part = part, .label = label});
  if (!data) return std::unexpected(std::move(data).error().with_context(option));
  for (const auto& out : outs)
    if ((*data)->reads(out))
      return fail(ErrorCode::kInvalidArgument,
                  "'" + out + "' is one of the files of " + option + ": name another output");
  return data;
}

void add_data_options(CLI::App& app, DataFlags& flags) {
  app.add_option("--data", flags.path,
                 "A folder of pictures, sounds or arrays (one folder a class, or without labels), "
                 "IDX files, .npz, .npy or .csv")
      ->required()
      ->type_name("PATH");
  app.add_option("--label", flags.label,
                 "The label's column of a .csv or array of an .npz (label, class, target or y)")
      ->type_name("NAME");
}

void add_optional_data_options(CLI::App& app, DataFlags& flags) {
  add_data_options(app, flags);
  app.get_option("--data")->required(false);
  app.get_option("--label")->needs("--data");
}

}  // namespace selvage::cli
