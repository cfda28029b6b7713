#include "vmm/cpu/soft/apic/local_apic.h"

#include <bit>
#include <cstring>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/memory/addr_map.h"

namespace sm::soft {

namespace {

constexpr std::uint32_t kVersionValue =
    0x0005'0014;  // integrated, six LVT entries, no directed EOI
constexpr std::uint32_t kLvtMasked = 1u << 16;
constexpr std::uint32_t kSvrReset = 0xFF;
constexpr std::uint64_t kPhysicalBits = 40;  // as CPUID 0x80000008 says
constexpr std::uint64_t kBaseAddressMask = ((1ull << kPhysicalBits) - 1) & ~0xFFFull;
constexpr std::uint8_t kFirstLegalVector = 16;

// Spec: SDM vol. 3, figure 10-9.
constexpr std::uint32_t kErrorSendVector = 1u << 5, kErrorReceiveVector = 1u << 6,
                        kErrorRegister = 1u << 7;

// Spec: SDM vol. 3, figures 10-12 and 10-28.
namespace icr {
constexpr std::uint32_t kModeShift = 8, kShorthandShift = 18;
constexpr std::uint32_t kLogical = 1u << 11, kPending = 1u << 12, kAssert = 1u << 14,
                        kLevel = 1u << 15;
constexpr std::uint32_t kDefined = 0x000C'CFFF;
enum Shorthand : std::uint32_t { kNone, kSelf, kAll, kAllButSelf };
}  // namespace icr

// startup_: an INIT, a SIPI and its vector.
constexpr std::uint32_t kInitLatched = 1u << 8, kSipiLatched = 1u << 9;

// Which accesses a register has, in each mode, and its writable bits. In x2APIC mode a write of any
// other bit raises #GP; in xAPIC mode such bits are ignored.
// Spec: SDM vol. 3, tables 10-1 and 10-6.
enum Access : std::uint8_t {
  kNoAccess = 0,
  kReadMmio = 1,
  kWriteMmio = 2,
  kReadMsr = 4,
  kWriteMsr = 8,
  kReadBoth = kReadMmio | kReadMsr,
  kWriteBoth = kWriteMmio | kWriteMsr,
  kAllAccess = kReadBoth | kWriteBoth,
};
struct Rule {
  std::uint8_t access = kNoAccess;
  std::uint32_t bits = 0;
};

constexpr std::array<Rule, 0x40> make_rules() {
  std::array<Rule, 0x40> rules{};
  rules[0x02] = {kReadBoth, 0};                                         // id
  rules[0x03] = {kReadBoth, 0};                                         // version
  rules[0x08] = {kAllAccess, 0xFF};                                     // TPR
  rules[0x09] = {kReadMmio, 0};                                         // APR
  rules[0x0A] = {kReadBoth, 0};                                         // PPR
  rules[0x0B] = {kWriteBoth, 0};                                        // EOI
  rules[0x0C] = {kReadMmio, 0};                                         // remote read
  rules[0x0D] = {kReadBoth | kWriteMmio, 0xFF00'0000};                  // LDR
  rules[0x0E] = {kReadMmio | kWriteMmio, 0xF000'0000};                  // DFR
  rules[0x0F] = {kAllAccess, 0x3FF};                                    // SVR
  for (std::size_t i = 0x10; i < 0x28; ++i) rules[i] = {kReadBoth, 0};  // ISR TMR IRR
  rules[0x28] = {kAllAccess, 0};                                        // ESR
  rules[0x30] = {kAllAccess, icr::kDefined};                            // ICR
  rules[0x31] = {kReadMmio | kWriteMmio, 0xFF00'0000};                  // ICR, high half
  rules[0x32] = {kAllAccess, 0x0007'10FF};                              // LVT timer
  rules[0x33] = {kAllAccess, 0x0001'17FF};                              // LVT thermal sensor
  rules[0x34] = {kAllAccess, 0x0001'17FF};                              // LVT performance counters
  rules[0x35] = {kAllAccess, 0x0001'F7FF};                              // LVT LINT0
  rules[0x36] = {kAllAccess, 0x0001'F7FF};                              // LVT LINT1
  rules[0x37] = {kAllAccess, 0x0001'10FF};                              // LVT error
  rules[0x38] = {kAllAccess, ~0u};                                      // initial count
  rules[0x39] = {kReadBoth, 0};                                         // current count
  rules[0x3E] = {kAllAccess, 0xB};                                      // divide configuration
  rules[0x3F] = {kWriteMsr, 0xFF};                                      // self IPI
  return rules;
}
constexpr std::array<Rule, 0x40> kRules = make_rules();

Rule rule_of(std::uint32_t index) { return index < kRules.size() ? kRules[index] : Rule{}; }

}  // namespace

LocalApic::LocalApic(const Config& config)
    : index_(config.index),
      sink_(config.sink),
      bus_(config.bus),
      timer_(config.index, config.clock, config.timers) {
  reset();
}

// ---- Reset and mode ----------------------------------------------------------------------------

void LocalApic::reset() {
  base_.store(addr_map::kLapicBase | kBaseEnable | (index_ == 0 ? kBaseBoot : 0));
  startup_.store(0);
  pv_eoi_word_ = nullptr;
  reset_registers();
}

void LocalApic::init_reset() { reset_registers(); }

// Spec: SDM vol. 3, 10.4.7.1.
void LocalApic::reset_registers() {
  timer_.reset();
  for (auto& value : registers_) value.store(0, std::memory_order_relaxed);
  write(kVersion, kVersionValue);
  write(kDfr, ~0u);
  write(kSvr, kSvrReset);
  for (std::uint32_t lvt = kLvtTimer; lvt <= kLvtError; ++lvt) write(lvt, kLvtMasked);
  if (x2apic()) write(kLdr, x2apic_ldr());
  errors_.store(0);
  pv_eoi_pending_ = false;
}

// Spec: SDM vol. 3, 10.12.5, figure 10-27.
bool LocalApic::write_base(std::uint64_t value) {
  constexpr std::uint64_t kMode = kBaseEnable | kBaseX2apic;
  const std::uint64_t before = base();
  const std::uint64_t old_mode = before & kMode, new_mode = value & kMode;
  if ((value & ~(kBaseAddressMask | kMode | kBaseBoot)) != 0) return false;
  if (new_mode == kBaseX2apic) return false;
  if (old_mode == kMode && new_mode == kBaseEnable) return false;
  if (old_mode == 0 && new_mode == kMode) return false;
  base_.store((value & ~kBaseBoot) | (before & kBaseBoot));
  if (old_mode == new_mode) return true;
  if (new_mode == 0) reset_registers();
  if (new_mode == kMode) {
    write(kLdr, x2apic_ldr());
    write(kIcrHigh, 0);
  }
  reconsider();
  return true;
}

bool LocalApic::claims(std::uint64_t guest_physical) const {
  const std::uint64_t value = base();
  return (value & (kBaseEnable | kBaseX2apic)) == kBaseEnable &&
         (guest_physical & ~0xFFFull) == (value & kBaseAddressMask);
}

// ---- IRR, ISR, TMR -----------------------------------------------------------------------------

bool LocalApic::bit(Register bank, std::uint8_t vector) const {
  return ((read(bank + vector / 32u) >> (vector % 32)) & 1) != 0;
}
void LocalApic::set_bit(Register bank, std::uint8_t vector) {
  registers_[bank + vector / 32u].fetch_or(1u << (vector % 32));
}
void LocalApic::clear_bit(Register bank, std::uint8_t vector) {
  registers_[bank + vector / 32u].fetch_and(~(1u << (vector % 32)));
}
int LocalApic::highest(Register bank) const {
  for (std::uint32_t word = 8; word-- > 0;) {
    const std::uint32_t bits = read(bank + word);
    if (bits != 0) return static_cast<int>(word * 32 + 31) - std::countl_zero(bits);
  }
  return -1;
}

// Spec: SDM vol. 3, 10.8.3.1.
std::uint32_t LocalApic::processor_priority() const {
  const std::uint32_t task = read(kTpr) & 0xFF;
  const int in_service = highest(kIsr);
  const std::uint32_t service_class =
      in_service < 0 ? 0 : static_cast<std::uint32_t>(in_service) & 0xF0;
  return (task & 0xF0) >= service_class ? task : service_class;
}

std::optional<std::uint8_t> LocalApic::highest_deliverable() {
  if (!enabled()) return std::nullopt;
  const int requested = highest(kIrr);
  if (requested < 0) return std::nullopt;
  take_pv_eoi();
  const auto vector = static_cast<std::uint8_t>(requested);
  if ((vector >> 4) <= (processor_priority() >> 4)) return std::nullopt;
  return vector;
}

// With nothing else waiting, the guest may end an edge-triggered interrupt without telling us.
void LocalApic::acknowledge(std::uint8_t vector) {
  clear_bit(kIrr, vector);
  set_bit(kIsr, vector);
  if (pv_eoi_word_ == nullptr || bit(kTmr, vector) || highest(kIrr) >= 0) return;
  std::atomic_ref<std::uint32_t>(*pv_eoi_word_).fetch_or(1);
  pv_eoi_pending_ = true;
}

void LocalApic::set_pv_eoi(std::uint32_t* word) {
  take_pv_eoi();
  pv_eoi_word_ = word;
}

// Either the guest has cleared the bit, which was its EOI; or the bit is taken back, so that it
// will write the register.
void LocalApic::take_pv_eoi() {
  if (!pv_eoi_pending_) return;
  pv_eoi_pending_ = false;
  const std::uint32_t word = std::atomic_ref<std::uint32_t>(*pv_eoi_word_).fetch_and(~1u);
  if ((word & 1) == 0) finish_highest();
}

void LocalApic::finish_highest() {
  const int in_service = highest(kIsr);
  if (in_service < 0) return;
  const auto vector = static_cast<std::uint8_t>(in_service);
  clear_bit(kIsr, vector);
  if (bit(kTmr, vector)) bus_.end_of_interrupt(vector);
}

void LocalApic::write_eoi() {
  if (pv_eoi_pending_) {
    pv_eoi_pending_ = false;
    std::atomic_ref<std::uint32_t>(*pv_eoi_word_).fetch_and(~1u);
  }
  finish_highest();
  reconsider();
}

// Something that kept interrupts back is gone.
void LocalApic::reconsider() {
  if (highest_deliverable()) sink_.post(index_, kAttentionInterrupt);
}

void LocalApic::set_cr8(std::uint64_t priority) {
  write(kTpr, static_cast<std::uint32_t>(priority & 15) << 4);
  reconsider();
}

// ---- Messages: any thread ----------------------------------------------------------------------

// Spec: SDM vol. 3, 10.6.2.1, 10.6.2.2 and 10.12.10.
bool LocalApic::matches(const ApicMessage& message) const {
  if (!enabled()) return false;
  const std::uint32_t to = message.destination;
  if (to == kBroadcast) return true;
  if (!message.logical) return to == index_;
  const std::uint32_t mine = read(kLdr);
  if (x2apic()) return to >> 16 == mine >> 16 && (to & mine & 0xFFFF) != 0;
  if (to > 0xFF) return false;
  const std::uint32_t mine8 = mine >> 24;
  constexpr std::uint32_t kFlat = 0xF, kAllClusters = 0xF;
  if (read(kDfr) >> 28 == kFlat) return (to & mine8) != 0;
  const bool cluster = to >> 4 == kAllClusters || to >> 4 == mine8 >> 4;
  return cluster && (to & mine8 & 0xF) != 0;
}

bool LocalApic::accept(const ApicMessage& message) {
  switch (message.mode) {
    case DeliveryMode::kFixed:
    case DeliveryMode::kLowestPriority:
      if (!takes_interrupts()) return false;
      raise(message.vector, message.level);
      return true;
    case DeliveryMode::kNmi:
      if (!enabled()) return false;
      sink_.post(index_, kAttentionNmi);
      return true;
    case DeliveryMode::kInit:
    case DeliveryMode::kStartup:
      if (!enabled()) return false;
      latch_startup(message);
      return true;
    case DeliveryMode::kSmi:     // no system management mode
    case DeliveryMode::kExtInt:  // no 8259 that could say a vector
      return false;
  }
  return false;
}

// TMR first: whoever sees the request knows its trigger mode.
void LocalApic::raise(std::uint8_t vector, bool level) {
  if (vector < kFirstLegalVector) return report_error(kErrorReceiveVector);
  if (level) {
    set_bit(kTmr, vector);
  } else if (bit(kTmr, vector)) {
    clear_bit(kTmr, vector);
  }
  set_bit(kIrr, vector);
  sink_.post(index_, kAttentionInterrupt);
}

void LocalApic::report_error(std::uint32_t bits) {
  errors_.fetch_or(bits);
  const std::uint32_t entry = read(kLvtError);
  const auto vector = static_cast<std::uint8_t>(entry);
  // An error entry with an illegal vector of its own would report itself for ever.
  if ((entry & kLvtMasked) == 0 && vector >= kFirstLegalVector) raise(vector, false);
}

// An INIT makes an earlier SIPI void.
void LocalApic::latch_startup(const ApicMessage& message) {
  if (message.mode == DeliveryMode::kInit) {
    startup_.store(kInitLatched);
  } else {
    std::uint32_t before = startup_.load();
    while (!startup_.compare_exchange_weak(
        before, (before & kInitLatched) | kSipiLatched | message.vector)) {
    }
  }
  sink_.post(index_, kAttentionInit);
}

StartupEvents LocalApic::take_startup() {
  const std::uint32_t latched = startup_.exchange(0);
  return {.init = (latched & kInitLatched) != 0,
          .sipi = (latched & kSipiLatched) != 0,
          .sipi_vector = static_cast<std::uint8_t>(latched)};
}

// ---- Register access ---------------------------------------------------------------------------

std::uint32_t LocalApic::value_of(std::uint32_t index) {
  switch (index) {
    case kId:
      return x2apic() ? index_ : index_ << 24;
    case kApr:  // processors since the Pentium 4 have neither
    case kRrd:
      return 0;
    case kPpr:
      take_pv_eoi();
      return processor_priority();
    case kCurrentCount:
      return timer_.current_count();
    default:
      if (index >= kIsr && index < kTmr) take_pv_eoi();
      return read(index);
  }
}

void LocalApic::store(std::uint32_t index, std::uint32_t value) {
  switch (index) {
    case kTpr:
      write(kTpr, value);
      return reconsider();
    case kEoi:
      return write_eoi();
    case kDfr:
      return write(kDfr, value | 0x0FFF'FFFF);
    case kSvr:
      return write_svr(value);
    case kEsr:  // latches what happened since the last write
      return write(kEsr, errors_.exchange(0));
    case kIcr:
      return write_icr(value, narrow_destination(static_cast<std::uint8_t>(read(kIcrHigh) >> 24)));
    case kInitialCount:
      if (timer_.set_initial_count(value)) poll_timer();
      return write(kInitialCount, timer_.initial_count());
    case kDivide:
      timer_.set_divide(value);
      return write(kDivide, value);
    case kSelfIpi:
      return write_icr(icr::kSelf << icr::kShorthandShift | (value & 0xFF), 0);
    default:
      if (index >= kLvtTimer && index <= kLvtError) return write_lvt(index, value);
      return write(index, value);
  }
}

// Spec: SDM vol. 3, 10.4.7.2. Switched off by software, every LVT entry is masked.
void LocalApic::write_svr(std::uint32_t value) {
  write(kSvr, value);
  if (software_enabled()) return;
  for (std::uint32_t lvt = kLvtTimer; lvt <= kLvtError; ++lvt) write(lvt, read(lvt) | kLvtMasked);
}

void LocalApic::write_lvt(std::uint32_t index, std::uint32_t value) {
  constexpr std::uint32_t kReadOnly = 1u << 12 | 1u << 14;  // delivery status, remote IRR
  constexpr std::uint32_t kModeShift = 17;
  value &= ~kReadOnly;
  write(index, software_enabled() ? value : value | kLvtMasked);
  if (index != kLvtTimer) return;
  const std::uint32_t mode = (value >> kModeShift) & 3;
  timer_.set_mode(mode == 3 ? ApicTimer::Mode::kOneShot : static_cast<ApicTimer::Mode>(mode));
  write(kInitialCount, timer_.initial_count());
}

// Spec: SDM vol. 3, 10.6.1. IPIs are edges whatever the trigger mode says; with INIT it marks the
// de-assertion that modern processors ignore.
void LocalApic::write_icr(std::uint32_t low, std::uint32_t destination) {
  write(kIcr, low & ~icr::kPending);
  const ApicMessage message{.vector = static_cast<std::uint8_t>(low),
                            .mode = static_cast<DeliveryMode>((low >> icr::kModeShift) & 7),
                            .logical = (low & icr::kLogical) != 0,
                            .level = false,
                            .destination = destination};
  const bool is_interrupt =
      message.mode == DeliveryMode::kFixed || message.mode == DeliveryMode::kLowestPriority;
  if (is_interrupt && message.vector < kFirstLegalVector) return report_error(kErrorSendVector);
  if (message.mode == DeliveryMode::kInit && (low & icr::kLevel) != 0 &&
      (low & icr::kAssert) == 0) {
    return;
  }
  switch ((low >> icr::kShorthandShift) & 3) {
    case icr::kNone:
      bus_.deliver(message);
      return;
    case icr::kSelf:
      if (message.mode == DeliveryMode::kFixed) accept(message);
      return;
    case icr::kAll:
      return bus_.deliver_to_all(message, nullptr);
    case icr::kAllButSelf:
      return bus_.deliver_to_all(message, this);
  }
}

std::uint32_t LocalApic::read_mmio(std::uint32_t offset, std::uint32_t size) {
  if (size != 4 || offset % 16 != 0) return 0;
  if ((rule_of(offset / 16).access & kReadMmio) == 0) {
    report_error(kErrorRegister);
    return 0;
  }
  return value_of(offset / 16);
}

void LocalApic::write_mmio(std::uint32_t offset, std::uint32_t size, std::uint32_t value) {
  if (size != 4 || offset % 16 != 0) return;
  const Rule rule = rule_of(offset / 16);
  if ((rule.access & kWriteMmio) == 0) return report_error(kErrorRegister);
  store(offset / 16, value & rule.bits);
}

bool LocalApic::read_x2apic(std::uint32_t msr, std::uint64_t& value) {
  const std::uint32_t index = msr - 0x800;
  if (!x2apic() || (rule_of(index).access & kReadMsr) == 0) return false;
  value = value_of(index);
  if (index == kIcr) value |= std::uint64_t{read(kIcrHigh)} << 32;
  return true;
}

bool LocalApic::write_x2apic(std::uint32_t msr, std::uint64_t value) {
  const std::uint32_t index = msr - 0x800;
  const Rule rule = rule_of(index);
  if (!x2apic() || (rule.access & kWriteMsr) == 0) return false;
  const auto low = static_cast<std::uint32_t>(value),
             high = static_cast<std::uint32_t>(value >> 32);
  if ((low & ~rule.bits) != 0 || (high != 0 && index != kIcr)) return false;
  if (index == kIcr) {
    write(kIcrHigh, high);
    write_icr(low, high);
  } else {
    store(index, low);
  }
  return true;
}

// ---- Timer -------------------------------------------------------------------------------------

void LocalApic::poll_timer() {
  if (!timer_.take_expiry()) return;
  const std::uint32_t entry = read(kLvtTimer);
  if ((entry & kLvtMasked) == 0) raise(static_cast<std::uint8_t>(entry), false);
}

void LocalApic::write_tsc_deadline(std::uint64_t value) {
  if (timer_.set_tsc_deadline(value)) poll_timer();
}

void LocalApic::set_tsc_offset(std::uint64_t offset) {
  if (timer_.set_tsc_offset(offset)) poll_timer();
}

std::optional<std::uint64_t> LocalApic::begin_halt() {
  timer_.set_queued(false);
  return timer_.deadline_ns();
}

void LocalApic::end_halt() {
  poll_timer();
  timer_.set_queued(true);
}

// ---- State -------------------------------------------------------------------------------------

// A count that has run out is saved as the interrupt that it is; one that runs out meanwhile, as
// about to.
void LocalApic::save(std::span<std::byte, kLapicPageSize> page) {
  take_pv_eoi();
  if (timer_.counts()) poll_timer();  // a deadline is saved as such
  for (std::uint32_t i = 0; i < kRegisters; ++i) {
    std::uint32_t value = i == kId ? index_ << 24 : value_of(i);
    if (i == kCurrentCount && value == 0 && timer_.counts()) value = 1;
    std::memset(page.data() + i * std::size_t{16}, 0, 16);
    std::memcpy(page.data() + i * std::size_t{16}, &value, sizeof(value));
  }
}

bool LocalApic::restore_base(std::uint64_t value) {
  constexpr std::uint64_t kMode = kBaseEnable | kBaseX2apic;
  if ((value & ~(kBaseAddressMask | kMode | kBaseBoot)) != 0) return false;
  if ((value & kMode) == kBaseX2apic) return false;
  base_.store(value);
  return true;
}

void LocalApic::load(std::span<const std::byte, kLapicPageSize> page) {
  const auto saved = [&](std::uint32_t index) {
    std::uint32_t value = 0;
    std::memcpy(&value, page.data() + index * std::size_t{16}, sizeof(value));
    return value;
  };
  reset_registers();
  for (const std::uint32_t index : {kTpr, kSvr, kLvtTimer, kLvtThermal, kLvtCounter, kLvtLint0,
                                    kLvtLint1, kLvtError, kDivide}) {
    write(index, saved(index) & kRules[index].bits);
  }
  write(kDfr, saved(kDfr) | 0x0FFF'FFFF);
  write(kEsr, saved(kEsr) & 0xFF);
  write(kIcr, saved(kIcr) & icr::kDefined & ~icr::kPending);
  write(kIcrHigh, saved(kIcrHigh));
  write(kLdr, x2apic() ? x2apic_ldr() : saved(kLdr) & 0xFF00'0000);
  for (std::uint32_t index = kIsr; index < kEsr; ++index) {
    const bool lowest = index % 8 == 0;  // vectors 0..15 do not exist
    write(index, saved(index) & (lowest ? 0xFFFF'0000 : ~0u));
  }
  timer_.set_divide(read(kDivide));
  write_lvt(kLvtTimer, read(kLvtTimer));
  if (timer_.start(saved(kInitialCount), saved(kCurrentCount))) {
    sink_.post(index_, kAttentionTimer);
  }
  write(kInitialCount, timer_.initial_count());
  reconsider();
}

}  // namespace sm::soft
