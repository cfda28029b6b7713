#include "vmm/machine.h"

#include <algorithm>

#include "vmm/loader/linux_boot.h"
#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

// Between a stop request and the next exit of a vCPU that is inside a device's callback.
constexpr Duration kVcpuPatience = std::chrono::seconds(5);

}  // namespace

Result<std::unique_ptr<Vm>> Vm::create(std::unique_ptr<EngineVm> engine, VmConfig config,
                                       VmCallbacks callbacks, Log& log) {
  auto machine = std::make_unique<Machine>(std::move(engine), std::move(callbacks), log);
  SM_TRY_STATUS(machine->build(std::move(config)));
  return machine;
}

Machine::~Machine() { Machine::stop(); }

Status Machine::build(VmConfig config) {
  hold_at_ = std::move(config.hold_at);
  memory_writer_ = config.memory_writer ? std::move(config.memory_writer)
                                        : std::optional(SM_TRY(MemoryWriter::create()));
  memory_ = SM_TRY(config.restore ? GuestMemory::create_from(config.memory_bytes,
                                                             std::move(config.restore->memory))
                                  : GuestMemory::create(config.memory_bytes));
  loop_ = SM_TRY(EventLoop::create());
  blk_loop_ = SM_TRY(EventLoop::create());
  SM_TRY_STATUS(engine_->map_memory(*memory_));
  SM_TRY_STATUS(build_platform(std::move(config.console_sink), std::move(config.console_input)));
  SM_TRY_STATUS(build_devices(std::move(config.disks), config.exec));
  if (!config.restore) SM_TRY_STATUS(load(config));
  SM_TRY_STATUS(build_vcpus(config.vcpus));
  return config.restore ? restore(*config.restore) : enter_kernel();
}

Status Machine::build_platform(std::optional<UniqueFd> console_sink,
                               std::optional<UniqueFd> console_input) {
  if (console_sink) {
    console_writer_.emplace(*loop_, console_, std::move(*console_sink));
  }
  uart_irq_ = SM_TRY(engine_->irq_line(addr_map::kUartGsi));
  uart_.emplace(*uart_irq_, console_);
  if (console_input) {
    console_input_ = SM_TRY(ConsoleInput::create(*loop_, *uart_, std::move(*console_input)));
  }
  i8042_.emplace([this] {
    hold_.hold();
    end(VmEnd::kPoweredOff, "the guest asked for a reset");
  });
  doorbell_.emplace(static_cast<DoorbellSink&>(*this), log_, 0);
  for (const doorbell::Event event : hold_at_) doorbell_->add_held(event);
  SM_TRY_STATUS(pio_.add(addr_map::kUartPort, Uart16550::kPorts, *uart_));
  SM_TRY_STATUS(pio_.add(addr_map::kI8042DataPort,
                         addr_map::kI8042CommandPort - addr_map::kI8042DataPort + 1, *i8042_));
  return pio_.add(doorbell::kPortBase, doorbell::kPortCount, *doorbell_);
}

// A device's slot, and with it its interrupt, is its number in the order of attach().
Status Machine::build_devices(std::vector<VmDisk> disks, const std::optional<VsockListener>& exec) {
  rng_ = std::make_unique<RngDevice>("rng");
  SM_TRY_STATUS(attach(*rng_, *loop_));
  vsock_ = SM_TRY(VsockDevice::create(*loop_, log_, VsockCid::kFirstGuest));
  SM_TRY_STATUS(attach(*vsock_, *loop_));
  for (VmDisk& disk : disks) SM_TRY_STATUS(add_disk(std::move(disk)));
  if (exec) {
    exec_listener_ = SM_TRY(
        vsock_->listen_unix(exec->path, VsockPort{exec->guest_port}, VsockAccept::kWhenTold));
  }
  return {};
}

Status Machine::add_disk(VmDisk disk) {
  const Access access = disk.read_only ? Access::kReadOnly : Access::kReadWrite;
  std::unique_ptr<BlockBackend> backend;
  if (disk.file.valid()) {
    backend = SM_TRY_WITH(FileBackend::create(std::move(disk.file), access), disk.serial);
    if (disk.saved_bytes != 0 && backend->size() != disk.saved_bytes) {
      return fail(Code::kUnsupported,
                  "the snapshot's disk '" + disk.serial + "' has " +
                      std::to_string(disk.saved_bytes) + " bytes, its file here " +
                      std::to_string(backend->size()),
                  "bring the file that the machine was saved with, or bake the image again");
    }
  }
  std::unique_ptr<BlockBackend> late = disk.late ? std::move(backend) : nullptr;
  if (backend) doorbell_->set_bound_disks(++bound_disks_);
  disks_.push_back(SM_TRY(
      BlkDevice::create({.name = "blk-" + disk.serial, .serial = disk.serial, .access = access},
                        std::move(backend))));
  if (late) late_disks_.push_back({disks_.back().get(), std::move(late)});
  return attach(*disks_.back(), *blk_loop_);
}

Status Machine::attach(VirtioDevice& device, EventLoop& loop) {
  const auto slot = static_cast<std::uint32_t>(transports_.size());
  if (slot == addr_map::kMaxVirtioSlots) return fail(Code::kLimit, "too many devices");
  const GuestPhysAddr base = addr_map::virtio_base(slot);
  auto irq = SM_TRY(engine_->irq_line(addr_map::virtio_gsi(slot)));
  auto transport = SM_TRY(MmioTransport::create(
      {.device = device, .memory = *memory_, .irq = std::move(irq), .loop = loop, .log = log_}));
  SM_TRY_STATUS(transport->register_ioevents(*engine_, base));
  SM_TRY_STATUS(mmio_.add(base.raw(), addr_map::kVirtioMmioSize, *transport));
  transports_.push_back(std::move(transport));
  return {};
}

Status Machine::load(const VmConfig& config) {
  const FileSource kernel = SM_TRY_WITH(FileSource::open(config.kernel.get()), "kernel");
  std::optional<FileSource> initramfs;
  const SpanSource extra(config.extra_initramfs);
  LinuxBoot boot{.kernel = &kernel,
                 .initrd = {},
                 .engine_words = engine_->kernel_words(),
                 .command_line = config.command_line,
                 .virtio_devices = static_cast<std::uint32_t>(transports_.size()),
                 .vcpus = config.vcpus};
  if (config.initramfs) {
    initramfs = SM_TRY_WITH(FileSource::open(config.initramfs->get()), "initramfs");
    boot.initrd.push_back(&*initramfs);
  }
  if (!config.extra_initramfs.empty()) boot.initrd.push_back(&extra);
  entry_ = SM_TRY(load_linux(*memory_, boot));
  return {};
}

Status Machine::build_vcpus(std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    auto vcpu = SM_TRY(engine_->create_vcpu(i, count));
    vcpus_.push_back(SM_TRY(
        VcpuThread::create({.index = i, .pio = pio_, .mmio = mmio_, .events = *this, .hold = hold_},
                           std::move(vcpu))));
  }
  return {};
}

Status Machine::enter_kernel() {
  CpuState state = SM_TRY(vcpus_.front()->state(Deadline::after(kVcpuPatience)));
  SM_TRY_STATUS(enter_64bit_boot(*memory_, entry_, state));
  return vcpus_.front()->set_state(state, Deadline::after(kVcpuPatience));
}

Status Machine::start() {
  const std::lock_guard lock(stop_mutex_);
  if (stopped_) return fail(Code::kGone, "the VM has been stopped");
  loop_thread_ = NamedThread("loop", [this] { loop_->run(); });
  blk_thread_ = NamedThread("blk", [this] { blk_loop_->run(); });
  if (restored_) {
    for (auto& transport : transports_) transport->go_on();
    uart_->go_on();
    bind_late_disks();
    if (agent_listens_) loop_->post([this] { accept_exec(); });
  }
  running_ = true;
  for (auto& vcpu : vcpus_) vcpu->resume();
  return {};
}

// vCPUs first: nothing touches a device afterwards but the loops, which end next; then the devices
// have this thread to themselves.
void Machine::stop() {
  const std::lock_guard lock(stop_mutex_);
  if (stopped_) return;
  stopped_ = true;
  ended_ = true;
  for (auto& vcpu : vcpus_) vcpu->request_stop();
  for (auto& vcpu : vcpus_) {
    if (auto status = vcpu->stop(Deadline::after(kVcpuPatience)); !status) {
      log_.error("stop: {}", status.error().text());
    }
  }
  for (const auto& vcpu : vcpus_) last_stats_.push_back(vcpu->stats());
  // A vCPU that did not end in time is joined here without a deadline.
  vcpus_.clear();
  if (loop_) loop_->stop();
  if (blk_loop_) blk_loop_->stop();
  loop_thread_.join();
  blk_thread_.join();
  if (vsock_) vsock_->stop();
  for (auto& transport : transports_) transport->stop();
  console_input_.reset();
  console_writer_.reset();
}

std::vector<VcpuStats> Machine::stats() {
  const std::lock_guard lock(stop_mutex_);
  if (stopped_) return last_stats_;
  std::vector<VcpuStats> all;
  for (const auto& vcpu : vcpus_) all.push_back(vcpu->stats());
  return all;
}

void Machine::on_event(doorbell::Event event, std::uint32_t argument) {
  const std::uint64_t at_ns = monotonic_ns();
  const bool holds = std::find(hold_at_.begin(), hold_at_.end(), event) != hold_at_.end();
  if (holds) {
    held_at_ = event;
    held_ = hold_.hold();
  } else if (event == doorbell::Event::kImageAwaited) {
    bind_late_disks();
  } else if (event == doorbell::Event::kAgentReady) {
    loop_->post([this] { accept_exec(); });
  }
  if (event != doorbell::Event::kWorkloadExit && event != doorbell::Event::kFatal) {
    return callbacks_.on_event(event, argument, at_ns);
  }
  hold_.hold();
  // By way of the loop: whoever hears of the end finds the console's last words in the file.
  loop_->post([=, this] {
    if (console_writer_) console_writer_->flush();
    callbacks_.on_event(event, argument, at_ns);
    end(event == doorbell::Event::kFatal ? VmEnd::kFatal : VmEnd::kWorkload, "");
  });
}

void Machine::accept_exec() {
  if (!exec_listener_) return;
  if (auto status = vsock_->start_accepting(*exec_listener_); !status) {
    log_.error("exec socket: {}", status.error().text());
  }
}

// The driver hears of it by an interrupt, the guest's init by the number of disks, which it reads
// when it goes on. Once: there is nothing left to bind afterwards.
void Machine::bind_late_disks() {
  const std::lock_guard lock(late_mutex_);
  for (LateDisk& late : std::exchange(late_disks_, {})) {
    if (auto status = late.device->bind(std::move(late.backend)); !status) {
      log_.error("{}: {}", late.device->name(), status.error().text());
    } else {
      ++bound_disks_;
    }
  }
  doorbell_->set_bound_disks(bound_disks_);
}

void Machine::on_vcpu_end(std::uint32_t index, VcpuEnd how, const std::string& why) {
  if (how == VcpuEnd::kShutdown) {
    end(VmEnd::kPoweredOff, "the guest reset itself");
  } else {
    end(VmEnd::kFault, "vCPU " + std::to_string(index) + ": " + why);
  }
}

void Machine::end(VmEnd how, const std::string& why) {
  if (!ended_.exchange(true)) callbacks_.on_end(how, why);
}

}  // namespace sm
