#include "vmm/snapshot/testing/example.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <concepts>
#include <filesystem>
#include <random>

#include "base/check.h"
#include "vmm/snapshot/state_fields.h"

namespace sm::snapshot_testing {
namespace {

// Fills fields instead of reading them. The engine's sequence is fixed by the C++ standard.
class Filler {
 public:
  explicit Filler(std::uint32_t seed) : random_(seed) {}

  template <class... Fields>
  void operator()(Fields&... fields) {
    (fill(fields), ...);
  }
  template <class E>
  void enumeration(E& value, E last) {
    value = static_cast<E>(below(static_cast<std::uint32_t>(last) + 1));
  }
  void bytes(std::vector<std::byte>& value, std::uint32_t limit) {
    // Nothing, or between 576 (the least for an XSAVE area) and 700, where that much is allowed.
    const std::uint32_t least = limit < 576 ? 0 : 576;
    value.resize(below(4) == 0 ? 0 : least + below(std::min<std::uint32_t>(limit, 124) + 1));
    for (std::byte& b : value) b = static_cast<std::byte>(random_());
  }
  template <class T, class Visitor>
  void list(std::vector<T>& value, std::uint32_t /*limit*/, Visitor visit) {
    value.resize(below(5));
    for (T& element : value) visit(*this, element);
  }
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random_()) % n; }

 private:
  void fill(bool& value) { value = (random_() & 1) != 0; }
  template <std::unsigned_integral T>
  void fill(T& value) {
    const std::uint64_t low = random_();
    const std::uint64_t high = random_();
    value = static_cast<T>(high << 32 | low);
  }
  template <class T, std::size_t n>
  void fill(std::array<T, n>& value) {
    for (T& element : value) fill(element);
  }
  std::mt19937 random_;
};

}  // namespace

MachineState random_state(std::uint32_t seed) {
  Filler filler(seed);
  MachineState state;
  state.vcpus.resize(1 + filler.below(4));
  for (CpuState& cpu : state.vcpus) {
    state_fields::vcpu(filler, cpu);
    for (std::size_t i = 0; i < cpu.msrs.size(); ++i) {
      cpu.msrs[i].index = static_cast<std::uint32_t>(i * 0x1000'0000) + filler.below(1000);
    }
  }
  state_fields::platform(filler, state.platform);
  state_fields::uart(filler, state.uart);
  filler(state.generation);
  state.devices.resize(filler.below(6));
  for (VirtioState& device : state.devices) state_fields::device(filler, device);
  return state;
}

SnapshotManifest example_manifest(const MachineState& state) {
  SnapshotManifest m;
  m.program = "0.1.0";
  m.engine = "soft";
  m.cpu_model = "x86-64-v2";
  m.kernel_digest = "sha256:" + std::string(64, 'a');
  m.initramfs_digest = "sha256:" + std::string(64, 'b');
  m.vcpus = static_cast<std::uint32_t>(state.vcpus.size());
  for (std::size_t i = 0; i < state.devices.size(); ++i) {
    m.devices.push_back({"blk", "layer" + std::to_string(i), 4096 * i, i % 2 == 0});
  }
  m.created_unix_ns = 1'700'000'000'000'000'000;
  m.annotations = {{"image.digest", "sha256:" + std::string(64, 'c')}, {"empty", ""}};
  return m;
}

std::vector<std::byte> page_of(std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> page(4096);
  for (std::byte& b : page) b = static_cast<std::byte>(1 + random() % 255);
  return page;
}

TemporaryFolder::TemporaryFolder(Where where) {
  const bool memory = where == Where::kMemory && ::access("/dev/shm", W_OK | X_OK) == 0;
  const std::filesystem::path parent = memory ? "/dev/shm" : std::filesystem::temp_directory_path();
  path_ = (parent / "snapshot.XXXXXX").string();
  SM_CHECK(::mkdtemp(path_.data()) != nullptr);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> TemporaryFolder::names() const {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    out.push_back(entry.path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace sm::snapshot_testing
