// SPDX-License-Identifier: BSD-2-Clause
/*
 * VM entries (SDM vol. 3, "VM Entries"): what is injected arrives, and what its delivery meets is told to
 * Lv1; what the checks of controls, host state and guest state refuse, each by a row of its own; lists of
 * MSRs.
 */
#include "lib/printf.h"
#include "tests/guests/lib/pc.h"
#include "tests/guests/lib/vmx.h"

#define VECTOR_INJECTED 0x61

/* In a list of MSRs. */
struct msr_entry {
    uint32_t index, reserved;
    uint64_t value;
};

static struct msr_entry entry_load[4] __aligned(16), exit_store[4] __aligned(16), exit_load[4] __aligned(16);
static uint8_t zeroes[4096] __aligned(4096);
#define PAGE_OF_ZEROES ((uint64_t)zeroes)

/* ---- Injection ---------------------------------------------------------------------------------------- */

static struct guest_frame seen;
static unsigned seen_count;

/* Lv2's handler: records, and goes on where the event came. */
static void record(struct guest_frame *frame)
{
    seen = *frame;
    seen_count++;
}

LV2(lv2_two_bytes, "nop; nop");

static void inject_rows(void)
{
    /* length: what the saved RIP is to be ahead, for software events. */
    static const struct {
        const char *name;
        unsigned vector;
        uint64_t event, error;
        unsigned length;
    } rows[] = {
        {"interrupt", VECTOR_INJECTED, EVENT_INTERRUPT, 0, 0},
        {"interrupt-32", 32, EVENT_INTERRUPT, 0, 0},
        {"interrupt-255", 255, EVENT_INTERRUPT, 0, 0},
        {"nmi", VECTOR_NMI, EVENT_VALID | 2 << 8, 0, 0},
        {"divide", VECTOR_DE, EVENT_EXCEPTION, 0, 0},
        {"debug", VECTOR_DB, EVENT_EXCEPTION, 0, 0},
        {"invalid-opcode", VECTOR_UD, EVENT_EXCEPTION, 0, 0},
        {"not-available", VECTOR_NM, EVENT_EXCEPTION, 0, 0},
        {"double-fault", VECTOR_DF, EVENT_EXCEPTION | EVENT_ERROR, 0, 0},
        {"invalid-tss", VECTOR_TS, EVENT_EXCEPTION | EVENT_ERROR, 0x50, 0},
        {"not-present", VECTOR_NP, EVENT_EXCEPTION | EVENT_ERROR, 0x58, 0},
        {"stack", VECTOR_SS, EVENT_EXCEPTION | EVENT_ERROR, 0x68, 0},
        {"general-protection", VECTOR_GP, EVENT_EXCEPTION | EVENT_ERROR, 0x7ff8, 0},
        {"page-fault", VECTOR_PF, EVENT_EXCEPTION | EVENT_ERROR, 7, 0},
        {"alignment", VECTOR_AC, EVENT_EXCEPTION | EVENT_ERROR, 0, 0},
        {"int-n", VECTOR_INJECTED, EVENT_SOFTWARE, 0, 2},
        {"int1", VECTOR_DB, EVENT_PRIVILEGED, 0, 1},
        {"int3", VECTOR_BP, EVENT_SOFT_EXCEPTION, 0, 1},
        {"into", VECTOR_OF, EVENT_SOFT_EXCEPTION, 0, 1},
    };
    char name[48];

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const unsigned vector = rows[i].vector;
        const bool interrupt = (rows[i].event >> 8 & 7) == 0;

        vmx_prepare();
        seen_count = 0;
        guest_handlers[vector] = record;
        vmx_set(VMCS_EXCEPTION_BITMAP, 0xffffffff); /* says nothing about what is injected */
        vmx_set(VMCS_ENTRY_EVENT, rows[i].event | vector);
        vmx_set(VMCS_ENTRY_EVENT_ERROR, rows[i].error);
        vmx_set(VMCS_ENTRY_EVENT_LENGTH, rows[i].length);
        vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_two_bytes);
        vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | (interrupt ? RFLAGS_IF : 0));
        vmx_run();
        guest_handlers[vector] = NULL;
        format_text(name, sizeof(name), "inject-%s", rows[i].name);
        vmx_expect(name, REASON_VMCALL);
        format_text(name, sizeof(name), "inject-%s-once", rows[i].name);
        guest_equal(name, seen_count, 1);
        format_text(name, sizeof(name), "inject-%s-vector", rows[i].name);
        guest_equal(name, seen.vector, vector);
        format_text(name, sizeof(name), "inject-%s-error", rows[i].name);
        guest_equal(name, seen.error, rows[i].error);
        format_text(name, sizeof(name), "inject-%s-rip", rows[i].name);
        guest_equal(name, seen.rip - (uint64_t)lv2_two_bytes, rows[i].length);
        format_text(name, sizeof(name), "inject-%s-flags", rows[i].name);
        guest_equal(name, seen.rflags & ~RFLAGS_RF, RFLAGS_FIXED | (interrupt ? RFLAGS_IF : 0));
        format_text(name, sizeof(name), "inject-%s-consumed", rows[i].name);
        guest_equal(name, vmx_get(VMCS_ENTRY_EVENT) & EVENT_VALID, 0);
        format_text(name, sizeof(name), "inject-%s-vectoring", rows[i].name);
        guest_equal(name, vmx_exit.vectoring & EVENT_VALID, 0);
    }
    write_dr7(0x400);
}

/* Has `event` injected into an Lv2 whose IDT has no gate for it. `wanted`: Lv1's exceptions. */
static void inject_without_gate(uint64_t event, uint64_t error, unsigned length, uint64_t wanted)
{
    vmx_prepare();
    vmx_set(VMCS_EXCEPTION_BITMAP, wanted);
    vmx_set(VMCS_GUEST_IDTR_LIMIT, 0);
    vmx_set(VMCS_ENTRY_EVENT, event);
    vmx_set(VMCS_ENTRY_EVENT_ERROR, error);
    vmx_set(VMCS_ENTRY_EVENT_LENGTH, length);
    vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_two_bytes);
    vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | ((event >> 8 & 7) == 0 ? RFLAGS_IF : 0));
    vmx_run();
}

/* The delivery meets an exception that Lv1 wants: it is told of both (27.2.4), and injects the event again.
 */
static void vectoring_rows(void)
{
    static const struct {
        const char *name;
        uint64_t event, error;
        unsigned length;
        bool merges; /* with #GP to a double fault */
    } rows[] = {
        {"interrupt", EVENT_INTERRUPT | VECTOR_INJECTED, 0, 0, false},
        {"nmi", EVENT_NMI, 0, 0, false},
        {"int-n", EVENT_SOFTWARE | VECTOR_INJECTED, 0, 2, false},
        {"int1", EVENT_PRIVILEGED | VECTOR_DB, 0, 1, false},
        {"int3", EVENT_SOFT_EXCEPTION | VECTOR_BP, 0, 1, false},
        {"invalid-opcode", EVENT_EXCEPTION | VECTOR_UD, 0, 0, false},
        {"divide", EVENT_EXCEPTION | VECTOR_DE, 0, 0, true},
        {"not-present", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_NP, 0x58, 0, true},
        {"page-fault", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_PF, 6, 0, true},
    };
    char name[48];

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const unsigned vector = rows[i].event & 0xff, type = rows[i].event >> 8 & 7;
        const uint64_t external = type == 4 || type == 6 ? 0 : ERROR_EXT;

        inject_without_gate(rows[i].event, rows[i].error, rows[i].length, BIT(VECTOR_GP) | BIT(VECTOR_DF));
        format_text(name, sizeof(name), "vectoring-%s", rows[i].name);
        vmx_expect_event(name, EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, vector * 8 | ERROR_IDT | external);
        format_text(name, sizeof(name), "vectoring-%s-event", rows[i].name);
        guest_equal(name, vmx_exit.vectoring & ~EVENT_UNDEFINED, rows[i].event);
        if ((rows[i].event & EVENT_ERROR) != 0) {
            format_text(name, sizeof(name), "vectoring-%s-error", rows[i].name);
            guest_equal(name, vmx_exit.vectoring_error, rows[i].error);
        }
        if (type >= 4) {
            format_text(name, sizeof(name), "vectoring-%s-length", rows[i].name);
            guest_equal(name, vmx_exit.length, rows[i].length);
        }
        format_text(name, sizeof(name), "vectoring-%s-rip", rows[i].name);
        guest_equal(name, vmx_exit.rip, (uint64_t)lv2_two_bytes);

        guest_handlers[vector] = record;
        seen_count = 0;
        vmx_set(VMCS_GUEST_IDTR_LIMIT, sizeof(guest_idt) - 1);
        vmx_set(VMCS_ENTRY_EVENT, vmx_exit.vectoring & ~EVENT_UNDEFINED);
        vmx_set(VMCS_ENTRY_EVENT_ERROR, vmx_exit.vectoring_error);
        vmx_set(VMCS_ENTRY_EVENT_LENGTH, rows[i].length);
        vmx_set(VMCS_GUEST_INTERRUPTIBILITY, 0);
        vmx_run();
        guest_handlers[vector] = NULL;
        format_text(name, sizeof(name), "vectoring-%s-again", rows[i].name);
        vmx_expect(name, REASON_VMCALL);
        format_text(name, sizeof(name), "vectoring-%s-again-once", rows[i].name);
        guest_equal(name, seen_count, 1);

        /* Lv1 wants double faults only: merged or not is the processor's business, and a merged one is not
           the delivery of what it came from. */
        inject_without_gate(rows[i].event, rows[i].error, rows[i].length, BIT(VECTOR_DF));
        format_text(name, sizeof(name), "vectoring-%s-to-double-fault", rows[i].name);
        vmx_expect_event(name, EVENT_EXCEPTION | EVENT_ERROR | VECTOR_DF, 0);
        if (rows[i].merges) {
            format_text(name, sizeof(name), "vectoring-%s-to-double-fault-event", rows[i].name);
            guest_equal(name, vmx_exit.vectoring & EVENT_VALID, 0);
        }
        inject_without_gate(rows[i].event, rows[i].error, rows[i].length, 0);
        format_text(name, sizeof(name), "vectoring-%s-to-triple-fault", rows[i].name);
        vmx_expect(name, REASON_TRIPLE_FAULT);
    }
    inject_without_gate(0, 0, 0, BIT(VECTOR_GP));
    vmx_expect("vectoring-none", REASON_VMCALL);
    inject_without_gate(EVENT_EXCEPTION | EVENT_ERROR | VECTOR_DF, 0, 0, 0);
    vmx_expect("vectoring-double-fault-to-triple-fault", REASON_TRIPLE_FAULT);
    guest_idt_load(sizeof(guest_idt) - 1);
}

LV2(lv2_int3_int, "int3; int $0x61");

static void own_vectoring_rows(void)
{
    vmx_prepare();
    vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_GP));
    vmx_set(VMCS_GUEST_IDTR_LIMIT, 0x20);
    vmx_run_at(lv2_int3_int);
    vmx_expect_event("own-int3", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, VECTOR_BP * 8 | ERROR_IDT);
    guest_equal("own-int3-vectoring", vmx_exit.vectoring & ~EVENT_UNDEFINED,
                EVENT_SOFT_EXCEPTION | VECTOR_BP);
    guest_equal("own-int3-length", vmx_exit.length, 1);
    guest_equal("own-int3-rip", vmx_exit.rip, (uint64_t)lv2_int3_int);
    vmx_set(VMCS_GUEST_RIP, vmx_exit.rip + 1);
    vmx_run();
    vmx_expect_event("own-int", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_GP, VECTOR_INJECTED * 8 | ERROR_IDT);
    guest_equal("own-int-vectoring", vmx_exit.vectoring & ~EVENT_UNDEFINED, EVENT_SOFTWARE | VECTOR_INJECTED);
    guest_equal("own-int-length", vmx_exit.length, 2);
    guest_idt_load(sizeof(guest_idt) - 1);
}

/* An injected NMI blocks further ones; with virtual NMIs that is Lv2's own blocking. */
static void nmi_rows(void)
{
    if (!vmx_may_set(PIN_NMI) || !vmx_may_set(PIN_VIRTUAL_NMI))
        return;
    vmx_prepare();
    vmx_control(PIN_NMI, true);
    vmx_control(PIN_VIRTUAL_NMI, true);
    guest_gate_reset(VECTOR_NMI);
    struct gate kept = guest_idt[VECTOR_NMI];
    const uint64_t to = (uint64_t)lv2_nothing;
    guest_idt[VECTOR_NMI].offset_low = (uint16_t)to;
    guest_idt[VECTOR_NMI].offset_middle = (uint16_t)(to >> 16);
    vmx_set(VMCS_ENTRY_EVENT, EVENT_NMI);
    vmx_run_at(lv2_two_bytes);
    guest_idt[VECTOR_NMI] = kept;
    vmx_expect("nmi-handler", REASON_VMCALL);
    guest_equal("nmi-handler-rip", vmx_exit.rip, to);
    guest_equal("nmi-blocks", vmx_get(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_NMI);
    vmx_set(VMCS_ENTRY_EVENT, EVENT_NMI);
    guest_handlers[VECTOR_NMI] = record;
    vmx_run_at(lv2_two_bytes);
    guest_handlers[VECTOR_NMI] = NULL;
    guest_differs("nmi-while-blocked", vmx_exit.reason);
}

/* Activity states (24.4.2): halted it sleeps until an event comes, and what is injected is one. */
static void activity_rows(void)
{
    vmx_prepare();
    vmx_set(VMCS_GUEST_ACTIVITY, 1);
    vmx_set(VMCS_ENTRY_EVENT, EVENT_INTERRUPT | VECTOR_INJECTED);
    guest_handlers[VECTOR_INJECTED] = record;
    seen_count = 0;
    vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_nothing);
    vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmx_run();
    vmx_expect("halted-woken", REASON_VMCALL);
    guest_equal("halted-woken-once", seen_count, 1);
    guest_equal("halted-woken-activity", vmx_get(VMCS_GUEST_ACTIVITY), 0);
    guest_handlers[VECTOR_INJECTED] = NULL;
}

/* ---- Refused entries ---------------------------------------------------------------------------------- */

/* DIFFERS: the bare emulator enters, or refuses in another way. */
enum refusal { CONTROLS = 7, HOST = 8, GUEST = 33, DIFFERS };

/* `value` replaces the field; `toggle` is what is flipped in it if it is not 0. `needs`: a control that Lv1
 * has to be offered, and that is on. qualification: of reason 33. */
struct refused {
    const char *name;
    enum refusal refusal;
    uint32_t field;
    uint64_t value, toggle;
    unsigned word, bit;
    uint64_t qualification;
};

#define NEEDS_NONE 0, 0
#define FLIP(bits) 0, (bits)
#define VALUE(v)   (v), 0

static const struct refused refused[] = {
    /* Controls (26.2.1). */
    {"pin-reserved-0", CONTROLS, VMCS_PIN, FLIP(BIT(1)), NEEDS_NONE, 0},
    {"pin-reserved-31", CONTROLS, VMCS_PIN, FLIP(BIT(31)), NEEDS_NONE, 0},
    {"primary-reserved-0", CONTROLS, VMCS_PRIMARY, FLIP(BIT(1)), NEEDS_NONE, 0},
    {"primary-reserved-18", CONTROLS, VMCS_PRIMARY, FLIP(BIT(18)), NEEDS_NONE, 0},
    {"exit-reserved-0", CONTROLS, VMCS_EXIT, FLIP(BIT(0)), NEEDS_NONE, 0},
    {"exit-reserved-10", CONTROLS, VMCS_EXIT, FLIP(BIT(10)), NEEDS_NONE, 0},
    {"entry-reserved-0", CONTROLS, VMCS_ENTRY, FLIP(BIT(0)), NEEDS_NONE, 0},
    {"entry-reserved-12", CONTROLS, VMCS_ENTRY, FLIP(BIT(12)), NEEDS_NONE, 0},
    {"secondary-reserved", CONTROLS, VMCS_SECONDARY, FLIP(BIT(29)), PRIMARY_SECONDARY, 0},
    {"cr3-target-count", CONTROLS, VMCS_CR3_TARGET_COUNT, VALUE(5), NEEDS_NONE, 0},
    {"io-bitmap-a-alignment", CONTROLS, VMCS_IO_BITMAP_A, VALUE(0x1001), PRIMARY_IO_BITMAPS, 0},
    {"io-bitmap-b-alignment", CONTROLS, VMCS_IO_BITMAP_B, VALUE(0x1800), PRIMARY_IO_BITMAPS, 0},
    {"io-bitmap-a-beyond", CONTROLS, VMCS_IO_BITMAP_A, VALUE(BIT(52)), PRIMARY_IO_BITMAPS, 0},
    {"io-bitmap-b-beyond", CONTROLS, VMCS_IO_BITMAP_B, VALUE(BIT(63)), PRIMARY_IO_BITMAPS, 0},
    {"msr-bitmap-alignment", CONTROLS, VMCS_MSR_BITMAP, VALUE(0x10), PRIMARY_MSR_BITMAPS, 0},
    {"msr-bitmap-beyond", CONTROLS, VMCS_MSR_BITMAP, VALUE(BIT(60)), PRIMARY_MSR_BITMAPS, 0},
    {"virtual-apic-alignment", CONTROLS, VMCS_VIRTUAL_APIC, VALUE(0x80), PRIMARY_TPR_SHADOW, 0},
    {"virtual-apic-beyond", CONTROLS, VMCS_VIRTUAL_APIC, VALUE(BIT(55)), PRIMARY_TPR_SHADOW, 0},
    {"tpr-threshold-reserved", CONTROLS, VMCS_TPR_THRESHOLD, VALUE(0x10), PRIMARY_TPR_SHADOW, 0},
    {"apic-access-alignment", CONTROLS, VMCS_APIC_ACCESS, VALUE(0x1004), SECONDARY_APIC_ACCESS, 0},
    {"apic-access-beyond", CONTROLS, VMCS_APIC_ACCESS, VALUE(BIT(54)), SECONDARY_APIC_ACCESS, 0},
    {"x2apic-without-shadow", CONTROLS, VMCS_SECONDARY, FLIP(BIT(4)), PRIMARY_SECONDARY, 0},
    {"vpid-0", CONTROLS, VMCS_VPID, VALUE(0), SECONDARY_VPID, 0},
    {"unrestricted-without-ept", CONTROLS, VMCS_SECONDARY, FLIP(BIT(7)), PRIMARY_SECONDARY, 0},
    {"eptp-memory-type", CONTROLS, VMCS_EPTP, VALUE(0x1000000 | 3 << 3 | 5), SECONDARY_EPT, 0},
    {"eptp-walk-length", CONTROLS, VMCS_EPTP, VALUE(0x1000000 | 2 << 3 | 6), SECONDARY_EPT, 0},
    {"eptp-reserved", CONTROLS, VMCS_EPTP, VALUE(0x1000000 | BIT(8) | 3 << 3 | 6), SECONDARY_EPT, 0},
    {"eptp-beyond", CONTROLS, VMCS_EPTP, VALUE(BIT(56) | 3 << 3 | 6), SECONDARY_EPT, 0},
    {"virtual-nmi-without-nmi", CONTROLS, VMCS_PIN, FLIP(BIT(5)), NEEDS_NONE, 0},
    {"nmi-window-without-virtual", CONTROLS, VMCS_PRIMARY, FLIP(BIT(22)), NEEDS_NONE, 0},
    {"save-timer-without-timer", CONTROLS, VMCS_EXIT, FLIP(BIT(22)), NEEDS_NONE, 0},
    {"entry-to-smm", DIFFERS, VMCS_ENTRY, FLIP(BIT(10)), NEEDS_NONE, 0},
    {"deactivate-dual-monitor", CONTROLS, VMCS_ENTRY, FLIP(BIT(11)), NEEDS_NONE, 0},
    {"entry-event-type-1", CONTROLS, VMCS_ENTRY_EVENT, VALUE(EVENT_VALID | 1 << 8 | 32), NEEDS_NONE, 0},
    {"entry-event-nmi-vector", CONTROLS, VMCS_ENTRY_EVENT, VALUE(EVENT_VALID | 2 << 8 | 3), NEEDS_NONE, 0},
    {"entry-event-exception-32", CONTROLS, VMCS_ENTRY_EVENT, VALUE(EVENT_EXCEPTION | 32), NEEDS_NONE, 0},
    {"entry-event-gp-without-error", CONTROLS, VMCS_ENTRY_EVENT, VALUE(EVENT_EXCEPTION | VECTOR_GP),
     NEEDS_NONE, 0},
    {"entry-event-ud-with-error", CONTROLS, VMCS_ENTRY_EVENT,
     VALUE(EVENT_EXCEPTION | EVENT_ERROR | VECTOR_UD), NEEDS_NONE, 0},
    {"entry-event-interrupt-error", CONTROLS, VMCS_ENTRY_EVENT, VALUE(EVENT_INTERRUPT | EVENT_ERROR | 33),
     NEEDS_NONE, 0},
    {"entry-event-reserved", CONTROLS, VMCS_ENTRY_EVENT, VALUE(EVENT_INTERRUPT | BIT(12) | 33), NEEDS_NONE,
     0},
    {"entry-event-reserved-30", CONTROLS, VMCS_ENTRY_EVENT, VALUE(EVENT_INTERRUPT | BIT(30) | 33), NEEDS_NONE,
     0},
    {"entry-msr-load-alignment", CONTROLS, VMCS_ENTRY_MSR_LOAD, VALUE(8), VMCS_ENTRY_MSR_LOAD_COUNT, 0, 0},
    {"entry-msr-load-beyond", CONTROLS, VMCS_ENTRY_MSR_LOAD, VALUE(BIT(57)), VMCS_ENTRY_MSR_LOAD_COUNT, 0, 0},
    {"exit-msr-store-alignment", CONTROLS, VMCS_EXIT_MSR_STORE, VALUE(4), VMCS_EXIT_MSR_STORE_COUNT, 0, 0},
    {"exit-msr-store-beyond", CONTROLS, VMCS_EXIT_MSR_STORE, VALUE(BIT(57)), VMCS_EXIT_MSR_STORE_COUNT, 0, 0},
    {"exit-msr-load-alignment", CONTROLS, VMCS_EXIT_MSR_LOAD, VALUE(1), VMCS_EXIT_MSR_LOAD_COUNT, 0, 0},
    {"exit-msr-load-beyond", CONTROLS, VMCS_EXIT_MSR_LOAD, VALUE(BIT(57)), VMCS_EXIT_MSR_LOAD_COUNT, 0, 0},

    /* Host state (26.2.2 to 26.2.4). */
    {"host-cr0-ne", HOST, VMCS_HOST_CR0, FLIP(CR0_NE), NEEDS_NONE, 0},
    {"host-cr0-pg", HOST, VMCS_HOST_CR0, FLIP(CR0_PG), NEEDS_NONE, 0},
    {"host-cr0-pe", HOST, VMCS_HOST_CR0, FLIP(CR0_PE), NEEDS_NONE, 0},
    {"host-cr4-vmxe", HOST, VMCS_HOST_CR4, FLIP(CR4_VMXE), NEEDS_NONE, 0},
    {"host-cr4-pae", HOST, VMCS_HOST_CR4, FLIP(CR4_PAE), NEEDS_NONE, 0},
    {"host-cr4-reserved", HOST, VMCS_HOST_CR4, FLIP(BIT(31)), NEEDS_NONE, 0},
    {"host-cr3-beyond", HOST, VMCS_HOST_CR3, FLIP(BIT(60)), NEEDS_NONE, 0},
    {"host-sysenter-esp", HOST, VMCS_HOST_SYSENTER_ESP, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"host-sysenter-eip", HOST, VMCS_HOST_SYSENTER_EIP, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"host-pat", HOST, VMCS_HOST_PAT, VALUE(0x0007040600070402), EXIT_LOAD_PAT, 0},
    {"host-efer-reserved", HOST, VMCS_HOST_EFER, VALUE(BIT(1) | EFER_LMA | EFER_LME), EXIT_LOAD_EFER, 0},
    {"host-efer-lma", HOST, VMCS_HOST_EFER, VALUE(EFER_LME), EXIT_LOAD_EFER, 0},
    {"host-efer-lme", HOST, VMCS_HOST_EFER, VALUE(EFER_LMA), EXIT_LOAD_EFER, 0},
    {"host-cs-0", HOST, VMCS_HOST_CS, VALUE(0), NEEDS_NONE, 0},
    {"host-cs-rpl", HOST, VMCS_HOST_CS, FLIP(3), NEEDS_NONE, 0},
    {"host-cs-ti", HOST, VMCS_HOST_CS, FLIP(4), NEEDS_NONE, 0},
    {"host-ss-rpl", HOST, VMCS_HOST_SS, FLIP(1), NEEDS_NONE, 0},
    {"host-ds-ti", HOST, VMCS_HOST_DS, FLIP(4), NEEDS_NONE, 0},
    {"host-es-rpl", HOST, VMCS_HOST_ES, FLIP(2), NEEDS_NONE, 0},
    {"host-fs-rpl", HOST, VMCS_HOST_FS, FLIP(1), NEEDS_NONE, 0},
    {"host-gs-ti", HOST, VMCS_HOST_GS, FLIP(4), NEEDS_NONE, 0},
    {"host-tr-0", HOST, VMCS_HOST_TR, VALUE(0), NEEDS_NONE, 0},
    {"host-tr-ti", HOST, VMCS_HOST_TR, FLIP(4), NEEDS_NONE, 0},
    {"host-fs-base", HOST, VMCS_HOST_FS_BASE, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"host-gs-base", HOST, VMCS_HOST_GS_BASE, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"host-tr-base", HOST, VMCS_HOST_TR_BASE, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"host-gdtr-base", HOST, VMCS_HOST_GDTR_BASE, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"host-idtr-base", HOST, VMCS_HOST_IDTR_BASE, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"host-rip", HOST, VMCS_HOST_RIP, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"host-not-64-bit", HOST, VMCS_EXIT, FLIP(BIT(9)), NEEDS_NONE, 0},

    /* Guest state (26.3.1). */
    {"guest-cr0-ne", GUEST, VMCS_GUEST_CR0, FLIP(CR0_NE), NEEDS_NONE, 0},
    {"guest-cr0-pe", GUEST, VMCS_GUEST_CR0, FLIP(CR0_PE), NEEDS_NONE, 0},
    {"guest-cr0-pg", GUEST, VMCS_GUEST_CR0, FLIP(CR0_PG), NEEDS_NONE, 0},
    {"guest-cr4-vmxe", GUEST, VMCS_GUEST_CR4, FLIP(CR4_VMXE), NEEDS_NONE, 0},
    {"guest-cr4-pae", GUEST, VMCS_GUEST_CR4, FLIP(CR4_PAE), NEEDS_NONE, 0},
    {"guest-cr4-reserved", GUEST, VMCS_GUEST_CR4, FLIP(BIT(31)), NEEDS_NONE, 0},
    {"guest-cr3-beyond", GUEST, VMCS_GUEST_CR3, FLIP(BIT(60)), NEEDS_NONE, 0},
    {"guest-debugctl", DIFFERS, VMCS_GUEST_DEBUGCTL, VALUE(BIT(20)), ENTRY_LOAD_DEBUG, 0},
    {"guest-dr7-high", GUEST, VMCS_GUEST_DR7, VALUE(BIT(32) | 0x400), ENTRY_LOAD_DEBUG, 0},
    {"guest-sysenter-esp", GUEST, VMCS_GUEST_SYSENTER_ESP, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"guest-sysenter-eip", GUEST, VMCS_GUEST_SYSENTER_EIP, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"guest-pat", GUEST, VMCS_GUEST_PAT, VALUE(0x0007040600070403), ENTRY_LOAD_PAT, 0},
    {"guest-efer-reserved", GUEST, VMCS_GUEST_EFER, VALUE(BIT(1) | EFER_LMA | EFER_LME), ENTRY_LOAD_EFER, 0},
    {"guest-efer-lma", GUEST, VMCS_GUEST_EFER, VALUE(EFER_LME), ENTRY_LOAD_EFER, 0},
    {"guest-efer-lme", GUEST, VMCS_GUEST_EFER, VALUE(EFER_LMA), ENTRY_LOAD_EFER, 0},
    {"guest-tr-ti", GUEST, VMCS_GUEST_TR, FLIP(4), NEEDS_NONE, 0},
    {"guest-ldtr-usable", GUEST, VMCS_GUEST_LDTR_RIGHTS, VALUE(0x1), NEEDS_NONE, 0},
    {"guest-ss-rpl", GUEST, VMCS_GUEST_SS, FLIP(3), NEEDS_NONE, 0},
    {"guest-tr-base", GUEST, VMCS_GUEST_TR_BASE, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"guest-fs-base", GUEST, VMCS_GUEST_FS_BASE, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"guest-gs-base", GUEST, VMCS_GUEST_GS_BASE, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"guest-cs-base", GUEST, VMCS_GUEST_CS_BASE, VALUE(BIT(32)), NEEDS_NONE, 0},
    {"guest-ss-base", GUEST, VMCS_GUEST_SS_BASE, VALUE(BIT(32)), NEEDS_NONE, 0},
    {"guest-ds-base", GUEST, VMCS_GUEST_DS_BASE, VALUE(BIT(40)), NEEDS_NONE, 0},
    {"guest-es-base", GUEST, VMCS_GUEST_ES_BASE, VALUE(BIT(33)), NEEDS_NONE, 0},
    {"guest-cs-type", GUEST, VMCS_GUEST_CS_RIGHTS, VALUE(0xa093), NEEDS_NONE, 0},
    {"guest-cs-not-accessed", GUEST, VMCS_GUEST_CS_RIGHTS, VALUE(0xa09a), NEEDS_NONE, 0},
    {"guest-cs-system", GUEST, VMCS_GUEST_CS_RIGHTS, VALUE(0xa08b), NEEDS_NONE, 0},
    {"guest-cs-not-present", GUEST, VMCS_GUEST_CS_RIGHTS, VALUE(0xa01b), NEEDS_NONE, 0},
    {"guest-cs-dpl", GUEST, VMCS_GUEST_CS_RIGHTS, VALUE(0xa0fb), NEEDS_NONE, 0},
    {"guest-cs-reserved", GUEST, VMCS_GUEST_CS_RIGHTS, VALUE(0xa19b), NEEDS_NONE, 0},
    {"guest-cs-l-and-d", GUEST, VMCS_GUEST_CS_RIGHTS, VALUE(0xe09b), NEEDS_NONE, 0},
    {"guest-cs-granularity", GUEST, VMCS_GUEST_CS_RIGHTS, VALUE(0x209b), NEEDS_NONE, 0},
    {"guest-ss-type", GUEST, VMCS_GUEST_SS_RIGHTS, VALUE(0xc091), NEEDS_NONE, 0},
    {"guest-ss-dpl", GUEST, VMCS_GUEST_SS_RIGHTS, VALUE(0xc0f3), NEEDS_NONE, 0},
    {"guest-ss-not-present", GUEST, VMCS_GUEST_SS_RIGHTS, VALUE(0xc013), NEEDS_NONE, 0},
    {"guest-ds-not-accessed", GUEST, VMCS_GUEST_DS_RIGHTS, VALUE(0xc092), NEEDS_NONE, 0},
    {"guest-ds-execute-only", GUEST, VMCS_GUEST_DS_RIGHTS, VALUE(0xc099), NEEDS_NONE, 0},
    {"guest-es-system", GUEST, VMCS_GUEST_ES_RIGHTS, VALUE(0xc083), NEEDS_NONE, 0},
    {"guest-es-not-present", GUEST, VMCS_GUEST_ES_RIGHTS, VALUE(0xc013), NEEDS_NONE, 0},
    {"guest-es-reserved", GUEST, VMCS_GUEST_ES_RIGHTS, VALUE(0xcf93), NEEDS_NONE, 0},
    {"guest-fs-granularity", GUEST, VMCS_GUEST_FS_RIGHTS, VALUE(0x4093), NEEDS_NONE, 0},
    {"guest-gs-system", GUEST, VMCS_GUEST_GS_RIGHTS, VALUE(0xc083), NEEDS_NONE, 0},
    {"guest-tr-type", GUEST, VMCS_GUEST_TR_RIGHTS, VALUE(0x89), NEEDS_NONE, 0},
    {"guest-tr-16-bit", GUEST, VMCS_GUEST_TR_RIGHTS, VALUE(0x83), NEEDS_NONE, 0},
    {"guest-tr-data", GUEST, VMCS_GUEST_TR_RIGHTS, VALUE(0x9b), NEEDS_NONE, 0},
    {"guest-tr-not-present", GUEST, VMCS_GUEST_TR_RIGHTS, VALUE(0x0b), NEEDS_NONE, 0},
    {"guest-tr-unusable", GUEST, VMCS_GUEST_TR_RIGHTS, VALUE(0x1008b), NEEDS_NONE, 0},
    {"guest-ldtr-type", GUEST, VMCS_GUEST_LDTR_RIGHTS, VALUE(0x8b), NEEDS_NONE, 0},
    {"guest-ldtr-not-present", GUEST, VMCS_GUEST_LDTR_RIGHTS, VALUE(0x02), NEEDS_NONE, 0},
    {"guest-gdtr-base", GUEST, VMCS_GUEST_GDTR_BASE, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"guest-idtr-base", GUEST, VMCS_GUEST_IDTR_BASE, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"guest-gdtr-limit", GUEST, VMCS_GUEST_GDTR_LIMIT, VALUE(0x10000), NEEDS_NONE, 0},
    {"guest-idtr-limit", GUEST, VMCS_GUEST_IDTR_LIMIT, VALUE(0x1ffff), NEEDS_NONE, 0},
    {"guest-rip", DIFFERS, VMCS_GUEST_RIP, VALUE(NON_CANONICAL), NEEDS_NONE, 0},
    {"guest-rflags-bit-1", GUEST, VMCS_GUEST_RFLAGS, VALUE(0), NEEDS_NONE, 0},
    {"guest-rflags-reserved", GUEST, VMCS_GUEST_RFLAGS, VALUE(RFLAGS_FIXED | BIT(3)), NEEDS_NONE, 0},
    {"guest-rflags-high", GUEST, VMCS_GUEST_RFLAGS, VALUE(RFLAGS_FIXED | BIT(63)), NEEDS_NONE, 0},
    {"guest-rflags-vm", GUEST, VMCS_GUEST_RFLAGS, VALUE(RFLAGS_FIXED | BIT(17)), NEEDS_NONE, 0},
    {"guest-activity-4", GUEST, VMCS_GUEST_ACTIVITY, VALUE(4), NEEDS_NONE, 0},
    {"guest-interruptibility-reserved", GUEST, VMCS_GUEST_INTERRUPTIBILITY, VALUE(BIT(5)), NEEDS_NONE, 0},
    {"guest-interruptibility-both", GUEST, VMCS_GUEST_INTERRUPTIBILITY, VALUE(BLOCKING_STI | BLOCKING_MOV_SS),
     NEEDS_NONE, 0},
    {"guest-interruptibility-sti-if-0", GUEST, VMCS_GUEST_INTERRUPTIBILITY, VALUE(BLOCKING_STI), NEEDS_NONE,
     0},
    {"guest-interruptibility-smi", GUEST, VMCS_GUEST_INTERRUPTIBILITY, VALUE(BLOCKING_SMI), NEEDS_NONE, 0},
    {"guest-interrupt-if-0", GUEST, VMCS_ENTRY_EVENT, VALUE(EVENT_INTERRUPT | 33), NEEDS_NONE, 0},
    {"guest-pending-debug-reserved", GUEST, VMCS_GUEST_PENDING_DEBUG, VALUE(BIT(4)), NEEDS_NONE, 0},
    {"guest-link-pointer-alignment", GUEST, VMCS_LINK_POINTER, VALUE(0x1004), NEEDS_NONE, 4},
    {"guest-link-pointer-beyond", GUEST, VMCS_LINK_POINTER, VALUE(BIT(58)), NEEDS_NONE, 4},
};

static bool is_control_word(unsigned word)
{
    return word == VMCS_PIN || word == VMCS_PRIMARY || word == VMCS_SECONDARY || word == VMCS_EXIT ||
           word == VMCS_ENTRY;
}

/* The VMCS of a row before it is spoilt: good in all that a control brings along. */
static void prepare_row(const struct refused *row)
{
    static const struct {
        unsigned word, bit;
        uint32_t field;
        uint64_t value;
    } companions[] = {
        {PRIMARY_IO_BITMAPS, VMCS_IO_BITMAP_A, PAGE_OF_ZEROES},
        {PRIMARY_IO_BITMAPS, VMCS_IO_BITMAP_B, PAGE_OF_ZEROES},
        {PRIMARY_MSR_BITMAPS, VMCS_MSR_BITMAP, PAGE_OF_ZEROES},
        {PRIMARY_TPR_SHADOW, VMCS_VIRTUAL_APIC, PAGE_OF_ZEROES},
        {PRIMARY_TPR_SHADOW, VMCS_TPR_THRESHOLD, 0},
        {SECONDARY_APIC_ACCESS, VMCS_APIC_ACCESS, PAGE_OF_ZEROES},
        {SECONDARY_VPID, VMCS_VPID, 1},
        {EXIT_LOAD_PAT, VMCS_HOST_PAT, 0x0007040600070406},
        {ENTRY_LOAD_PAT, VMCS_GUEST_PAT, 0x0007040600070406},
        {EXIT_LOAD_EFER, VMCS_HOST_EFER, EFER_LMA | EFER_LME},
        {ENTRY_LOAD_EFER, VMCS_GUEST_EFER, EFER_LMA | EFER_LME},
    };

    vmx_prepare();
    for (unsigned i = 0; i < ARRAY_SIZE(companions); i++)
        if (vmx_may_set(companions[i].word, companions[i].bit))
            vmx_set(companions[i].field, companions[i].value);
    entry_load[0] = exit_store[0] = exit_load[0] = (struct msr_entry){MSR_LSTAR, 0, 0};
    vmx_set(VMCS_ENTRY_MSR_LOAD, (uint64_t)entry_load);
    vmx_set(VMCS_EXIT_MSR_STORE, (uint64_t)exit_store);
    vmx_set(VMCS_EXIT_MSR_LOAD, (uint64_t)exit_load);
    if (row->word != 0 && !is_control_word(row->word))
        vmx_set(row->word, 1); /* a count, not a control */
    else if (row->word != 0)
        vmx_control(row->word, row->bit, true);
    vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_nothing);
    vmx_set(VMCS_EXCEPTION_BITMAP, 0xffffffff); /* whatever comes of a bad entry */
}

static bool is_possible(const struct refused *row)
{
    return !is_control_word(row->word) || vmx_may_set(row->word, row->bit);
}

/* Unspoilt, all of them enter; but for those with EPT, which has no tables here. */
static void unspoilt_rows(void)
{
    unsigned wrong = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        if (!is_possible(&refused[i]) || refused[i].field == VMCS_EPTP)
            continue;
        prepare_row(&refused[i]);
        vmx_run();
        wrong += vmx_exit.outcome != VMX_SUCCEED || vmx_exit.reason != REASON_VMCALL;
    }
    guest_equal("unspoilt", wrong, 0);
}

static void refused_rows(void)
{
    char name[64];

    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        const struct refused *row = &refused[i];

        if (!is_possible(row)) {
            format_text(name, sizeof(name), "%s-not-offered", row->name);
            guest_differs(name, 1);
            continue;
        }
        prepare_row(row);
        vmx_set(row->field, row->toggle != 0 ? vmx_get(row->field) ^ row->toggle : row->value);
        vmx_run();
        format_text(name, sizeof(name), "refused-%s", row->name);
        if (row->refusal == DIFFERS) {
            guest_differs(name, vmx_exit.outcome == VMX_SUCCEED ? vmx_exit.reason : vmx_exit.error);
        } else if (row->refusal == GUEST) {
            guest_check(vmx_exit.outcome == VMX_SUCCEED &&
                            vmx_exit.reason == (REASON_ENTRY_FAILURE | REASON_GUEST_STATE) &&
                            vmx_exit.qualification == row->qualification,
                        name, "outcome %#lx error %lu reason %#lx qualification %lu", vmx_exit.outcome,
                        vmx_exit.error, vmx_exit.reason, vmx_exit.qualification);
            if (vmx_exit.reason == (REASON_ENTRY_FAILURE | REASON_GUEST_STATE)) {
                /* The VMCS is still clear, and Lv1 has its host state. */
                format_text(name, sizeof(name), "refused-%s-clear", row->name);
                vmx_expect_error(name, vmx_resume_fails(), 5);
            }
        } else {
            guest_check(vmx_exit.outcome == VMX_FAIL_VALID && vmx_exit.error == row->refusal, name,
                        "outcome %#lx error %lu reason %#lx qualification %lu", vmx_exit.outcome,
                        vmx_exit.error, vmx_exit.reason, vmx_exit.qualification);
        }
    }
}

/* The order of the groups (26.1 to 26.3), and that a mended VMCS enters. */
static void order_rows(void)
{
    vmx_prepare();
    vmx_set(VMCS_GUEST_RFLAGS, 0);
    vmx_set(VMCS_HOST_CS, 0);
    vmx_set(VMCS_CR3_TARGET_COUNT, 9);
    vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_nothing);
    vmx_run();
    guest_check(vmx_exit.outcome == VMX_FAIL_VALID && (vmx_exit.error == 7 || vmx_exit.error == 8),
                "order-not-guest-first", "outcome %#lx reason %#lx", vmx_exit.outcome, vmx_exit.reason);
    vmx_set(VMCS_CR3_TARGET_COUNT, 0);
    vmx_run();
    guest_check(vmx_exit.outcome == VMX_FAIL_VALID && vmx_exit.error == 8, "order-host", "error %lu",
                vmx_exit.error);
    vmx_set(VMCS_HOST_CS, SELECTOR_CODE);
    vmx_run();
    guest_equal("order-guest", vmx_exit.reason, REASON_ENTRY_FAILURE | REASON_GUEST_STATE);
    vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
    vmx_run();
    vmx_expect("order-mended", REASON_VMCALL);
}

/* Entry failures behind the checks load host state as an exit does, and leave the guest's in the VMCS. */
static void failure_state_rows(void)
{
    vmx_prepare();
    vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | BIT(3));
    vmx_set(VMCS_GUEST_RIP, 0x1234);
    vmx_set(VMCS_GUEST_RSP, 0x5678);
    vmx_set(VMCS_ENTRY_EVENT, EVENT_EXCEPTION | VECTOR_UD);
    for (unsigned i = 0; i < 15; i++)
        (&vmx_registers.rax)[i] = 0x1111111111111111UL * (i + 1);
    vmx_run();
    guest_equal("failure-reason", vmx_exit.reason, REASON_ENTRY_FAILURE | REASON_GUEST_STATE);
    guest_equal("failure-rip-kept", vmx_exit.rip, 0x1234);
    guest_equal("failure-rsp-kept", vmx_get(VMCS_GUEST_RSP), 0x5678);
    guest_equal("failure-rflags-kept", vmx_exit.rflags, RFLAGS_FIXED | BIT(3));
    guest_equal("failure-event-kept", vmx_get(VMCS_ENTRY_EVENT), EVENT_EXCEPTION | VECTOR_UD);
    guest_equal("failure-host-rflags", vmx_exit.host_rflags, RFLAGS_FIXED);
    unsigned wrong = 0;
    for (unsigned i = 0; i < 15; i++)
        wrong += (&vmx_registers.rax)[i] != 0x1111111111111111UL * (i + 1);
    guest_equal("failure-registers-kept", wrong, 0);
}

/* ---- Lists of MSRs ------------------------------------------------------------------------------------ */

LV2(lv2_read_msrs,
    "movl $0xc0000082, %ecx; rdmsr; movl %eax, %esi; movl $0xc0000102, %ecx; rdmsr; movl %eax, %edi\n"
    "movl $0xc0000082, %ecx; movl $0x7770, %eax; xorl %edx, %edx; wrmsr");

static void list_prepare(unsigned load, unsigned store, unsigned back)
{
    vmx_prepare();
    if (vmx_may_set(PRIMARY_MSR_BITMAPS)) {
        vmx_control(PRIMARY_MSR_BITMAPS, true);
        vmx_set(VMCS_MSR_BITMAP, PAGE_OF_ZEROES);
    }
    vmx_set(VMCS_ENTRY_MSR_LOAD, (uint64_t)entry_load);
    vmx_set(VMCS_EXIT_MSR_STORE, (uint64_t)exit_store);
    vmx_set(VMCS_EXIT_MSR_LOAD, (uint64_t)exit_load);
    vmx_set(VMCS_ENTRY_MSR_LOAD_COUNT, load);
    vmx_set(VMCS_EXIT_MSR_STORE_COUNT, store);
    vmx_set(VMCS_EXIT_MSR_LOAD_COUNT, back);
}

static void list_rows(void)
{
    static const struct {
        const char *name;
        struct msr_entry bad;
    } rows[] = {
        {"fs-base", {MSR_FS_BASE, 0, 0}},
        {"gs-base", {MSR_GS_BASE, 0, 0}},
        {"x2apic", {MSR_X2APIC + 8, 0, 0}},
        {"reserved", {MSR_LSTAR, 1, 0}},
        {"non-canonical", {MSR_LSTAR, 0, NON_CANONICAL}},
        {"no-such-msr", {0x1ffe, 0, 0}},
        {"capability", {MSR_VMX_BASIC, 0, 0}},
    };
    char name[48];

    wrmsr(MSR_LSTAR, 0x1000);
    wrmsr(MSR_KERNEL_GS_BASE, 0x2000);
    entry_load[0] = (struct msr_entry){MSR_LSTAR, 0, 0x3330};
    entry_load[1] = (struct msr_entry){MSR_KERNEL_GS_BASE, 0, 0x4440};
    exit_store[0] = (struct msr_entry){MSR_LSTAR, 0, 0};
    exit_store[1] = (struct msr_entry){MSR_KERNEL_GS_BASE, 0, 0};
    exit_load[0] = (struct msr_entry){MSR_LSTAR, 0, 0x5550};
    exit_load[1] = (struct msr_entry){MSR_KERNEL_GS_BASE, 0, 0x6660};
    list_prepare(2, 2, 2);
    vmx_run_at(lv2_read_msrs);
    vmx_expect("lists", REASON_VMCALL);
    guest_equal("list-loaded-0", vmx_registers.rsi, 0x3330);
    guest_equal("list-loaded-1", vmx_registers.rdi, 0x4440);
    guest_equal("list-stored-0", exit_store[0].value, 0x7770);
    guest_equal("list-stored-1", exit_store[1].value, 0x4440);
    guest_equal("list-loaded-back-0", rdmsr(MSR_LSTAR), 0x5550);
    guest_equal("list-loaded-back-1", rdmsr(MSR_KERNEL_GS_BASE), 0x6660);

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        for (unsigned place = 0; place < 2; place++) {
            entry_load[0] = (struct msr_entry){MSR_KERNEL_GS_BASE, 0, 0x8880};
            entry_load[1] = (struct msr_entry){MSR_KERNEL_GS_BASE, 0, 0x9990};
            entry_load[place] = rows[i].bad;
            list_prepare(2, 0, 0);
            vmx_run_at(lv2_nothing);
            format_text(name, sizeof(name), "list-bad-%s-%u", rows[i].name, place);
            guest_check(vmx_exit.outcome == VMX_SUCCEED &&
                            vmx_exit.reason == (REASON_ENTRY_FAILURE | REASON_MSR_LOADING) &&
                            vmx_exit.qualification == place + 1,
                        name, "outcome %#lx reason %#lx qualification %lu", vmx_exit.outcome, vmx_exit.reason,
                        vmx_exit.qualification);
        }
    }
    wrmsr(MSR_LSTAR, 0);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
}

/* IA32_PAT, IA32_EFER, IA32_DEBUGCTL and DR7 by controls (26.3.2.1, 27.3.1, 27.5.1). */
LV2(lv2_pat_efer,
    "movl $0x277, %ecx; rdmsr; movl %eax, %esi; movl $0xc0000080, %ecx; rdmsr; movl %eax, %edi\n"
    "movl $0xc0000080, %ecx; andl $0xfffffffe, %eax; wrmsr\n"
    "movl $0x277, %ecx; movl $0x06060606, %eax; movl %eax, %edx; wrmsr");
LV2(lv2_dr7, "movq %dr7, %rsi; movl $0x455, %eax; movq %rax, %dr7");

static void control_state_rows(void)
{
    const uint64_t pat = rdmsr(MSR_PAT), efer = rdmsr(MSR_EFER), guest_pat = 0x0606060600000006;

    if (vmx_may_set(ENTRY_LOAD_PAT) && vmx_may_set(EXIT_SAVE_PAT) && vmx_may_set(EXIT_LOAD_PAT) &&
        vmx_may_set(ENTRY_LOAD_EFER) && vmx_may_set(EXIT_SAVE_EFER) && vmx_may_set(EXIT_LOAD_EFER)) {
        list_prepare(0, 0, 0);
        vmx_control(ENTRY_LOAD_PAT, true);
        vmx_control(EXIT_SAVE_PAT, true);
        vmx_control(EXIT_LOAD_PAT, true);
        vmx_control(ENTRY_LOAD_EFER, true);
        vmx_control(EXIT_SAVE_EFER, true);
        vmx_control(EXIT_LOAD_EFER, true);
        vmx_set(VMCS_GUEST_PAT, guest_pat);
        vmx_set(VMCS_GUEST_EFER, efer | EFER_SCE);
        vmx_set(VMCS_HOST_PAT, pat);
        vmx_set(VMCS_HOST_EFER, efer);
        vmx_run_at(lv2_pat_efer);
        vmx_expect("pat-efer", REASON_VMCALL);
        guest_equal("pat-loaded", vmx_registers.rsi, (uint32_t)guest_pat);
        guest_equal("efer-loaded", vmx_registers.rdi, efer | EFER_SCE);
        guest_equal("pat-saved", vmx_get(VMCS_GUEST_PAT), 0x0606060606060606);
        guest_equal("efer-saved", vmx_get(VMCS_GUEST_EFER), efer);
        guest_equal("pat-host", rdmsr(MSR_PAT), pat);
        guest_equal("efer-host", rdmsr(MSR_EFER), efer);
    }
    vmx_prepare();
    vmx_control(ENTRY_LOAD_DEBUG, true);
    vmx_control(EXIT_SAVE_DEBUG, true);
    vmx_set(VMCS_GUEST_DR7, 0x411);
    write_dr0(0);
    write_dr2(0);
    vmx_run_at(lv2_dr7);
    vmx_expect("dr7", REASON_VMCALL);
    guest_equal("dr7-loaded", vmx_registers.rsi, 0x411);
    guest_equal("dr7-saved", vmx_get(VMCS_GUEST_DR7), 0x455);
    guest_equal("dr7-host", read_dr7(), 0x400);
}

void guest_main(void)
{
    CHECK("vmx", vmx_exists());
    vmx_enable();
    inject_rows();
    vectoring_rows();
    own_vectoring_rows();
    nmi_rows();
    activity_rows();
    unspoilt_rows();
    refused_rows();
    order_rows();
    failure_state_rows();
    list_rows();
    control_state_rows();
    vmx_off();
}
