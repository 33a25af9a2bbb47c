// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Machine checks (SDM vol. 3, "Machine-check architecture"): what the banks of error registers say, and what
 * follows from it. Pure: the registers are reached through struct machine_check_ops only.
 *
 * An error that the processor could not correct is contained if it says so (software recoverable, its context
 * not corrupt) and tells where in memory the error is. Then it is the misfortune of whom that memory belongs
 * to; every other one ends Umbra.
 */
#include "lib/types.h"

/* How registers are reached: trap_rdmsr_safe and cpu_wrmsr on the machine, a table in tests. */
struct machine_check_ops {
    bool (*rdmsr)(uint32_t msr, uint64_t *value); /* false: there is no such register */
    void (*wrmsr)(uint32_t msr, uint64_t value);
};

/* From harmless to the end. */
enum machine_check_kind {
    MACHINE_CHECK_NOTHING,
    MACHINE_CHECK_CORRECTED, /* by the processor; it is only counted */
    MACHINE_CHECK_DEFERRED,  /* not corrected, but nobody has used what is wrong, and nobody need act now */
    MACHINE_CHECK_CONTAINED, /* the memory at `address` is bad; all else is good */
    MACHINE_CHECK_FATAL,     /* what the processor does from here on cannot be trusted */
};

/* One bank with a valid error in it. */
struct machine_check_bank {
    unsigned number;
    enum machine_check_kind kind;
    uint64_t status, address, misc; /* raw; 0 where the bank says that it has none */
};

/* More banks than any processor reports errors in at a time. */
#define MACHINE_CHECK_RECORDS 32

struct machine_check {
    enum machine_check_kind worst;
    bool restartable;                                       /* what was interrupted can go on where it was */
    uint64_t global_status;                                 /* IA32_MCG_STATUS */
    unsigned corrected;                                     /* how many errors the processor corrected */
    unsigned count;                                         /* of `banks` */
    struct machine_check_bank banks[MACHINE_CHECK_RECORDS]; /* what does not fit counts in `worst` alone */
};

/* Reads all banks and says what they mean. Changes nothing. Any context. */
void machine_check_scan(struct machine_check *check, const struct machine_check_ops *ops);

/* Clears the banks that `check` has, and last the mark of a machine check in progress. */
void machine_check_clear(const struct machine_check *check, const struct machine_check_ops *ops);

/*
 * Clears what is left from before (a machine keeps its error banks over a reset) and lets every bank report.
 * Returns how many errors there were. `ops` are kept for ever, the first time. Start-up of each processor; it
 * sets CR4.MCE itself afterwards.
 */
unsigned machine_check_enable(const struct machine_check_ops *ops);

/*
 * Who answers for memory: `owner` gets the host-physical address of an error and returns true if that memory
 * is a partition's, whose end it has asked for; false ends Umbra. It is called on any processor, between any
 * two of Umbra's instructions, perhaps on several at once for the same address: it may only look things up
 * and set flags. Without one every uncorrected error ends Umbra. Start-up only.
 */
void machine_check_set_owner(bool (*owner)(hpa_t address));

/*
 * The answer to #MC: from the trap while Umbra ran, from the VM exit while a guest did (`in_guest`). Scans,
 * hands contained errors to the owner, clears. Panics, showing every valid bank, if an error is fatal, is
 * nobody's, or if Umbra was interrupted and cannot go on. Returns whether what was interrupted can go on: a
 * guest that cannot has to be crashed by the caller, even if the bad memory was another's.
 */
bool machine_check_handle(bool in_guest) __must_check;

/* How many errors the processors corrected so far. Any context. */
uint64_t machine_check_corrected(void);
