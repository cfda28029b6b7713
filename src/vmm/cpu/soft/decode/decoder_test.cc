#include "vmm/cpu/soft/decode/decoder.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <ostream>
#include <string>
#include <vector>

#include "vmm/cpu/soft/decode/disassemble.h"
#include "vmm/cpu/soft/decode/plain_decoder.h"
#include "vmm/cpu/soft/decode/random_insn.h"

namespace sm::soft {

void PrintTo(const Insn& insn, std::ostream* out) { *out << disassemble(insn); }

namespace {

using Bytes = std::vector<std::uint8_t>;

std::string text_of(CodeMode mode, const Bytes& bytes) {
  Insn insn;
  switch (decode(bytes, mode, insn)) {
    case DecodeResult::kOk:
      EXPECT_EQ(insn.length, bytes.size()) << disassemble(insn);
      return disassemble(insn);
    case DecodeResult::kTruncated:
      return "truncated";
    case DecodeResult::kUndefined:
      return "undefined";
    case DecodeResult::kTooLong:
      return "too long";
  }
  return "";
}

Insn decoded(CodeMode mode, const Bytes& bytes) {
  Insn insn;
  EXPECT_EQ(decode(bytes, mode, insn), DecodeResult::kOk);
  EXPECT_EQ(insn.length, bytes.size());
  return insn;
}
Insn decoded64(const Bytes& bytes) { return decoded(CodeMode::k64, bytes); }

struct Case {
  const char* text;
  Bytes bytes;
};

void expect_texts(CodeMode mode, const std::vector<Case>& cases) {
  for (const Case& c : cases) EXPECT_EQ(text_of(mode, c.bytes), c.text);
}

TEST(DecoderTest, Addresses64) {
  expect_texts(
      CodeMode::k64,
      {{"add rax, [rbx+rcx*4+0x10]", {0x48, 0x03, 0x44, 0x8B, 0x10}},
       {"mov eax, [rip+0x12345678]", {0x8B, 0x05, 0x78, 0x56, 0x34, 0x12}},
       {"mov eax, [eip-0x8]", {0x67, 0x8B, 0x05, 0xF8, 0xFF, 0xFF, 0xFF}},
       {"mov eax, [0xffffffff80000000]", {0x8B, 0x04, 0x25, 0x00, 0x00, 0x00, 0x80}},
       {"mov eax, [rsp]", {0x8B, 0x04, 0x24}},
       {"mov eax, [r12]", {0x41, 0x8B, 0x04, 0x24}},
       {"mov eax, [rbp]", {0x8B, 0x45, 0x00}},
       {"mov eax, [r13]", {0x41, 0x8B, 0x45, 0x00}},
       {"mov eax, [r12*8+0x1]", {0x42, 0x8B, 0x04, 0xE5, 0x01, 0x00, 0x00, 0x00}},
       // REX.B does not add a base where SIB has none.
       {"mov eax, [rax+0x1]", {0x41, 0x8B, 0x04, 0x05, 0x01, 0x00, 0x00, 0x00}},
       {"mov eax, [ebx+esi*2-0x1]", {0x67, 0x8B, 0x44, 0x73, 0xFF}},
       {"mov rax, gs:[0x28]", {0x65, 0x48, 0x8B, 0x04, 0x25, 0x28, 0x00, 0x00, 0x00}},
       {"mov al, [0x8877665544332211]", {0xA0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}},
       {"mov [0x44332211], eax", {0x67, 0xA3, 0x11, 0x22, 0x33, 0x44}}});
}

TEST(DecoderTest, Addresses16) {
  const std::vector<Case> cases{{"mov al, [bx+si]", {0x8A, 0x00}},
                                {"mov al, [bx+di+0x7f]", {0x8A, 0x41, 0x7F}},
                                {"mov al, [bp+si-0x80]", {0x8A, 0x42, 0x80}},
                                {"mov al, [bp+di+0x1234]", {0x8A, 0x83, 0x34, 0x12}},
                                {"mov al, [si]", {0x8A, 0x04}},
                                {"mov al, [di]", {0x8A, 0x05}},
                                {"mov al, [0x1234]", {0x8A, 0x06, 0x34, 0x12}},
                                {"mov al, [bp]", {0x8A, 0x46, 0x00}},
                                {"mov al, [bx]", {0x8A, 0x07}},
                                {"mov al, ds:[bp]", {0x3E, 0x8A, 0x46, 0x00}},
                                {"mov al, cs:[bx]", {0x2E, 0x8A, 0x07}}};
  expect_texts(CodeMode::k16, cases);
  for (const Case& c : cases) {  // and in 32-bit code with 67
    Bytes bytes{0x67};
    std::copy(c.bytes.begin(), c.bytes.end(), std::back_inserter(bytes));
    EXPECT_EQ(text_of(CodeMode::k32, bytes), c.text);
  }
  EXPECT_EQ(text_of(CodeMode::k16, {0x67, 0x8A, 0x44, 0x88, 0x01}), "mov al, [eax+ecx*4+0x1]");
}

TEST(DecoderTest, DefaultSegments) {
  const auto segment = [](CodeMode mode, const Bytes& bytes) {
    return decoded(mode, bytes).segment;
  };
  EXPECT_EQ(segment(CodeMode::k64, {0x8B, 0x04, 0x24}), Segment::kSs);        // rsp
  EXPECT_EQ(segment(CodeMode::k64, {0x8B, 0x45, 0x00}), Segment::kSs);        // rbp
  EXPECT_EQ(segment(CodeMode::k64, {0x41, 0x8B, 0x45, 0x00}), Segment::kDs);  // r13
  EXPECT_EQ(segment(CodeMode::k64, {0x8B, 0x04, 0x28}), Segment::kDs);        // rax+rbp
  EXPECT_EQ(segment(CodeMode::k64, {0x26, 0x8B, 0x00}), Segment::kDs);        // ES does nothing
  EXPECT_EQ(segment(CodeMode::k64, {0x64, 0x26, 0x8B, 0x00}), Segment::kFs);  // nor undoes FS
  EXPECT_EQ(segment(CodeMode::k32, {0x64, 0x26, 0x8B, 0x00}), Segment::kEs);
  EXPECT_EQ(segment(CodeMode::k32, {0x8B, 0x45, 0x00}), Segment::kSs);
  EXPECT_EQ(segment(CodeMode::k32, {0x36, 0xA4}), Segment::kSs);  // a string's source
  EXPECT_EQ(segment(CodeMode::k64, {0xA4}), Segment::kDs);
}

TEST(DecoderTest, OperandSizes) {
  const auto size = [](CodeMode mode, const Bytes& bytes) {
    return decoded(mode, bytes).operand_size;
  };
  EXPECT_EQ(size(CodeMode::k16, {0x89, 0xC3}), 2);
  EXPECT_EQ(size(CodeMode::k16, {0x66, 0x89, 0xC3}), 4);
  EXPECT_EQ(size(CodeMode::k32, {0x89, 0xC3}), 4);
  EXPECT_EQ(size(CodeMode::k32, {0x66, 0x89, 0xC3}), 2);
  EXPECT_EQ(size(CodeMode::k64, {0x89, 0xC3}), 4);
  EXPECT_EQ(size(CodeMode::k64, {0x66, 0x89, 0xC3}), 2);
  EXPECT_EQ(size(CodeMode::k64, {0x66, 0x48, 0x89, 0xC3}), 8);  // REX.W wins
  EXPECT_EQ(size(CodeMode::k64, {0x48, 0x66, 0x89, 0xC3}), 2);  // a REX that is not last is none
  EXPECT_EQ(size(CodeMode::k64, {0x88, 0xC3}), 1);
  EXPECT_EQ(size(CodeMode::k64, {0x53}), 8);
  EXPECT_EQ(size(CodeMode::k64, {0x66, 0x53}), 2);
  EXPECT_EQ(size(CodeMode::k64, {0x9C}), 8);
  EXPECT_EQ(size(CodeMode::k64, {0xC9}), 8);
  EXPECT_EQ(size(CodeMode::k64, {0xC3}), 8);
  EXPECT_EQ(size(CodeMode::k64, {0xCB}), 4);  // far returns do not default to 8
  EXPECT_EQ(size(CodeMode::k64, {0x48, 0xCF}), 8);
  EXPECT_EQ(size(CodeMode::k64, {0x66, 0xE8, 1, 2, 3, 4}), 8);  // 66 on a near branch is ignored
  EXPECT_EQ(size(CodeMode::k32, {0x66, 0xE8, 1, 2}), 2);
  EXPECT_EQ(size(CodeMode::k64, {0x0F, 0x20, 0xC0}), 8);
  EXPECT_EQ(size(CodeMode::k16, {0x0F, 0x20, 0xC0}), 4);
  EXPECT_EQ(size(CodeMode::k64, {0x48, 0xED}), 4);  // no 8-byte ports
  EXPECT_EQ(size(CodeMode::k64, {0xEE}), 1);
}

TEST(DecoderTest, Registers) {
  expect_texts(CodeMode::k64, {{"mov ah, bl", {0x88, 0xDC}},
                               {"mov spl, bl", {0x40, 0x88, 0xDC}},
                               {"mov r12b, r11b", {0x45, 0x88, 0xDC}},
                               {"mov r15, 0x877665544332211",
                                {0x49, 0xBF, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x08}},
                               {"mov dh, -0x1", {0xB6, 0xFF}},
                               {"bswap r9", {0x49, 0x0F, 0xC9}},
                               {"mov fs, ax", {0x8E, 0xE0}},
                               {"mov word [rax], fs", {0x48, 0x8C, 0x20}},
                               {"mov cr8, rax", {0x44, 0x0F, 0x22, 0xC0}},
                               {"mov rax, dr7", {0x0F, 0x21, 0xF8}},
                               {"mov cr3, rbx", {0x0F, 0x22, 0x1B}}});  // mod is not looked at
}

TEST(DecoderTest, ImmediatesAndBranches) {
  expect_texts(CodeMode::k64, {{"add rax, -0x1", {0x48, 0x83, 0xC0, 0xFF}},
                               {"add rax, -0x80000000", {0x48, 0x05, 0x00, 0x00, 0x00, 0x80}},
                               {"push -0x1", {0x6A, 0xFF}},
                               {"shl eax, 0xff", {0xC1, 0xE0, 0xFF}},
                               {"shl eax, 0x1", {0xD1, 0xE0}},
                               {"shl eax, 0x1", {0xD1, 0xF0}},
                               {"sar byte [rax], cl", {0xD2, 0x38}},
                               {"imul eax, ebx, -0x2", {0x6B, 0xC3, 0xFE}},
                               {"enter 0xffff, 0xff", {0xC8, 0xFF, 0xFF, 0xFF}},
                               {"ret 0xfff8", {0xC2, 0xF8, 0xFF}},
                               {"int 0x80", {0xCD, 0x80}},
                               {"in eax, 0xff", {0xE5, 0xFF}},
                               {"out dx, al", {0xEE}},
                               {"jne -0x2", {0x75, 0xFE}},
                               {"jg +0x12345678", {0x0F, 0x8F, 0x78, 0x56, 0x34, 0x12}},
                               {"jmp far tbyte [rax]", {0x48, 0xFF, 0x28}},
                               {"sete byte [rax]", {0x0F, 0x94, 0x00}},
                               {"cmovl r8, r9", {0x4D, 0x0F, 0x4C, 0xC1}}});
  const Insn far = decoded(CodeMode::k32, {0xEA, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66});
  EXPECT_EQ(far.op, Op::kJmpFar);
  EXPECT_EQ(far.operand[0].kind, OperandKind::kFar);
  EXPECT_EQ(far.imm, 0x44332211);
  EXPECT_EQ(far.imm2, 0x6655);
  EXPECT_EQ(decoded(CodeMode::k16, {0x9A, 0x11, 0x22, 0x33, 0x44}).imm2, 0x4433);
}

TEST(DecoderTest, AllFields) {
  const Insn insn = decoded64({0x65, 0xF0, 0x4E, 0x0F, 0xB1, 0x9C, 0x6B, 0x00, 0xFF, 0xFF, 0xFF});
  EXPECT_EQ(insn.op, Op::kCmpxchg);
  EXPECT_EQ(insn.operand_size, 8);
  EXPECT_EQ(insn.address_size, 8);
  EXPECT_EQ(insn.operand_count, 2);
  EXPECT_TRUE(insn.lock);
  EXPECT_EQ(insn.repeat, Repeat::kNone);
  EXPECT_EQ(insn.operand[0].kind, OperandKind::kMem);
  EXPECT_EQ(insn.operand[0].size, 8);
  EXPECT_EQ(insn.operand[1].kind, OperandKind::kGpr);
  EXPECT_EQ(insn.operand[1].reg, 11);
  EXPECT_EQ(insn.operand[1].size, 8);
  EXPECT_EQ(insn.segment, Segment::kGs);
  EXPECT_EQ(insn.base, 3);
  EXPECT_EQ(insn.index, 13);
  EXPECT_EQ(insn.scale, 1);
  EXPECT_EQ(insn.displacement, -256);
}

TEST(DecoderTest, Prefixes) {
  expect_texts(CodeMode::k64, {{"nop", {0x90}},
                               {"nop", {0x48, 0x90}},
                               {"xchg r8d, eax", {0x41, 0x90}},
                               {"pause", {0xF3, 0x90}},
                               {"pause", {0xF3, 0x41, 0x90}},  // REX.B does not make it XCHG
                               {"nop", {0xF2, 0x90}},
                               {"rep movsq", {0xF3, 0x48, 0xA5}},
                               {"rep stosb", {0xF2, 0xAA}},
                               {"repne scasb", {0xF2, 0xAE}},
                               {"rep cmpsb", {0xF3, 0xA6}},
                               {"repne cmpsb", {0xF3, 0xF2, 0xA6}},
                               {"ret", {0xF3, 0xC3}},
                               {"popcnt ax, bx", {0x66, 0xF3, 0x0F, 0xB8, 0xC3}},
                               {"lzcnt eax, ebx", {0xF3, 0x0F, 0xBD, 0xC3}},
                               {"bsr eax, ebx", {0x0F, 0xBD, 0xC3}},
                               {"bsf eax, ebx", {0xF3, 0x0F, 0xBC, 0xC3}},
                               {"endbr64", {0xF3, 0x0F, 0x1E, 0xFA}},
                               {"nop ebx", {0xF3, 0x0F, 0x1E, 0xFB}},
                               {"crc32 eax, bx", {0x66, 0xF2, 0x0F, 0x38, 0xF1, 0xC3}},
                               {"movbe ax, [rbx]", {0x66, 0x0F, 0x38, 0xF0, 0x03}},
                               {"wbinvd", {0xF3, 0x0F, 0x09}},
                               {"undefined", {0x0F, 0xB8, 0xC3}}});
}

TEST(DecoderTest, Lock) {
  expect_texts(CodeMode::k64, {{"lock xadd [rbx], eax", {0xF0, 0x0F, 0xC1, 0x03}},
                               {"lock cmpxchg16b xmmword [rbx]", {0xF0, 0x48, 0x0F, 0xC7, 0x0B}},
                               {"lock bts dword [rbx], 0x3", {0xF0, 0x0F, 0xBA, 0x2B, 0x03}},
                               {"lock xchg [rbx], eax", {0xF0, 0x87, 0x03}},
                               {"undefined", {0xF0, 0x01, 0xC3}},        // a register
                               {"undefined", {0xF0, 0x03, 0x03}},        // memory is the source
                               {"undefined", {0xF0, 0x39, 0x03}},        // CMP
                               {"undefined", {0xF0, 0x0F, 0xA3, 0x03}},  // BT
                               {"undefined", {0xF0, 0x89, 0x03}},        // MOV
                               {"undefined", {0xF0, 0x90}},
                               {"undefined", {0xF0, 0xA4}}});
}

TEST(DecoderTest, UndefinedInAllModes) {
  for (const CodeMode mode : {CodeMode::k16, CodeMode::k32, CodeMode::k64}) {
    expect_texts(mode, {{"undefined", {0x8D, 0xC0}},              // LEA of a register
                        {"undefined", {0x0F, 0x01, 0xD8}},        // VMRUN
                        {"undefined", {0x8E, 0xC8}},              // to CS
                        {"undefined", {0x8E, 0xF0}},              // no such segment
                        {"undefined", {0x0F, 0x22, 0xC8}},        // CR1
                        {"undefined", {0xFE, 0xD0}},              // FE /2
                        {"undefined", {0xFF, 0xF8}},              // FF /7
                        {"undefined", {0xFF, 0xD8}},              // far call of a register
                        {"undefined", {0xC7, 0xC8}},              // C7 /1
                        {"undefined", {0x8F, 0xC8}},              // XOP
                        {"undefined", {0xC5, 0xF8, 0x77}},        // VZEROUPPER
                        {"undefined", {0xC4, 0xE2, 0x79}},        // VEX
                        {"undefined", {0x62, 0xF1, 0x7C}},        // EVEX
                        {"undefined", {0xF3, 0x0F, 0x28, 0xC0}},  // no such prefix
                        {"undefined", {0x0F, 0x04}},
                        {"undefined", {0x0F, 0xAE, 0x20}},  // XSAVE
                        {"undefined", {0x0F, 0xC7, 0xC8}},  // CMPXCHG8B of a register
                        {"undefined", {0x0F, 0x2B, 0xC0}},  // MOVNTPS to a register
                        {"undefined", {0x0F, 0x50, 0x00}},  // MOVMSKPS from memory
                        {"undefined", {0xD9, 0xD1}},
                        {"undefined", {0xDB, 0xE5}},
                        {"ud2", {0x0F, 0x0B}}});
  }
}

TEST(DecoderTest, OpcodesOfSomeModes) {
  const std::vector<Case> only_legacy{{"push es", {0x06}},
                                      {"pop ss", {0x17}},
                                      {"daa", {0x27}},
                                      {"aaa", {0x37}},
                                      {"into", {0xCE}},
                                      {"aam 0xa", {0xD4, 0x0A}},
                                      {"salc", {0xD6}},
                                      {"inc eax", {0x40}},
                                      {"dec edi", {0x4F}},
                                      {"pushad", {0x60}},
                                      {"popad", {0x61}},
                                      {"bound eax, qword [eax]", {0x62, 0x00}},
                                      {"arpl [eax], ax", {0x63, 0x00}},
                                      {"les eax, [eax]", {0xC4, 0x00}},
                                      {"lds eax, [eax]", {0xC5, 0x00}},
                                      {"add byte [eax], 0x1", {0x82, 0x00, 0x01}}};
  expect_texts(CodeMode::k32, only_legacy);
  for (const Case& c : only_legacy) {
    Insn insn;
    const auto result = decode(c.bytes, CodeMode::k64, insn);
    const bool is_rex = (c.bytes[0] & 0xF0) == 0x40;
    if (c.bytes[0] == 0x63) continue;  // MOVSXD
    EXPECT_EQ(result, is_rex ? DecodeResult::kTruncated : DecodeResult::kUndefined) << c.text;
  }
  expect_texts(CodeMode::k64, {{"movsxd rax, ecx", {0x48, 0x63, 0xC1}},
                               {"swapgs", {0x0F, 0x01, 0xF8}},
                               {"rdfsbase rax", {0xF3, 0x48, 0x0F, 0xAE, 0xC0}}});
  expect_texts(CodeMode::k32,
               {{"undefined", {0x0F, 0x01, 0xF8}}, {"undefined", {0xF3, 0x0F, 0xAE, 0xC0}}});
}

TEST(DecoderTest, VectorRegistersAndMemory) {
  expect_texts(CodeMode::k64,
               {{"paddb mm1, mm2", {0x0F, 0xFC, 0xCA}},
                {"paddb mm1, mm2", {0x45, 0x0F, 0xFC, 0xCA}},  // REX names no MMX register
                {"paddb xmm9, xmm10", {0x66, 0x45, 0x0F, 0xFC, 0xCA}},
                {"punpcklbw mm1, dword [rax]", {0x0F, 0x60, 0x08}},
                {"punpcklbw xmm1, [rax]", {0x66, 0x0F, 0x60, 0x08}},
                {"movss xmm0, dword [rax]", {0xF3, 0x0F, 0x10, 0x00}},
                {"movsd xmm0, qword [rax]", {0xF2, 0x0F, 0x10, 0x00}},
                {"movsd qword [rax], xmm0", {0x66, 0xF2, 0x0F, 0x11, 0x00}},
                {"movhlps xmm0, xmm1", {0x0F, 0x12, 0xC1}},
                {"movlps xmm0, qword [rcx]", {0x0F, 0x12, 0x01}},
                {"movd xmm0, rcx", {0x66, 0x48, 0x0F, 0x6E, 0xC1}},
                {"movd ecx, mm0", {0x0F, 0x7E, 0xC1}},
                {"movq xmm0, qword [rcx]", {0xF3, 0x0F, 0x7E, 0x01}},
                {"pshufw mm0, mm1, 0x1b", {0x0F, 0x70, 0xC1, 0x1B}},
                {"psrldq xmm1, 0x8", {0x66, 0x0F, 0x73, 0xD9, 0x08}},
                {"undefined", {0x0F, 0x73, 0xD9, 0x08}},
                {"cvttsd2si rax, xmm1", {0xF2, 0x48, 0x0F, 0x2C, 0xC1}},
                {"pinsrw xmm0, word [rax], 0x7", {0x66, 0x0F, 0xC4, 0x00, 0x07}},
                {"pextrd rax, xmm0, 0x1", {0x66, 0x48, 0x0F, 0x3A, 0x16, 0xC0, 0x01}},
                {"palignr mm0, mm1, 0x3", {0x0F, 0x3A, 0x0F, 0xC1, 0x03}},
                {"aesenc xmm0, xmm1", {0x66, 0x0F, 0x38, 0xDC, 0xC1}},
                {"sha256rnds2 xmm0, xmm1", {0x0F, 0x38, 0xCB, 0xC1}},
                {"pclmulqdq xmm0, xmm1, 0x11", {0x66, 0x0F, 0x3A, 0x44, 0xC1, 0x11}}});
}

TEST(DecoderTest, X87) {
  expect_texts(CodeMode::k64, {{"fld tbyte [rax]", {0xDB, 0x28}},
                               {"fadd st0, dword [rax]", {0xD8, 0x00}},
                               {"fadd st3, st0", {0xDC, 0xC3}},
                               {"fsubr st3, st0", {0xDC, 0xE3}},
                               {"fsub st3, st0", {0xDC, 0xEB}},
                               {"fsubp st1, st0", {0xDE, 0xE9}},
                               {"fcompp", {0xDE, 0xD9}},
                               {"undefined", {0xDE, 0xDA}},
                               {"fnstsw ax", {0xDF, 0xE0}},
                               {"fild qword [rax]", {0xDF, 0x28}},
                               {"fbstp tbyte [rax]", {0xDF, 0x30}},
                               {"fcmovnbe st0, st1", {0xDB, 0xD1}},
                               {"fucomip st0, st7", {0xDF, 0xEF}},
                               {"fld1", {0xD9, 0xE8}}});
  EXPECT_EQ(decoded64({0xD9, 0x30}).operand[0].size, 28);
  EXPECT_EQ(decoded64({0x66, 0xD9, 0x30}).operand[0].size, 14);
  EXPECT_EQ(decoded64({0xDD, 0x30}).operand[0].size, 108);
  EXPECT_EQ(decoded(CodeMode::k16, {0xDD, 0x20}).operand[0].size, 94);
}

TEST(DecoderTest, SizesOfSystemMemory) {
  EXPECT_EQ(decoded64({0x0F, 0x01, 0x10}).operand[0].size, 10);
  EXPECT_EQ(decoded(CodeMode::k32, {0x0F, 0x01, 0x10}).operand[0].size, 6);
  EXPECT_EQ(decoded64({0x0F, 0x01, 0x38}).operand[0].size, 0);  // INVLPG
  EXPECT_EQ(decoded64({0x0F, 0x00, 0x18}).operand[0].size, 2);  // LTR
  EXPECT_EQ(decoded64({0x48, 0x0F, 0xB2, 0x00}).operand[1].size, 10);
  EXPECT_EQ(decoded64({0x66, 0x63, 0x00}).operand[1].size, 2);  // MOVSXD r16
}

Bytes after_prefixes(std::size_t count, const Bytes& rest) {
  Bytes bytes(count + rest.size(), 0x66);
  std::copy(rest.begin(), rest.end(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
  return bytes;
}

TEST(DecoderTest, LengthLimit) {
  expect_texts(CodeMode::k64,
               {{"nop", after_prefixes(14, {0x90})},
                {"too long", after_prefixes(15, {0x90})},
                {"mov ax, 0x201", after_prefixes(12, {0xB8, 0x01, 0x02})},
                {"too long", after_prefixes(13, {0xB8, 0x01, 0x02})},  // by its immediate
                {"too long", after_prefixes(14, {0x81, 0x00})},        // by its ModRM
                {"truncated", after_prefixes(13, {0xB8})},
                {"truncated", {}}});
}

// A page that ends where memory does: reading behind the given bytes is a crash.
class GuardedBytes {
 public:
  GuardedBytes() : size_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))) {
    void* pages =
        ::mmap(nullptr, 2 * size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return;
    start_ = static_cast<std::uint8_t*>(pages);
    EXPECT_EQ(::mprotect(start_ + size_, size_, PROT_NONE), 0);
  }
  ~GuardedBytes() {
    if (start_ != nullptr) ::munmap(start_, 2 * size_);
  }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  GuardedBytes(GuardedBytes&&) = delete;
  GuardedBytes& operator=(GuardedBytes&&) = delete;

  bool ok() const { return start_ != nullptr; }
  std::span<const std::uint8_t> put(std::span<const std::uint8_t> bytes) {
    std::uint8_t* const to = start_ + size_ - bytes.size();
    std::memcpy(to, bytes.data(), bytes.size());
    return {to, bytes.size()};
  }

 private:
  std::size_t size_;
  std::uint8_t* start_ = nullptr;
};

// Every shorter span of an instruction is truncated, the exact one and every longer one are not.
TEST(DecoderTest, ShorterSpansAreTruncated) {
  GuardedBytes guarded;
  ASSERT_TRUE(guarded.ok());
  RandomInsn random(1);
  for (int i = 0; i < 100'000; ++i) {
    const auto bytes = random.next();
    const auto mode = static_cast<CodeMode>(i % 3);
    Insn whole;
    const DecodeResult result = decode(bytes, mode, whole);
    ASSERT_NE(result, DecodeResult::kTruncated);
    if (result != DecodeResult::kOk) continue;
    ASSERT_LE(whole.length, kMaxInsnLength);
    for (std::size_t size = 0; size <= whole.length; ++size) {
      Insn insn;
      const auto shorter = decode(guarded.put(bytes.first(size)), mode, insn);
      ASSERT_EQ(shorter, size < whole.length ? DecodeResult::kTruncated : DecodeResult::kOk)
          << disassemble(whole);
      ASSERT_EQ(insn.length, size < whole.length ? 0 : whole.length);
    }
  }
}

// The short way needs more bytes than the instruction has; without them the general one decodes.
TEST(DecoderTest, BothWaysSayTheSame) {
  RandomInsn random(2);
  std::array<std::uint8_t, kPlainBytes> bytes;
  std::size_t plain = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    bytes.fill(0xCC);
    const auto made = random.next();
    std::copy_n(made.begin(), std::min(made.size(), bytes.size()), bytes.begin());
    Insn by_short, by_general;
    if (!decode_plain(bytes.data(), by_short)) continue;
    ++plain;
    ASSERT_EQ(decode(std::span(bytes).first(kMaxInsnLength), CodeMode::k64, by_general),
              DecodeResult::kOk)
        << disassemble(by_short);
    ASSERT_EQ(by_short, by_general);
  }
  EXPECT_GT(plain, 100'000u);
}

// All opcodes with all ModRM bytes, behind prefixes that the short way knows.
TEST(DecoderTest, BothWaysSayTheSameOfEveryOpcode) {
  std::array<std::uint8_t, kPlainBytes> bytes;
  static constexpr std::array<std::uint8_t, 6> kRex{0, 0x40, 0x41, 0x46, 0x48, 0x4F};
  Insn by_short, by_general;
  std::array<unsigned, 6> plain{};  // of each opcode map with each prefix of a segment
  for (unsigned i = 0; i < 3u * kRex.size() * 2 * 256 * 256; ++i) {
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      bytes[at] = static_cast<std::uint8_t>(0x91 + 0x25 * at);
    }
    unsigned rest = i;
    const auto take = [&rest](unsigned choices) {
      const unsigned taken = rest % choices;
      rest /= choices;
      return static_cast<std::uint8_t>(taken);
    };
    std::size_t at = 0;
    const std::uint8_t modrm = take(256), opcode = take(256);
    const bool two_bytes = take(2) != 0;
    const std::uint8_t rex = kRex[take(kRex.size())], segment = take(3);
    if (segment != 0) bytes[at++] = static_cast<std::uint8_t>(0x63 + segment);
    if (rex != 0) bytes[at++] = rex;
    if (two_bytes) bytes[at++] = 0x0F;
    bytes[at++] = opcode;
    bytes[at++] = modrm;
    if (!decode_plain(bytes.data(), by_short)) continue;
    ++plain.at((two_bytes ? 3u : 0u) + segment);
    ASSERT_EQ(decode(std::span(bytes).first(kMaxInsnLength), CodeMode::k64, by_general),
              DecodeResult::kOk)
        << disassemble(by_short);
    ASSERT_EQ(by_short, by_general);
  }
  for (const unsigned count : plain) EXPECT_GT(count, 100'000u);
}

}  // namespace
}  // namespace sm::soft
