target_sources(
  sm_soft_exec
  PRIVATE mxcsr.cc
          vector.cc
          vector_common.cc
          vector_convert.cc
          vector_float.cc
          vector_immediate.cc
          vector_integer.cc
          vector_move.cc
          vector_state.cc
          vector_text.cc
          x87_control.cc
          x87_fast.cc
          x87_general.cc
          x87_host.cc
          x87_state.cc)

sm_test(soft_vector_test OPTIMIZED integer_test_cpu.cc vector_test.cc x87_test.cc
        LIBS sm_soft_exec sm_soft_system sm_soft_system_fake)
