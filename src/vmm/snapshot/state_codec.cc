#include "vmm/snapshot/state_codec.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "vmm/snapshot/state_fields.h"

namespace sm {
namespace {

constexpr std::string_view kMagic("SMSTATE\0", 8);
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 32;
constexpr std::size_t kEntryBytes = 32;

enum SectionId : std::uint32_t { kVcpu = 1, kPlatform = 2, kUart = 3, kDoorbell = 4, kDevice = 5 };

// What a section of each id is called, how many there may be, and the version written here.
struct SectionKind {
  std::string_view name;
  std::uint32_t max_count;
  std::uint32_t version;
};
constexpr std::array<SectionKind, 6> kKinds{{{},
                                             {"vcpu", kMaxStateVcpus, 1},
                                             {"platform", 1, 1},
                                             {"uart", 1, 1},
                                             {"doorbell", 1, 1},
                                             {"device", kMaxStateDevices, 1}}};
constexpr std::size_t kMaxSections = kMaxStateVcpus + kMaxStateDevices + 3;

struct Section {
  std::uint32_t id = 0;
  std::uint32_t number = 0;  // which vCPU, which slot
  std::uint32_t version = 0;
  std::uint32_t crc = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

std::string section_name(const Section& s) {
  return "section " + std::string(kKinds[s.id].name) + " " + std::to_string(s.number);
}

tl::unexpected<Error> corrupt(const std::string& cause) {
  return fail(Code::kCorrupt, "machine state: " + cause, "bake again");
}

// ---- writing

class Encoder {
 public:
  template <class... Fields>
  void operator()(const Fields&... fields) {
    (put(fields), ...);
  }
  template <class E>
  void enumeration(E value, E /*last*/) {
    put(static_cast<std::uint8_t>(value));
  }
  void bytes(const std::vector<std::byte>& value, std::uint32_t /*limit*/) {
    put(static_cast<std::uint32_t>(value.size()));
    out_.put_bytes(value);
  }
  template <class T, class Visitor>
  void list(const std::vector<T>& value, std::uint32_t /*limit*/, Visitor visit) {
    put(static_cast<std::uint32_t>(value.size()));
    for (const T& element : value) visit(*this, element);
  }
  std::vector<std::byte> release() { return out_.release(); }

 private:
  void put(bool value) { out_.put(std::uint8_t{value}); }
  template <std::unsigned_integral T>
  void put(T value) {
    out_.put(value);
  }
  template <class T, std::size_t n>
  void put(const std::array<T, n>& value) {
    for (const T& element : value) put(element);
  }
  ByteWriter out_;
};

class Assembly {
 public:
  template <class Fill>
  void add(std::uint32_t id, std::size_t number, Fill fill) {
    Encoder encoder;
    fill(encoder);
    auto body = encoder.release();
    sections_.push_back({id, static_cast<std::uint32_t>(number), kKinds[id].version, crc32c(body),
                         bodies_.size(), body.size()});
    bodies_.insert(bodies_.end(), body.begin(), body.end());
  }

  std::vector<std::byte> finish() const {
    const std::size_t first = kHeaderBytes + kEntryBytes * sections_.size();
    ByteWriter directory;
    for (const Section& s : sections_) {
      directory.put(s.id);
      directory.put(s.number);
      directory.put(s.version);
      directory.put(s.crc);
      directory.put(s.offset + first);
      directory.put(s.length);
    }
    ByteWriter out;
    out.put_bytes(as_byte_span(kMagic));
    out.put(kVersion);
    out.put(static_cast<std::uint32_t>(sections_.size()));
    out.put(static_cast<std::uint64_t>(first + bodies_.size()));
    out.put(std::uint32_t{0});
    out.put(crc32c(directory.bytes(), crc32c(out.bytes())));
    out.put_bytes(directory.bytes());
    out.put_bytes(bodies_);
    return out.release();
  }

 private:
  std::vector<Section> sections_;
  std::vector<std::byte> bodies_;
};

// ---- reading

// After the first failure nothing more is read; the caller asks at the end.
class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> bytes) : in_(bytes) {}

  template <class... Fields>
  void operator()(Fields&... fields) {
    (take(fields), ...);
  }
  template <class E>
  void enumeration(E& value, E last) {
    const auto raw = in_.take<std::uint8_t>();
    if (!raw) return;
    if (*raw > static_cast<std::uint8_t>(last)) return wrong("a number without meaning");
    value = static_cast<E>(*raw);
  }
  void bytes(std::vector<std::byte>& value, std::uint32_t limit) {
    const auto size = count(limit);
    const auto content = in_.take_bytes(size);
    if (content) value.assign(content->begin(), content->end());
  }
  template <class T, class Visitor>
  void list(std::vector<T>& value, std::uint32_t limit, Visitor visit) {
    const auto size = count(limit);
    for (std::uint32_t i = 0; i < size && !failed(); ++i) visit(*this, value.emplace_back());
  }

  bool failed() const { return wrong_ != nullptr || in_.failed(); }
  // Everything was there, and nothing more.
  Status finish(const Section& section) const {
    if (too_many_ != 0) {
      return fail(Code::kLimit, "machine state: " + section_name(section) + " has a list of " +
                                    std::to_string(too_many_) + " elements");
    }
    if (wrong_ != nullptr) return corrupt(section_name(section) + " has " + wrong_);
    if (in_.failed()) return corrupt(section_name(section) + " is too short");
    if (!in_.at_end()) return corrupt(section_name(section) + " is too long");
    return {};
  }

 private:
  void wrong(const char* what) {
    if (wrong_ == nullptr) wrong_ = what;
  }
  std::uint32_t count(std::uint32_t limit) {
    const auto n = in_.take<std::uint32_t>().value_or(0);
    if (n <= limit) return n;
    too_many_ = n;
    wrong("a list beyond its limit");
    return 0;
  }
  void take(bool& value) {
    const auto raw = in_.take<std::uint8_t>().value_or(0);
    if (raw > 1) wrong("a truth value that is neither 0 nor 1");
    value = raw != 0;
  }
  template <std::unsigned_integral T>
  void take(T& value) {
    value = in_.take<T>().value_or(0);
  }
  template <class T, std::size_t n>
  void take(std::array<T, n>& value) {
    for (T& element : value) take(element);
  }

  ByteReader in_;
  const char* wrong_ = nullptr;
  std::uint32_t too_many_ = 0;
};

Status check_vcpu(const CpuState& cpu, const Section& section) {
  // Spec: SDM vol. 1, 13.4: the legacy region and the header.
  if (!cpu.xsave.empty() && cpu.xsave.size() < 512 + 64) {
    return corrupt(section_name(section) + " has half of an XSAVE area");
  }
  const auto unordered = [](const MsrValue& a, const MsrValue& b) { return a.index >= b.index; };
  if (std::adjacent_find(cpu.msrs.begin(), cpu.msrs.end(), unordered) != cpu.msrs.end()) {
    return corrupt(section_name(section) + " has MSRs out of order");
  }
  return {};
}

Status read_body(const Section& section, Decoder& in, MachineState& out) {
  switch (section.id) {
    case kVcpu:
      state_fields::vcpu(in, out.vcpus.emplace_back());
      SM_TRY_STATUS(in.finish(section));
      return check_vcpu(out.vcpus.back(), section);
    case kPlatform:
      state_fields::platform(in, out.platform);
      break;
    case kUart:
      state_fields::uart(in, out.uart);
      break;
    case kDoorbell:
      in(out.generation);
      break;
    default:
      state_fields::device(in, out.devices.emplace_back());
      break;
  }
  return in.finish(section);
}

// What the directory may say: known ids and versions, ascending, numbered without gaps, bodies one
// after the other up to the end of the file.
Status check_directory(const std::vector<Section>& sections, std::uint64_t total) {
  std::uint64_t end = kHeaderBytes + kEntryBytes * sections.size();
  std::array<std::uint32_t, kKinds.size()> seen{};
  std::uint32_t last_id = 0;
  for (const Section& s : sections) {
    if (s.id == 0 || s.id >= kKinds.size()) {
      return fail(Code::kUnsupported,
                  "machine state: section with the unknown id " + std::to_string(s.id),
                  "bake again, or use the version that wrote the snapshot");
    }
    if (s.version != kKinds[s.id].version) {
      return fail(Code::kUnsupported,
                  "machine state: " + section_name(s) + " has version " +
                      std::to_string(s.version) + ", this program reads version " +
                      std::to_string(kKinds[s.id].version),
                  "bake again, or use the version that wrote the snapshot");
    }
    if (s.number >= kKinds[s.id].max_count) {
      return fail(Code::kLimit, "machine state: there is a " + section_name(s));
    }
    if (s.id < last_id || s.number != seen[s.id]) {
      return corrupt(section_name(s) + " is out of order");
    }
    if (s.offset != end || s.length > total - end) {
      return corrupt(section_name(s) + " is not where it belongs");
    }
    last_id = s.id;
    ++seen[s.id];
    end += s.length;
  }
  if (end != total) return corrupt("there are bytes after the last section");
  for (const auto id : {kVcpu, kPlatform, kUart, kDoorbell}) {
    if (seen[id] == 0) return corrupt("there is no section " + std::string(kKinds[id].name));
  }
  return {};
}

struct Header {
  std::uint32_t count = 0;
  std::uint32_t crc = 0;
};

Result<Header> read_header(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  const auto magic = in.take_bytes(kMagic.size());
  const auto version = in.take<std::uint32_t>();
  const auto count = in.take<std::uint32_t>();
  const auto total = in.take<std::uint64_t>();
  const auto reserved = in.take<std::uint32_t>();
  const auto crc = in.take<std::uint32_t>();
  if (!crc) return corrupt("it ends within its header");
  if (as_text(*magic) != kMagic) return corrupt("it does not begin like one");
  if (*version != kVersion) {
    return fail(Code::kUnsupported,
                "machine state: it has format version " + std::to_string(*version) +
                    ", this program reads version " + std::to_string(kVersion),
                "bake again, or use the version that wrote the snapshot");
  }
  if (*count > kMaxSections) {
    return fail(Code::kLimit, "machine state: it has " + std::to_string(*count) +
                                  " sections, the limit is " + std::to_string(kMaxSections));
  }
  if (*total != bytes.size()) {
    return corrupt("it has " + std::to_string(bytes.size()) + " bytes instead of " +
                   std::to_string(*total));
  }
  if (*reserved != 0) return corrupt("its header is damaged");
  return Header{*count, *crc};
}

// Header and directory, verified; no body is looked at.
Result<std::vector<Section>> read_directory(std::span<const std::byte> bytes) {
  const Header header = SM_TRY(read_header(bytes));
  ByteReader in(bytes.subspan(kHeaderBytes));
  const auto directory = in.take_bytes(kEntryBytes * header.count);
  if (!directory) return corrupt("it ends within its directory");
  if (crc32c(*directory, crc32c(bytes.first(kHeaderBytes - 4))) != header.crc) {
    return corrupt("its directory is damaged");
  }
  std::vector<Section> sections(header.count);
  ByteReader entries(*directory);
  for (Section& s : sections) {
    s.id = *entries.take<std::uint32_t>();
    s.number = *entries.take<std::uint32_t>();
    s.version = *entries.take<std::uint32_t>();
    s.crc = *entries.take<std::uint32_t>();
    s.offset = *entries.take<std::uint64_t>();
    s.length = *entries.take<std::uint64_t>();
  }
  SM_TRY_STATUS(check_directory(sections, bytes.size()));
  return sections;
}

}  // namespace

std::vector<std::byte> encode_state(const MachineState& state) {
  Assembly out;
  for (std::size_t i = 0; i < state.vcpus.size(); ++i) {
    out.add(kVcpu, i, [&](Encoder& e) { state_fields::vcpu(e, state.vcpus[i]); });
  }
  out.add(kPlatform, 0, [&](Encoder& e) { state_fields::platform(e, state.platform); });
  out.add(kUart, 0, [&](Encoder& e) { state_fields::uart(e, state.uart); });
  out.add(kDoorbell, 0, [&](Encoder& e) { e(state.generation); });
  for (std::size_t i = 0; i < state.devices.size(); ++i) {
    out.add(kDevice, i, [&](Encoder& e) { state_fields::device(e, state.devices[i]); });
  }
  return out.finish();
}

Result<MachineState> decode_state(std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxStateBytes) {
    return fail(Code::kLimit, "machine state: it has " + std::to_string(bytes.size()) +
                                  " bytes, the limit is " + std::to_string(kMaxStateBytes));
  }
  const std::vector<Section> sections = SM_TRY(read_directory(bytes));
  MachineState state;
  for (const Section& s : sections) {
    const auto body =
        bytes.subspan(static_cast<std::size_t>(s.offset), static_cast<std::size_t>(s.length));
    if (crc32c(body) != s.crc) return corrupt(section_name(s) + " is damaged");
    Decoder in(body);
    SM_TRY_STATUS(read_body(s, in, state));
  }
  return state;
}

}  // namespace sm
