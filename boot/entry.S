// SPDX-License-Identifier: BSD-2-Clause
/*
 * From the boot loader to C: the Multiboot2 header, the way from 32-bit protected mode to 64-bit code at the link
 * address. The page tables made here last until mm/address_space.c has built the real ones.
 */
#define UMBRA_BASE 0xffffffff80000000
#define PHYSICAL(symbol) (symbol - UMBRA_BASE)

#define PRESENT_WRITABLE 0x3
#define LARGE_PAGE       0x83
#define CR0_PG           0x80000000
#define CR0_WP           0x00010000
#define CR4_PAE          0x00000020
#define MSR_EFER         0xc0000080
#define EFER_LME_NXE     0x900

    .section .boot.header, "a"
    .balign 8
header:
    .long 0xe85250d6
    .long 0
    .long header_end - header
    .long -(0xe85250d6 + 0 + (header_end - header))
    /* Information request, optional: command line, modules, memory map, framebuffer, both ACPI root pointers. */
    .balign 8
1:  .short 1, 1
    .long 2f - 1b
    .long 1, 3, 6, 8, 14, 15
2:
    /* Modules on page boundaries. */
    .balign 8
    .short 6, 0
    .long 8
    .balign 8
    .short 0, 0
    .long 8
header_end:

/*
 * boot_entry: from GRUB. EAX: loader magic, EBX: physical address of the tags; flat 32-bit segments, interrupts
 * off, no stack. Does not return.
 */
    .section .boot.text, "ax"
    .code32
    .globl boot_entry
boot_entry:
    cli
    cld
    movl %eax, %esi
    movl $PHYSICAL(boot_stack_top), %esp

    movl $0x80000000, %eax
    movl %ebx, %edi
    cpuid
    cmpl $0x80000001, %eax
    jb no_long_mode
    movl $0x80000001, %eax
    cpuid
    testl $(1 << 29), %edx /* 64-bit mode */
    jz no_long_mode
    testl $(1 << 20), %edx /* no-execute pages, which firmware can switch off */
    jz no_long_mode
    movl %edi, %ebx

    /* Four page directories of 2M pages: the first 4 GiB. */
    movl $PHYSICAL(boot_pd), %edi
    movl $LARGE_PAGE, %eax
    xorl %edx, %edx
1:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $8, %edi
    addl $0x200000, %eax
    jnc 1b

    /* One directory pointer table for them, used at 0 and at PHYSMAP_BASE; one for the link address. */
    movl $(PHYSICAL(boot_pd) + PRESENT_WRITABLE), %eax
    movl %eax, PHYSICAL(boot_pdpt_high) + 510 * 8
    movl $PHYSICAL(boot_pdpt), %edi
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $4096, %eax
    loop 1b
    movl $(PHYSICAL(boot_pdpt) + PRESENT_WRITABLE), PHYSICAL(boot_pml4)
    movl $(PHYSICAL(boot_pdpt) + PRESENT_WRITABLE), PHYSICAL(boot_pml4) + 256 * 8
    movl $(PHYSICAL(boot_pdpt_high) + PRESENT_WRITABLE), PHYSICAL(boot_pml4) + 511 * 8

    movl %cr4, %eax
    orl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $PHYSICAL(boot_pml4), %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME_NXE, %eax
    wrmsr
    movl %cr0, %eax
    orl $(CR0_PG | CR0_WP), %eax
    movl %eax, %cr0

    lgdt boot_gdt_pointer
    ljmp $8, $boot_long

no_long_mode:
    movl $no_long_mode_text, %esi
    movl $0xb8000, %edi
    cld
1:  lodsb
    testb %al, %al
    jz 3f
    movb $0x07, %ah
    stosw
    movb %al, %cl
    movw $0x3fd, %dx
2:  inb %dx, %al
    testb $0x20, %al
    jz 2b
    movb %cl, %al
    movw $0x3f8, %dx
    outb %al, %dx
    jmp 1b
3:  cli
    hlt
    jmp 3b

    .code64
boot_long:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movabsq $boot_high, %rax
    jmp *%rax

    .section .boot.rodata, "a"
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
boot_gdt_end:
boot_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt
no_long_mode_text:
    .asciz "umbra: panic this processor has no 64-bit mode, or firmware has switched its no-execute bit off\r\n"

    .text
    .code64
boot_high:
    movq $boot_stack_top, %rsp
    xorl %ebp, %ebp
    movl %esi, %edi
    movl %ebx, %esi
    call boot_main
    ud2

/*
 * boot_switch_stack(top, function): leaves the boot stack for ever. RDI: top of the new stack, RSI: void function(void)
 * that does not return.
 */
    .globl boot_switch_stack
boot_switch_stack:
    movq %rdi, %rsp
    xorl %ebp, %ebp
    call *%rsi
    ud2

    .bss
    .balign 4096
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
boot_pdpt_high:
    .skip 4096
boot_pd:
    .skip 4 * 4096
    .globl boot_stack_top
boot_stack:
    .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
