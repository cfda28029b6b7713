# What `cmake --install` puts where. The library and the program find the guest's files beside themselves, so that the tree can be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(SM_ASSETS_DIR lib/supermachine)
install(TARGETS supermachine RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS supermachine-worker RUNTIME DESTINATION ${SM_ASSETS_DIR})
install(FILES ${SM_GUEST_INITRAMFS} DESTINATION ${SM_ASSETS_DIR})
if(SM_KERNEL)
  install(FILES ${SM_KERNEL} DESTINATION ${SM_ASSETS_DIR} RENAME kernel)
endif()

install(DIRECTORY ${CMAKE_BINARY_DIR}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 FILES_MATCHING PATTERN "*.1")
install(FILES ${CMAKE_BINARY_DIR}/completion/supermachine DESTINATION share/bash-completion/completions)
install(FILES ${CMAKE_BINARY_DIR}/completion/_supermachine DESTINATION share/zsh/site-functions)
install(FILES ${CMAKE_BINARY_DIR}/completion/supermachine.fish DESTINATION share/fish/vendor_completions.d)

install(DIRECTORY include/supermachine DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS supermachine-lib EXPORT supermachine-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
set(SM_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/supermachine)
install(EXPORT supermachine-targets NAMESPACE supermachine:: DESTINATION ${SM_PACKAGE_DIR})
configure_package_config_file(cmake/supermachine-config.cmake.in ${CMAKE_BINARY_DIR}/supermachine-config.cmake
                              INSTALL_DESTINATION ${SM_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/supermachine-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/supermachine-config.cmake ${CMAKE_BINARY_DIR}/supermachine-config-version.cmake
        DESTINATION ${SM_PACKAGE_DIR})

# From lib/pkgconfig, or lib/x86_64-linux-gnu/pkgconfig, back to the prefix.
file(RELATIVE_PATH SM_PC_TO_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/supermachine.pc.in ${CMAKE_BINARY_DIR}/supermachine.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/supermachine.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
