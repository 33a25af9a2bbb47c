// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/vdev/lapic.c: each register rule, mode transition and LVT entry against the SDM as written down here,
 * priority against a slow model over a random stream. Fails when a rule or a priority differs.
 */
#include "tests/unit/apic_board.h"

/* ---- Registers ---------------------------------------------------------------------------------------- */

/*
 * What an xAPIC register holds after reset, and after writing all ones and then all zeroes while
 * software-enabled. Those with effects of their own have their own tests.
 */
static const struct xapic_row {
    unsigned offset;
    uint32_t reset, ones, zeroes;
} xapic_rows[] = {
    {LAPIC_ID, 0x05000000, 0x05000000, 0x05000000},
    {LAPIC_VERSION, 0x01050014, 0x01050014, 0x01050014},
    {LAPIC_TPR, 0, 0xff, 0},
    {LAPIC_APR, 0, 0, 0},
    {LAPIC_PPR, 0, 0, 0},
    {LAPIC_RRD, 0, 0, 0},
    {LAPIC_LDR, 0, 0xff000000, 0},
    {LAPIC_DFR, 0xffffffff, 0xffffffff, 0x0fffffff},
    {LAPIC_SVR, 0xff, 0x13ff, 0},
    {LAPIC_ICR_HIGH, 0, 0xff000000, 0},
    {LAPIC_LVT_TIMER, 0x10000, 0x700ff, 0},
    {LAPIC_LVT_THERMAL, 0x10000, 0x107ff, 0},
    {LAPIC_LVT_PERFORMANCE, 0x10000, 0x107ff, 0},
    {LAPIC_LVT_LINT0, 0x10000, 0x1a7ff, 0},
    {LAPIC_LVT_LINT1, 0x10000, 0x1a7ff, 0},
    {LAPIC_LVT_ERROR, 0x10000, 0x100ff, 0},
    {LAPIC_INITIAL_COUNT, 0, 0xffffffff, 0},
    {LAPIC_CURRENT_COUNT, 0, 0, 0},
    {LAPIC_DIVIDE, 0, 0xb, 0},
};

static void registers_xapic(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(xapic_rows); i++) {
        const struct xapic_row *row = &xapic_rows[i];

        board_start(BOARD_TSC_HZ, BOARD_TSC_HZ, false);
        assert_int_equal(get(5, row->offset), row->reset);
        if (row->offset != LAPIC_SVR)
            put(5, LAPIC_SVR, 0x1ff);
        put(5, row->offset, 0xffffffff);
        assert_int_equal(get(5, row->offset), row->ones);
        put(5, row->offset, 0);
        assert_int_equal(get(5, row->offset), row->zeroes);
        assert_int_equal(board.apics[5].errors, 0);
    }
    for (unsigned offset = LAPIC_ISR; offset < LAPIC_ESR; offset += 16) {
        put(5, offset, 0xffffffff);
        assert_int_equal(get(5, offset), 0);
    }
}

static void registers_partial_access(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[5];

    assert_int_equal(lapic_mmio_read(apic, LAPIC_VERSION, 1), 0x14);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_VERSION + 2, 1), 0x05);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_VERSION + 2, 2), 0x0105);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_VERSION, 8), 0x01050014);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_VERSION + 4, 4), 0);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_VERSION + 15, 8), 0);
    lapic_mmio_write(apic, LAPIC_TPR, 1, 0x55);
    lapic_mmio_write(apic, LAPIC_TPR, 2, 0x55);
    lapic_mmio_write(apic, LAPIC_TPR, 8, 0x55);
    lapic_mmio_write(apic, LAPIC_TPR + 4, 4, 0x55);
    lapic_mmio_write(apic, LAPIC_TPR + 1, 4, 0x55);
    assert_int_equal(get(5, LAPIC_TPR), 0);
}

static void registers_illegal_address(void **state)
{
    (void)state;
    static const unsigned holes[] = {0x000, 0x010, 0x040, 0x070, 0x290, 0x2f0,
                                     0x3a0, 0x3d0, 0x3f0, 0x400, 0xff0};

    for (size_t i = 0; i < ARRAY_SIZE(holes) * 2; i++) {
        board_setup(NULL);
        put(0, LAPIC_LVT_ERROR, 0x41);
        if (i % 2)
            put(0, holes[i / 2], 1);
        else
            assert_int_equal(get(0, holes[i / 2]), 0);
        put(0, LAPIC_ESR, 0);
        assert_int_equal(get(0, LAPIC_ESR), 0x80);
        assert_int_equal(lapic_pending(&board.apics[0]), 0x41);
    }
}

static void errors_latch_and_rearm(void **state)
{
    (void)state;
    put(0, LAPIC_LVT_ERROR, 0x41);
    get(0, 0x040);
    get(0, 0x040);
    assert_int_equal(get(0, LAPIC_ESR), 0); /* shows what was latched by a write */
    assert_int_equal(lapic_take(&board.apics[0]), 0x41);
    put(0, LAPIC_EOI, 0);
    get(0, 0x040);
    assert_int_equal(lapic_pending(&board.apics[0]), -1); /* not armed again */
    put(0, LAPIC_ESR, 0);
    assert_int_equal(get(0, LAPIC_ESR), 0x80);
    put(0, LAPIC_ESR, 0);
    assert_int_equal(get(0, LAPIC_ESR), 0);
    get(0, 0x040);
    assert_int_equal(lapic_pending(&board.apics[0]), 0x41);

    /* An error LVT entry with an illegal vector is an error of its own, once. */
    board_setup(NULL);
    put(0, LAPIC_LVT_ERROR, 0x05);
    get(0, 0x040);
    put(0, LAPIC_ESR, 0);
    assert_int_equal(get(0, LAPIC_ESR), 0xc0);
    assert_int_equal(lapic_pending(&board.apics[0]), -1);
}

/* In x2APIC mode: which MSRs can be read and written, and with which bits. */
static const struct x2apic_row {
    unsigned offset, count;
    bool read, write;
    uint64_t allowed;
} x2apic_rows[] = {
    {LAPIC_ID, 1, true, false, 0},
    {LAPIC_VERSION, 1, true, false, 0},
    {LAPIC_TPR, 1, true, true, 0xff},
    {LAPIC_PPR, 1, true, false, 0},
    {LAPIC_EOI, 1, false, true, 0},
    {LAPIC_LDR, 1, true, false, 0},
    {LAPIC_SVR, 1, true, true, 0x13ff},
    {LAPIC_ISR, 24, true, false, 0},
    {LAPIC_ESR, 1, true, true, 0},
    {LAPIC_ICR, 1, true, true, 0xffffffff000cdfffULL},
    {LAPIC_LVT_TIMER, 1, true, true, 0x710ff},
    {LAPIC_LVT_THERMAL, 1, true, true, 0x117ff},
    {LAPIC_LVT_PERFORMANCE, 1, true, true, 0x117ff},
    {LAPIC_LVT_LINT0, 1, true, true, 0x1f7ff},
    {LAPIC_LVT_LINT1, 1, true, true, 0x1f7ff},
    {LAPIC_LVT_ERROR, 1, true, true, 0x110ff},
    {LAPIC_INITIAL_COUNT, 1, true, true, 0xffffffff},
    {LAPIC_CURRENT_COUNT, 1, true, false, 0},
    {LAPIC_DIVIDE, 1, true, true, 0xb},
    {LAPIC_SELF_IPI, 1, false, true, 0xff},
};

static const struct x2apic_row *find_x2apic_row(unsigned offset)
{
    for (size_t i = 0; i < ARRAY_SIZE(x2apic_rows); i++) {
        if (offset >= x2apic_rows[i].offset && offset < x2apic_rows[i].offset + x2apic_rows[i].count * 16)
            return &x2apic_rows[i];
    }
    return NULL;
}

static void registers_x2apic(void **state)
{
    (void)state;
    to_x2apic(5);
    for (uint32_t msr = LAPIC_MSR_X2APIC; msr <= LAPIC_MSR_X2APIC_LAST; msr++) {
        const struct x2apic_row *row = find_x2apic_row((msr - LAPIC_MSR_X2APIC) * 16);
        uint64_t value;

        assert_int_equal(rdmsr(5, msr, &value), row && row->read ? 0 : -EINVAL);
        for (unsigned bit = 0; bit < 64; bit++) {
            bool legal = row && row->write && (row->allowed & BIT(bit));

            assert_int_equal(wrmsr(5, msr, BIT(bit)), legal ? 0 : -EINVAL);
        }
        assert_int_equal(wrmsr(5, msr, 0), row && row->write ? 0 : -EINVAL);
        put(5, LAPIC_SVR, 0x1ff);
    }
    /* None of them is there in xAPIC mode; and neither is any other MSR in this model. */
    for (uint32_t msr = LAPIC_MSR_X2APIC; msr <= LAPIC_MSR_X2APIC_LAST; msr++) {
        uint64_t value;

        assert_int_equal(rdmsr(4, msr, &value), -EINVAL);
        assert_int_equal(wrmsr(4, msr, 0), -EINVAL);
    }
    assert_int_equal(wrmsr(4, 0x900, 0), -EINVAL);
}

static void registers_x2apic_values(void **state)
{
    (void)state;
    uint64_t value;

    put(17, LAPIC_TPR, 0x35);
    put(17, LAPIC_LDR, 0x81000000);
    put(17, LAPIC_ICR_HIGH, 0x12000000);
    to_x2apic(17);
    assert_int_equal(rdmsr(17, 0x802, &value), 0);
    assert_int_equal(value, 17);
    assert_int_equal(rdmsr(17, 0x80d, &value), 0);
    assert_int_equal(value, 1 << 16 | 1 << 1);
    assert_int_equal(rdmsr(17, 0x808, &value), 0);
    assert_int_equal(value, 0x35); /* lives on */
    assert_int_equal(rdmsr(17, 0x830, &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(wrmsr(17, 0x830, 0xabcd000000004041ULL), 0);
    assert_int_equal(rdmsr(17, 0x830, &value), 0);
    assert_true(value == 0xabcd000000004041ULL);
    assert_false(lapic_decodes(&board.apics[17], GPA(LAPIC_BASE_DEFAULT)));
}

/* ---- Modes -------------------------------------------------------------------------------------------- */

static void base_transitions(void **state)
{
    (void)state;
    enum { DISABLED, INVALID, XAPIC, X2APIC };
    static const bool legal[4][4] = {
        [DISABLED] = {[DISABLED] = true, [XAPIC] = true},
        [XAPIC] = {[DISABLED] = true, [XAPIC] = true, [X2APIC] = true},
        [X2APIC] = {[DISABLED] = true, [X2APIC] = true},
    };

    for (unsigned from = 0; from < 4; from++) {
        for (unsigned to = 0; to < 4; to++) {
            uint64_t before, after, wanted = LAPIC_BASE_DEFAULT | to << 10;
            bool lost;

            if (from == INVALID)
                continue;
            board_setup(NULL);
            put(3, LAPIC_TPR, 0x77);
            assert_int_equal(wrmsr(3, LAPIC_MSR_BASE, LAPIC_BASE_DEFAULT | from << 10), 0);
            assert_int_equal(rdmsr(3, LAPIC_MSR_BASE, &before), 0);
            assert_int_equal(wrmsr(3, LAPIC_MSR_BASE, wanted), legal[from][to] ? 0 : -EINVAL);
            assert_int_equal(rdmsr(3, LAPIC_MSR_BASE, &after), 0);
            assert_true(after == (legal[from][to] ? wanted : before));
            /* Registers are lost on the way through the disabled state, not from xAPIC to x2APIC. */
            lost = from == DISABLED || (legal[from][to] && to == DISABLED);
            assert_int_equal(lapic_cr8_read(&board.apics[3]), lost ? 0 : 7);
        }
    }
}

static void base_bits(void **state)
{
    (void)state;
    uint64_t value;

    for (unsigned apic = 0; apic < 2; apic++) {
        assert_int_equal(rdmsr(apic, LAPIC_MSR_BASE, &value), 0);
        assert_true(value == (0xfee00800 | (apic == 0 ? 0x100 : 0)));
        for (unsigned bit = 0; bit < 64; bit++) {
            bool reserved = bit < 8 || bit == 9 || bit >= 39;

            if (bit == 10 || bit == 11)
                continue;
            assert_int_equal(wrmsr(apic, LAPIC_MSR_BASE, 0xfee00800 ^ BIT(bit)), reserved ? -EINVAL : 0);
            assert_int_equal(rdmsr(apic, LAPIC_MSR_BASE, &value), 0);
            assert_int_equal(value & LAPIC_BASE_BSP, apic == 0 ? LAPIC_BASE_BSP : 0);
        }
    }
    assert_int_equal(wrmsr(0, LAPIC_MSR_BASE, 0x123456800), 0);
    assert_true(lapic_decodes(&board.apics[0], GPA(0x123456ff0)));
    assert_false(lapic_decodes(&board.apics[0], GPA(0x123457000)));
    assert_false(lapic_decodes(&board.apics[0], GPA(LAPIC_BASE_DEFAULT)));
    assert_int_equal(wrmsr(0, LAPIC_MSR_BASE, 0x123456000), 0);
    assert_false(lapic_decodes(&board.apics[0], GPA(0x123456000)));
}

/* INIT keeps mode and ID; RESET goes back to xAPIC mode; both clear the rest. */
static void resets(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[18];
    uint64_t value;

    to_x2apic(18);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(wrmsr(18, 0x80f, 0x1ff), 0);
        assert_int_equal(wrmsr(18, 0x808, 0x20), 0);
        assert_int_equal(wrmsr(18, 0x83f, 0x99), 0);
        assert_int_equal(wrmsr(18, 0x83f, 0x88), 0);
        assert_int_equal(lapic_take(apic), 0x99);
        assert_int_equal(wrmsr(18, 0x832, 0x400ee), 0);
        assert_int_equal(wrmsr(18, LAPIC_MSR_TSC_DEADLINE, 5000), 0);
        assert_int_equal(lapic_deadline(apic), 5000);
        assert_int_equal(wrmsr(18, 0x83f, 0), 0); /* an error */
        apic->extint = true;
        if (i == 0) {
            lapic_reset_by_init(apic);
            assert_int_equal(rdmsr(18, 0x802, &value), 0);
            assert_int_equal(value, 18);
            assert_int_equal(rdmsr(18, 0x80d, &value), 0);
            assert_int_equal(value, 0x10004);
        } else {
            lapic_reset(apic);
            assert_int_equal(get(18, LAPIC_ID), 18 << 24);
            assert_int_equal(get(18, LAPIC_LDR), 0);
        }
        assert_int_equal(lapic_pending(apic), -1);
        assert_int_equal(lapic_deadline(apic), VDEV_NEVER);
        assert_false(lapic_accepts_extint(apic));
        put(18, LAPIC_ESR, 0);
        assert_int_equal(get(18, LAPIC_ESR), 0);
        assert_int_equal(get(18, LAPIC_TPR), 0);
        assert_int_equal(get(18, LAPIC_PPR), 0);
        assert_int_equal(get(18, LAPIC_SVR), 0xff);
        assert_int_equal(get(18, LAPIC_DFR), 0xffffffff);
        for (unsigned offset = LAPIC_LVT_TIMER; offset <= LAPIC_LVT_ERROR; offset += 16)
            assert_int_equal(get(18, offset), 0x10000);
        for (unsigned offset = LAPIC_ISR; offset < LAPIC_ESR; offset += 16)
            assert_int_equal(get(18, offset), 0);
    }
}

static void software_disable(void **state)
{
    (void)state;
    struct lapic_message message = {.destination = 0, .vector = 0x50};

    assert_true(lapic_deliver(board.apics, BOARD_APICS, &message));
    for (unsigned offset = LAPIC_LVT_TIMER; offset <= LAPIC_LVT_ERROR; offset += 16)
        put(0, offset, 0x40);
    put(0, LAPIC_SVR, 0xff);
    for (unsigned offset = LAPIC_LVT_TIMER; offset <= LAPIC_LVT_ERROR; offset += 16) {
        assert_int_equal(get(0, offset), 0x10040);
        put(0, offset, 0x41); /* the mask cannot be cleared now */
        assert_int_equal(get(0, offset), 0x10041);
    }
    message.vector = 0x60; /* not accepted, but what is in IRR stays */
    assert_false(lapic_deliver(board.apics, BOARD_APICS, &message));
    assert_int_equal(lapic_pending(&board.apics[0]), 0x50);
    message.mode = LAPIC_NMI;
    assert_true(lapic_deliver(board.apics, BOARD_APICS, &message));
    put(0, LAPIC_SVR, 0x1ff);
    assert_int_equal(get(0, LAPIC_LVT_TIMER), 0x10041);
}

/* ---- LVT ---------------------------------------------------------------------------------------------- */

static void lint_modes(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[2];

    for (unsigned pin = 0; pin < 2; pin++) {
        unsigned lvt = LAPIC_LVT_LINT0 + pin * 16;

        board_setup(NULL);
        lapic_set_lint(apic, pin, true); /* masked: lost */
        put(2, lvt, 0x44);
        assert_int_equal(lapic_pending(apic), -1);
        lapic_set_lint(apic, pin, false);
        lapic_set_lint(apic, pin, true);
        assert_int_equal(lapic_take(apic), 0x44);
        lapic_set_lint(apic, pin, true); /* no edge */
        put(2, LAPIC_EOI, 0);
        assert_int_equal(lapic_pending(apic), -1);
        assert_int_equal(board.eois, 0);
        lapic_set_lint(apic, pin, false);

        put(2, lvt, LAPIC_NMI << 8);
        lapic_set_lint(apic, pin, true);
        lapic_set_lint(apic, pin, false);
        assert_int_equal(who_got(VDEV_IPI_NMI), 1 << 2);
        put(2, lvt, LAPIC_INIT << 8);
        lapic_set_lint(apic, pin, true);
        lapic_set_lint(apic, pin, false);
        assert_int_equal(who_got(VDEV_IPI_INIT), 1 << 2);
        put(2, lvt, LAPIC_SMI << 8);
        lapic_set_lint(apic, pin, true);
        assert_int_equal(lapic_pending(apic), -1);
        assert_int_equal(who_got(VDEV_IPI_NMI), 1 << 2);
    }
}

static void lint_level(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[2];
    struct lapic_message other = {.destination = 2, .vector = 0x90, .level = true};

    for (unsigned pin = 0; pin < 2; pin++) {
        unsigned lvt = LAPIC_LVT_LINT0 + pin * 16;

        board_setup(NULL);
        lapic_set_lint(apic, pin, true);
        put(2, lvt, 0x8044); /* unmasking finds the level */
        assert_int_equal(get(2, lvt), 0xc044);
        assert_true(vector_bit(2, LAPIC_TMR, 0x44));
        assert_int_equal(lapic_take(apic), 0x44);
        lapic_set_lint(apic, pin, true);
        put(2, lvt, 0x8044); /* remote IRR is read-only */
        assert_int_equal(get(2, lvt), 0xc044);
        assert_false(vector_bit(2, LAPIC_IRR, 0x44));
        lapic_deliver(board.apics, BOARD_APICS, &other);
        assert_int_equal(lapic_take(apic), 0x90);
        put(2, LAPIC_EOI, 0); /* of another source */
        assert_false(vector_bit(2, LAPIC_IRR, 0x44));
        put(2, LAPIC_EOI, 0); /* still asserted: again */
        assert_int_equal(lapic_pending(apic), 0x44);
        assert_int_equal(board.eoi_vector, 0x44);
        lapic_take(apic);
        lapic_set_lint(apic, pin, false);
        put(2, LAPIC_EOI, 0);
        assert_int_equal(get(2, lvt), 0x8044);
        assert_int_equal(lapic_pending(apic), -1);
        lapic_set_lint(apic, pin, true);
        assert_int_equal(get(2, lvt), 0xc044);
        put(2, lvt, 0x0044); /* edge-triggered: no remote IRR */
        assert_int_equal(get(2, lvt), 0x0044);
    }
}

static bool woken(unsigned apic)
{
    bool was = board.wakes[apic] > 0;

    board.wakes[apic] = 0;
    return was;
}

static void lint_extint(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[0];

    board_start(BOARD_TSC_HZ, BOARD_TSC_HZ, false);
    assert_false(lapic_accepts_extint(apic));
    lapic_enable_virtual_wire(apic);
    assert_int_equal(get(0, LAPIC_SVR), 0x1ff);
    assert_int_equal(get(0, LAPIC_LVT_LINT1), LAPIC_NMI << 8);
    assert_true(lapic_accepts_extint(apic));
    assert_false(woken(0));
    lapic_set_lint(apic, 0, true);
    assert_true(woken(0));
    put(0, LAPIC_LVT_LINT0, 0x10700);
    assert_false(lapic_accepts_extint(apic));
    put(0, LAPIC_LVT_LINT0, 0x00700); /* unmasking finds the request */
    assert_true(woken(0));
    lapic_set_lint(apic, 0, false);

    /* Without the APIC the pins are INTR and NMI of the processor. */
    assert_int_equal(wrmsr(0, LAPIC_MSR_BASE, LAPIC_BASE_DEFAULT), 0);
    assert_true(lapic_accepts_extint(apic));
    lapic_set_lint(apic, 0, true);
    assert_true(woken(0));
    lapic_set_lint(apic, 1, true);
    assert_int_equal(who_got(VDEV_IPI_NMI), 1);
}

/* ---- Priority, against a model ------------------------------------------------------------------------ */

static struct {
    bool irr[256], isr[256], tmr[256];
    unsigned tpr;
    int eoi;
} model;

static int model_highest(const bool *set)
{
    for (int vector = 255; vector >= 0; vector--) {
        if (set[vector])
            return vector;
    }
    return -1;
}

static int model_pending(unsigned tpr)
{
    int vector = model_highest(model.irr), serving = model_highest(model.isr);

    if (vector >= 0 && vector / 16 > (int)tpr / 16 && (serving < 0 || vector / 16 > serving / 16))
        return vector;
    return -1;
}

static unsigned model_ppr(void)
{
    int serving = model_highest(model.isr);

    if (serving >= 0 && serving / 16 > (int)model.tpr / 16)
        return (unsigned)serving / 16 * 16;
    return model.tpr;
}

/* By trying all values of the TPR below the present one: the highest that lets the interrupt through, and
 * one. */
static unsigned model_threshold(void)
{
    if (model_pending(model.tpr) >= 0)
        return 0;
    for (int class = (int)model.tpr / 16 - 1; class >= 0; class --) {
        if (model_pending((unsigned)class * 16) >= 0)
            return (unsigned)class + 1;
    }
    return 0;
}

static void model_step(uint64_t *seed)
{
    struct lapic *apic = &board.apics[1];
    struct lapic_message message = {.destination = 1};
    int vector;

    switch (random_below(seed, 8)) {
    case 0 ... 2:
        message.vector = (uint8_t)(16 + random_below(seed, 240));
        message.level = random_below(seed, 2);
        assert_true(lapic_deliver(board.apics, BOARD_APICS, &message));
        /* An edge does not hide a level that has not ended. */
        model.tmr[message.vector] =
            message.level ||
            (model.tmr[message.vector] && (model.irr[message.vector] || model.isr[message.vector]));
        model.irr[message.vector] = true;
        break;
    case 3:
        model.tpr = random_below(seed, 3) ? random_below(seed, 64) : random_below(seed, 256);
        put(1, LAPIC_TPR, model.tpr);
        break;
    case 4: /* as the hardware does it with a TPR shadow */
        model.tpr = random_below(seed, 16) << 4;
        board.pages[1][LAPIC_TPR] = (uint8_t)model.tpr;
        break;
    case 5:
        vector = model_highest(model.isr);
        model.eoi = vector >= 0 && model.tmr[vector] ? vector : -1;
        if (vector >= 0)
            model.isr[vector] = false;
        board.eoi_vector = -1;
        put(1, LAPIC_EOI, 0);
        assert_int_equal(board.eoi_vector, model.eoi);
        break;
    default:
        vector = model_pending(model.tpr);
        if (vector < 0)
            break;
        assert_int_equal(lapic_take(apic), vector);
        model.irr[vector] = false;
        model.isr[vector] = true;
        break;
    }
    assert_int_equal(lapic_pending(apic), model_pending(model.tpr));
    assert_int_equal(get(1, LAPIC_PPR), model_ppr());
    assert_int_equal(lapic_tpr_threshold(apic), model_threshold());
    assert_int_equal(lapic_cr8_read(apic), model.tpr / 16);
}

static void priority_model(void **state)
{
    (void)state;
    uint64_t seed = 1;

    memset(&model, 0, sizeof(model));
    for (unsigned step = 0; step < 300000; step++) {
        model_step(&seed);
        for (unsigned vector = 0; step % 512 == 0 && vector < 256; vector++) {
            assert_int_equal(vector_bit(1, LAPIC_IRR, vector), model.irr[vector]);
            assert_int_equal(vector_bit(1, LAPIC_ISR, vector), model.isr[vector]);
            assert_int_equal(vector_bit(1, LAPIC_TMR, vector), model.tmr[vector]);
        }
    }
}

static void cr8(void **state)
{
    (void)state;
    put(0, LAPIC_TPR, 0x57);
    assert_int_equal(lapic_cr8_read(&board.apics[0]), 5);
    lapic_cr8_write(&board.apics[0], 9);
    assert_int_equal(get(0, LAPIC_TPR), 0x90);
}

static void eoi_suppressed(void **state)
{
    (void)state;
    struct lapic_message message = {.destination = 0, .vector = 0x50, .level = true};

    put(0, LAPIC_SVR, 0x11ff);
    lapic_deliver(board.apics, BOARD_APICS, &message);
    lapic_take(&board.apics[0]);
    put(0, LAPIC_EOI, 0);
    assert_false(vector_bit(0, LAPIC_ISR, 0x50));
    assert_int_equal(board.eois, 0);
}

/* ---- Writes that the processor has virtualised --------------------------------------------------------- */

/*
 * APIC 1 gets ordinary writes, APIC 2 the same with the value in its page first. Fails when the two differ in
 * any register, the timer, what is pending or what was sent.
 */
static void virtualized_writes(void **state)
{
    (void)state;
    static const uint16_t written[] = {
        LAPIC_ID,
        LAPIC_LDR,
        LAPIC_DFR,
        LAPIC_SVR,
        LAPIC_ESR,
        LAPIC_ICR,
        LAPIC_LVT_TIMER,
        LAPIC_LVT_THERMAL,
        LAPIC_LVT_PERFORMANCE,
        LAPIC_LVT_LINT0,
        LAPIC_LVT_LINT1,
        LAPIC_LVT_ERROR,
        LAPIC_INITIAL_COUNT,
        LAPIC_DIVIDE,
    };
    uint64_t seed = 7;

    for (unsigned i = 1; i < 3; i++) { /* the same in all but the array */
        board.apics[i].settings.all = &board.apics[i];
        board.apics[i].settings.count = 1;
        board.apics[i].id = 0;
        lapic_reset(&board.apics[i]);
        put(i, LAPIC_SVR, 0x1ff);
    }
    for (unsigned round = 0; round < 100000; round++) {
        const unsigned offset = written[random_below(&seed, ARRAY_SIZE(written))];
        uint32_t value = random_below(&seed, UINT32_MAX) & random_below(&seed, UINT32_MAX);
        const bool level = random_below(&seed, 2);

        if (offset == LAPIC_ICR) /* fixed to itself: a mailbox would be taken by another */
            value = (value & 0xf0ff) | 0x40000;
        put(1, offset, value);
        board.apics[2].page[offset / 4] = value;
        lapic_write_virtualized(&board.apics[2], offset);
        board.now += random_below(&seed, 10000);
        for (unsigned i = 1; i < 3; i++) {
            board.asleep = true;
            lapic_set_lint(&board.apics[i], round % 2, level);
            board.asleep = false;
            lapic_receive(&board.apics[i]);
            lapic_expire(&board.apics[i], board.now);
            if (round % 3 == 0 && lapic_pending(&board.apics[i]) >= 0)
                lapic_take(&board.apics[i]);
            if (round % 7 == 0)
                put(i, LAPIC_EOI, 0);
        }
        assert_memory_equal(board.pages[1], board.pages[2], PAGE_SIZE);
        assert_int_equal(lapic_deadline(&board.apics[1]), lapic_deadline(&board.apics[2]));
        assert_int_equal(lapic_pending(&board.apics[1]), lapic_pending(&board.apics[2]));
        assert_int_equal(board.apics[1].errors, board.apics[2].errors);
    }
    /* In x2APIC mode it is a self-IPI with an illegal vector, and nothing else. */
    to_x2apic(3);
    board.apics[3].page[LAPIC_SELF_IPI / 4] = 5;
    lapic_write_virtualized(&board.apics[3], LAPIC_SELF_IPI);
    assert_int_equal(board.apics[3].errors, 0x60);
    lapic_write_virtualized(&board.apics[3], 0xff0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(registers_xapic, board_setup),
        cmocka_unit_test_setup(registers_partial_access, board_setup),
        cmocka_unit_test_setup(registers_illegal_address, board_setup),
        cmocka_unit_test_setup(errors_latch_and_rearm, board_setup),
        cmocka_unit_test_setup(registers_x2apic, board_setup),
        cmocka_unit_test_setup(registers_x2apic_values, board_setup),
        cmocka_unit_test_setup(base_transitions, board_setup),
        cmocka_unit_test_setup(base_bits, board_setup),
        cmocka_unit_test_setup(resets, board_setup),
        cmocka_unit_test_setup(software_disable, board_setup),
        cmocka_unit_test_setup(lint_modes, board_setup),
        cmocka_unit_test_setup(lint_level, board_setup),
        cmocka_unit_test_setup(lint_extint, board_setup),
        cmocka_unit_test_setup(priority_model, board_setup),
        cmocka_unit_test_setup(cr8, board_setup),
        cmocka_unit_test_setup(eoi_suppressed, board_setup),
        cmocka_unit_test_setup(virtualized_writes, board_setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
