// SPDX-License-Identifier: BSD-2-Clause
/*
 * arch/x86/machine_check.c over banks made by hand, by the rules of SDM vol. 3, "Machine-check architecture".
 * Fails when an error is taken for a milder or a graver one than it is, when a contained one does not come to
 * the owner of its page, when something is cleared too early or not at all, and when a register is touched
 * that the processor does not have.
 */
#include "arch/x86/machine_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/msr.h"
#include "lib/panic.h"
#include "lib/printf.h"

#define BANKS        40
#define RECOVERY     BIT(24)
#define CONTROL      BIT(8)
#define RIPV         BIT(0)
#define IN_PROGRESS  BIT(2)

#define VALID        BIT(63)
#define OVERFLOW     BIT(62)
#define UNCORRECTED  BIT(61)
#define ENABLED      BIT(60)
#define HAS_MISC     BIT(59)
#define HAS_ADDRESS  BIT(58)
#define CORRUPT      BIT(57)
#define SIGNALLED    BIT(56)
#define ACTION       BIT(55)
#define MISC_PAGE    (2ULL << 6 | 12) /* a physical address, good for the page */

#define CORRECTED    (VALID | ENABLED | 0x0136)
#define RECOVERABLE  (VALID | UNCORRECTED | ENABLED | SIGNALLED | HAS_MISC | HAS_ADDRESS)
#define DATA_LOAD    (RECOVERABLE | ACTION | 0x0134) /* table "SRAR errors": data load */
#define MEMORY_SCRUB (RECOVERABLE | 0x00c0)          /* table "SRAO errors" */
#define PAGE         0x12345000ULL

/* ---- The processor --------------------------------------------------------------------------------------
 */

static struct {
    uint64_t capabilities;
    uint64_t status; /* IA32_MCG_STATUS */
    uint64_t control;
    struct {
        uint64_t control, status, address, misc;
    } bank[BANKS];
    unsigned cleared; /* banks */
} processor;

static unsigned bank_count(void)
{
    return processor.capabilities & 0xff;
}

static bool fake_rdmsr(uint32_t msr, uint64_t *value)
{
    unsigned bank = (msr - MSR_IA32_MC0_CTL) / 4;

    if (processor.capabilities == 0)
        return false;
    if (msr == MSR_IA32_MCG_CAP) {
        *value = processor.capabilities;
        return true;
    }
    if (msr == MSR_IA32_MCG_STATUS) {
        *value = processor.status;
        return true;
    }
    assert_in_range(msr, MSR_IA32_MC0_CTL, MSR_IA32_MC0_CTL + 4 * bank_count() - 1);
    switch (msr % 4) {
    case 0:
        *value = processor.bank[bank].control;
        return true;
    case 1:
        *value = processor.bank[bank].status;
        return true;
    case 2:
        assert_true(processor.bank[bank].status & HAS_ADDRESS);
        *value = processor.bank[bank].address;
        return true;
    default:
        assert_true(processor.bank[bank].status & HAS_MISC);
        *value = processor.bank[bank].misc;
        return true;
    }
}

static void fake_wrmsr(uint32_t msr, uint64_t value)
{
    if (msr == MSR_IA32_MCG_STATUS) {
        assert_int_equal(value, 0);
        for (unsigned i = 0; i < bank_count(); i++)
            assert_false(processor.bank[i].status & VALID); /* the banks come first */
        processor.status = value;
        return;
    }
    if (msr == MSR_IA32_MCG_CTL) {
        assert_true(processor.capabilities & CONTROL);
        processor.control = value;
        return;
    }
    assert_in_range(msr, MSR_IA32_MC0_CTL, MSR_IA32_MC0_CTL + 4 * bank_count() - 1);
    unsigned bank = (msr - MSR_IA32_MC0_CTL) / 4;
    if (msr % 4 == 0) {
        processor.bank[bank].control = value;
        return;
    }
    assert_int_equal(msr % 4, 1);
    assert_int_equal(value, 0); /* anything else is a #GP */
    processor.bank[bank].status = 0;
    processor.cleared++;
}

static const struct machine_check_ops ops = {fake_rdmsr, fake_wrmsr};

static void with_banks(unsigned count, uint64_t capabilities)
{
    memset(&processor, 0, sizeof(processor));
    processor.capabilities = count | capabilities;
    processor.status = RIPV | IN_PROGRESS;
}

static void set_bank(unsigned number, uint64_t status, uint64_t address, uint64_t misc)
{
    processor.bank[number].status = status;
    processor.bank[number].address = address;
    processor.bank[number].misc = misc;
}

/* ---- Panic ------------------------------------------------------------------------------------------------
 */

static jmp_buf panicked;
static bool may_panic;
static char panic_text[4096];

static void catch_text(struct print_sink *sink, const char *text, size_t length)
{
    (void)sink;
    strncat(panic_text, text, length);
}

static uint64_t self(void)
{
    return 1;
}

static void stop_others(void)
{
}

static __noreturn void stop(void)
{
    assert_true(may_panic);
    longjmp(panicked, 1);
}

/* Whether the machine check ends Umbra. */
static bool ends(bool in_guest)
{
    panic_text[0] = '\0';
    may_panic = true;
    bool ended = setjmp(panicked) != 0;
    if (!ended)
        (void)!machine_check_handle(in_guest);
    may_panic = false;
    return ended;
}

static hpa_t owned[8];
static unsigned owned_count;
static bool answers;

static bool owner(hpa_t address)
{
    owned[owned_count++] = address;
    return answers;
}

static int set_up(void **state)
{
    static const struct panic_processors processors = {self, stop_others, stop};
    static struct print_sink sink = {.write = catch_text};

    (void)state;
    panic_processors_register(&processors);
    print_sink_register(&sink);
    with_banks(0, 0);
    assert_int_equal(machine_check_enable(&ops), 0);
    machine_check_set_owner(owner);
    return 0;
}

static int reset(void **state)
{
    (void)state;
    owned_count = 0;
    answers = true;
    return 0;
}

/* ---- What banks say
 * ----------------------------------------------------------------------------------------- */

/* One bank, in every case that the SDM tells apart. */
static void single_banks(void **state)
{
    static const struct {
        uint64_t capabilities, status, misc;
        enum machine_check_kind kind;
    } cases[] = {
        {RECOVERY, 0, 0, MACHINE_CHECK_NOTHING},
        {RECOVERY, ~VALID, MISC_PAGE, MACHINE_CHECK_NOTHING},
        {RECOVERY, CORRECTED, 0, MACHINE_CHECK_CORRECTED},
        {0, CORRECTED | OVERFLOW, 0, MACHINE_CHECK_CORRECTED},
        {RECOVERY, DATA_LOAD, MISC_PAGE, MACHINE_CHECK_CONTAINED},
        {RECOVERY, MEMORY_SCRUB, MISC_PAGE, MACHINE_CHECK_CONTAINED},
        {RECOVERY, MEMORY_SCRUB | OVERFLOW, MISC_PAGE, MACHINE_CHECK_CONTAINED},
        /* The processor's state is gone. */
        {RECOVERY, DATA_LOAD | CORRUPT, MISC_PAGE, MACHINE_CHECK_FATAL},
        {RECOVERY, VALID | UNCORRECTED | ENABLED | CORRUPT, 0, MACHINE_CHECK_FATAL},
        /* It does not tell what can be recovered from. */
        {0, DATA_LOAD, MISC_PAGE, MACHINE_CHECK_FATAL},
        /* Another error that wanted action was lost. */
        {RECOVERY, DATA_LOAD | OVERFLOW, MISC_PAGE, MACHINE_CHECK_FATAL},
        /* Not where. */
        {RECOVERY, DATA_LOAD & ~HAS_ADDRESS, MISC_PAGE, MACHINE_CHECK_FATAL},
        {RECOVERY, DATA_LOAD & ~HAS_MISC, MISC_PAGE, MACHINE_CHECK_FATAL},
        {RECOVERY, DATA_LOAD, 1 << 6 | 12, MACHINE_CHECK_FATAL}, /* a linear address */
        {RECOVERY, DATA_LOAD, 2 << 6 | 13, MACHINE_CHECK_FATAL}, /* one of two pages */
        {RECOVERY, MEMORY_SCRUB & ~HAS_ADDRESS, MISC_PAGE, MACHINE_CHECK_DEFERRED},
        /* Not signalled: nobody has used it. */
        {RECOVERY, DATA_LOAD & ~(SIGNALLED | ACTION), MISC_PAGE, MACHINE_CHECK_DEFERRED},
        {RECOVERY, DATA_LOAD & ~ENABLED, MISC_PAGE, MACHINE_CHECK_FATAL},
    };
    struct machine_check check;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        with_banks(4, cases[i].capabilities);
        set_bank(2, cases[i].status, PAGE | 0x40, cases[i].misc);
        machine_check_scan(&check, &ops);
        assert_int_equal(check.worst, cases[i].kind);
        assert_int_equal(check.count, cases[i].kind == MACHINE_CHECK_NOTHING ? 0 : 1);
        assert_int_equal(check.corrected, cases[i].kind == MACHINE_CHECK_CORRECTED ? 1 : 0);
        assert_true(check.restartable);
        assert_int_equal(processor.cleared, 0);
        if (check.count == 0)
            continue;
        assert_int_equal(check.banks[0].number, 2);
        assert_int_equal(check.banks[0].status, cases[i].status);
        assert_int_equal(check.banks[0].address, cases[i].status & HAS_ADDRESS ? PAGE | 0x40 : 0);
        machine_check_clear(&check, &ops);
        assert_int_equal(processor.cleared, 1);
        assert_int_equal(processor.status, 0);
    }
}

static void the_worst_counts(void **state)
{
    struct machine_check check;

    (void)state;
    with_banks(BANKS, RECOVERY);
    set_bank(0, CORRECTED, 0, 0);
    set_bank(7, DATA_LOAD, PAGE, MISC_PAGE);
    set_bank(39, CORRECTED, 0, 0);
    machine_check_scan(&check, &ops);
    assert_int_equal(check.worst, MACHINE_CHECK_CONTAINED);
    assert_int_equal(check.count, 3);
    assert_int_equal(check.corrected, 2);
    set_bank(38, VALID | UNCORRECTED | CORRUPT, 0, 0);
    machine_check_scan(&check, &ops);
    assert_int_equal(check.worst, MACHINE_CHECK_FATAL);
}

/* More errors than there are records: none that somebody would have to be told of is lost in silence. */
static void many_banks(void **state)
{
    struct machine_check check;

    (void)state;
    with_banks(BANKS, RECOVERY);
    for (unsigned i = 0; i < BANKS; i++)
        set_bank(i, CORRECTED, 0, 0);
    machine_check_scan(&check, &ops);
    assert_int_equal(check.worst, MACHINE_CHECK_CORRECTED);
    assert_int_equal(check.corrected, BANKS);
    assert_int_equal(check.count, MACHINE_CHECK_RECORDS);
    set_bank(BANKS - 1, DATA_LOAD, PAGE, MISC_PAGE);
    machine_check_scan(&check, &ops);
    assert_int_equal(check.worst, MACHINE_CHECK_FATAL);
}

static void enabling(void **state)
{
    (void)state;
    with_banks(6, CONTROL);
    processor.status = 0;
    set_bank(1, CORRECTED, 0, 0);
    set_bank(5, VALID | UNCORRECTED | CORRUPT, 0, 0);
    assert_int_equal(machine_check_enable(&ops), 2);
    assert_int_equal(processor.cleared, 2);
    assert_int_equal(processor.control, UINT64_MAX);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(processor.bank[i].control, UINT64_MAX);

    with_banks(1, 0); /* without IA32_MCG_CTL */
    assert_int_equal(machine_check_enable(&ops), 0);
    assert_int_equal(processor.bank[0].control, UINT64_MAX);
}

/* ---- What follows
 * ------------------------------------------------------------------------------------------- */

static void contained_goes_to_its_owner(void **state)
{
    (void)state;
    for (unsigned in_guest = 0; in_guest < 2; in_guest++) {
        owned_count = 0;
        with_banks(8, RECOVERY);
        set_bank(1, DATA_LOAD, PAGE | 0xabc, MISC_PAGE);
        set_bank(7, MEMORY_SCRUB, PAGE + 0x7c3, 2 << 6 | 6);
        assert_true(machine_check_handle(in_guest != 0));
        assert_int_equal(owned_count, 2);
        assert_int_equal(owned[0].value, PAGE);
        assert_int_equal(owned[1].value, PAGE + 0x7c0);
        assert_int_equal(processor.cleared, 2);
        assert_int_equal(processor.status, 0);
    }
}

/* The guest that was interrupted is lost, Umbra is not; had Umbra been interrupted, it would be. */
static void cannot_be_restarted(void **state)
{
    (void)state;
    with_banks(8, RECOVERY);
    processor.status = IN_PROGRESS;
    set_bank(1, DATA_LOAD, PAGE, MISC_PAGE);
    assert_false(machine_check_handle(true));
    assert_int_equal(owned_count, 1);
    set_bank(1, DATA_LOAD, PAGE, MISC_PAGE);
    processor.status = IN_PROGRESS;
    assert_true(ends(false));
    assert_non_null(strstr(panic_text, "cannot be returned from"));

    /* Nothing tells what has happened. */
    with_banks(8, RECOVERY);
    processor.status = IN_PROGRESS;
    assert_true(ends(true));
}

/* A machine check is told to all processors: those that it does not concern find nothing and go on. */
static void another_processors(void **state)
{
    uint64_t before = machine_check_corrected();

    (void)state;
    with_banks(8, RECOVERY);
    assert_true(machine_check_handle(false));
    assert_int_equal(processor.status, 0);
    processor.status = RIPV | IN_PROGRESS;
    set_bank(3, CORRECTED, 0, 0);
    assert_true(machine_check_handle(true));
    assert_int_equal(processor.cleared, 1);
    assert_int_equal(machine_check_corrected(), before + 1);
    assert_int_equal(owned_count, 0);
}

static void fatal_ends_umbra(void **state)
{
    (void)state;
    with_banks(8, RECOVERY);
    set_bank(0, CORRECTED, 0, 0);
    set_bank(4, DATA_LOAD | CORRUPT, PAGE, MISC_PAGE);
    assert_true(ends(true));
    assert_non_null(strstr(panic_text, "bank 0: corrected"));
    assert_non_null(strstr(panic_text, "bank 4: fatal, status bf8"));
    assert_non_null(strstr(panic_text, "umbra: panic fatal machine check\n"));
    /* Firmware will want to see them. */
    assert_int_equal(processor.cleared, 0);
}

static void nobodys_memory_ends_umbra(void **state)
{
    (void)state;
    answers = false;
    with_banks(8, RECOVERY);
    set_bank(4, DATA_LOAD, PAGE, MISC_PAGE);
    assert_true(ends(true));
    assert_non_null(strstr(panic_text, "in memory that is no partition's, at 0x12345000"));
    assert_int_equal(owned_count, 1);
}

static void without_banks(void **state)
{
    (void)state;
    memset(&processor, 0, sizeof(processor));
    assert_int_equal(machine_check_enable(&ops), 0);
    assert_true(ends(true));
}

int main(void)
{
    /* A panic shows its state once: the one that is looked at for that comes first. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(fatal_ends_umbra, reset),
        cmocka_unit_test_setup(single_banks, reset),
        cmocka_unit_test_setup(the_worst_counts, reset),
        cmocka_unit_test_setup(many_banks, reset),
        cmocka_unit_test_setup(enabling, reset),
        cmocka_unit_test_setup(contained_goes_to_its_owner, reset),
        cmocka_unit_test_setup(cannot_be_restarted, reset),
        cmocka_unit_test_setup(another_processors, reset),
        cmocka_unit_test_setup(nobodys_memory_ends_umbra, reset),
        cmocka_unit_test_setup(without_banks, reset),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
