// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The total switch: every piece of processor state that a guest can use, as one table that says who keeps the
 * vCPUs of one processor apart there. What neither the VMCS nor the entry code switches stays loaded while a
 * vCPU's exits are handled (Umbra itself uses none of it) and is exchanged here, when the processor goes to
 * another vCPU.
 */
#include "arch/x86/registers.h"
#include "lib/types.h"
#include "vmx/barriers.h"

/* The state components that are ever switched, and so may be offered to a guest (in XCR0; in IA32_XSS, none).
 */
#define VCPU_STATE_COMPONENTS                                                                                \
    (X86_XCR0_X87 | X86_XCR0_SSE | X86_XCR0_AVX | X86_XCR0_OPMASK | X86_XCR0_ZMM_HI256 | X86_XCR0_HI16_ZMM | \
     X86_XCR0_PKRU)

/*
 * A frame: those components, which end at byte 2696 of the standard format on the processors that are known
 * (SDM vol. 1, "Managing state using XSAVE"), and the VMCS's MSR lists at its end.
 */
#define VCPU_XSAVE_AREA_SIZE 4096

/* Who switches a piece of state. */
enum vcpu_state_place {
    STATE_IN_VMCS,   /* the processor, at each entry and exit, by fields of the VMCS */
    STATE_IN_LISTS,  /* likewise, by the VMCS's MSR lists */
    STATE_AT_ENTRY,  /* entry.S, at each entry and exit */
    STATE_AT_SWITCH, /* vcpu_state_save and vcpu_state_load */
    STATE_CLEARED,   /* nobody: cleared when another partition's vCPU is loaded, by vmx/barriers.h */
};

/* How vcpu_state_save and _load reach a piece of STATE_AT_SWITCH. */
enum vcpu_state_access {
    STATE_ACCESS_NONE,
    STATE_ACCESS_CR2,
    STATE_ACCESS_DR, /* number `index` */
    STATE_ACCESS_DR6,
    STATE_ACCESS_MSR, /* number `index` */
    STATE_ACCESS_XCR0,
    STATE_ACCESS_EXTENDED, /* the whole XSAVE area */
};

#define VCPU_STATE_MSRS 8

struct vcpu_state {
    uint64_t cr2;
    uint64_t dr[4];
    uint64_t dr6;
    uint64_t xcr0;
    uint64_t msrs[VCPU_STATE_MSRS]; /* by the table */
    void *xsave_area;               /* VCPU_XSAVE_AREA_SIZE bytes, page-aligned, in the physical map */
    uint64_t
        owner; /* whose the vCPU is: never the same number for two partitions; 0: nobody's, trusted by none */
};

struct vcpu_state_row {
    const char *name;
    uint8_t place;     /* enum vcpu_state_place */
    uint8_t class;     /* enum state_class */
    uint8_t access;    /* enum vcpu_state_access */
    uint16_t offset;   /* STATE_AT_SWITCH: in struct vcpu_state */
    uint32_t index;    /* number of the MSR, if it is one, or of the debug register */
    uint32_t last;     /* the last of several MSRs that one row speaks for */
    bool without_vmcs; /* STATE_AT_SWITCH only where the VMCS does not switch IA32_EFER */
    /* It exists if register `reg` (enum cpuid_register) of CPUID `leaf` has one of `bits`; bits 0: always. */
    uint32_t leaf, bits;
    uint8_t subleaf, reg;
};

/* The table, for those who list or test it; *count is its length. */
const struct vcpu_state_row *vcpu_state_rows(size_t *count);

/*
 * Finds out what there is to switch, and which barriers this machine wants. `efer_in_vmcs`: VMCSs switch
 * IA32_EFER (VM-entry control "load IA32_EFER" and its like). Start-up, before the first of the others, when
 * RDMSR may fault.
 */
void vcpu_state_probe(bool efer_in_vmcs);

/*
 * The components that this machine's processors have and vcpu_state_save and _load switch, whatever XCR0 the
 * guest has: what may be offered to it. 0: no XSAVE.
 */
uint64_t vcpu_state_components(void);

/*
 * True if the compacted format of XSAVEC and XSAVES has the size that CPUID's own description of the
 * components gives (SDM vol. 1, 13.4.3). Where it has not, as in an emulator (docs/notes/bochs.md), a guest
 * must not be offered it.
 */
bool vcpu_state_compacts(void);

/* What vcpu_state_probe decided. */
const struct vcpu_barriers *vcpu_state_barriers(void);

/* The state after reset; `xsave_area` and `owner` stay. */
void vcpu_state_reset(struct vcpu_state *state);

/* Where the VMCS's MSR lists of this state are. */
struct vcpu_msr_lists {
    hpa_t guest;    /* what an exit stores and an entry loads */
    hpa_t host;     /* what an exit loads */
    unsigned count; /* entries in each; 0: the VMCS needs no lists */
};
struct vcpu_msr_lists vcpu_state_msr_lists(const struct vcpu_state *state);

/*
 * The guest's IA32_SPEC_CTRL, which the VMCS's lists switch: the register itself is Umbra's while Umbra runs.
 * False: a value that the processor might refuse, or there is no such register. Any time but inside an entry.
 */
bool vcpu_state_write_spec_ctrl(struct vcpu_state *state, uint64_t value) __must_check;
bool vcpu_state_read_spec_ctrl(const struct vcpu_state *state, uint64_t *value) __must_check;

/* Copies the processor's state to `state`. Interrupts off, no entry since the exit. */
void vcpu_state_save(struct vcpu_state *state);

/*
 * Where the VMCS does not switch IA32_EFER: the guest whose state is loaded now has `efer`. Only SCE of it is
 * of interest: an entry and an exit set LME and LMA by themselves, and NXE is 1 on both sides. Umbra executes
 * no SYSCALL, so that the guest's SCE may stay while it runs. Interrupts off.
 */
void vcpu_state_write_efer(uint64_t efer);

/*
 * The other way round; nothing of the former vCPU remains. If that was another owner's, what cannot be
 * exchanged is cleared. Interrupts off.
 */
void vcpu_state_load(const struct vcpu_state *state);
