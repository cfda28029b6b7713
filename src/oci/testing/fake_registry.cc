// A registry for tests.
#include "oci/testing/fake_registry.h"

#include <cstdlib>

#include "base/check.h"
#include "base/file.h"

namespace sm::testing {

FakeRegistry::FakeRegistry(const std::vector<std::string>& layers, Hook hook)
    : hook_(std::move(hook)) {
  ImageBuilder image(folder_ / "image");
  for (const auto& layer : layers) image.layer(layer);
  const auto descriptor = image.describe();
  manifest_ = image.manifest;
  const std::string prefix = "/v2/team/app/";
  const auto add = [&](const ImageBuilder::Json& blob) {
    auto bytes = read_file(image.blob_path(blob), 1U << 30U);
    SM_CHECK(bytes.has_value());
    documents_[prefix + "blobs/" + blob.at("digest").get<std::string>()] = {
        "application/octet-stream", *std::move(bytes)};
  };
  for (const auto& layer : manifest_["layers"]) add(layer);
  add(manifest_["config"]);
  manifest_text_ = manifest_.dump();
  const std::string type = "application/vnd.oci.image.manifest.v1+json";
  documents_[prefix + "manifests/v1"] = {type, manifest_text_};
  documents_[prefix + "manifests/" + descriptor.at("digest").get<std::string>()] = {type,
                                                                                    manifest_text_};
  server_ = std::make_unique<HttpServer>([this](const HttpCall& call, HttpPeer& peer) {
    if (!hook_ || !hook_(call, peer)) answer(call, peer);
  });
}

ImageName FakeRegistry::name(const std::string& tag) const {
  auto parsed = parse_image_name(host() + "/team/app:" + tag);
  SM_CHECK(parsed.has_value());
  return *std::move(parsed);
}

std::string FakeRegistry::blob_target(std::size_t layer) const {
  return "/v2/team/app/blobs/" + manifest_.at("layers").at(layer).at("digest").get<std::string>();
}

void FakeRegistry::set(const std::string& target, std::string type, std::string body) {
  std::lock_guard lock(mutex_);
  documents_[target] = {std::move(type), std::move(body)};
}

RegistryOptions FakeRegistry::options() const {
  RegistryOptions out;
  out.config.registries[host()].plain_http = true;
  out.retry.first = std::chrono::milliseconds(1);
  out.retry.longest = std::chrono::milliseconds(5);
  out.limits.answer = std::chrono::seconds(20);
  return out;
}

void FakeRegistry::answer(const HttpCall& call, HttpPeer& peer) {
  std::pair<std::string, std::string> found;
  {
    std::lock_guard lock(mutex_);
    const auto at = documents_.find(call.target);
    if (at == documents_.end()) {
      peer.respond(404, R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]})");
      return;
    }
    found = at->second;
  }
  const auto range = call.header("Range");
  if (!range.starts_with("bytes=")) {
    peer.respond(200, found.second, {{"Content-Type", found.first}});
    return;
  }
  const auto start = std::strtoull(range.c_str() + 6, nullptr, 10);
  const auto size = found.second.size();
  if (start >= size) {
    peer.respond(416, "");
    return;
  }
  peer.respond(206, std::string_view(found.second).substr(start),
               {{"Content-Range", "bytes " + std::to_string(start) + "-" +
                                      std::to_string(size - 1) + "/" + std::to_string(size)}});
}

}  // namespace sm::testing
