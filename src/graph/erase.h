// Removing many elements of a repeated field at once.
#pragma once

#include <vector>

#include <google/protobuf/repeated_field.h>

namespace selvage::graph {

/// Deletes the elements whose flag is set, in one pass; the others keep their order. `marked` is as
/// long as `field`.
template <typename T>
void erase_marked(google::protobuf::RepeatedPtrField<T>& field, const std::vector<bool>& marked) {
  int kept = 0;
  for (int i = 0; i < field.size(); ++i) {
    if (marked[static_cast<std::size_t>(i)]) continue;
    if (kept != i) field.SwapElements(kept, i);
    ++kept;
  }
  field.DeleteSubrange(kept, field.size() - kept);
}

}  // namespace selvage::graph
