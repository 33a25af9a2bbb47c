// SPDX-License-Identifier: BSD-2-Clause
/*
 * vmx/fields.c and vmx/reasons.c. Fails when an encoding's width or class bits differ from the declared
 * columns, when two fields share an encoding, when a lookup finds anything but the field that was asked for,
 * or when a field is said to exist on a processor that lacks what it is for.
 */
#include "vmx/fields.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/processors.h"
#include "vmx/reasons.h"

static const struct {
    uint32_t encoding;
    const char *name, *width, *class;
} table[] = {
#define X(ENCODING, NAME, WIDTH, CLASS, EXISTENCE) {ENCODING, #NAME, #WIDTH, #CLASS},
    VMCS_FIELDS(X)
#undef X
};

static void columns(void **state)
{
    (void)state;
    static const char *const widths[] = {"16", "64", "32", "NATURAL"};
    static const char *const classes[] = {"CONTROL", "INFORMATION", "GUEST", "HOST"};
    static const uint64_t masks[] = {0xffff, ~0ULL, 0xffffffff, ~0ULL};

    assert_int_equal(ARRAY_SIZE(table), VMCS_FIELD_COUNT);
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        struct vmcs_field field = vmcs_field_at(i);

        assert_int_equal(field.encoding, table[i].encoding);
        assert_int_equal(field.index, i);
        assert_string_equal(vmcs_field_name(field), table[i].name);
        assert_string_equal(widths[vmcs_field_width(field)], table[i].width);
        assert_string_equal(classes[vmcs_field_class(field)], table[i].class);
        assert_int_equal(vmcs_width_mask(vmcs_field_width(field)), masks[vmcs_field_width(field)]);
        if (i > 0)
            assert_true(table[i - 1].encoding < table[i].encoding);
    }
    assert_int_equal(VMCS_GUEST_RIP.encoding, 0x681e);
    assert_int_equal(VMCS_GUEST_RIP.index, VMCS_INDEX_GUEST_RIP);
}

/* All 2^16 encodings and some beyond, against a search of the table. */
static void lookup(void **state)
{
    (void)state;
    unsigned found = 0;

    for (uint64_t encoding = 0; encoding < 0x20000; encoding++) {
        struct vmcs_field field = {0xffff, 0xffff};
        bool high = false, expected_high = false;
        const char *expected = NULL;

        for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
            if (table[i].encoding == encoding)
                expected = table[i].name;
            if (table[i].encoding + 1 == encoding && strcmp(table[i].width, "64") == 0) {
                expected = table[i].name;
                expected_high = true;
            }
        }
        assert_int_equal(vmcs_field_find(encoding, &field, &high), expected != NULL);
        if (expected != NULL) {
            assert_string_equal(vmcs_field_name(field), expected);
            assert_int_equal(high, expected_high);
            found++;
        }
    }
    assert_true(found > VMCS_FIELD_COUNT);

    struct vmcs_field field;
    bool high;
    assert_false(vmcs_field_find(0x10000681eULL, &field, &high));
}

static bool exists(struct vmcs_field field, unsigned which)
{
    static const struct vmx_msr_ops ops = {processor_rdmsr, processor_cpuid};
    struct vmx_capabilities c;

    processor = &processors[which];
    changed_msr = 0;
    vmx_capabilities_read(&c, &ops);
    return vmcs_field_exists(field, &c);
}

static void existence(void **state)
{
    (void)state;
    assert_true(exists(VMCS_GUEST_RIP, PENRYN));
    assert_false(exists(VMCS_EPT_POINTER, PENRYN));
    assert_true(exists(VMCS_EPT_POINTER, LYNNFIELD));
    assert_false(exists(VMCS_GUEST_PAT, PENRYN));
    assert_true(exists(VMCS_GUEST_PAT, SANDY_BRIDGE));
    assert_false(exists(VMCS_PREEMPTION_TIMER_VALUE, PENRYN));
    assert_false(exists(VMCS_VMREAD_BITMAP, SKYLAKE_X));
    assert_true(exists(VMCS_VMREAD_BITMAP, KVM_NESTED));
    assert_true(exists(VMCS_EPTP_LIST_ADDRESS, SKYLAKE_X));
    assert_false(exists(VMCS_EPTP_LIST_ADDRESS, SANDY_BRIDGE));
    assert_true(exists(VMCS_TERTIARY_CONTROLS, TIGER_LAKE));
    assert_false(exists(VMCS_TERTIARY_CONTROLS, SKYLAKE_X));
    assert_true(exists(VMCS_GUEST_SSP, TIGER_LAKE));
    assert_false(exists(VMCS_HOST_FRED_RSP1, TIGER_LAKE));
    for (unsigned which = 0; which < PROCESSORS; which++) {
        for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
            struct vmcs_field field = vmcs_field_at(i);

            /* IA32_VMX_VMCS_ENUM gives the highest index that any field has; newer fields need newer
             * processors. */
            if (exists(field, which) && which != TIGER_LAKE)
                assert_true((field.encoding & 0x3fe) <= 0x2e || vmcs_field_width(field) == VMCS_WIDTH_64);
        }
    }
}

static void reasons(void **state)
{
    (void)state;
    assert_int_equal(EXIT_REASON_COUNT, 78);
    for (unsigned a = 0; a < EXIT_REASON_COUNT; a++) {
        assert_true(strlen(vmx_exit_reason_name(a)) > 1);
        for (unsigned b = 0; b < a; b++)
            assert_string_not_equal(vmx_exit_reason_name(a), vmx_exit_reason_name(b));
    }
    assert_string_equal(vmx_exit_reason_name(EXIT_REASON_EPT_VIOLATION), "EPT violation");
    assert_int_equal(EXIT_REASON_EPT_VIOLATION, 48);
    assert_string_equal(vmx_exit_reason_name(EXIT_REASON_COUNT), "unknown exit reason");
    assert_string_equal(vmx_exit_reason_name(~0u), "unknown exit reason");
    assert_string_equal(vmx_instruction_error_text(7), "VM entry with invalid control field(s)");
    assert_string_equal(vmx_instruction_error_text(VM_ERROR_INVEPT_INVVPID_OPERAND),
                        "invalid operand to INVEPT/INVVPID");
    for (unsigned n = 0; n < 40; n++) {
        bool has_none = n == 0 || n == 14 || n == 21 || n == 27 || n > 28;

        assert_int_equal(strcmp(vmx_instruction_error_text(n), "unknown VM-instruction error") == 0,
                         has_none);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns),
        cmocka_unit_test(lookup),
        cmocka_unit_test(existence),
        cmocka_unit_test(reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
