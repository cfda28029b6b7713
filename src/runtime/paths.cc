#include "runtime/paths.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <vector>

#include "base/file.h"

namespace sm {

namespace {

bool readable(const std::string& path) { return ::access(path.c_str(), R_OK) == 0; }

std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

Result<std::string> program_dir() {
  std::array<char, 4096> buffer;
  const ssize_t n = ::readlink("/proc/self/exe", buffer.data(), buffer.size());
  if (n <= 0) return fail_errno("read /proc/self/exe", errno);
  return folder_of(std::string(buffer.data(), static_cast<std::size_t>(n)));
}

// Of the shared library that this code was linked into; empty when it is part of the program.
std::string library_dir() {
  Dl_info info{};
  // SAFETY: dladdr takes any address; a function's is one of this module.
  if (::dladdr(reinterpret_cast<const void*>(&library_dir), &info) == 0) return {};
  const std::string path = info.dli_fname == nullptr ? "" : info.dli_fname;
  return path.starts_with('/') ? folder_of(path) : std::string();
}

std::optional<Assets> assets_in(const std::string& dir, const std::vector<std::string>& programs) {
  Assets a{"", dir + "/kernel", dir + "/initramfs.cpio"};
  if (!readable(a.kernel) || !readable(a.initramfs)) return std::nullopt;
  for (const std::string& folder : programs) {
    a.worker = folder + "/supermachine-worker";
    if (::access(a.worker.c_str(), X_OK) == 0) return a;
  }
  return std::nullopt;
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

std::string environment(const char* name) {
  const char* value = ::getenv(name);
  return value == nullptr ? "" : value;
}

Result<Assets> assets_in_folder(const std::string& dir) {
  if (auto a = assets_in(dir, {dir, SM_TRY(program_dir())})) return *a;
  return fail(Code::kNotFound, "no kernel, initramfs.cpio and supermachine-worker in " + dir,
              "name the folder that has them, such as PREFIX/lib/supermachine");
}

Result<Assets> find_assets() {
  const std::string bin = SM_TRY(program_dir());
  const std::string given = environment("SUPERMACHINE_ASSETS");
  if (!given.empty()) return SM_TRY_WITH(assets_in_folder(given), "$SUPERMACHINE_ASSETS");
  std::vector<std::string> places = {bin + "/../lib/supermachine", bin + "/../guest"};
  if (const std::string lib = library_dir(); !lib.empty()) {
    for (const char* dir :
         {"/supermachine", "/../supermachine", "/../lib/supermachine", "/../guest"}) {
      places.push_back(lib + dir);
    }
  }
  for (const std::string& dir : places) {
    // In an installed tree the worker is among the assets, in a build tree beside the program.
    if (auto a = assets_in(dir, {dir, bin, dir + "/../bin"})) return *a;
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

Result<std::string> state_dir() {
  std::string dir = SM_TRY(xdg_dir("XDG_STATE_HOME", ".local/state"));
  SM_TRY_STATUS(make_dirs(dir, 0700));
  return dir;
}

Result<std::string> config_dir() { return xdg_dir("XDG_CONFIG_HOME", ".config"); }

Result<std::string> runtime_dir() {
  const std::string xdg = environment("XDG_RUNTIME_DIR");
  const std::string dir = xdg.empty() || !readable(xdg)
                              ? "/tmp/supermachine-" + std::to_string(::getuid())
                              : xdg + "/supermachine";
  return private_dir(dir);
}

Result<std::string> private_dir(const std::string& dir) {
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
