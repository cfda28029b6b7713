# Helpers shared by all folders: warnings, sanitizers, one static library per folder, tests beside their sources.

add_library(sm_options INTERFACE)
target_include_directories(sm_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_definitions(sm_options INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64
                                                SM_VERSION="${PROJECT_VERSION}")
target_compile_options(
  sm_options
  INTERFACE -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wnon-virtual-dtor
            -Woverloaded-virtual -Wimplicit-fallthrough -Wcast-align -Wformat=2 -Wno-missing-field-initializers -Werror
            -fstack-protector-strong -fno-omit-frame-pointer)
# A test's own code is compiled without optimisation: that takes less than half the time. What it tests is not.
define_property(TARGET PROPERTY SM_UNOPTIMIZED)
set(sm_unoptimized $<BOOL:$<TARGET_PROPERTY:SM_UNOPTIMIZED>>)
target_compile_options(sm_options INTERFACE $<${sm_unoptimized}:-O0>)
target_compile_definitions(
  sm_options INTERFACE $<$<AND:$<CONFIG:Release>,$<NOT:${sm_unoptimized}>>:_FORTIFY_SOURCE=2>)
target_link_options(sm_options INTERFACE LINKER:-z,relro,-z,now)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 warns about overlapping copies inside std::string when it optimises (its bug 105651).
  target_compile_options(sm_options INTERFACE $<$<CONFIG:Release>:-Wno-restrict>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(sm_options INTERFACE -Wthread-safety)
endif()

add_library(sm_sanitize INTERFACE)
if(SM_SANITIZE)
  target_compile_options(sm_sanitize INTERFACE -fsanitize=${SM_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(sm_sanitize INTERFACE -fsanitize=${SM_SANITIZE})
endif()
if(SM_FUZZ)
  target_compile_options(sm_sanitize INTERFACE -fsanitize=fuzzer-no-link)
endif()

# sm_library(NAME SOURCES... ) declares one folder's static library; link upward layers with target_link_libraries.
function(sm_library name)
  add_library(${name} STATIC ${ARGN})
  target_link_libraries(${name} PUBLIC sm_options sm_sanitize)
endfunction()

# What the sanitizers have to see: tests with the label "threads"; unit tests and fuzz targets.
add_custom_target(thread_tests)
add_custom_target(unit_tests)
add_custom_target(fuzz_targets)

# sm_test(NAME SOURCES... [OPTIMIZED] [LIBS libs...] [LABELS labels...] [TIMEOUT s]) builds one GoogleTest binary and registers it as one
# CTest test. OPTIMIZED: its own code has much to do, too.
function(sm_test name)
  if(NOT SM_TESTS)
    return()
  endif()
  cmake_parse_arguments(T "OPTIMIZED" "TIMEOUT" "LIBS;LABELS" ${ARGN})
  find_package(GTest REQUIRED)
  add_executable(${name} ${T_UNPARSED_ARGUMENTS})
  if(NOT T_OPTIMIZED)
    set_target_properties(${name} PROPERTIES SM_UNOPTIMIZED ON)
  endif()
  target_link_libraries(${name} PRIVATE ${T_LIBS} sm_options sm_sanitize GTest::gmock GTest::gtest_main)
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  if(NOT T_LABELS)
    set(T_LABELS unit)
  endif()
  if(threads IN_LIST T_LABELS)
    add_dependencies(thread_tests ${name})
  endif()
  if(unit IN_LIST T_LABELS)
    add_dependencies(unit_tests ${name})
  endif()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS "${T_LABELS}")
endfunction()

# sm_fuzz(NAME SOURCES... [LIBS libs...]) builds one libFuzzer target; its seeds live in fuzz/seeds/NAME.
function(sm_fuzz name)
  if(NOT SM_FUZZ)
    return()
  endif()
  cmake_parse_arguments(F "" "" "LIBS" ${ARGN})
  add_executable(${name} ${F_UNPARSED_ARGUMENTS})
  add_dependencies(fuzz_targets ${name})
  target_link_libraries(${name} PRIVATE ${F_LIBS} sm_options sm_sanitize)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set(seeds ${CMAKE_SOURCE_DIR}/fuzz/seeds/${name})
  if(NOT EXISTS ${seeds})
    set(seeds "")
  endif()
  # New inputs are kept between runs, each target's by itself.
  set(corpus ${CMAKE_CURRENT_BINARY_DIR}/corpus/${name})
  file(MAKE_DIRECTORY ${corpus})
  add_test(NAME fuzz.${name}
           COMMAND ${name} -max_total_time=${SM_FUZZ_SECONDS} -rss_limit_mb=2048 -timeout=10
                   -print_final_stats=1 ${corpus} ${seeds})
  set_tests_properties(fuzz.${name} PROPERTIES TIMEOUT 300 LABELS fuzz)
endfunction()
set(SM_FUZZ_SECONDS 15 CACHE STRING "seconds each fuzz target runs as a test")
