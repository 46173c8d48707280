# What `make install` puts on a machine: the program with its manual page and completion, and the
# library for find_package(Selvage), with ONNX Runtime in a folder of its own so that it meets no other.
include(CMakePackageConfigHelpers)
set(runtime_folder ${CMAKE_INSTALL_LIBDIR}/selvage)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/Selvage)

# The library: every folder that the engine needs.
foreach(folder base crypto graph media infer)
  install(TARGETS selvage_${folder} EXPORT SelvageTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endforeach()
install(CODE "set(source ${PROJECT_SOURCE_DIR}/src)
  set(destination ${CMAKE_INSTALL_INCLUDEDIR}/selvage)")
install(SCRIPT cmake/install_headers.cmake)
install(EXPORT SelvageTargets NAMESPACE Selvage:: DESTINATION ${package_folder})
configure_package_config_file(cmake/SelvageConfig.cmake.in SelvageConfig.cmake
  INSTALL_DESTINATION ${package_folder} PATH_VARS runtime_folder)
write_basic_package_version_file(SelvageConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/SelvageConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/SelvageConfigVersion.cmake
  DESTINATION ${package_folder})

# A system's ONNX Runtime stays where it is.
string(FIND ${ORT_LIBRARY} ${SELVAGE_DEPS} ours)
if(ours EQUAL 0)
  install(FILES ${ORT_LIBRARY} DESTINATION ${runtime_folder})
endif()
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# The program.
if(TARGET selvage)
  file(RELATIVE_PATH from_program /${CMAKE_INSTALL_BINDIR} /${runtime_folder})
  set_target_properties(selvage PROPERTIES INSTALL_RPATH $ORIGIN/${from_program})
  install(TARGETS selvage RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

  # The program writes its own manual page and completions.
  set(written ${CMAKE_CURRENT_BINARY_DIR}/manual)
  file(MAKE_DIRECTORY ${written})
  add_custom_command(OUTPUT ${written}/selvage.1 ${written}/selvage ${written}/_selvage
    COMMAND selvage man > ${written}/selvage.1
    COMMAND selvage completion bash > ${written}/selvage
    COMMAND selvage completion zsh > ${written}/_selvage
    DEPENDS selvage
    COMMENT "Writing the manual page and the completions")
  add_custom_target(selvage_manual ALL DEPENDS ${written}/selvage.1)
  install(FILES ${written}/selvage.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${written}/selvage DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${written}/_selvage DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
endif()
