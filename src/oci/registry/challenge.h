// Challenges: what a WWW-Authenticate header asks for. A pure function of hostile text. Any thread.
// Spec: RFC 9110 section 11.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sm {

struct Challenge {
  std::string scheme;                         // in lower case
  std::map<std::string, std::string> params;  // names in lower case

  // Empty when it is missing.
  std::string param(const std::string& name) const;
};

// All challenges of one header value. Code::kCorrupt when it is none, Code::kLimit beyond 16
// challenges or 32 parameters.
Result<std::vector<Challenge>> parse_challenges(std::string_view value);

}  // namespace sm
