// The sections of a model card, one function each: from YAML to the types of model_card.h.
// Private to model_card.cc.
#pragma once

#include <filesystem>

#include "infer/model_card.h"
#include "infer/yaml.h"

namespace selvage::infer {

// Problems go to `errors`; what is read then does not matter.
[[nodiscard]] SessionSettings read_session_section(const YamlNode& node, YamlErrors& errors);
[[nodiscard]] InputCard read_input_section(const YamlNode& node, YamlErrors& errors);
/// Label files are looked up in `folder`.
[[nodiscard]] OutputCard read_output_section(const YamlNode& node,
                                             const std::filesystem::path& folder,
                                             YamlErrors& errors);

}  // namespace selvage::infer
