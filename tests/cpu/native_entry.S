// Entry to and exit from one fuzzed instruction. All state goes through sm_native_frame, addressed
// relative to rip, so that no register or flag is needed for it.

#define IN_GPR(i) sm_native_frame + 8 * i(%rip)
#define IN_FLAGS sm_native_frame + 128(%rip)
#define TARGET sm_native_frame + 136(%rip)
#define OUT_GPR(i) sm_native_frame + 144 + 8 * i(%rip)
#define OUT_FLAGS sm_native_frame + 272(%rip)
#define HOST_RSP sm_native_frame + 280(%rip)
#define IN_FX sm_native_frame + 384(%rip)
#define OUT_FX sm_native_frame + 896(%rip)

  .text
  .globl sm_native_enter, sm_native_exit, sm_native_resume
  .type sm_native_enter, @function
sm_native_enter:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, HOST_RSP
  fxrstor64 IN_FX
  pushq IN_FLAGS
  popfq
  mov IN_GPR(0), %rax
  mov IN_GPR(1), %rcx
  mov IN_GPR(2), %rdx
  mov IN_GPR(3), %rbx
  mov IN_GPR(5), %rbp
  mov IN_GPR(6), %rsi
  mov IN_GPR(7), %rdi
  mov IN_GPR(8), %r8
  mov IN_GPR(9), %r9
  mov IN_GPR(10), %r10
  mov IN_GPR(11), %r11
  mov IN_GPR(12), %r12
  mov IN_GPR(13), %r13
  mov IN_GPR(14), %r14
  mov IN_GPR(15), %r15
  mov IN_GPR(4), %rsp
  jmp *TARGET

sm_native_exit:
  mov %rax, OUT_GPR(0)
  mov %rcx, OUT_GPR(1)
  mov %rdx, OUT_GPR(2)
  mov %rbx, OUT_GPR(3)
  mov %rsp, OUT_GPR(4)
  mov %rbp, OUT_GPR(5)
  mov %rsi, OUT_GPR(6)
  mov %rdi, OUT_GPR(7)
  mov %r8, OUT_GPR(8)
  mov %r9, OUT_GPR(9)
  mov %r10, OUT_GPR(10)
  mov %r11, OUT_GPR(11)
  mov %r12, OUT_GPR(12)
  mov %r13, OUT_GPR(13)
  mov %r14, OUT_GPR(14)
  mov %r15, OUT_GPR(15)
  mov HOST_RSP, %rsp
  pushfq
  popq OUT_FLAGS
  fxsave64 OUT_FX
// The stack pointer is the host's, nothing else is.
sm_native_resume:
  push $0x202
  popfq
  fninit
  push $0x1F80
  ldmxcsr (%rsp)
  pop %rax
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
  .size sm_native_enter, . - sm_native_enter
  .section .note.GNU-stack, "", @progbits
