// FakeRegistry: one image behind HttpServer, honest unless a hook says otherwise.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "oci/image_name.h"
#include "oci/manifest.h"
#include "oci/registry/registry_client.h"
#include "oci/testing/http_server.h"
#include "oci/testing/image_builder.h"
#include "oci/testing/temp_dir.h"

namespace sm::testing {

class FakeRegistry {
 public:
  // Sees a request first; true: it was answered.
  using Hook = std::function<bool(const HttpCall& call, HttpPeer& peer)>;
  // Serves the image of `layers` (tar streams) as "team/app:v1".
  explicit FakeRegistry(const std::vector<std::string>& layers, Hook hook = {});

  const std::string& host() const { return server_->host(); }
  const HttpServer& server() const { return *server_; }
  ImageName name(const std::string& tag = "v1") const;
  // "/v2/team/app/blobs/sha256:..." of a layer.
  std::string blob_target(std::size_t layer) const;
  const std::string& layer_bytes(std::size_t layer) const {
    return documents_.at(blob_target(layer)).second;
  }
  // Adds or replaces what a target answers: media type and body.
  void set(const std::string& target, std::string type, std::string body);
  const ImageBuilder::Json& manifest() const { return manifest_; }
  const std::string& manifest_text() const { return manifest_text_; }
  // For a client that trusts this registry and does not wait long.
  RegistryOptions options() const;
  // The honest answer.
  void answer(const HttpCall& call, HttpPeer& peer);

 private:
  TempDir folder_;
  Hook hook_;
  ImageBuilder::Json manifest_;
  std::string manifest_text_;
  mutable std::mutex mutex_;  // guards documents_ once the server runs
  std::map<std::string, std::pair<std::string, std::string>> documents_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace sm::testing
