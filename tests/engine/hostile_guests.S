// Kernels that mean harm, see micro_guests.h; in the form of micro_guests.S. Their gates use the stack
// that they have.

.macro GUEST name
    .globl guest_\name\()_begin, guest_\name\()_end
    .balign 16
guest_\name\()_begin:
.endm
.macro END name
guest_\name\()_end:
.endm
.macro DONE
    out %al, $0x99
9:  jmp 9b
.endm
// The IDT's entry `vector` leads to `label`. Destroys rax and rdi.
.macro GATE vector, label
    lea \label(%rip), %rax
    mov $0x2000 + 16 * \vector, %edi
    mov %ax, (%rdi)
    movw $0x10, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    shr $16, %rax
    mov %ax, 6(%rdi)
    movl $0, 8(%rdi)
    movl $0, 12(%rdi)
.endm

    .section .rodata
    .code64

// Does what rbx says to the address rcx: 0 reads, 1 writes, 2 executes. A fault reports CR2 in rdx.
GUEST touch
    GATE 14, 5f
    GATE 13, 5f
    GATE 6, 5f
    xor %edx, %edx
    cmp $1, %ebx
    je 1f
    ja 2f
    mov (%rcx), %rax
    jmp 6f
1:  mov %rax, (%rcx)
    jmp 6f
2:  jmp *%rcx
5:  mov %cr2, %rdx
6:  DONE
END touch

// Reads and writes the ebp registers from ebx on, with values made of r12. Where it is stands at
// 0x30000.
GUEST msr_storm
    GATE 13, 5f
    GATE 6, 5f
1:  mov %ebx, 0x30000
    mov %ebx, %ecx
    rdmsr
    imul $1103515245, %r12, %r12
    add $12345, %r12
    mov %r12, %rax
    mov %r12, %rdx
    shr $32, %rdx
    test $1, %ebx
    jz 2f
    movzbl %ah, %edx               // small values are taken more often
    movzbl %al, %eax
2:  mov %ebx, %ecx
    wrmsr
    inc %ebx
    dec %ebp
    jnz 1b
    DONE
5:  add $8, %rsp                   // the error code
    addq $2, (%rsp)                // both instructions have two bytes
    iretq
END msr_storm

// Jumps to rcx.
GUEST jump
    GATE 6, 5f
    GATE 13, 5f
    GATE 14, 5f
    jmp *%rcx
5:  DONE
END jump

// Every exception's handler is an invalid instruction on the stack of the first entry of the task.
GUEST endless_faults
    GATE 6, 5f
    mov $0x2060, %edi
    movb $1, 4(%rdi)               // stack 1 of the task
5:  ud2
END endless_faults

// Loads the table registers from 0x30000 (IDT) and 0x30010 (GDT), the task register from the latter, the
// stack pointer from rcx, then faults.
GUEST tables
    lgdt 0x30010
    lidt 0x30000
    test %ebx, %ebx
    jz 1f
    mov $0x20, %eax
    ltr %ax
1:  mov %rcx, %rsp
    int3
    push %rax
    pop %rax
    ud2
END tables

// All that uses a stack, with the one in rcx.
GUEST stack_on
    mov %rcx, %rsp
    push %rax
    pop %rbx
    call 1f
1:  pop %rax
    pushfq
    popfq
    enter $16, $3
    leave
    push %fs
    pop %fs
    lea 2f(%rip), %rax
    push %rax
    ret
2:  mov %ss, %eax
    push %rax
    push %rcx
    pushfq
    mov %cs, %eax
    push %rax
    lea 3f(%rip), %rax
    push %rax
    iretq
3:  fxsave -0x400(%rcx)
    fxrstor -0x400(%rcx)
    lock incq -0x800(%rcx)
    cmpxchg16b -0x800(%rcx)
    DONE
END stack_on

// The string instruction in r8b with the registers as they are.
GUEST strings
    GATE 14, 5f
    GATE 13, 5f
    mov %r9, %rdi
    mov %r10, %rax
    cmp $1, %r8d
    jb 1f
    je 2f
    cmp $3, %r8d
    jb 3f
    je 4f
    cmp $5, %r8d
    jb 6f
    je 7f
    std
    rep movsq
    DONE
1:  rep stosb
    DONE
2:  rep movsb
    DONE
3:  rep insw
    DONE
4:  rep outsl
    DONE
6:  repe scasq
    DONE
7:  repe cmpsw
    DONE
5:  DONE
END strings

// Asks its local APIC for all that it can send, at full speed; rbx is the low half of ICR's first value.
GUEST storm
    GATE 2, 5f
    GATE 0x40, 6f
    mov $0xfee00000, %esi
    movl $0x1ff, 0xf0(%rsi)
    movl $0xb, 0x3e0(%rsi)         // the timer divides by 1
    movl $0x20040, 0x320(%rsi)     // periodic
    movl $1, 0x380(%rsi)
    sti
1:  movl $0x01000000, 0x310(%rsi)
    mov %ebx, 0x300(%rsi)
    add $0x40000, %ebx             // goes through the short-hands of destinations
    and $0xfffff, %ebx
    incq 0x30000
    jmp 1b
5:  iretq
6:  movl $0, 0xb0(%rsi)
    iretq
END storm

// Counts at 0x30040, at full speed, with interrupts.
GUEST victim
    GATE 2, 5f
    GATE 0x40, 6f
    mov $0xfee00000, %esi
    movl $0x1ff, 0xf0(%rsi)
    sti
1:  incq 0x30040
    jmp 1b
5:  iretq
6:  movl $0, 0xb0(%rsi)
    iretq
END victim

// INIT and SIPI to everybody else, for ever.
GUEST startup_storm
    mov $0xfee00000, %esi
    movl $0x1ff, 0xf0(%rsi)
1:  movl $0x000c4500, 0x300(%rsi)
    movl $0x000c4608, 0x300(%rsi)
    incq 0x30000
    jmp 1b
END startup_storm

// vCPU 0 (rbx) calls "mov $imm, %eax; ret" at 0x40000 ebp times; two others write immediates of four equal
// bytes there all the time. At 0x30080: how often the bytes differed. At 0x30000: how many take part.
GUEST code_storm
    mov $0x40000, %edi
    test %ebx, %ebx
    jnz 4f
    movb $0xb8, 3(%rdi)            // the immediate is aligned
    movb $0xc3, 8(%rdi)
    movl $0, 4(%rdi)
    movl $1, 0x30000
1:  cmpl $3, 0x30000
    jb 1b
2:  lea 3(%rdi), %rax
    call *%rax
    movzbl %al, %ecx
    imul $0x01010101, %ecx, %ecx
    cmp %eax, %ecx
    je 3f
    incl 0x30080
3:  dec %ebp
    jnz 2b
    movl $0, 0x30000
    DONE
4:  cmpl $0, 0x30000
    je 4b
    lock incl 0x30000
5:  inc %edx
    movzbl %dl, %eax
    imul $0x01010101, %eax, %eax
    mov %eax, 4(%rdi)
    cmpl $0, 0x30000
    jne 5b
    DONE
END code_storm

// Adds up ebp times in every locked way; the counters are 64 bytes apart from 0x30000 on. rbx is the number
// of the vCPU.
GUEST contention
    mov $0x30000, %esi
1:  lock incq (%rsi)
    mov $1, %eax
    lock xadd %rax, 0x40(%rsi)
    mov 0x80(%rsi), %rax
2:  lea 1(%rax), %rcx
    lock cmpxchg %rcx, 0x80(%rsi)
    jne 2b
    mov 0xc0(%rsi), %rax           // both halves are one number
    mov 0xc8(%rsi), %rdx
3:  lea 1(%rax), %rbx
    mov %rbx, %rcx
    lock cmpxchg16b 0xc0(%rsi)
    jne 3b
4:  lock btsl $5, 0x100(%rsi)      // a lock of one bit
    jc 6f
    incq 0x140(%rsi)
    lock btrl $5, 0x100(%rsi)
    mov $1, %ecx
5:  xchg %ecx, 0x180(%rsi)         // and one of a byte's exchange
    test %ecx, %ecx
    jnz 7f
    incq 0x1c0(%rsi)
    movl $0, 0x180(%rsi)
    lock decl 0x200(%rsi)
    lock notq 0x240(%rsi)
    lock xorq $1, 0x280(%rsi)
    dec %ebp
    jnz 1b
    DONE
6:  pause
    jmp 4b
7:  pause
    jmp 5b
END contention

    .section .note.GNU-stack, "", @progbits
