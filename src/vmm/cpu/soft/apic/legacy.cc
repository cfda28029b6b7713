#include "vmm/cpu/soft/apic/legacy.h"

#include <time.h>

namespace sm::soft {

namespace {

constexpr std::uint16_t kMasterPic = 0x20, kSlavePic = 0xA0;  // and the port behind each
constexpr std::uint16_t kCmosIndex = 0x70, kCmosData = 0x71;

// Spec: MC146818, registers.
enum CmosRegister : std::uint8_t {
  kSeconds = 0x0,
  kMinutes = 0x2,
  kHours = 0x4,
  kWeekday = 0x6,
  kDay = 0x7,
  kMonth = 0x8,
  kYear = 0x9,
  kStatusA = 0xA,
  kStatusB = 0xB,
  kStatusD = 0xD,
  kCentury = 0x32,
};
constexpr std::uint8_t kStatusAValue = 0x26;  // 32 kHz, no update in progress
constexpr std::uint8_t kStatusBValue = 0x02;  // 24 hours, binary-coded decimals
constexpr std::uint8_t kStatusDValue = 0x80;  // the battery is fine

std::uint8_t bcd(int value) { return static_cast<std::uint8_t>(value / 10 % 10 << 4 | value % 10); }

}  // namespace

bool LegacyPorts::access(std::uint16_t port, bool is_write, std::span<std::byte> data) {
  const bool is_pic = (port & ~1) == kMasterPic || (port & ~1) == kSlavePic;
  const bool is_cmos = port == kCmosIndex || port == kCmosData;
  if (data.size() != 1 || (!is_pic && !is_cmos)) return false;
  const auto value = static_cast<std::uint8_t>(data[0]);
  const std::lock_guard lock(mutex_);
  Pic& pic = pics_[(port & ~1) == kMasterPic ? 0 : 1];
  if (is_pic && is_write) {
    write_pic(pic, (port & 1) != 0, value);
  } else if (is_pic) {
    data[0] = std::byte{(port & 1) != 0 ? pic.mask : std::uint8_t{0}};
  } else if (!is_write) {
    data[0] = std::byte{port == kCmosData ? read_cmos() : std::uint8_t{0xFF}};
  } else if (port == kCmosIndex) {
    cmos_index_ = value & 0x7F;  // bit 7 masks NMI
  }
  return true;
}

// Spec: 8259A, "initialization command words": the first announces how many more come to the data
// port; otherwise that is the mask.
void LegacyPorts::write_pic(Pic& pic, bool data_port, std::uint8_t value) {
  constexpr std::uint8_t kInitialize = 0x10, kSingle = 0x02, kFourthWord = 0x01;
  if (!data_port) {
    if ((value & kInitialize) == 0) return;
    const int words = 1 + ((value & kSingle) == 0 ? 1 : 0) + ((value & kFourthWord) != 0 ? 1 : 0);
    pic = {.mask = 0, .words_to_come = static_cast<std::uint8_t>(words)};
  } else if (pic.words_to_come > 0) {
    --pic.words_to_come;
  } else {
    pic.mask = value;
  }
}

std::uint8_t LegacyPorts::read_cmos() const {
  const auto seconds = static_cast<time_t>(clock_.wall_ns() / 1'000'000'000);
  tm date{};
  ::gmtime_r(&seconds, &date);
  switch (cmos_index_) {
    case kSeconds:
      return bcd(date.tm_sec);
    case kMinutes:
      return bcd(date.tm_min);
    case kHours:
      return bcd(date.tm_hour);
    case kWeekday:
      return bcd(date.tm_wday + 1);
    case kDay:
      return bcd(date.tm_mday);
    case kMonth:
      return bcd(date.tm_mon + 1);
    case kYear:
      return bcd(date.tm_year % 100);
    case kCentury:
      return bcd(date.tm_year / 100 + 19);
    case kStatusA:
      return kStatusAValue;
    case kStatusB:
      return kStatusBValue;
    case kStatusD:
      return kStatusDValue;
    default:
      return 0;
  }
}

}  // namespace sm::soft
