#include "runtime/bake/fingerprint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/bytes.h"
#include "base/file.h"
#include "base/json.h"
#include "oci/digest.h"
#include "proto/boot.h"

namespace sm {

namespace {

// Raise it when a snapshot of the same inputs would no longer be right: of an engine's processor,
// say, or of the words that it has for the kernel.
constexpr int kRecipe = 3;

std::string hex_of(const std::string& text) { return Hasher::of(as_byte_span(text)).hex(); }

Result<std::string> identity(int file, const std::string& path) {
  struct stat info {};
  if (::fstat(file, &info) < 0) return fail_errno("stat " + path, errno);
  return fmt::format("{} {} {} {}.{} {}.{}", info.st_dev, info.st_ino, info.st_size,
                     info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ctim.tv_sec,
                     info.st_ctim.tv_nsec);
}

Result<std::string> digest_of(int file, const std::string& path) {
  Hasher hasher(HashAlgorithm::kSha256);
  std::vector<std::byte> buffer(1u << 20);
  for (;;) {
    const ssize_t n = ::read(file, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("read " + path, errno);
    if (n == 0) return hasher.finish().text();
    hasher.update(std::span(buffer).first(static_cast<std::size_t>(n)));
  }
}

}  // namespace

std::string fingerprint(const BakeInputs& inputs) {
  nlohmann::json all = {{"recipe", kRecipe},
                        {"kernel", inputs.kernel_digest},
                        {"initramfs", inputs.initramfs_digest},
                        {"layers", inputs.layers},
                        {"memory", inputs.memory_bytes},
                        {"vcpus", inputs.vcpus},
                        {"root_disk", inputs.root_disk_bytes},
                        {"engine", inputs.engine},
                        {"config", inputs.guest_config}};
  if (inputs.layer_slots != 0) {
    all["layer_slots"] = inputs.layer_slots;
    all["root_slot"] = inputs.root_slot;
    all["command_line"] = kDefaultCommandLine;
  }
  return hex_of(dump_json(all));
}

Result<std::string> cached_digest(const std::string& path, const std::string& cache_dir) {
  const UniqueFd file = SM_TRY(open_file(path, O_RDONLY));
  const std::string dir = cache_dir + "/digests";
  SM_TRY_STATUS(make_dirs(dir));
  const std::string place = dir + "/" + hex_of(SM_TRY(identity(file.get(), path)));
  if (auto known = read_file(place, 256)) {
    if (auto digest = Digest::parse(*known)) return digest->text();
  }
  const std::string digest = SM_TRY(digest_of(file.get(), path));
  // A cache: when it cannot be written, the next one reads the file again.
  static_cast<void>(write_file_atomic(place, digest));
  return digest;
}

}  // namespace sm
