// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Exception vectors and error codes (SDM vol. 3, table 6-1 and 4.7). Constants only, usable from assembly as
 * well.
 */
#define X86_VECTOR_DE                  0  /* divide error */
#define X86_VECTOR_DB                  1  /* debug */
#define X86_VECTOR_NMI                 2  /* non-maskable interrupt */
#define X86_VECTOR_BP                  3  /* breakpoint */
#define X86_VECTOR_OF                  4  /* overflow */
#define X86_VECTOR_BR                  5  /* BOUND range exceeded */
#define X86_VECTOR_UD                  6  /* invalid opcode */
#define X86_VECTOR_NM                  7  /* device not available */
#define X86_VECTOR_DF                  8  /* double fault */
#define X86_VECTOR_TS                  10 /* invalid TSS */
#define X86_VECTOR_NP                  11 /* segment not present */
#define X86_VECTOR_SS                  12 /* stack-segment fault */
#define X86_VECTOR_GP                  13 /* general protection */
#define X86_VECTOR_PF                  14 /* page fault */
#define X86_VECTOR_MF                  16 /* x87 floating-point error */
#define X86_VECTOR_AC                  17 /* alignment check */
#define X86_VECTOR_MC                  18 /* machine check */
#define X86_VECTOR_XM                  19 /* SIMD floating point */
#define X86_VECTOR_VE                  20 /* virtualization exception */
#define X86_VECTOR_CP                  21 /* control protection */

/* Vectors below this are exceptions, or reserved for them. */
#define X86_VECTOR_FIRST_INTERRUPT     32

/* The exceptions that push an error code, one bit a vector: DF, TS, NP, SS, GP, PF, AC, CP. */
#define X86_EXCEPTIONS_WITH_ERROR_CODE 0x00227d00

/* Error code of a page fault (SDM vol. 3, 4.7). */
#define X86_PF_PRESENT                 0x0001 /* a protection violation, not a missing page */
#define X86_PF_WRITE                   0x0002
#define X86_PF_USER                    0x0004
#define X86_PF_RESERVED                0x0008 /* a reserved bit was set in an entry */
#define X86_PF_INSTRUCTION             0x0010
#define X86_PF_KEY                     0x0020 /* protection keys */
#define X86_PF_SHADOW                  0x0040 /* a shadow-stack access */
#define X86_PF_HLAT                    0x0080
#define X86_PF_SGX                     0x8000

/* Error code that names a selector (SDM vol. 3, 6.13). */
#define X86_SELECTOR_ERROR_EXTERNAL    0x1 /* the event was external to the program */
#define X86_SELECTOR_ERROR_IDT         0x2 /* the index is one of the IDT */
#define X86_SELECTOR_ERROR_LDT         0x4
