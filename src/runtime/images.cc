#include "runtime/images.h"

#include <algorithm>

#include "oci/image_name.h"
#include "oci/reference.h"
#include "oci/text.h"
#include "runtime/paths.h"

namespace sm {

namespace {

// Docker's and Podman's places.
std::vector<std::string> find_auth_files() {
  std::vector<std::string> out;
  const std::string home = environment("HOME");
  const auto add = [&out](const std::string& folder, const char* file) {
    if (!folder.empty()) out.push_back(folder + file);
  };
  add(environment("REGISTRY_AUTH_FILE"), "");
  add(environment("XDG_RUNTIME_DIR"), "/containers/auth.json");
  const std::string config = environment("XDG_CONFIG_HOME");
  add(!config.empty() ? config : home.empty() ? "" : home + "/.config", "/containers/auth.json");
  const std::string docker = environment("DOCKER_CONFIG");
  add(!docker.empty() ? docker : home.empty() ? "" : home + "/.docker", "/config.json");
  return out;
}

Result<ImageSource> pull_and_open(const ImageRequest& request, const ImageFolders& folders,
                                  const ImageStore& store, const ImageName& name,
                                  const TransferObserver& observer, const std::stop_token& stop) {
  RegistryClient client(SM_TRY(registry_options(folders)));
  PullOptions options;
  options.platform = request.platform;
  options.observer = observer;
  const auto pulled = SM_TRY(pull_image(store, client, name, options, stop));
  return store.open_image({name.text(), pulled.target}, request.platform);
}

}  // namespace

Result<ImageFolders> ImageFolders::find() {
  ImageFolders out;
  out.store = SM_TRY(data_dir()) + "/images";
  out.layers = SM_TRY(cache_dir()) + "/layers";
  out.registries_file = SM_TRY(config_dir()) + "/registries.json";
  out.auth_files = find_auth_files();
  return out;
}

Result<PullPolicy> parse_pull_policy(const std::string& text) {
  if (text == "missing") return PullPolicy::kMissing;
  if (text == "always") return PullPolicy::kAlways;
  if (text == "never") return PullPolicy::kNever;
  return fail(Code::kInvalidArgument, "--pull " + text + ": there is no such policy",
              "use missing, always or never");
}

Result<RegistryOptions> registry_options(const ImageFolders& folders) {
  RegistryOptions out;
  out.config = SM_TRY(load_registry_config(folders.registries_file));
  out.auth_files = folders.auth_files;
  return out;
}

Result<ImageSource> resolve_image(const ImageRequest& request, const ImageFolders& folders,
                                  const ImageStore& store, const TransferObserver& observer,
                                  const std::stop_token& stop) {
  if (is_local_reference(request.name)) {
    return ImageSource::open(SM_TRY(parse_reference(request.name)), request.platform);
  }
  auto name = parse_image_name(request.name);
  if (request.pull == PullPolicy::kAlways) {
    return pull_and_open(request, folders, store, SM_TRY(std::move(name)), observer, stop);
  }
  const auto found = store.find(request.name);
  if (found) {
    auto image = store.open_image(found->front(), request.platform);
    if (image) return image;
    const bool missing =
        image.error().code() == Code::kNotFound || image.error().code() == Code::kUnsupported;
    if (!missing || !name) return fail(std::move(image).error().with(printable(request.name)));
    if (request.pull == PullPolicy::kNever) {
      return fail(
          Code::kNotFound,
          printable(request.name) + " is in the store, but not for " + request.platform.text(),
          "fetch it with `supermachine pull --platform " + request.platform.text() + "`");
    }
  } else if (request.pull == PullPolicy::kNever || found.error().code() != Code::kNotFound ||
             !name) {
    return fail(found.error());
  }
  return pull_and_open(request, folders, store, *name, observer, stop);
}

}  // namespace sm
