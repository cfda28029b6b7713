// What a registry's refusal means to the user. Internal to oci/registry.
#pragma once

#include <string>

#include "base/error.h"
#include "oci/registry/http_client.h"

namespace sm {

// The error behind a status that is no success; the registry's own words come along, made fit to
// print.
Error status_error(const HttpResponse& response, const std::string& registry);

}  // namespace sm
