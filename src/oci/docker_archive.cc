// Parsing of docker's archive manifest.
#include "oci/docker_archive.h"

#include <algorithm>

#include "oci/json.h"
#include "oci/manifest.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr std::string_view kWhat = "manifest.json of the archive";

std::string canonical(std::string_view name) {
  for (const std::string_view prefix : {"docker.io/", "localhost/"}) {
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  }
  constexpr std::string_view kLibrary = "library/";
  if (name.starts_with(kLibrary)) name.remove_prefix(kLibrary.size());
  // A colon before the last slash belongs to a host's port.
  const auto slash = name.rfind('/');
  const auto last = slash == std::string_view::npos ? name : name.substr(slash + 1);
  return std::string(name) + (last.find(':') == std::string_view::npos ? ":latest" : "");
}

Result<DockerImage> parse_image(const Json& entry) {
  if (!entry.is_object()) return fail(Code::kCorrupt, std::string(kWhat) + " holds no objects");
  DockerImage image;
  image.config = SM_TRY(json_text(entry, "Config", kWhat));
  image.repo_tags = SM_TRY(json_texts(entry, "RepoTags", kWhat));
  image.layers = SM_TRY(json_texts(entry, "Layers", kWhat));
  if (image.config.empty()) {
    return fail(Code::kCorrupt, std::string(kWhat) + " names no image configuration");
  }
  if (image.layers.size() > kMaxLayers) {
    return fail(Code::kLimit,
                std::string(kWhat) + " has more than " + std::to_string(kMaxLayers) + " layers");
  }
  return image;
}

std::string known_tags(const std::vector<DockerImage>& images) {
  std::string out;
  for (const auto& image : images) {
    for (const auto& tag : image.repo_tags) {
      if (out.size() > 300) return out + ", ...";
      out += (out.empty() ? "" : ", ") + printable(tag, 100);
    }
  }
  return out;
}

}  // namespace

Result<std::vector<DockerImage>> parse_docker_manifest(std::string_view text) {
  const auto json = SM_TRY(parse_json_array(text, kWhat));
  if (json.size() > kMaxIndexEntries) {
    return fail(Code::kLimit, std::string(kWhat) + " has more than " +
                                  std::to_string(kMaxIndexEntries) + " images");
  }
  std::vector<DockerImage> images;
  images.reserve(json.size());
  for (const auto& entry : json) images.push_back(SM_TRY(parse_image(entry)));
  return images;
}

Result<DockerImage> choose_docker_image(const std::vector<DockerImage>& images,
                                        std::string_view name) {
  if (images.empty()) return fail(Code::kNotFound, "the archive holds no image");
  const auto tags = known_tags(images);
  if (name.empty()) {
    if (images.size() == 1) return images.front();
    return fail(Code::kInvalidArgument, "the archive holds several images",
                "add one of the names to the reference: " + tags);
  }
  const auto wanted = canonical(name);
  for (const auto& image : images) {
    const auto same = [&](const std::string& tag) { return canonical(tag) == wanted; };
    if (std::any_of(image.repo_tags.begin(), image.repo_tags.end(), same)) return image;
  }
  return fail(Code::kNotFound, "the archive holds no image named \"" + printable(name) + "\"",
              tags.empty() ? "" : "it has: " + tags);
}

}  // namespace sm
