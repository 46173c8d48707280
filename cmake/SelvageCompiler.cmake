# Flags of our own code. Third-party headers come in as SYSTEM, so that their warnings are theirs.
set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug or Release" FORCE)
endif()

set(SELVAGE_SANITIZE "" CACHE STRING "Sanitizers to build with, as -fsanitize takes them")

add_library(selvage_flags INTERFACE)
target_compile_options(selvage_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wnon-virtual-dtor -Wold-style-cast
  -Werror -fno-strict-aliasing
  -Wno-missing-field-initializers  # Designated initialisers leave the rest to its defaults.
  # clang cannot vectorise what a sanitizer watches, and blames us for std::stable_sort's own insides.
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety;-Wno-pass-failed;-Wno-deprecated-declarations>
  # g++ 12 guesses these after inlining and is wrong about <string> and <optional>; sanitizers know.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-restrict;-Wno-array-bounds;-Wno-stringop-overflow;-Wno-stringop-overread>
  $<$<CONFIG:Release>:-fstack-protector-strong -D_FORTIFY_SOURCE=2>)
target_link_options(selvage_flags INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,--as-needed)

if(SELVAGE_SANITIZE)
  add_compile_options(-fsanitize=${SELVAGE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${SELVAGE_SANITIZE})
endif()
if(SELVAGE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
