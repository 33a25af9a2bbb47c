/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program for Linux that does nothing. It is run where the shell would be, and linked at an address of its
 * own: the emulator stops when that is reached.
 */
        .globl  _start
_start:
        mov     $34, %eax               /* pause(2) */
        syscall
        jmp     _start
        .section .note.GNU-stack, "", @progbits
