#include "runtime/doctor.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string_view>

#include "base/file.h"
#include "runtime/paths.h"
#include "runtime/root_disk.h"
#include "runtime/run_command.h"

namespace sm {

namespace {

constexpr std::uint64_t kWantedFreeBytes = 1ull << 30;
constexpr std::string_view kSandboxPrefix = "sandbox: ";

Finding bad(std::string subject, const Error& error) {
  return {false, std::move(subject), error.cause(), error.remedy()};
}

std::string size_text(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(bytes) / 1048576.0);
  return text;
}

Finding part(const std::string& subject, const std::string& path) {
  auto fd = open_file(path, O_RDONLY);
  if (!fd) return bad(subject, std::move(fd).error().or_remedy("run scripts/setup"));
  auto size = file_size(fd->get());
  if (!size) return bad(subject, std::move(size).error().with(path));
  return {true, subject, path + " (" + size_text(*size) + ")", ""};
}

// The worker knows engines and its sandbox; this library does not. One line of it is about one of
// them.
std::vector<Finding> worker_findings(const Assets& assets) {
  auto result = run_command({assets.worker}, std::chrono::seconds(10));
  if (!result) return {bad("engine", result.error())};
  std::vector<Finding> out;
  std::istringstream lines(result->output);
  for (std::string line; std::getline(lines, line);) {
    const bool sandbox = line.starts_with(kSandboxPrefix);
    out.push_back({true, sandbox ? "sandbox" : "engine",
                   sandbox ? line.substr(kSandboxPrefix.size()) : line, ""});
  }
  // The worker stops at what fails, so that is its last line.
  if (out.empty()) out.push_back({true, "engine", "", ""});
  out.back().ok = result->status == 0;
  return out;
}

Finding cache() {
  auto dir = cache_dir();
  if (!dir) return bad("cache", dir.error());
  struct statvfs space {};
  if (::statvfs(dir->c_str(), &space) < 0) return bad("cache", Error::from_errno(*dir, errno));
  const std::uint64_t free = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
  std::uint64_t used = 0;
  std::error_code ignored;
  for (std::filesystem::recursive_directory_iterator it(*dir, ignored), end; it != end;
       it.increment(ignored)) {
    if (it->is_regular_file(ignored)) used += it->file_size(ignored);
  }
  Finding f{free >= kWantedFreeBytes, "cache",
            *dir + ": " + size_text(used) + " used, " + size_text(free) + " free on its disk", ""};
  if (!f.ok) f.remedy = "free some space, or set XDG_CACHE_HOME to another disk";
  return f;
}

// Without it only VMs with --rm can be made.
Finding disk_maker() {
  const std::string path = find_mke2fs();
  if (!path.empty()) return {true, "disks", path, ""};
  return {false, "disks", "there is no mke2fs, which makes the disks of VMs", kGetMke2fs};
}

Finding runtime_folder() {
  auto dir = runtime_dir();
  if (!dir) return bad("runtime", dir.error());
  return {true, "runtime", *dir, ""};
}

}  // namespace

std::vector<Finding> examine_host() {
  std::vector<Finding> out;
  auto assets = find_assets();
  if (!assets) {
    out.push_back(bad("parts", assets.error()));
  } else {
    out = worker_findings(*assets);
    out.push_back(part("worker", assets->worker));
    out.push_back(part("kernel", assets->kernel));
    out.push_back(part("initramfs", assets->initramfs));
  }
  out.push_back(cache());
  out.push_back(disk_maker());
  out.push_back(runtime_folder());
  return out;
}

}  // namespace sm
