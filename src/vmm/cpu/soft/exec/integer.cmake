target_sources(
  sm_soft_exec
  PRIVATE semantic.cc)
