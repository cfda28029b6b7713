// How operands are encoded: the names that the opcode maps use and what each of them stands for.
// Spec: SDM vol. 2, appendix A.2, whose names are kept where it has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

// First letter:
//   E        general register or memory by ModRM.rm; R, only the register; M, only memory
//   G, Z     general register by ModRM.reg, by the low opcode bits
//   Q, N, P  MMX register or memory by ModRM.rm; only the register; register by ModRM.reg
//   W, U, V  the same for XMM
//   S, C, D  segment, control, debug register by ModRM.reg
//   I, J, A  immediate; branch displacement; far pointer
//   O        memory by an offset behind the opcode
// Size: b w d q t x, 1 2 4 8 10 16 bytes; v, the operand size; z, the same but at most 4; y, 8 with
// REX.W and otherwise 4; n, 8 in 64-bit mode and otherwise 4. A second pair is the size of memory
// where it is another.
// clang-format off
enum class Arg : std::uint8_t {
  kNone,
  Eb, Ew, Ev, Ey, Ez, EyMb, EyMw, EyMd, EvMw,
  Gb, Gw, Gv, Gy,
  Mb, Mw, Md, Mq, Mt, Mx, Mv, My,
  M,         // nothing is accessed, or more than Operand::size can say (FXSAVE)
  Ma,        // two values of the operand size
  Mp,        // a far pointer
  Ms,        // limit and base of a descriptor table: 6 or 10 bytes
  Menv,      // x87 environment: 14 or 28 bytes
  Mstate,    // x87 state: 94 or 108 bytes
  Rv, Ry,
  Zb, Zv,
  Ib, Iw,    // zero-extended
  Ibs, Iz,   // sign-extended
  Iv,
  Ib2,       // the second immediate
  One,       // 1, without a byte
  Jb, Jz, Ap, Ob, Ov,
  Sw, Cn, Dn,
  Pq, Nq, Qq,
  Vx, Ux, Ww, Wd, Wq, Wx,
  PV, NU, QW,  // MMX, and with prefix 66 XMM
  QdWx,        // the same; memory is 4 or 16 bytes
  AL, CL, AX, DX, rAX, eAX,
  ES, CS, SS, DS, FS, GS,
  ST0, STi,
};
// clang-format on

inline constexpr std::size_t kArgCount = static_cast<std::size_t>(Arg::STi) + 1;

// Bytes of an operand: a number, or one of these.
enum Size : std::uint8_t {
  kSizeV = 200,  // the operand size
  kSizeY,        // 8 with REX.W, otherwise 4
  kSizeZ,        // the operand size, at most 4
  kSize2V,       // twice the operand size
  kSizeFar,      // the operand size and a selector
  kSizeTable,    // limit and base of GDTR and IDTR
  kSizeEnv,      // x87 environment
  kSizeState,    // x87 state
  kSizeNative,   // 8 in 64-bit mode, otherwise 4
  kSizeAddress,  // the address size
};

enum class Where : std::uint8_t {
  kNowhere,
  kModRmReg,     // the register in ModRM.reg
  kModRmRm,      // the register in ModRM.rm, or memory
  kModRmMemory,  // memory; a register is undefined
  kRmRegister,   // the register in ModRM.rm; memory is undefined
  kOpcode,       // the register in the low three opcode bits
  kFixed,        // ArgInfo::fixed
  kImmediate,    // `size` bytes behind everything else, sign-extended
  kUnsigned,     // the same, zero-extended
  kSecond,       // the same, as the second immediate
  kConstant,     // ArgInfo::fixed as an immediate
  kOffset,       // memory, its offset behind everything else
  kFarPointer,   // an offset of `size` bytes and a selector
};

struct ArgInfo {
  Where where = Where::kNowhere;
  OperandKind kind = OperandKind::kNone;  // kMmx with `either`: kXmm after prefix 66
  std::uint8_t size = 0;                  // of a register; of what is not one
  std::uint8_t memory_size = 0;
  std::uint8_t fixed = 0;
  bool either = false;
};

namespace detail {

struct ArgRow {
  Arg arg;
  ArgInfo info;
};

using K = OperandKind;
using W = Where;

// clang-format off
inline constexpr ArgRow kArgRows[] = {
    {Arg::Eb, {W::kModRmRm, K::kGpr, 1, 1}},
    {Arg::Ew, {W::kModRmRm, K::kGpr, 2, 2}},
    {Arg::Ev, {W::kModRmRm, K::kGpr, kSizeV, kSizeV}},
    {Arg::Ey, {W::kModRmRm, K::kGpr, kSizeY, kSizeY}},
    {Arg::Ez, {W::kModRmRm, K::kGpr, kSizeZ, kSizeZ}},
    {Arg::EyMb, {W::kModRmRm, K::kGpr, kSizeY, 1}},
    {Arg::EyMw, {W::kModRmRm, K::kGpr, kSizeY, 2}},
    {Arg::EyMd, {W::kModRmRm, K::kGpr, kSizeY, 4}},
    {Arg::EvMw, {W::kModRmRm, K::kGpr, kSizeV, 2}},
    {Arg::Gb, {W::kModRmReg, K::kGpr, 1}},
    {Arg::Gw, {W::kModRmReg, K::kGpr, 2}},
    {Arg::Gv, {W::kModRmReg, K::kGpr, kSizeV}},
    {Arg::Gy, {W::kModRmReg, K::kGpr, kSizeY}},
    {Arg::Mb, {W::kModRmMemory, K::kMem, 0, 1}},
    {Arg::Mw, {W::kModRmMemory, K::kMem, 0, 2}},
    {Arg::Md, {W::kModRmMemory, K::kMem, 0, 4}},
    {Arg::Mq, {W::kModRmMemory, K::kMem, 0, 8}},
    {Arg::Mx, {W::kModRmMemory, K::kMem, 0, 16}},
    {Arg::Mv, {W::kModRmMemory, K::kMem, 0, kSizeV}},
    {Arg::My, {W::kModRmMemory, K::kMem, 0, kSizeY}},
    {Arg::M, {W::kModRmMemory, K::kMem, 0, 0}},
    {Arg::Ma, {W::kModRmMemory, K::kMem, 0, kSize2V}},
    {Arg::Mp, {W::kModRmMemory, K::kMem, 0, kSizeFar}},
    {Arg::Ms, {W::kModRmMemory, K::kMem, 0, kSizeTable}},
    {Arg::Mt, {W::kModRmMemory, K::kMem, 0, 10}},
    {Arg::Menv, {W::kModRmMemory, K::kMem, 0, kSizeEnv}},
    {Arg::Mstate, {W::kModRmMemory, K::kMem, 0, kSizeState}},
    {Arg::Rv, {W::kRmRegister, K::kGpr, kSizeV}},
    {Arg::Ry, {W::kRmRegister, K::kGpr, kSizeY}},
    {Arg::Zb, {W::kOpcode, K::kGpr, 1}},
    {Arg::Zv, {W::kOpcode, K::kGpr, kSizeV}},
    {Arg::Ib, {W::kUnsigned, K::kImm, 1}},
    {Arg::Ibs, {W::kImmediate, K::kImm, 1}},
    {Arg::Ib2, {W::kSecond, K::kImm2, 1}},
    {Arg::Iw, {W::kUnsigned, K::kImm, 2}},
    {Arg::Iz, {W::kImmediate, K::kImm, kSizeZ}},
    {Arg::Iv, {W::kImmediate, K::kImm, kSizeV}},
    {Arg::One, {.where = W::kConstant, .kind = K::kImm, .size = 1, .fixed = 1}},
    {Arg::Jb, {W::kImmediate, K::kRel, 1}},
    {Arg::Jz, {W::kImmediate, K::kRel, kSizeZ}},
    {Arg::Ap, {W::kFarPointer, K::kFar, kSizeV}},
    {Arg::Ob, {W::kOffset, K::kMem, kSizeAddress, 1}},
    {Arg::Ov, {W::kOffset, K::kMem, kSizeAddress, kSizeV}},
    {Arg::Sw, {W::kModRmReg, K::kSegment, 2}},
    {Arg::Cn, {W::kModRmReg, K::kControl, kSizeNative}},
    {Arg::Dn, {W::kModRmReg, K::kDebug, kSizeNative}},
    {Arg::Pq, {W::kModRmReg, K::kMmx, 8}},
    {Arg::Nq, {W::kRmRegister, K::kMmx, 8}},
    {Arg::Qq, {W::kModRmRm, K::kMmx, 8, 8}},
    {Arg::Vx, {W::kModRmReg, K::kXmm, 16}},
    {Arg::Ux, {W::kRmRegister, K::kXmm, 16}},
    {Arg::Ww, {W::kModRmRm, K::kXmm, 16, 2}},
    {Arg::Wd, {W::kModRmRm, K::kXmm, 16, 4}},
    {Arg::Wq, {W::kModRmRm, K::kXmm, 16, 8}},
    {Arg::Wx, {W::kModRmRm, K::kXmm, 16, 16}},
    {Arg::PV, {.where = W::kModRmReg, .kind = K::kMmx, .size = 8, .either = true}},
    {Arg::NU, {.where = W::kRmRegister, .kind = K::kMmx, .size = 8, .either = true}},
    {Arg::QW, {W::kModRmRm, K::kMmx, 8, 8, 0, true}},
    {Arg::QdWx, {W::kModRmRm, K::kMmx, 8, 4, 0, true}},
    {Arg::STi, {.where = W::kRmRegister, .kind = K::kSt, .size = 10}},
    {Arg::AL, {.where = W::kFixed, .kind = K::kGpr, .size = 1, .fixed = 0}},
    {Arg::CL, {.where = W::kFixed, .kind = K::kGpr, .size = 1, .fixed = 1}},
    {Arg::AX, {.where = W::kFixed, .kind = K::kGpr, .size = 2, .fixed = 0}},
    {Arg::DX, {.where = W::kFixed, .kind = K::kGpr, .size = 2, .fixed = 2}},
    {Arg::rAX, {.where = W::kFixed, .kind = K::kGpr, .size = kSizeV, .fixed = 0}},
    {Arg::eAX, {.where = W::kFixed, .kind = K::kGpr, .size = kSizeZ, .fixed = 0}},
    {Arg::ST0, {.where = W::kFixed, .kind = K::kSt, .size = 10, .fixed = 0}},
    {Arg::ES, {.where = W::kFixed, .kind = K::kSegment, .size = 2, .fixed = 0}},
    {Arg::CS, {.where = W::kFixed, .kind = K::kSegment, .size = 2, .fixed = 1}},
    {Arg::SS, {.where = W::kFixed, .kind = K::kSegment, .size = 2, .fixed = 2}},
    {Arg::DS, {.where = W::kFixed, .kind = K::kSegment, .size = 2, .fixed = 3}},
    {Arg::FS, {.where = W::kFixed, .kind = K::kSegment, .size = 2, .fixed = 4}},
    {Arg::GS, {.where = W::kFixed, .kind = K::kSegment, .size = 2, .fixed = 5}},
};
// clang-format on

constexpr std::array<ArgInfo, kArgCount> make_arg_info() {
  std::array<ArgInfo, kArgCount> table{};
  for (const ArgRow& row : kArgRows) table[static_cast<std::size_t>(row.arg)] = row.info;
  return table;
}

// Every name has its row.
constexpr bool is_complete(const std::array<ArgInfo, kArgCount>& table) {
  for (std::size_t i = 1; i < kArgCount; ++i) {
    if (table[i].where == Where::kNowhere) return false;
  }
  return true;
}

}  // namespace detail

inline constexpr std::array<ArgInfo, kArgCount> kArgInfo = detail::make_arg_info();
static_assert(detail::is_complete(kArgInfo));

constexpr const ArgInfo& info_of(Arg arg) { return kArgInfo[static_cast<std::size_t>(arg)]; }

}  // namespace sm::soft
