// --tmpfs PATH[:OPTIONS].

#include <algorithm>

#include "runtime/container/container_flags.h"
#include "runtime/container/flag_values.h"

namespace sm {

namespace {

constexpr const char* kRemedy =
    "write PATH or PATH:OPTIONS, such as /run:rw,exec,size=64m,mode=1777";

// A word that sets or clears one of the mount's flags.
struct FlagWord {
  std::string_view word;
  std::uint32_t flag;
  bool set;
};
constexpr FlagWord kFlagWords[] = {{"ro", agent::kTmpfsReadOnly, true},
                                   {"rw", agent::kTmpfsReadOnly, false},
                                   {"noexec", agent::kTmpfsNoExec, true},
                                   {"exec", agent::kTmpfsNoExec, false},
                                   {"nosuid", agent::kTmpfsNoSuid, true},
                                   {"suid", agent::kTmpfsNoSuid, false},
                                   {"nodev", agent::kTmpfsNoDev, true},
                                   {"dev", agent::kTmpfsNoDev, false},
                                   {"noatime", agent::kTmpfsNoAtime, true},
                                   {"atime", agent::kTmpfsNoAtime, false},
                                   {"sync", agent::kTmpfsSync, true},
                                   {"async", agent::kTmpfsSync, false},
                                   {"defaults", 0, true}};

bool is_size(std::string_view value, std::string_view units) {
  if (!value.empty() && units.find(value.back()) != std::string_view::npos) value.remove_suffix(1);
  return parse_number<std::uint64_t>(value).has_value();
}

// An option of the file system itself.
bool is_option(std::string_view key, std::string_view value) {
  if (key == "size") return is_size(value, "kKmMgG%");
  if (key == "nr_inodes" || key == "nr_blocks") return is_size(value, "kKmMgG");
  if (key == "uid" || key == "gid") return parse_number<std::uint32_t>(value).has_value();
  const auto mode = parse_number<std::uint32_t>(value, 8);
  return key == "mode" && mode && *mode <= 07777;
}

Status take_word(std::string_view word, const std::string& text, agent::TmpfsMount& mount) {
  for (const FlagWord& known : kFlagWords) {
    if (word != known.word) continue;
    mount.flags = known.set ? mount.flags | known.flag : mount.flags & ~known.flag;
    return {};
  }
  const auto equals = word.find('=');
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view{} : word.substr(equals + 1);
  if (!is_option(word.substr(0, equals), value)) {
    return bad_flag("--tmpfs", text, "'" + std::string(word) + "' is not an option of a tmpfs",
                    kRemedy);
  }
  mount.options.append(mount.options.empty() ? "" : ",").append(word);
  return {};
}

}  // namespace

Result<agent::TmpfsMount> parse_tmpfs(const std::string& text) {
  const auto colon = text.find(':');
  agent::TmpfsMount mount;
  mount.path = text.substr(0, colon);
  while (mount.path.size() > 1 && mount.path.back() == '/') mount.path.pop_back();
  if (!agent::is_tmpfs_path(mount.path)) {
    return bad_flag("--tmpfs", text,
                    "the path must be absolute, without '..', and neither / nor in /proc", kRemedy);
  }
  std::string_view words =
      colon == std::string::npos ? "" : std::string_view(text).substr(colon + 1);
  while (!words.empty()) {
    const auto comma = words.find(',');
    SM_TRY_STATUS(take_word(words.substr(0, comma), text, mount));
    words = comma == std::string_view::npos ? std::string_view{} : words.substr(comma + 1);
  }
  if (mount.options.size() > agent::kMaxTmpfsOptions) {
    return bad_flag("--tmpfs", text, "the options are too long", "give each option once");
  }
  return mount;
}

}  // namespace sm
