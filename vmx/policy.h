// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The words of the policy tables: what is done with a guest's access to a piece of privileged state, and who
 * translates its addresses, which changes the answer for some of it.
 */

enum policy {
    POLICY_THROUGH,   /* the guest uses the hardware's; no exit */
    POLICY_INTERCEPT, /* each change (of an MSR: each access) exits; the emulation decides what the hardware
                         holds */
    POLICY_SHADOWING, /* the guest has a value of its own, the hardware holds Umbra's */
    POLICY_RESERVED,  /* not there for a guest: #GP where the processor gives one */
};

/* Who translates a guest's addresses. */
enum vcpu_regime {
    VCPU_REGIME_EPT,    /* the processor: the guest's own page tables, and EPT behind them */
    VCPU_REGIME_SHADOW, /* Umbra: the processor walks tables of the virtual TLB, without EPT */
    VCPU_REGIMES,
};

/*
 * What kind of processor state it is: the four classes that decide what has to be saved, substituted and
 * restored when the processor changes hands.
 */
enum state_class {
    CLASS_USER,      /* what programs compute with, or bits that change only what their instructions do */
    CLASS_MODE,      /* mode flags: how the processor interprets everything else */
    CLASS_VECTOR,    /* where events and entries into the kernel go */
    CLASS_STRUCTURE, /* pointers to structures that the processor reads by itself, and what governs them */
};
