// What the tests of the library share: where they are told what to run on, how long they wait.
#pragma once

#include <supermachine/supermachine.h>

#include <chrono>
#include <cstdlib>
#include <string>

namespace supermachine {

inline constexpr auto kPatience = std::chrono::seconds(300);  // guests may share a small machine

// Of the environment, which tests/api/run sets; empty when it is not set.
inline std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

inline Engine engine() {
  return variable("SUPERMACHINE_ENGINE") == "soft" ? Engine::kSoft : Engine::kAuto;
}

inline VmConfig vm_config() {
  VmConfig out;
  out.engine = engine();
  return out;
}

}  // namespace supermachine
