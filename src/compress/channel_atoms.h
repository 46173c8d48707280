// Atoms: one for each index of each axis of each tensor, in sets that can only be removed together.
// Internal to src/compress.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/tensor.h"

namespace selvage::compress {

/// One axis of a tensor: `size` atoms from `first` on; none where the size is open (-1).
struct Axis {
  std::size_t first = 0;
  std::int64_t size = -1;

  [[nodiscard]] bool is_open() const { return size < 0; }
  [[nodiscard]] std::size_t atom(std::int64_t index) const {
    return first + static_cast<std::size_t>(index);
  }
};
using Axes = std::vector<Axis>;

/// Disjoint sets with union by size and path halving (R. E. Tarjan, 1975). A set may be frozen, for
/// the first reason that was given.
class Atoms {
 public:
  /// Gives a tensor its axes. An axis of size 1 begins frozen: it is no channel. kOutOfRange above
  /// kAtomsMax. A name that is declared already keeps what it has.
  [[nodiscard]] Result<void> declare(std::string_view name, const Shape& shape);
  /// Null for a tensor of unknown rank.
  [[nodiscard]] const Axes* find(std::string_view name) const;

  void tie(std::size_t a, std::size_t b);
  /// Index by index. Axes of different sizes are frozen instead.
  void tie(const Axis& a, const Axis& b);
  void freeze(const Axis& axis, std::string_view reason);
  void freeze(std::string_view name, std::string_view reason);  ///< All axes of a tensor.

  [[nodiscard]] std::size_t root(std::size_t atom) const;
  [[nodiscard]] bool is_frozen(std::size_t atom) const { return reasons_[root(atom)] != 0; }
  /// "" for an atom that is not frozen.
  [[nodiscard]] const std::string& reason(std::size_t atom) const {
    return reason_texts_[reasons_[root(atom)]];
  }
  [[nodiscard]] std::size_t size() const { return parents_.size(); }
  [[nodiscard]] const std::unordered_map<std::string, Axes>& tensors() const { return tensors_; }

 private:
  std::uint32_t reason_number(std::string_view reason);

  std::unordered_map<std::string, Axes> tensors_;
  mutable std::vector<std::uint32_t> parents_;  // Finding a root shortens paths.
  std::vector<std::uint32_t> sizes_;
  std::vector<std::uint32_t> reasons_;  // Of roots: index into reason_texts_, 0 = not frozen.
  std::vector<std::string> reason_texts_{""};
  std::unordered_map<std::string, std::uint32_t> reason_numbers_;
};

}  // namespace selvage::compress
