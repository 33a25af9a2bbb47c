// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/vdev/acpi.c: an ACPI reader of its own (offsets from the specification, nothing of the writer's) walks
 * all tables from the RSDP, as an operating system does.
 */
#include "core/vdev/acpi.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/vdev/acpi_pm.h"
#include "lib/errors.h"
#include "lib/string.h"

#define FILL 0xcc

static uint8_t memory[ACPI_TABLES_SIZE] __aligned(16);
static gpa_t base;
static size_t used;

static uint64_t number(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

/* The memory at guest address `address`, which must be in what was used. */
static const uint8_t *at(uint64_t address, size_t length)
{
    assert_in_range(address, base.value, base.value + used);
    assert_in_range(address + length, base.value, base.value + used);
    return memory + (address - base.value);
}

static uint8_t sum(const uint8_t *bytes, size_t length)
{
    uint8_t total = 0;

    for (size_t i = 0; i < length; i++)
        total = (uint8_t)(total + bytes[i]);
    return total;
}

/* The table at `address`; its header checked. */
static const uint8_t *table(uint64_t address, const char *signature, unsigned revision)
{
    const uint8_t *header = at(address, 36);
    size_t length = number(header + 4, 4);

    assert_memory_equal(header, signature, 4);
    assert_true(length >= 36);
    assert_int_equal(sum(at(address, length), length), 0);
    assert_int_equal(header[8], revision);
    return header;
}

static void build(unsigned vcpus, uint64_t where)
{
    const struct acpi_settings settings = {.vcpus = vcpus};
    gpa_t rsdp = GPA(0);
    int result;

    memset(memory, FILL, sizeof(memory));
    result = acpi_build(&settings, memory, sizeof(memory), GPA(where), &rsdp);
    assert_true(result > 0);
    used = (size_t)result;
    base = GPA(where);
    assert_int_equal(rsdp.value, where);
    assert_int_equal(memory[used], FILL);
}

/* Table `index` of the XSDT, which must be that of the RSDT too. */
static uint64_t root_entry(unsigned index)
{
    const uint8_t *rsdp = at(base.value, 36);
    const uint8_t *rsdt, *xsdt;

    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(sum(rsdp, 36), 0);
    assert_int_equal(rsdp[15], 2);
    assert_int_equal(number(rsdp + 20, 4), 36);
    assert_int_equal(base.value % 16, 0);

    rsdt = table(number(rsdp + 16, 4), "RSDT", 1);
    xsdt = table(number(rsdp + 24, 8), "XSDT", 1);
    assert_int_equal(number(rsdt + 4, 4), 36 + 3 * 4);
    assert_int_equal(number(xsdt + 4, 4), 36 + 3 * 8);
    assert_int_equal(number(rsdt + 36 + 4 * index, 4), number(xsdt + 36 + 8 * index, 8));
    return number(xsdt + 36 + 8 * index, 8);
}

static void assert_io(const uint8_t *gas, unsigned bits, unsigned access, uint16_t port)
{
    assert_int_equal(gas[0], port ? 1 : 0);
    assert_int_equal(gas[1], bits);
    assert_int_equal(gas[2], 0);
    assert_int_equal(gas[3], access);
    assert_int_equal(number(gas + 4, 8), port);
}

/* Fails when a field of the FADT contradicts the board, or its 32-bit and 64-bit halves each other. */
static void fadt(void **state)
{
    const uint8_t *t, *facs;

    (void)state;
    build(1, ACPI_TABLES_BASE);
    t = table(root_entry(0), "FACP", 6);
    assert_int_equal(number(t + 4, 4), 276);
    assert_int_equal(t[131], 3);

    facs = at(number(t + 36, 4), 64);
    assert_memory_equal(facs, "FACS", 4);
    assert_int_equal(number(facs + 4, 4), 64);
    assert_int_equal(number(t + 36, 4) % 64, 0);
    assert_int_equal(number(t + 132, 8), 0);
    table(number(t + 40, 4), "DSDT", 2);
    assert_int_equal(number(t + 40, 4), number(t + 140, 8));

    assert_int_equal(number(t + 46, 2), 9); /* SCI_INT */
    assert_int_equal(number(t + 48, 8), 0); /* SMI_CMD and what is written there: always ACPI mode */
    assert_int_equal(number(t + 56, 4), ACPI_PM_BASE);
    assert_int_equal(number(t + 60, 4), 0);
    assert_int_equal(number(t + 64, 4), ACPI_PM_CONTROL);
    assert_int_equal(number(t + 68, 8), 0);
    assert_int_equal(number(t + 76, 4), ACPI_PM_TIMER);
    assert_int_equal(number(t + 80, 8), 0);            /* no general-purpose events */
    assert_int_equal(number(t + 88, 8), 0x0004000204); /* lengths: event 4, control 2, none, timer 4 */
    assert_true(number(t + 96, 2) > 100);              /* no C2 */
    assert_true(number(t + 98, 2) > 1000);             /* no C3 */
    assert_int_equal(t[108], 0x32);                    /* century */
    assert_int_equal(number(t + 109, 2), 0x0005);      /* legacy devices, no 8042, no VGA, an RTC */
    assert_int_equal(number(t + 112, 4), 0x1525);
    assert_io(t + 116, 8, 1, ACPI_PM_RESET);
    assert_int_equal(t[128], ACPI_PM_RESET_NOW);
    assert_io(t + 148, 32, 2, ACPI_PM_BASE);
    assert_io(t + 160, 0, 0, 0);
    assert_io(t + 172, 16, 2, ACPI_PM_CONTROL);
    assert_io(t + 184, 0, 0, 0);
    assert_io(t + 196, 0, 0, 0);
    assert_io(t + 208, 32, 3, ACPI_PM_TIMER);
    for (unsigned offset = 220; offset < 268; offset += 12)
        assert_io(t + offset, 0, 0, 0);
    assert_memory_equal(t + 268, "UMBRA\0\0\0", 8);
}

/* Fails when a processor, the IO-APIC, an override or the NMI line is missing, twice there, or wrong. */
static void madt(void **state)
{
    static const unsigned counts[] = {1, 2, 32, 255, 256, 300};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
        const uint8_t *t, *entry;
        unsigned seen[16] = {0};
        unsigned vcpus = 0;

        build(counts[i], ACPI_TABLES_BASE);
        t = table(root_entry(1), "APIC", 5);
        assert_int_equal(number(t + 36, 4), 0xfee00000);
        assert_int_equal(number(t + 40, 4), 1);
        for (entry = t + 44; entry < t + number(t + 4, 4); entry += entry[1]) {
            static const uint8_t timer[] = {2, 10, 0, 0, 2, 0, 0, 0, 0, 0};
            static const uint8_t sci[] = {2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0};
            static const uint8_t io_apic[] = {1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0};
            static const uint8_t nmi[] = {4, 6, 0xff, 0, 0, 1};
            static const uint8_t x2apic_nmi[] = {10, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0};

            assert_true(entry[1] >= 6);
            switch (entry[0]) {
            case 0:
                assert_int_equal(entry[1], 8);
                assert_true(vcpus < 255);
                assert_int_equal(entry[2], vcpus);
                assert_int_equal(entry[3], vcpus++);
                assert_int_equal(number(entry + 4, 4), 1);
                break;
            case 1:
                assert_memory_equal(entry, io_apic, 12);
                break;
            case 2:
                assert_memory_equal(entry, seen[2] ? sci : timer, 10);
                break;
            case 4:
                assert_memory_equal(entry, nmi, 6);
                break;
            case 9:
                assert_int_equal(entry[1], 16);
                assert_true(vcpus >= 255);
                assert_int_equal(number(entry + 2, 2), 0);
                assert_int_equal(number(entry + 4, 4), vcpus);
                assert_int_equal(number(entry + 8, 4), 1);
                assert_int_equal(number(entry + 12, 4), vcpus++);
                break;
            case 10:
                assert_memory_equal(entry, x2apic_nmi, 12);
                break;
            default:
                fail();
            }
            seen[entry[0]]++;
        }
        assert_ptr_equal(entry, t + number(t + 4, 4));
        assert_int_equal(vcpus, counts[i]);
        assert_int_equal(seen[1], 1);
        assert_int_equal(seen[2], 2);
        assert_int_equal(seen[4], 1);
        assert_int_equal(seen[10], counts[i] > 255);
    }
}

/* Fails when the SSDT does not name each processor once, with the number that the MADT knows it by. */
static void processors(void **state)
{
    const uint8_t *t, *aml, *end;
    unsigned count = 0;

    (void)state;
    build(300, ACPI_TABLES_BASE);
    t = table(root_entry(2), "SSDT", 2);
    end = t + number(t + 4, 4);
    for (aml = t + 36; aml < end; aml += 2 + aml[2]) {
        char name[] = "\\._SB_C000";

        name[1] = 0x2e;
        name[7] = "0123456789ABCDEF"[count >> 8];
        name[8] = "0123456789ABCDEF"[count >> 4 & 15];
        name[9] = "0123456789ABCDEF"[count & 15];
        assert_int_equal(number(aml, 2), 0x825b); /* DeviceOp */
        assert_int_equal(aml[2], 34);
        assert_memory_equal(aml + 3, name, 10);
        assert_memory_equal(aml + 13,
                            "\x08_HID\x0d"
                            "ACPI0007",
                            15);
        assert_memory_equal(aml + 28, "\x08_UID\x0b", 6);
        assert_int_equal(number(aml + 34, 2), count++);
    }
    assert_ptr_equal(aml, end);
    assert_int_equal(count, 300);
}

/* Fails when a table overlaps another or stands where it may not: each is as aligned as its fields, in any
 * place. */
static void places(void **state)
{
    static const uint64_t bases[] = {ACPI_TABLES_BASE, 0x1000, 0xf0040, 0xbffe0000};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(bases); i++) {
        const uint8_t *rsdp, *facp;
        uint64_t address[8];
        uint64_t length[8];

        build(3, bases[i]);
        rsdp = at(base.value, 36);
        facp = at(root_entry(0), 276);
        address[0] = base.value;
        length[0] = 36;
        address[1] = number(facp + 36, 4);
        address[2] = number(facp + 40, 4);
        for (unsigned k = 0; k < 3; k++)
            address[3 + k] = root_entry(k);
        address[6] = number(rsdp + 16, 4);
        address[7] = number(rsdp + 24, 8);
        for (unsigned k = 1; k < 8; k++) {
            length[k] = number(at(address[k], 8) + 4, 4);
            assert_int_equal(address[k] % 8, 0);
            for (unsigned j = 0; j < k; j++)
                assert_true(address[k] >= address[j] + length[j] || address[j] >= address[k] + length[k]);
        }
        assert_int_equal(address[7] + length[7], base.value + used);
    }
}

/* Fails when too small a buffer is written beyond its end or not refused, or nonsense is taken. */
static void refusals(void **state)
{
    const struct acpi_settings none = {.vcpus = 0}, one = {.vcpus = 1}, many = {.vcpus = 5000};
    const struct acpi_settings big = {.vcpus = 4096};
    gpa_t rsdp = GPA(1);

    (void)state;
    build(1, ACPI_TABLES_BASE);
    for (size_t size = 0; size < used; size++) {
        memset(memory, FILL, used + 1);
        assert_int_equal(acpi_build(&one, memory, size, GPA(ACPI_TABLES_BASE), &rsdp), -ENOSPC);
        for (size_t i = size; i <= used; i++)
            assert_int_equal(memory[i], FILL);
    }
    assert_int_equal(acpi_build(&big, memory, sizeof(memory), GPA(ACPI_TABLES_BASE), &rsdp), -ENOSPC);
    assert_int_equal(acpi_build(&none, memory, sizeof(memory), GPA(ACPI_TABLES_BASE), &rsdp), -EINVAL);
    assert_int_equal(acpi_build(&many, memory, sizeof(memory), GPA(ACPI_TABLES_BASE), &rsdp), -EINVAL);
    assert_int_equal(acpi_build(&one, memory, sizeof(memory), GPA(ACPI_TABLES_BASE + 16), &rsdp), -EINVAL);
    assert_int_equal(acpi_build(&one, memory, sizeof(memory), GPA(GIB(4)), &rsdp), -EINVAL);
    assert_int_equal(acpi_build(&one, memory, sizeof(memory), GPA(GIB(4) - 4096), &rsdp), -EINVAL);
    assert_int_equal(rsdp.value, 1);
    assert_int_equal(acpi_build(&one, memory, used, GPA(ACPI_TABLES_BASE), &rsdp), (int)used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fadt),   cmocka_unit_test(madt),     cmocka_unit_test(processors),
        cmocka_unit_test(places), cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
