// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the checks of a VM entry refuse beside tests/guests/lv1_entry.c (SDM vol. 3, 26.2 and 26.3): each of
 * the eight segment registers in each way, guests in virtual-8086 mode, with PAE paging, at CPL 3, inactive
 * or with an event. With those of lv1_entry, these are the rows of Umbra's tables that a processor can be
 * made to show (tests/boot/test_nested_checks.py).
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/pc.h"
#include "tests/guests/lib/vmx.h"

#define GUEST_STATE 33 /* refused with this exit reason; else an instruction error, 7 */
#define DIFFERS     0  /* the bare emulator enters, or refuses in another way */

#define GUEST_PDPTE 0x280a /* the field of the first, the others two apart */

static uint64_t page[512] __aligned(4096);

/* ---- What an entry begins with ------------------------------------------------------------------------- */

/* 64-bit mode at CPL 0, of no other control than it must have. */
static void long_mode(void)
{
    vmx_prepare();
    vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_nothing);
    for (unsigned i = 0; i < 6; i++)
        if (i != 1) {
            vmx_set(VMCS_GUEST_ES_LIMIT + 2 * i, 0xffffffff);
            vmx_set(VMCS_GUEST_ES_RIGHTS + 2 * i, 0xc093);
        }
    vmx_set(VMCS_GUEST_LDTR_RIGHTS, 0x82);
    vmx_set(VMCS_GUEST_LDTR, 0x50);
    vmx_set(VMCS_GUEST_LDTR_LIMIT, 0xffff);
    vmx_set(VMCS_EXCEPTION_BITMAP, 0xffffffff); /* whatever comes of an entry that is not refused */
}

/* 32 bits, with paging of 32 bits. */
static void protected_mode(void)
{
    long_mode();
    vmx_control(ENTRY_IA32E, false);
    vmx_set(VMCS_GUEST_CR4, vmx_get(VMCS_GUEST_CR4) & ~(CR4_PAE | CR4_PCIDE));
    vmx_set(VMCS_GUEST_CS_RIGHTS, 0xc09b);
}

static void virtual_8086_mode(void)
{
    protected_mode();
    vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | BIT(17));
    for (unsigned i = 0; i < 6; i++) {
        vmx_set(VMCS_GUEST_ES + 2 * i, 0x100 * i);
        vmx_set(VMCS_GUEST_ES_BASE + 2 * i, 0x1000 * i);
        vmx_set(VMCS_GUEST_ES_LIMIT + 2 * i, 0xffff);
        vmx_set(VMCS_GUEST_ES_RIGHTS + 2 * i, 0xf3);
    }
}

static void user_mode(void)
{
    long_mode();
    vmx_set(VMCS_GUEST_CS, vmx_get(VMCS_GUEST_CS) | 3);
    vmx_set(VMCS_GUEST_SS, vmx_get(VMCS_GUEST_SS) | 3);
    vmx_set(VMCS_GUEST_CS_RIGHTS, 0xa0fb);
    vmx_set(VMCS_GUEST_SS_RIGHTS, 0xc0f3);
}

/* PAE paging: its PDPTEs are in memory, or with EPT in the VMCS; none is present. */
static void pae_mode(void)
{
    protected_mode();
    memset(page, 0, sizeof(page));
    vmx_set(VMCS_GUEST_CR4, vmx_get(VMCS_GUEST_CR4) | CR4_PAE);
    vmx_set(VMCS_GUEST_CR3, (uint64_t)page);
}

static void with_ept(void)
{
    vmx_control(SECONDARY_EPT, true);
    vmx_set(VMCS_EPTP, (uint64_t)page | 3 << 3 | 6);
}

static void pae_ept_mode(void)
{
    pae_mode();
    with_ept();
    for (unsigned i = 0; i < 4; i++)
        vmx_set(GUEST_PDPTE + 2 * i, 0);
}

static void unrestricted(void)
{
    long_mode();
    with_ept();
    vmx_control(SECONDARY_UNRESTRICTED, true);
}

static void tpr_shadow(void)
{
    long_mode();
    memset(page, 0, sizeof(page));
    vmx_control(PRIMARY_TPR_SHADOW, true);
    vmx_set(VMCS_VIRTUAL_APIC, (uint64_t)page);
    vmx_set(VMCS_APIC_ACCESS, (uint64_t)page);
    vmx_set(VMCS_TPR_THRESHOLD, 0);
}

static void x2apic_mode(void)
{
    tpr_shadow();
    vmx_control(SECONDARY_X2APIC, true);
}

/* ---- Refused entries ----------------------------------------------------------------------------------- */

/* `bits` are flipped in a field, or else it has the `value`. */
struct change {
    uint32_t field;
    uint64_t value, bits;
};

struct refused {
    const char *name;
    unsigned how; /* GUEST_STATE, DIFFERS or an instruction error */
    void (*prepare)(void);
    struct change changes[3];
    uint64_t qualification;
};

#define SET(field, value)                                                                                    \
    {                                                                                                        \
        field, value, 0                                                                                      \
    }
#define FLIP(field, bits)                                                                                    \
    {                                                                                                        \
        field, 0, bits                                                                                       \
    }

static void expect_refused(const char *text, unsigned how, uint64_t qualification)
{
    char name[64];

    vmx_run();
    format_text(name, sizeof(name), "refused-%s", text);
    if (how == DIFFERS)
        guest_differs(name, vmx_exit.outcome == VMX_SUCCEED ? vmx_exit.reason : vmx_exit.error);
    else if (how == GUEST_STATE)
        guest_check(vmx_exit.outcome == VMX_SUCCEED &&
                        vmx_exit.reason == (REASON_ENTRY_FAILURE | REASON_GUEST_STATE) &&
                        vmx_exit.qualification == qualification,
                    name, "outcome %#lx error %lu reason %#lx qualification %lu", vmx_exit.outcome,
                    vmx_exit.error, vmx_exit.reason, vmx_exit.qualification);
    else
        guest_check(vmx_exit.outcome == VMX_FAIL_VALID && vmx_exit.error == how, name,
                    "outcome %#lx error %lu reason %#lx", vmx_exit.outcome, vmx_exit.error, vmx_exit.reason);
}

static void apply(const struct change *change)
{
    if (change->field != 0)
        vmx_set(change->field, change->bits != 0 ? vmx_get(change->field) ^ change->bits : change->value);
}

/* A field that goes by the segment register: those of one kind are two apart. */
static void segment_row(const char *segment, unsigned number, const char *what, void (*prepare)(void),
                        struct change change)
{
    char name[48];

    prepare();
    change.field += 2 * number;
    apply(&change);
    format_text(name, sizeof(name), "%s-%s", segment, what);
    expect_refused(name, GUEST_STATE, 0);
}

static void user_segment_rows(const char *segment, unsigned number)
{
    const bool code = number == 1, stack = number == 2;
    const uint64_t good = code ? 0xa09b : 0xc093;

    segment_row(segment, number, "v86-base", virtual_8086_mode, (struct change)FLIP(VMCS_GUEST_ES_BASE, 1));
    segment_row(segment, number, "v86-limit", virtual_8086_mode,
                (struct change)SET(VMCS_GUEST_ES_LIMIT, 0xfffe));
    segment_row(segment, number, "v86-rights", virtual_8086_mode,
                (struct change)SET(VMCS_GUEST_ES_RIGHTS, 0x93));
    segment_row(segment, number, "base", long_mode,
                (struct change)SET(VMCS_GUEST_ES_BASE, number >= 4 ? BIT(47) : BIT(32)));
    segment_row(segment, number, "type", long_mode,
                (struct change)SET(VMCS_GUEST_ES_RIGHTS, good & ~(code ? 8UL : 1UL)));
    segment_row(segment, number, "s", long_mode, (struct change)SET(VMCS_GUEST_ES_RIGHTS, good & ~0x10UL));
    if (code || stack)
        segment_row(segment, number, "dpl", long_mode, (struct change)SET(VMCS_GUEST_ES_RIGHTS, good | 0x60));
    else
        segment_row(segment, number, "dpl", long_mode, (struct change)FLIP(VMCS_GUEST_ES, 3));
    segment_row(segment, number, "present", long_mode,
                (struct change)SET(VMCS_GUEST_ES_RIGHTS, good & ~0x80UL));
    segment_row(segment, number, "reserved-8", long_mode,
                (struct change)SET(VMCS_GUEST_ES_RIGHTS, good | 0x100));
    segment_row(segment, number, "reserved-17", long_mode,
                (struct change)SET(VMCS_GUEST_ES_RIGHTS, good | BIT(17)));
    segment_row(segment, number, "granularity", long_mode,
                (struct change)SET(VMCS_GUEST_ES_RIGHTS, good & ~0x8000UL));
}

static void system_segment_rows(const char *segment, unsigned number)
{
    const uint64_t good = number == 6 ? 0x82 : 0x8b;

    segment_row(segment, number, "ti", long_mode, (struct change)FLIP(VMCS_GUEST_ES, 4));
    segment_row(segment, number, "base", long_mode, (struct change)SET(VMCS_GUEST_ES_BASE, BIT(47)));
    segment_row(segment, number, "type", long_mode, (struct change)SET(VMCS_GUEST_ES_RIGHTS, good ^ 4));
    segment_row(segment, number, "s", long_mode, (struct change)SET(VMCS_GUEST_ES_RIGHTS, good | 0x10));
    segment_row(segment, number, "present", long_mode,
                (struct change)SET(VMCS_GUEST_ES_RIGHTS, good & ~0x80UL));
    segment_row(segment, number, "reserved-8", long_mode,
                (struct change)SET(VMCS_GUEST_ES_RIGHTS, good | 0x100));
    segment_row(segment, number, "reserved-17", long_mode,
                (struct change)SET(VMCS_GUEST_ES_RIGHTS, good | BIT(17)));
    segment_row(segment, number, "granularity", long_mode, (struct change)SET(VMCS_GUEST_ES_LIMIT, 0x100fff));
}

static void segment_rows(void)
{
    static const char *const names[] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        (i < 6 ? user_segment_rows : system_segment_rows)(names[i], i);
}

// clang-format off
static const struct refused refused[] = {
    /* Controls. */
    {"tpr-threshold-above-tpr", 7, tpr_shadow, {SET(VMCS_TPR_THRESHOLD, 1)}, 0},
    {"error-code-high", 7, long_mode,
     {SET(VMCS_ENTRY_EVENT, EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP), SET(VMCS_ENTRY_EVENT_ERROR, BIT(16))}, 0},
    {"length-16", 7, long_mode,
     {SET(VMCS_ENTRY_EVENT, EVENT_SOFTWARE | 0x61), SET(VMCS_ENTRY_EVENT_LENGTH, 16)}, 0},
    {"x2apic-with-accesses", 7, x2apic_mode, {FLIP(VMCS_SECONDARY, BIT(0))}, 0},

    /* Modes. */
    {"ia32e-without-paging", DIFFERS, unrestricted, {FLIP(VMCS_GUEST_CR0, CR0_PG)}, 0},
    {"pcide-outside-ia32e", GUEST_STATE, protected_mode, {FLIP(VMCS_GUEST_CR4, CR4_PCIDE)}, 0},
    {"ia32e-without-pae", GUEST_STATE, long_mode, {FLIP(VMCS_GUEST_CR4, CR4_PAE)}, 0},
    {"pg-without-pe", GUEST_STATE, unrestricted, {FLIP(VMCS_GUEST_CR0, CR0_PE)}, 0},
    {"vm-in-ia32e", GUEST_STATE, virtual_8086_mode, {FLIP(VMCS_ENTRY, BIT(9)), FLIP(VMCS_GUEST_CR4, CR4_PAE)}, 0},
    {"rip-outside-ia32e", GUEST_STATE, protected_mode, {SET(VMCS_GUEST_RIP, BIT(32))}, 0},
    {"cs-l-and-d", GUEST_STATE, long_mode, {SET(VMCS_GUEST_CS_RIGHTS, 0xe09b)}, 0},
    {"ss-dpl-with-conforming-cs", GUEST_STATE, long_mode,
     {SET(VMCS_GUEST_CS_RIGHTS, 0xa09f), SET(VMCS_GUEST_SS_RIGHTS, 0xc0f3)}, 0},
    {"ss-rpl", GUEST_STATE, long_mode, {FLIP(VMCS_GUEST_SS, 3)}, 0},
    {"ss-dpl-with-data-cs", GUEST_STATE, unrestricted,
     {SET(VMCS_GUEST_CS_RIGHTS, 0xc093), FLIP(VMCS_GUEST_SS, 1), SET(VMCS_GUEST_SS_RIGHTS, 0xc0b3)}, 0},
    {"tr-unusable", GUEST_STATE, long_mode, {SET(VMCS_GUEST_TR_RIGHTS, 0x1008b)}, 0},

    /* Activity, interruptibility, events. */
    {"halted-at-cpl-3", GUEST_STATE, user_mode, {SET(VMCS_GUEST_ACTIVITY, 1)}, 0},
    {"halted-behind-sti", GUEST_STATE, long_mode,
     {SET(VMCS_GUEST_ACTIVITY, 1), SET(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF),
      SET(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_STI)}, 0},
    {"halted-behind-mov-ss", GUEST_STATE, long_mode,
     {SET(VMCS_GUEST_ACTIVITY, 1), SET(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_MOV_SS)}, 0},
    {"halted-with-exception", DIFFERS, long_mode,
     {SET(VMCS_GUEST_ACTIVITY, 1), SET(VMCS_ENTRY_EVENT, EVENT_EXCEPTION | VECTOR_UD)}, 0},
    {"interrupt-behind-sti", GUEST_STATE, long_mode,
     {SET(VMCS_ENTRY_EVENT, EVENT_INTERRUPT | 0x61), SET(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF),
      SET(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_STI)}, 0},
    {"interrupt-behind-mov-ss", GUEST_STATE, long_mode,
     {SET(VMCS_ENTRY_EVENT, EVENT_INTERRUPT | 0x61), SET(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF),
      SET(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_MOV_SS)}, 0},
    {"nmi-behind-mov-ss", GUEST_STATE, long_mode,
     {SET(VMCS_ENTRY_EVENT, EVENT_NMI), SET(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_MOV_SS)}, 0},
    {"pending-bs-missing", DIFFERS, long_mode,
     {SET(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_TF),
      SET(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_STI)}, 0},
    {"pending-bs-without-tf", DIFFERS, long_mode,
     {SET(VMCS_GUEST_PENDING_DEBUG, BIT(14)), SET(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_MOV_SS)}, 0},

    /* Memory. */
    {"link-revision", GUEST_STATE, long_mode, {SET(VMCS_LINK_POINTER, (uint64_t)page)}, 4},
    {"link-to-itself", GUEST_STATE, long_mode, {SET(VMCS_LINK_POINTER, VMCS_REGION)}, 4},
    {"pdpte-0", GUEST_STATE, pae_ept_mode, {SET(GUEST_PDPTE, 3)}, 2},
    {"pdpte-1", GUEST_STATE, pae_ept_mode, {SET(GUEST_PDPTE + 2, 0x21)}, 2},
    {"pdpte-2", GUEST_STATE, pae_ept_mode, {SET(GUEST_PDPTE + 4, 0x101)}, 2},
    {"pdpte-3", GUEST_STATE, pae_ept_mode, {SET(GUEST_PDPTE + 6, BIT(60) | 1)}, 2},
};
// clang-format on

static void refused_rows(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        refused[i].prepare();
        for (unsigned n = 0; n < ARRAY_SIZE(refused[i].changes); n++)
            apply(&refused[i].changes[n]);
        expect_refused(refused[i].name, refused[i].how, refused[i].qualification);
    }
    for (unsigned i = 0; i < 4; i++) {
        char name[32];

        pae_mode();
        page[i] = 3;
        format_text(name, sizeof(name), "pdpte-%u-in-memory", i);
        expect_refused(name, GUEST_STATE, 2);
    }
}

/* Lists of MSRs whose second entry lies beyond the width of physical addresses. */
static void list_rows(void)
{
    static const struct {
        const char *name;
        uint32_t address, count;
    } lists[] = {
        {"entry-msr-load-end", VMCS_ENTRY_MSR_LOAD, VMCS_ENTRY_MSR_LOAD_COUNT},
        {"exit-msr-store-end", VMCS_EXIT_MSR_STORE, VMCS_EXIT_MSR_STORE_COUNT},
        {"exit-msr-load-end", VMCS_EXIT_MSR_LOAD, VMCS_EXIT_MSR_LOAD_COUNT},
    };
    const unsigned width = cpuid(0x80000008, 0).eax & 0xff;

    for (unsigned i = 0; i < ARRAY_SIZE(lists); i++) {
        long_mode();
        vmx_set(lists[i].address, BIT(width) - 16);
        vmx_set(lists[i].count, 2);
        expect_refused(lists[i].name, 7, 0);
    }
}

/* Where an event is injected that is not to be. */
static void ignore(struct guest_frame *frame __unused)
{
}

/* What the rows begin with is not refused: so it is what they change. */
static void unspoilt_rows(void)
{
    static void (*const prepares[])(void) = {long_mode, user_mode,    tpr_shadow,  x2apic_mode,
                                             pae_mode,  pae_ept_mode, unrestricted};
    unsigned wrong = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(prepares); i++) {
        prepares[i]();
        vmx_run();
        wrong += vmx_exit.outcome != VMX_SUCCEED || (vmx_exit.reason & REASON_ENTRY_FAILURE) != 0;
    }
    guest_equal("unspoilt", wrong, 0);
}

void guest_main(void)
{
    CHECK("vmx", vmx_exists());
    vmx_enable();
    guest_handlers[VECTOR_UD] = ignore;
    unspoilt_rows();
    segment_rows();
    refused_rows();
    list_rows();
    vmx_off();
}
