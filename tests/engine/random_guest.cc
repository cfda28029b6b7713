#include "engine/random_guest.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <variant>
#include <vector>

#include "vmm/cpu/soft/soft_vm.h"
#include "vmm/memory/guest_memory.h"

namespace sm::engine_test {

namespace {

constexpr std::uint64_t kMemory = 1u << 20;
constexpr std::uint64_t kGdt = 0x1000, kIdt = 0x2000, kPml4 = 0x3000, kPdpt = 0x4000,
                        kDirectories = 0x5000, kPaePointers = 0xA000, kTss = 0xB000,
                        kHandlers = 0xC000, kCode = 0x10000, kStack = 0x20000, kIst = 0x28000,
                        kCounter = 0x30000;
constexpr std::size_t kMaxCode = 4096;
constexpr std::uint64_t kPart = 64;  // of the program, where an exception goes on
constexpr std::uint64_t kStepsPerRun = 300;
constexpr int kMaxRuns = 40;

enum class Mode : std::uint8_t { kLong, kProtected, kPae, kReal };

struct Setup {
  GuestMemory& memory;
  template <class T>
  void put(std::uint64_t at, const T& value) {
    if (!memory.write_object(GuestPhysAddr(at), value)) throw std::runtime_error("no such memory");
  }

  // Virtual = physical for 4 GiB, so that devices, their tables and nothing at all are in reach.
  void page_tables() {
    constexpr std::uint64_t kPresentWritable = 3, kLarge = 0x80, kUser = 4;
    put(kPml4, kPdpt | kPresentWritable | kUser);
    for (std::uint64_t i = 0; i < 4; ++i) {
      put(kPdpt + i * 8, (kDirectories + i * 4096) | kPresentWritable | kUser);
      put(kPaePointers + i * 8, (kDirectories + i * 4096) | 1);
    }
    std::vector<std::uint64_t> pages(4 * 512);
    for (std::size_t i = 0; i < pages.size(); ++i) {
      pages[i] = (i << 21) | kPresentWritable | kLarge | kUser;
    }
    (void)memory.write(GuestPhysAddr(kDirectories), std::as_bytes(std::span(pages)));
  }

  void gdt(bool is_long) {
    const std::uint64_t tss = 0x0000'8900'0000'0067ull | (kTss & 0xFFFFFF) << 16;
    const std::uint64_t kernel_code = is_long ? 0x00AF'9B00'0000'FFFF : 0x00CF'9B00'0000'FFFF;
    const std::array<std::uint64_t, 10> table = {0,
                                                 0x00CF'9B00'0000'FFFF,
                                                 kernel_code,
                                                 0x00CF'9300'0000'FFFF,
                                                 0x00CF'F300'0000'FFFF,
                                                 0x00AF'FB00'0000'FFFF,
                                                 0x0000'9B00'0000'FFFF,
                                                 0x0000'EC00'0010'0000 | kCode,
                                                 tss,
                                                 0};
    put(kGdt, table);
    std::array<std::uint32_t, 26> task{};
    if (is_long) {
      for (const std::size_t stack : {1u, 3u, 5u, 9u, 11u}) {
        task[stack] = static_cast<std::uint32_t>(kIst);
      }
    } else {
      task[1] = static_cast<std::uint32_t>(kIst);
      task[2] = 0x18;
    }
    put(kTss, task);
  }

  // Every vector leads to the same code, on a stack of its own in long mode.
  void idt(bool is_long) {
    for (std::uint64_t vector = 0; vector < 256; ++vector) {
      const std::uint64_t gate =
          (kHandlers & 0xFFFF) | 0x10ull << 16 | (is_long ? 1ull : 0ull) << 32 | 0xEE00ull << 32;
      if (is_long) {
        put(kIdt + vector * 16, std::array<std::uint64_t, 2>{gate, 0});
      } else {
        put(kIdt + vector * 8, gate);
      }
    }
  }

  // Fault number n goes on with part n of the program, on a good stack.
  void handler() {
    constexpr std::array<std::uint8_t, 38> kBytes = {
        0xBC, 0x00, 0x00,
        0x02, 0x00,  // mov esp, kStack
        0xB9, 0x00, 0x00,
        0x03, 0x00,                        // mov ecx, kCounter
        0xFF, 0x01,                        // inc dword [ecx]
        0x8B, 0x01,                        // mov eax, [ecx]
        0x83, 0xE0, kMaxCode / kPart - 1,  // and eax, parts - 1
        0xC1, 0xE0, 0x06,                  // shl eax, 6
        0x05, 0x00, 0x00,
        0x01, 0x00,  // add eax, kCode
        0x89, 0xC3,  // mov ebx, eax
        0xBE, 0x00, 0x00,
        0x03, 0x00,  // mov esi, kCounter
        0xBF, 0x00, 0x00,
        0xE0, 0xFE,  // mov edi, the local APIC
    };
    put(kHandlers, kBytes);
    put(kHandlers + kBytes.size(), std::array<std::uint8_t, 2>{0xFF, 0xE3});  // jmp ebx
  }
};

SegmentState segment(std::uint16_t selector, std::uint8_t type, bool is_long, bool is_big) {
  return {.base = 0,
          .limit = is_big || is_long ? 0xFFFF'FFFF : 0xFFFF,
          .selector = selector,
          .type = type,
          .present = true,
          .code_or_data = true,
          .long_mode = is_long,
          .default_big = is_big,
          .granularity = is_big || is_long};
}

CpuState start(Mode mode) {
  CpuState state;
  state.rip = kCode;
  state.gpr = {0x1234, 0x40, kCounter, 0xFEE0'0000, kStack, kCounter + 64, kCode + 64, 0xD000'0000};
  state.cr4 = 0x620;
  state.tr = {.base = kTss, .limit = 0x67, .selector = 0x40, .type = 0xB, .present = true};
  state.idt = {kIdt, 4095};
  state.gdt = {kGdt, 79};
  state.cs =
      segment(0x10, 0xB, mode == Mode::kLong, mode == Mode::kProtected || mode == Mode::kPae);
  state.ds = segment(0x18, 0x3, false, mode != Mode::kReal);
  switch (mode) {
    case Mode::kLong:
      state.cr0 = 0x8000'0033;
      state.cr3 = kPml4;
      state.efer = 0xD01;  // SCE, LME, LMA, NXE
      break;
    case Mode::kPae:
      state.cr0 = 0x8000'0033;
      state.cr3 = kPaePointers;
      break;
    case Mode::kProtected:
      state.cr0 = 0x33;
      break;
    case Mode::kReal:
      state.cr0 = 0x32;
      state.cs.selector = kCode >> 4;
      state.cs.base = kCode;
      state.rip = 0;
      state.ds.selector = 0;
      state.idt = {0, 0x3FF};
      state.gpr[4] = 0xFF00;
      break;
  }
  state.es = state.fs = state.gs = state.ss = state.ds;
  return state;
}

// What a program must not see if it is to be the same twice.
bool has_random_numbers(std::span<const std::byte> bytes) {
  for (std::size_t i = 0; i + 2 < bytes.size(); ++i) {
    if (bytes[i] == std::byte{0x0F} && bytes[i + 1] == std::byte{0xC7} &&
        bytes[i + 2] >= std::byte{0xF0}) {
      return true;
    }
  }
  return false;
}

// One of the two machines.
struct Side {
  std::unique_ptr<GuestMemory> memory;
  std::unique_ptr<EngineVm> vm;
  std::unique_ptr<EngineVcpu> vcpu;

  Side(bool reference, std::span<const std::uint8_t> input) {
    const auto mode = static_cast<Mode>(input[0] % 4);
    memory = GuestMemory::create(kMemory).value();
    Setup setup{*memory};
    setup.page_tables();
    setup.gdt(mode == Mode::kLong);
    setup.idt(mode == Mode::kLong);
    setup.handler();
    const auto code = input.subspan(1, std::min(input.size() - 1, kMaxCode));
    (void)memory->write(GuestPhysAddr(kCode), std::as_bytes(code));
    vm = create_soft_vm({.debug = {.reference = reference,
                                   .virtual_time = true,
                                   .instructions_per_run = kStepsPerRun}})
             .value();
    if (!vm->map_memory(*memory)) throw std::runtime_error("map_memory");
    vcpu = vm->create_vcpu(0, 1).value();
    if (const Status set = vcpu->set_state(start(mode)); !set) {
      throw std::runtime_error(set.error().text());
    }
  }

  std::span<const std::byte> ram() const {
    const MemoryRegion& region = memory->regions()[0];
    return {region.host, region.size};
  }
};

// An exit as a text; what a guest reads depends on where it reads it.
std::string describe(const VcpuExit& exit) {
  const auto access = [](const char* what, std::uint64_t at, bool is_write,
                         std::span<std::byte> data) {
    std::uint64_t value = 0;
    if (is_write) {
      std::memcpy(&value, data.data(), data.size());
    } else {
      value = at * 0x9E37'79B9'7F4A'7C15;
      std::memcpy(data.data(), &value, data.size());
      value = 0;
    }
    return fmt::format("{} {} {:#x} {} {:#x}", what, is_write, at, data.size(), value);
  };
  if (const auto* pio = std::get_if<ExitPio>(&exit)) {
    return access("port", pio->port, pio->is_write, pio->data);
  }
  if (const auto* mmio = std::get_if<ExitMmio>(&exit)) {
    return access("device", mmio->address.raw(), mmio->is_write, mmio->data);
  }
  if (const auto* fault = std::get_if<ExitFault>(&exit)) return "fault: " + fault->why;
  return fmt::format("exit {}", exit.index());
}

bool ends_run(const VcpuExit& exit) {
  return std::holds_alternative<ExitHalt>(exit) || std::holds_alternative<ExitShutdown>(exit) ||
         std::holds_alternative<ExitFault>(exit);
}

std::string difference(const CpuState& a, const CpuState& b) {
  std::string text;
  const auto compare = [&](const char* name, std::uint64_t x, std::uint64_t y) {
    if (x != y) text += fmt::format("{}: reference {:#x}, blocks {:#x}\n", name, x, y);
  };
  compare("rip", a.rip, b.rip);
  compare("rflags", a.rflags, b.rflags);
  for (std::size_t i = 0; i < 16; ++i) compare("gpr", a.gpr[i], b.gpr[i]);
  compare("cr0", a.cr0, b.cr0);
  compare("cr2", a.cr2, b.cr2);
  compare("cr3", a.cr3, b.cr3);
  compare("cr4", a.cr4, b.cr4);
  compare("msrs", a.msrs == b.msrs, true);
  compare("xsave", a.xsave == b.xsave, true);
  compare("lapic", a.lapic == b.lapic, true);
  if (text.empty() && !(a == b)) text = "another part of the state\n";
  return text;
}

// Out of an access that is not over yet, so that there is a state.
bool settle(EngineVcpu& vcpu) {
  constexpr int kMostAccesses = 64;
  for (int i = 0; i < kMostAccesses && !vcpu.finish_pending_exit(); ++i) {
    vcpu.kick();
    (void)describe(vcpu.run());
  }
  return vcpu.finish_pending_exit().has_value();
}

std::string compare_sides(Side& reference, Side& blocks) {
  if (!settle(*reference.vcpu) || !settle(*blocks.vcpu)) return "an access does not end";
  const auto a = reference.vcpu->state();
  const auto b = blocks.vcpu->state();
  if (!a || !b) return "no state: " + (a ? b : a).error().text();
  std::string text = difference(*a, *b);
  const auto x = reference.ram(), y = blocks.ram();
  const auto differs = std::mismatch(x.begin(), x.end(), y.begin());
  if (differs.first != x.end()) {
    text +=
        fmt::format("memory at {:#x}: reference {:#x}, blocks {:#x}\n", differs.first - x.begin(),
                    std::to_integer<int>(*differs.first), std::to_integer<int>(*differs.second));
  }
  if (reference.vcpu->counters()->instructions != blocks.vcpu->counters()->instructions) {
    text += fmt::format("instructions: reference {}, blocks {}\n",
                        reference.vcpu->counters()->instructions,
                        blocks.vcpu->counters()->instructions);
  }
  return text;
}

}  // namespace

std::string run_random_guest(std::span<const std::uint8_t> input) {
  if (input.size() < 2) return {};
  Side reference(true, input), blocks(false, input);
  std::string wrong;
  for (int i = 0; i < kMaxRuns && wrong.empty(); ++i) {
    const VcpuExit first = reference.vcpu->run(), second = blocks.vcpu->run();
    const std::string a = describe(first), b = describe(second);
    if (a.starts_with("fault")) return a;
    if (b.starts_with("fault")) return b;
    if (a != b) wrong = fmt::format("run {}: reference {}, blocks {}\n", i, a, b);
    if (ends_run(first)) break;
  }
  wrong += compare_sides(reference, blocks);
  if (wrong.empty()) return {};
  const bool is_random = has_random_numbers(std::as_bytes(input)) ||
                         has_random_numbers(reference.ram()) || has_random_numbers(blocks.ram());
  return is_random ? std::string() : wrong;
}

}  // namespace sm::engine_test
