#include "snapshot_compat/golden.h"

namespace sm::golden {
namespace {

// Different numbers with bits in all bytes.
class Counter {
 public:
  template <class T>
  void set(T& field) {
    last_ = last_ * 6364136223846793005u + 1442695040888963407u;
    field = static_cast<T>(last_ >> 16);
  }
  template <class... Fields>
  void operator()(Fields&... fields) {
    (set(fields), ...);
  }
  void fill(std::vector<std::byte>& bytes, std::size_t size) {
    bytes.resize(size);
    for (std::byte& b : bytes) {
      std::uint8_t value = 0;
      set(value);
      b = static_cast<std::byte>(value);
    }
  }

 private:
  std::uint64_t last_ = 1;
};

SegmentState segment(Counter& next) {
  SegmentState s;
  next(s.base, s.limit, s.selector, s.type, s.dpl);
  s.present = s.long_mode = s.granularity = s.unusable = true;
  return s;
}

CpuState vcpu(Counter& next) {
  CpuState c;
  for (auto& value : c.gpr) next(value);
  next(c.rip, c.rflags);
  for (auto* s : {&c.cs, &c.ds, &c.es, &c.fs, &c.gs, &c.ss, &c.tr, &c.ldt}) *s = segment(next);
  c.ds.present = c.es.long_mode = c.fs.granularity = c.gs.unusable = false;
  c.ds.code_or_data = c.es.default_big = c.fs.available = true;
  next(c.gdt.base, c.gdt.limit, c.idt.base, c.idt.limit);
  next(c.cr0, c.cr2, c.cr3, c.cr4, c.cr8, c.efer, c.apic_base, c.xcr0, c.dr6, c.dr7);
  for (auto& value : c.dr) next(value);
  next.fill(c.xsave, 832);
  c.msrs = {{0x10, 0x1122334455667788}, {0x1B, 0xFEE00900}, {0xC0000082, ~0ull}};
  next.fill(c.lapic, 1024);
  EventState& e = c.events;
  next(e.exception_vector, e.exception_error_code, e.exception_payload, e.interrupt_vector,
       e.interrupt_shadow, e.sipi_vector);
  e.exception_injected = e.exception_has_error_code = e.interrupt_injected = true;
  e.nmi_pending = e.smi_smm = true;
  c.mp_state = MpState::kHalted;
  next(c.tsc_khz);
  return c;
}

VirtioState device(Counter& next, std::size_t queues) {
  VirtioState d;
  next(d.device_type, d.status, d.device_features_select, d.driver_features_select,
       d.driver_features, d.queue_select, d.interrupt_status, d.config_generation);
  d.config_change_pending = queues == 1;
  d.active = queues == 2;
  d.queues.resize(queues);
  for (VirtioQueueState& q : d.queues) {
    next(q.size, q.descriptors, q.available, q.used, q.position.next_available,
         q.position.next_used, q.position.signalled_used);
    q.ready = true;
  }
  if (queues != 0) next.fill(d.device, 20 * queues);
  return d;
}

}  // namespace

MachineState state() {
  Counter next;
  MachineState m;
  m.vcpus = {vcpu(next), CpuState{}};
  m.vcpus[1].mp_state = MpState::kUninitialized;
  IoApicState& io_apic = m.platform.io_apic;
  next(io_apic.id, io_apic.select, io_apic.lines, m.platform.clock_ns);
  for (auto& value : io_apic.redirection) next(value);
  UartState& u = m.uart;
  next(u.interrupt_enable, u.fifo_control, u.line_control, u.modem_control, u.modem_delta,
       u.scratch, u.divisor_low, u.divisor_high);
  u.overrun = true;
  u.transmit_pending = true;
  next.fill(u.fifo, 5);
  m.generation = 41;
  for (std::size_t queues = 0; queues < 3; ++queues) m.devices.push_back(device(next, queues));
  return m;
}

SnapshotManifest manifest() {
  SnapshotManifest m;
  m.program = "0.1.0";
  m.engine = "kvm";
  m.cpu_model = "host";
  m.cpu_signature = "GenuineIntel 6/143/8";
  m.kernel_digest = "sha256:" + std::string(64, '1');
  m.initramfs_digest = "sha256:" + std::string(64, '2');
  m.memory_bytes = kMemoryBytes;
  m.vcpus = 2;
  m.devices = {
      {"rng", "", 0, false}, {"blk", "layer0", 1 << 20, true}, {"blk", "spare0", 0, false}};
  m.created_unix_ns = 1'750'000'000'123'456'789;
  m.memory_digest = "00112233445566778899aabbccddeeff";
  m.annotations = {{"image.digest", "sha256:" + std::string(64, '3')}, {"text", "\"ü\"\n"}};
  return m;
}

std::vector<std::pair<std::uint64_t, std::vector<std::byte>>> pages() {
  std::vector<std::pair<std::uint64_t, std::vector<std::byte>>> out;
  Counter next;
  // In the middle of the first chunk, and the last page.
  for (const std::uint64_t page : {std::uint64_t{7}, kMemoryBytes / 4096 - 1}) {
    auto& bytes = out.emplace_back(page, std::vector<std::byte>()).second;
    next.fill(bytes, 64);
    bytes.resize(4096);
  }
  return out;
}

}  // namespace sm::golden
