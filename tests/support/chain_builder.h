// ChainBuilder: writes one descriptor chain into a RingFake.
//
//   BuiltChain request =
//   ChainBuilder(ring).readable_object(header).writable(512).writable(1).offer();
//   ... let the device work ...
//   EXPECT_EQ(request.written(memory, 0, 512), expected);
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "support/ring_fake.h"

namespace sm::test {

struct BuiltChain {
  std::uint16_t head = 0;
  std::vector<GuestBuffer> readable;
  std::vector<GuestBuffer> writable;

  // Bytes [from, from+count) of the writable part, as one string of bytes.
  std::vector<std::byte> written(const GuestMemory& memory, std::uint64_t from,
                                 std::uint64_t count) const {
    std::vector<std::byte> out(count);
    BufferReader reader(memory, writable);
    must(reader.skip(from));
    must(reader.read(out));
    return out;
  }
  std::byte last_written(const GuestMemory& memory) const {
    return written(memory, total_length(writable) - 1, 1).front();
  }
};

class ChainBuilder {
 public:
  explicit ChainBuilder(RingFake& ring) : ring_(&ring) {}

  ChainBuilder& readable(std::span<const std::byte> bytes) {
    return buffer(ring_->arena().put(bytes), static_cast<std::uint32_t>(bytes.size()), 0);
  }
  ChainBuilder& readable(std::string_view text) { return readable(as_byte_span(text)); }
  template <class T>
  ChainBuilder& readable_object(const T& value) {
    return readable(std::as_bytes(std::span(&value, 1)));
  }
  ChainBuilder& writable(std::uint32_t bytes) {
    return buffer(ring_->arena().take(bytes), bytes, ring::kWrite);
  }
  // Any address, length and flags (kNext and `next` are filled in), true or not.
  ChainBuilder& buffer(GuestPhysAddr address, std::uint32_t length, std::uint16_t flags) {
    parts_.push_back({address.raw(), length, flags, 0});
    return *this;
  }
  // Puts the descriptors into an indirect table.
  ChainBuilder& indirect() {
    indirect_ = true;
    return *this;
  }

  // Writes the descriptors; the device does not see them yet.
  BuiltChain build() {
    BuiltChain built;
    for (const ring::Descriptor& d : parts_) {
      auto& list = (d.flags & ring::kWrite) != 0 ? built.writable : built.readable;
      list.push_back({GuestPhysAddr(d.address), d.length});
    }
    if (indirect_) {
      for (std::size_t i = 0; i + 1 < parts_.size(); ++i) link(parts_[i], i + 1);
      const auto table = std::as_bytes(std::span(parts_));
      const auto bytes = static_cast<std::uint32_t>(table.size());
      const GuestPhysAddr at = ring_->arena().put(table);
      built.head = ring_->take_descriptors(1).front();
      ring_->set_descriptor(built.head, {at.raw(), bytes, ring::kIndirect, 0});
      return built;
    }
    const auto indices = ring_->take_descriptors(parts_.size());
    for (std::size_t i = 0; i + 1 < parts_.size(); ++i) link(parts_[i], indices[i + 1]);
    for (std::size_t i = 0; i < parts_.size(); ++i) ring_->set_descriptor(indices[i], parts_[i]);
    built.head = indices.front();
    return built;
  }
  // build() and make it available.
  BuiltChain offer() {
    BuiltChain built = build();
    ring_->offer(built.head);
    return built;
  }

 private:
  static void link(ring::Descriptor& d, std::size_t next) {
    d.flags = static_cast<std::uint16_t>(d.flags | ring::kNext);
    d.next = static_cast<std::uint16_t>(next);
  }

  RingFake* ring_;
  std::vector<ring::Descriptor> parts_;
  bool indirect_ = false;
};

}  // namespace sm::test
