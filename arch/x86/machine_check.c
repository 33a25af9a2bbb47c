// SPDX-License-Identifier: BSD-2-Clause
#include "arch/x86/machine_check.h"

#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "lib/panic.h"
#include "lib/printf.h"

/* IA32_MCG_CAP and IA32_MCG_STATUS (SDM vol. 3, "Machine-check global control MSRs"). */
#define MCG_CAP_COUNT       0xff
#define MCG_CAP_CONTROL     BIT(8)
#define MCG_CAP_RECOVERY    BIT(24) /* the processor tells recoverable errors from others */
#define MCG_STATUS_RIPV     BIT(0)  /* what was interrupted can go on where it was */
#define MCG_STATUS_PROGRESS BIT(2)

/* IA32_MCi_STATUS and IA32_MCi_MISC (SDM vol. 3, "Error-reporting register banks"). */
#define STATUS_VALID        BIT(63)
#define STATUS_OVERFLOW     BIT(62) /* another error was lost */
#define STATUS_UNCORRECTED  BIT(61)
#define STATUS_ENABLED      BIT(60)
#define STATUS_MISC         BIT(59)
#define STATUS_ADDRESS      BIT(58)
#define STATUS_CORRUPT      BIT(57) /* the processor's context */
#define STATUS_SIGNALLED    BIT(56)
#define STATUS_ACTION       BIT(55) /* required */
#define MISC_LSB            0x3f    /* the lowest valid bit of the address */
#define MISC_MODE(misc)     ((misc) >> 6 & 7)
#define MODE_PHYSICAL       2

enum bank_register {
    BANK_CONTROL,
    BANK_STATUS,
    BANK_ADDRESS,
    BANK_MISC,
    BANK_REGISTERS,
};

static const struct machine_check_ops *machine;
static bool (*owner_of)(hpa_t address);
static uint64_t corrected_total;

/* What this processor panics for. */
PERCPU static const struct machine_check *shown;

static uint32_t bank_msr(unsigned bank, enum bank_register reg)
{
    return MSR_IA32_MC0_CTL + bank * BANK_REGISTERS + reg;
}

/* A register's value; 0 where there is none. */
static uint64_t read(const struct machine_check_ops *ops, uint32_t msr)
{
    uint64_t value;

    return ops->rdmsr(msr, &value) ? value : 0;
}

/* Whether the bank's address is a physical one that tells at least the page. */
static bool has_page(const struct machine_check_bank *bank)
{
    /* Without a valid MISC register `misc` is 0, and that names no mode. */
    return (bank->status & STATUS_ADDRESS) != 0 && MISC_MODE(bank->misc) == MODE_PHYSICAL &&
           (bank->misc & MISC_LSB) <= PAGE_SHIFT;
}

/* SDM vol. 3, "Machine-check error codes and UCR error classification"; from the top, the first that fits. */
static enum machine_check_kind classify(const struct machine_check_bank *bank, bool has_recovery)
{
    uint64_t status = bank->status;

    if ((status & STATUS_UNCORRECTED) == 0)
        return MACHINE_CHECK_CORRECTED;
    if ((status & STATUS_CORRUPT) != 0)
        return MACHINE_CHECK_FATAL;
    if (!has_recovery) /* then nothing says whether somebody uses the bad data already */
        return MACHINE_CHECK_FATAL;
    if ((status & STATUS_SIGNALLED) == 0)
        return MACHINE_CHECK_DEFERRED;
    if ((status & STATUS_ACTION) == 0) /* found in passing, by a scrubber or in a write back */
        return has_page(bank) ? MACHINE_CHECK_CONTAINED : MACHINE_CHECK_DEFERRED;
    if ((status & STATUS_ENABLED) == 0 || (status & STATUS_OVERFLOW) != 0)
        return MACHINE_CHECK_FATAL;
    return has_page(bank) ? MACHINE_CHECK_CONTAINED : MACHINE_CHECK_FATAL;
}

void machine_check_scan(struct machine_check *check, const struct machine_check_ops *ops)
{
    uint64_t capabilities = read(ops, MSR_IA32_MCG_CAP);

    *check = (struct machine_check){.global_status = read(ops, MSR_IA32_MCG_STATUS)};
    check->restartable = (check->global_status & MCG_STATUS_RIPV) != 0;
    for (unsigned i = 0; i < (capabilities & MCG_CAP_COUNT); i++) {
        struct machine_check_bank bank = {.number = i, .status = read(ops, bank_msr(i, BANK_STATUS))};
        if ((bank.status & STATUS_VALID) == 0)
            continue;
        /* Registers of a bank that it does not say are valid may not exist. */
        if ((bank.status & STATUS_ADDRESS) != 0)
            bank.address = read(ops, bank_msr(i, BANK_ADDRESS));
        if ((bank.status & STATUS_MISC) != 0)
            bank.misc = read(ops, bank_msr(i, BANK_MISC));
        bank.kind = classify(&bank, (capabilities & MCG_CAP_RECOVERY) != 0);
        if (bank.kind == MACHINE_CHECK_CORRECTED)
            check->corrected++;
        if (bank.kind > check->worst)
            check->worst = bank.kind;
        if (check->count < MACHINE_CHECK_RECORDS)
            check->banks[check->count++] = bank;
        else if (bank.kind == MACHINE_CHECK_CONTAINED)
            check->worst = MACHINE_CHECK_FATAL; /* nobody would be told */
    }
}

void machine_check_clear(const struct machine_check *check, const struct machine_check_ops *ops)
{
    for (unsigned i = 0; i < check->count; i++)
        ops->wrmsr(bank_msr(check->banks[i].number, BANK_STATUS), 0);
    if ((check->global_status & MCG_STATUS_PROGRESS) != 0)
        ops->wrmsr(MSR_IA32_MCG_STATUS, 0);
}

static const char *kind_name(enum machine_check_kind kind)
{
    switch (kind) {
    case MACHINE_CHECK_NOTHING:
        return "nothing";
    case MACHINE_CHECK_CORRECTED:
        return "corrected";
    case MACHINE_CHECK_DEFERRED:
        return "deferred";
    case MACHINE_CHECK_CONTAINED:
        return "contained";
    case MACHINE_CHECK_FATAL:
        return "fatal";
    }
    __builtin_unreachable();
}

static void show(struct panic_hook *hook)
{
    const struct machine_check *check = this_cpu(shown);

    (void)hook;
    if (check == NULL)
        return;
    print("machine check: global status %#lx, %u banks with errors\n", check->global_status, check->count);
    for (unsigned i = 0; i < check->count; i++) {
        const struct machine_check_bank *bank = &check->banks[i];
        print("bank %u: %s, status %016lx address %#lx misc %#lx\n", bank->number, kind_name(bank->kind),
              bank->status, bank->address, bank->misc);
    }
}

unsigned machine_check_enable(const struct machine_check_ops *ops)
{
    static struct panic_hook hook = {.run = show};
    struct machine_check left;
    uint64_t capabilities = read(ops, MSR_IA32_MCG_CAP);

    if (machine == NULL) {
        machine = ops;
        panic_hook_register(&hook);
    }
    machine_check_scan(&left, ops);
    machine_check_clear(&left, ops);
    if ((capabilities & MCG_CAP_CONTROL) != 0)
        ops->wrmsr(MSR_IA32_MCG_CTL, UINT64_MAX);
    for (unsigned i = 0; i < (capabilities & MCG_CAP_COUNT); i++)
        ops->wrmsr(bank_msr(i, BANK_CONTROL), UINT64_MAX);
    return left.count;
}

void machine_check_set_owner(bool (*owner)(hpa_t address))
{
    owner_of = owner;
}

/* The first contained error whose memory nobody answers for; NULL if all are taken care of. */
static const struct machine_check_bank *hand_out(const struct machine_check *check)
{
    for (unsigned i = 0; i < check->count; i++) {
        const struct machine_check_bank *bank = &check->banks[i];
        if (bank->kind != MACHINE_CHECK_CONTAINED)
            continue;
        if (owner_of == NULL || !owner_of(HPA(align_down(bank->address, BIT(bank->misc & MISC_LSB)))))
            return bank;
    }
    return NULL;
}

bool machine_check_handle(bool in_guest)
{
    struct machine_check check;

    /* Until the end the banks keep what they have: firmware may want to see it after a reset. */
    machine_check_scan(&check, machine);
    this_cpu(shown) = &check;
    if (check.worst == MACHINE_CHECK_FATAL)
        panic("fatal machine check");
    if (!check.restartable && !(in_guest && check.worst == MACHINE_CHECK_CONTAINED))
        panic("machine check that cannot be returned from");

    const struct machine_check_bank *bank = hand_out(&check);
    if (bank != NULL)
        panic("machine check in memory that is no partition's, at %#lx", bank->address);
    this_cpu(shown) = NULL;
    __atomic_fetch_add(&corrected_total, check.corrected, __ATOMIC_RELAXED);
    machine_check_clear(&check, machine);
    return check.restartable;
}

uint64_t machine_check_corrected(void)
{
    return __atomic_load_n(&corrected_total, __ATOMIC_RELAXED);
}
