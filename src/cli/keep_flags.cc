#include "cli/keep_flags.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/bytes.h"
#include "base/file.h"
#include "runtime/keeper/port_spec.h"
#include "runtime/keeper/signal_names.h"
#include "runtime/root_disk.h"
#include "runtime/vm_dir.h"

namespace sm {

namespace {

constexpr std::size_t kMaxLabelFile = 1u << 20;

Status add_label(std::map<std::string, std::string>& labels, const std::string& text) {
  const auto equals = text.find('=');
  if (text.empty() || equals == 0) {
    return fail(Code::kInvalidArgument, "'" + text + "' is not a label", "write KEY=VALUE");
  }
  labels[text.substr(0, equals)] = equals == std::string::npos ? "" : text.substr(equals + 1);
  return {};
}

Result<std::map<std::string, std::string>> all_labels(const KeepFlags& flags,
                                                      const ImageConfig& image) {
  auto out = image.labels;
  for (const std::string& path : flags.label_files) {
    const std::string text = SM_TRY(read_file(path, kMaxLabelFile));
    for (std::size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find('\n', at), text.size());
      const std::string line = text.substr(at, end - at);
      at = end + 1;
      if (!line.empty() && line[0] != '#') SM_TRY_STATUS(add_label(out, line));
    }
  }
  for (const std::string& label : flags.labels) SM_TRY_STATUS(add_label(out, label));
  return out;
}

Result<std::vector<PortBinding>> all_ports(const KeepFlags& flags, const ImageConfig& image) {
  std::vector<PortBinding> out;
  for (const std::string& text : flags.ports) {
    const auto ports = SM_TRY(parse_ports(text));
    out.insert(out.end(), ports.begin(), ports.end());
    SM_TRY_STATUS(check_port_count(out.size()));
  }
  if (!flags.all_ports) return out;
  for (const std::string& exposed : image.exposed_ports) {
    // Of those that cannot be published, and that -p has named, nothing is made.
    const auto range = parse_guest_ports(exposed);
    if (!range) continue;
    for (unsigned guest = range->first; guest <= range->last; ++guest) {
      PortBinding port;
      port.guest = static_cast<std::uint16_t>(guest);
      port.any = true;
      const bool named =
          std::any_of(out.begin(), out.end(), [&](const auto& p) { return p.guest == guest; });
      if (!named) out.push_back(port);
    }
    SM_TRY_STATUS(check_port_count(out.size()));
  }
  return out;
}

std::string current_folder() {
  std::array<char, 4096> buffer{};
  return ::getcwd(buffer.data(), buffer.size()) == nullptr ? "/" : buffer.data();
}

// How large the VM's disk is to be; 0: as usual.
Result<std::uint64_t> disk_size(const KeepFlags& flags) {
  std::uint64_t out = 0;
  for (const std::string& text : flags.storage) {
    constexpr std::string_view kSize = "size=";
    if (!text.starts_with(kSize)) {
      return fail(Code::kUnsupported, "--storage-opt " + text + ": only the size can be set",
                  "write size=SIZE, such as size=20g");
    }
    const auto bytes = parse_byte_count(text.substr(kSize.size()));
    if (!bytes || *bytes < kMinRootDisk || *bytes > kMaxRootDisk) {
      return fail(Code::kInvalidArgument,
                  "--storage-opt " + text + ": no size that a disk can have",
                  "use a number with m or g from 64m to 4096g, such as size=20g");
    }
    out = *bytes - *bytes % (1u << 20);
  }
  if (out != 0 && flags.remove) {
    return fail(Code::kInvalidArgument, "--storage-opt and --rm contradict: such a VM has no disk",
                "leave one of them out");
  }
  return out;
}

}  // namespace

void add_keep_flags(Command& command, KeepFlags& flags, bool detach) {
  const auto many = [&](const char* names, std::vector<std::string>& to, const char* type,
                        const char* help) { command.add_option(names, to, help)->type_name(type); };
  if (detach) {
    command.add_flag("-d,--detach", flags.detach, "Run in the background and print the VM's id");
  }
  command.add_flag("--rm", flags.remove, "Remove the VM's record and logs when it has ended");
  command.add_option("--name", flags.name, "Name of the VM")->type_name("NAME");
  command.add_option("--cidfile", flags.cidfile, "Write the VM's id to a file")->type_name("FILE");
  many("-l,--label", flags.labels, "KEY=VALUE", "Note something on the VM");
  many("--label-file", flags.label_files, "FILE", "Read labels from a file, one per line");
  many("-p,--publish", flags.ports, "[IP:][HOST:]GUEST",
       "Lead TCP ports of this host to ones of the VM; FIRST-LAST is a range");
  command.add_flag("-P,--publish-all", flags.all_ports,
                   "Publish all ports that the image exposes, on free ports");
  command.add_option("--restart", flags.restart, "no, on-failure[:N], always or unless-stopped")
      ->type_name("POLICY")
      ->capture_default_str();
  command.add_option("--stop-signal", flags.stop_signal, "Signal of `stop` (default: the image's)")
      ->type_name("SIGNAL");
  command.add_option("--stop-timeout", flags.stop_timeout, "Seconds until `stop` kills")
      ->type_name("SECONDS");
  command
      .add_option("--storage-opt", flags.storage, "Size of the disk below the root (default: 10g)")
      ->type_name("size=SIZE");
}

void add_health_flags(Command& command, HealthFlags& flags) {
  command
      .add_option("--health-cmd", flags.command,
                  "Shell command that fails when the VM's command does not do its work")
      ->type_name("COMMAND");
  command.add_option("--health-interval", flags.interval, "Time between two checks (default: 30s)")
      ->type_name("TIME");
  command
      .add_option("--health-timeout", flags.timeout,
                  "A check that takes longer has failed (default: 30s)")
      ->type_name("TIME");
  command
      .add_option("--health-start-period", flags.start_period,
                  "So long failures do not count (default: 0s)")
      ->type_name("TIME");
  command
      .add_option("--health-retries", flags.retries,
                  "So many failures in a row make it unhealthy (default: 3)")
      ->type_name("N");
  command.add_flag("--no-healthcheck", flags.none, "Check nothing, whatever the image says");
}

Status check_keep_flags(const KeepFlags& flags) {
  if (!flags.name.empty()) SM_TRY_STATUS(check_name(flags.name));
  if (!flags.stop_signal.empty()) SM_TRY(parse_signal(flags.stop_signal));
  std::size_t ports = 0;
  for (const std::string& text : flags.ports) ports += SM_TRY(parse_ports(text)).size();
  SM_TRY_STATUS(check_port_count(ports));
  const RestartPolicy restart = SM_TRY(parse_restart(flags.restart));
  if (flags.remove && restart.kind != RestartKind::kNo) {
    return fail(Code::kInvalidArgument, "--rm and --restart " + flags.restart + " contradict",
                "leave one of them out");
  }
  SM_TRY(disk_size(flags));
  if (!flags.cidfile.empty() && ::access(flags.cidfile.c_str(), F_OK) == 0) {
    return fail(Code::kInvalidArgument, flags.cidfile + " exists already",
                "remove it, or name another --cidfile");
  }
  return {};
}

Result<VmRecord> make_record(const KeepFlags& flags, const PreparedRun& run,
                             std::vector<std::string> words) {
  VmRecord out;
  const ImageConfig& image = run.image.config;
  out.name = flags.name;
  out.image = run.options.image;
  out.image_digest = run.image.digest;
  out.command = run.request.argv;
  out.labels = SM_TRY(all_labels(flags, image));
  out.ports = SM_TRY(all_ports(flags, image));
  out.detached = flags.detach;
  out.tty = run.options.tty;
  out.interactive = run.options.interactive;
  out.auto_remove = flags.remove;
  out.disk_bytes = SM_TRY(disk_size(flags));
  out.restart = SM_TRY(parse_restart(flags.restart));
  // An image that names no signal that we know stops like any other.
  out.stop_signal = flags.stop_signal.empty() ? parse_signal(image.stop_signal).value_or(15)
                                              : SM_TRY(parse_signal(flags.stop_signal));
  if (flags.stop_timeout) out.stop_timeout_s = *flags.stop_timeout;
  out.memory_bytes = run.options.memory_bytes;
  out.cpus = run.options.cpus;
  out.engine = run.options.engine;
  out.created_ns = unix_now_ns();
  out.words = std::move(words);
  out.folder = current_folder();
  const auto frame = agent::encode_exec(run.request);
  out.request = std::string(as_text(frame));
  return out;
}

}  // namespace sm
