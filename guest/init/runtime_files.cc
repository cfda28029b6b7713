#include "init/runtime_files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "base/bytes.h"
#include "base/file.h"
#include "base/unique_fd.h"

namespace sm::guest {

namespace {

constexpr std::size_t kMaxHostsFile = 1u << 20;

// Resolves inside `root` as if it were "/", and never into another mount such as /proc.
UniqueFd open_inside(int root, const char* path, std::uint64_t flags) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof(how))));
}

// Content of a regular file: empty when there is none, nothing when it is too large to touch.
std::optional<std::string> read_small(int root, const char* path) {
  const UniqueFd fd = open_inside(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  struct stat st {};
  if (!fd.valid() || ::fstat(fd.get(), &st) < 0 || !S_ISREG(st.st_mode)) return std::string();
  const auto size = static_cast<std::size_t>(st.st_size);
  if (size > kMaxHostsFile) return std::nullopt;
  std::string text(size, '\0');
  if (!read_exact(fd.get(), std::as_writable_bytes(std::span<char>(text)))) {
    return std::string();
  }
  return text;
}

// Puts a file in place by rename, so that a link or a read-only file there is replaced and never
// followed.
Status replace_file(int folder, const char* name, std::string_view text) {
  const std::string temp = std::string(".supermachine-") + name;
  ::unlinkat(folder, temp.c_str(), 0);
  const UniqueFd fd(
      ::openat(folder, temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd.valid()) return fail_errno(std::string("create /etc/") + name, errno);
  SM_TRY_STATUS(write_all(fd.get(), as_byte_span(text)));
  if (::fchmod(fd.get(), 0644) < 0) return fail_errno("fchmod", errno);
  if (::renameat(folder, temp.c_str(), folder, name) < 0) {
    const int error = errno;
    ::unlinkat(folder, temp.c_str(), 0);
    return fail_errno(std::string("put /etc/") + name + " in place", error);
  }
  return {};
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::string_view next_word(std::string_view& line) {
  while (!line.empty() && is_blank(line.front())) line.remove_prefix(1);
  std::size_t end = 0;
  while (end < line.size() && !is_blank(line[end])) ++end;
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(end);
  return word;
}

// True when a line gives `name` an address of the wanted family.
bool has_entry(std::string_view text, std::string_view name, bool v6) {
  while (!text.empty()) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    line = line.substr(0, line.find('#'));
    const std::string_view address = next_word(line);
    if ((address.find(':') != std::string_view::npos) != v6) continue;
    for (auto word = next_word(line); !word.empty(); word = next_word(line)) {
      if (word == name) return true;
    }
  }
  return false;
}

void append_line(std::string& text, std::string_view address, std::string_view names) {
  if (!text.empty() && text.back() != '\n') text += '\n';
  text.append(address).append("\t").append(names).append("\n");
}

std::string resolv_conf(const BootConfig& config) {
  std::string text;
  for (const std::string& server : config.dns) text += "nameserver " + server + "\n";
  return text;
}

Status make_folder(int root, const char* name, mode_t mode) {
  if (::mkdirat(root, name, mode) < 0) {
    return errno == EEXIST ? Status{} : fail_errno(std::string("mkdir /") + name, errno);
  }
  // mkdir obeys the umask; chmod does not.
  if (::fchmodat(root, name, mode, 0) < 0) return fail_errno(std::string("chmod /") + name, errno);
  return {};
}

}  // namespace

std::string complete_hosts(std::string_view existing, const BootConfig& config) {
  std::string text(existing);
  if (!has_entry(text, "localhost", false)) append_line(text, "127.0.0.1", "localhost");
  if (!has_entry(text, "localhost", true)) {
    append_line(text, "::1", "localhost ip6-localhost ip6-loopback");
  }
  for (const HostEntry& entry : config.hosts) append_line(text, entry.address, entry.name);
  if (!has_entry(text, config.hostname, false)) append_line(text, "127.0.1.1", config.hostname);
  return text;
}

Status write_runtime_files(int root, const BootConfig& config) {
  SM_TRY_STATUS(make_folder(root, "etc", 0755));
  SM_TRY_STATUS(make_folder(root, "run", 0755));
  SM_TRY_STATUS(make_folder(root, "tmp", 01777));
  const UniqueFd etc = open_inside(root, "etc", O_PATH | O_DIRECTORY);
  if (!etc.valid()) return fail_errno("the image's /etc is not a folder", errno);
  if (const auto hosts = read_small(root, "etc/hosts")) {
    SM_TRY_STATUS(replace_file(etc.get(), "hosts", complete_hosts(*hosts, config)));
  }
  SM_TRY_STATUS(replace_file(etc.get(), "hostname", config.hostname + "\n"));
  if (!config.dns.empty()) {
    SM_TRY_STATUS(replace_file(etc.get(), "resolv.conf", resolv_conf(config)));
  }
  if (::symlinkat("/proc/mounts", etc.get(), "mtab") < 0 && errno != EEXIST) {
    return fail_errno("symlink /etc/mtab", errno);
  }
  return {};
}

}  // namespace sm::guest
