#include "tests/cpu/block_generator.h"

#include <algorithm>

#include "tests/cpu/values.h"
#include "vmm/cpu/soft/decode/decoder.h"

namespace sm::cpu_test {

using cpu_fuzz::Form;
using cpu_fuzz::Pool;
using cpu_fuzz::Random;
using soft::Op;
using soft::OperandKind;

namespace {

// Operations with handlers of their own, the frequent ones several times.
constexpr std::string_view kCommon =
    "mov,movzx,movsx,movsxd,lea,add,sub,and,or,xor,adc,sbb,cmp,test,inc,dec,neg,not,imul,shl,shr,"
    "sar,rol,ror,bt,push,pop,leave,cmovcc,setcc,cbw,cwd,bswap,xchg,nop,movaps,movups,movdqa,movdqu,"
    "movss,movsd,movq,movd,movlps,movhps,pshufd,movs,stos,pmovmskb,pxor,paddd,pcmpeqb,punpcklqdq,"
    "pand";

// Not the same twice, or not possible in a program without a host behind it.
bool is_left_out(Op op) {
  switch (op) {
    case Op::kRdrand:
    case Op::kRdseed:
    case Op::kIn:
    case Op::kOut:
    case Op::kIns:
    case Op::kOuts:
      return true;
    default:
      return false;
  }
}

// Registers that hold addresses: instructions mostly leave them alone.
constexpr std::array<std::uint8_t, 5> kPointers{soft::kRbx, soft::kRsi, soft::kRdi, soft::kRbp, 13};
bool is_pointer(std::uint8_t reg) {
  return std::find(kPointers.begin(), kPointers.end(), reg) != kPointers.end();
}
constexpr std::uint8_t kSmallIndex = soft::kR9;

void drop_left_out(std::vector<Pool>& pools) {
  std::erase_if(pools, [](const Pool& pool) { return is_left_out(pool.op); });
}

void put(std::vector<std::uint8_t>& bytes, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) bytes.push_back(static_cast<std::uint8_t>(value >> 8 * i));
}

}  // namespace

BlockGenerator::BlockGenerator(Random& random)
    : random_(random),
      all_(cpu_fuzz::collect_pools("", random)),
      common_(cpu_fuzz::collect_pools(kCommon, random)) {
  drop_left_out(all_);
  drop_left_out(common_);
}

// Whether the instruction leaves a program mostly going.
bool BlockGenerator::suits(const soft::Insn& insn) {
  if (random_.chance(5)) return true;
  const soft::Operand& first = insn.operand[0];
  const bool writes = insn.op != Op::kCmp && insn.op != Op::kTest && insn.op != Op::kPush;
  if (writes && first.kind == OperandKind::kGpr &&
      (is_pointer(first.reg) || first.reg == soft::kRsp || first.reg == kSmallIndex)) {
    return false;
  }
  const bool has_memory =
      std::any_of(insn.operand.begin(), insn.operand.end(),
                  [](const soft::Operand& o) { return o.kind == OperandKind::kMem; });
  if (!has_memory || insn.op == Op::kLea || insn.op == Op::kNop) return true;
  const bool relative = insn.base == soft::kRipRegister && random_.chance(30);
  return (is_pointer(insn.base) || insn.base == soft::kRsp || relative) &&
         (insn.index == soft::kNoRegister || insn.index == kSmallIndex) &&
         insn.displacement > -2048 && insn.displacement < 2048 && insn.address_size == 8;
}

BlockGenerator::Bytes BlockGenerator::any_instruction() {
  for (;;) {
    const auto& pools = random_.chance(75) ? common_ : all_;
    const Pool& pool = pools[random_.below(pools.size())];
    const Form& form = pool.forms[random_.below(pool.forms.size())];
    cpu_fuzz::Text text = cpu_fuzz::compose(form, random_);
    if (pool.op == Op::kEnter) text.bytes[text.after_opcode + 1] &= 3;
    soft::Insn insn;
    const auto result =
        soft::decode({text.bytes.data(), soft::kMaxInsnLength}, soft::CodeMode::k64, insn);
    if (result == soft::DecodeResult::kOk && !is_left_out(insn.op) && suits(insn)) {
      return {text.bytes.begin(), text.bytes.begin() + insn.length};
    }
  }
}

// Jcc, JMP or CALL.
BlockGenerator::Bytes BlockGenerator::branch(std::uint64_t from, std::uint64_t to) {
  Bytes bytes;
  const auto distance = static_cast<std::int64_t>(to - from);
  const std::uint32_t kind = random_.below(10);
  if (kind < 7) {
    const std::uint32_t condition = random_.below(16);
    if (distance > -120 && distance < 120) {
      put(bytes, 0x70 | condition, 1);
      put(bytes, to - from - 2, 1);
    } else {
      put(bytes, 0x800F | condition << 8, 2);
      put(bytes, to - from - 6, 4);
    }
  } else {
    put(bytes, kind == 7 ? 0xE9 : 0xE8, 1);
    put(bytes, to - from - 5, 4);
  }
  return bytes;
}

// What is executed as one: CMP, TEST, SUB, ADD or AND, and Jcc.
BlockGenerator::Bytes BlockGenerator::fused_pair(std::uint64_t from, std::uint64_t to) {
  static constexpr std::array<std::uint8_t, 8> kOpcodes{0x38, 0x39, 0x3A, 0x3B,
                                                        0x84, 0x85, 0x80, 0x83};
  Bytes bytes;
  for (;;) {
    const Form form{.opcode = random_.pick(kOpcodes),
                    .reg = static_cast<std::uint8_t>(random_.below(8)),
                    .in_memory = random_.chance(40)};
    const cpu_fuzz::Text text = cpu_fuzz::compose(form, random_);
    soft::Insn insn;
    const auto result =
        soft::decode({text.bytes.data(), soft::kMaxInsnLength}, soft::CodeMode::k64, insn);
    if (result != soft::DecodeResult::kOk || !suits(insn)) continue;
    bytes.assign(text.bytes.begin(), text.bytes.begin() + insn.length);
    break;
  }
  const Bytes second = branch(from + bytes.size(), to);
  bytes.insert(bytes.end(), second.begin(), second.end());
  return bytes;
}

// lea rax, [rip + distance]; then JMP or CALL of it, or PUSH and RET.
BlockGenerator::Bytes BlockGenerator::return_pair() {
  static const std::array<Bytes, 3> kSecond{{{0xFF, 0xE0}, {0xFF, 0xD0}, {0x50, 0xC3}}};
  Bytes bytes{0x48, 0x8D, 0x05};
  put(bytes, random_.below(40) + 2, 4);
  const Bytes& second = kSecond[random_.below(kSecond.size())];
  bytes.insert(bytes.end(), second.begin(), second.end());
  return bytes;
}

void BlockGenerator::next(Program& out) {
  const std::uint64_t room = kCodePages * kPageBytes - 1024;
  std::uint64_t offset = random_.below(room);
  if (random_.chance(40)) offset = kPageBytes - 1 - random_.below(100);  // across a page's end
  out.start = kCodeBase + offset;
  out.bytes.clear();
  out.starts.clear();
  const std::uint32_t count = 1 + random_.below(30);
  // Backwards to a start; forwards anywhere near, often into the middle of an instruction.
  const auto somewhere = [&] {
    const bool back = !out.starts.empty() && random_.chance(60);
    return back ? out.starts[random_.below(out.starts.size())]
                : out.start + out.bytes.size() + 2 + random_.below(60);
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t here = out.start + out.bytes.size();
    const std::uint32_t kind = random_.below(100);
    const Bytes bytes = kind < 8    ? branch(here, somewhere())
                        : kind < 16 ? fused_pair(here, somewhere())
                        : kind < 19 ? return_pair()
                                    : any_instruction();
    out.starts.push_back(here);
    out.bytes.insert(out.bytes.end(), bytes.begin(), bytes.end());
  }
  const Bytes back = branch(out.start + out.bytes.size(), out.start);
  out.bytes.insert(out.bytes.end(), back.begin(), back.end());
}

void BlockGenerator::fill_registers(soft::Cpu& cpu) {
  for (std::size_t i = 0; i < 16; ++i) cpu.gpr[i] = cpu_fuzz::integer_value(random_);
  const auto data = [&] { return kDataBase + random_.below(kDataPages * kPageBytes); };
  for (const std::uint8_t reg : kPointers) cpu.gpr[reg] = data();
  if (random_.chance(15)) {
    cpu.gpr[kPointers[random_.below(kPointers.size())]] =
        (random_.chance(50) ? kCodeBase : kCodeAlias) + random_.below(kCodePages * kPageBytes);
  }
  cpu.gpr[soft::kRsp] =
      random_.chance(90) ? kDataBase + kPageBytes + random_.below(2 * kPageBytes) / 8 * 8 : data();
  cpu.gpr[kSmallIndex] = random_.below(64);
  if (random_.chance(60)) cpu.gpr[soft::kRcx] = random_.below(200);
  constexpr std::uint64_t kSet = soft::eflags::kStatus;
  cpu.set_rflags(0x202 | (random_.next() & kSet) |
                 (random_.chance(10) ? std::uint64_t{soft::eflags::kDf} : 0));
}

}  // namespace sm::cpu_test
