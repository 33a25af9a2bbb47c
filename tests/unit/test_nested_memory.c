// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/nested_memory.c: which space and which VPID of the processor an entry of Lv2 gets, and what Lv1's
 * INVEPT and INVVPID take away. Fails when a space that Lv1 left alone, or looked at with INVEPT and left
 * unchanged, has to be filled again; when what it changed is still seen, or what it changed after INVEPT and
 * before the next entry; when two EPTPs, or two VPIDs, share what they must not; when a VPID's translations
 * go without being asked for, or stay when they are. What may be seen at all is test_vtlb_nested_model.c's.
 */
#include "core/nested_memory.h"

#include "arch/x86/paging_ept.h"
#include "lib/errors.h"
#include "tests/unit/vtlb_machine.h"

#define MEMORY     MIB(4)
#define TABLES     0x1000ULL /* of space n: at 0x10000 * n, top table first */
#define OWN_VPID   7
#define EPTP(n)    ((n)*0x10000ULL | 0x1e)
#define EPTP_AD(n) ((n)*0x10000ULL | 0x5e)
#define CAPABILITIES                                                                                         \
    (VMX_EPT_WALK_4 | VMX_EPT_MEMORY_WB | VMX_EPT_PAGE_2M | VMX_EPT_ACCESSED_DIRTY | VMX_EPT_EXECUTE_ONLY)

static struct partition_machine the_machine;

const struct partition_machine *partition_machine(void)
{
    return &the_machine;
}

/* The invalidations that the processor was asked for. */
static struct {
    unsigned invepts, count;
    struct {
        enum invvpid_type type;
        uint16_t vpid;
        uint64_t address;
    } invvpid[16];
    unsigned refused; /* types, a bit each */
} hardware;

bool vmx_invept(enum invept_type type, uint64_t eptp)
{
    (void)eptp;
    assert_int_equal(type, INVEPT_ALL);
    hardware.invepts++;
    return true;
}

bool vmx_invvpid(enum invvpid_type type, uint16_t vpid, gla_t address)
{
    if ((hardware.refused >> type & 1) != 0)
        return false;
    assert_true(hardware.count < ARRAY_SIZE(hardware.invvpid));
    hardware.invvpid[hardware.count].type = type;
    hardware.invvpid[hardware.count].vpid = vpid;
    hardware.invvpid[hardware.count++].address = address.value;
    return true;
}

static struct fixture {
    struct machine *machine;
    unsigned char *memory;
    struct partition_vcpu v;
    struct nested_vcpu nested;
    struct nested_policy policy;
    struct nested_memory lv2;
    struct nested_merge_input in;
} f;

static uint64_t *entry_at(uint64_t table, unsigned slot)
{
    return (uint64_t *)(void *)(f.memory + table) + slot;
}

static int set_up(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    memset(&hardware, 0, sizeof(hardware));
    f.memory = aligned_alloc(MIB(2), MEMORY);
    assert_non_null(f.memory);
    memset(f.memory, 0, MEMORY);

    const uint64_t hpa = (uint64_t)(uintptr_t)f.memory;
    f.machine = machine_make(hpa, hpa + MEMORY, 128, true, false);
    machine_map(f.machine, 0, hpa, MEMORY, RWX, MEMORY_TYPE_WB);
    the_machine = (struct partition_machine){.capabilities.ept_vpid = VMX_EPT_ACCESSED_DIRTY};
    overlay_init(&f.v.view, &f.machine->p2m.stage);
    f.v.view_chain = (struct stage_chain){.stages = {&f.v.view.stage}, .count = 1};
    f.v.vcpu.vpid = OWN_VPID;
    assert_int_equal(vtlb_context_init(&f.v.ept, &f.machine->vtlb, &f.v.view_chain, &paging_ept), 0);
    f.policy = (struct nested_policy){.capabilities.offered.ept_vpid = CAPABILITIES, .physical_bits = 40};
    f.nested.policy = &f.policy;
    f.nested.vcpu02.controls.words[VMX_WORD_SECONDARY] = VMX_SECONDARY_VPID;
    vmcs12_write(&f.nested.vmcs12, VMCS_PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS);

    const hpa_t quota = HPA((uint64_t)(uintptr_t)f.machine->quota + 64 * PAGE_SIZE);
    assert_int_equal(
        nested_memory_init(&f.lv2, &f.v, &f.nested, quota, VTLB_PAGES_MIN - 1, f.machine->tables), -ENOMEM);
    assert_int_equal(nested_memory_init(&f.lv2, &f.v, &f.nested, quota, 64, f.machine->tables + 64), 0);
    for (uint64_t n = 1; n < 8; n++) {
        for (unsigned level = 0; level < 3; level++)
            *entry_at(n * 0x10000 + level * TABLES, 0) = (n * 0x10000 + (level + 1) * TABLES) | 7;
        for (unsigned page = 0; page < 32; page++)
            *entry_at(n * 0x10000 + 3 * TABLES, page) = (0x100000 + n * 0x20000 + page * PAGE_SIZE) | 0x37;
    }
    return 0;
}

static int tear_down(void **state)
{
    const char *broken = vtlb_audit(&f.lv2.vtlb, &f.machine->p2m);

    (void)state;
    if (broken != NULL)
        fail_msg("invariant: %s", broken);
    machine_free(f.machine);
    free(f.memory);
    return 0;
}

/* VMRESUME with these; 0: without EPT, without VPID. */
static void enter(uint64_t eptp, uint16_t vpid)
{
    vmcs12_write(&f.nested.vmcs12, VMCS_SECONDARY_CONTROLS,
                 (eptp != 0 ? VMX_SECONDARY_EPT : 0) | (vpid != 0 ? VMX_SECONDARY_VPID : 0));
    vmcs12_write(&f.nested.vmcs12, VMCS_EPT_POINTER, eptp);
    vmcs12_write(&f.nested.vmcs12, VMCS_VPID, vpid);
    nested_memory_choose(&f.lv2, &f.in);
    nested_memory_before_run(&f.lv2);
}

static uint64_t frame_of(uint64_t n, unsigned page)
{
    return (uint64_t)(uintptr_t)f.memory + 0x100000 + n * 0x20000 + page * PAGE_SIZE;
}

/* Lv2 reads a page. Returns whether that took a miss. */
static bool touch(unsigned page, uint64_t frame)
{
    struct vtlb_result result;
    const bool missed = !walk_ept(HPA(f.in.root.value & ~0xfffULL), page * PAGE_SIZE).present;

    if (missed)
        assert_int_equal(nested_memory_miss(&f.lv2, page * PAGE_SIZE, PAGING_READ, &result), VTLB_FILLED);
    assert_int_equal(walk_ept(HPA(f.in.root.value & ~0xfffULL), page * PAGE_SIZE).hpa, frame);
    return missed;
}

/* Lv2 reads 16 pages of space n. Returns how many misses that took. */
static unsigned touch_all(uint64_t n)
{
    unsigned misses = 0;

    for (unsigned page = 0; page < 16; page++)
        misses += touch(page, frame_of(n, page));
    return misses;
}

static void spaces(void **state)
{
    const uint64_t second = EPTP(2), odd = EPTP(2) ^ 0x40;
    (void)state;

    /* Filled once each, and kept however often Lv1 goes from one to another. */
    for (unsigned turn = 0; turn < 3; turn++)
        for (uint64_t n = 1; n < 6; n++) {
            enter(EPTP(n), 1);
            assert_true(nested_memory_has_ept(&f.lv2));
            assert_ptr_equal(nested_memory_chain(&f.lv2), &f.lv2.ept_view);
            assert_int_equal(touch_all(n), turn == 0 ? 16 : 0);
        }
    assert_int_equal(hardware.invepts, 1); /* and nothing was taken away */

    /* INVEPT of what has not changed costs no fill; of another, nothing is even looked at. */
    enter(EPTP(1), 1);
    f.lv2.vtlb.statistics.compared = 0;
    nested_memory_invalidate_ept(&f.lv2, &second);
    enter(EPTP(1), 1);
    assert_int_equal(f.lv2.vtlb.statistics.compared, 0);
    assert_int_equal(touch_all(1), 0);
    enter(EPTP(2), 1);
    assert_int_equal(f.lv2.vtlb.statistics.compared, 19);
    assert_int_equal(touch_all(2), 0);
    nested_memory_invalidate_ept(&f.lv2, NULL);
    for (uint64_t n = 1; n < 6; n++) {
        enter(EPTP(n), 1);
        assert_int_equal(touch_all(n), 0);
    }
    assert_int_equal(hardware.invepts, 1);

    /* What has changed goes, and no more: also what Lv1 changes after INVEPT, before it enters. The bits of
     * the EPTP that are no address are not asked for. */
    enter(EPTP(2), 1);
    *entry_at(0x23000, 3) += 0x8000;
    assert_false(touch(3, frame_of(2, 3)));
    nested_memory_invalidate_ept(&f.lv2, &odd);
    *entry_at(0x23000, 5) += 0x8000;
    enter(EPTP(2), 1);
    assert_int_equal(hardware.invepts, 2);
    assert_true(touch(3, frame_of(2, 11)));
    assert_true(touch(5, frame_of(2, 13)));
    *entry_at(0x23000, 3) -= 0x8000;
    *entry_at(0x23000, 5) -= 0x8000;
    nested_memory_invalidate_ept(&f.lv2, NULL);
    enter(EPTP(2), 1);
    assert_int_equal(touch_all(2), 2);
    enter(EPTP(3), 1);
    assert_int_equal(touch_all(3), 0);

    /* Of another memory of Lv1's nothing is kept; nor after a reset. */
    nested_memory_forget(&f.lv2);
    enter(EPTP(3), 1);
    assert_int_equal(touch_all(3), 16);
    nested_memory_reset(&f.lv2);
    enter(EPTP(3), 1);
    assert_int_equal(touch_all(3), 16);
    enter(EPTP(2), 1);
    assert_int_equal(touch_all(2), 16);
}

/* An EPTP with A and D is another space than the one without; the processor has them, if it can. */
static void accessed_and_dirty(void **state)
{
    struct vtlb_result result;
    (void)state;

    enter(EPTP(1), 1);
    assert_int_equal(touch_all(1), 16);
    assert_int_equal(*entry_at(0x13000, 0) & 0x300, 0);
    assert_int_equal(f.in.root.value & 0x40, 0);
    enter(EPTP_AD(1), 1);
    assert_int_equal(touch_all(1), 16);
    assert_int_equal(*entry_at(0x13000, 0) & 0x300, 0x100);
    assert_int_equal(walk_ept(HPA(f.in.root.value & ~0xfffULL), 0).rights, PAGING_READ | PAGING_EXECUTE);
    assert_int_equal(nested_memory_miss(&f.lv2, 0, PAGING_WRITE, &result), VTLB_FILLED);
    assert_int_equal(*entry_at(0x13000, 0) & 0x300, 0x300);
    assert_int_equal(*entry_at(0x13000, 1) & 0x300, 0x100);
    assert_int_equal(walk_ept(HPA(f.in.root.value & ~0xfffULL), 0).rights, RWX);
    assert_int_equal(f.in.root.value & 0xfff, 0x40);
    the_machine.capabilities.ept_vpid = 0;
    enter(EPTP_AD(1), 1);
    assert_int_equal(f.in.root.value & 0xfff, 0);

    /* Taken back by Lv1, with the INVEPT that is due. */
    const uint64_t eptp = EPTP_AD(1);
    *entry_at(0x13000, 0) &= ~0x200ULL;
    nested_memory_invalidate_ept(&f.lv2, &eptp);
    enter(eptp, 1);
    assert_false(walk_ept(f.in.root, 0).present);
}

/* Lv1 gives Lv2 its own memory, or an EPTP that the entry's checks will refuse. */
static void without_ept(void **state)
{
    (void)state;

    assert_false(nested_memory_has_ept(&f.lv2));
    enter(0, 1);
    assert_int_equal(f.in.root.value, vtlb_root(&f.v.ept).value);
    assert_ptr_equal(nested_memory_chain(&f.lv2), &f.v.view_chain);
    assert_int_equal(nested_memory_behind(&f.lv2), 0);
    enter(EPTP_AD(1), 1);
    assert_int_not_equal(f.in.root.value & ~0xfffULL, vtlb_root(&f.v.ept).value);
    assert_int_equal(nested_memory_behind(&f.lv2), 0x10001);
    enter(EPTP(2) | 7, 1);
    assert_int_equal(f.in.root.value, vtlb_root(&f.v.ept).value);
    /* What was chosen before is not lost by it. */
    enter(EPTP_AD(1), 1);
    touch_all(1);
    enter(0, 1);
    enter(EPTP_AD(1), 1);
    assert_int_equal(touch_all(1), 0);
}

static void expect_invvpid(unsigned i, enum invvpid_type type, unsigned which, uint64_t address)
{
    assert_int_equal(hardware.invvpid[i].type, type);
    assert_int_equal(hardware.invvpid[i].vpid, OWN_VPID + (which + 1) * NESTED_VPID_STRIDE);
    assert_int_equal(hardware.invvpid[i].address, address);
}

static void vpids(void **state)
{
    const uint64_t address = 0x123456;
    (void)state;

    /* Each has a VPID of the processor's own, emptied when it gets it, and left alone afterwards. */
    for (unsigned turn = 0; turn < 2; turn++)
        for (uint16_t vpid = 1; vpid <= NESTED_VPIDS; vpid++) {
            enter(EPTP(1), (uint16_t)(vpid * 100));
            assert_int_equal(f.in.vpid, OWN_VPID + vpid * NESTED_VPID_STRIDE);
        }
    assert_int_equal(hardware.count, NESTED_VPIDS);
    for (unsigned i = 0; i < NESTED_VPIDS; i++)
        expect_invvpid(i, INVVPID_CONTEXT, i, 0);

    /* Each type of INVVPID concerns those that it names, as it says. */
    hardware.count = 0;
    nested_memory_invalidate_vpid(&f.lv2, 200, &address, false);
    nested_memory_invalidate_vpid(&f.lv2, 300, NULL, false);
    nested_memory_invalidate_vpid(&f.lv2, 300, NULL, true);
    nested_memory_invalidate_vpid(&f.lv2, 999, NULL, false);
    assert_int_equal(hardware.count, 3);
    expect_invvpid(0, INVVPID_ADDRESS, 1, address);
    expect_invvpid(1, INVVPID_CONTEXT, 2, 0);
    expect_invvpid(2, INVVPID_CONTEXT_BUT_GLOBAL, 2, 0);
    hardware.count = 0;
    nested_memory_invalidate_vpid(&f.lv2, 0, NULL, false);
    assert_int_equal(hardware.count, NESTED_VPIDS);

    /* A processor that lacks a type does more. */
    hardware.count = 0;
    hardware.refused = 1 << INVVPID_ADDRESS | 1 << INVVPID_CONTEXT_BUT_GLOBAL;
    nested_memory_invalidate_vpid(&f.lv2, 200, &address, false);
    nested_memory_invalidate_vpid(&f.lv2, 200, NULL, true);
    expect_invvpid(0, INVVPID_CONTEXT, 1, 0);
    expect_invvpid(1, INVVPID_CONTEXT, 1, 0);
    hardware.refused |= 1 << INVVPID_CONTEXT;
    nested_memory_invalidate_vpid(&f.lv2, 200, NULL, false);
    assert_int_equal(hardware.invvpid[2].type, INVVPID_ALL);
    assert_int_equal(hardware.count, 3);

    /* One more VPID takes the place of that used longest ago. */
    hardware.refused = hardware.count = 0;
    enter(EPTP(1), 100);
    enter(EPTP(1), 500);
    assert_int_equal(hardware.count, 1);
    expect_invvpid(0, INVVPID_CONTEXT, 1, 0);
    enter(EPTP(1), 100);
    assert_int_equal(hardware.count, 1);

    /* Without VPID nothing outlives an entry; the other VPIDs do. */
    hardware.count = 0;
    enter(EPTP(1), 0);
    enter(EPTP(1), 0);
    enter(EPTP(1), 100);
    assert_int_equal(hardware.count, 2);
    expect_invvpid(0, INVVPID_CONTEXT, 2, 0);
    expect_invvpid(1, INVVPID_CONTEXT, 2, 0);

    /* Elsewhere it all begins anew; a processor without VPIDs need not be told. */
    hardware.count = hardware.invepts = 0;
    nested_memory_moved(&f.lv2);
    enter(EPTP(1), 100);
    assert_int_equal(hardware.count, 1);
    assert_int_equal(hardware.invepts, 1);
    f.nested.vcpu02.controls.words[VMX_WORD_SECONDARY] = 0;
    nested_memory_invalidate_vpid(&f.lv2, 0, NULL, false);
    enter(EPTP(1), 0);
    assert_int_equal(hardware.count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(spaces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(accessed_and_dirty, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_ept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(vpids, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
