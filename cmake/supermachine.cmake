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

# For this folder and those below: what runs in there has so much to do that it is optimised with sanitizers, too.
macro(sm_optimize_sanitized)
  string(REPLACE "-O0" "-O1" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
endmacro()

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
# CTest test. OPTIMIZED: its own code has much to do, too. Labels: `unit` unless others are given, built by the target unit_tests; the
# software CPU's have `cpu` instead, since they say something of each build's own code and so belong to `all`.
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
    if(CMAKE_CURRENT_SOURCE_DIR MATCHES "^${CMAKE_SOURCE_DIR}/(src/vmm/cpu/soft|tests/cpu)(/|$)")
      set(T_LABELS cpu)
    endif()
  endif()
  if(threads IN_LIST T_LABELS)
    add_dependencies(thread_tests ${name})
  endif()
  if(unit IN_LIST T_LABELS OR cpu IN_LIST T_LABELS)
    add_dependencies(unit_tests ${name})
  endif()
  if(unit IN_LIST T_LABELS)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS "${T_LABELS}")
endfunction()

# sm_fuzz(NAME SOURCES... [LIBS libs...] [LONGER]) builds one libFuzzer target; its seeds live in fuzz/seeds/NAME. LONGER: many bytes of a
# stranger's go through it, so that its test runs four times as long as others.
function(sm_fuzz name)
  if(NOT SM_FUZZ)
    return()
  endif()
  cmake_parse_arguments(F "LONGER" "" "LIBS" ${ARGN})
  set(seconds ${SM_FUZZ_SECONDS})
  if(F_LONGER)
    math(EXPR seconds "${seconds} * 4")
  endif()
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
           COMMAND ${name} -max_total_time=${seconds} -rss_limit_mb=2048 -timeout=10
                   -print_final_stats=1 ${corpus} ${seeds})
  set_tests_properties(fuzz.${name} PROPERTIES TIMEOUT 600 LABELS fuzz)
endfunction()
set(SM_FUZZ_SECONDS 8 CACHE STRING "seconds each fuzz target runs as a test")

# Where SM_UNITE is on (all presets but `debug`), up to eight sources of a folder of these targets are compiled as one: most of the time goes
# into the same headers. What they declare in unnamed namespaces must differ then; sm_apart(SOURCES...) leaves out those that have names in
# common on purpose. Unlike CMake's own unity build, what is generated is the same in each checkout, for ccache's sake.
option(SM_UNITE "compile several sources as one" OFF)
set(SM_UNITED 8)
function(sm_apart)
  list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
  set_property(GLOBAL APPEND PROPERTY SM_APART ${ARGN})
endfunction()

# When the targets have all their sources.
function(sm_unite)
  if(SM_UNITE)
    foreach(target IN LISTS ARGN)
      if(TARGET ${target})
        sm_unite_target(${target})
      endif()
    endforeach()
  endif()
endfunction()

function(sm_unite_target target)
  get_target_property(sources ${target} SOURCES)
  get_target_property(folder ${target} SOURCE_DIR)
  get_property(apart GLOBAL PROPERTY SM_APART)
  set(kept "")
  set(batch "")
  set(number 0)
  foreach(source IN LISTS sources)
    cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY ${folder} NORMALIZE OUTPUT_VARIABLE path)
    if(source MATCHES "\\$<" OR NOT path MATCHES "^${CMAKE_SOURCE_DIR}/.*[.]cc$" OR path IN_LIST apart)
      list(APPEND kept ${source})
      continue()
    endif()
    # One folder's only: who links a few objects of a library gets no other folder's with them.
    cmake_path(GET path PARENT_PATH parent)
    list(LENGTH batch length)
    if(length EQUAL SM_UNITED OR (batch AND NOT parent STREQUAL batch_parent))
      sm_write_batch(${target} ${number} "${batch}")
      list(APPEND kept ${batch_file})
      set(batch "")
      math(EXPR number "${number} + 1")
    endif()
    set(batch_parent ${parent})
    list(APPEND batch ${path})
  endforeach()
  if(batch)
    sm_write_batch(${target} ${number} "${batch}")
    list(APPEND kept ${batch_file})
  endif()
  set_target_properties(${target} PROPERTIES SOURCES "${kept}")
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # What an unnamed namespace holds is one source's here, too.
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
endfunction()

function(sm_write_batch target number sources)
  list(LENGTH sources length)
  if(length EQUAL 1)
    set(batch_file ${sources} PARENT_SCOPE)
    return()
  endif()
  set(text "")
  foreach(source IN LISTS sources)
    cmake_path(RELATIVE_PATH source BASE_DIRECTORY ${CMAKE_SOURCE_DIR})
    string(APPEND text "#include \"${source}\"\n")
  endforeach()
  set(file ${CMAKE_BINARY_DIR}/united/${target}.${number}.cc)
  file(CONFIGURE OUTPUT ${file} CONTENT "${text}" @ONLY)
  set(batch_file ${file} PARENT_SCOPE)
endfunction()
