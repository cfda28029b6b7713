#include "init/image_disks.h"

#include "common/disks.h"

namespace sm::guest {

namespace {

constexpr auto kDiskTimeout = std::chrono::seconds(5);

}  // namespace

Result<std::vector<std::string>> image_disks(const BootConfig& config, const DoorbellPort& bell) {
  if (!config.late_disks) return find_disks(config.layers, Deadline::after(kDiskTimeout));
  std::vector<std::string> serials = config.layers;
  serials.insert(serials.end(), config.late_disks->begin(), config.late_disks->end());
  std::vector<std::string> nodes = SM_TRY(find_disks(serials, Deadline::after(kDiskTimeout)));

  bell.ring(doorbell::Event::kImageAwaited);
  const std::uint32_t bound = bell.bound_disks();
  const std::size_t others = config.late_disks->size();
  if (bound < others || bound > nodes.size()) {
    return fail(Code::kInvalidArgument, std::to_string(bound) + " of " +
                                            std::to_string(nodes.size()) + " disks have a file, " +
                                            std::to_string(others) + " of them no layer's");
  }
  const auto at = [&](std::size_t i) { return nodes.begin() + static_cast<std::ptrdiff_t>(i); };
  nodes.erase(at(bound - others), at(config.layers.size()));
  SM_TRY_STATUS(await_capacity(nodes, Deadline::after(kDiskTimeout)));
  nodes.resize(bound - others);
  return nodes;
}

}  // namespace sm::guest
