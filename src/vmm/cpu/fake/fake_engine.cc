#include "vmm/cpu/fake/fake_engine.h"

#include <cstring>
#include <utility>

namespace sm {

class FakeVcpu final : public EngineVcpu {
 public:
  explicit FakeVcpu(std::shared_ptr<FakeGuest> guest) : guest_(std::move(guest)) {}

  VcpuExit run() override;
  void kick() override;
  Status finish_pending_exit() override;
  Result<CpuState> state() const override;
  Status set_state(const CpuState& state) override;

 private:
  void finish_locked();
  VcpuExit start_locked(const FakeStep& step);
  void expect_locked(bool condition, const char* violation) const {
    if (!condition) guest_->violations_.emplace_back(violation);
  }

  std::shared_ptr<FakeGuest> guest_;
};

VcpuExit FakeVcpu::run() {
  FakeGuest& guest = *guest_;
  std::unique_lock lock(guest.mutex_);
  if (guest.runner_ == std::thread::id()) guest.runner_ = std::this_thread::get_id();
  expect_locked(guest.runner_ == std::this_thread::get_id(), "run() on a second thread");
  finish_locked();
  guest.in_guest_ = true;
  guest.wake_.wait(lock, [&] { return guest.kicked_ || !guest.script_.empty(); });
  guest.in_guest_ = false;
  if (guest.kicked_.exchange(false)) return ExitKicked{};
  const FakeStep step = guest.script_.front();
  guest.script_.pop_front();
  if (guest.loop_) guest.script_.push_back(step);
  return start_locked(step);
}

// The flag goes up before the lock is asked for: a guest in a tight loop leaves the lock to nobody,
// but it looks at the flag. The lock is for a guest that is just about to wait.
void FakeVcpu::kick() {
  guest_->kicked_ = true;
  ++guest_->kicks_;
  { std::lock_guard lock(guest_->mutex_); }
  guest_->wake_.notify_all();
}

Status FakeVcpu::finish_pending_exit() {
  std::lock_guard lock(guest_->mutex_);
  finish_locked();
  return {};
}

void FakeVcpu::finish_locked() {
  FakeGuest& guest = *guest_;
  if (!guest.pending_) return;
  if (!guest.pending_->is_write) {
    std::uint64_t value = 0;
    std::memcpy(&value, guest.data_.data(), guest.pending_->size);
    guest.reads_.push_back(value);
  }
  guest.pending_.reset();
  ++guest.state_.rip;
  ++guest.finished_;
}

VcpuExit FakeVcpu::start_locked(const FakeStep& step) {
  FakeGuest& guest = *guest_;
  if (std::holds_alternative<FakeHalt>(step)) return ExitHalt{};
  if (std::holds_alternative<FakeShutdown>(step)) return ExitShutdown{};
  if (const auto* fault = std::get_if<FakeFault>(&step)) return ExitFault{fault->why};
  const FakeAccess& access = std::get<FakeAccess>(step);
  guest.pending_ = access;
  guest.data_.fill(std::byte{0});
  if (access.is_write) std::memcpy(guest.data_.data(), &access.value, access.size);
  const std::span<std::byte> data(guest.data_.data(), access.size);
  if (access.mmio) return ExitMmio{GuestPhysAddr(access.address), access.is_write, data};
  return ExitPio{static_cast<std::uint16_t>(access.address), access.is_write, data};
}

Result<CpuState> FakeVcpu::state() const {
  std::lock_guard lock(guest_->mutex_);
  expect_locked(!guest_->in_guest_, "state() inside run()");
  expect_locked(!guest_->pending_, "state() with an exit pending");
  return guest_->state_;
}

Status FakeVcpu::set_state(const CpuState& state) {
  std::lock_guard lock(guest_->mutex_);
  expect_locked(!guest_->in_guest_, "set_state() inside run()");
  expect_locked(!guest_->pending_, "set_state() with an exit pending");
  guest_->state_ = state;
  guest_->state_set_ = state;
  return {};
}

void FakeGuest::then(FakeStep step) {
  {
    std::lock_guard lock(mutex_);
    script_.push_back(std::move(step));
  }
  wake_.notify_all();
}

void FakeGuest::then_out(std::uint16_t port, std::uint32_t value, std::size_t size) {
  then(FakeAccess{.address = port, .is_write = true, .value = value, .size = size});
}

void FakeGuest::then_in(std::uint16_t port, std::size_t size) {
  then(FakeAccess{.address = port, .size = size});
}

void FakeGuest::loop() {
  std::lock_guard lock(mutex_);
  loop_ = true;
}

std::vector<std::uint64_t> FakeGuest::reads() const {
  std::lock_guard lock(mutex_);
  return reads_;
}

std::uint64_t FakeGuest::finished_accesses() const {
  std::lock_guard lock(mutex_);
  return finished_;
}

bool FakeGuest::in_guest() const {
  std::lock_guard lock(mutex_);
  return in_guest_;
}

std::optional<CpuState> FakeGuest::state_set() const {
  std::lock_guard lock(mutex_);
  return state_set_;
}

std::vector<std::string> FakeGuest::violations() const {
  std::lock_guard lock(mutex_);
  return violations_;
}

namespace {

class FakeIrqLine final : public IrqLine {
 public:
  FakeIrqLine(std::shared_ptr<FakeBoard> board, std::uint32_t gsi)
      : board_(std::move(board)), gsi_(gsi) {}
  void trigger() override { ++board_->edges[gsi_]; }

 private:
  std::shared_ptr<FakeBoard> board_;
  std::uint32_t gsi_;
};

class FakeVm final : public EngineVm {
 public:
  explicit FakeVm(std::shared_ptr<FakeBoard> board) : board_(std::move(board)) {}

  std::string_view engine_name() const override { return "fake"; }
  EngineCpu cpu() const override { return {"fake", {}}; }
  Status map_memory(const GuestMemory& memory) override {
    board_->memory = &memory;
    return {};
  }
  Result<std::unique_ptr<IrqLine>> irq_line(std::uint32_t gsi) override {
    if (gsi >= board_->edges.size()) return fail(Code::kInternal, "no such interrupt pin");
    return std::make_unique<FakeIrqLine>(board_, gsi);
  }
  Status register_ioevent(GuestPhysAddr address, std::uint32_t value, int event_fd) override {
    if (!board_->supports_ioevents) return fail(Code::kUnsupported, "no ioevents");
    board_->ioevents.push_back({address, value, event_fd});
    return {};
  }
  Result<std::unique_ptr<EngineVcpu>> create_vcpu(std::uint32_t index,
                                                  std::uint32_t count) override {
    if (index >= count || count > board_->guests.size()) {
      return fail(Code::kInvalidArgument, "no such vCPU");
    }
    return std::make_unique<FakeVcpu>(board_->guests[index]);
  }
  Result<PlatformState> platform_state() const override { return board_->platform; }
  Status set_platform_state(const PlatformState& state) override {
    board_->platform = state;
    return {};
  }

 private:
  std::shared_ptr<FakeBoard> board_;
};

}  // namespace

std::shared_ptr<FakeBoard> make_fake_board(std::uint32_t vcpus) {
  auto board = std::make_shared<FakeBoard>();
  for (std::uint32_t i = 0; i < vcpus; ++i) board->guests.push_back(std::make_shared<FakeGuest>());
  return board;
}

std::unique_ptr<EngineVm> create_fake_vm(std::shared_ptr<FakeBoard> board) {
  return std::make_unique<FakeVm>(std::move(board));
}

}  // namespace sm
