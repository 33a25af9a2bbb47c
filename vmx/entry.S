// SPDX-License-Identifier: BSD-2-Clause
/*
 * Into a guest and back (SDM vol. 3, "VM entries", "VM exits"). The general registers are struct vcpu's first member,
 * in the processor's order; RSP is in the VMCS; all other state is the VMCS's or switched by vmx/state.c.
 */
#define RAX 0x00
#define RCX 0x08
#define RDX 0x10
#define RBX 0x18
#define RBP 0x28
#define RSI 0x30
#define RDI 0x38
#define R8  0x40
#define R9  0x48
#define R10 0x50
#define R11 0x58
#define R12 0x60
#define R13 0x68
#define R14 0x70
#define R15 0x78
#define HOST_RSP 0x80 /* struct vcpu: host_rsp, what VMCS_HOST_RSP holds */

#define VMCS_HOST_RSP 0x6c14
#define SELECTOR_DATA 0x10 /* arch/x86/descriptor.h */

/*
 * The body of vcpu_enter. With `clearing`, the last instruction before the entry is a VERW, which clears the buffers
 * that data of Umbra could be sampled from (SDM vol. 2, VERR/VERW, and MD_CLEAR); it leaves CF as it is.
 */
.macro ENTER clearing
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rdi
    cmpq %rsp, HOST_RSP(%rdi)
    je 1f
    movq %rsp, HOST_RSP(%rdi)
    movl $VMCS_HOST_RSP, %eax
    vmwrite %rsp, %rax
1:  cmpl $1, %esi /* CF: not launched */
    movq RAX(%rdi), %rax
    movq RCX(%rdi), %rcx
    movq RDX(%rdi), %rdx
    movq RBX(%rdi), %rbx
    movq RBP(%rdi), %rbp
    movq RSI(%rdi), %rsi
    movq R8(%rdi), %r8
    movq R9(%rdi), %r9
    movq R10(%rdi), %r10
    movq R11(%rdi), %r11
    movq R12(%rdi), %r12
    movq R13(%rdi), %r13
    movq R14(%rdi), %r14
    movq R15(%rdi), %r15
    movq RDI(%rdi), %rdi
    .if \clearing
    verw data_selector(%rip)
    .endif
    jnc 2f
    vmlaunch
    jmp entry_failed
2:  vmresume
    jmp entry_failed
.endm

    .section .rodata
    .balign 2
data_selector:
    .word SELECTOR_DATA

    .text
/*
 * unsigned vcpu_enter(struct vcpu *vcpu, bool launched)
 * RDI: the vCPU, whose VMCS is current; ESI: 0 for VMLAUNCH, else VMRESUME. Interrupts off.
 * EAX: 0 after a VM exit (the guest's registers are saved), 1 VMfailInvalid, 2 VMfailValid.
 * vcpu_enter_clearing: the same for processors whose buffers leak.
 */
    .globl vcpu_enter, vcpu_enter_clearing
vcpu_enter:
    ENTER clearing=0

vcpu_enter_clearing:
    ENTER clearing=1

entry_failed:
    /* No entry was made: CF says VMfailInvalid, else VMfailValid. */
    movl $2, %eax
    movl $1, %ecx
    cmovcl %ecx, %eax
    popq %rdi
    jmp 4f

/* 32 calls without a return: as many as a return stack holds. RSP is what it was, RFLAGS are not. */
.macro FILL_RETURN_STACK
    .rept 32
    call 1f
    int3
1:
    .endr
    addq $32 * 8, %rsp
    lfence
.endm

/* void vcpu_fill_return_stack(void) */
    .globl vcpu_fill_return_stack
vcpu_fill_return_stack:
    FILL_RETURN_STACK
    ret

/* vcpu_exit, where the return stack would keep what the guest has called. */
    .globl vcpu_exit_filling
    .balign 16
vcpu_exit_filling:
    FILL_RETURN_STACK
    jmp vcpu_exit

/* The host RIP of every VMCS: RSP is as it was at the entry, so the vCPU is on top of the stack. */
    .globl vcpu_exit
    .balign 16
vcpu_exit:
    pushq %rdi
    movq 8(%rsp), %rdi
    movq %rax, RAX(%rdi)
    movq %rcx, RCX(%rdi)
    movq %rdx, RDX(%rdi)
    movq %rbx, RBX(%rdi)
    movq %rbp, RBP(%rdi)
    movq %rsi, RSI(%rdi)
    movq %r8, R8(%rdi)
    movq %r9, R9(%rdi)
    movq %r10, R10(%rdi)
    movq %r11, R11(%rdi)
    movq %r12, R12(%rdi)
    movq %r13, R13(%rdi)
    movq %r14, R14(%rdi)
    movq %r15, R15(%rdi)
    popq RDI(%rdi)
    popq %rdi
    /* What is left of the guest in registers must not steer speculation; C overwrites RCX and RDX at once. */
    xorl %esi, %esi
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %r10d, %r10d
    xorl %r11d, %r11d
    xorl %eax, %eax
4:  popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret

    .section .note.GNU-stack, "", @progbits
