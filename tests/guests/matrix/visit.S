// SPDX-License-Identifier: BSD-2-Clause
/*
 * One access of the matrix: into a piece of code at CPL 0 or 3 by IRET, and out of it by INT or an exception.
 * Assembled twice, for 64 and 32 bits (matrix.h).
 */
#ifdef __x86_64__
#define REG(name) %r##name
#define IRET      iretq
#define WORD      8
#else
#define REG(name) %e##name
#define IRET      iretl
#define WORD      4
#endif

/* struct matrix_visit */
#define IP       (0 * WORD)
#define CS       (1 * WORD)
#define FLAGS    (2 * WORD)
#define SP       (3 * WORD)
#define SS       (4 * WORD)
#define ADDRESS  (5 * WORD)
#define VALUE    (6 * WORD)
#define SEEN     (7 * WORD)
#define VECTOR   (8 * WORD)
#define ERROR    (9 * WORD)
#define WHERE    (10 * WORD)
#define CR2      (11 * WORD)

#define UNTOUCHED 0x0badf00d
#define LEAVE     0x40
#define USER_DATA 0x23

    .text

/* void matrix_visit(struct matrix_visit *visit): uses AX, CX, DX. DS and ES are USER_DATA, in ring 0 too. */
    .balign 16
    .global matrix_visit
matrix_visit:
#ifdef __x86_64__
    movq %rdi, %rax
#else
    movl 4(%esp), %eax
#endif
    mov REG(ax), current
    mov REG(sp), stack
    push SS(REG(ax))
    push SP(REG(ax))
    push FLAGS(REG(ax))
    push CS(REG(ax))
    push IP(REG(ax))
    mov ADDRESS(REG(ax)), REG(dx)
    mov VALUE(REG(ax)), REG(cx)
    movl $UNTOUCHED, %eax
    IRET

/* The accesses (matrix.h says what is where). Ring 3 runs them at their alias. */
    .balign 16
    .global matrix_read, matrix_write, matrix_modify, matrix_execute, matrix_look, matrix_load
matrix_read:
    movl 0x10(REG(dx)), %eax
    int $LEAVE
    .balign 16
matrix_write:
    movl %ecx, 0x20(REG(dx))
    int $LEAVE
    .balign 16
matrix_modify:
    addl %ecx, 0x30(REG(dx))
    int $LEAVE
    .balign 16
matrix_execute:
    lea 0x40(REG(dx)), REG(cx)
    jmp *REG(cx)
    .balign 16
matrix_look: /* reads the descriptor, as the supervisor */
    lsl %ecx, %eax
    int $LEAVE
    .balign 16
matrix_load: /* reads the descriptor and sets its accessed bit, as the supervisor */
    movl %ecx, %es
    int $LEAVE

/* One stub a vector, 16 bytes apart. */
    .balign 16
    .global matrix_stubs
matrix_stubs:
    vector = 0
    .rept LEAVE + 1
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
    .else
    push $0
    .endif
    push $vector
    jmp back
    vector = vector + 1
    .endr

/* Back to who called matrix_visit(): what the frame says is taken down, and the stack is as it was. */
    .balign 16
back:
    mov current, REG(dx)
    mov REG(ax), SEEN(REG(dx))
    pop VECTOR(REG(dx))
    pop ERROR(REG(dx))
    pop WHERE(REG(dx))
    mov %cr2, REG(ax)
    mov REG(ax), CR2(REG(dx))
    mov stack, REG(sp)
    movl $USER_DATA, %eax
    movl %eax, %es
    push $2
    popf
    ret

    .bss
    .balign 8
current:
    .skip 8
stack:
    .skip 8
    .section .note.GNU-stack, "", @progbits
