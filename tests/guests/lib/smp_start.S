// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where a start-up IPI begins: copied to a page below 1 MiB, whose number is the IPI's vector. Real mode, CS is
 * the page, nothing else is known. First every register is stored into the page (struct smp_begin), then the
 * way goes on to long mode and smp_entry(smp_starting) on the stack smp_stack.
 */
#define EFER       0xc0000080
#define EFER_LME   0x100
#define CR4_PAE    0x20
#define CR0_START  0x80000033 /* PG NE ET MP PE */

#define IN_PAGE(x) (x - smp_trampoline)

    .text
    .code16
    .balign 16
    .global smp_trampoline, smp_trampoline_end, smp_trampoline_begin
smp_trampoline:
    movl %eax, %cs:IN_PAGE(begin + 0)
    movl %ebx, %cs:IN_PAGE(begin + 4)
    movl %ecx, %cs:IN_PAGE(begin + 8)
    movl %edx, %cs:IN_PAGE(begin + 12)
    movl %esi, %cs:IN_PAGE(begin + 16)
    movl %edi, %cs:IN_PAGE(begin + 20)
    movl %ebp, %cs:IN_PAGE(begin + 24)
    movl %esp, %cs:IN_PAGE(begin + 28)
    movl %dr7, %eax
    movl %eax, %cs:IN_PAGE(begin + 72)
    movw %cs, %cs:IN_PAGE(begin + 80)
    movw %ds, %cs:IN_PAGE(begin + 82)
    movw %es, %cs:IN_PAGE(begin + 84)
    movw %ss, %cs:IN_PAGE(begin + 86)
    movw %fs, %cs:IN_PAGE(begin + 88)
    movw %gs, %cs:IN_PAGE(begin + 90)
    movw %cs, %ax
    movw %ax, %ds
    movw %ax, %ss
    movl $0x1000, %esp
    pushfl
    popl IN_PAGE(begin + 32)
    cli
    cld
    sgdtl IN_PAGE(begin + 92)
    sidtl IN_PAGE(begin + 98)
    movl %cr0, %eax
    movl %eax, IN_PAGE(begin + 36)
    movl %cr2, %eax
    movl %eax, IN_PAGE(begin + 40)
    movl %cr3, %eax
    movl %eax, IN_PAGE(begin + 44)
    movl %cr4, %eax
    movl %eax, IN_PAGE(begin + 48)
    movl %dr0, %eax
    movl %eax, IN_PAGE(begin + 52)
    movl %dr1, %eax
    movl %eax, IN_PAGE(begin + 56)
    movl %dr2, %eax
    movl %eax, IN_PAGE(begin + 60)
    movl %dr3, %eax
    movl %eax, IN_PAGE(begin + 64)
    movl %dr6, %eax
    movl %eax, IN_PAGE(begin + 68)
    movl $EFER, %ecx
    rdmsr
    movl %eax, IN_PAGE(begin + 76)

    lgdtl IN_PAGE(gdt_pointer)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x38, $smp_protected
    .balign 4
gdt_pointer:
    .word 64 * 8 - 1
    .long guest_gdt
    .balign 16
smp_trampoline_begin:
begin:
    .skip 104
smp_trampoline_end:

    .code32
smp_protected:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $guest_page_tables, %eax
    movl %eax, %cr3
    movl $EFER, %ecx
    movl $EFER_LME, %eax
    xorl %edx, %edx
    wrmsr
    movl $CR0_START, %eax
    movl %eax, %cr0
    ljmp $0x08, $1f

    .code64
1:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    lldt %ax
    movq smp_stack, %rsp
    movl smp_starting, %edi
    xorl %ebp, %ebp
    call smp_entry
    ud2
    .section .note.GNU-stack, "", @progbits
