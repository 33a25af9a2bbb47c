// SPDX-License-Identifier: BSD-2-Clause
/*
 * From long mode to a shard's mode and back (matrix.h), by compatibility mode with paging off. Real mode is
 * never entered. Code, stack and data lie below 4 GiB, in the identity map of every mode.
 */
#define EFER                0xc0000080
#define EFER_LME            0x100
#define CR0_PG              0x80000000

#define SELECTOR_CODE       0x08
#define SELECTOR_DATA       0x10
#define SELECTOR_USER_DATA  0x23
#define SELECTOR_CODE32     0x38
#define SELECTOR_MATRIX_TSS 0x50
#define SELECTOR_MATRIX_LDT 0x60

/* struct matrix_shard */
#define SHARD_CR0           0
#define SHARD_CR3           4
#define SHARD_CR4           8
#define SHARD_EFER          12

/* Paging off, then CR0, CR3, CR4 and EFER from the struct at EBX. In 32-bit code. */
    .macro load_registers
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    movl $EFER, %ecx
    movl SHARD_EFER(%ebx), %eax
    xorl %edx, %edx
    wrmsr
    movl SHARD_CR4(%ebx), %eax
    movl %eax, %cr4
    movl SHARD_CR3(%ebx), %eax
    movl %eax, %cr3
    movl SHARD_CR0(%ebx), %eax
    movl %eax, %cr0
    .endm

    .macro load_descriptors
    lidt matrix_idt_pointer
    movl $SELECTOR_MATRIX_TSS, %eax
    ltr %ax
    movl $SELECTOR_MATRIX_LDT, %eax
    lldt %ax
    .endm

    .text
    .code64
    .balign 16
    .global matrix_switch
matrix_switch:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $8, %rsp
    movq %rsp, stack
    movq %cr0, %rax
    movl %eax, saved + SHARD_CR0
    movq %cr3, %rax
    movl %eax, saved + SHARD_CR3
    movq %cr4, %rax
    movl %eax, saved + SHARD_CR4
    movl $EFER, %ecx
    rdmsr
    andl $~0x400, %eax /* LMA is the processor's */
    movl %eax, saved + SHARD_EFER
    movl %edi, %ebp
    movl %edi, %ebx
    pushq $SELECTOR_CODE32
    pushq $1f
    lretq

    .code32
1:  load_registers
    jmp 2f
2:  movl $SELECTOR_USER_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    testl $EFER_LME, SHARD_EFER(%ebx)
    jnz 3f
    load_descriptors
    movl stack, %esp
    subl $12, %esp
    pushl %ebp
    call legacy_matrix_run
    jmp 5f
3:  ljmp $SELECTOR_CODE, $4f

    .code64
4:  load_descriptors
    movq stack, %rsp
    movl %ebp, %edi
    call matrix_run
    pushq $SELECTOR_CODE32
    pushq $5f
    lretq

    .code32
5:  movl $saved, %ebx
    load_registers
    ljmp $SELECTOR_CODE, $6f

    .code64
6:  movl $SELECTOR_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    lldt %ax
    movq stack, %rsp
    addq $8, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .bss
    .balign 8
stack:
    .skip 8
saved:
    .skip 16
    .global matrix_idt_pointer
matrix_idt_pointer:
    .skip 16
    .section .note.GNU-stack, "", @progbits
