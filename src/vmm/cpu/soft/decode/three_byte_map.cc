// The opcodes after 0F 38 and 0F 3A. Spec: SDM vol. 2, tables.
#include "vmm/cpu/soft/decode/opcode_map.h"

namespace sm::soft {
namespace {

using enum Arg;
using enum Op;

// clang-format off
constexpr Row kRows38[] = {
    {0x00, kNoRep, kPshufb, {PV, QW}},
    {0x01, kNoRep, kPhaddw, {PV, QW}},
    {0x02, kNoRep, kPhaddd, {PV, QW}},
    {0x03, kNoRep, kPhaddsw, {PV, QW}},
    {0x04, kNoRep, kPmaddubsw, {PV, QW}},
    {0x05, kNoRep, kPhsubw, {PV, QW}},
    {0x06, kNoRep, kPhsubd, {PV, QW}},
    {0x07, kNoRep, kPhsubsw, {PV, QW}},
    {0x08, kNoRep, kPsignb, {PV, QW}},
    {0x09, kNoRep, kPsignw, {PV, QW}},
    {0x0A, kNoRep, kPsignd, {PV, QW}},
    {0x0B, kNoRep, kPmulhrsw, {PV, QW}},
    {0x10, k66, kPblendvb, {Vx, Wx}},
    {0x14, k66, kBlendvps, {Vx, Wx}},
    {0x15, k66, kBlendvpd, {Vx, Wx}},
    {0x17, k66, kPtest, {Vx, Wx}},
    {0x1C, kNoRep, kPabsb, {PV, QW}},
    {0x1D, kNoRep, kPabsw, {PV, QW}},
    {0x1E, kNoRep, kPabsd, {PV, QW}},
    {0x20, k66, kPmovsxbw, {Vx, Wq}},
    {0x21, k66, kPmovsxbd, {Vx, Wd}},
    {0x22, k66, kPmovsxbq, {Vx, Ww}},
    {0x23, k66, kPmovsxwd, {Vx, Wq}},
    {0x24, k66, kPmovsxwq, {Vx, Wd}},
    {0x25, k66, kPmovsxdq, {Vx, Wq}},
    {0x28, k66, kPmuldq, {Vx, Wx}},
    {0x29, k66, kPcmpeqq, {Vx, Wx}},
    {0x2A, k66, kMovntdqa, {Vx, Mx}},
    {0x2B, k66, kPackusdw, {Vx, Wx}},
    {0x30, k66, kPmovzxbw, {Vx, Wq}},
    {0x31, k66, kPmovzxbd, {Vx, Wd}},
    {0x32, k66, kPmovzxbq, {Vx, Ww}},
    {0x33, k66, kPmovzxwd, {Vx, Wq}},
    {0x34, k66, kPmovzxwq, {Vx, Wd}},
    {0x35, k66, kPmovzxdq, {Vx, Wq}},
    {0x37, k66, kPcmpgtq, {Vx, Wx}},
    {0x38, k66, kPminsb, {Vx, Wx}},
    {0x39, k66, kPminsd, {Vx, Wx}},
    {0x3A, k66, kPminuw, {Vx, Wx}},
    {0x3B, k66, kPminud, {Vx, Wx}},
    {0x3C, k66, kPmaxsb, {Vx, Wx}},
    {0x3D, k66, kPmaxsd, {Vx, Wx}},
    {0x3E, k66, kPmaxuw, {Vx, Wx}},
    {0x3F, k66, kPmaxud, {Vx, Wx}},
    {0x40, k66, kPmulld, {Vx, Wx}},
    {0x41, k66, kPhminposuw, {Vx, Wx}},
    {0x82, k66, kInvpcid, {Gv, Mx}, kNative},
    {0xC8, kNp, kSha1nexte, {Vx, Wx}},
    {0xC9, kNp, kSha1msg1, {Vx, Wx}},
    {0xCA, kNp, kSha1msg2, {Vx, Wx}},
    {0xCB, kNp, kSha256rnds2, {Vx, Wx}},
    {0xCC, kNp, kSha256msg1, {Vx, Wx}},
    {0xCD, kNp, kSha256msg2, {Vx, Wx}},
    {0xDB, k66, kAesimc, {Vx, Wx}},
    {0xDC, k66, kAesenc, {Vx, Wx}},
    {0xDD, k66, kAesenclast, {Vx, Wx}},
    {0xDE, k66, kAesdec, {Vx, Wx}},
    {0xDF, k66, kAesdeclast, {Vx, Wx}},
    {0xF0, kNoRep, kMovbe, {Gv, Mv}},
    {0xF0, kF2, kCrc32, {Gy, Eb}},
    {0xF1, kNoRep, kMovbe, {Mv, Gv}},
    {0xF1, kF2, kCrc32, {Gy, Ev}},
    {0xF6, k66, kAdcx, {Gy, Ey}},
    {0xF6, kF3, kAdox, {Gy, Ey}},
};

constexpr Row kRows3A[] = {
    {0x08, k66, kRoundps, {Vx, Wx, Ib}},
    {0x09, k66, kRoundpd, {Vx, Wx, Ib}},
    {0x0A, k66, kRoundss, {Vx, Wd, Ib}},
    {0x0B, k66, kRoundsd, {Vx, Wq, Ib}},
    {0x0C, k66, kBlendps, {Vx, Wx, Ib}},
    {0x0D, k66, kBlendpd, {Vx, Wx, Ib}},
    {0x0E, k66, kPblendw, {Vx, Wx, Ib}},
    {0x0F, kNoRep, kPalignr, {PV, QW, Ib}},
    {0x14, k66, kPextrb, {EyMb, Vx, Ib}},
    {0x15, k66, kPextrw, {EyMw, Vx, Ib}},
    {0x16, k66, kPextrd, {Ey, Vx, Ib}},
    {0x17, k66, kExtractps, {EyMd, Vx, Ib}},
    {0x20, k66, kPinsrb, {Vx, EyMb, Ib}},
    {0x21, k66, kInsertps, {Vx, Wd, Ib}},
    {0x22, k66, kPinsrd, {Vx, Ey, Ib}},
    {0x40, k66, kDpps, {Vx, Wx, Ib}},
    {0x41, k66, kDppd, {Vx, Wx, Ib}},
    {0x42, k66, kMpsadbw, {Vx, Wx, Ib}},
    {0x44, k66, kPclmulqdq, {Vx, Wx, Ib}},
    {0x60, k66, kPcmpestrm, {Vx, Wx, Ib}},
    {0x61, k66, kPcmpestri, {Vx, Wx, Ib}},
    {0x62, k66, kPcmpistrm, {Vx, Wx, Ib}},
    {0x63, k66, kPcmpistri, {Vx, Wx, Ib}},
    {0xCC, kNp, kSha1rnds4, {Vx, Wx, Ib}},
    {0xDF, k66, kAeskeygenassist, {Vx, Wx, Ib}},
};
// clang-format on

static_assert(is_in_order(kRows38) && is_in_order(kRows3A));
constexpr auto kForms38 = compile_forms(kRows38);
constexpr auto kForms3A = compile_forms(kRows3A);

}  // namespace

constexpr OpcodeMap kThreeByteMap38 = make_map(kRows38, kForms38);
constexpr OpcodeMap kThreeByteMap3A = make_map(kRows3A, kForms3A);

}  // namespace sm::soft
