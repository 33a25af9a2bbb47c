// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Processor state that neither a VMCS nor the entry code switches: it stays loaded while a vCPU's exits are
 * handled and is exchanged only when the processor goes to another vCPU. Umbra itself uses none of it.
 */
#include "lib/types.h"

/* Enough for x87, SSE, AVX and AVX-512, which end at byte 2688 of the standard format (SDM vol. 1, "Managing
 * state using XSAVE"). */
#define VCPU_XSAVE_AREA_SIZE 4096

#define VCPU_SWITCHED_MSRS   7

struct vcpu_state {
    uint64_t cr2;
    uint64_t dr[4];
    uint64_t dr6;
    uint64_t xcr0;
    uint64_t msrs[VCPU_SWITCHED_MSRS]; /* by the table in state.c */
    void *xsave_area;                  /* VCPU_XSAVE_AREA_SIZE bytes, 64-byte aligned */
};

/* Finds out what there is to switch. Start-up, before the first of the others. */
void vcpu_state_probe(void);

/* The state after reset; `xsave_area` stays. */
void vcpu_state_reset(struct vcpu_state *state);

/* Copies the processor's state to `state`, or the other way round. Interrupts off. */
void vcpu_state_save(struct vcpu_state *state);
void vcpu_state_load(const struct vcpu_state *state);
