// SPDX-License-Identifier: BSD-2-Clause
/*
 * From the Multiboot 1 loader (32-bit protected mode, paging off, EBX = information, EAX = magic) to
 * guest_start() in long mode, and the entry stubs of all 256 vectors.
 */
#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 0x3 /* modules page-aligned, memory sizes wanted */

#define EFER            0xc0000080
#define EFER_LME        0x100
#define CR4_PAE         0x20
#define CR0_START       0x80000033 /* PG NE ET MP PE */

#define PRESENT_WRITE   0x3
#define USER            0x4
#define UNCACHED        0x18
#define LARGE           0x80

    .section .multiboot, "a"
    .balign 4
    .long MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

    .text
    .code32
    .global start
start:
    cli
    cld
    movl %eax, %ebp
    movl $guest_stack_top, %esp

    /* The four directories of guest.h's map: memory, its alias for ring 3, a hole, devices. */
    movl $boot_directories, %edi
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    andl $511, %eax
    shll $21, %eax
    orl $(PRESENT_WRITE | LARGE), %eax
    movl %eax, (%edi, %ecx, 8)
    orl $USER, %eax
    movl %eax, 0x1000(%edi, %ecx, 8)
    leal 1536(%ecx), %eax
    shll $21, %eax
    orl $(PRESENT_WRITE | LARGE | UNCACHED), %eax
    movl %eax, 0x2000(%edi, %ecx, 8)
    incl %ecx
    cmpl $512, %ecx
    jb 1b

    movl $(boot_directories + PRESENT_WRITE), guest_pointers
    movl $(boot_directories + 0x1000 + PRESENT_WRITE + USER), guest_pointers + 8
    movl $(boot_directories + 0x2000 + PRESENT_WRITE), guest_pointers + 24
    movl $(guest_pointers + PRESENT_WRITE + USER), guest_page_tables

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
    lgdt guest_gdt_pointer
    ljmp $0x08, $2f

    .code64
2:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    lldt %ax
    movl $guest_stack_top, %esp
    movl %ebp, %edi
    movl %ebx, %esi
    xorl %ebp, %ebp
    call guest_start
3:  cli
    hlt
    jmp 3b

/*
 * One stub a vector, 16 bytes apart: an error code or 0, the vector, then the common part. guest_dispatch()
 * gets the struct guest_frame and may change it; the frame is where the IRETQ goes. Data segments are the
 * kernel's afterwards if the code returned to is the kernel's: a test may have left anything in them.
 */
    .balign 16
    .global guest_stubs
guest_stubs:
    vector = 0
    .rept 256
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
    .else
    pushq $0
    .endif
    pushq $vector
    jmp common
    vector = vector + 1
    .endr

    .balign 16
common:
    cld
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, %rdi
    movq %rsp, %rbx
    andq $-16, %rsp
    call guest_dispatch
    movq %rbx, %rsp
    testb $3, 18 * 8(%rsp)
    jnz 1f
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
1:  popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

    .bss
    .balign 4096
    .global guest_page_tables
guest_page_tables:
    .skip 4096
    .global guest_pointers
guest_pointers:
    .skip 4096
boot_directories:
    .skip 3 * 4096
    .skip 16384
    .global guest_stack_top
guest_stack_top:
    .section .note.GNU-stack, "", @progbits
