#include "compress/channels.h"

#include <cstring>
#include <map>
#include <unordered_set>

#include <selvage/onnx.pb.h>

#include "compress/channel_state.h"
#include "graph/erase.h"
#include "graph/names.h"
#include "graph/opset.h"
#include "graph/tensor.h"
#include "graph/values.h"

namespace selvage::compress {
namespace {

/// Elements narrower than a byte cannot be cut between.
bool is_cuttable(const onnx::TensorProto& tensor) {
  return graph::bits_of_stored(tensor) >= 8;
}

class Analysis {
 public:
  Analysis(const graph::Model& model, const graph::ShapeMap& shapes)
      : model_(model), graph_(model.proto().graph()), index_(graph_), shapes_(shapes) {}

  Result<std::unique_ptr<Channels::State>> run() {
    SELVAGE_RETURN_IF_ERROR(declare());
    const RuleGraph rules{graph_, index_, model_.folder(), graph::opset_of(model_)};
    for (int i = 0; i < graph_.node_size(); ++i) tie_node(rules, i, state_->ties);
    freeze_ends();
    form_groups();
    list_frozen();
    return std::move(state_);
  }

 private:
  Result<void> declare();
  void freeze_ends();
  void form_groups();
  void list_frozen();
  std::vector<std::size_t> removable_roots();
  void place_slices();

  const graph::Model& model_;
  const onnx::GraphProto& graph_;
  const graph::Index index_;
  const graph::ShapeMap& shapes_;
  std::unique_ptr<Channels::State> state_ = std::make_unique<Channels::State>();
};

Result<void> Analysis::declare() {
  auto& atoms = state_->ties.atoms;
  for (const auto& tensor : graph_.initializer()) {
    SELVAGE_RETURN_IF_ERROR(atoms.declare(tensor.name(), graph::shape_of(tensor)));
    if (!is_cuttable(tensor)) atoms.freeze(tensor.name(), "is stored in parts of bytes");
  }
  const auto declare_value = [&](const std::string& name) -> Result<void> {
    // The runtime shows an open rank as it shows a scalar: nothing is known of either.
    const auto found = shapes_.find(name);
    return found == shapes_.end() || found->second.empty() ? Result<void>()
                                                           : atoms.declare(name, found->second);
  };
  for (const auto& input : graph_.input()) SELVAGE_RETURN_IF_ERROR(declare_value(input.name()));
  for (const auto& node : graph_.node())
    for (const auto& name : node.output())
      if (!name.empty()) SELVAGE_RETURN_IF_ERROR(declare_value(name));
  return {};
}

void Analysis::freeze_ends() {
  auto& atoms = state_->ties.atoms;
  for (const auto& output : graph_.output())
    atoms.freeze(output.name(), "reaches the output " + graph::quote(output.name()));
  for (const auto& input : graph_.input())
    atoms.freeze(input.name(), "comes from the input " + graph::quote(input.name()));
}

/// Sets that no reason freezes, that a weight makes and that a sum ends.
std::vector<std::size_t> Analysis::removable_roots() {
  const auto& ties = state_->ties;
  std::unordered_set<std::size_t> made, ended;
  const auto collect = [&](const WeightAxis& axis, std::unordered_set<std::size_t>& roots) {
    const auto& atoms = (*ties.atoms.find(
        graph_.initializer(axis.first).name()))[static_cast<std::size_t>(axis.second)];
    for (std::int64_t i = 0; i < atoms.size; ++i) roots.insert(ties.atoms.root(atoms.atom(i)));
  };
  for (const auto& maker : ties.makers) collect(maker.axis, made);
  for (const auto& axis : ties.contracted) collect(axis, ended);
  std::vector<std::size_t> roots;
  for (const auto root : made)
    if (ended.contains(root) && !ties.atoms.is_frozen(root)) roots.push_back(root);
  std::ranges::sort(roots);
  return roots;
}

/// Sets that lie on the same axes are one group; a hash over the axes stands for them.
void Analysis::form_groups() {
  const auto& ties = state_->ties;
  struct Signature {
    std::uint64_t hash = 0;
    std::uint64_t last_axis = 0;
  };
  std::unordered_map<std::size_t, Signature> signatures;
  for (const auto root : removable_roots()) signatures.emplace(root, Signature());
  std::uint64_t axis_number = 0;
  const auto sign = [&](const std::string& name) {
    const auto* axes = ties.atoms.find(name);
    if (axes == nullptr) return;
    for (const auto& axis : *axes) {
      ++axis_number;
      for (std::int64_t i = 0; i < axis.size; ++i) {
        const auto found = signatures.find(ties.atoms.root(axis.atom(i)));
        if (found == signatures.end() || found->second.last_axis == axis_number) continue;
        found->second.last_axis = axis_number;
        found->second.hash = (found->second.hash ^ axis_number) * 0x9E37'79B9'7F4A'7C15;
      }
    }
  };
  for (const auto& tensor : graph_.initializer()) sign(tensor.name());
  for (const auto& node : graph_.node())
    for (const auto& name : node.output()) sign(name);

  // Groups and channels in the order in which weights make them.
  state_->places.assign(ties.atoms.size(), {});
  std::map<std::uint64_t, std::int32_t> group_of;
  std::unordered_map<std::size_t, Channels::State::Place> place_of;
  for (const auto& maker : ties.makers) {
    const auto& axis = (*ties.atoms.find(
        graph_.initializer(maker.axis.first).name()))[static_cast<std::size_t>(maker.axis.second)];
    std::unordered_map<std::size_t, std::int64_t> widths;
    for (std::int64_t i = 0; i < axis.size; ++i) {
      const auto root = ties.atoms.root(axis.atom(i));
      const auto signature = signatures.find(root);
      if (signature == signatures.end()) continue;
      const auto [group, is_new] = group_of.try_emplace(
          signature->second.hash, static_cast<std::int32_t>(state_->groups.size()));
      if (is_new) {
        const auto& node = graph_.node(maker.node);
        state_->groups.push_back(
            {.name = node.name().empty() ? node.output(0) : node.name(), .channels = {}});
      }
      auto& found = state_->groups[static_cast<std::size_t>(group->second)];
      const auto channel = static_cast<std::int32_t>(found.channels.size());
      if (place_of.try_emplace(root, Channels::State::Place{group->second, channel}).second)
        found.channels.emplace_back();
      found.width = std::max(found.width, ++widths[root]);
    }
  }
  for (std::size_t atom = 0; atom < ties.atoms.size(); ++atom)
    if (const auto found = place_of.find(ties.atoms.root(atom)); found != place_of.end())
      state_->places[atom] = found->second;
  place_slices();
}

void Analysis::place_slices() {
  for (int t = 0; t < graph_.initializer_size(); ++t) {
    const auto& axes = *state_->ties.atoms.find(graph_.initializer(t).name());
    for (std::size_t a = 0; a < axes.size(); ++a) {
      for (std::int64_t i = 0; i < axes[a].size; ++i) {
        const auto place = state_->places[axes[a].atom(i)];
        if (place.group < 0) continue;
        state_->groups[static_cast<std::size_t>(place.group)]
            .channels[static_cast<std::size_t>(place.channel)]
            .slices.push_back({.tensor = t, .axis = static_cast<int>(a), .index = i});
      }
    }
  }
}

void Analysis::list_frozen() {
  const auto& ties = state_->ties;
  for (const auto& maker : ties.makers) {
    const auto& axis = (*ties.atoms.find(
        graph_.initializer(maker.axis.first).name()))[static_cast<std::size_t>(maker.axis.second)];
    FrozenChannels frozen;
    for (std::int64_t i = 0; i < axis.size; ++i) {
      if (state_->places[axis.atom(i)].group >= 0) continue;
      if (frozen.channels++ == 0) frozen.reason = ties.atoms.reason(axis.atom(i));
    }
    if (frozen.channels == 0) continue;
    const auto& node = graph_.node(maker.node);
    frozen.name = node.name().empty() ? node.output(0) : node.name();
    if (frozen.reason.empty()) frozen.reason = "no weighted sum ends them";
    state_->frozen.push_back(std::move(frozen));
  }
}

/// `bytes` of a tensor with only the indices `kept` of one axis.
std::string cut(std::string_view bytes, const Shape& shape, std::size_t axis,
                std::span<const std::int64_t> kept, std::size_t element_bytes) {
  std::size_t outer = 1, inner = element_bytes;
  for (std::size_t i = 0; i < axis; ++i) outer *= static_cast<std::size_t>(shape[i]);
  for (std::size_t i = axis + 1; i < shape.size(); ++i) inner *= static_cast<std::size_t>(shape[i]);
  const auto row = static_cast<std::size_t>(shape[axis]) * inner;
  std::string result;
  result.reserve(outer * kept.size() * inner);
  for (std::size_t o = 0; o < outer; ++o)
    for (const auto index : kept)
      result.append(bytes.substr(o * row + static_cast<std::size_t>(index) * inner, inner));
  return result;
}

Result<void> check_removal(const Channels::State& state, const Removal& removal) {
  const bool fits = removal.size() == state.groups.size() &&
                    std::ranges::equal(removal, state.groups, [](const auto& r, const auto& g) {
                      return r.size() == g.channels.size();
                    });
  if (!fits) return fail(ErrorCode::kInvalidArgument, "the removal belongs to another analysis");
  for (const auto& [name, axes] : state.ties.atoms.tensors())
    for (const auto& axis : axes)
      if (axis.size > 0 && state.count_kept(axis, removal) == 0)
        return fail(ErrorCode::kInvalidArgument,
                    "nothing would be left of an axis of '" + name + "': keep a channel of it");
  return {};
}

/// The tensor without the channels that go; nothing if none does.
Result<std::optional<onnx::TensorProto>> cut_tensor(const onnx::TensorProto& tensor,
                                                    const std::filesystem::path& folder,
                                                    const Channels::State& state,
                                                    const Removal& removal) {
  auto shape = graph::shape_of(tensor);
  const auto& axes = *state.ties.atoms.find(tensor.name());
  std::optional<std::string> bytes;
  for (std::size_t a = 0; a < axes.size(); ++a) {
    const auto kept = state.kept(axes[a], removal);
    if (static_cast<std::int64_t>(kept.size()) == axes[a].size) continue;
    const auto element_bytes = graph::bits_of_stored(tensor) / 8;
    if (!bytes) {
      SELVAGE_TRY(const auto data, graph::TensorData::open(tensor, folder));
      const auto all = data.view().bytes;
      bytes = cut({reinterpret_cast<const char*>(all.data()), all.size()}, shape, a, kept,
                  element_bytes);
    } else {
      bytes = cut(*bytes, shape, a, kept, element_bytes);
    }
    shape[a] = static_cast<std::int64_t>(kept.size());
  }
  if (!bytes) return std::nullopt;
  onnx::TensorProto smaller;
  smaller.set_name(tensor.name());
  if (tensor.has_doc_string()) smaller.set_doc_string(tensor.doc_string());
  *smaller.mutable_metadata_props() = tensor.metadata_props();
  smaller.set_data_type(tensor.data_type());
  smaller.mutable_dims()->Add(shape.begin(), shape.end());
  smaller.set_raw_data(*std::move(bytes));
  return smaller;
}

void declare_smaller(onnx::ValueInfoProto& value, const Channels::State& state,
                     const Removal& removal) {
  const auto* axes = state.ties.atoms.find(value.name());
  if (axes == nullptr || !value.type().has_tensor_type()) return;
  auto& shape = *value.mutable_type()->mutable_tensor_type()->mutable_shape();
  for (int i = 0; i < shape.dim_size() && i < static_cast<int>(axes->size()); ++i)
    if (const auto& axis = (*axes)[static_cast<std::size_t>(i)];
        shape.dim(i).has_dim_value() && !axis.is_open())
      shape.mutable_dim(i)->set_dim_value(state.count_kept(axis, removal));
}

}  // namespace

Channels::Channels(std::unique_ptr<State> state) : state_(std::move(state)) {}
Channels::Channels(Channels&&) noexcept = default;
Channels& Channels::operator=(Channels&&) noexcept = default;
Channels::~Channels() = default;

Result<Channels> Channels::analyse(const graph::Model& model, const graph::ShapeMap& shapes) {
  SELVAGE_TRY(auto state, Analysis(model, shapes).run());
  return Channels(std::move(state));
}

std::span<const ChannelGroup> Channels::groups() const {
  return state_->groups;
}

std::span<const FrozenChannels> Channels::frozen() const {
  return state_->frozen;
}

Removal Channels::none() const {
  Removal removal;
  for (const auto& group : state_->groups) removal.emplace_back(group.channels.size(), false);
  return removal;
}

graph::ShapeMap Channels::shapes_after(const Removal& removal) const {
  graph::ShapeMap shapes;
  for (const auto& [name, axes] : state_->ties.atoms.tensors()) {
    auto& shape = shapes[name];
    for (const auto& axis : axes)
      shape.push_back(axis.is_open() ? -1 : state_->count_kept(axis, removal));
  }
  return shapes;
}

Result<void> Channels::remove(graph::Model& model, const Removal& removal) const {
  SELVAGE_RETURN_IF_ERROR(check_removal(*state_, removal));
  auto& graph = *model.proto().mutable_graph();
  std::vector<std::pair<int, onnx::TensorProto>> smaller;
  for (int t = 0; t < graph.initializer_size(); ++t) {
    SELVAGE_TRY(auto tensor, cut_tensor(graph.initializer(t), model.folder(), *state_, removal));
    if (tensor) smaller.emplace_back(t, *std::move(tensor));
  }
  for (auto& [t, tensor] : smaller) graph.mutable_initializer(t)->Swap(&tensor);
  restate_sizes(graph, model.folder(), graph::opset_of(model), *state_, removal);
  for (auto& value : *graph.mutable_value_info()) declare_smaller(value, *state_, removal);
  return {};
}

Result<void> Channels::mask(graph::Model& model, const Removal& removal) const {
  SELVAGE_RETURN_IF_ERROR(check_removal(*state_, removal));
  auto& graph = *model.proto().mutable_graph();
  for (const auto& [t, axis] : state_->ties.contracted) {
    auto& tensor = *graph.mutable_initializer(t);
    const auto shape = graph::shape_of(tensor);
    const auto& atoms = (*state_->ties.atoms.find(tensor.name()))[static_cast<std::size_t>(axis)];
    if (state_->count_kept(atoms, removal) == atoms.size) continue;
    const auto element_bytes = graph::bits_of_stored(tensor) / 8;
    SELVAGE_TRY(const auto bytes, graph::edit_bytes(tensor, model.folder()));
    if (bytes.empty()) continue;
    std::size_t inner = element_bytes;
    for (std::size_t i = static_cast<std::size_t>(axis) + 1; i < shape.size(); ++i)
      inner *= static_cast<std::size_t>(shape[i]);
    const auto rows = bytes.size() / inner;
    for (std::size_t row = 0; row < rows; ++row)
      if (state_->goes(atoms.atom(static_cast<std::int64_t>(row) % atoms.size), removal))
        std::memset(bytes.data() + row * inner, 0, inner);
  }
  return {};
}

}  // namespace selvage::compress
