# selvage_folder(NAME [DEPENDS folder...] [PUBLIC library...] [PRIVATE library...] [EXCLUDE file...])
#
# A folder of src/ is one static library, selvage_NAME. Beside what it builds lie its unit tests
# (*_test.cc, one program NAME_test) and its fuzz targets (*_fuzz.cc, one program each).
# DEPENDS names the folders below it; PUBLIC libraries appear in its headers, PRIVATE ones do not.
# Fuzz targets also replay their corpus (tests/corpus/TARGET/*) as an ordinary test, in every preset.
function(selvage_folder name)
  cmake_parse_arguments(arg "" "" "DEPENDS;PUBLIC;PRIVATE;EXCLUDE" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cc)
  set(tests ${sources})
  set(fuzzers ${sources})
  list(FILTER sources EXCLUDE REGEX "_(test|fuzz)\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  foreach(file ${arg_EXCLUDE})
    list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  endforeach()

  add_library(selvage_${name} STATIC ${sources})
  set_target_properties(selvage_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(selvage_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/selvage>)
  list(TRANSFORM arg_DEPENDS PREPEND selvage_)
  target_link_libraries(selvage_${name} PUBLIC ${arg_DEPENDS} ${arg_PUBLIC}
    PRIVATE ${arg_PRIVATE} $<BUILD_INTERFACE:selvage_flags>)
  target_precompile_headers(selvage_${name} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/precompiled.h)
  set_property(GLOBAL APPEND PROPERTY SELVAGE_FOLDERS ${name})

  if(BUILD_TESTING AND tests AND NOT SELVAGE_FUZZ)
    selvage_test(${name}_test SOURCES ${tests} LIBRARIES selvage_${name} ${arg_PRIVATE})
  endif()
  if(BUILD_TESTING)
    foreach(fuzzer ${fuzzers})
      selvage_fuzzer(${fuzzer} selvage_${name})
    endforeach()
  endif()
endfunction()

# selvage_test(NAME SOURCES file... LIBRARIES library...): one GoogleTest program, one ctest entry.
function(selvage_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} GTest::gmock GTest::gtest_main selvage_flags)
  target_compile_definitions(${name} PRIVATE
    SELVAGE_SOURCE_DIR="${PROJECT_SOURCE_DIR}" SELVAGE_DEPS_DIR="${SELVAGE_DEPS}")
  target_precompile_headers(${name} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/precompiled.h <gtest/gtest.h>)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 600)
endfunction()

# A fuzz target is libFuzzer's LLVMFuzzerTestOneInput; without libFuzzer, tests/replay.cc feeds it files.
function(selvage_fuzzer source library)
  get_filename_component(target ${source} NAME_WE)
  add_executable(${target} ${source})
  target_link_libraries(${target} PRIVATE ${library} selvage_flags)
  if(SELVAGE_FUZZ)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/replay.cc)
    add_test(NAME ${target}_replay COMMAND ${target} ${PROJECT_SOURCE_DIR}/tests/corpus/${target})
    set_tests_properties(${target}_replay PROPERTIES TIMEOUT 300)
  endif()
endfunction()
