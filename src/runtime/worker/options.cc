#include "runtime/worker/options.h"

#include <array>
#include <charconv>

namespace sm {

namespace {

using Values = WorkerOptions;
using Apply = Status (*)(Values& out, const std::string& value);

struct Flag {
  std::string_view name;
  std::string_view argument;
  std::string_view help;
  Apply apply;
};

tl::unexpected<Error> usage(std::string text) {
  return fail(Code::kInvalidArgument, std::move(text), "see supermachine-worker --help");
}

template <class T>
Result<T> number(const std::string& text, T low, T high) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error == std::errc::invalid_argument || end != text.data() + text.size()) {
    return usage("invalid value \"" + text + "\": not a number");
  }
  if (error != std::errc() || value < low || value > high) {
    return usage("invalid value \"" + text + "\": not between " + std::to_string(low) + " and " +
                 std::to_string(high));
  }
  return value;
}

Status set_path(std::string& out, const std::string& value) {
  if (value.empty()) return usage("invalid value \"\": an empty path");
  out = value;
  return {};
}

Status set_profile(Values& out, const std::string& value);

Status add_env(Values& out, const std::string& value) {
  const auto equals = value.find('=');
  if (equals == std::string::npos || equals == 0) {
    return usage("invalid value \"" + value + "\": not NAME=VALUE");
  }
  out.env.emplace_back(value.substr(0, equals), value.substr(equals + 1));
  return {};
}

Status add_disk(Values& out, const std::string& value) {
  if (out.virtio_blk.size() == kMaxDisks) {
    return usage("more than " + std::to_string(kMaxDisks) + " disks");
  }
  return set_path(out.virtio_blk.emplace_back(), value);
}

Status add_annotation(Values& out, const std::string& value) {
  const auto equals = value.find('=');
  if (equals == std::string::npos || equals == 0) {
    return usage("invalid value \"" + value + "\": not NAME=VALUE");
  }
  out.annotations[value.substr(0, equals)] = value.substr(equals + 1);
  return {};
}

constexpr std::uint64_t kMaxWaitMs = 24ull * 3600 * 1000;

constexpr std::array<Flag, 37> kFlags = {{
    {"--kernel", "PATH", "guest kernel: vmlinux or bzImage; without it the engine is tested",
     [](Values& o, const std::string& v) { return set_path(o.kernel, v); }},
    {"--initramfs", "PATH", "cpio archive with the guest's init and agent",
     [](Values& o, const std::string& v) { return set_path(o.initramfs, v); }},
    {"--cmdline", "TEXT", "kernel command line in place of the default; devices come before it",
     [](Values& o, const std::string& v) -> Status {
       o.cmdline = v;
       return {};
     }},
    {"--memory", "MIB", "memory of the guest (default 256)",
     [](Values& o, const std::string& v) -> Status {
       o.memory_mib = SM_TRY(number<std::uint64_t>(v, kMinMemoryMib, kMaxMemoryMib));
       return {};
     }},
    {"--virtio-blk", "PATH", "read-only layer disk, base first; repeatable", add_disk},
    {"--root-disk", "PATH", "writable disk, after the layers, that may become the root's",
     [](Values& o, const std::string& v) { return set_path(o.root_disk, v); }},
    {"--root-disk-fd", "FD", "the same, as an inherited open file",
     [](Values& o, const std::string& v) -> Status {
       o.root_disk_fd = SM_TRY(number<int>(v, 3, 1 << 20));
       o.root_disk = "/dev/fd/" + v;
       return {};
     }},
    {"--root-disk-from-fd", "FD",
     "an inherited open file that --root-disk-fd, all holes, becomes a copy of first",
     [](Values& o, const std::string& v) -> Status {
       o.root_disk_from_fd = SM_TRY(number<int>(v, 3, 1 << 20));
       return {};
     }},
    {"--layer-slots", "N",
     "boot with N empty layer disks; those above get their files when the guest awaits its image",
     [](Values& o, const std::string& v) -> Status {
       o.layer_slots = SM_TRY(number<std::uint32_t>(v, 1, std::uint32_t{kMaxDisks}));
       return {};
     }},
    {"--vcpus", "N", "virtual CPUs (default 1)",
     [](Values& o, const std::string& v) -> Status {
       o.vcpus = SM_TRY(number<std::uint32_t>(v, 1, 32));
       return {};
     }},
    {"--profile", "NAME", "latency (1 CPU) or throughput (4 CPUs), unless --vcpus is given",
     set_profile},
    {"--log-sink", "PATH", "file for the guest's console",
     [](Values& o, const std::string& v) { return set_path(o.log_sink, v); }},
    {"--console-input", "PATH", "pipe or terminal whose bytes are typed on the guest's console",
     [](Values& o, const std::string& v) { return set_path(o.console_input, v); }},
    {"--env", "K=V", "variable for every program in the guest; repeatable, wins over --env-file",
     add_env},
    {"--env-file", "PATH", "JSON text {\"env\":{...},\"secrets\":{...}}",
     [](Values& o, const std::string& v) { return set_path(o.env_file, v); }},
    {"--vsock-exec", "PATH", "unix socket to create for connections to the guest's agent",
     [](Values& o, const std::string& v) { return set_path(o.vsock_exec, v); }},
    {"--vsock-exec-guest-port", "PORT", "vsock port behind that socket (default 1028)",
     [](Values& o, const std::string& v) -> Status {
       o.vsock_exec_guest_port = SM_TRY(number<std::uint32_t>(v, 1, 0xFFFF'FFFE));
       return {};
     }},
    {"--engine", "NAME", "CPU engine: auto, kvm or soft (default auto)",
     [](Values& o, const std::string& v) -> Status {
       if (v != "auto" && v != "kvm" && v != "soft") {
         return usage("invalid value \"" + v + "\": not auto, kvm or soft");
       }
       o.engine = v;
       return {};
     }},
    {"--control", "FD", "inherited control socket of the parent process",
     [](Values& o, const std::string& v) -> Status {
       o.control_fd = SM_TRY(number<int>(v, 3, 1 << 20));
       return {};
     }},
    {"--pool-worker", "", "wait until the parent says by --control what to restore",
     [](Values& o, const std::string&) -> Status {
       o.pool_worker = true;
       return {};
     }},
    {"--guest-config", "PATH", "JSON object with the guest's hostname, limits and files",
     [](Values& o, const std::string& v) { return set_path(o.guest_config, v); }},
    {"--cpu-model", "NAME",
     "processor that the guest sees: host, x86-64-v2 or x86-64-v2-plus (default: the engine's)",
     [](Values& o, const std::string& v) -> Status {
       o.cpu_model = SM_TRY(parse_cpu_model(v));
       return {};
     }},
    {"--restore-from", "PATH", "snapshot to go on from instead of booting",
     [](Values& o, const std::string& v) { return set_path(o.restore_from, v); }},
    {"--kcache-restore-from", "PATH",
     "the same; a snapshot says itself whether it is of a booted kernel that awaits its image",
     [](Values& o, const std::string& v) { return set_path(o.restore_from, v); }},
    {"--restore-digest", "HEX", "name of the memory that the snapshot must have (memory_digest)",
     [](Values& o, const std::string& v) -> Status {
       if (v.size() != 32 || v.find_first_not_of("0123456789abcdef") != std::string::npos) {
         return usage("invalid value \"" + v + "\": not 32 hexadecimal digits");
       }
       o.restore_digest = v;
       return {};
     }},
    {"--cow-restore", "", "accepted; a snapshot is always mapped copy-on-write",
     [](Values&, const std::string&) -> Status { return {}; }},
    {"--snapshot-out", "PATH", "where the snapshot of the triggers below goes",
     [](Values& o, const std::string& v) { return set_path(o.snapshot_out, v); }},
    {"--snapshot-on-pre-exec", "", "save the VM when its agent is ready and no command has run",
     [](Values& o, const std::string&) -> Status {
       o.snapshot_on_pre_exec = true;
       return {};
     }},
    {"--snapshot-on-kernel", "", "save the VM when its guest awaits its image (--layer-slots)",
     [](Values& o, const std::string&) -> Status {
       o.snapshot_on_kernel = true;
       return {};
     }},
    {"--snapshot-after-ms", "MS", "save the VM so long after its start",
     [](Values& o, const std::string& v) -> Status {
       o.snapshot_after_ms = SM_TRY(number<std::uint64_t>(v, 0, kMaxWaitMs));
       return {};
     }},
    {"--quiesce-ms", "MS",
     "let the guest settle so long between a trigger and the save (default 0)",
     [](Values& o, const std::string& v) -> Status {
       o.quiesce_ms = SM_TRY(number<std::uint64_t>(v, 0, kMaxWaitMs));
       return {};
     }},
    {"--kernel-digest", "TEXT", "for the manifest of snapshots: names the kernel",
     [](Values& o, const std::string& v) -> Status {
       o.kernel_digest = v;
       return {};
     }},
    {"--initramfs-digest", "TEXT", "the same of the initramfs",
     [](Values& o, const std::string& v) -> Status {
       o.initramfs_digest = v;
       return {};
     }},
    {"--annotate", "K=V", "for the manifest of snapshots; repeatable", add_annotation},
    {"--snapshot-replace", "", "--snapshot-out may replace a snapshot",
     [](Values& o, const std::string&) -> Status {
       o.snapshot_replace = true;
       return {};
     }},
    {"--stats", "PATH", "file for what each virtual CPU has done, written at the end",
     [](Values& o, const std::string& v) { return set_path(o.stats, v); }},
    {"--trace", "PATH", "file for every instruction that is executed (engine soft; slow)",
     [](Values& o, const std::string& v) { return set_path(o.trace, v); }},
}};

// Kept outside the options: --vcpus wins wherever it stands.
constexpr std::uint32_t kLatencyCpus = 1;
constexpr std::uint32_t kThroughputCpus = 4;

Status set_profile(Values& out, const std::string& value) {
  if (value == "latency" || value == "low-latency") {
    out.vcpus = kLatencyCpus;
  } else if (value == "throughput") {
    out.vcpus = kThroughputCpus;
  } else {
    return usage("invalid value \"" + value + "\": not latency or throughput");
  }
  return {};
}

const Flag* find_flag(std::string_view name) {
  for (const Flag& flag : kFlags) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

// What only a program in the guest can tell is seen by who talks to its agent.
tl::unexpected<Error> unknown_flag(const std::string& word) {
  for (const auto& [name, ready] :
       {std::pair("--snapshot-at", "heartbeat"), std::pair("--snapshot-on-listener", "listener")}) {
    if (word.substr(0, word.find('=')) != name) continue;
    return fail(Code::kUnsupported, std::string(name) + ": a worker does not look into its guest",
                std::string("use supermachine bake --ready ") + ready);
  }
  return usage("unknown arg: " + word);
}

struct Occurrence {
  const Flag* flag;
  std::string value;
};

Result<std::vector<Occurrence>> split(std::span<const std::string> words, Values& out) {
  std::vector<Occurrence> found;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--help") out.help = true;
    if (word == "--version") out.version = true;
    if (word == "--no-sandbox") out.no_sandbox = true;
    if (word == "--help" || word == "--version" || word == "--no-sandbox") continue;
    const auto equals = word.find('=');
    const Flag* flag = find_flag(std::string_view(word).substr(0, equals));
    if (flag == nullptr) return unknown_flag(word);
    if (flag->argument.empty()) {
      if (equals != std::string::npos) return usage(std::string(flag->name) + ": takes no value");
      found.push_back({flag, {}});
      continue;
    }
    if (equals != std::string::npos) {
      found.push_back({flag, word.substr(equals + 1)});
      continue;
    }
    // A value that looks like a flag is a forgotten value; --flag=--value says it is meant.
    if (i + 1 == words.size() || words[i + 1].starts_with("--")) {
      return usage(word + ": missing value");
    }
    found.push_back({flag, words[++i]});
  }
  return found;
}

Status check_triggers(const Values& o) {
  if (o.snapshot_out.empty()) {
    if (o.snapshot_after_ms) return usage("--snapshot-out: missing");
    for (const auto& [given, flag] : {std::pair(o.snapshot_on_pre_exec, "--snapshot-on-pre-exec"),
                                      std::pair(o.snapshot_on_kernel, "--snapshot-on-kernel")}) {
      if (!given || o.control_fd) continue;
      return usage(std::string(flag) + ": give --snapshot-out, or --control to a parent that asks");
    }
    return {};
  }
  if (!o.snapshot_on_pre_exec && !o.snapshot_on_kernel && !o.snapshot_after_ms) {
    return usage("--snapshot-out: no trigger; add --snapshot-on-pre-exec or --snapshot-after-ms");
  }
  if (o.snapshot_on_pre_exec && o.snapshot_on_kernel) {
    return usage("--snapshot-out: two triggers, --snapshot-on-pre-exec and --snapshot-on-kernel");
  }
  if (!o.no_sandbox) {
    return usage("--snapshot-out: the sandbox lets a worker write no files; add --no-sandbox");
  }
  return {};
}

Status check_together(const Values& o) {
  if (!o.restore_from.empty() && (!o.kernel.empty() || !o.initramfs.empty() || o.cmdline)) {
    return usage(
        "--restore-from: a restored VM has its kernel already; leave out --kernel, "
        "--initramfs and --cmdline");
  }
  if (o.restore_from.empty() && !o.restore_digest.empty()) {
    return usage("--restore-digest: without --restore-from");
  }
  if (o.root_disk_from_fd && !o.root_disk_fd) {
    return usage("--root-disk-from-fd: without --root-disk-fd");
  }
  if (o.layer_slots != 0 && !o.restore_from.empty()) {
    return usage("--layer-slots: a restored VM has the disks that it was saved with");
  }
  if (o.layer_slots != 0 && o.virtio_blk.size() > o.layer_slots) {
    return usage("--layer-slots: fewer than layers");
  }
  if (o.snapshot_on_kernel && o.layer_slots == 0) {
    return usage("--snapshot-on-kernel: without --layer-slots");
  }
  return check_triggers(o);
}

Status check_pool_worker(std::span<const Occurrence> found, const Values& o) {
  if (!o.control_fd) return usage("--pool-worker: without --control");
  for (const Occurrence& other : found) {
    const std::string_view name = other.flag->name;
    // A parent that starts all its workers alike gives a configuration too; only boots read it.
    if (name == "--pool-worker" || name == "--control" || name == "--guest-config") continue;
    return usage("--pool-worker: " + std::string(name) + " comes with the restore request");
  }
  if (o.no_sandbox) return usage("--pool-worker: --no-sandbox comes with the restore request");
  return {};
}

}  // namespace

Result<WorkerOptions> parse_worker_options(std::span<const std::string> words) {
  WorkerOptions out;
  const auto found = SM_TRY(split(words, out));
  std::optional<std::uint32_t> explicit_vcpus;
  for (const Occurrence& o : found) {
    if (auto status = o.flag->apply(out, o.value); !status) {
      Error error = std::move(status).error();
      return fail(error.code(), std::string(o.flag->name) + ": " + error.cause(), error.remedy());
    }
    if (o.flag->name == "--vcpus") explicit_vcpus = out.vcpus;
    out.vcpus_given |= o.flag->name == "--vcpus" || o.flag->name == "--profile";
    out.memory_given |= o.flag->name == "--memory";
  }
  if (explicit_vcpus) out.vcpus = *explicit_vcpus;
  SM_TRY_STATUS(check_together(out));
  if (out.pool_worker) SM_TRY_STATUS(check_pool_worker(found, out));
  return out;
}

Result<WorkerOptions> parse_restore_request(std::vector<std::string> words, int control_fd) {
  words.push_back("--control=" + std::to_string(control_fd));
  WorkerOptions out = SM_TRY(parse_worker_options(words));
  if (out.restore_from.empty()) return usage("--restore-from: missing");
  if (out.help || out.version || out.root_disk_fd) {
    return usage("a restore request has a flag that belongs to the command line");
  }
  return out;
}

std::string worker_help() {
  std::string text =
      "Usage: supermachine-worker [FLAG VALUE | FLAG=VALUE]...\n"
      "One process is one VM. Normally started by supermachine.\n\n";
  for (const Flag& flag : kFlags) {
    std::string line = "  " + std::string(flag.name) + " " + std::string(flag.argument);
    line.resize(std::max<std::size_t>(line.size() + 2, 34), ' ');
    text += line + std::string(flag.help) + "\n";
  }
  text +=
      "  --no-sandbox                    keep all system calls and files, for debuggers\n"
      "  --version                       print the version\n"
      "  --help                          print this help\n\n"
      "Exit status: 0 normal end, 1 control socket or engine test failed, 2 wrong usage or the VM "
      "failed.\n";
  return text;
}

}  // namespace sm
