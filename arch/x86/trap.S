// SPDX-License-Identifier: BSD-2-Clause
/*
 * Entry points of exceptions and interrupts. Each pushes a zero where the processor pushes no error code, then its
 * vector; trap_common saves the rest of struct trap_frame (arch/x86/trap.h) and calls C. GS stays Umbra's: nobody
 * else runs in root mode.
 */
    .text
    .balign 16
    .globl trap_stubs
trap_stubs:
    vector = 0
    .rept 256
    .balign 16
    /* Vectors with an error code: 8, 10-14, 17, 21, 29, 30 (SDM vol. 3, "Exception and interrupt reference"). */
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    vector = vector + 1
    .endr

trap_common:
    cld
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, %rdi
    movq %rsp, %rbp
    andq $-16, %rsp
    call trap_handle
    movq %rbp, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp
    iretq

/*
 * bool trap_rdmsr_safe(uint32_t msr, uint64_t *value): EDI, RSI. trap_handle() sends a #GP at trap_rdmsr_safe_read
 * on to trap_rdmsr_safe_failed.
 */
    .globl trap_rdmsr_safe, trap_rdmsr_safe_read, trap_rdmsr_safe_failed
trap_rdmsr_safe:
    movl %edi, %ecx
trap_rdmsr_safe_read:
    rdmsr
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, (%rsi)
    movl $1, %eax
    ret
trap_rdmsr_safe_failed:
    xorl %eax, %eax
    ret

/* bool trap_wrmsr_safe(uint32_t msr, uint64_t value): EDI, RSI. Likewise. */
    .globl trap_wrmsr_safe, trap_wrmsr_safe_write, trap_wrmsr_safe_failed
trap_wrmsr_safe:
    movl %edi, %ecx
    movl %esi, %eax
    movq %rsi, %rdx
    shrq $32, %rdx
trap_wrmsr_safe_write:
    wrmsr
    movl $1, %eax
    ret
trap_wrmsr_safe_failed:
    xorl %eax, %eax
    ret

    .section .note.GNU-stack, "", @progbits
