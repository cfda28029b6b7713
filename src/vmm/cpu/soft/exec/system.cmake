# System instructions and, added by event/, what they share with events. They reach the MMU and the
# platform through event/mmu_calls.h and event/platform_calls.h only; an object library, so that
# tests can link it with a machine of theirs.
add_library(
  sm_soft_system OBJECT
  control_registers.cc
  msr.cc
  system.cc
  system_control.cc
  system_segment.cc
  system_transfer.cc)
target_link_libraries(sm_soft_system PUBLIC sm_options sm_sanitize)
target_sources(sm_vmm PRIVATE $<TARGET_OBJECTS:sm_soft_system>)
