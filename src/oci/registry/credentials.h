// Credentials for registries, from the files and helper programs that Docker and Podman use.
// Reading files and asking helpers blocks. Any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace sm {

// Either a user with a password, or an identity token that is traded for access tokens.
struct Credential {
  std::string user;
  std::string password;
  std::string identity_token;
};

// One file: Docker's config.json or containers' auth.json.
struct AuthFile {
  std::string path;                            // for messages
  std::map<std::string, Credential> auths;     // by "host[:port][/path]"
  std::map<std::string, std::string> helpers;  // by host: the name of a helper program
  std::string store;                           // the helper for all other hosts
};
// Hostile text welcome; other fields of the file are not looked at.
Result<AuthFile> parse_auth_file(std::string_view text, const std::string& path);

// What a helper program wrote to its standard output. Nothing: it knows no credentials.
Result<std::optional<Credential>> parse_helper_answer(std::string_view text,
                                                      const std::string& helper);

class CredentialStore {
 public:
  // `paths` in the order in which they are asked; missing files are passed over.
  explicit CredentialStore(std::vector<std::string> paths,
                           Duration helper_deadline = std::chrono::seconds(30))
      : paths_(std::move(paths)), helper_deadline_(helper_deadline) {}

  // For a repository of a registry ("host[:port]"): the most specific entry of the first file that
  // has one. Nothing: go without.
  Result<std::optional<Credential>> find(const std::string& registry,
                                         const std::string& repository) const;

 private:
  std::vector<std::string> paths_;
  Duration helper_deadline_;
};

}  // namespace sm
