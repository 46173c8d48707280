// Which initialisers are parameters. Internal to src/learn.
#pragma once

#include <string>
#include <vector>

#include "graph/model.h"

namespace selvage::onnx {
class TensorProto;
}

namespace selvage::learn {

/// A stored tensor by the name of its value: an initialiser or a Constant node's; null if none.
[[nodiscard]] const onnx::TensorProto* find_stored(const graph::Model& model,
                                                   const std::string& name);
[[nodiscard]] onnx::TensorProto* find_stored(graph::Model& model, const std::string& name);

}  // namespace selvage::learn
