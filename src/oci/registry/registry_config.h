// RegistryConfig: the user's file about registries: mirrors, certificates, plain HTTP. Pure, but
// for load(). Any thread. Documented in docs/reference/images.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sm {

struct RegistrySettings {
  std::vector<std::string> mirrors;  // "https://host[:port][/path]", asked first, for pulls only
  std::string ca_file;               // PEM, beside the system's authorities
  bool plain_http = false;
  bool skip_tls_verify = false;
};

struct RegistryConfig {
  std::map<std::string, RegistrySettings> registries;  // by "host[:port]"
  unsigned parallel_downloads = 4;
  std::uint64_t push_chunk_bytes = 0;  // 0: a blob is pushed in one request

  const RegistrySettings& of(const std::string& registry) const;

 private:
  RegistrySettings none_;
};

// `where` names the file in errors; unknown fields are refused by name.
Result<RegistryConfig> parse_registry_config(std::string_view text, const std::string& where);

// The file, or nothing but defaults when there is none.
Result<RegistryConfig> load_registry_config(const std::string& path);

}  // namespace sm
