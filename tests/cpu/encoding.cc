#include "tests/cpu/encoding.h"

#include <cpuid.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <span>
#include <string>

#include "vmm/cpu/soft/decode/decoder.h"
#include "vmm/cpu/soft/decode/disassemble.h"
#include "vmm/cpu/soft/exec/groups.h"

namespace sm::cpu_fuzz {

using soft::Op;

namespace {

bool contains(std::span<const soft::SemanticEntry> group, Op op) {
  return std::any_of(group.begin(), group.end(),
                     [op](const soft::SemanticEntry& entry) { return entry.op == op; });
}

struct Feature {
  Op op;
  std::uint32_t leaf;
  std::uint32_t result;  // 0..3: eax, ebx, ecx, edx
  std::uint32_t bit;
};
// What this host may lack although our guests see it.
constexpr std::array kFeatures = std::to_array<Feature>({
    {Op::kMovbe, 1, 2, 22},         {Op::kAesenc, 1, 2, 25},     {Op::kAesenclast, 1, 2, 25},
    {Op::kAesdec, 1, 2, 25},        {Op::kAesdeclast, 1, 2, 25}, {Op::kAesimc, 1, 2, 25},
    {Op::kPclmulqdq, 1, 2, 1},      {Op::kAdcx, 7, 1, 19},       {Op::kAdox, 7, 1, 19},
    {Op::kClflushopt, 7, 1, 23},    {Op::kClwb, 7, 1, 24},       {Op::kSha1rnds4, 7, 1, 29},
    {Op::kSha1nexte, 7, 1, 29},     {Op::kSha1msg1, 7, 1, 29},   {Op::kSha1msg2, 7, 1, 29},
    {Op::kSha256rnds2, 7, 1, 29},   {Op::kSha256msg1, 7, 1, 29}, {Op::kSha256msg2, 7, 1, 29},
    {Op::kLzcnt, 0x80000001, 2, 5},
});

bool host_has(Op op) {
  for (const Feature& feature : kFeatures) {
    if (feature.op != op) continue;
    std::array<std::uint32_t, 4> r{};
    return __get_cpuid_count(feature.leaf, 0, &r[0], &r[1], &r[2], &r[3]) != 0 &&
           (r[feature.result] >> feature.bit & 1) != 0;
  }
  return true;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

bool selected(std::string_view only, Op op, Group group) {
  static constexpr std::array kGroupNames{"none", "integer", "vector", "x87"};
  const auto named = [&](std::string_view name) {
    return ("," + lower(only) + ",").find("," + lower(name) + ",") != std::string::npos;
  };
  return group != Group::kNone && (only.empty() || named(soft::name_of(op)) ||
                                   named(kGroupNames[static_cast<std::size_t>(group)]));
}

// A displacement or immediate: any, small, or of few bits.
void add_random_bytes(Text& text, Random& random) {
  const std::uint32_t kind = random.below(4);
  while (text.size < text.bytes.size()) {
    const std::uint64_t value = random.next();
    if (kind == 0 && (value & 0x300) != 0) {
      text.add((value & 0x400) != 0 ? 0x00 : 0xFF);
    } else {
      text.add(kind == 1 ? value & 0x1F : value);
    }
  }
}

}  // namespace

Group group_of(Op op) {
  if (!host_has(op) || soft::semantic_of(op) == soft::semantic_of(Op::kInvalid) ||
      contains(soft::system_semantics(), op)) {
    return Group::kNone;
  }
  if (contains(soft::vector_semantics(), op)) return Group::kVector;
  return contains(soft::x87_semantics(), op) ? Group::kX87 : Group::kInteger;
}

Text compose(const Form& form, Random& random) {
  Text text;
  static constexpr std::array<std::uint8_t, 5> kSegments{0x65, 0x65, 0x3E, 0x2E, 0x36};
  if (random.chance(8)) text.add(random.pick(kSegments));
  if (random.chance(10)) text.add(0x67);
  if (random.chance(12)) text.add(0xF0);
  if (form.prefix != 0 && form.prefix != 0x66 && random.chance(20)) text.add(0x66);
  if (form.prefix != 0) text.add(form.prefix);
  if (random.chance(60)) text.add(0x40 | random.below(16));
  if (form.map != 0) text.add(0x0F);
  if (form.map >= 2) text.add(form.map == 2 ? 0x38 : 0x3A);
  text.add(form.opcode);
  text.after_opcode = text.size;
  const std::uint32_t mod = form.in_memory ? random.below(3) : 3;
  text.add(mod << 6 | std::uint32_t{form.reg} << 3 | random.below(8));
  add_random_bytes(text, random);
  return text;
}

std::vector<Pool> collect_pools(std::string_view only, Random& random) {
  std::map<Op, Pool> pools;
  const auto collect = [&](const Form& form) {
    // Some forms need optional prefixes (REX.W) or one value of ModRM.rm, some forbid them (LOCK).
    for (int attempt = 0; attempt < 48; ++attempt) {
      soft::Insn insn;
      const Text text = compose(form, random);
      if (soft::decode({text.bytes.data(), soft::kMaxInsnLength}, soft::CodeMode::k64, insn) !=
          soft::DecodeResult::kOk) {
        continue;
      }
      auto [at, is_new] = pools.try_emplace(insn.op, Pool{insn.op, group_of(insn.op), {}});
      at->second.forms.push_back(form);
    }
  };
  static constexpr std::array<std::uint8_t, 4> kMaps{0, 1, 2, 3};
  static constexpr std::array<std::uint8_t, 4> kPrefixes{0, 0x66, 0xF3, 0xF2};
  for (std::uint32_t opcode = 0; opcode < 256; ++opcode) {
    for (const std::uint8_t map : kMaps) {
      for (const std::uint8_t prefix : kPrefixes) {
        for (std::uint8_t reg = 0; reg < 8; ++reg) {
          for (const bool in_memory : {false, true}) {
            collect({prefix, map, static_cast<std::uint8_t>(opcode), reg, in_memory});
          }
        }
      }
    }
  }
  std::vector<Pool> result;
  for (auto& [op, pool] : pools) {
    if (selected(only, op, pool.group)) result.push_back(std::move(pool));
  }
  return result;
}

}  // namespace sm::cpu_fuzz
