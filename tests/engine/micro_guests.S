// Guests of a few instructions each, see micro_guests.h. They start in 64-bit mode at ring 0 with
// memory mapped one to one, a stack, and interrupts off. Port 0x99 means "done". They avoid what a KVM
// that emulates ring 0 cannot do, unless the test says that it needs more.

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

    .section .rodata
    .code64

GUEST pio_out
    mov $0x11, %al
    out %al, $0x10
    mov $0x2233, %ax
    out %ax, $0x12
    mov $0x44556677, %eax
    mov $0x5350, %dx
    out %eax, %dx
    DONE
END pio_out

GUEST pio_in
    mov $-1, %rax
    in $0x10, %al
    mov %rax, %rbx
    mov $-1, %rax
    in $0x12, %ax
    mov %rax, %rcx
    mov $0x5350, %dx
    in %dx, %eax
    mov %rax, %rsi
    DONE
END pio_in

// rep outs of 5 bytes, 3 words and 3 double words from 0x30000
GUEST pio_string_out
    cld
    mov $0x3f8, %dx
    mov $0x30000, %esi
    mov $5, %ecx
    rep outsb
    mov $3, %ecx
    rep outsw
    mov $3, %ecx
    rep outsl
    DONE
END pio_string_out

GUEST pio_string_in
    cld
    mov $0x3f8, %dx
    mov $0x30000, %edi
    mov $5, %ecx
    rep insb
    mov $2, %ecx
    rep insl
    DONE
END pio_string_in

GUEST mmio_write
    mov $0xd0000000, %ebx
    mov $0x8877665544332211, %rax
    mov %al, (%rbx)
    mov %ax, 0x10(%rbx)
    mov %eax, 0x20(%rbx)
    mov %rax, 0x30(%rbx)
    DONE
END mmio_write

GUEST mmio_read
    mov $0xd0000000, %ebx
    mov $-1, %rax
    mov (%rbx), %al
    mov %rax, %rcx
    mov $-1, %rax
    mov 0x10(%rbx), %ax
    mov %rax, %rsi
    mov 0x20(%rbx), %eax
    mov %rax, %rdi
    mov 0x30(%rbx), %rax
    mov %rax, %r8
    DONE
END mmio_read

// Enables the local APIC, routes IOAPIC pin rbx to vector 0x40 (edge, fixed, to APIC 0), reports
// ready on port 0x10 and sleeps. The handler reports on port 0x11 and ends the interrupt.
GUEST interrupt
    lea 2f(%rip), %rax
    mov $0x2400, %edi              // the IDT's entry 0x40 at 0x2000
    mov %ax, (%rdi)
    movw $0x10, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    shr $16, %rax
    mov %ax, 6(%rdi)
    movl $0, 8(%rdi)
    movl $0, 12(%rdi)
    mov $0xfee00000, %esi
    movl $0x1ff, 0xf0(%rsi)        // spurious vector, APIC on
    movl $0, 0x80(%rsi)            // task priority
    mov $0xfec00000, %edi
    lea 0x10(%rbx,%rbx), %eax
    inc %eax
    mov %eax, (%rdi)
    movl $0, 0x10(%rdi)            // destination APIC 0
    dec %eax
    mov %eax, (%rdi)
    movl $0x40, 0x10(%rdi)
    out %al, $0x10
    sti
1:  hlt
    jmp 1b
2:  out %al, $0x11
    movl $0, 0xb0(%rsi)            // end of interrupt
    iretq
END interrupt

// 32-bit stores of 3, 4 and 3 and a 16-bit store of 3 to one register
GUEST notify
    mov $0xd0000050, %ebx
    movl $3, (%rbx)
    movl $4, (%rbx)
    movl $3, (%rbx)
    movw $3, (%rbx)
    DONE
END notify

GUEST spin
1:  jmp 1b
END spin

// Counts in memory at 0x30000 for ever.
GUEST count
    mov $0x30000, %edi
1:  incq (%rdi)
    jmp 1b
END count

GUEST triple_fault
    pushq $0
    pushq $0
    lidt (%rsp)
    ud2
END triple_fault

// Adds 1 to each general register but rsp and reports.
GUEST registers
1:  inc %rax
    inc %rcx
    inc %rdx
    inc %rbx
    inc %rbp
    inc %rsi
    inc %rdi
    inc %r8
    inc %r9
    inc %r10
    inc %r11
    inc %r12
    inc %r13
    inc %r14
    inc %r15
    out %al, $0x99
    jmp 1b
END registers

// For each of rbp (leaf, sub-leaf) pairs at 0x30000: CPUID into 16 bytes at 0x31000.
GUEST cpuid
    mov $0x30000, %esi
    mov $0x31000, %edi
1:  mov (%rsi), %eax
    mov 4(%rsi), %ecx
    cpuid
    mov %eax, (%rdi)
    mov %ebx, 4(%rdi)
    mov %ecx, 8(%rdi)
    mov %edx, 12(%rdi)
    add $8, %rsi
    add $16, %rdi
    dec %rbp
    jnz 1b
    DONE
END cpuid

// Copies 8 bytes from 4 GiB + 0x1000 to 4 GiB + 0x2000.
GUEST high_memory
    mov $0x100000000, %rbx
    mov 0x1000(%rbx), %rax
    mov %rax, 0x2000(%rbx)
    DONE
END high_memory

// Sends INIT and two SIPIs for page 0x8 to APIC 1 and waits for its mark at 0x30000.
GUEST start_ap
    mov $0xfee00000, %esi
    movl $0x1ff, 0xf0(%rsi)
    movl $0x01000000, 0x310(%rsi)
    movl $0x00004500, 0x300(%rsi)
    movl $0x01000000, 0x310(%rsi)
    movl $0x00004608, 0x300(%rsi)
    movl $0x01000000, 0x310(%rsi)
    movl $0x00004608, 0x300(%rsi)
1:  cmpl $0x5a, 0x30000
    jne 1b
    DONE
END start_ap

GUEST halt
    hlt
    DONE
END halt

GUEST out_then_spin
    mov $0x7, %eax
    out %eax, $0x50
    mov $0x1234, %ebx
    out %al, $0x51
1:  jmp 1b
END out_then_spin

// Leaves marks in x87, SSE and a debug register, then reports.
GUEST fpu
    fninit
    fld1
    fldpi
    movq %rax, %xmm0
    movq %rbx, %xmm15
    mov %rcx, %dr0
    DONE
END fpu

// Two vCPUs (rbx 0 and 1). For ebp rounds the first changes the operand of "mov $round, %eax; ret" at
// 0x40000 and then says so at 0x30000; the second waits for that, serializes, calls the function and
// answers at 0x30040. Both count wrong results, at 0x30080 and 0x300c0.
GUEST cross_modify
    mov $0x40000, %edi
    mov $0x30000, %esi
    mov $1, %r8d
    test %ebx, %ebx
    jnz 4f
    movb $0xb8, (%rdi)
    movb $0xc3, 5(%rdi)
1:  mov %r8d, 1(%rdi)
    mov %r8d, (%rsi)
2:  pause
    cmp 0x40(%rsi), %r8d
    jne 2b
    call *%rdi
    cmp %eax, %r8d
    je 3f
    incl 0x80(%rsi)
3:  inc %r8d
    cmp %ebp, %r8d
    jbe 1b
    DONE
4:  pause
    cmp (%rsi), %r8d
    jne 4b
    xor %eax, %eax
    cpuid
    call *%rdi
    cmp %eax, %r8d
    je 5f
    incl 0xc0(%rsi)
5:  mov %r8d, 0x40(%rsi)
    inc %r8d
    cmp %ebp, %r8d
    jbe 4b
    DONE
END cross_modify

// Adds 1 to four counters ebp times: at 0x30100, over a cache line's end at 0x3003c, over a page's end
// at 0x31ffc, and in the page of this code at rip & ~0xfff + 0xf00. The last by XADD.
GUEST locked_add
    lea 0(%rip), %rdi
    and $~0xfff, %rdi
    mov $0x30000, %esi
1:  lock incq 0x100(%rsi)
    lock addq $1, 0x3c(%rsi)
    lock addq $1, 0x1ffc(%rsi)
    mov $1, %eax
    lock xadd %rax, 0xf00(%rdi)
    dec %ebp
    jnz 1b
    DONE
END locked_add

// What kernels do, in small: a periodic timer (vector 0x40), memory that is mapped when it is touched,
// time-stamps, copies, a checksum over everything, HLT. Ends after 200 ticks, with the sum in r8.
GUEST tiny_kernel
    lea 5f(%rip), %rax
    mov $0x2400, %edi
    call 8f
    lea 6f(%rip), %rax
    mov $0x20e0, %edi
    call 8f
    mov $0x3000, %edi              // the second 512 GiB: a table of ours without pages
    movq $0x50003, 8(%rdi)
    mov $0x50000, %edi
    movq $0x51003, (%rdi)
    movq $0x52003, 0x1000(%rdi)
    mov $0x60000, %r15d            // the next free page
    mov $0x8000000000, %r14        // the next address to touch
    mov $0xfee00000, %esi
    movl $0x1ff, 0xf0(%rsi)
    movl $0xb, 0x3e0(%rsi)
    movl $0x20040, 0x320(%rsi)
    movl $7000, 0x380(%rsi)        // 7 microseconds
    xor %r8d, %r8d
    xor %r13d, %r13d
    sti
1:  incq (%r14)                    // may fault
    rdtsc
    add %rax, %r8
    rol $7, %r8
    mov $0x10000, %esi
    mov $0x70000, %edi
    mov $300, %ecx
    rep movsb
    mov $0x70000, %esi
    mov $40, %ecx
2:  add (%rsi), %r8
    imul $31, %r8, %r8
    add $8, %rsi
    dec %ecx
    jnz 2b
    movq %r8, %xmm0
    cvtdq2ps %xmm0, %xmm1
    movaps %xmm1, 0x71000
    add $0x1000, %r14
    and $~0x40000, %r14            // 64 pages, over and over
    test $3, %r8b
    jnz 3f
    hlt
3:  cmp $200, %r13d
    jb 1b
    cli
    DONE
5:  push %rsi
    inc %r13d
    xor %r13, %r8
    mov $0xfee00000, %esi
    movl $0, 0xb0(%rsi)
    pop %rsi
    iretq
6:  push %rax
    push %rdi
    mov %cr2, %rax
    shr $12, %rax
    and $511, %eax
    lea 3(%r15), %rdi
    mov %rdi, 0x52000(,%rax,8)
    add $0x1000, %r15
    and $~0x10000, %r15            // sixteen pages behind all of them
    pop %rdi
    pop %rax
    add $8, %rsp
    iretq
8:  mov %ax, (%rdi)
    movw $0x10, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    shr $16, %rax
    mov %ax, 6(%rdi)
    movq $0, 8(%rdi)
    ret
END tiny_kernel

    .code16
GUEST ap_real_mode
    mov $0x3000, %ax
    mov %ax, %ds
    movl $0x5a, 0
    mov $0x42, %al
    out %al, $0x77
1:  hlt
    jmp 1b
END ap_real_mode

    .section .note.GNU-stack, "", @progbits
