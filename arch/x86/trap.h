// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What happens when Umbra itself is interrupted: an exception is a panic (but for a guarded MSR access, and a
 * machine check that is none of Umbra's), an NMI is noted, an external interrupt goes to the handler of its
 * vector. Interrupts that arrive while a guest runs come to the same handlers from the exit (core/exits).
 */
#include "lib/types.h"

#define TRAP_STUB_SIZE 16

/* 256 entry points of TRAP_STUB_SIZE bytes each. */
extern const char trap_stubs[];

/* As trap.S leaves it on the stack. */
struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector;
    uint64_t error_code;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* From trap.S only. */
void trap_handle(struct trap_frame *frame);

/* The panic screen shows the registers of the exception that caused it. Start-up, after the console's own
 * hooks. */
void trap_register_panic_hook(void);

/* Makes `handler` the one of an external-interrupt vector (32-255), on all processors. Start-up of the first
 * only. */
void trap_set_handler(uint8_t vector, void (*handler)(void));

/* Makes `handler` the one of all vectors that have none, e.g. of interrupts that firmware left on. Start-up
 * only. */
void trap_set_unhandled(void (*handler)(void));

/* Runs the handler of `vector`. Interrupts off. */
void trap_dispatch(uint8_t vector);

/* NMIs that all processors took since the last call. Any context. */
unsigned trap_take_nmis(void);

/* From now on an NMI on any processor but this one ends in `stop`. Any context. */
void trap_stop_on_nmi(__noreturn void (*stop)(void));

/*
 * From here on a machine check on this processor is looked into, and is no shutdown. Returns how many errors
 * its banks still had from before. Start-up of each processor, descriptor tables loaded.
 */
unsigned trap_enable_machine_checks(void);

/* RDMSR that answers false instead of faulting, when the processor has no such MSR. */
bool trap_rdmsr_safe(uint32_t msr, uint64_t *value) __must_check;

/* WRMSR that answers false instead of faulting, when the processor refuses. */
bool trap_wrmsr_safe(uint32_t msr, uint64_t value) __must_check;
