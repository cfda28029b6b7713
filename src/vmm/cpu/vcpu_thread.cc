#include "vmm/cpu/vcpu_thread.h"

#include <pthread.h>

#include <optional>
#include <system_error>
#include <utility>
#include <variant>

namespace sm {

namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

tl::unexpected<Error> own_thread_error(const std::string& what) {
  return fail(Code::kInternal, what + " on the vCPU's own thread can never finish");
}

void access(const Bus& bus, std::uint64_t address, bool is_write, std::span<std::byte> data) {
  if (is_write) {
    bus.write(address, data);
  } else {
    bus.read(address, data);
  }
}

}  // namespace

Result<std::unique_ptr<VcpuThread>> VcpuThread::create(const Config& config,
                                                       std::unique_ptr<EngineVcpu> vcpu) {
  std::unique_ptr<VcpuThread> self(new VcpuThread(config, std::move(vcpu)));
  // The standard library reports a failed thread start by exception; it ends here.
  try {
    self->thread_ = std::thread([raw = self.get()] { raw->thread_main(); });
  } catch (const std::system_error& error) {
    return fail(Code::kLimit, std::string("start a vCPU thread: ") + error.what(),
                "raise the limit on processes and threads");
  }
  self->own_id_ = self->thread_.get_id();
  return self;
}

VcpuThread::~VcpuThread() {
  request_stop();
  std::lock_guard join_lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

// The id of a thread that was joined may be given to a new one.
bool VcpuThread::on_own_thread() const {
  if (std::this_thread::get_id() != own_id_) return false;
  std::lock_guard lock(mutex_);
  return !exited_;
}

// What to do from now on. True: the vCPU may be in the guest and needs a kick to see it; a parked
// one looks by itself.
bool VcpuThread::want_locked(Want want) {
  if (want_ == Want::kStop) return false;
  want_ = want;
  if (want == Want::kRun) halted_ = false;
  return in_guest_ && want != Want::kRun;
}

void VcpuThread::want(Want want) {
  bool kick = false;
  {
    std::lock_guard lock(mutex_);
    kick = want_locked(want);
  }
  command_.notify_one();
  if (kick) vcpu_->kick();
}

void VcpuThread::resume() { want(Want::kRun); }
void VcpuThread::request_pause() { want(Want::kPark); }
void VcpuThread::request_stop() { want(Want::kStop); }

// Whoever resumes between the request and the wait does not undo it: a vCPU that was out of the
// guest at the request has paused, and one that was in it comes out at the kick.
Status VcpuThread::pause(Deadline deadline) {
  if (on_own_thread()) return own_thread_error("pause");
  std::unique_lock lock(mutex_);
  const bool kick = want_locked(Want::kPark);
  if (!in_guest_) return {};
  const std::uint64_t parks_before = parks_;
  if (kick) {
    lock.unlock();
    vcpu_->kick();
    lock.lock();
  }
  if (changed_.wait_until(lock, deadline.at(), [&] { return parks_ != parks_before; })) return {};
  return fail(Code::kTimeout, "vCPU " + std::to_string(config_.index) + " did not pause in time");
}

VcpuStats VcpuThread::stats() const {
  VcpuStats stats;
  for (std::size_t i = 0; i < exits_.size(); ++i) {
    stats.exits[i] = exits_[i].load(std::memory_order_relaxed);
  }
  stats.counters = vcpu_->counters();
  return stats;
}

std::map<std::string, std::uint64_t> VcpuStats::by_name() const {
  constexpr std::array<const char*, std::variant_size_v<VcpuExit>> kExits = {
      "exits_port", "exits_mmio", "exits_halt", "exits_kicked", "exits_shutdown", "exits_fault"};
  std::map<std::string, std::uint64_t> numbers;
  for (std::size_t i = 0; i < kExits.size(); ++i) numbers[kExits[i]] = exits[i];
  if (!counters) return numbers;
  for (const VcpuCounterName& counter : kVcpuCounterNames) {
    numbers[std::string(counter.name)] = (*counters).*counter.value;
  }
  return numbers;
}

bool VcpuThread::parked() const {
  std::lock_guard lock(mutex_);
  return !in_guest_ && !may_run_locked();
}

Status VcpuThread::with_vcpu(const std::function<Status(EngineVcpu&)>& function,
                             Deadline deadline) {
  if (on_own_thread()) return own_thread_error("work");
  const auto work = std::make_shared<Work>();
  work->function = &function;
  bool kick = false;
  {
    std::lock_guard lock(mutex_);
    if (exited_) return fail(Code::kGone, "the vCPU was stopped");
    work_.push_back(work);
    kick = in_guest_;
  }
  command_.notify_one();
  if (kick) vcpu_->kick();

  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline.at(), [&] { return work->started || work->done; });
  if (!work->started && !work->done) {
    work_.remove(work);
    return fail(Code::kTimeout,
                "vCPU " + std::to_string(config_.index) + " did not answer in time");
  }
  // Once begun it uses the caller's objects, and it ends by itself: nothing in it waits.
  changed_.wait(lock, [&] { return work->done; });
  return std::move(work->result);
}

Result<CpuState> VcpuThread::state(Deadline deadline) {
  CpuState state;
  const auto save = [&](EngineVcpu& vcpu) -> Status {
    SM_TRY_STATUS(vcpu.finish_pending_exit());
    state = SM_TRY(vcpu.state());
    return {};
  };
  SM_TRY_STATUS(with_vcpu(save, deadline));
  return state;
}

Status VcpuThread::set_state(const CpuState& state, Deadline deadline) {
  return with_vcpu([&](EngineVcpu& vcpu) { return vcpu.set_state(state); }, deadline);
}

Status VcpuThread::stop(Deadline deadline) {
  if (on_own_thread()) return own_thread_error("stop");
  request_stop();
  {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, deadline.at(), [&] { return exited_; })) {
      return fail(Code::kTimeout,
                  "vCPU " + std::to_string(config_.index) + " did not stop in time");
    }
  }
  std::lock_guard join_lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
  return {};
}

// The kick makes the next run() finish the access and come back without another instruction.
void VcpuThread::add_hold() {
  {
    std::lock_guard lock(mutex_);
    ++holds_;
  }
  vcpu_->kick();
}

void VcpuThread::drop_hold() {
  {
    std::lock_guard lock(mutex_);
    --holds_;
  }
  command_.notify_one();
}

void VcpuThread::thread_main() {
  const std::string name = "vcpu-" + std::to_string(config_.index);
  ::pthread_setname_np(::pthread_self(), name.c_str());
  config_.hold.attach(std::this_thread::get_id(), *this);
  {
    std::unique_lock lock(mutex_);
    for (;;) {
      do_work(lock);
      if (want_ == Want::kStop) break;
      if (may_run_locked()) {
        enter_guest(lock);
        continue;
      }
      command_.wait(lock,
                    [&] { return want_ == Want::kStop || !work_.empty() || may_run_locked(); });
    }
  }
  config_.hold.detach(std::this_thread::get_id());
  std::lock_guard lock(mutex_);
  exited_ = true;
  for (const auto& work : work_) {
    work->result = fail(Code::kGone, "the vCPU was stopped");
    work->done = true;
  }
  work_.clear();
  changed_.notify_all();
}

void VcpuThread::do_work(std::unique_lock<std::mutex>& lock) {
  while (!work_.empty()) {
    const std::shared_ptr<Work> work = std::move(work_.front());
    work_.pop_front();
    work->started = true;
    lock.unlock();
    Status result = (*work->function)(*vcpu_);
    lock.lock();
    work->result = std::move(result);
    work->done = true;
    changed_.notify_all();
  }
}

void VcpuThread::enter_guest(std::unique_lock<std::mutex>& lock) {
  in_guest_ = true;
  lock.unlock();
  for (bool going = true; going;) {
    const VcpuExit exit = vcpu_->run();
    exits_[exit.index()].fetch_add(1, std::memory_order_relaxed);
    going = dispatch(exit);
  }
  lock.lock();
  in_guest_ = false;
  ++parks_;
  changed_.notify_all();
}

// True: go on. A kicked vCPU has finished what it was at, so every command is answered between two
// instructions.
bool VcpuThread::dispatch(const VcpuExit& exit) {
  return std::visit(Overloaded{
                        [&](const ExitPio& pio) {
                          access(config_.pio, pio.port, pio.is_write, pio.data);
                          return true;
                        },
                        [&](const ExitMmio& mmio) {
                          access(config_.mmio, mmio.address.raw(), mmio.is_write, mmio.data);
                          return true;
                        },
                        [&](const ExitKicked&) { return false; },
                        [&](const ExitHalt&) {
                          std::lock_guard lock(mutex_);
                          halted_ = want_ == Want::kRun;
                          return false;
                        },
                        [&](const ExitShutdown&) {
                          end(VcpuEnd::kShutdown, "the guest shut its processor down");
                          return false;
                        },
                        [&](const ExitFault& fault) {
                          end(VcpuEnd::kFault, fault.why);
                          return false;
                        },
                    },
                    exit);
}

void VcpuThread::end(VcpuEnd end, const std::string& why) {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  config_.events.on_vcpu_end(config_.index, end, why);
}

}  // namespace sm
