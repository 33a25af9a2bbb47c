// SPDX-License-Identifier: BSD-2-Clause
/*
 * Into Lv2 and back. Lv2's general registers are the structure vmx_registers, in the order of vmx.h; Lv1's
 * that a call preserves wait on its stack, whose pointer waits in memory: so an entry writes no VMCS field.
 */
    .text
/*
 * uint64_t vmx_switch(bool resume)
 * EDI: 0 for VMLAUNCH, else VMRESUME. A VMCS is current whose host RIP is vmx_returned.
 * RAX: 0 behind an exit; else no entry was made, and it is RFLAGS. The arithmetic flags were 1 before.
 */
    .globl vmx_switch
vmx_switch:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, lv1_rsp
    movq %rdi, lv1_resumes
    movq vmx_registers + 0x00, %rax
    movq vmx_registers + 0x08, %rcx
    movq vmx_registers + 0x10, %rdx
    movq vmx_registers + 0x18, %rbx
    movq vmx_registers + 0x20, %rbp
    movq vmx_registers + 0x28, %rsi
    movq vmx_registers + 0x30, %rdi
    movq vmx_registers + 0x38, %r8
    movq vmx_registers + 0x40, %r9
    movq vmx_registers + 0x48, %r10
    movq vmx_registers + 0x50, %r11
    movq vmx_registers + 0x58, %r12
    movq vmx_registers + 0x60, %r13
    movq vmx_registers + 0x68, %r14
    movq vmx_registers + 0x70, %r15
    cmpb $0, lv1_resumes
    pushq $0x8d7
    jne 1f
    popfq
    vmlaunch
    jmp 2f
1:  popfq
    vmresume
2:  pushfq
    popq %rax
    jmp 3f

/* Where an exit goes. RSP is nothing, RFLAGS is recorded as it was loaded. */
    .globl vmx_returned
    .balign 16
vmx_returned:
    movq lv1_rsp, %rsp
    pushfq
    popq vmx_host_rflags
    movq %rax, vmx_registers + 0x00
    movq %rcx, vmx_registers + 0x08
    movq %rdx, vmx_registers + 0x10
    movq %rbx, vmx_registers + 0x18
    movq %rbp, vmx_registers + 0x20
    movq %rsi, vmx_registers + 0x28
    movq %rdi, vmx_registers + 0x30
    movq %r8, vmx_registers + 0x38
    movq %r9, vmx_registers + 0x40
    movq %r10, vmx_registers + 0x48
    movq %r11, vmx_registers + 0x50
    movq %r12, vmx_registers + 0x58
    movq %r13, vmx_registers + 0x60
    movq %r14, vmx_registers + 0x68
    movq %r15, vmx_registers + 0x70
    xorl %eax, %eax
3:  popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

/* Lv2 that does nothing at all. */
    .globl lv2_nothing
lv2_nothing:
    vmcall
    ud2

    .bss
    .balign 8
lv1_rsp:
    .skip 8
lv1_resumes:
    .skip 8
    .globl vmx_host_rflags
vmx_host_rflags:
    .skip 8
    .globl vmx_registers
vmx_registers:
    .skip 15 * 8
    .section .note.GNU-stack, "", @progbits
