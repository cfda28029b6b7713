#include "runtime/paths.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>

#include "base/file.h"

namespace sm {

namespace {

bool readable(const std::string& path) { return ::access(path.c_str(), R_OK) == 0; }

std::string environment(const char* name) {
  const char* value = ::getenv(name);
  return value == nullptr ? "" : value;
}

Result<std::string> program_dir() {
  std::array<char, 4096> buffer;
  const ssize_t n = ::readlink("/proc/self/exe", buffer.data(), buffer.size());
  if (n <= 0) return fail_errno("read /proc/self/exe", errno);
  const std::string path(buffer.data(), static_cast<std::size_t>(n));
  return path.substr(0, path.rfind('/'));
}

std::optional<Assets> assets_in(const std::string& bin, const std::string& dir) {
  Assets a{bin + "/supermachine-worker", dir + "/kernel", dir + "/initramfs.cpio"};
  if (!readable(a.kernel) || !readable(a.initramfs)) return std::nullopt;
  return a;
}

// "$VARIABLE/supermachine", or "$HOME/FALLBACK/supermachine".
Result<std::string> xdg_dir(const char* variable, const char* fallback) {
  std::string base = environment(variable);
  if (base.empty()) {
    const std::string home = environment("HOME");
    if (home.empty()) {
      return fail(Code::kNotFound, "neither " + std::string(variable) + " nor HOME is set",
                  "set one of them");
    }
    base = home + "/" + fallback;
  }
  return base + "/supermachine";
}

}  // namespace

Result<Assets> find_assets() {
  const std::string bin = SM_TRY(program_dir());
  const std::string given = environment("SUPERMACHINE_ASSETS");
  if (!given.empty()) {
    if (auto a = assets_in(bin, given)) return *a;
    return fail(Code::kNotFound,
                "no kernel and initramfs.cpio in $SUPERMACHINE_ASSETS (" + given + ")",
                "point it to a folder that has both, or unset it");
  }
  for (const char* dir : {"/../lib/supermachine", "/../guest"}) {
    if (auto a = assets_in(bin, bin + dir)) return *a;
  }
  return fail(Code::kNotFound,
              "the guest kernel and initramfs are not there (looked beside " + bin + ")",
              "run scripts/setup, or set SUPERMACHINE_ASSETS");
}

Result<std::string> cache_dir() {
  std::string dir = SM_TRY(xdg_dir("XDG_CACHE_HOME", ".cache"));
  SM_TRY_STATUS(make_dirs(dir));
  return dir;
}

Result<std::string> data_dir() {
  std::string dir = SM_TRY(xdg_dir("XDG_DATA_HOME", ".local/share"));
  SM_TRY_STATUS(make_dirs(dir));
  return dir;
}

Result<std::string> config_dir() { return xdg_dir("XDG_CONFIG_HOME", ".config"); }

Result<std::string> runtime_dir() {
  const std::string xdg = environment("XDG_RUNTIME_DIR");
  const std::string dir = xdg.empty() || !readable(xdg)
                              ? "/tmp/supermachine-" + std::to_string(::getuid())
                              : xdg + "/supermachine";
  if (::mkdir(dir.c_str(), 0700) < 0 && errno != EEXIST) return fail_errno("mkdir " + dir, errno);
  struct stat st {};
  if (::lstat(dir.c_str(), &st) < 0) return fail_errno("stat " + dir, errno);
  if (!S_ISDIR(st.st_mode) || st.st_uid != ::getuid() || (st.st_mode & 077) != 0) {
    return fail(Code::kPermission, dir + " is not a private folder of this user",
                "remove it, or set XDG_RUNTIME_DIR");
  }
  return dir;
}

}  // namespace sm
