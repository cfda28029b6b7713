#include "engine/engine_test.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ostream>
#include <stdexcept>

#include "vmm/cpu/kvm/kvm_vm.h"
#include "vmm/cpu/kvm/probe.h"
#include "vmm/cpu/soft/soft_vm.h"

namespace sm::engine_test {

namespace {

constexpr std::uint64_t kGdt = 0x1000;
constexpr std::uint64_t kPml4 = 0x3000;
constexpr std::uint64_t kPdpt = 0x4000;
constexpr std::uint64_t kDirectories = 0x5000;  // five of them: 5 GiB
constexpr std::size_t kDirectoryCount = 5;

// Virtual = physical for the first 5 GiB, in 2 MiB pages.
void write_page_tables(GuestMemory& memory) {
  constexpr std::uint64_t kPresentWritable = 3, kLarge = 0x80;
  std::array<std::uint64_t, kDirectoryCount> pdpt{};
  std::array<std::uint64_t, kDirectoryCount * 512> pages{};
  for (std::size_t i = 0; i < pdpt.size(); ++i) {
    pdpt[i] = (kDirectories + i * 4096) | kPresentWritable;
  }
  for (std::size_t i = 0; i < pages.size(); ++i) {
    pages[i] = (i * (2ull << 20)) | kPresentWritable | kLarge;
  }
  ASSERT_TRUE(memory.write_object(GuestPhysAddr(kPml4), kPdpt | kPresentWritable));
  ASSERT_TRUE(memory.write_object(GuestPhysAddr(kPdpt), pdpt));
  ASSERT_TRUE(memory.write_object(GuestPhysAddr(kDirectories), pages));
  const std::array<std::uint64_t, 4> gdt = {0, 0, 0x00AF'9B00'0000'FFFF, 0x00CF'9300'0000'FFFF};
  ASSERT_TRUE(memory.write_object(GuestPhysAddr(kGdt), gdt));
}

SegmentState flat(std::uint16_t selector, std::uint8_t type) {
  return SegmentState{.limit = 0xFFFF'FFFF,
                      .selector = selector,
                      .type = type,
                      .present = true,
                      .code_or_data = true,
                      .granularity = true};
}

// In a lab a vCPU may stand still for a reason that is the emulated processor's (see
// scripts/kvm-lab). The status tells run-in-lab to begin again in a new one; a guest that always
// hangs, does so there.
void give_up_in_a_lab() {
  const char* status = std::getenv("SM_STANDS_STILL");
  if (status == nullptr) return;
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  std::fprintf(stderr, "a vCPU stands still in %s.%s\n", test->test_suite_name(), test->name());
  std::_Exit(std::atoi(status));
}

}  // namespace

const std::vector<EngineUnderTest>& engines() {
  static const std::vector<EngineUnderTest> list = {
      {.name = "kvm",
       .create = [](CpuModel model) { return create_kvm_vm({.cpu_model = model}); },
       .limits =
           [] {
             static const KvmProbe probe = probe_kvm();
             return probe.verdict == KvmVerdict::kNative ? std::string() : probe.reason;
           }},
      {.name = "soft",
       .create = [](CpuModel model) { return create_soft_vm({.cpu_model = model}); },
       .limits = [] { return std::string(); }},
      {.name = "soft_reference",
       .create =
           [](CpuModel model) {
             return create_soft_vm({.cpu_model = model, .debug = {.reference = true}});
           },
       .limits = [] { return std::string(); }},
  };
  return list;
}

CpuState start_state() {
  CpuState state;
  state.rip = kCode;
  state.gpr[4] = kStackTop;
  state.cs = flat(0x10, 0xB);
  state.cs.long_mode = true;
  state.ds = flat(0x18, 0x3);
  state.ds.default_big = true;
  state.es = state.fs = state.gs = state.ss = state.ds;
  state.gdt = {kGdt, 31};
  state.idt = {kIdt, 4095};
  state.cr0 = 0x8000'0033;
  state.cr3 = kPml4;
  state.cr4 = 0x20 | 0x600;  // PAE, OSFXSR, OSXMMEXCPT
  state.efer = 0x500;        // LME, LMA
  return state;
}

std::ostream& operator<<(std::ostream& out, const Access& access) {
  return out << (access.mmio ? "mmio" : "port") << (access.is_write ? " write " : " read ")
             << std::hex << "0x" << access.address << " = 0x" << access.value << std::dec << " ("
             << access.size << ")";
}

Watchdog::Watchdog(EngineVcpu& vcpu, std::chrono::milliseconds limit)
    : thread_([this, &vcpu, limit] {
        std::unique_lock lock(mutex_);
        if (wake_.wait_until(lock, now() + limit, [&] { return over_; })) return;
        fired_ = true;
        give_up_in_a_lab();
        vcpu.kick();
      }) {}

Watchdog::~Watchdog() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

bool EngineTest::available(Needs needs) {
  auto vm = GetParam().create(CpuModel::kHost);
  if (!vm) {
    const Code code = vm.error().code();
    // Anything but a missing device is a defect, and the test goes on to show it.
    if (code != Code::kNotFound && code != Code::kPermission) return true;
    why_not_ = vm.error().text();
    return false;
  }
  if (needs == Needs::kNative) why_not_ = GetParam().limits();
  return why_not_.empty();
}

// Nothing can be tested without a machine, so a failure here ends the test.
template <class T>
T must(Result<T> result, const char* what) {
  if (!result) throw std::runtime_error(std::string(what) + ": " + result.error().text());
  return *std::move(result);
}
void must(const Status& status, const char* what) {
  if (!status) throw std::runtime_error(std::string(what) + ": " + status.error().text());
}

Machine EngineTest::make_on(const EngineUnderTest& engine, std::span<const std::byte> code,
                            const MachineOptions& options) {
  Machine machine;
  machine.memory = must(GuestMemory::create(options.memory_bytes), "create memory");
  write_page_tables(*machine.memory);
  must(machine.memory->write(GuestPhysAddr(kCode), code), "load the guest");
  machine.vm = must(engine.create(options.model), "create the machine");
  must(machine.vm->map_memory(*machine.memory), "map memory");
  for (std::uint32_t i = 0; i < options.vcpus; ++i) {
    machine.vcpus.push_back(must(machine.vm->create_vcpu(i, options.vcpus), "create a vCPU"));
  }
  CpuState state = start_state();
  if (options.adjust) options.adjust(state);
  must(machine.cpu().set_state(state), "set the state");
  return machine;
}

std::vector<Access> EngineTest::run_to_done(
    Machine& machine, const std::function<std::uint64_t(const Access&)>& answer) {
  std::vector<Access> seen;
  const auto record = [&](Access access, std::span<std::byte> data) {
    access.size = data.size();
    if (access.is_write) {
      std::memcpy(&access.value, data.data(), data.size());
    } else {
      access.value = answer ? answer(access) : 0;
      std::memcpy(data.data(), &access.value, data.size());
    }
    seen.push_back(access);
  };
  Watchdog watchdog(machine.cpu(), std::chrono::seconds(20));
  for (;;) {
    const VcpuExit exit = machine.cpu().run();
    if (const auto* pio = std::get_if<ExitPio>(&exit)) {
      if (pio->port == kDonePort) return seen;
      record({.address = pio->port, .is_write = pio->is_write}, pio->data);
    } else if (const auto* mmio = std::get_if<ExitMmio>(&exit)) {
      record({.mmio = true, .address = mmio->address.raw(), .is_write = mmio->is_write},
             mmio->data);
    } else if (std::holds_alternative<ExitKicked>(exit)) {
      if (!watchdog.fired()) continue;
      ADD_FAILURE() << "the guest did not come to its end in time";
      return seen;
    } else {
      const auto* fault = std::get_if<ExitFault>(&exit);
      ADD_FAILURE() << "the guest ended: " << (fault ? fault->why : "shutdown or halt");
      return seen;
    }
  }
}

}  // namespace sm::engine_test
