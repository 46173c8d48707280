// Vectors of floats for the kernels' loops, and which instructions they are compiled to. Internal
// to src/learn.
//
// Loops are templates over the number of floats in a vector. Functions marked with a target, one
// for each instruction set, instantiate them, and everything in between is inlined into those.
// Vectors go by reference: by value they would have one calling convention for each instruction
// set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#define SELVAGE_INLINE [[gnu::always_inline]] inline
#if defined(__clang__)
#define SELVAGE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SELVAGE_UNROLL _Pragma("GCC unroll 16")
#endif

/// `kLoops` of the struct that the instructions are named after: Base, and on x86 Avx2 and Avx512.
#if defined(__x86_64__)
#define SELVAGE_LOOPS_OF(INSTRUCTIONS)                      \
  ((INSTRUCTIONS) == Instructions::kAvx512 ? Avx512::kLoops \
   : (INSTRUCTIONS) == Instructions::kAvx2 ? Avx2::kLoops   \
                                           : Base::kLoops)
#else
#define SELVAGE_LOOPS_OF(INSTRUCTIONS) (Base::kLoops)
#endif

namespace selvage::learn {

enum class Instructions : std::uint8_t {
  kBase,    ///< What every machine of this architecture has.
  kAvx2,    ///< With fused multiply-add.
  kAvx512,  ///< The foundation.
};
/// Those that this machine has, the widest last.
[[nodiscard]] const std::vector<Instructions>& known_instructions();
/// What kernels use: the widest, unless a test says otherwise.
[[nodiscard]] Instructions instructions();

/// For tests: kernels use `wanted`, which must be known, while the object lives.
class WithInstructions {
 public:
  explicit WithInstructions(Instructions wanted);
  ~WithInstructions();
  WithInstructions(const WithInstructions&) = delete;
  WithInstructions& operator=(const WithInstructions&) = delete;
};

/// A vector that may lie at any float. Templates take its size: as a template's argument the type
/// would lose its alignment.
template <std::size_t kFloats>
struct Lanes {
  typedef float Type __attribute__((vector_size(kFloats * sizeof(float)), aligned(4), may_alias));
  typedef std::int32_t Bits __attribute__((vector_size(kFloats * sizeof(float))));
};

template <>
struct Lanes<1> {
  using Type = float;
};

/// The sum of a vector's elements, halves onto halves: a chain of single additions would take as
/// long as a small plane.
template <std::size_t kFloats>
struct Total {
  using V = typename Lanes<kFloats>::Type;
  template <std::size_t... kIndex>
  SELVAGE_INLINE static float fold(const V& v, std::index_sequence<kIndex...>) {
    const typename Lanes<kFloats / 2>::Type half =
        __builtin_shufflevector(v, v, kIndex...) +
        __builtin_shufflevector(v, v, (kIndex + kFloats / 2)...);
    return Total<kFloats / 2>::of(half);
  }
  SELVAGE_INLINE static float of(const V& v) {
    return fold(v, std::make_index_sequence<kFloats / 2>());
  }
};
template <>
struct Total<4> {
  SELVAGE_INLINE static float of(const typename Lanes<4>::Type& v) {
    return (v[0] + v[2]) + (v[1] + v[3]);
  }
};

}  // namespace selvage::learn
