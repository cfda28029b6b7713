#include "vmm/cpu/soft/code_cache.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <span>

#include "vmm/cpu/soft/decode/decoder.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

namespace {

// What a decoder's answer other than kOk and kTruncated raises.
void raise_undecodable(Cpu& cpu, DecodeResult result) {
  if (result == DecodeResult::kTooLong) {
    raise(cpu, vector::kProtection, 0);
  } else {
    raise(cpu, vector::kUndefined);
  }
}

}  // namespace

// Outside of 64-bit mode an instruction must lie inside of CS. Spec: SDM vol. 3, 5.3.
std::size_t CodeCache::bytes_to_limit() const {
  if (cpu_.mode == CodeMode::k64) return kMaxInsnLength;
  const std::uint64_t limit = cpu_.segment[static_cast<std::size_t>(Segment::kCs)].limit;
  if (cpu_.rip > limit) return 0;
  return static_cast<std::size_t>(std::min<std::uint64_t>(limit - cpu_.rip + 1, kMaxInsnLength));
}

bool CodeCache::check_limit(std::size_t length) {
  if (length <= bytes_to_limit()) return true;
  raise(cpu_, vector::kProtection, 0);
  return false;
}

CodePage* CodeCache::page_for(const Mmu::FetchPage& where) {
  const std::uint64_t number = machine_.memory().page_number(where.physical);
  const auto mode = static_cast<std::size_t>(cpu_.mode);
  if (const auto found = pages_.find(number); found != pages_.end()) {
    if (CodePage* page = found->second.mode[mode].get()) return page;
  } else if (!machine_.claim_code_page(cpu_, number)) {
    return nullptr;
  }
  // Claiming serves requests of others, which may have dropped anything but this page.
  if (page_count_ >= kMaxPages || insn_count_ >= kMaxInsns) {
    drop_all();
    if (!machine_.claim_code_page(cpu_, number)) return nullptr;
  }
  std::unique_ptr<CodePage>& page = pages_[number].mode[mode];
  if (page == nullptr) {
    page = std::make_unique<CodePage>();
    page->page = number;
    page->host = where.host;
    ++page_count_;
  }
  return page.get();
}

CodePage* CodeCache::find_page(std::uint64_t linear, bool& fault) {
  fault = false;
  if (full()) drop_all();
  if (CodePage* known = known_page(linear)) return known;
  Mmu::FetchPage where;
  if (!cpu_.mmu->find_fetch(linear, where)) {
    fault = true;
    return nullptr;
  }
  CodePage* page = where.host == nullptr ? nullptr : page_for(where);
  if (page != nullptr) {
    cpu_.mmu->current_bank().insert_fetch(linear & ~kPageMask, cpu_.mode, page, where.is_local,
                                          where.page_shift);
  }
  return page;
}

const Insn* CodeCache::fetch_slow(std::uint64_t linear) {
  if (!check_limit(1)) return nullptr;
  bool fault = false;
  CodePage* page = find_page(linear, fault);
  if (fault) return nullptr;
  if (page == nullptr) return decode_uncached(linear);
  const std::uint64_t offset = linear & kPageMask;
  if (page->single == nullptr) page->single = std::make_unique<DecodedPage>();
  if (const std::uint16_t place = page->single->at[offset]) {
    const Insn& decoded = page->single->insns[place - 1u];
    return check_limit(decoded.length) ? &decoded : nullptr;
  }
  return decode_into(*page, offset, linear);
}

const Insn* CodeCache::decode_into(CodePage& page, std::uint64_t offset, std::uint64_t linear) {
  std::array<std::uint8_t, kMaxInsnLength> bytes;
  const std::size_t in_segment = bytes_to_limit();
  const std::size_t size = std::min<std::size_t>(in_segment, kPageSize - offset);
  machine_.pages().add_code_lines(page.page, offset, offset + size);
  std::memcpy(bytes.data(), page.host + offset, size);
  Insn insn;
  const DecodeResult result = decode(std::span(bytes).first(size), cpu_.mode, insn);
  if (result == DecodeResult::kTruncated) return decode_uncached(linear);
  if (result != DecodeResult::kOk) {
    raise_undecodable(cpu_, result);
    return nullptr;
  }
  DecodedPage& single = *page.single;
  single.insns.push_back(insn);
  ++insn_count_;
  single.at[offset] = static_cast<std::uint16_t>(single.insns.size());
  return &single.insns.back();
}

// An instruction on two pages, or in memory that is not RAM. A fault of the second page's is one
// only when the instruction needs that page.
const Insn* CodeCache::decode_uncached(std::uint64_t linear) {
  std::array<std::uint8_t, kMaxInsnLength> bytes;
  bytes.fill(0xFF);  // where nothing answers
  const std::size_t in_segment = bytes_to_limit();
  std::size_t size = 0;
  for (;;) {
    if (!check_limit(size + 1)) return nullptr;
    const std::uint64_t at =
        cpu_.mode == CodeMode::k64 ? linear + size : (linear + size) & 0xFFFF'FFFF;
    Mmu::FetchPage where;
    if (!cpu_.mmu->find_fetch(at, where)) return nullptr;
    const std::uint64_t offset = at & kPageMask;
    const std::size_t piece =
        std::min<std::size_t>(in_segment - size, static_cast<std::size_t>(kPageSize - offset));
    if (where.host != nullptr) std::memcpy(bytes.data() + size, where.host + offset, piece);
    size += piece;
    const DecodeResult result = decode(std::span(bytes).first(size), cpu_.mode, single_);
    if (result == DecodeResult::kTruncated && size < bytes.size()) continue;
    if (result != DecodeResult::kOk) {
      raise_undecodable(cpu_, result);
      return nullptr;
    }
    return &single_;
  }
}

const Insn* CodeCache::fetch_crossing(std::uint64_t linear) {
  if ((linear & kPageMask) + kMaxInsnLength <= kPageSize) return decode_uncached(linear);
  const std::uint64_t next_page = (linear | kPageMask) + 1;
  // Finding the second may drop the first.
  bool fault = false;
  const CodePage* second = find_page(next_page, fault);
  const std::uint64_t drops = drops_;
  const CodePage* first = find_page(linear, fault);
  if (first == nullptr || second == nullptr || drops != drops_) return decode_uncached(linear);
  Crossing& entry = crossing_at(linear);
  if (entry.linear != linear || entry.drops != drops || entry.first != first ||
      entry.second != second) {
    machine_.pages().add_code_lines(first->page, linear & kPageMask, kPageSize);
    machine_.pages().add_code_lines(second->page, 0, kMaxInsnLength);
    // Of these pages, whatever the guest's tables say by now.
    std::array<std::uint8_t, kMaxInsnLength> bytes;
    const auto in_first = static_cast<std::size_t>(next_page - linear);
    std::memcpy(bytes.data(), first->host + (linear & kPageMask), in_first);
    std::memcpy(bytes.data() + in_first, second->host, bytes.size() - in_first);
    if (decode(bytes, cpu_.mode, single_) != DecodeResult::kOk) return decode_uncached(linear);
    entry = {linear, drops, first, second, single_};
  }
  return &entry.decoded;
}

const Insn* CodeCache::kept_crossing(std::uint64_t linear) const {
  const Crossing& entry = crossing_at(linear);
  const bool is_valid = entry.linear == linear && entry.drops == drops_ &&
                        entry.first == known_page(linear) &&
                        entry.second == known_page((linear | kPageMask) + 1);
  return is_valid ? &entry.decoded : nullptr;
}

void CodeCache::drop(const PageList& list) {
  if (list.all()) return drop_all();
  ++drops_;
  for (const std::uint64_t number : list.pages()) {
    const auto found = pages_.find(number);
    if (found == pages_.end()) continue;
    for (const auto& page : found->second.mode) {
      if (page == nullptr) continue;
      cpu_.mmu->drop_code(*page);
      insn_count_ -= page->single_count();
      --page_count_;
    }
    pages_.erase(found);
    machine_.pages().drop_code_holder(number, cpu_.index);
  }
}

void CodeCache::drop_all() {
  ++drops_;
  insns_.clear();
  for (const auto& [number, page] : pages_) machine_.pages().drop_code_holder(number, cpu_.index);
  pages_.clear();
  memory_.clear();
  page_count_ = insn_count_ = 0;
  cpu_.mmu->flush_fetches();
}

}  // namespace sm::soft
