// The agent's program `processes`: what runs in the machine, from /proc, whatever the image has.

#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <memory>
#include <optional>
#include <string_view>

#include "agent/child_status.h"
#include "agent/own_program.h"
#include "base/bytes.h"
#include "base/file.h"
#include "common/user_db.h"

namespace sm::guest {

namespace {

constexpr std::size_t kMaxProcFile = 64u << 10;
constexpr std::size_t kMaxCommand = 4096;            // bytes of a command line that are shown
constexpr std::uint64_t kKernelThread = 0x00200000;  // PF_KTHREAD

struct Process {
  int pid = 0;
  std::string name;
  std::string command;
  uid_t uid = 0;
  // Of /proc/PID/stat behind the name: state is the first.
  std::vector<std::string> stat;

  // As proc(5) numbers them.
  std::int64_t field(std::size_t number) const {
    const std::size_t at = number - 3;
    std::int64_t out = 0;
    if (at < stat.size()) {
      std::from_chars(stat[at].data(), stat[at].data() + stat[at].size(), out);
    }
    return out;
  }
};

struct Machine {
  std::int64_t ticks = 100;  // of a second
  std::int64_t page_kib = 4;
  std::int64_t uptime = 0;  // in ticks
  std::int64_t memory_kib = 1;
  time_t now = 0;
  std::map<uid_t, std::string> users;

  std::int64_t age_seconds(const Process& p) const {
    return std::max<std::int64_t>(0, (uptime - p.field(22)) / ticks);
  }
  std::int64_t cpu_ticks(const Process& p) const { return p.field(14) + p.field(15); }
};

std::string two_digits(std::int64_t value) {
  return (value < 10 ? "0" : "") + std::to_string(value);
}

// The share in tenths of a percent, with one digit behind the point.
std::string tenths(std::int64_t part, std::int64_t whole) {
  const std::int64_t share = part * 1000 / std::max<std::int64_t>(1, whole);
  return std::to_string(share / 10) + "." + std::to_string(share % 10);
}

std::string user_of(const Process& p, const Machine& m) {
  const auto it = m.users.find(p.uid);
  return it == m.users.end() ? std::to_string(p.uid) : it->second;
}

// The kernel's number of a terminal as its name below /dev.
std::string tty_of(const Process& p, const Machine&) {
  const auto device = static_cast<dev_t>(p.field(7));
  if (device == 0) return "?";
  const unsigned major = gnu_dev_major(device), minor = gnu_dev_minor(device);
  if (major >= 136 && major <= 143) return "pts/" + std::to_string((major - 136) * 256 + minor);
  if (major == 4)
    return minor < 64 ? "tty" + std::to_string(minor) : "ttyS" + std::to_string(minor - 64);
  if (major == 5 && minor == 1) return "console";
  return std::to_string(major) + ":" + std::to_string(minor);
}

std::string cpu_percent(const Process& p, const Machine& m) {
  return tenths(m.cpu_ticks(p), m.uptime - p.field(22));
}

std::string cpu_whole_percent(const Process& p, const Machine& m) {
  const std::string text = cpu_percent(p, m);
  return text.substr(0, text.find('.'));
}

// The time of today, else the day.
std::string started(const Process& p, const Machine& m) {
  const time_t at = m.now - static_cast<time_t>(m.age_seconds(p));
  tm then{}, today{};
  ::gmtime_r(&at, &then);
  ::gmtime_r(&m.now, &today);
  std::array<char, 16> out{};
  const bool same = then.tm_yday == today.tm_yday && then.tm_year == today.tm_year;
  ::strftime(out.data(), out.size(), same ? "%H:%M" : "%b%d", &then);
  return out.data();
}

std::string hours(std::int64_t seconds) {
  return two_digits(seconds / 3600) + ":" + two_digits(seconds / 60 % 60) + ":" +
         two_digits(seconds % 60);
}

std::string elapsed(const Process& p, const Machine& m) {
  const std::int64_t seconds = m.age_seconds(p);
  if (seconds >= 86400) {
    return std::to_string(seconds / 86400) + "-" + hours(seconds % 86400);
  }
  return seconds >= 3600 ? hours(seconds) : hours(seconds).substr(3);
}

std::string state_of(const Process& p, const Machine&) {
  std::string out = p.stat.empty() ? "?" : p.stat[0];
  if (p.field(19) < 0) out += '<';
  if (p.field(19) > 0) out += 'N';
  if (p.field(6) == p.pid) out += 's';
  if (p.field(20) > 1) out += 'l';
  if (p.field(7) != 0 && p.field(8) == p.field(5)) out += '+';
  return out;
}

using Show = std::string (*)(const Process& p, const Machine& m);
struct Column {
  const char* name;
  const char* title;
  bool right;
  Show show;
};

template <std::size_t kField>
std::string number(const Process& p, const Machine&) {
  return std::to_string(p.field(kField));
}

constexpr Column kColumns[] = {
    {"user", "USER", false, user_of},
    {"uname", "UID", false, user_of},
    {"uid", "UID", true, [](const Process& p, const Machine&) { return std::to_string(p.uid); }},
    {"pid", "PID", true, [](const Process& p, const Machine&) { return std::to_string(p.pid); }},
    {"ppid", "PPID", true, number<4>},
    {"pgid", "PGID", true, number<5>},
    {"sid", "SID", true, number<6>},
    {"nice", "NI", true, number<19>},
    {"nlwp", "NLWP", true, number<20>},
    {"c", "C", true, cpu_whole_percent},
    {"pcpu", "%CPU", true, cpu_percent},
    {"pmem", "%MEM", true,
     [](const Process& p, const Machine& m) {
       return tenths(p.field(24) * m.page_kib, m.memory_kib);
     }},
    {"vsz", "VSZ", true,
     [](const Process& p, const Machine&) { return std::to_string(p.field(23) >> 10); }},
    {"rss", "RSS", true,
     [](const Process& p, const Machine& m) { return std::to_string(p.field(24) * m.page_kib); }},
    {"state", "S", false,
     [](const Process& p, const Machine&) { return p.stat.empty() ? "?" : p.stat[0]; }},
    {"stat", "STAT", false, state_of},
    {"tty", "TTY", false, tty_of},
    {"stime", "STIME", false, started},
    {"etime", "ELAPSED", true, elapsed},
    {"time", "TIME", true,
     [](const Process& p, const Machine& m) { return hours(m.cpu_ticks(p) / m.ticks); }},
    {"comm", "COMMAND", false, [](const Process& p, const Machine&) { return p.name; }},
    {"args", "COMMAND", false, [](const Process& p, const Machine&) { return p.command; }},
    {"cmd", "CMD", false, [](const Process& p, const Machine&) { return p.command; }},
};

const Column* find_column(const std::string& name) {
  for (const Column& column : kColumns) {
    if (name == column.name) return &column;
  }
  return nullptr;
}

// Files of /proc say that they are empty.
std::string read_proc(const std::string& path) {
  std::string out;
  const UniqueFd fd = open_regular(path.c_str());
  std::array<char, 4096> buffer;
  while (fd.valid() && out.size() < kMaxProcFile) {
    const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n <= 0) break;
    out.append(buffer.data(), static_cast<std::size_t>(n));
  }
  return out;
}

std::int64_t number_behind(const std::string& text, std::string_view name) {
  auto at = text.find(name);
  if (at == std::string::npos) return 0;
  at = text.find_first_of("0123456789", at + name.size());
  std::int64_t out = 0;
  if (at != std::string::npos) std::from_chars(text.data() + at, text.data() + text.size(), out);
  return out;
}

// What a terminal could take for more than text is no text.
std::string shown(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return text;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find_first_of(" \n", at), text.size());
    if (end > at) out.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

std::string command_of(const Process& p, std::string text) {
  while (!text.empty() && text.back() == '\0') text.pop_back();
  if (text.empty()) {
    const bool ended = !p.stat.empty() && p.stat[0] == "Z";
    return "[" + p.name + "]" + (ended ? " <defunct>" : "");
  }
  std::replace(text.begin(), text.end(), '\0', ' ');
  return shown(text.substr(0, kMaxCommand));
}

// Nothing of one that is the kernel's, that init or the agent is, or that has ended meanwhile.
std::optional<Process> look_at(const std::string& pid, const struct stat& agent) {
  Process out;
  if (std::from_chars(pid.data(), pid.data() + pid.size(), out.pid).ptr !=
      pid.data() + pid.size()) {
    return std::nullopt;
  }
  const std::string folder = "/proc/" + pid;
  const std::string stat = read_proc(folder + "/stat");
  const auto open = stat.find('('), close = stat.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close < open) return std::nullopt;
  out.name = shown(stat.substr(open + 1, close - open - 1));
  out.stat = words_of(std::string_view(stat).substr(close + 1));
  const bool of_kernel = (static_cast<std::uint64_t>(out.field(9)) & kKernelThread) != 0;
  struct stat program {};
  const bool ours = ::stat((folder + "/exe").c_str(), &program) == 0 &&
                    program.st_ino == agent.st_ino && program.st_dev == agent.st_dev;
  if (of_kernel || ours || out.pid == 1) return std::nullopt;
  out.uid = static_cast<uid_t>(number_behind(read_proc(folder + "/status"), "\nUid:"));
  out.command = command_of(out, read_proc(folder + "/cmdline"));
  return out;
}

std::vector<Process> all_processes() {
  std::vector<Process> out;
  struct stat agent {};
  if (::stat("/proc/self/exe", &agent) < 0) return out;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir("/proc"), ::closedir);
  while (const dirent* entry = dir ? ::readdir(dir.get()) : nullptr) {
    if (auto process = look_at(entry->d_name, agent)) out.push_back(*std::move(process));
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.pid < b.pid; });
  return out;
}

std::map<uid_t, std::string> all_users() {
  const UniqueFd fd = open_regular("/etc/passwd");
  std::string text;
  std::array<char, 16384> buffer;
  while (fd.valid() && text.size() < kMaxUserFile) {
    const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  return user_names(text);
}

Machine this_machine() {
  Machine out;
  out.ticks = std::max<std::int64_t>(1, ::sysconf(_SC_CLK_TCK));
  out.page_kib = ::sysconf(_SC_PAGESIZE) / 1024;
  out.memory_kib =
      std::max<std::int64_t>(1, number_behind(read_proc("/proc/meminfo"), "MemTotal:"));
  timespec boot{};
  ::clock_gettime(CLOCK_BOOTTIME, &boot);
  out.uptime = boot.tv_sec * out.ticks + boot.tv_nsec / (1'000'000'000 / out.ticks);
  out.now = ::time(nullptr);
  out.users = all_users();
  return out;
}

using Rows = std::vector<std::vector<std::string>>;

std::string table_of(const Rows& rows, const std::vector<const Column*>& columns) {
  std::vector<std::size_t> widths(columns.size(), 0);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(widths[i] - row[i].size(), ' ');
      const bool last = i + 1 == row.size();
      out += columns[i]->right ? blanks + row[i] : row[i] + (last ? "" : blanks);
      out += last ? "\n" : " ";
    }
  }
  return out;
}

}  // namespace

int processes_main(const Arguments& arguments) {
  std::vector<const Column*> columns;
  Rows rows(1);
  for (const std::string& name : arguments) {
    columns.push_back(find_column(name));
    if (columns.back() == nullptr) {
      complain("there is no column " + name);
      return 1;
    }
    rows[0].emplace_back(columns.back()->title);
  }
  const Machine machine = this_machine();
  for (const Process& process : all_processes()) {
    auto& row = rows.emplace_back();
    for (const Column* column : columns) row.push_back(column->show(process, machine));
  }
  return write_all(STDOUT_FILENO, as_byte_span(table_of(rows, columns))) ? 0 : 1;
}

}  // namespace sm::guest
