// SPDX-License-Identifier: BSD-2-Clause
/*
 * vmx/controls.c over recorded processors. Fails when a word leaves what the processor allows, when a control
 * differs from what the table wants, when a capability that is taken away is neither reported nor done
 * without, or when a register is read that the processor has not.
 */
#include "vmx/controls.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/processors.h"

static const struct vmx_msr_ops ops = {processor_rdmsr, processor_cpuid};

static struct vmx_capabilities capabilities_of(unsigned which)
{
    struct vmx_capabilities capabilities;

    processor = &processors[which];
    changed_msr = 0;
    vmx_capabilities_read(&capabilities, &ops);
    return capabilities;
}

static bool runs(unsigned which)
{
    return which != PENRYN && which != LYNNFIELD;
}

/* The table once more, with its wants as numbers, written independently of the implementation's reading of
 * it. */
enum { REQUIRED, PREFERRED, DEMANDED, RUNTIME, BY_MODE, NEVER };
static const struct {
    enum vmx_word word;
    uint32_t mask;
    int want;
    const char *name;
} table[] = {
#define X(WORD, BIT, NAME, TEXT, WANT, WHY) {VMX_WORD_##WORD, 1u << (BIT), WANT, TEXT},
    VMX_CONTROLS(X)
#undef X
};

static void obstacles(void **state)
{
    (void)state;
    struct vmx_capabilities c = capabilities_of(PENRYN);

    assert_string_equal(vmx_capabilities_obstacle(&c),
                        "this processor needs shadow paging, which is not built yet");
    c = capabilities_of(LYNNFIELD);
    assert_non_null(strstr(vmx_capabilities_obstacle(&c), "unrestricted guest"));
    for (unsigned i = 0; i < PROCESSORS; i++) {
        c = capabilities_of(i);
        assert_int_equal(vmx_capabilities_obstacle(&c) == NULL, runs(i));
    }

    c = capabilities_of(SKYLAKE_X);
    c.feature_control = FEATURE_CONTROL_LOCKED;
    assert_non_null(strstr(vmx_capabilities_obstacle(&c), "locked off"));
    c.feature_control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON_INSIDE_SMX;
    assert_non_null(strstr(vmx_capabilities_obstacle(&c), "locked off"));
    c.feature_control = 0;
    assert_null(vmx_capabilities_obstacle(&c));
    c.intel_vmx = false;
    assert_string_equal(vmx_capabilities_obstacle(&c), "this processor has no VT-x");
}

/* What Umbra must not run without, and the words of a Skylake-X: both written down here, not taken from the
 * table. */
static void written_down(void **state)
{
    (void)state;
    static const char *const needed[] = {
        "external-interrupt exiting",
        "NMI exiting",
        "virtual NMIs",
        "interrupt-window exiting",
        "TSC offsetting",
        "HLT exiting",
        "MWAIT exiting",
        "RDPMC exiting",
        "NMI-window exiting",
        "MOV-DR exiting",
        "unconditional I/O exiting",
        "use MSR bitmaps",
        "MONITOR exiting",
        "activate secondary controls",
        "enable EPT",
        "unrestricted guest",
        "save debug controls",
        "host address-space size",
        "acknowledge interrupt on exit",
        "save IA32_PAT",
        "exit: load IA32_PAT",
        "save IA32_EFER",
        "exit: load IA32_EFER",
        "load debug controls",
        "IA-32e mode guest",
        "entry: load IA32_PAT",
        "entry: load IA32_EFER",
    };
    struct vmx_capabilities c = capabilities_of(SKYLAKE_X);
    struct vmx_controls controls;
    unsigned n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        if (table[i].want == REQUIRED || table[i].want == RUNTIME) {
            assert_true(n < ARRAY_SIZE(needed));
            assert_string_equal(table[i].name, needed[n++]);
        }
    }
    assert_int_equal(n, ARRAY_SIZE(needed));

    assert_int_equal(vmx_controls_compute(&controls, &c, NULL, NULL), 0);
    assert_int_equal(controls.words[VMX_WORD_PIN], 0x7f);
    assert_int_equal(controls.words[VMX_WORD_PRIMARY], 0xb5006dfa);
    assert_int_equal(controls.words[VMX_WORD_SECONDARY], 0x001010ea);
    assert_int_equal(controls.words[VMX_WORD_TERTIARY], 0);
    assert_int_equal(controls.words[VMX_WORD_EXIT], 0x007fefff);
    assert_int_equal(controls.words[VMX_WORD_EXIT2], 0);
    assert_int_equal(controls.words[VMX_WORD_ENTRY], 0x0000d1ff);
}

/* Each single bit that is neither a control nor ignored: what stands in its way is named. */
static void other_capabilities(void **state)
{
    (void)state;
    const struct {
        uint32_t msr;
        uint64_t mask;
        const char *message;
    } removed[] = {
        {0x480, VMX_BASIC_TRUE_CONTROLS, "TRUE"},
        {0x480, (uint64_t)VMX_BASIC_TYPE_MASK << VMX_BASIC_TYPE_SHIFT, "write-back"},
        {0x48c, VMX_EPT_WALK_4, "four-level"},
        {0x48c, VMX_EPT_MEMORY_WB, "write-back"},
        {0x48c, VMX_EPT_INVEPT, "INVEPT"},
        {0x48c, VMX_EPT_INVEPT_SINGLE | VMX_EPT_INVEPT_ALL, "INVEPT"},
    };

    for (unsigned which = 0; which < PROCESSORS; which++) {
        for (size_t i = 0; runs(which) && i < ARRAY_SIZE(removed); i++) {
            struct vmx_capabilities c = capabilities_of(which);

            changed_value = processor_rdmsr(removed[i].msr) & ~removed[i].mask;
            changed_msr = removed[i].msr;
            vmx_capabilities_read(&c, &ops);
            assert_non_null(vmx_capabilities_obstacle(&c));
            assert_non_null(strstr(vmx_capabilities_obstacle(&c), removed[i].message));
        }
    }
}

/* Every control of a computed word is as the table and the processor say, and nothing else is 1. */
static void words(void **state)
{
    (void)state;
    for (unsigned which = 0; which < PROCESSORS; which++) {
        struct vmx_capabilities c = capabilities_of(which);
        struct vmx_controls controls;
        const char *culprit = NULL;
        uint64_t known[VMX_WORDS] = {0};

        if (!runs(which)) {
            assert_int_equal(vmx_controls_compute(&controls, &c, NULL, &culprit),
                             which == PENRYN ? -EBUSY : -EOPNOTSUPP);
            assert_non_null(culprit);
            continue;
        }
        assert_int_equal(vmx_controls_compute(&controls, &c, NULL, &culprit), 0);
        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
            bool have = controls.words[table[i].word] & table[i].mask;
            bool may = vmx_controls_may(&c, table[i].word) & table[i].mask;

            known[table[i].word] |= table[i].mask;
            assert_int_equal(have, table[i].want == REQUIRED || (table[i].want == PREFERRED && may));
        }
        for (unsigned word = 0; word < VMX_WORDS; word++) {
            uint64_t must = vmx_controls_must(&c, word), may = vmx_controls_may(&c, word);

            assert_int_equal(controls.words[word] & ~may, 0);
            assert_int_equal(must & ~controls.words[word], 0);
            assert_int_equal(controls.words[word] & ~known[word], must & ~known[word]);
        }
    }
}

/* Each control taken away in turn: an obstacle that names it, or the same words without it and what hangs on
 * it. */
static void each_control_removed(void **state)
{
    (void)state;
    for (unsigned which = 0; which < PROCESSORS; which++) {
        for (size_t i = 0; runs(which) && i < ARRAY_SIZE(table); i++) {
            struct vmx_capabilities c = capabilities_of(which);
            struct vmx_controls before, after;
            const char *culprit = NULL;
            const char *obstacle;
            int error;

            assert_int_equal(vmx_controls_compute(&before, &c, NULL, NULL), 0);
            if (table[i].word == VMX_WORD_TERTIARY || table[i].word == VMX_WORD_EXIT2)
                c.controls[table[i].word] &= ~(uint64_t)table[i].mask;
            else
                c.controls[table[i].word] &= ~((uint64_t)table[i].mask << 32);
            obstacle = vmx_capabilities_obstacle(&c);
            error = vmx_controls_compute(&after, &c, NULL, &culprit);

            assert_int_equal(obstacle == NULL, error == 0);
            if (table[i].want == REQUIRED || table[i].want == RUNTIME) {
                assert_int_equal(error, -EOPNOTSUPP);
                assert_string_equal(culprit, table[i].name);
                if (table[i].mask == VMX_SECONDARY_EPT && table[i].word == VMX_WORD_SECONDARY)
                    assert_non_null(strstr(obstacle, "shadow paging"));
                else
                    assert_non_null(strstr(obstacle, table[i].name));
                continue;
            }
            assert_int_equal(error, 0);
            before.words[table[i].word] &= ~(uint64_t)table[i].mask;
            if (table[i].word == VMX_WORD_PIN && table[i].mask == VMX_PIN_PREEMPTION_TIMER)
                before.words[VMX_WORD_EXIT] &= ~(uint64_t)VMX_EXIT_SAVE_PREEMPTION_TIMER;
            assert_memory_equal(&before, &after, sizeof(before));
        }
    }
}

/* Each control forced on: accepted if wanted, else named as an obstacle. */
static void each_control_forced(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct vmx_capabilities c = capabilities_of(TIGER_LAKE);
        bool welcome = table[i].want == REQUIRED || table[i].want == PREFERRED;
        struct vmx_controls controls;
        const char *culprit = NULL;

        if (table[i].word == VMX_WORD_TERTIARY || table[i].word == VMX_WORD_EXIT2)
            continue;
        c.controls[table[i].word] |= (uint64_t)table[i].mask << 32 | table[i].mask;
        assert_int_equal(vmx_controls_compute(&controls, &c, NULL, &culprit), welcome ? 0 : -EBUSY);
        assert_int_equal(vmx_capabilities_obstacle(&c) == NULL, welcome);
        if (!welcome) {
            assert_string_equal(culprit, table[i].name);
            assert_non_null(strstr(vmx_capabilities_obstacle(&c), "insists on"));
        }
    }
}

static void demands(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct vmx_capabilities c = capabilities_of(SKYLAKE_X);
        bool may = vmx_controls_may(&c, table[i].word) & table[i].mask;
        struct vmx_demands demand = {{0}};
        struct vmx_controls controls;
        int error;

        demand.words[table[i].word] = table[i].mask;
        error = vmx_controls_compute(&controls, &c, &demand, NULL);
        assert_int_equal(error, table[i].want != DEMANDED ? -EINVAL : may ? 0 : -EOPNOTSUPP);
        if (error == 0)
            assert_true(vmx_controls_have(&controls, table[i].word, table[i].mask));
    }
}

static void vpid_needs_invvpid(void **state)
{
    (void)state;
    struct vmx_capabilities c = capabilities_of(SKYLAKE_X);
    struct vmx_controls controls;

    assert_int_equal(vmx_controls_compute(&controls, &c, NULL, NULL), 0);
    assert_true(vmx_controls_have(&controls, VMX_WORD_SECONDARY, VMX_SECONDARY_VPID));
    c.ept_vpid &= ~VMX_VPID_INVVPID;
    assert_int_equal(vmx_controls_compute(&controls, &c, NULL, NULL), 0);
    assert_false(vmx_controls_have(&controls, VMX_WORD_SECONDARY, VMX_SECONDARY_VPID));
    c.ept_vpid |= VMX_VPID_INVVPID;
    c.ept_vpid &= ~(VMX_VPID_INVVPID_SINGLE | VMX_VPID_INVVPID_ALL);
    assert_int_equal(vmx_controls_compute(&controls, &c, NULL, NULL), 0);
    assert_false(vmx_controls_have(&controls, VMX_WORD_SECONDARY, VMX_SECONDARY_VPID));
}

static void in_words(void **state)
{
    (void)state;
    struct vmx_capabilities c = capabilities_of(SKYLAKE_X);
    unsigned total = 0, present_count = 0, execute_only = 0;
    bool present;

    for (const char *name; (name = vmx_capabilities_describe(&c, total, &present)) != NULL; total++) {
        assert_true(strlen(name) > 0);
        present_count += present;
        if (strcmp(name, "EPT: execute-only pages") == 0)
            execute_only += present ? 1 : 100;
        if (strcmp(name, "EPT: five levels") == 0 || strcmp(name, "VMCS shadowing") == 0)
            assert_false(present);
    }
    assert_int_equal(execute_only, 1);
    assert_true(total > VMX_CONTROL_ROWS && present_count > 50 && present_count < total);
    for (unsigned row = 0; row < VMX_CONTROL_ROWS; row++)
        assert_true(strlen(vmx_control_name(row)) > 0 && strlen(vmx_control_reason(row)) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(obstacles),
        cmocka_unit_test(written_down),
        cmocka_unit_test(other_capabilities),
        cmocka_unit_test(words),
        cmocka_unit_test(each_control_removed),
        cmocka_unit_test(each_control_forced),
        cmocka_unit_test(demands),
        cmocka_unit_test(vpid_needs_invvpid),
        cmocka_unit_test(in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
