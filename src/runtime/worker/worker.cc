#include "runtime/worker/worker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/event_loop.h"
#include "base/file.h"
#include "base/sparse_copy.h"
#include "proto/boot.h"
#include "runtime/worker/control_socket.h"
#include "runtime/worker/disk_slots.h"
#include "runtime/worker/guest_config.h"
#include "runtime/worker/snapshots.h"
#include "runtime/worker/trace_file.h"
#include "vmm/cpu/select.h"
#include "vmm/loader/cpio.h"
#include "vmm/sandbox/sandbox.h"
#include "vmm/vm.h"

namespace sm {

namespace {

constexpr std::size_t kMaxConfigFile = 2u << 20;

// Text of an optional input file; empty when there is none.
Result<std::string> read_optional(const std::string& path, std::string_view flag) {
  if (path.empty()) return std::string();
  return SM_TRY_WITH(read_file(path, kMaxConfigFile), flag);
}

Result<UniqueFd> open_input(const std::string& path, std::string_view flag) {
  return SM_TRY_WITH(open_file(path, O_RDONLY), flag);
}

Result<std::vector<std::byte>> config_archive(const WorkerOptions& options) {
  const std::string requested = SM_TRY(read_optional(options.guest_config, "--guest-config"));
  const std::string env_file = SM_TRY(read_optional(options.env_file, "--env-file"));
  const std::string config = SM_TRY(make_guest_config(options, requested, env_file));
  CpioWriter archive;
  SM_TRY_STATUS(archive.add_file("config.json", 0400, as_byte_span(config)));
  return archive.finish();
}

Status set_boot(const WorkerOptions& options, VmConfig& config) {
  config.memory_bytes = options.memory_mib << 20;
  config.vcpus = options.vcpus;
  config.kernel = SM_TRY(open_input(options.kernel, "--kernel"));
  if (!options.initramfs.empty()) {
    config.initramfs = SM_TRY(open_input(options.initramfs, "--initramfs"));
  }
  config.extra_initramfs = SM_TRY(config_archive(options));
  config.command_line = options.cmdline.value_or(std::string(kDefaultCommandLine));
  return {};
}

// Whoever else copies from that file has the same offset in it, so it is opened anew.
Status fill_root_disk(int from, int disk) {
  const UniqueFd source = SM_TRY(open_file("/proc/self/fd/" + std::to_string(from), O_RDONLY));
  const std::uint64_t bytes = SM_TRY(file_size(disk));
  if (SM_TRY(file_size(source.get())) != bytes) {
    return fail(Code::kInvalidArgument, "the sizes differ", "give a copy of the same size");
  }
  return copy_sparse(source.get(), disk, bytes);
}

Result<UniqueFd> open_root_disk(const WorkerOptions& options) {
  if (!options.root_disk_fd) {
    return SM_TRY_WITH(open_file(options.root_disk, O_RDWR | O_NOFOLLOW), "--root-disk");
  }
  UniqueFd file(*options.root_disk_fd);
  // Else the sandbox would take it for something that a parent has left open.
  if (::fcntl(file.get(), F_SETFD, FD_CLOEXEC) < 0) return fail_errno("--root-disk-fd", errno);
  if (options.root_disk_from_fd) {
    const UniqueFd from(*options.root_disk_from_fd);
    auto filled = fill_root_disk(from.get(), file.get());
    if (!filled) {
      return fail(std::move(filled)
                      .error()
                      .with("copy the disk of " + options.restore_from)
                      .or_remedy("the copy lies beside it: look whether there is room"));
    }
  }
  return file;
}

Result<VmDisk> open_disk(const DiskSlot& slot, const WorkerOptions& options) {
  VmDisk disk;
  disk.read_only = slot.read_only;
  disk.serial = slot.serial;
  disk.saved_bytes = slot.saved_bytes;
  disk.late = slot.late;
  if (slot.path.empty()) return disk;
  disk.file = slot.read_only ? SM_TRY(open_input(slot.path, "--virtio-blk"))
                             : SM_TRY(open_root_disk(options));
  return disk;
}

// `snapshot`: to go on from; null boots.
Result<VmConfig> vm_config(const WorkerOptions& options, OpenedSnapshot* snapshot) {
  VmConfig config;
  if (snapshot != nullptr) {
    config.memory_bytes = snapshot->manifest.memory_bytes;
    config.vcpus = snapshot->manifest.vcpus;
    config.restore = std::move(snapshot->restore);
  } else {
    SM_TRY_STATUS(set_boot(options, config));
  }
  config.memory_writer = SM_TRY(MemoryWriter::create());
  if (options.snapshot_on_kernel) config.hold_at.push_back(doorbell::Event::kImageAwaited);
  if (options.snapshot_on_pre_exec) config.hold_at.push_back(doorbell::Event::kAgentReady);
  const auto slots = snapshot == nullptr ? boot_slots(options)
                                         : SM_TRY(restore_slots(snapshot->manifest, options));
  for (const DiskSlot& slot : slots) config.disks.push_back(SM_TRY(open_disk(slot, options)));
  if (!options.vsock_exec.empty()) {
    config.exec = VsockListener{options.vsock_exec, options.vsock_exec_guest_port};
  }
  if (!options.log_sink.empty()) {
    config.console_sink =
        SM_TRY_WITH(open_file(options.log_sink, O_WRONLY | O_CREAT | O_APPEND, 0600), "--log-sink");
  }
  if (!options.console_input.empty()) {
    config.console_input = SM_TRY_WITH(
        open_file(options.console_input, O_RDONLY | O_NONBLOCK | O_NOCTTY), "--console-input");
  }
  return config;
}

control::EventName control_event(doorbell::Event event) {
  switch (event) {
    case doorbell::Event::kBooted:
      return control::EventName::kBooted;
    case doorbell::Event::kAgentReady:
      return control::EventName::kAgentReady;
    case doorbell::Event::kWorkloadStart:
      return control::EventName::kWorkloadStart;
    case doorbell::Event::kWorkloadExit:
      return control::EventName::kWorkloadExit;
    case doorbell::Event::kImageAwaited:
      return control::EventName::kImageAwaited;
    case doorbell::Event::kFatal:
      return control::EventName::kFatal;
  }
  return control::EventName::kFatal;
}

// Main thread. What the VM's threads report is posted to the loop and handled there, in order.
class Worker {
 public:
  Worker(const WorkerOptions& options, Log& log, EventLoop& loop)
      : options_(options), log_(log), loop_(loop) {}

  int run();

 private:
  Status prepare();
  Status watch_signals();
  Status start_vm();
  bool on_restore(const control::RestoreRequest& request);
  Status become(const control::RestoreRequest& request);
  Result<std::optional<OpenedSnapshot>> restore_source() const;
  Result<EngineChoice> choose_engine(const OpenedSnapshot* snapshot) const;
  void describe(const EngineChoice& engine, const VmConfig& config, const OpenedSnapshot* snapshot);
  void on_guest_event(doorbell::Event event, std::uint32_t argument, std::uint64_t at_ns);
  void trigger_snapshot();
  void snapshot(const control::SnapshotRequest& request, std::span<const UniqueFd> files);
  Status check_snapshot_request(const control::SnapshotRequest& request) const;
  void pause(const control::PauseRequest& request);
  void answer(std::uint64_t id, const Result<Capture>& result);
  void report(control::EventName name, std::uint32_t argument, std::uint64_t at_ns);
  void on_end(VmEnd end, const std::string& why);
  control::Stats stats();
  Status write_stats();

  WorkerOptions options_;
  Log& log_;
  EventLoop& loop_;
  bool sandboxed() const { return !options_.no_sandbox; }
  UniqueFd signals_;
  std::unique_ptr<ControlSocket> control_;
  UniqueFd stats_file_;
  std::unique_ptr<TraceFile> trace_;  // the VM writes to it
  std::unique_ptr<Vm> vm_;
  SnapshotManifest facts_;  // of this VM's snapshots, as far as they are known before
  std::optional<Error> failure_;
  bool fatal_ = false;
};

Status Worker::watch_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int s : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, s);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.valid()) return fail_errno("signalfd", errno);
  ::signal(SIGPIPE, SIG_IGN);
  SM_TRY(loop_.add(signals_.get(), EPOLLIN, [this](std::uint32_t) { loop_.stop(); }));
  return {};
}

// Before any thread exists, so that all of them inherit it.
Status Worker::prepare() {
  ::umask(077);
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  SM_TRY_STATUS(watch_signals());
  if (!options_.control_fd) return {};
  // A parent that died before this line is seen as the end of the control socket.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  control_ = SM_TRY(ControlSocket::open(
      loop_, *options_.control_fd,
      {.on_stop = [this] { loop_.stop(); },
       .on_restore = [this](const control::RestoreRequest& r) { return on_restore(r); },
       .on_snapshot = [this](const control::SnapshotRequest& r,
                             std::vector<UniqueFd> files) { snapshot(r, files); },
       .on_pause = [this](const control::PauseRequest& r) { pause(r); },
       .stats = [this] { return stats(); }}));
  return {};
}

void Worker::report(control::EventName name, std::uint32_t argument, std::uint64_t at_ns) {
  log_.info("{} {}", control::event_text(name), argument);
  if (control_) control_->send(control::Event{name, argument, at_ns});
}

void Worker::on_end(VmEnd end, const std::string& why) {
  if (!why.empty()) log_.info("the VM has ended: {}", why);
  if (end == VmEnd::kFault) failure_ = Error(Code::kGuest, "the VM failed: " + why);
  if (end == VmEnd::kFatal) fatal_ = true;
  loop_.stop();
}

Result<std::optional<OpenedSnapshot>> Worker::restore_source() const {
  if (options_.restore_from.empty()) return std::nullopt;
  return SM_TRY_WITH(open_snapshot(options_.restore_from, options_.restore_digest),
                     "--restore-from");
}

Result<EngineChoice> Worker::choose_engine(const OpenedSnapshot* snapshot) const {
  const SoftDebug debug{.trace = trace_.get()};
  if (snapshot == nullptr) return select_engine(options_.engine, options_.cpu_model, debug);
  const CpuModel model =
      SM_TRY_WITH(parse_cpu_model(snapshot->manifest.cpu_model), options_.restore_from);
  EngineChoice choice =
      SM_TRY(select_engine(options_.engine, options_.cpu_model.value_or(model), debug));
  SM_TRY_STATUS(check_snapshot(snapshot->manifest, options_, choice.vm->cpu()));
  return choice;
}

void Worker::describe(const EngineChoice& engine, const VmConfig& config,
                      const OpenedSnapshot* snapshot) {
  if (snapshot != nullptr) {
    facts_ = snapshot->manifest;
    facts_.base = SnapshotBase{snapshot->path, snapshot->manifest.memory_digest};
    facts_.memory_digest.clear();  // each has its own
  } else {
    facts_.memory_bytes = config.memory_bytes;
    facts_.vcpus = config.vcpus;
    facts_.kernel_digest = options_.kernel_digest;
    facts_.initramfs_digest = options_.initramfs_digest;
  }
  facts_.program = "supermachine-worker " SM_VERSION;
  facts_.engine = engine.name;
  const EngineCpu cpu = engine.vm->cpu();
  facts_.cpu_model = cpu.model;
  facts_.cpu_signature = cpu.signature;
  for (const auto& [key, value] : options_.annotations) facts_.annotations[key] = value;
}

// Every input is open before the sandbox's first step, every thread and descriptor of the VM exists
// before its second, and no instruction of the guest has run before it.
Status Worker::start_vm() {
  if (!options_.trace.empty()) trace_ = SM_TRY(TraceFile::create(options_.trace));
  if (!options_.stats.empty()) {
    stats_file_ =
        SM_TRY_WITH(open_file(options_.stats, O_WRONLY | O_CREAT | O_TRUNC, 0600), "--stats");
  }
  auto snapshot = SM_TRY(restore_source());
  OpenedSnapshot* source = snapshot ? &*snapshot : nullptr;
  VmConfig config = SM_TRY(vm_config(options_, source));
  auto files = sandbox::Landlock::kAbsent;
  if (sandboxed()) files = SM_TRY(sandbox::hide_files(options_.vsock_exec));
  EngineChoice choice = SM_TRY(choose_engine(source));
  log_.info("engine {}: {}", choice.name, choice.reason);
  VmCallbacks callbacks{
      .on_event =
          [this](doorbell::Event event, std::uint32_t argument, std::uint64_t at_ns) {
            loop_.post([=, this] { on_guest_event(event, argument, at_ns); });
          },
      .on_end = [this](VmEnd end,
                       const std::string& why) { loop_.post([=, this] { on_end(end, why); }); }};
  describe(choice, config, source);
  vm_ = SM_TRY(Vm::create(std::move(choice.vm), std::move(config), std::move(callbacks), log_));
  if (sandboxed()) {
    SM_TRY_STATUS(sandbox::seal({.engine = sandbox::calls_of(choice.name), .files = files}));
  } else {
    log_.warning("no sandbox: this process keeps all that it may do");
  }
  SM_TRY_STATUS(vm_->start());
  report(control::EventName::kStarted, 0, monotonic_ns());
  if (options_.snapshot_after_ms) {
    loop_.add_timer(now() + std::chrono::milliseconds(*options_.snapshot_after_ms),
                    [this] { trigger_snapshot(); });
  }
  return {};
}

// What --pool-worker waits for. False: it does not wait (any more).
bool Worker::on_restore(const control::RestoreRequest& request) {
  if (!std::exchange(options_.pool_worker, false)) return false;
  if (auto status = become(request); !status) {
    failure_ = std::move(status).error();
    loop_.stop();
  }
  return true;
}

Status Worker::become(const control::RestoreRequest& request) {
  options_ = SM_TRY(parse_restore_request(request.arguments, *options_.control_fd));
  return start_vm();
}

// --- snapshots ---

// With --snapshot-on-pre-exec or --snapshot-on-kernel the vCPU that rings stays out of the guest
// until the snapshot is taken, by this process or, on request, for the parent.
void Worker::on_guest_event(doorbell::Event event, std::uint32_t argument, std::uint64_t at_ns) {
  const bool triggers = (event == doorbell::Event::kAgentReady && options_.snapshot_on_pre_exec) ||
                        (event == doorbell::Event::kImageAwaited && options_.snapshot_on_kernel);
  if (triggers && !options_.snapshot_out.empty()) trigger_snapshot();
  report(control_event(event), argument, at_ns);
}

void Worker::trigger_snapshot() {
  const auto take = [this] {
    snapshot({.id = control::kTriggeredSnapshot,
              .path = options_.snapshot_out,
              .replace = options_.snapshot_replace},
             {});
    vm_->release();
  };
  if (options_.quiesce_ms == 0) return take();
  loop_.add_timer(now() + std::chrono::milliseconds(options_.quiesce_ms), take);
}

Status Worker::check_snapshot_request(const control::SnapshotRequest& request) const {
  if (vm_ == nullptr) return fail(Code::kInvalidArgument, "the VM has not started yet");
  if (!request.path.empty() && sandboxed()) {
    return fail(Code::kUnsupported, "the sandbox lets a worker write no files by name",
                "send open files, or start it with --no-sandbox");
  }
  if (request.changed_only && !facts_.base) {
    return fail(Code::kInvalidArgument,
                "this VM was not restored from a snapshot, so there is no base",
                "take a whole snapshot");
  }
  return {};
}

void Worker::snapshot(const control::SnapshotRequest& request, std::span<const UniqueFd> files) {
  if (auto status = check_snapshot_request(request); !status) {
    answer(request.id, fail(std::move(status).error()));
  } else if (request.path.empty()) {
    const CaptureTarget target{.memory_file = files[0].get(),
                               .disk_file = request.disk ? files[2].get() : -1,
                               .changed_only = request.changed_only};
    answer(request.id,
           save_machine(*vm_, facts_, target, files[1].get(), [this] { vm_->release(); }));
  } else {
    answer(request.id,
           take_snapshot(*vm_, facts_, {request.path, request.changed_only, request.replace},
                         [this] { vm_->release(); }));
  }
  // Also when it failed: the guest goes on.
  if (vm_ != nullptr) vm_->release();
}

void Worker::pause(const control::PauseRequest& request) {
  if (vm_ == nullptr) {
    return answer(request.id, fail(Code::kInvalidArgument, "the VM has not started yet"));
  }
  Status status;
  if (request.pause) {
    status = vm_->pause();
  } else {
    vm_->release();
    vm_->resume();
  }
  if (!status) return answer(request.id, fail(std::move(status).error()));
  answer(request.id, Capture{});
}

void Worker::answer(std::uint64_t id, const Result<Capture>& result) {
  if (result) {
    log_.info("snapshot: {} bytes, pause {} us", result->written_bytes,
              std::chrono::duration_cast<std::chrono::microseconds>(result->pause).count());
    if (control_) {
      control_->send(control::Done{id, static_cast<std::uint64_t>(result->pause.count()),
                                   result->written_bytes});
    }
    return;
  }
  const Error& error = result.error();
  log_.error("snapshot: {}", error.text());
  if (control_) {
    control_->send(control::Refused{
        id, {std::string(code_name(error.code())), error.cause(), error.remedy()}});
  } else {
    failure_ = error;
    loop_.stop();
  }
}

control::Stats Worker::stats() {
  control::Stats stats;
  if (!vm_) return stats;
  for (const VcpuStats& vcpu : vm_->stats()) stats.vcpus.push_back(vcpu.by_name());
  return stats;
}

Status Worker::write_stats() {
  if (!stats_file_.valid()) return {};
  return write_all(stats_file_.get(), as_byte_span(control::text_of(stats()) + "\n"));
}

int Worker::run() {
  if (auto status = prepare(); !status) {
    fmt::print(stderr, "supermachine-worker: {}\n", status.error().text());
    return 1;
  }
  if (const Status started = options_.pool_worker ? Status{} : start_vm(); started) {
    loop_.run();
  } else {
    failure_ = started.error();
  }
  if (vm_) vm_->stop();
  if (auto status = write_stats(); !status) {
    fmt::print(stderr, "supermachine-worker: {}\n", status.error().text());
  }
  if (failure_) {
    fmt::print(stderr, "VM run failed: {}\n", failure_->text());
    if (control_) {
      control_->send(control::Failure{std::string(code_name(failure_->code())), failure_->cause(),
                                      failure_->remedy()});
    }
    return 2;
  }
  if (fatal_) {
    fmt::print(stderr, "VM run failed: the guest could not start; its console said:\n{}\n",
               vm_->console_tail(4096));
    return 2;
  }
  report(control::EventName::kStopped, 0, monotonic_ns());
  return 0;
}

}  // namespace

int run_worker(const WorkerOptions& options, Log& log) {
  auto loop = EventLoop::create();
  if (!loop) {
    fmt::print(stderr, "supermachine-worker: {}\n", loop.error().text());
    return 2;
  }
  return Worker(options, log, **loop).run();
}

int prove_engine() {
  auto choice = select_engine("auto");
  if (!choice) {
    fmt::print(stderr, "engine test failed: {}\n", choice.error().text());
    return 1;
  }
  fmt::print("engine {}: {}\n", choice->name, choice->reason);
  auto sandbox = sandbox::supported();
  if (!sandbox) {
    fmt::print(stderr, "sandbox: {}\n", sandbox.error().text());
    return 1;
  }
  fmt::print("sandbox: {}\n", *sandbox);
  return 0;
}

}  // namespace sm
