// Other names for values, where subgraphs read them too. Internal to this folder.
#pragma once

#include <string>
#include <unordered_map>

namespace selvage::onnx {
class GraphProto;
class NodeProto;
}  // namespace selvage::onnx

namespace selvage::graph {

class Index;

using Renames = std::unordered_map<std::string, std::string>;

/// In what the node reads and makes, and in what its subgraphs read from outside; what a subgraph
/// defines under such a name is something else and stays.
void rename_values(onnx::NodeProto& node, const Renames& renames);
/// The same for all of a graph; what it and its subgraphs define and `renames` does not name gets a
/// name from `names.fresh_name()`.
void rename_definitions(onnx::GraphProto& graph, Renames renames, Index& names);

}  // namespace selvage::graph
