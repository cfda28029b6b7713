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

constexpr std::array<ArgInfo, kArgCount> make_arg_info() {
  using enum Where;
  using K = OperandKind;
  std::array<ArgInfo, kArgCount> table{};
  const auto set = [&table](Arg arg, ArgInfo info) { table[static_cast<std::size_t>(arg)] = info; };

  set(Arg::Eb, {kModRmRm, K::kGpr, 1, 1});
  set(Arg::Ew, {kModRmRm, K::kGpr, 2, 2});
  set(Arg::Ev, {kModRmRm, K::kGpr, kSizeV, kSizeV});
  set(Arg::Ey, {kModRmRm, K::kGpr, kSizeY, kSizeY});
  set(Arg::Ez, {kModRmRm, K::kGpr, kSizeZ, kSizeZ});
  set(Arg::EyMb, {kModRmRm, K::kGpr, kSizeY, 1});
  set(Arg::EyMw, {kModRmRm, K::kGpr, kSizeY, 2});
  set(Arg::EyMd, {kModRmRm, K::kGpr, kSizeY, 4});
  set(Arg::EvMw, {kModRmRm, K::kGpr, kSizeV, 2});
  set(Arg::Gb, {kModRmReg, K::kGpr, 1});
  set(Arg::Gw, {kModRmReg, K::kGpr, 2});
  set(Arg::Gv, {kModRmReg, K::kGpr, kSizeV});
  set(Arg::Gy, {kModRmReg, K::kGpr, kSizeY});

  set(Arg::Mb, {kModRmMemory, K::kMem, 0, 1});
  set(Arg::Mw, {kModRmMemory, K::kMem, 0, 2});
  set(Arg::Md, {kModRmMemory, K::kMem, 0, 4});
  set(Arg::Mq, {kModRmMemory, K::kMem, 0, 8});
  set(Arg::Mx, {kModRmMemory, K::kMem, 0, 16});
  set(Arg::Mv, {kModRmMemory, K::kMem, 0, kSizeV});
  set(Arg::My, {kModRmMemory, K::kMem, 0, kSizeY});
  set(Arg::M, {kModRmMemory, K::kMem, 0, 0});
  set(Arg::Ma, {kModRmMemory, K::kMem, 0, kSize2V});
  set(Arg::Mp, {kModRmMemory, K::kMem, 0, kSizeFar});
  set(Arg::Ms, {kModRmMemory, K::kMem, 0, kSizeTable});
  set(Arg::Mt, {kModRmMemory, K::kMem, 0, 10});
  set(Arg::Menv, {kModRmMemory, K::kMem, 0, kSizeEnv});
  set(Arg::Mstate, {kModRmMemory, K::kMem, 0, kSizeState});

  set(Arg::Rv, {kRmRegister, K::kGpr, kSizeV});
  set(Arg::Ry, {kRmRegister, K::kGpr, kSizeY});
  set(Arg::Zb, {kOpcode, K::kGpr, 1});
  set(Arg::Zv, {kOpcode, K::kGpr, kSizeV});

  set(Arg::Ib, {kUnsigned, K::kImm, 1});
  set(Arg::Ibs, {kImmediate, K::kImm, 1});
  set(Arg::Ib2, {kSecond, K::kImm2, 1});
  set(Arg::Iw, {kUnsigned, K::kImm, 2});
  set(Arg::Iz, {kImmediate, K::kImm, kSizeZ});
  set(Arg::Iv, {kImmediate, K::kImm, kSizeV});
  set(Arg::One, {.where = kConstant, .kind = K::kImm, .size = 1, .fixed = 1});
  set(Arg::Jb, {kImmediate, K::kRel, 1});
  set(Arg::Jz, {kImmediate, K::kRel, kSizeZ});
  set(Arg::Ap, {kFarPointer, K::kFar, kSizeV});
  set(Arg::Ob, {kOffset, K::kMem, kSizeAddress, 1});
  set(Arg::Ov, {kOffset, K::kMem, kSizeAddress, kSizeV});

  set(Arg::Sw, {kModRmReg, K::kSegment, 2});
  set(Arg::Cn, {kModRmReg, K::kControl, kSizeNative});
  set(Arg::Dn, {kModRmReg, K::kDebug, kSizeNative});

  set(Arg::Pq, {kModRmReg, K::kMmx, 8});
  set(Arg::Nq, {kRmRegister, K::kMmx, 8});
  set(Arg::Qq, {kModRmRm, K::kMmx, 8, 8});
  set(Arg::Vx, {kModRmReg, K::kXmm, 16});
  set(Arg::Ux, {kRmRegister, K::kXmm, 16});
  set(Arg::Ww, {kModRmRm, K::kXmm, 16, 2});
  set(Arg::Wd, {kModRmRm, K::kXmm, 16, 4});
  set(Arg::Wq, {kModRmRm, K::kXmm, 16, 8});
  set(Arg::Wx, {kModRmRm, K::kXmm, 16, 16});
  set(Arg::PV, {.where = kModRmReg, .kind = K::kMmx, .size = 8, .either = true});
  set(Arg::NU, {.where = kRmRegister, .kind = K::kMmx, .size = 8, .either = true});
  set(Arg::QW, {kModRmRm, K::kMmx, 8, 8, 0, true});
  set(Arg::QdWx, {kModRmRm, K::kMmx, 8, 4, 0, true});

  const auto fixed = [&set](Arg arg, OperandKind kind, std::uint8_t size, std::uint8_t number) {
    set(arg, {.where = kFixed, .kind = kind, .size = size, .fixed = number});
  };
  fixed(Arg::AL, K::kGpr, 1, 0);
  fixed(Arg::CL, K::kGpr, 1, 1);
  fixed(Arg::AX, K::kGpr, 2, 0);
  fixed(Arg::DX, K::kGpr, 2, 2);
  fixed(Arg::rAX, K::kGpr, kSizeV, 0);
  fixed(Arg::eAX, K::kGpr, kSizeZ, 0);
  for (std::uint8_t n = 0; n < 6; ++n) {
    fixed(static_cast<Arg>(static_cast<std::uint8_t>(Arg::ES) + n), K::kSegment, 2, n);
  }
  fixed(Arg::ST0, K::kSt, 10, 0);
  set(Arg::STi, {.where = kRmRegister, .kind = K::kSt, .size = 10});
  return table;
}

}  // namespace detail

inline constexpr std::array<ArgInfo, kArgCount> kArgInfo = detail::make_arg_info();

constexpr const ArgInfo& info_of(Arg arg) { return kArgInfo[static_cast<std::size_t>(arg)]; }

}  // namespace sm::soft
