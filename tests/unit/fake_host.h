// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What a device model is given in a unit test: a TSC that the test moves, and a record of all that the device
 * asks for. Include after <cmocka.h>.
 */
#include "core/vdev/vdev.h"
#include "lib/string.h"

struct fake_host {
    struct vdev_host host;
    uint64_t now;
    bool irq[24];
    unsigned rises[24]; /* of each line */
    unsigned powers[2]; /* requests by enum vdev_power */
    unsigned wakes[64]; /* by vCPU */
    char console[256];
    size_t console_length;
};

static inline uint64_t fake_now(void *context)
{
    return ((struct fake_host *)context)->now;
}

static inline void fake_set_irq(void *context, unsigned line, bool level)
{
    struct fake_host *fake = context;

    /* A device may say only what has changed. */
    assert_true(fake->irq[line] != level);
    fake->irq[line] = level;
    fake->rises[line] += level;
}

static inline void fake_power(void *context, enum vdev_power what)
{
    ((struct fake_host *)context)->powers[what]++;
}

static inline void fake_console_write(void *context, char byte)
{
    struct fake_host *fake = context;

    assert_true(fake->console_length < sizeof(fake->console) - 1);
    fake->console[fake->console_length++] = byte;
}

static inline void fake_wake(void *context, unsigned vcpu)
{
    ((struct fake_host *)context)->wakes[vcpu]++;
}

static inline void fake_ipi(void *context, unsigned vcpu, enum vdev_ipi kind, uint8_t vector)
{
    (void)context;
    (void)vcpu;
    (void)kind;
    (void)vector;
    fail();
}

/* A host at TSC 0. */
static inline void fake_host_init(struct fake_host *fake, uint64_t tsc_hz)
{
    static const struct vdev_ops ops = {
        .now = fake_now,
        .set_irq = fake_set_irq,
        .power = fake_power,
        .console_write = fake_console_write,
        .wake = fake_wake,
        .ipi = fake_ipi,
    };

    memset(fake, 0, sizeof(*fake));
    fake->host = (struct vdev_host){.ops = &ops, .context = fake, .tsc_hz = tsc_hz};
}
