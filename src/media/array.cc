#include "media/array.h"

#include <bit>
#include <charconv>
#include <cstring>

#include "base/exception.h"
#include "media/byte_reader.h"

namespace selvage::media {
namespace {

static_assert(std::endian::native == std::endian::little);

struct ElementType {
  ArrayElement element;
  std::string_view code;  // NumPy's kind and size.
  std::string_view name;
  std::size_t bytes;
  std::size_t swapped_bytes;  // What byte order is about: one half of a complex number.
};

constexpr ElementType kTypes[] = {
    {ArrayElement::kBool, "b1", "bool", 1, 1},
    {ArrayElement::kInt8, "i1", "int8", 1, 1},
    {ArrayElement::kInt16, "i2", "int16", 2, 2},
    {ArrayElement::kInt32, "i4", "int32", 4, 4},
    {ArrayElement::kInt64, "i8", "int64", 8, 8},
    {ArrayElement::kUint8, "u1", "uint8", 1, 1},
    {ArrayElement::kUint16, "u2", "uint16", 2, 2},
    {ArrayElement::kUint32, "u4", "uint32", 4, 4},
    {ArrayElement::kUint64, "u8", "uint64", 8, 8},
    {ArrayElement::kFloat16, "f2", "float16", 2, 2},
    {ArrayElement::kFloat32, "f4", "float32", 4, 4},
    {ArrayElement::kFloat64, "f8", "float64", 8, 8},
    {ArrayElement::kComplex64, "c8", "complex64", 8, 4},
    {ArrayElement::kComplex128, "c16", "complex128", 16, 8},
};

const ElementType& type_of(ArrayElement element) {
  return kTypes[static_cast<std::size_t>(element)];
}

std::unexpected<Error> damaged(const std::string& what) {
  return fail(ErrorCode::kInvalidArgument, "NPY: " + what);
}

struct Header {
  ElementType type = kTypes[0];
  bool big_endian = false;
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
};

/// The header is a Python dict literal with three entries; nothing else of Python is understood.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  Result<Header> parse() {
    bool has_type = false;
    bool has_order = false;
    bool has_shape = false;
    if (!accept('{')) return malformed();
    while (!accept('}')) {
      const auto key = quoted();
      if (!key || !accept(':')) return malformed();
      if (*key == "descr" && !has_type) {
        has_type = true;
        SELVAGE_RETURN_IF_ERROR(parse_type());
      } else if (*key == "fortran_order" && !has_order) {
        has_order = true;
        header_.fortran_order = accept_word("True");
        if (!header_.fortran_order && !accept_word("False")) return malformed();
      } else if (*key == "shape" && !has_shape) {
        has_shape = true;
        SELVAGE_RETURN_IF_ERROR(parse_shape());
      } else {
        return malformed();
      }
      if (accept(',')) continue;
      if (!accept('}')) return malformed();
      break;
    }
    skip_blanks();
    if (!text_.empty() || !has_type || !has_order || !has_shape) return malformed();
    return header_;
  }

 private:
  [[nodiscard]] static std::unexpected<Error> malformed() {
    return damaged("the header is not a dict of descr, fortran_order and shape");
  }

  void skip_blanks() {
    text_.remove_prefix(std::min(text_.find_first_not_of(" \t\n"), text_.size()));
  }
  bool accept(char c) {
    skip_blanks();
    if (!text_.starts_with(c)) return false;
    text_.remove_prefix(1);
    return true;
  }
  bool accept_word(std::string_view word) {
    skip_blanks();
    if (!text_.starts_with(word)) return false;
    text_.remove_prefix(word.size());
    return true;
  }
  std::optional<std::string_view> quoted() {
    skip_blanks();
    if (text_.empty() || (text_.front() != '\'' && text_.front() != '"')) return std::nullopt;
    const auto end = text_.find(text_.front(), 1);
    if (end == std::string_view::npos) return std::nullopt;
    const auto content = text_.substr(1, end - 1);
    text_.remove_prefix(end + 1);
    return content;
  }

  Result<void> parse_type() {
    skip_blanks();
    const auto unsupported = [](std::string_view descr) {
      return fail(ErrorCode::kUnimplemented,
                  "NPY: elements of type '" + std::string(descr.substr(0, 40)) +
                      "' are not read: only booleans, integers, floats and complex numbers are");
    };
    if (text_.starts_with('[')) return unsupported("record");
    const auto descr = quoted();
    if (!descr) return malformed();
    if (descr->empty()) return malformed();
    const char order = descr->front();
    if (order != '<' && order != '>' && order != '|' && order != '=') return unsupported(*descr);
    header_.big_endian = order == '>';
    for (const auto& type : kTypes)
      if (type.code == descr->substr(1)) {
        header_.type = type;
        return {};
      }
    return unsupported(*descr);
  }

  Result<void> parse_shape() {
    if (!accept('(')) return malformed();
    while (!accept(')')) {
      skip_blanks();
      std::int64_t size = 0;
      const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), size);
      if (error != std::errc() || size < 0)
        return damaged("a size in the shape is not a number from 0 on");
      text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
      if (header_.shape.size() == kArrayRankMax)
        return fail(ErrorCode::kOutOfRange, "NPY: the shape has more than the limit of " +
                                                std::to_string(kArrayRankMax) + " dimensions");
      header_.shape.push_back(size);
      if (accept(',')) continue;
      if (!accept(')')) return malformed();
      break;
    }
    return {};
  }

  std::string_view text_;
  Header header_;
};

/// Empty when the product overflows.
std::optional<std::uint64_t> bytes_of(const std::vector<std::int64_t>& shape, std::size_t element) {
  std::uint64_t bytes = element;
  for (const auto size : shape)
    if (size == 0) return 0;
  for (const auto size : shape)
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes))
      return std::nullopt;
  return bytes;
}

void swap_bytes(std::span<std::byte> bytes, std::size_t each) {
  for (std::size_t i = 0; i < bytes.size(); i += each)
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                 bytes.begin() + static_cast<std::ptrdiff_t>(i + each));
}

/// From the order in which the first index runs fastest to that in which the last one does.
std::vector<std::byte> c_order(std::span<const std::byte> fortran,
                               const std::vector<std::int64_t>& shape, std::size_t element) {
  std::vector<std::byte> out(fortran.size());
  if (out.empty()) return out;
  std::vector<std::size_t> stride(shape.size());
  std::size_t step = element;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    stride[d] = step;
    step *= static_cast<std::size_t>(shape[d]);
  }
  std::vector<std::int64_t> index(shape.size());
  std::size_t from = 0;
  for (std::size_t to = 0; to < out.size(); to += element) {
    std::memcpy(out.data() + to, fortran.data() + from, element);
    for (std::size_t d = shape.size(); d-- > 0;) {
      from += stride[d];
      if (++index[d] < shape[d]) break;
      from -= stride[d] * static_cast<std::size_t>(shape[d]);
      index[d] = 0;
    }
  }
  return out;
}

Result<std::string_view> take_header(ByteReader& in) {
  const auto magic = in.take(8);
  if (!magic || as_text(*magic).substr(0, 6) != "\x93NUMPY") return damaged("not an npy file");
  const auto version = std::to_integer<int>((*magic)[6]);
  if (version < 1 || version > 3)
    return fail(ErrorCode::kUnimplemented, "NPY: format version " + std::to_string(version));
  std::optional<std::uint32_t> size;
  if (version == 1)
    size = in.number<std::uint16_t>();
  else
    size = in.number<std::uint32_t>();
  const auto text = size ? in.take(*size) : std::nullopt;
  if (!text) return damaged("the header is cut short");
  return as_text(*text);
}

Result<Array> decode_npy(std::span<const std::byte> file, std::uint64_t bytes_max) {
  ByteReader in(file);
  SELVAGE_TRY(const auto text, take_header(in));
  SELVAGE_TRY(auto header, HeaderParser(text).parse());
  const auto bytes = bytes_of(header.shape, header.type.bytes);
  if (!bytes || *bytes > bytes_max)
    return fail(ErrorCode::kOutOfRange,
                "NPY: the shape's " +
                    (bytes ? std::to_string(*bytes) : std::string("2^64 or more")) +
                    " bytes are above the limit of " + std::to_string(bytes_max));
  const auto data = in.take(*bytes);
  if (!data)
    return damaged("the data are " + std::to_string(*bytes - in.remaining()) + " bytes too short");
  Array array{.element = header.type.element, .shape = std::move(header.shape), .bytes = {}};
  if (header.fortran_order && array.shape.size() > 1)
    array.bytes = c_order(*data, array.shape, header.type.bytes);
  else
    array.bytes.assign(data->begin(), data->end());
  if (header.big_endian && header.type.swapped_bytes > 1)
    swap_bytes(array.bytes, header.type.swapped_bytes);
  if (array.element == ArrayElement::kBool)
    for (const auto value : array.bytes)
      if (std::to_integer<int>(value) > 1) return damaged("a boolean is neither 0 nor 1");
  return array;
}

}  // namespace

std::size_t element_bytes(ArrayElement element) {
  return type_of(element).bytes;
}
std::string_view to_string(ArrayElement element) {
  return type_of(element).name;
}

Result<Array> read_npy(std::span<const std::byte> file, const ArrayLimits& limits) {
  return catch_to_result(ErrorCode::kInternal, [&] { return decode_npy(file, limits.bytes_max); });
}

Result<std::vector<std::byte>> write_npy(const Array& array) {
  const auto& type = type_of(array.element);
  for (const auto size : array.shape)
    if (size < 0) return damaged("a size in the shape is negative");
  if (array.shape.size() > kArrayRankMax || bytes_of(array.shape, type.bytes) != array.bytes.size())
    return damaged("shape and bytes do not agree");
  std::string header = "{'descr': '" + std::string(type.bytes == 1 ? "|" : "<") +
                       std::string(type.code) + "', 'fortran_order': False, 'shape': (";
  for (const auto size : array.shape) header += std::to_string(size) + ", ";
  if (array.shape.size() > 1) header.resize(header.size() - 2);
  if (array.shape.size() == 1) header.pop_back();
  header += "), }";
  // The data begin at a multiple of 64 bytes, and the header ends with a line end.
  header.append(63 - (10 + header.size()) % 64, ' ');
  header.push_back('\n');
  const auto size = static_cast<std::uint16_t>(header.size());
  std::string front("\x93NUMPY\x01\x00", 8);
  front.push_back(static_cast<char>(size & 255));
  front.push_back(static_cast<char>(size >> 8));
  front += header;
  const auto front_bytes = std::as_bytes(std::span(front));
  std::vector<std::byte> file(front_bytes.begin(), front_bytes.end());
  file.insert(file.end(), array.bytes.begin(), array.bytes.end());
  return file;
}

}  // namespace selvage::media
