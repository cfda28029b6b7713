#include "vmm/snapshot/compatibility.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sm {
namespace {

constexpr std::string_view kBakeAgain = "bake the image again";

std::string shown(const std::string& value) {
  return value.empty() ? std::string("none") : "\"" + value + "\"";
}

Status differs(std::string_view what, const std::string& saved, const std::string& here,
               std::string_view remedy) {
  return fail(Code::kUnsupported,
              "the snapshot has the " + std::string(what) + " " + saved + ", here it is " + here,
              std::string(remedy));
}

Status same(std::string_view what, const std::string& saved, const std::string& here,
            std::string_view remedy) {
  return saved == here ? Status() : differs(what, saved, here, remedy);
}

std::string describe(const SnapshotDevice& d) {
  std::string text = d.type;
  if (!d.serial.empty()) text += " \"" + d.serial + "\"";
  if (d.bytes != 0) text += " of " + std::to_string(d.bytes) + " bytes";
  if (d.read_only) text += ", read-only";
  return text;
}

bool fits_slot(const SnapshotDevice& saved, const SnapshotDevice& here) {
  return saved.type == here.type && saved.serial == here.serial &&
         saved.read_only == here.read_only && (saved.bytes == 0 || saved.bytes == here.bytes);
}

Status check_devices(const std::vector<SnapshotDevice>& saved,
                     const std::vector<SnapshotDevice>& here) {
  constexpr std::string_view kRemedy = "bring the same devices, or bake the image again";
  SM_TRY_STATUS(same("number of devices", std::to_string(saved.size()), std::to_string(here.size()),
                     kRemedy));
  for (std::size_t slot = 0; slot < saved.size(); ++slot) {
    if (fits_slot(saved[slot], here[slot])) continue;
    return differs("device " + std::to_string(slot), describe(saved[slot]), describe(here[slot]),
                   kRemedy);
  }
  return {};
}

// Takes "-1f" from the front.
std::optional<std::uint32_t> take_hex(std::string_view& text) {
  if (!text.starts_with('-')) return std::nullopt;
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), value, 16);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

}  // namespace

bool signature_covers(std::string_view here, std::string_view saved) {
  if (here == saved) return true;
  constexpr std::string_view kFeatures = "vendor";
  if (!here.starts_with(kFeatures) || !saved.starts_with(kFeatures)) return false;
  here.remove_prefix(kFeatures.size());
  saved.remove_prefix(kFeatures.size());
  if (take_hex(here) != take_hex(saved)) return false;
  while (!here.empty() && !saved.empty()) {
    const auto mine = take_hex(here), theirs = take_hex(saved);
    if (!mine || !theirs || (*theirs & ~*mine) != 0) return false;
  }
  return here.empty() && saved.empty();
}

Status check_compatible(const SnapshotManifest& m, const HostFacts& host) {
  SM_TRY_STATUS(same("format", std::to_string(m.format), std::to_string(kSnapshotFormat),
                     "bake the image again, or use the version that wrote the snapshot"));
  SM_TRY_STATUS(same("CPU model", shown(m.cpu_model), shown(host.cpu_model),
                     "choose the snapshot's CPU model, or bake the image again"));
  if (!signature_covers(host.cpu_signature, m.cpu_signature)) {
    return differs("processor", shown(m.cpu_signature), shown(host.cpu_signature),
                   "bake the image again on this host, or with the CPU model x86-64-v2");
  }
  SM_TRY_STATUS(
      same("guest kernel", shown(m.kernel_digest), shown(host.kernel_digest), kBakeAgain));
  SM_TRY_STATUS(
      same("initramfs", shown(m.initramfs_digest), shown(host.initramfs_digest), kBakeAgain));
  if (host.memory_bytes) {
    SM_TRY_STATUS(same("memory size", std::to_string(m.memory_bytes),
                       std::to_string(*host.memory_bytes),
                       "ask for the snapshot's memory size, or bake the image again"));
  }
  if (host.vcpus) {
    SM_TRY_STATUS(same("number of CPUs", std::to_string(m.vcpus), std::to_string(*host.vcpus),
                       "ask for the snapshot's number of CPUs, or bake the image again"));
  }
  return host.devices ? check_devices(m.devices, *host.devices) : Status();
}

}  // namespace sm
