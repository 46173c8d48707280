#include "compress/channel_atoms.h"

#include "compress/channels.h"

namespace selvage::compress {

Result<void> Atoms::declare(std::string_view name, const Shape& shape) {
  const auto [entry, is_new] = tensors_.try_emplace(std::string(name));
  if (!is_new) return {};
  for (const auto size : shape) {
    const Axis axis{.first = parents_.size(), .size = size};
    entry->second.push_back(axis);
    if (axis.is_open()) continue;
    const auto end = axis.first + static_cast<std::size_t>(size);
    if (end > kAtomsMax || end < axis.first)
      return fail(ErrorCode::kOutOfRange,
                  "the model's tensors have more indices than the limit of " +
                      std::to_string(kAtomsMax) + ": '" + std::string(name) + "' is too large");
    for (auto atom = axis.first; atom < end; ++atom)
      parents_.push_back(static_cast<std::uint32_t>(atom));
    sizes_.resize(end, 1);
    reasons_.resize(end, 0);
    if (size == 1) freeze(axis, "has a single channel");
  }
  return {};
}

const Axes* Atoms::find(std::string_view name) const {
  const auto found = tensors_.find(std::string(name));
  return found == tensors_.end() ? nullptr : &found->second;
}

std::size_t Atoms::root(std::size_t atom) const {
  while (parents_[atom] != atom) {
    parents_[atom] = parents_[parents_[atom]];
    atom = parents_[atom];
  }
  return atom;
}

void Atoms::tie(std::size_t a, std::size_t b) {
  a = root(a);
  b = root(b);
  if (a == b) return;
  if (sizes_[a] < sizes_[b]) std::swap(a, b);
  parents_[b] = static_cast<std::uint32_t>(a);
  sizes_[a] += sizes_[b];
  if (reasons_[a] == 0) reasons_[a] = reasons_[b];
}

void Atoms::tie(const Axis& a, const Axis& b) {
  if (a.size != b.size) {
    freeze(a, "meets an axis of another size");
    freeze(b, "meets an axis of another size");
    return;
  }
  for (std::int64_t i = 0; i < a.size; ++i) tie(a.atom(i), b.atom(i));
}

void Atoms::freeze(const Axis& axis, std::string_view reason) {
  const auto number = reason_number(reason);
  for (std::int64_t i = 0; i < axis.size; ++i) {
    auto& current = reasons_[root(axis.atom(i))];
    if (current == 0) current = number;
  }
}

void Atoms::freeze(std::string_view name, std::string_view reason) {
  if (const auto* axes = find(name))
    for (const auto& axis : *axes) freeze(axis, reason);
}

std::uint32_t Atoms::reason_number(std::string_view reason) {
  const auto [entry, is_new] = reason_numbers_.try_emplace(
      std::string(reason), static_cast<std::uint32_t>(reason_texts_.size()));
  if (is_new) reason_texts_.emplace_back(reason);
  return entry->second;
}

}  // namespace selvage::compress
