// SPDX-License-Identifier: BSD-2-Clause
/*
 * Protection keys of user pages (SDM vol. 3, "Protection Keys"; vol. 1, "Managing state using XSAVE"): what
 * offers them and where their instructions fault; that each change of PKRU, which no hypervisor sees, counts
 * at the next access, CR4.PKE and CR0.WP too; and that PKRU is a state component. What rights come of keys in
 * each paging structure is the access matrix' (matrix.c). Where there are no keys, the rows say that.
 *
 * Left out, as in the matrix: supervisor accesses that AD forbids, which Bochs 2.7 lets pass, and keys of
 * supervisor pages, which it does not ignore: so nothing is denied to key 0 either.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/space.h"

#define PKRU        9 /* state component */
#define KEY(key)    ((uint64_t)(key) << 59)
#define AD(key)     (1u << 2 * (key))
#define WD(key)     (2u << 2 * (key))
#define KEYS        16

#define DENIED      0x21 /* #PF: P and PK */
#define DENIED_USER (DENIED | 4)
#define FOR_WRITE   2

#define IMAGE_SIZE  4096

static void write_pkru(uint32_t value)
{
    __asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

static uint32_t read_pkru(void)
{
    uint32_t value;

    __asm__ volatile("rdpkru" : "=a"(value) : "c"(0) : "rdx");
    return value;
}

/* PKU (bit 3), OSPKE (bit 4): a bit of CPUID.7:ECX. */
static bool told(unsigned bit)
{
    return cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ecx >> bit & 1) != 0;
}

/* ---- What offers them ------------------------------------------------------------------------------------
 */

/* The instructions want CR4.PKE, and 0 in ECX, and to write in EDX. */
static void instruction_rows(const char *when, int first, int others)
{
    char name[48];

    TRY("rdpkru", : : "c"(0) : "rax", "rdx");
    format_text(name, sizeof(name), "rdpkru-%s", when);
    guest_expect_vector(name, first, 0);
    TRY("wrpkru", : : "a"(0), "c"(0), "d"(0) : "memory");
    format_text(name, sizeof(name), "wrpkru-%s", when);
    guest_expect_vector(name, first, 0);
    TRY("rdpkru", : : "c"(1) : "rax", "rdx");
    format_text(name, sizeof(name), "rdpkru-ecx-%s", when);
    guest_expect_vector(name, others, 0);
    TRY("wrpkru", : : "a"(0), "c"(1), "d"(0) : "memory");
    format_text(name, sizeof(name), "wrpkru-ecx-%s", when);
    guest_expect_vector(name, others, 0);
    TRY("wrpkru", : : "a"(0), "c"(0), "d"(1) : "memory");
    format_text(name, sizeof(name), "wrpkru-edx-%s", when);
    guest_expect_vector(name, others, 0);
}

static void offer_rows(bool offered)
{
    instruction_rows("without-pke", VECTOR_UD, VECTOR_UD);
    guest_equal("ospke-without-pke", told(4), 0);
    TRY("mov %0, %%cr4", : : "r"(read_cr4() | CR4_PKE) : "memory");
    guest_expect_vector("cr4-pke", offered ? NO_VECTOR : VECTOR_GP, 0);
    if (!offered)
        return;
    guest_equal("ospke", told(4), 1);
    guest_equal("pkru-at-start", read_pkru(), 0);
    instruction_rows("with-pke", NO_VECTOR, VECTOR_GP);
}

/* ---- Each change counts ----------------------------------------------------------------------------------
 */

static void refuse(const char *row, unsigned key, enum access access, uint64_t error)
{
    char name[48];

    format_text(name, sizeof(name), "%s-%u", row, key);
    space_refuse(name, space_page(key), access, error);
}

static void allow(const char *row, unsigned key, enum access access)
{
    char name[48];

    format_text(name, sizeof(name), "%s-%u", row, key);
    space_allow(name, space_page(key), access);
}

/* Page N has key N. What PKRU denies to one key it leaves to the others. */
static void key_rows(void)
{
    space_reset();
    for (unsigned key = 0; key < KEYS; key++)
        space_one.table[key] |= KEY(key);
    space_load(&space_one);
    for (unsigned key = 1; key < KEYS; key++) {
        write_pkru(0);
        allow("used", key, USER_WRITE);
        write_pkru(AD(key));
        refuse("ad-read", key, USER_READ, DENIED_USER);
        refuse("ad-write", key, USER_WRITE, DENIED_USER | FOR_WRITE);
        allow("ad-fetch", key, USER_FETCH);
        write_pkru(WD(key));
        allow("wd-read", key, USER_READ);
        refuse("wd-write", key, USER_WRITE, DENIED_USER | FOR_WRITE);
        allow("wd-fetch", key, USER_FETCH);
        write_pkru(~(AD(key) | WD(key) | AD(0) | WD(0)));
        allow("others-denied", key, USER_WRITE);
    }
    write_pkru(0);
    allow("granted-again", KEYS - 1, USER_WRITE);
}

/* A supervisor's writes obey WD if CR0.WP is 1; who may write between two accesses of a user leaves nothing.
 */
static void supervisor_rows(void)
{
    space_reset();
    space_one.table[1] |= KEY(1);
    space_load(&space_one);
    write_pkru(WD(1));
    for (unsigned turn = 0; turn < 2; turn++) {
        set_cr0(CR0_WP, false);
        allow("wp-0-write", 1, WRITE);
        refuse("wp-0-user-write", 1, USER_WRITE, DENIED_USER | FOR_WRITE);
        allow("wp-0-user-read", 1, USER_READ);
        allow("wp-0-write-again", 1, WRITE);
        allow("wp-0-read", 1, READ);
        set_cr0(CR0_WP, true);
        allow("wp-1-read", 1, READ);
        refuse("wp-1-write", 1, WRITE, DENIED | FOR_WRITE);
        allow("wp-1-fetch", 1, FETCH);
    }

    /* An access that is not one instruction of the processor's own: string input. */
    TRY("insb", : : "D"(space_page(1)), "d"(0x61) : "memory");
    guest_check(guest_fault.vector == VECTOR_PF && guest_fault.error == (DENIED | FOR_WRITE), "string-input",
                "vector %d error %lx", guest_fault.vector, guest_fault.error);
    write_pkru(0);
    TRY("insb", : : "D"(space_page(1)), "d"(0x61) : "memory");
    guest_expect_vector("string-input-allowed", NO_VECTOR, 0);
    set_cr0(CR0_WP, false);
}

/* Without CR4.PKE keys are no keys, and PKRU is kept. Keys of tables, and of a table's large page. */
static void enable_rows(void)
{
    space_reset();
    space_one.table[1] |= KEY(1);
    for (unsigned level = 2; level <= 4; level++)
        *space_entry(&space_one, level) |= KEY(level);
    space_load(&space_one);
    write_pkru(AD(1));
    for (unsigned turn = 0; turn < 2; turn++) {
        refuse("pke-1", 1, USER_READ, DENIED_USER);
        set_cr4(CR4_PKE, false);
        allow("pke-0", 1, USER_WRITE);
        set_cr4(CR4_PKE, true);
    }
    guest_equal("pkru-kept", read_pkru(), AD(1));
    write_pkru(AD(2) | AD(3) | AD(4));
    allow("keys-of-tables", 1, USER_READ);
    write_pkru(0);
}

/* ---- A state component, where CPUID tells its place ------------------------------------------------------
 */

static uint8_t image[IMAGE_SIZE] __aligned(64);

static void set_xcr0(uint64_t value)
{
    __asm__ volatile("xsetbv" : : "a"((uint32_t)value), "d"(0), "c"(0) : "memory");
}

static void save(uint64_t mask)
{
    memset(image, 0, sizeof(image));
    __asm__ volatile("xsave64 %0" : "+m"(image) : "a"((uint32_t)mask), "d"(0) : "memory");
}

static void restore(uint64_t used, uint64_t mask)
{
    memcpy(image + 512, &used, sizeof(used));
    __asm__ volatile("xrstor64 %0" : : "m"(image), "a"((uint32_t)mask), "d"(0) : "memory");
}

static void component_rows(void)
{
    const struct cpuid place = cpuid(0xd, PKRU);
    const uint64_t others = cpuid(0xd, 0).eax & 7;
    uint32_t value = 0x55aa5588;

    if (place.eax == 0)
        return;
    guest_equal("component-size", place.eax, 8);
    guest_value("component-offset", place.ebx);
    guest_value("component-flags", place.ecx);
    CHECK("component-in-image", place.ebx >= 576 && place.ebx + place.eax <= IMAGE_SIZE);
    set_cr4(CR4_OSXSAVE | BIT(9), true);
    set_xcr0(others | BIT(PKRU));
    guest_value("image-size", cpuid(0xd, 0).ebx);

    write_pkru(value);
    save(BIT(PKRU));
    guest_equal("saved", *(const volatile uint32_t *)(image + place.ebx), value);
    guest_equal("saved-in-use", image[512 + PKRU / 8], BIT(PKRU % 8));
    write_pkru(0);
    restore(BIT(PKRU), BIT(PKRU));
    guest_equal("restored", read_pkru(), value);
    restore(0, BIT(PKRU));
    guest_equal("restored-initial", read_pkru(), 0);
    restore(BIT(PKRU), others);
    guest_equal("not-restored", read_pkru(), 0);
    set_cr4(CR4_PKE, false);
    restore(BIT(PKRU), BIT(PKRU));
    set_cr4(CR4_PKE, true);
    guest_equal("restored-without-pke", read_pkru(), value);
    set_xcr0(others);
    guest_equal("kept-without-xcr0", read_pkru(), value);
    write_pkru(value ^ AD(9));
    set_xcr0(others | BIT(PKRU));
    guest_equal("written-without-xcr0", read_pkru(), value ^ AD(9));
    write_pkru(0);
}

void guest_main(void)
{
    const bool offered = told(3);

    guest_value("offered", offered);
    offer_rows(offered);
    if (!offered)
        return;
    space_init();
    key_rows();
    supervisor_rows();
    enable_rows();
    component_rows();
}
