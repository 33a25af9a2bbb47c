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

/* What each of the recorded ones can: by hand. */
static const struct {
    bool ept, unrestricted, efer;
} can[PROCESSORS] = {
    [PENRYN] = {false, false, false}, [LYNNFIELD] = {true, false, true}, [SANDY_BRIDGE] = {true, true, true},
    [SKYLAKE_X] = {true, true, true}, [TIGER_LAKE] = {true, true, true}, [KVM_NESTED] = {true, true, true},
};

/* What the three instances of the CR table demand, by hand: policy_register_demand is tested elsewhere. */
enum { UNRESTRICTED, RESTRICTED, SHADOW, INSTANCES };
static const struct vmx_demands instances[INSTANCES] = {
    [UNRESTRICTED].words = {[VMX_WORD_PRIMARY] = BIT(21), [VMX_WORD_SECONDARY] = BIT(1) | BIT(7)},
    [RESTRICTED].words = {[VMX_WORD_PRIMARY] = BIT(21), [VMX_WORD_SECONDARY] = BIT(1)},
    [SHADOW].words = {[VMX_WORD_PRIMARY] = BIT(9) | BIT(15) | BIT(16) | BIT(21)},
};

static bool runs(unsigned which, unsigned instance)
{
    return instance == SHADOW || (instance == RESTRICTED ? can[which].ept : can[which].unrestricted);
}

static bool is_demanded(unsigned instance, enum vmx_word word, uint32_t mask)
{
    return (instances[instance].words[word] & mask) != 0;
}

/* The table once more, with its wants as numbers, written independently of the implementation's reading of
 * it. */
enum { REQUIRED, PREFERRED, DEMANDED, BY_REGIME, RUNTIME, BY_MODE, NEVER };
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
    struct vmx_capabilities c;

    for (unsigned i = 0; i < PROCESSORS; i++) {
        c = capabilities_of(i);
        assert_null(vmx_capabilities_obstacle(&c));
        assert_int_equal(vmx_capabilities_have_ept(&c), can[i].ept);
        assert_int_equal(vmx_capabilities_have_unrestricted_guest(&c), can[i].unrestricted);
        assert_int_equal(vmx_capabilities_switch_efer(&c), can[i].efer);
        assert_true(vmx_capabilities_have_shadow(&c));
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
        "save debug controls",
        "host address-space size",
        "acknowledge interrupt on exit",
        "load debug controls",
        "IA-32e mode guest",
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

    static const uint64_t words[INSTANCES][VMX_WORDS] = {
        [UNRESTRICTED] = {0x7f, 0xb5206dfa, 0x001010ea, 0, 0x007fefff, 0, 0x0000d1ff},
        [RESTRICTED] = {0x7f, 0xb5206dfa, 0x0010106a, 0, 0x007fefff, 0, 0x0000d1ff},
        [SHADOW] = {0x7f, 0xb521effa, 0x00101068, 0, 0x007fefff, 0, 0x0000d1ff},
    };
    for (unsigned i = 0; i < INSTANCES; i++) {
        assert_int_equal(vmx_controls_compute(&controls, &c, &instances[i], NULL), 0);
        for (unsigned word = 0; word < VMX_WORDS; word++)
            assert_int_equal(controls.words[word], words[i][word]);
    }

    /* And of a Penryn, which has but one. */
    static const uint64_t penryn[VMX_WORDS] = {0x3f, 0xb521effa, 0x40, 0, 0x3efff, 0, 0x11ff};
    c = capabilities_of(PENRYN);
    assert_int_equal(vmx_controls_compute(&controls, &c, &instances[SHADOW], NULL), 0);
    for (unsigned word = 0; word < VMX_WORDS; word++)
        assert_int_equal(controls.words[word], penryn[word]);
}

/* Each single bit that is not a control and that EPT needs: without it there is shadow paging. */
static void other_capabilities(void **state)
{
    (void)state;
    static const struct {
        uint32_t msr;
        uint64_t mask;
    } removed[] = {
        {0x480, VMX_BASIC_TRUE_CONTROLS}, /* then exits by CR3 are insisted on */
        {0x48c, VMX_EPT_WALK_4},          {0x48c, VMX_EPT_MEMORY_WB},
        {0x48c, VMX_EPT_INVEPT},          {0x48c, VMX_EPT_INVEPT_SINGLE | VMX_EPT_INVEPT_ALL},
    };

    for (unsigned which = 0; which < PROCESSORS; which++) {
        for (size_t i = 0; can[which].ept && i < ARRAY_SIZE(removed); i++) {
            struct vmx_capabilities c = capabilities_of(which);
            struct vmx_controls controls;

            changed_value = processor_rdmsr(removed[i].msr) & ~removed[i].mask;
            changed_msr = removed[i].msr;
            vmx_capabilities_read(&c, &ops);
            assert_null(vmx_capabilities_obstacle(&c));
            assert_false(vmx_capabilities_have_ept(&c));
            assert_false(vmx_capabilities_have_unrestricted_guest(&c));
            assert_true(vmx_capabilities_have_shadow(&c));
            assert_int_equal(vmx_controls_compute(&controls, &c, &instances[SHADOW], NULL), 0);
            c.controls[VMX_WORD_PRIMARY] &= ~(BIT(9) << 32);
            assert_non_null(strstr(vmx_capabilities_obstacle(&c), "neither EPT"));
        }
        struct vmx_capabilities c = capabilities_of(which);
        changed_value = processor_rdmsr(0x480) & ~((uint64_t)VMX_BASIC_TYPE_MASK << VMX_BASIC_TYPE_SHIFT);
        changed_msr = 0x480;
        vmx_capabilities_read(&c, &ops);
        assert_non_null(strstr(vmx_capabilities_obstacle(&c), "write-back"));
    }
}

/* Every control of a computed word is as the table, the demands and the processor say, and nothing else is 1.
 */
static void words_of(unsigned which, unsigned instance)
{
    struct vmx_capabilities c = capabilities_of(which);
    struct vmx_controls controls;
    const char *culprit = NULL;
    uint64_t known[VMX_WORDS] = {0};
    int error = vmx_controls_compute(&controls, &c, &instances[instance], &culprit);

    if (!runs(which, instance)) {
        assert_true(error == -EOPNOTSUPP || error == -EBUSY);
        assert_non_null(culprit);
        return;
    }
    assert_int_equal(error, 0);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        bool have = controls.words[table[i].word] & table[i].mask;
        bool may = vmx_controls_may(&c, table[i].word) & table[i].mask;

        known[table[i].word] |= table[i].mask;
        assert_int_equal(have, table[i].want == REQUIRED || (table[i].want == PREFERRED && may) ||
                                   is_demanded(instance, table[i].word, table[i].mask));
    }
    for (unsigned word = 0; word < VMX_WORDS; word++) {
        uint64_t must = vmx_controls_must(&c, word), may = vmx_controls_may(&c, word);

        assert_int_equal(controls.words[word] & ~may, 0);
        assert_int_equal(must & ~controls.words[word], 0);
        assert_int_equal(controls.words[word] & ~known[word], must & ~known[word]);
    }
}

static void words(void **state)
{
    (void)state;
    for (unsigned which = 0; which < PROCESSORS; which++)
        for (unsigned instance = 0; instance < INSTANCES; instance++)
            words_of(which, instance);
}

/* IA32_EFER's or IA32_PAT's three controls: if one of them is missing, none is used, and there is no EPT. */
static const struct {
    enum vmx_word word;
    uint32_t mask;
    uint32_t exit, entry; /* all three */
} switching[] = {
    {VMX_WORD_EXIT, BIT(18), BIT(18) | BIT(19), BIT(14)},
    {VMX_WORD_EXIT, BIT(19), BIT(18) | BIT(19), BIT(14)},
    {VMX_WORD_ENTRY, BIT(14), BIT(18) | BIT(19), BIT(14)},
    {VMX_WORD_EXIT, BIT(20), BIT(20) | BIT(21), BIT(15)},
    {VMX_WORD_EXIT, BIT(21), BIT(20) | BIT(21), BIT(15)},
    {VMX_WORD_ENTRY, BIT(15), BIT(20) | BIT(21), BIT(15)},
};

static bool is_switching(size_t row, size_t *place)
{
    for (*place = 0; *place < ARRAY_SIZE(switching); (*place)++)
        if (switching[*place].word == table[row].word && switching[*place].mask == table[row].mask)
            return true;
    return false;
}

static void remove_control(struct vmx_capabilities *c, size_t row)
{
    bool wide = table[row].word == VMX_WORD_TERTIARY || table[row].word == VMX_WORD_EXIT2;

    c->controls[table[row].word] &= ~((uint64_t)table[row].mask << (wide ? 0 : 32));
}

/* One control taken away: an error that names it, or the same words without it and what hangs on it. */
static void removed_from(unsigned which, unsigned instance, size_t row)
{
    struct vmx_capabilities c = capabilities_of(which);
    struct vmx_controls before, after;
    const char *culprit = NULL;
    bool had = vmx_controls_may(&c, table[row].word) & table[row].mask;
    size_t place;

    assert_int_equal(vmx_controls_compute(&before, &c, &instances[instance], NULL), 0);
    remove_control(&c, row);
    int error = vmx_controls_compute(&after, &c, &instances[instance], &culprit);

    if (table[row].want == REQUIRED || table[row].want == RUNTIME ||
        is_demanded(instance, table[row].word, table[row].mask) ||
        (instance != SHADOW && is_switching(row, &place) && had)) {
        assert_int_equal(error, -EOPNOTSUPP);
        assert_string_equal(culprit, table[row].name);
        return;
    }
    assert_int_equal(error, 0);
    before.words[table[row].word] &= ~(uint64_t)table[row].mask;
    if (table[row].word == VMX_WORD_PIN && table[row].mask == VMX_PIN_PREEMPTION_TIMER)
        before.words[VMX_WORD_EXIT] &= ~(uint64_t)VMX_EXIT_SAVE_PREEMPTION_TIMER;
    if (is_switching(row, &place)) {
        before.words[VMX_WORD_EXIT] &= ~(uint64_t)switching[place].exit;
        before.words[VMX_WORD_ENTRY] &= ~(uint64_t)switching[place].entry;
    }
    assert_memory_equal(&before, &after, sizeof(before));
}

/*
 * Each control taken away in turn, from every processor in each way of running: an obstacle only where
 * nothing can run any more, else what is left agrees with what is said to be left.
 */
static void each_control_removed(void **state)
{
    (void)state;
    for (unsigned which = 0; which < PROCESSORS; which++) {
        for (size_t row = 0; row < ARRAY_SIZE(table); row++) {
            struct vmx_capabilities c = capabilities_of(which);
            struct vmx_controls controls;
            bool can_run[INSTANCES];

            for (unsigned instance = 0; instance < INSTANCES; instance++)
                if (runs(which, instance))
                    removed_from(which, instance, row);
            remove_control(&c, row);
            const char *obstacle = vmx_capabilities_obstacle(&c);
            if (table[row].want == REQUIRED || table[row].want == RUNTIME) {
                assert_non_null(strstr(obstacle, table[row].name));
                continue;
            }
            for (unsigned i = 0; i < INSTANCES; i++) {
                struct vmx_demands demands = instances[i];

                demands.words[VMX_WORD_PRIMARY] &= ~BIT(21); /* the TPR shadow is a policy */
                can_run[i] = vmx_controls_compute(&controls, &c, &demands, NULL) == 0;
            }
            assert_int_equal(vmx_capabilities_have_ept(&c), can_run[RESTRICTED]);
            assert_int_equal(vmx_capabilities_have_unrestricted_guest(&c), can_run[UNRESTRICTED]);
            assert_int_equal(vmx_capabilities_have_shadow(&c), can_run[SHADOW]);
            assert_int_equal(obstacle == NULL, can_run[RESTRICTED] || can_run[SHADOW]);
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
        if (!welcome)
            assert_string_equal(culprit, table[i].name);
        if (table[i].want == BY_REGIME) {
            /* One regime is left: the one that wants it. */
            assert_null(vmx_capabilities_obstacle(&c));
            assert_int_equal(vmx_capabilities_have_ept(&c), table[i].word == VMX_WORD_SECONDARY);
            assert_int_equal(vmx_capabilities_have_shadow(&c), table[i].word == VMX_WORD_PRIMARY);
            continue;
        }
        assert_int_equal(vmx_capabilities_obstacle(&c) == NULL, welcome);
        if (!welcome)
            assert_non_null(strstr(vmx_capabilities_obstacle(&c), "insists on"));
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

        bool demandable = table[i].want == DEMANDED || table[i].want == BY_REGIME;

        demand.words[table[i].word] = table[i].mask;
        if (demandable && table[i].word == VMX_WORD_SECONDARY)
            demand.words[VMX_WORD_SECONDARY] |= BIT(1); /* some hang on EPT */
        error = vmx_controls_compute(&controls, &c, &demand, NULL);
        assert_int_equal(error, !demandable ? -EINVAL : may ? 0 : -EOPNOTSUPP);
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
