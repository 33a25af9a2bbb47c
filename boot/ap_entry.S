// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where a processor begins after a start-up interrupt: from real mode by protected mode to 64-bit code at the link
 * address. All between ap_trampoline and ap_trampoline_end runs in a copy in a frame below 1 MiB, which
 * boot/processors.c makes; it writes to no memory.
 */
#include "arch/x86/msr.h"
#include "arch/x86/registers.h"

#define AT(symbol)  (symbol - ap_trampoline)

#define CODE_32     0x08
#define DATA        0x10
#define CODE_64     0x18

#define CPUID_NX    (1 << 20)
#define CR0_INITIAL (X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP)

    .section .rodata
    .balign 16
    .code16
    .globl ap_trampoline, ap_trampoline_end
ap_trampoline:
    cli
    cld
    xorl %ebx, %ebx
    movw %cs, %bx
    movw %bx, %ds
    shll $4, %ebx /* EBX: the address of this page, from here on */
    lgdtl AT(ap_trampoline_gdt)
    movl $CR0_INITIAL, %eax /* caches on */
    movl %eax, %cr0
    ljmpl *AT(ap_trampoline_jump_32)

    .code32
trampoline_32:
    movw $DATA, %ax
    movw %ax, %ds
    movw %ax, %ss
    /* Firmware can switch the no-execute bit off on each processor by itself. */
    movl %ebx, %esi
    movl $0x80000001, %eax
    cpuid
    movl %esi, %ebx
    testl $CPUID_NX, %edx
    jz 1f
    movl $X86_CR4_PAE, %eax
    movl %eax, %cr4
    movl AT(ap_trampoline_root)(%ebx), %eax
    movl %eax, %cr3
    movl $MSR_IA32_EFER, %ecx
    movl $(X86_EFER_LME | X86_EFER_NXE), %eax
    xorl %edx, %edx
    wrmsr
    movl $(CR0_INITIAL | X86_CR0_PG), %eax
    movl %eax, %cr0
    ljmpl *AT(ap_trampoline_jump_64)(%ebx)
1:  hlt
    jmp 1b

    .code64
trampoline_64:
    movq $ap_high, %rax
    jmp *%rax

    /* All accessed: the page is read-only once paging is on. */
    .balign 8
trampoline_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00af9b000000ffff
trampoline_gdt_end:

    /* The copy's address is added to these three offsets. */
    .balign 8
    .globl ap_trampoline_gdt, ap_trampoline_jump_32, ap_trampoline_jump_64, ap_trampoline_root
    .short 0
ap_trampoline_gdt:
    .short trampoline_gdt_end - trampoline_gdt - 1
    .long AT(trampoline_gdt)
ap_trampoline_jump_32:
    .long AT(trampoline_32)
    .short CODE_32
    .short 0
ap_trampoline_jump_64:
    .long AT(trampoline_64)
    .short CODE_64
    .short 0
ap_trampoline_root:
    .long 0
ap_trampoline_end:

    .text
    .code64
ap_high:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movq processors_stack_top(%rip), %rsp
    xorl %ebp, %ebp
    call processors_main
    ud2

    .section .note.GNU-stack, "", @progbits
