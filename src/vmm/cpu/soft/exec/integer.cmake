target_sources(
  sm_soft_exec
  PRIVATE alu.cc
          atomic.cc
          bits.cc
          control.cc
          decimal.cc
          flag_ops.cc
          move.cc
          multiply.cc
          port.cc
          random.cc
          semantic.cc
          shift.cc
          stack.cc
          string.cc)
# This needs the machine; tests stand in for it.
target_sources(sm_vmm PRIVATE locked.cc)

sm_test(soft_integer_test integer_test_cpu.cc locked_test.cc modes_test.cc string_test.cc
        LIBS sm_soft_exec sm_soft_system sm_soft_system_fake)
