// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/vdev/lapic_mailbox.c: what others leave for a local APIC and how its owner takes it; first one by one,
 * then from several threads at once, on a whole board. Fails when a request is lost or comes twice, when an
 * owner is not woken for one, when INIT and start-up messages come out of order, when a level-triggered
 * source waits for ever, and when the descriptor has not the layout that processors know.
 */
#include "tests/unit/apic_board.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/vdev/lapic_private.h"
#include "core/vdev/platform.h"

/* SDM vol. 3, table "Format of Posted-Interrupt Descriptor". */
_Static_assert(offsetof(struct lapic_posted, requests) == 0, "bits 255:0");
_Static_assert(offsetof(struct lapic_posted, control) == 32, "bit 256 on");
_Static_assert(sizeof(struct lapic_posted) == 64, "64 bytes");
_Static_assert(_Alignof(struct lapic) == 64, "aligned so");

static int asleep(void **state)
{
    board_setup(state);
    board.asleep = true;
    return 0;
}

static bool send(unsigned to, unsigned mode, unsigned vector, bool level)
{
    const struct lapic_message message = {
        .destination = to, .mode = (uint8_t)mode, .vector = (uint8_t)vector, .level = level};

    return lapic_deliver(board.apics, BOARD_APICS, &message);
}

static void vectors(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[2];

    for (unsigned level = 0; level < 2; level++) {
        for (unsigned vector = 16; vector < 256; vector++) {
            assert_true(send(2, LAPIC_FIXED, vector, level));
            assert_int_equal(board.wakes[2], 1);
            assert_true(send(2, LAPIC_FIXED, vector, level)); /* once more is the same request */
            assert_int_equal(board.wakes[2], 1);
            assert_false(vector_bit(2, LAPIC_IRR, vector));
            assert_int_equal((apic->mailbox.posted.requests[vector / 64] >> vector % 64 & 1) != 0, !level);
            lapic_receive(apic);
            assert_true(vector_bit(2, LAPIC_IRR, vector));
            assert_int_equal(vector_bit(2, LAPIC_TMR, vector), level);
            board.wakes[2] = 0;
            assert_int_equal(lapic_take(apic), vector);
            lapic_receive(apic);
            assert_int_equal(lapic_pending(apic), -1);
            lapic_eoi(apic);
            assert_int_equal(board.wakes[2], 0);
        }
    }
    for (unsigned vector = 16; vector < 256; vector++)
        send(2, LAPIC_FIXED, vector, vector % 3 == 0);
    lapic_receive(apic);
    for (unsigned vector = 255; vector >= 16; vector--) {
        assert_int_equal(vector_bit(2, LAPIC_TMR, vector), vector % 3 == 0);
        assert_int_equal(lapic_take(apic), vector);
    }
    assert_int_equal(lapic_pending(apic), -1);
}

static unsigned notified[BOARD_APICS];

static void board_posted(void *context, unsigned vcpu)
{
    (void)context;
    notified[vcpu]++;
}

/* A processor with posted interrupts takes edges by itself; for everything else the owner has to be woken. */
static void notification(void **state)
{
    (void)state;
    static const struct vdev_ops ops = {
        .now = board_now, .wake = board_wake, .posted = board_posted, .ipi = board_ipi};
    struct lapic *apic = &board.apics[2];

    memset(notified, 0, sizeof(notified));
    board.host.ops = &ops;
    send(2, LAPIC_FIXED, 0x50, false);
    assert_int_equal(notified[2], 1);
    assert_int_equal(apic->mailbox.posted.control, LAPIC_POSTED_OUTSTANDING);
    send(2, LAPIC_FIXED, 0x51, false);
    assert_int_equal(notified[2], 1);
    assert_int_equal(board.wakes[2], 0);

    /* The processor clears the bit, then moves the requests. */
    apic->mailbox.posted.control = 0;
    memset(apic->mailbox.posted.requests, 0, sizeof(apic->mailbox.posted.requests));
    send(2, LAPIC_FIXED, 0x52, false);
    assert_int_equal(notified[2], 2);
    send(2, LAPIC_FIXED, 0x60, true);
    assert_int_equal(board.wakes[2], 1);
    send(2, LAPIC_NMI, 0, false);
    assert_int_equal(board.wakes[2], 1); /* there is mail already */
    lapic_receive(apic);
    assert_int_equal(lapic_take(apic), 0x60);
    assert_true(vector_bit(2, LAPIC_IRR, 0x52));
    assert_false(vector_bit(2, LAPIC_IRR, 0x50));
    assert_int_equal(who_got(VDEV_IPI_NMI), 1 << 2);
}

static void messages(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[2];

    assert_true(send(2, LAPIC_NMI, 0, false));
    assert_true(send(2, LAPIC_NMI, 0, false));
    assert_int_equal(board.wakes[2], 1);
    assert_int_equal(who_got(VDEV_IPI_NMI), 0);
    lapic_receive(apic);
    lapic_receive(apic);
    assert_int_equal(who_got(VDEV_IPI_NMI), 1 << 2);

    /* Of two start-ups the first; a start-up before an INIT is void, one after it is not. */
    send(2, LAPIC_SIPI, 0x11, false);
    send(2, LAPIC_SIPI, 0x22, false);
    lapic_receive(apic);
    assert_int_equal(who_got(VDEV_IPI_SIPI), 1 << 2);
    assert_int_equal(board.ipi_vector[2], 0x11);
    board.ipis[2][VDEV_IPI_SIPI] = 0;
    send(2, LAPIC_SIPI, 0x11, false);
    send(2, LAPIC_INIT, 0, false);
    lapic_receive(apic);
    assert_int_equal(who_got(VDEV_IPI_SIPI), 0);
    assert_int_equal(who_got(VDEV_IPI_INIT), 1 << 2);
    board.ipis[2][VDEV_IPI_INIT] = 0;
    send(2, LAPIC_SIPI, 0xff, false);
    send(2, LAPIC_INIT, 0, false);
    send(2, LAPIC_SIPI, 0x21, false);
    lapic_receive(apic);
    assert_int_equal(who_got(VDEV_IPI_INIT), 1 << 2);
    assert_int_equal(who_got(VDEV_IPI_SIPI), 1 << 2);
    assert_int_equal(board.ipi_vector[2], 0x21); /* and it came last */

    assert_true(send(2, LAPIC_EXTINT, 0, false));
    assert_false(lapic_accepts_extint(apic));
    lapic_receive(apic);
    assert_true(lapic_accepts_extint(apic));
    assert_false(send(2, LAPIC_FIXED, 15, false));
    lapic_receive(apic);
    assert_int_equal(apic->errors, LAPIC_ERROR_RECEIVE_VECTOR);
    lapic_receive(apic);
    assert_int_equal(apic->errors, LAPIC_ERROR_RECEIVE_VECTOR);
}

/* What its owner sends itself needs no mailbox, unless it is an NMI and the like. */
static void to_itself(void **state)
{
    (void)state;
    put(2, LAPIC_ICR_HIGH, 2u << 24);
    put(2, LAPIC_ICR, 0x4051);
    put(2, LAPIC_ICR, 0x44052); /* shorthand */
    assert_true(vector_bit(2, LAPIC_IRR, 0x51) && vector_bit(2, LAPIC_IRR, 0x52));
    put(2, LAPIC_ICR, 0x84053); /* all */
    assert_int_equal(who_has(0x53), 1 << 2);
    assert_int_equal(board.apics[2].mailbox.posted.control, 0);
    assert_int_equal(board.wakes[3], 1);
    put(2, LAPIC_ICR, 0x4400);
    assert_int_equal(who_got(VDEV_IPI_NMI), 0);
    lapic_receive(&board.apics[2]);
    assert_int_equal(who_got(VDEV_IPI_NMI), 1 << 2);
}

/* The APIC was enabled when the message was sent, and is not any more. */
static void refused(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[2];

    send(2, LAPIC_FIXED, 0x50, true);
    send(2, LAPIC_FIXED, 0x51, false);
    put(2, LAPIC_SVR, 0xff);
    lapic_receive(apic);
    assert_int_equal(who_has(0x50) | who_has(0x51), 0);
    assert_int_equal(board.eois, 1); /* the source does not wait for one that never comes */
    assert_int_equal(board.eoi_vector, 0x50);
    put(2, LAPIC_SVR, 0x1ff);
    lapic_receive(apic);
    assert_int_equal(who_has(0x50) | who_has(0x51), 0);

    /* A reset empties the mailbox, an INIT does not: what comes while it is taken is for later. */
    send(2, LAPIC_FIXED, 0x50, true);
    lapic_reset_by_init(apic);
    put(2, LAPIC_SVR, 0x1ff);
    lapic_receive(apic);
    assert_int_equal(who_has(0x50), 1 << 2);
    send(2, LAPIC_FIXED, 0x50, true);
    send(2, LAPIC_NMI, 0x50, true);
    lapic_reset(apic);
    put(2, LAPIC_SVR, 0x1ff);
    lapic_receive(apic);
    assert_int_equal(who_has(0x50), 0);
    assert_int_equal(who_got(VDEV_IPI_NMI), 0);
}

/* An edge of the same vector does not swallow the end of a level, whenever it comes. */
static void edge_over_level(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[2];

    for (unsigned when = 0; when < 4; when++) {
        board.eois = 0;
        if (when == 0)
            send(2, LAPIC_FIXED, 0x50, false);
        send(2, LAPIC_FIXED, 0x50, true);
        if (when == 1)
            send(2, LAPIC_FIXED, 0x50, false);
        lapic_receive(apic);
        if (when == 2)
            send(2, LAPIC_FIXED, 0x50, false);
        lapic_receive(apic);
        assert_int_equal(lapic_take(apic), 0x50);
        if (when == 3)
            send(2, LAPIC_FIXED, 0x50, false);
        lapic_receive(apic);
        lapic_eoi(apic);
        assert_int_equal(board.eois, 1);
        if (when == 3) {
            assert_int_equal(lapic_take(apic), 0x50);
            lapic_eoi(apic);
        }
        assert_int_equal(lapic_pending(apic), -1);
        send(2, LAPIC_FIXED, 0x50, false); /* alone it is an edge again */
        lapic_receive(apic);
        assert_false(vector_bit(2, LAPIC_TMR, 0x50));
        lapic_take(apic);
        lapic_eoi(apic);
    }
}

static void pins(void **state)
{
    (void)state;
    struct lapic *apic = &board.apics[2];

    lapic_set_lint(apic, 0, true); /* masked: nobody is disturbed */
    assert_int_equal(board.wakes[2], 0);
    put(2, LAPIC_LVT_LINT0, 0x8050);
    assert_int_equal(lapic_pending(apic), 0x50);
    lapic_set_lint(apic, 0, false);
    lapic_take(apic);
    lapic_eoi(apic);
    lapic_receive(apic);
    assert_int_equal(lapic_pending(apic), -1);
    put(2, LAPIC_LVT_LINT1, 0x0051);
    board.wakes[2] = 0;
    lapic_set_lint(apic, 1, true);
    lapic_set_lint(apic, 1, false); /* an edge counts also when it is over */
    assert_int_equal(board.wakes[2], 1);
    assert_int_equal(lapic_pending(apic), -1);
    lapic_receive(apic);
    assert_int_equal(lapic_pending(apic), 0x51);
}

/* ---- Threads ------------------------------------------------------------------------------------------ */

#define OWNERS   3
#define SENDERS  4
#define ROUNDS   10000
#define TSC_HZ   1000000000ULL
#define SCI_PIN  9
#define SCI      0x59
#define NMI_EACH 64

static struct {
    struct platform platform;
    unsigned woken[OWNERS];
    unsigned seen[256];        /* how often each vector was taken, by whomever */
    unsigned nmis, sipis;      /* taken */
    unsigned spurious;         /* power-button interrupts that found nothing */
    unsigned pressed, handled; /* the button */
    bool stop;
    pthread_barrier_t start;
    pthread_mutex_t driver;
} stress;

static uint64_t stress_now(void *context)
{
    (void)context;
    return 1000;
}

static void stress_wake(void *context, unsigned vcpu)
{
    (void)context;
    __atomic_store_n(&stress.woken[vcpu], 1, __ATOMIC_RELEASE);
}

static void stress_ipi(void *context, unsigned vcpu, enum vdev_ipi kind, uint8_t vector)
{
    (void)context, (void)vcpu, (void)vector;
    __atomic_fetch_add(kind == VDEV_IPI_NMI ? &stress.nmis : &stress.sipis, 1, __ATOMIC_ACQ_REL);
}

static void mmio(unsigned vcpu, uint64_t address, uint32_t value)
{
    if (!platform_mmio_write(&stress.platform, vcpu, GPA(address), 4, value))
        abort();
}

/* The handler of the power button's interrupt, as a driver has it: under a lock of its own, clears what it
 * found. */
static void handle_sci(void)
{
    pthread_mutex_lock(&stress.driver);
    uint32_t status = platform_port_read(&stress.platform, ACPI_PM_BASE, 2);
    platform_port_write(&stress.platform, ACPI_PM_BASE, 2, status);
    pthread_mutex_unlock(&stress.driver);
    if (status & BIT(8))
        __atomic_fetch_add(&stress.handled, 1, __ATOMIC_ACQ_REL);
    else
        __atomic_fetch_add(&stress.spurious, 1, __ATOMIC_RELAXED);
}

/* Runs a vCPU that looks at its local APIC only when it was woken, or when it has changed it itself. */
static void *owner(void *argument)
{
    const unsigned vcpu = (unsigned)(uintptr_t)argument;
    struct platform *platform = &stress.platform;
    uint64_t seed = vcpu + 1;

    pthread_barrier_wait(&stress.start);
    while (!__atomic_load_n(&stress.stop, __ATOMIC_ACQUIRE)) {
        int vector;

        /* vCPU 0 is always there; the others come and go, and change their priorities. */
        if (vcpu != 0 && random_below(&seed, 64) == 0)
            mmio(vcpu, LAPIC_BASE_DEFAULT + LAPIC_TPR, random_below(&seed, 2) << 4);
        if (vcpu == 2 && random_below(&seed, 64) == 0) {
            mmio(vcpu, LAPIC_BASE_DEFAULT + LAPIC_SVR, 0xff);
            platform_receive(platform, vcpu);
            mmio(vcpu, LAPIC_BASE_DEFAULT + LAPIC_SVR, 0x1ff);
        }
        if (!__atomic_exchange_n(&stress.woken[vcpu], 0, __ATOMIC_ACQUIRE)) {
            sched_yield();
            continue;
        }
        platform_receive(platform, vcpu);
        while ((vector = platform_interrupt_take(platform, vcpu)) >= 0) {
            if (vector == SCI)
                handle_sci();
            mmio(vcpu, LAPIC_BASE_DEFAULT + LAPIC_EOI, 0);
            __atomic_fetch_add(&stress.seen[vector], 1, __ATOMIC_RELEASE);
        }
    }
    return NULL;
}

/* Sends one message at a time to the vCPUs that stay, and waits until it was taken exactly once. */
static void *sender(void *argument)
{
    const unsigned number = (unsigned)(uintptr_t)argument;
    uint64_t seed = number + 100;

    pthread_barrier_wait(&stress.start);
    for (unsigned round = 0; round < ROUNDS; round++) {
        const struct lapic_message message = {
            .destination = random_below(&seed, 2),
            .vector = (uint8_t)(0x60 + number * 32 + random_below(&seed, 32)),
        };
        unsigned before = __atomic_load_n(&stress.seen[message.vector], __ATOMIC_ACQUIRE);

        if (!lapic_deliver(stress.platform.lapics, OWNERS, &message))
            abort();
        while (__atomic_load_n(&stress.seen[message.vector], __ATOMIC_ACQUIRE) == before)
            sched_yield();
        if (__atomic_load_n(&stress.seen[message.vector], __ATOMIC_ACQUIRE) != before + 1)
            abort();
        /* Noise: the vector of the level-triggered pin, as an edge; an NMI. */
        if (round % NMI_EACH == 0) {
            const struct lapic_message noise[] = {
                {.destination = LAPIC_BROADCAST, .vector = SCI},
                {.destination = 1, .mode = LAPIC_NMI},
            };

            lapic_deliver(stress.platform.lapics, OWNERS, &noise[0]);
            lapic_deliver(stress.platform.lapics, OWNERS, &noise[1]);
        }
    }
    return NULL;
}

/* Presses the power button, whose interrupt is level-triggered, and waits until somebody has handled it. */
static void *presser(void *argument)
{
    (void)argument;
    pthread_barrier_wait(&stress.start);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned before = __atomic_load_n(&stress.handled, __ATOMIC_ACQUIRE);

        if (!platform_press_power_button(&stress.platform))
            abort();
        stress.pressed++;
        while (__atomic_load_n(&stress.handled, __ATOMIC_ACQUIRE) == before)
            sched_yield();
    }
    return NULL;
}

/*
 * The pin goes to whoever has the lowest priority of three vCPUs, one of which is disabled again and again. A
 * request that is lost leaves a thread waiting: the alarm ends the test.
 */
static void threads(void **state)
{
    (void)state;
    static const struct vdev_ops ops = {.now = stress_now, .wake = stress_wake, .ipi = stress_ipi};
    static uint8_t register_pages[OWNERS][PAGE_SIZE] __aligned(PAGE_SIZE);
    const struct vdev_host host = {.ops = &ops, .context = &stress, .tsc_hz = TSC_HZ};
    const struct platform_settings settings = {
        .vcpus = OWNERS, .memory_low = MIB(64), .lapic_timer_hz = TSC_HZ, .physical_address_bits = 39};
    void *const apic_pages[OWNERS] = {register_pages[0], register_pages[1], register_pages[2]};
    void *(*const functions[])(void *) = {owner, owner, owner, sender, sender, sender, sender, presser};
    pthread_t ids[ARRAY_SIZE(functions)];

    memset(&stress, 0, sizeof(stress));
    platform_init(&stress.platform, &host, &settings, apic_pages);
    for (unsigned i = 0; i < OWNERS; i++) {
        mmio(i, LAPIC_BASE_DEFAULT + LAPIC_SVR, 0x1ff);
        mmio(i, LAPIC_BASE_DEFAULT + LAPIC_LDR, 1u << (24 + i));
    }
    mmio(0, IOAPIC_BASE_DEFAULT, 0x11 + SCI_PIN * 2);
    mmio(0, IOAPIC_BASE_DEFAULT + 0x10, 0x07u << 24);
    mmio(0, IOAPIC_BASE_DEFAULT, 0x10 + SCI_PIN * 2);
    mmio(0, IOAPIC_BASE_DEFAULT + 0x10, 0x8000 | 0x0800 | LAPIC_LOWEST_PRIORITY << 8 | SCI);
    platform_port_write(&stress.platform, ACPI_PM_BASE + 2, 2, BIT(8)); /* PWRBTN_EN */
    platform_port_write(&stress.platform, ACPI_PM_BASE + 4, 2, BIT(0)); /* SCI_EN */

    alarm(120);
    assert_int_equal(pthread_mutex_init(&stress.driver, NULL), 0);
    assert_int_equal(pthread_barrier_init(&stress.start, NULL, ARRAY_SIZE(functions)), 0);
    for (uintptr_t i = 0; i < ARRAY_SIZE(functions); i++) {
        uintptr_t number = i < OWNERS ? i : i - OWNERS;
        assert_int_equal(pthread_create(&ids[i], NULL, functions[i], (void *)number), 0);
    }
    for (unsigned i = OWNERS; i < ARRAY_SIZE(functions); i++)
        assert_int_equal(pthread_join(ids[i], NULL), 0);
    __atomic_store_n(&stress.stop, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < OWNERS; i++)
        assert_int_equal(pthread_join(ids[i], NULL), 0);
    alarm(0);

    assert_int_equal(stress.handled, ROUNDS);
    assert_int_equal(stress.pressed, ROUNDS);
    unsigned taken = 0;
    for (unsigned vector = 0x60; vector < 0x60 + SENDERS * 32; vector++)
        taken += stress.seen[vector];
    assert_int_equal(taken, SENDERS * ROUNDS);
    assert_true(stress.nmis > 0 && stress.nmis <= SENDERS * (ROUNDS / NMI_EACH + 1));
    assert_int_equal(stress.sipis, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(vectors, asleep),  cmocka_unit_test_setup(notification, asleep),
        cmocka_unit_test_setup(messages, asleep), cmocka_unit_test_setup(to_itself, asleep),
        cmocka_unit_test_setup(refused, asleep),  cmocka_unit_test_setup(edge_over_level, asleep),
        cmocka_unit_test_setup(pins, asleep),     cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
