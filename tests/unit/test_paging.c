// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/paging.c and core/exits/paging.c: regimes, contexts and invalidations of a guest on shadow tables.
 * Fails when the hardware's registers are not those of the regime, when the guest does not read back what it
 * wrote, when what the processor's tables say is not what the guest's say, or when a fault, an error code or
 * CR2 is another.
 */
#include "core/paging.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/x86/paging_x86.h"
#include "tests/unit/fake_machine.h"

#define LENGTH     3
#define SECOND     (GUEST_TABLES + 0x5000) /* a second set of tables: a PML4 */
#define CODE_READ  0
#define CODE_WRITE PAGE_FAULT_WRITE
#define CODE_USER  PAGE_FAULT_USER

static int start_vtlb(void **state)
{
    guest_paging = CONFIG_PAGING_VTLB;
    machine_processor = SKYLAKE_X;
    return start_64(state);
}

static int start_vtlb_32(void **state)
{
    guest_paging = CONFIG_PAGING_VTLB;
    machine_processor = SKYLAKE_X;
    return start_32(state);
}

static int start_penryn(void **state)
{
    guest_paging = CONFIG_PAGING_AUTO;
    machine_processor = PENRYN;
    return start_32(state);
}

static int start_tiger_lake(void **state)
{
    guest_paging = CONFIG_PAGING_VTLB;
    machine_processor = TIGER_LAKE;
    return start_64(state);
}

static int start_lynnfield(void **state)
{
    guest_paging = CONFIG_PAGING_AUTO;
    machine_processor = LYNNFIELD;
    return start_32(state);
}

/* ---- What the processor sees -----------------------------------------------------------------------------
 */

static bool is_long(void)
{
    return (fake_get(VMCS_ENTRY_CONTROLS) & VMX_ENTRY_IA32E_GUEST) != 0;
}

#define KEY(key) ((uint64_t)(key) << PTE_KEY_SHIFT)

/* The entry that maps `address` in the tables that CR3 points to, rights folded, with its key; 0: none. SDM
 * vol. 3, "Paging". */
static uint64_t shadow_entry(uint64_t address)
{
    uint64_t table = fake_get(VMCS_GUEST_CR3) & 0xffffffffff000, folded = 7, nx = 0;

    for (int shift = is_long() ? 39 : 30;; shift -= 9) {
        unsigned slot = address >> shift & (!is_long() && shift == 30 ? 3 : 511);
        uint64_t entry = ((const uint64_t *)physmap_pointer(HPA(table)))[slot];

        if ((entry & 1) == 0)
            return 0;
        if (is_long() || shift < 30) {
            folded &= entry;
            nx |= entry & PTE_NO_EXECUTE;
        }
        if (shift == 12 || (shift < 30 && (entry & 0x80) != 0)) {
            uint64_t offset = address & (BIT(shift) - 1) & ~0xfffULL;
            return ((entry & 0xffffffffff000 & ~(BIT(shift) - 1)) + offset) | folded | nx | (entry & KEY(15));
        }
        table = entry & 0xffffffffff000;
    }
}

/* Where guest-physical `gpa` is in the machine. */
static uint64_t host(uint64_t gpa)
{
    const struct p2m_region *region = p2m_find(&partition->p2m, GPA(gpa));

    return region->hpa.value + gpa - region->gpa.value;
}

static void assert_maps(uint64_t address, uint64_t gpa, uint64_t rights)
{
    assert_int_equal(shadow_entry(address), host(gpa) | 1 | rights);
}

/* ---- Exits -----------------------------------------------------------------------------------------------
 */

static void page_fault(uint64_t address, uint64_t code)
{
    run_to_exit(EXIT_REASON_EXCEPTION_OR_NMI, address, 0);
    fake_set(VMCS_EXIT_INTERRUPTION_INFO, BIT(31) | BIT(11) | 3 << 8 | X86_VECTOR_PF);
    fake_set(VMCS_EXIT_INTERRUPTION_ERROR_CODE, code);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    take_snapshot(&snapshot);
    handle();
    fake_vmcs.linear_flushes = 0;
    if (vtlb_generation(&guest->vtlb) != guest->lv1.vtlb_seen)
        paging_flush_hardware(&guest->lv1);
}

static void filled(uint64_t address, uint64_t code)
{
    page_fault(address, code);
    prepare_entry();
    assert_int_equal(fake_injection(), 0);
    assert_int_not_equal(shadow_entry(address), 0);
}

static void faults(uint64_t address, uint64_t code, uint64_t guest_code)
{
    page_fault(address, code);
    prepare_entry();
    assert_int_equal(fake_injection() & 0xff, X86_VECTOR_PF);
    assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), guest_code);
    assert_int_equal(fake_cpu.cr2, address);
    vcpu_enter(&guest->vcpu, true);
}

static void write_register(unsigned number, uint64_t value)
{
    guest->vcpu.registers[VCPU_RBX] = value;
    run_to_exit(EXIT_REASON_CR_ACCESS, number | VCPU_RBX << 8, LENGTH);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    take_snapshot(&snapshot);
    handle();
}

static void writes(unsigned number, uint64_t value)
{
    write_register(number, value);
    assert_done(GUEST_RIP + LENGTH);
}

static void refused(unsigned number, uint64_t value)
{
    write_register(number, value);
    assert_fault(X86_VECTOR_GP, 0);
}

static uint64_t reads_cr3(void)
{
    run_to_exit(EXIT_REASON_CR_ACCESS, 3 | 1 << 4 | VCPU_RCX << 8, LENGTH);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    take_snapshot(&snapshot);
    handle();
    assert_done(GUEST_RIP + LENGTH);
    return guest->vcpu.registers[VCPU_RCX];
}

static void invlpg(uint64_t address)
{
    run_to_exit(EXIT_REASON_INVLPG, address, LENGTH);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    take_snapshot(&snapshot);
    handle();
    assert_done(GUEST_RIP + LENGTH);
}

/* INVPCID of `type`, with its descriptor at [rax]. */
static void invpcid_exit(uint64_t type, uint64_t tag, uint64_t address)
{
    guest_put64(0x8000, tag);
    guest_put64(0x8008, address);
    guest->vcpu.registers[VCPU_RAX] = 0x7ff0;
    guest->vcpu.registers[VCPU_RDX] = type;
    run_to_exit(EXIT_REASON_INVPCID, 0x10, LENGTH);
    fake_set(VMCS_EXIT_INSTRUCTION_INFO,
             2 << 7 | 3 << 15 | 1 << 22 | VCPU_RAX << 23 | (uint32_t)VCPU_RDX << 28);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    take_snapshot(&snapshot);
    handle();
}

static void invpcid(uint64_t type, uint64_t tag, uint64_t address)
{
    invpcid_exit(type, tag, address);
    assert_done(GUEST_RIP + LENGTH);
}

/* ---- The tests -------------------------------------------------------------------------------------------
 */

/* SDM vol. 3, "Checks on Guest Control Registers", "VM-Execution Control Fields": what shadow tables need. */
static void registers_of_the_regime(void **state)
{
    (void)state;
    assert_int_equal(guest->vcpu.regime, VCPU_REGIME_SHADOW);
    assert_int_equal(
        fake_get(VMCS_SECONDARY_CONTROLS) & (VMX_SECONDARY_EPT | VMX_SECONDARY_UNRESTRICTED_GUEST), 0);
    const uint64_t exits =
        VMX_PRIMARY_CR3_LOAD_EXITING | VMX_PRIMARY_CR3_STORE_EXITING | VMX_PRIMARY_INVLPG_EXITING;
    assert_int_equal(fake_get(VMCS_PRIMARY_CONTROLS) & exits, exits);
    assert_true((fake_get(VMCS_EXCEPTION_BITMAP) & BIT(X86_VECTOR_PF)) != 0);
    assert_true((fake_get(VMCS_GUEST_CR0) & X86_CR0_PG) != 0 && (fake_get(VMCS_GUEST_CR0) & X86_CR0_WP) != 0);
    assert_true((fake_get(VMCS_GUEST_CR4) & X86_CR4_PAE) != 0);
    assert_int_equal(fake_get(VMCS_GUEST_CR3), vtlb_root(guest->lv1.context).value);
    assert_true((fake_get(VMCS_GUEST_EFER) & X86_EFER_NXE) != 0);
    assert_true(is_long());
    assert_int_equal(reads_cr3(), GUEST_TABLES);
}

static void misses_and_faults(void **state)
{
    (void)state;
    /* Filled as far as D allows; then whole. */
    filled(0x123456, CODE_READ);
    assert_maps(0x123456, 0x123000, PTE_USER);
    filled(0x123456, CODE_WRITE | PAGE_FAULT_PRESENT);
    assert_maps(0x123456, 0x123000, PTE_USER | PTE_WRITE);
    uint64_t entry;
    guest_take(GUEST_TABLES + 0x3000 + 0x123 * 8, &entry, sizeof(entry));
    assert_int_equal(entry, 0x123000 | 0x67);

    /* The guest's own faults have the codes of its own tables. */
    guest_unmap(0x124000);
    faults(0x124008, CODE_WRITE | CODE_USER, CODE_WRITE | CODE_USER);
    guest_put64(GUEST_TABLES + 0x3000 + 0x125 * 8, 0x125000 | PTE_PRESENT);
    faults(0x125000, CODE_USER, PAGE_FAULT_PRESENT | CODE_USER);
    filled(0x125000, CODE_WRITE); /* CR0.WP is 0 */
    assert_maps(0x125000, 0x125000, PTE_WRITE);
    guest_put64(GUEST_TABLES + 0x3000 + 0x126 * 8, 0x126000 | PTE_PRESENT | PTE_NO_EXECUTE);
    faults(0x126000, CODE_READ, PAGE_FAULT_PRESENT | PAGE_FAULT_RESERVED); /* EFER.NXE is 0 */

    /* Changed and invalidated. */
    guest_put64(GUEST_TABLES + 0x3000 + 0x123 * 8, 0x127000 | 3);
    assert_maps(0x123456, 0x123000, PTE_USER | PTE_WRITE);
    invlpg(0x123000);
    assert_int_equal(shadow_entry(0x123456), 0);
    filled(0x123456, CODE_READ);
    assert_maps(0x123456, 0x127000, 0);
}

/* A table that lies where no memory is reads as all ones. */
static void table_in_a_hole(void **state)
{
    (void)state;
    guest_put64(GUEST_TABLES + 0x1000 + 8, 0xd0000000 | 7);
    faults(GIB(1), CODE_READ, PAGE_FAULT_PRESENT | PAGE_FAULT_RESERVED);
}

/* Devices are emulated: the IO-APIC's version register. */
static void device(void **state)
{
    static const uint8_t code[] = {0x8b, 0x03}; /* mov (%rbx), %eax */

    (void)state;
    guest_put(GUEST_RIP, code, sizeof(code));
    guest->vcpu.registers[VCPU_RBX] = 0xfec00010;
    page_fault(0xfec00010, CODE_READ);
    assert_int_equal(fake_get(VMCS_GUEST_RIP), GUEST_RIP + sizeof(code));
    assert_int_equal(guest->mmio, 1);
}

/* A page fault that Umbra finds, emulating, forgets its address as one that the processor finds. */
static void fault_of_an_emulated_access(void **state)
{
    static const uint8_t code[] = {0xa5}; /* movsd: from a device to memory */

    (void)state;
    guest_put(GUEST_RIP, code, sizeof(code));
    filled(0x123000, CODE_WRITE);
    guest_unmap(0x123000);
    assert_int_not_equal(shadow_entry(0x123000), 0);
    guest->vcpu.registers[VCPU_RSI] = 0xfec00010;
    guest->vcpu.registers[VCPU_RDI] = 0x123000;
    page_fault(0xfec00010, CODE_READ);
    prepare_entry();
    assert_int_equal(fake_injection() & 0xff, X86_VECTOR_PF);
    assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), CODE_WRITE);
    assert_int_equal(fake_cpu.cr2, 0x123000);
    assert_int_equal(shadow_entry(0x123000), 0);
}

static void loads_of_cr3(void **state)
{
    (void)state;
    filled(0x200000, CODE_READ);
    filled(0x123000, CODE_READ);
    const uint64_t first = fake_get(VMCS_GUEST_CR3);

    /* Another root: nothing of the first; back: all that the guest did not change. */
    guest_put64(SECOND, (GUEST_TABLES + 0x1000) | 7);
    writes(3, SECOND);
    assert_int_equal(reads_cr3(), SECOND);
    assert_int_not_equal(fake_get(VMCS_GUEST_CR3), first);
    filled(0x123000, CODE_READ);
    guest_put64(GUEST_TABLES + 0x3000 + 0x123 * 8, 0x128000 | 7);
    writes(3, GUEST_TABLES);
    assert_int_equal(fake_get(VMCS_GUEST_CR3), first);
    assert_int_equal(shadow_entry(0x123000), 0);
    assert_maps(0x200000, 0x200000, PTE_USER);
    assert_int_equal(guest->lv1.vtlb_seen, 0); /* the processor's own TLB is to be told */

    refused(3, BIT(63) | SECOND); /* no PCIDs */
    refused(3, BIT(52) | SECOND);
    assert_int_equal(reads_cr3(), GUEST_TABLES);
}

static void tags(void **state)
{
    (void)state;
    writes(4, X86_CR4_PAE | X86_CR4_PCIDE | X86_CR4_PGE);
    assert_int_equal(fake_get(VMCS_GUEST_CR4) & (X86_CR4_PCIDE | X86_CR4_PGE), 0);
    guest_put64(SECOND, (GUEST_TABLES + 0x1000) | 7);
    filled(0x123000, CODE_READ);
    writes(3, SECOND | 5);
    filled(0x123000, CODE_READ);
    guest_put64(GUEST_TABLES + 0x3000 + 0x123 * 8, 0x128000 | 7);

    /* Without a flush both may keep the old page; with one, each looks anew. */
    writes(3, BIT(63) | GUEST_TABLES);
    assert_int_equal(reads_cr3(), GUEST_TABLES);
    assert_maps(0x123000, 0x123000, PTE_USER);
    writes(3, GUEST_TABLES);
    assert_int_equal(shadow_entry(0x123000), 0);
    writes(3, BIT(63) | SECOND | 5);
    assert_maps(0x123000, 0x123000, PTE_USER);
    invpcid(0, 5, 0x123000);
    assert_int_equal(shadow_entry(0x123000), 0);

    filled(0x123000, CODE_READ);
    assert_maps(0x123000, 0x128000, PTE_USER);
    guest_put64(GUEST_TABLES + 0x3000 + 0x123 * 8, 0x129000 | 7);
    invpcid(1, 6, 0);
    assert_maps(0x123000, 0x128000, PTE_USER);
    invpcid(1, 5, 0);
    assert_int_equal(shadow_entry(0x123000), 0);

    /* A global page stays but for types 0 and 2. */
    guest_put64(GUEST_TABLES + 0x3000 + 0x123 * 8, 0x123000 | 7 | PTE_GLOBAL);
    filled(0x123000, CODE_READ);
    guest_put64(GUEST_TABLES + 0x3000 + 0x123 * 8, 0x129000 | 7 | PTE_GLOBAL);
    invpcid(3, 0, 0);
    invpcid(2, 0, 0);
    assert_int_equal(shadow_entry(0x123000), 0);

    invpcid_exit(4, 0, 0);
    assert_fault(X86_VECTOR_GP, 0);
    invpcid_exit(1, BIT(12), 0);
    assert_fault(X86_VECTOR_GP, 0);
    invpcid_exit(0, 0, BIT(62));
    assert_fault(X86_VECTOR_GP, 0);
}

/* CR0.WP is part of the role; the hardware's stays 1. */
static void write_protection(void **state)
{
    (void)state;
    guest_put64(GUEST_TABLES + 0x3000 + 0x125 * 8, 0x125000 | PTE_PRESENT | PTE_USER);
    filled(0x125000, CODE_WRITE);
    assert_maps(0x125000, 0x125000, PTE_WRITE);
    writes(0, X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_PG | X86_CR0_WP);
    assert_int_equal(shadow_entry(0x125000), 0);
    faults(0x125000, CODE_WRITE, PAGE_FAULT_PRESENT | CODE_WRITE);
    filled(0x125000, CODE_USER);
    assert_maps(0x125000, 0x125000, PTE_USER);
    writes(0, X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_PG);
    filled(0x125000, CODE_WRITE);
    assert_maps(0x125000, 0x125000, PTE_WRITE);
}

/*
 * CR0.WP = 0 under SMAP: a write to a user's page is stepped, and the page is the user's again afterwards.
 * The guest sees nothing of it; an exception of its own ends the step first.
 */
static void single_access(void **state)
{
    const uint64_t code = CODE_WRITE | PAGE_FAULT_PRESENT;

    (void)state;
    guest_put64(GUEST_TABLES + 0x3000 + 0x125 * 8, 0x125000 | PTE_PRESENT | PTE_USER);
    writes(4, X86_CR4_PAE | X86_CR4_SMAP);
    for (unsigned turn = 0; turn < 2; turn++) {
        fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_AC);
        filled(0x125000, CODE_WRITE);
        assert_maps(0x125000, 0x125000, PTE_WRITE);
        assert_int_equal(fake_get(VMCS_GUEST_RFLAGS), X86_RFLAGS_RESERVED | X86_RFLAGS_AC | X86_RFLAGS_TF);
        assert_int_equal(fake_get(VMCS_EXCEPTION_BITMAP), UINT32_MAX);

        run_to_exit(EXIT_REASON_EXCEPTION_OR_NMI, turn == 0 ? X86_DR6_BS : 0, 0);
        fake_set(VMCS_EXIT_INTERRUPTION_INFO,
                 BIT(31) | 3 << 8 | (turn == 0 ? X86_VECTOR_DB : BIT(11) | X86_VECTOR_GP));
        handle();
        assert_int_equal(fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_TF, 0);
        assert_int_not_equal(fake_get(VMCS_EXCEPTION_BITMAP), UINT32_MAX);
        assert_int_equal(shadow_entry(0x125000), 0);
        prepare_entry();
        assert_int_equal(fake_injection() & 0xff, turn == 0 ? 0 : X86_VECTOR_GP);
    }
    vcpu_enter(&guest->vcpu, true);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED);
    faults(0x125000, CODE_WRITE, code);
}

/*
 * PKRU, which the guest writes without an exit, is what it is at each fault. Fails when the page's key is not
 * in the processor's tables, when a fault is judged by another PKRU, or when CR4.PKE is not part of the role.
 */
static void protection_keys(void **state)
{
    static const uint8_t code[] = {0xa5}; /* movsd: from a device to memory */
    const uint64_t denied = PAGE_FAULT_PRESENT | PAGE_FAULT_KEY;

    (void)state;
    guest_put64(GUEST_TABLES + 0x3000 + 0x125 * 8, 0x125000 | 0x67 | KEY(1));
    filled(0x125000, CODE_USER);
    assert_maps(0x125000, 0x125000, PTE_USER | PTE_WRITE);
    writes(4, X86_CR4_PAE | X86_CR4_PKE);
    assert_int_equal(fake_get(VMCS_GUEST_CR4) & X86_CR4_PKE, X86_CR4_PKE);
    assert_int_equal(shadow_entry(0x125000), 0);
    filled(0x125000, CODE_USER);
    assert_maps(0x125000, 0x125000, PTE_USER | PTE_WRITE | KEY(1));

    fake_cpu.pkru = 1 << 2; /* AD of key 1 */
    faults(0x125000, denied | CODE_USER, denied | CODE_USER);
    faults(0x125000, denied, denied);
    fake_cpu.pkru = 2 << 2; /* WD */
    filled(0x125000, CODE_USER);
    faults(0x125000, denied | CODE_USER | CODE_WRITE, denied | CODE_USER | CODE_WRITE);

    /* CR0.WP = 0: a supervisor may write, once. */
    filled(0x125000, denied | CODE_WRITE);
    assert_maps(0x125000, 0x125000, PTE_WRITE);
    assert_int_equal(fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_TF, X86_RFLAGS_TF);
    run_to_exit(EXIT_REASON_EXCEPTION_OR_NMI, X86_DR6_BS, 0);
    fake_set(VMCS_EXIT_INTERRUPTION_INFO, BIT(31) | 3 << 8 | X86_VECTOR_DB);
    handle();
    assert_int_equal(shadow_entry(0x125000), 0);

    /* An access that Umbra makes for the guest. */
    guest_put(GUEST_RIP, code, sizeof(code));
    guest->vcpu.registers[VCPU_RSI] = 0xfec00010;
    guest->vcpu.registers[VCPU_RDI] = 0x125000;
    fake_cpu.pkru = 1 << 2;
    page_fault(0xfec00010, CODE_READ);
    prepare_entry();
    assert_int_equal(fake_injection() & 0xff, X86_VECTOR_PF);
    assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), denied | CODE_WRITE);
    assert_int_equal(fake_cpu.cr4, 0); /* Umbra's own has no PKE */

    /* And one that no page fault has led to. */
    guest_put64(GUEST_TABLES + 0x3000 + 8 * 8, 0x8000 | 0x67 | KEY(1));
    fake_cpu.pkru = 0;
    invpcid(2, 0, 0);
    fake_cpu.pkru = 1 << 2;
    invpcid_exit(2, 0, 0);
    assert_fault(X86_VECTOR_PF, denied);
}

/* AC does not concern what the processor accesses by itself: the same fault twice is the guest's. */
static void implicit_under_ac(void **state)
{
    (void)state;
    writes(4, X86_CR4_PAE | X86_CR4_SMAP);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_AC);
    filled(0x123000, CODE_READ);
    faults(0x123000, PAGE_FAULT_PRESENT, PAGE_FAULT_PRESENT);
}

/* Paging off, 32-bit, PAE with its PDPTEs, and back. */
static void legacy_modes(void **state)
{
    const uint64_t cr0 = X86_CR0_PE | X86_CR0_ET;

    (void)state;
    assert_int_equal(guest->vcpu.regime, VCPU_REGIME_SHADOW);
    assert_false(is_long());
    filled(0x300000, CODE_WRITE | CODE_USER);
    assert_maps(0x300000, 0x300000, PTE_USER | PTE_WRITE);

    /* 32-bit: a page directory at 0x20000, a 4-MiB page over 4 MiB, a table at 0x21000. */
    uint32_t entries[2] = {0x21000 | 7, 0x400000 | 0x87};
    uint32_t page = 0x305000 | 7;
    guest_put(0x20000, entries, sizeof(entries));
    guest_put(0x21000 + 0x301 * 4, &page, sizeof(page));
    writes(4, X86_CR4_PSE);
    writes(3, 0x20000);
    writes(0, cr0 | X86_CR0_PG);
    assert_false(is_long());
    filled(0x301000, CODE_WRITE);
    assert_maps(0x301000, 0x305000, PTE_USER | PTE_WRITE);
    filled(0x700000, CODE_READ);
    assert_maps(0x700000, 0x700000, PTE_USER);
    faults(0x302000, CODE_USER, CODE_USER);
    writes(0, cr0);
    filled(0x302000, CODE_USER);

    /* PAE: the first PDPTE is a snapshot, until CR3 is loaded. */
    guest_put64(0x22000, 0x23000 | PTE_PRESENT);
    guest_put64(0x23000, 0x24000 | 7);
    guest_put64(0x24000 + 0x101 * 8, 0x306000 | 7);
    guest_put64(0x25000, 0);
    writes(3, 0x22000);
    writes(4, X86_CR4_PAE);
    writes(0, cr0 | X86_CR0_PG);
    filled(0x101000, CODE_READ);
    assert_maps(0x101000, 0x306000, PTE_USER);
    guest_put64(0x22000, 0x25000 | PTE_PRESENT);
    invlpg(0x101000);
    filled(0x101000, CODE_READ);
    writes(3, 0x22000);
    faults(0x101000, CODE_READ, 0);
    guest_put64(0x22000, 0x25000 | 3); /* R/W is reserved there */
    refused(3, 0x22000);
}

static void no_unrestricted_guest(void **state)
{
    (void)state;
    /* Without EPT, or with it and without paging: shadow tables. */
    assert_int_equal(guest->vcpu.regime, VCPU_REGIME_SHADOW);
    filled(0x300000, CODE_READ);
    write_register(0, X86_CR0_ET); /* real mode */
    assert_int_equal(partition->request, PARTITION_REQUEST_CRASH);
    assert_non_null(strstr(partition->reason, "real mode"));
}

/* EPT once paging is on. */
static void paging_turned_on(void **state)
{
    (void)state;
    guest_put64(GUEST_TABLES, (GUEST_TABLES + 0x1000) | PTE_PRESENT);
    writes(4, X86_CR4_PAE);
    writes(3, GUEST_TABLES);
    assert_int_equal(guest->vcpu.regime, VCPU_REGIME_SHADOW);
    writes(0, X86_CR0_PE | X86_CR0_ET | X86_CR0_PG);
    assert_int_equal(guest->vcpu.regime, VCPU_REGIME_EPT);
    assert_true((fake_get(VMCS_SECONDARY_CONTROLS) & VMX_SECONDARY_EPT) != 0);
    assert_int_equal(fake_get(VMCS_GUEST_CR3), GUEST_TABLES);
    assert_int_equal(fake_get(VMCS_EXCEPTION_BITMAP) & BIT(X86_VECTOR_PF), 0);
    writes(0, X86_CR0_PE | X86_CR0_ET);
    assert_int_equal(guest->vcpu.regime, VCPU_REGIME_SHADOW);
    assert_int_equal(reads_cr3(), GUEST_TABLES);
}

/* A processor with unrestricted guest has EPT for real mode, and shadow tables from protected mode on. */
static void real_mode(void **state)
{
    const struct vcpu_start start = {.mode = VCPU_START_REAL, .code_selector = 0x900};

    (void)state;
    paging_start(guest, &start);
    assert_int_equal(guest->vcpu.regime, VCPU_REGIME_EPT);
    assert_int_equal(fake_get(VMCS_GUEST_CR0) & X86_CR0_PE, 0);
    writes(0, X86_CR0_PE | X86_CR0_ET);
    assert_int_equal(guest->vcpu.regime, VCPU_REGIME_SHADOW);
    assert_true((fake_get(VMCS_GUEST_CR0) & X86_CR0_PE) != 0);
    filled(0x300000, CODE_READ);
    writes(0, X86_CR0_ET);
    assert_int_equal(guest->vcpu.regime, VCPU_REGIME_EPT);
    assert_int_equal(fake_get(VMCS_GUEST_CR0) & X86_CR0_PE, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(registers_of_the_regime, start_vtlb),
        cmocka_unit_test_setup(misses_and_faults, start_vtlb),
        cmocka_unit_test_setup(table_in_a_hole, start_vtlb),
        cmocka_unit_test_setup(device, start_vtlb),
        cmocka_unit_test_setup(fault_of_an_emulated_access, start_vtlb),
        cmocka_unit_test_setup(loads_of_cr3, start_vtlb),
        cmocka_unit_test_setup(tags, start_vtlb),
        cmocka_unit_test_setup(write_protection, start_vtlb),
        cmocka_unit_test_setup(single_access, start_vtlb),
        cmocka_unit_test_setup(protection_keys, start_tiger_lake),
        cmocka_unit_test_setup(implicit_under_ac, start_vtlb),
        cmocka_unit_test_setup(legacy_modes, start_vtlb_32),
        cmocka_unit_test_setup(legacy_modes, start_penryn),
        cmocka_unit_test_setup(no_unrestricted_guest, start_penryn),
        cmocka_unit_test_setup(no_unrestricted_guest, start_lynnfield),
        cmocka_unit_test_setup(paging_turned_on, start_lynnfield),
        cmocka_unit_test_setup(real_mode, start_vtlb_32),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
