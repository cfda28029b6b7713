// The manifest.json of an archive made by `docker save`, as values. Pure. Any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sm {

struct DockerImage {
  std::string config;                  // member that holds the image configuration
  std::vector<std::string> repo_tags;  // "name:tag"
  std::vector<std::string> layers;     // members, base first
};

Result<std::vector<DockerImage>> parse_docker_manifest(std::string_view text);

// The image a reference names; the only one when it names none. "busybox" means
// "docker.io/library/busybox:latest" on either side.
Result<DockerImage> choose_docker_image(const std::vector<DockerImage>& images,
                                        std::string_view name);

}  // namespace sm
