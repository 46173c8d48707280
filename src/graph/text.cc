#include "graph/text.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>

#include <selvage/onnx.pb.h>

#include "base/utf8.h"
#include "crypto/digest.h"
#include "graph/names.h"
#include "graph/tensor.h"

namespace selvage::graph {
namespace {

using google::protobuf::RepeatedPtrField;

/// Numbers as their shortest form that reads back the same.
template <typename T>
std::string number(T value) {
  char text[40];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  return {text, end};
}

/// "..." with escapes, whatever the bytes.
std::string literal(std::string_view text) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "\"";
  const bool is_text = is_utf8(text);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      (out += '\\') += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !is_text)) {
      ((out += "\\x") += kDigits[byte >> 4]) += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

template <typename Range, typename Format>
std::string joined(const Range& range, Format format, std::string_view separator = ", ") {
  std::string out;
  bool is_first = true;
  for (const auto& element : range) {
    if (!is_first) out += separator;
    is_first = false;
    out += format(element);
  }
  return out;
}

template <typename T>
std::string numbers(std::span<const std::byte> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i)  // Raw data may be unaligned.
    std::memcpy(&values[i], bytes.data() + i * sizeof(T), sizeof(T));
  return "[" + joined(values, [](T value) { return number(value); }) + "]";
}

/// The values of a small tensor; empty for types that have no short form.
std::string values_of(const TensorView& view) {
  switch (view.type) {
    case DataType::kFloat32: return numbers<float>(view.bytes);
    case DataType::kFloat64: return numbers<double>(view.bytes);
    case DataType::kInt8: return numbers<std::int8_t>(view.bytes);
    case DataType::kInt16: return numbers<std::int16_t>(view.bytes);
    case DataType::kInt32: return numbers<std::int32_t>(view.bytes);
    case DataType::kInt64: return numbers<std::int64_t>(view.bytes);
    case DataType::kBool:
    case DataType::kUint8: return numbers<std::uint8_t>(view.bytes);
    case DataType::kUint16: return numbers<std::uint16_t>(view.bytes);
    case DataType::kUint32: return numbers<std::uint32_t>(view.bytes);
    case DataType::kUint64: return numbers<std::uint64_t>(view.bytes);
    case DataType::kString: return "[" + joined(view.strings, literal) + "]";
    default: return {};
  }
}

class Writer {
 public:
  explicit Writer(const Model& model) : model_(model.proto()), folder_(model.folder()) {}

  std::string run();

 private:
  void line(const std::string& text) { out_.append(indent_, ' ').append(text).push_back('\n'); }
  void graph_body(const onnx::GraphProto& graph);
  void node(const onnx::NodeProto& node);
  std::string attribute(const onnx::AttributeProto& attribute);
  std::string graph(const onnx::GraphProto& graph);
  std::string tensor(const onnx::TensorProto& tensor) const;
  std::string sparse(const onnx::SparseTensorProto& tensor) const;
  static std::string type(const onnx::TypeProto& type);
  static std::string shape(const onnx::TensorShapeProto& shape);
  static std::string opsets(const RepeatedPtrField<onnx::OperatorSetIdProto>& imports);

  const onnx::ModelProto& model_;
  const std::filesystem::path& folder_;
  std::string out_;
  std::size_t indent_ = 0;
};

std::string data_type_name(int number) {
  const bool is_known = number > 0 && number <= static_cast<int>(DataType::kFloat4E2M1);
  return is_known ? std::string(to_string(static_cast<DataType>(number)))
                  : "type" + std::to_string(number);
}

std::string Writer::shape(const onnx::TensorShapeProto& shape) {
  return "[" +
         joined(
             shape.dim(),
             [](const auto& dimension) {
               if (dimension.has_dim_value()) return number(dimension.dim_value());
               return dimension.dim_param().empty() ? std::string("?") : dimension.dim_param();
             },
             ",") +
         "]";
}

std::string Writer::type(const onnx::TypeProto& type) {
  switch (type.value_case()) {
    case onnx::TypeProto::kTensorType:
      return data_type_name(type.tensor_type().elem_type()) +
             (type.tensor_type().has_shape() ? shape(type.tensor_type().shape()) : "");
    case onnx::TypeProto::kSparseTensorType:
      return "sparse(" + data_type_name(type.sparse_tensor_type().elem_type()) +
             (type.sparse_tensor_type().has_shape() ? shape(type.sparse_tensor_type().shape())
                                                    : "") +
             ")";
    case onnx::TypeProto::kSequenceType:
      return "sequence(" + Writer::type(type.sequence_type().elem_type()) + ")";
    case onnx::TypeProto::kOptionalType:
      return "optional(" + Writer::type(type.optional_type().elem_type()) + ")";
    case onnx::TypeProto::kMapType:
      return "map(" + data_type_name(type.map_type().key_type()) + ", " +
             Writer::type(type.map_type().value_type()) + ")";
    case onnx::TypeProto::VALUE_NOT_SET: break;
  }
  return "?";
}

std::string Writer::tensor(const onnx::TensorProto& tensor) const {
  std::string text = data_type_name(tensor.data_type()) + "[" +
                     joined(tensor.dims(), number<std::int64_t>, ",") + "]";
  const auto data = TensorData::open(tensor, folder_);
  if (!data) return text + " damaged";
  const auto& view = data->view();
  const auto elements = static_cast<std::uint64_t>(element_count(view.shape).value_or(0));
  if (elements <= kTextElementsMax) {
    if (const auto values = values_of(view); !values.empty()) return text + " = " + values;
  }
  crypto::Sha256 hash;
  hash.update(view.bytes);
  for (const auto& element : view.strings) hash.update(literal(element));
  return text + " sha256:" + hash.finish().hex().substr(0, 16);
}

std::string Writer::sparse(const onnx::SparseTensorProto& sparse) const {
  return "sparse [" + joined(sparse.dims(), number<std::int64_t>, ",") + "] values " +
         tensor(sparse.values()) + " indices " + tensor(sparse.indices());
}

std::string Writer::graph(const onnx::GraphProto& graph) {
  // The subgraph's lines stand inside the node's, so they are written aside.
  std::string outside = std::exchange(out_, {});
  indent_ += 2;
  graph_body(graph);
  indent_ -= 2;
  std::string body = std::exchange(out_, std::move(outside));
  return "graph " + literal(graph.name()) + " {\n" + body + std::string(indent_, ' ') + "}";
}

std::string Writer::attribute(const onnx::AttributeProto& attribute) {
  const auto list = [](const auto& values, auto format) {
    return "[" + joined(values, format) + "]";
  };
  if (!attribute.ref_attr_name().empty()) return "@" + attribute.ref_attr_name();
  switch (attribute.type()) {
    case onnx::AttributeProto::FLOAT: return number(attribute.f());
    case onnx::AttributeProto::INT: return number(attribute.i());
    case onnx::AttributeProto::STRING: return literal(attribute.s());
    case onnx::AttributeProto::TENSOR: return tensor(attribute.t());
    case onnx::AttributeProto::GRAPH: return graph(attribute.g());
    case onnx::AttributeProto::SPARSE_TENSOR: return sparse(attribute.sparse_tensor());
    case onnx::AttributeProto::TYPE_PROTO: return type(attribute.tp());
    case onnx::AttributeProto::FLOATS: return list(attribute.floats(), number<float>);
    case onnx::AttributeProto::INTS: return list(attribute.ints(), number<std::int64_t>);
    case onnx::AttributeProto::STRINGS: return list(attribute.strings(), literal);
    case onnx::AttributeProto::TENSORS:
      return list(attribute.tensors(), [this](const auto& value) { return tensor(value); });
    case onnx::AttributeProto::GRAPHS:
      return list(attribute.graphs(), [this](const auto& value) { return graph(value); });
    case onnx::AttributeProto::SPARSE_TENSORS:
      return list(attribute.sparse_tensors(), [this](const auto& value) { return sparse(value); });
    case onnx::AttributeProto::TYPE_PROTOS: return list(attribute.type_protos(), type);
    case onnx::AttributeProto::UNDEFINED: break;
  }
  return "?";
}

void Writer::node(const onnx::NodeProto& node) {
  const auto name = [](const std::string& value) { return value.empty() ? "_" : value; };
  std::string text = joined(node.output(), name) + " = ";
  if (!canonical_domain(node.domain()).empty()) text += node.domain() + ".";
  text += node.op_type() + "(" + joined(node.input(), name) + ")";
  std::multimap<std::string_view, const onnx::AttributeProto*> sorted;
  for (const auto& value : node.attribute()) sorted.emplace(value.name(), &value);
  if (!sorted.empty()) {
    text += " {" +
            joined(sorted,
                   [this](const auto& entry) {
                     return std::string(entry.first) + "=" + attribute(*entry.second);
                   }) +
            "}";
  }
  if (!node.name().empty()) text += "  # " + node.name();
  line(text);
}

void Writer::graph_body(const onnx::GraphProto& graph) {
  for (const auto& value : graph.input()) line("input " + value.name() + ": " + type(value.type()));
  for (const auto& value : graph.output())
    line("output " + value.name() + ": " + type(value.type()));
  for (const auto& value : graph.initializer()) line("init " + value.name() + ": " + tensor(value));
  for (const auto& value : graph.sparse_initializer())
    line("init " + value.values().name() + ": " + sparse(value));
  for (const auto& value : graph.node()) node(value);
}

std::string Writer::opsets(const RepeatedPtrField<onnx::OperatorSetIdProto>& imports) {
  return joined(imports, [](const auto& import) {
    const auto domain = canonical_domain(import.domain());
    return (domain.empty() ? "opset" : std::string(domain)) + " " + number(import.version());
  });
}

std::string Writer::run() {
  line("ir " + number(model_.ir_version()) + ", " + opsets(model_.opset_import()));
  if (!model_.producer_name().empty())
    line("producer " +
         literal(model_.producer_name() +
                 (model_.producer_version().empty() ? "" : " " + model_.producer_version())));
  for (const auto& entry : model_.metadata_props())
    line("metadata " + literal(entry.key()) + " = " + literal(entry.value()));
  line("graph " + literal(model_.graph().name()));
  indent_ = 2;
  graph_body(model_.graph());
  for (const auto& function : model_.functions()) {
    indent_ = 0;
    const auto name = [](const std::string& value) { return value; };
    line("function " + function.domain() + "." + function.name() + "(" +
         joined(function.input(), name) + ") -> (" + joined(function.output(), name) + "), " +
         opsets(function.opset_import()));
    indent_ = 2;
    for (const auto& value : function.node()) node(value);
  }
  return std::move(out_);
}

}  // namespace

std::string to_text(const Model& model) {
  return Writer(model).run();
}

}  // namespace selvage::graph
