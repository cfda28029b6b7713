#include "runtime/keeper/image_use.h"

#include "oci/reference.h"
#include "runtime/bake/saved_machine.h"
#include "runtime/bake/tag_store.h"
#include "vmm/snapshot/snapshot_dir.h"

namespace sm {

Result<ImageUse> image_use(const VmRegistry& registry, const std::string& cache_dir) {
  ImageUse out;
  for (const auto& vm : SM_TRY(registry.all())) {
    if (!is_local_reference(vm.image)) out.images.emplace(vm.image_digest, vm.name);
  }
  for (const auto& entry : SM_TRY(TagStore::open(cache_dir)).entries()) {
    const auto manifest = read_snapshot_manifest(entry.path);
    if (!manifest) continue;  // of what is damaged no VM can be made
    const auto image = saved_image_of(*manifest);
    if (image) out.layers.insert(image->layers.begin(), image->layers.end());
  }
  return out;
}

}  // namespace sm
