// What this host has of what a VM needs.
#pragma once

#include <string>
#include <vector>

namespace sm {

struct Finding {
  bool ok = false;
  std::string subject;  // "engine", "kernel", ...
  std::string text;     // what was found
  std::string remedy;   // what to do; empty when nothing is
};

// Takes up to half a second: the CPU engine is tried.
std::vector<Finding> examine_host();

}  // namespace sm
