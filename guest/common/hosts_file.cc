#include "common/hosts_file.h"

#include <unordered_set>

#include "common/text_lines.h"

namespace sm::guest {

namespace {

constexpr std::string_view kOwnAddress = "127.0.1.1";

// True when a line gives `name` an address of the wanted family.
bool has_entry(std::string_view text, std::string_view name, bool v6) {
  while (!text.empty()) {
    std::string_view line = next_line(text);
    line = line.substr(0, line.find('#'));
    const std::string_view address = next_word(line);
    if ((address.find(':') != std::string_view::npos) != v6) continue;
    for (auto word = next_word(line); !word.empty(); word = next_word(line)) {
      if (word == name) return true;
    }
  }
  return false;
}

std::string line_of(std::string_view address, std::string_view names) {
  std::string line(address);
  return line.append("\t").append(names);
}

void append_line(std::string& text, std::string_view address, std::string_view names) {
  if (!text.empty() && text.back() != '\n') text += '\n';
  text += line_of(address, names) + '\n';
}

}  // namespace

std::string complete_hosts(std::string_view existing, std::string_view hostname,
                           const std::vector<HostEntry>& hosts) {
  std::string text(existing);
  if (!has_entry(text, "localhost", false)) append_line(text, "127.0.0.1", "localhost");
  if (!has_entry(text, "localhost", true)) {
    append_line(text, "::1", "localhost ip6-localhost ip6-loopback");
  }
  for (const HostEntry& entry : hosts) append_line(text, entry.address, entry.name);
  if (!has_entry(text, hostname, false)) append_line(text, kOwnAddress, hostname);
  return text;
}

std::string strip_hosts(std::string_view existing, std::string_view hostname,
                        const std::vector<HostEntry>& hosts) {
  std::unordered_set<std::string> ours;
  ours.insert(line_of(kOwnAddress, hostname));
  for (const HostEntry& entry : hosts) ours.insert(line_of(entry.address, entry.name));
  std::string text;
  while (!existing.empty()) {
    const std::string_view rest = existing;
    const std::string_view line = next_line(existing);
    if (ours.count(std::string(line)) != 0) continue;
    // As it was, with its line end if it had one.
    text.append(rest.substr(0, rest.size() - existing.size()));
  }
  return text;
}

std::string resolv_conf(const std::vector<std::string>& servers) {
  std::string text;
  for (const std::string& server : servers) text += "nameserver " + server + "\n";
  return text;
}

}  // namespace sm::guest
