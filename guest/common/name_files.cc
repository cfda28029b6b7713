#include "common/name_files.h"

#include <fcntl.h>

#include <cerrno>

#include "common/root_files.h"
#include "common/text_lines.h"

namespace sm::guest {

namespace {

using agent::MachineSettings;

constexpr std::string_view kOwnAddress = "127.0.1.1";

void add_words(std::string& text, std::string_view key, const std::vector<std::string>& words) {
  if (words.empty()) return;
  text += key;
  for (const std::string& word : words) text.append(" ").append(word);
  text += '\n';
}

// What the settings say anew.
bool is_replaced(std::string_view key, const MachineSettings& s) {
  if (key == "nameserver") return !s.dns.empty();
  if (key == "search" || key == "domain") return !s.dns_search.empty();
  return key == "options" && !s.dns_options.empty();
}

}  // namespace

std::string container_hosts(std::string_view existing, const MachineSettings& settings,
                            std::string_view hostname) {
  std::string text;
  for (const HostEntry& entry : settings.hosts) {
    text.append(entry.address).append("\t").append(entry.name).append("\n");
  }
  if (!settings.domainname.empty()) {
    text.append(kOwnAddress).append("\t").append(hostname).append(".");
    text.append(settings.domainname).append(" ").append(hostname).append("\n");
  }
  // Of an earlier start, when files are kept.
  if (existing.starts_with(text)) return std::string(existing);
  return text.append(existing);
}

std::string container_resolver(std::string_view existing, const MachineSettings& settings) {
  std::string text;
  while (!existing.empty()) {
    const std::string_view line = next_line(existing);
    std::string_view words = line;
    if (!is_replaced(next_word(words), settings)) text.append(line).append("\n");
  }
  const auto& search = settings.dns_search;
  if (search != std::vector<std::string>{"."}) add_words(text, "search", search);
  for (const std::string& server : settings.dns) add_words(text, "nameserver", {server});
  add_words(text, "options", settings.dns_options);
  return text;
}

Status write_name_files(int root, const MachineSettings& settings, const std::string& hostname) {
  SM_TRY_STATUS(make_folder(root, "etc", 0755));
  const UniqueFd etc = open_inside(root, "etc", O_PATH | O_DIRECTORY, Mounts::kStay);
  if (!etc.valid()) return fail_errno("the image's /etc is not a folder", errno);
  const auto rewrite = [&](const char* name, auto&& change) -> Status {
    const auto old = read_small(root, (std::string("etc/") + name).c_str());
    if (!old) return fail(Code::kLimit, "the image's /etc/" + std::string(name) + " is too large");
    return replace_file(etc.get(), name, change(*old));
  };
  if (!settings.hosts.empty() || !settings.domainname.empty()) {
    SM_TRY_STATUS(rewrite(
        "hosts", [&](const std::string& old) { return container_hosts(old, settings, hostname); }));
  }
  if (settings.dns.empty() && settings.dns_search.empty() && settings.dns_options.empty()) {
    return {};
  }
  return rewrite("resolv.conf",
                 [&](const std::string& old) { return container_resolver(old, settings); });
}

}  // namespace sm::guest
