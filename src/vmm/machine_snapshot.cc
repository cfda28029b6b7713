// Machine: pausing, saving, going on from a saved state.
#include <algorithm>

#include "vmm/machine.h"

namespace sm {

namespace {

constexpr Duration kPausePatience = std::chrono::seconds(5);

std::string count_text(std::size_t saved, std::size_t here, const char* what) {
  return "the snapshot has " + std::to_string(saved) + " " + what + ", this machine " +
         std::to_string(here);
}

}  // namespace

// All are asked first, so that they leave the guest side by side.
Status Machine::pause_locked() {
  const auto deadline = Deadline::after(kPausePatience);
  for (auto& vcpu : vcpus_) vcpu->request_pause();
  for (auto& vcpu : vcpus_) SM_TRY_STATUS(vcpu->pause(deadline));
  return {};
}

Status Machine::pause() {
  const std::lock_guard lock(stop_mutex_);
  if (stopped_ || ended_) return fail(Code::kGone, "the VM has ended");
  running_ = false;
  return pause_locked();
}

void Machine::resume() {
  const std::lock_guard lock(stop_mutex_);
  if (stopped_) return;
  running_ = true;
  for (auto& vcpu : vcpus_) vcpu->resume();
}

// Connections that came during the hold have waited, so that none is caught half open in a
// snapshot.
void Machine::release() {
  const VcpuHold::Token token = held_.exchange(0);
  if (token == 0) return;
  if (held_at_ == doorbell::Event::kAgentReady) loop_->post([this] { accept_exec(); });
  if (held_at_ == doorbell::Event::kImageAwaited) bind_late_disks();
  hold_.release(token);
}

// A running guest goes on as soon as its state is known: a child process has its memory as it was.
Result<Capture> Machine::capture(const CaptureTarget& target) {
  const std::lock_guard lock(stop_mutex_);
  if (stopped_ || ended_) return fail(Code::kGone, "the VM has ended");
  if (!target.changed_only) SM_TRY_STATUS(write_layers(*memory_, target.memory_file));
  std::optional<MemoryWriterProcess> child;
  auto capture = save(target, child);
  if (!child) return capture;
  // Also when the rest has failed: the sandbox lets nobody be killed.
  const auto written = child->finish();
  if (!capture) return capture;
  capture->written_bytes = SM_TRY(written);
  return capture;
}

// The devices' locks are held from before the first part is saved until the memory is: what one
// part says of another stays true.
Result<Capture> Machine::save(const CaptureTarget& target,
                              std::optional<MemoryWriterProcess>& child) {
  const TimePoint begin = now();
  const bool goes_on = running_ && held_ == 0;
  auto result = [&]() -> Result<Capture> {
    SM_TRY_STATUS(pause_locked());
    const std::lock_guard late(late_mutex_);
    std::vector<std::unique_lock<std::mutex>> frozen;
    for (auto& transport : transports_) frozen.push_back(transport->freeze());
    if (target.disk_file < 0) SM_TRY_STATUS(check_disks());
    Capture capture;
    capture.state = SM_TRY(save_state());
    capture.devices = devices();
    capture.awaits_image = !late_disks_.empty();
    auto pages = SM_TRY(memory_writer_->changed_pages(*memory_));
    if (goes_on) {
      child.emplace(SM_TRY(MemoryWriterProcess::start(*memory_, pages, target.memory_file)));
    } else {
      capture.written_bytes = SM_TRY(write_pages(*memory_, pages, target.memory_file));
    }
    if (target.changed_only) capture.changed = std::move(pages);
    // The child writes the memory meanwhile.
    if (target.disk_file >= 0) SM_TRY_STATUS(save_disk(target.disk_file));
    return capture;
  }();
  if (running_) {
    for (auto& vcpu : vcpus_) vcpu->resume();
  }
  if (result) result->pause = now() - begin;
  return result;
}

// The files of a snapshot hold memory, and memory knows what is on the disks. With their locks.
Status Machine::check_disks() const {
  for (const auto& disk : disks_) {
    if (!disk->changed()) continue;
    return fail(Code::kUnsupported,
                "the guest has written to its disk '" + disk->describe().serial +
                    "', which a snapshot does not hold",
                "save a VM without such a disk: one of `run --rm`");
  }
  return {};
}

// Requests that the driver has made and the device has not taken are in the memory that was saved:
// a copy of this machine makes them again.
Status Machine::save_disk(int file) const {
  const BlkDevice* found = nullptr;
  for (const auto& disk : disks_) {
    if (disk->describe().read_only) continue;
    if (found != nullptr) {
      return fail(Code::kUnsupported,
                  "a machine with two disks that can be written to is not saved",
                  "use one such disk");
    }
    found = disk.get();
  }
  if (found == nullptr) {
    return fail(Code::kInvalidArgument, "the machine has no disk that could be saved");
  }
  return found->copy_to(file);
}

Result<MachineState> Machine::save_state() {
  MachineState state;
  const auto deadline = Deadline::after(kPausePatience);
  state.uart = uart_->state();
  for (const auto& transport : transports_) state.devices.push_back(transport->state());
  state.platform = SM_TRY(engine_->platform_state());
  for (auto& vcpu : vcpus_) state.vcpus.push_back(SM_TRY(vcpu->state(deadline)));
  state.generation = doorbell_->generation();
  return state;
}

Status Machine::restore(const VmRestore& saved) {
  const MachineState& state = saved.state;
  if (state.vcpus.size() != vcpus_.size()) {
    return fail(Code::kUnsupported, count_text(state.vcpus.size(), vcpus_.size(), "vCPUs"));
  }
  if (state.devices.size() != transports_.size()) {
    return fail(Code::kUnsupported,
                count_text(state.devices.size(), transports_.size(), "devices"));
  }
  uart_->set_state(state.uart);
  for (std::size_t i = 0; i < transports_.size(); ++i) {
    SM_TRY_STATUS(transports_[i]->set_state(state.devices[i]));
  }
  SM_TRY_STATUS(engine_->set_platform_state(state.platform));
  const auto deadline = Deadline::after(kPausePatience);
  for (std::size_t i = 0; i < vcpus_.size(); ++i) {
    SM_TRY_STATUS(vcpus_[i]->set_state(state.vcpus[i], deadline));
  }
  agent_listens_ = !saved.awaits_image;
  doorbell_->set_generation(state.generation + (agent_listens_ ? 1 : 0));
  restored_ = true;
  return {};
}

std::vector<SnapshotDevice> Machine::devices() const {
  std::vector<SnapshotDevice> devices = {{.type = "rng"}, {.type = "vsock"}};
  for (const auto& disk : disks_) devices.push_back(disk->describe());
  return devices;
}

}  // namespace sm
