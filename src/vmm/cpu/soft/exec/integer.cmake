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
