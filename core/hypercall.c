// SPDX-License-Identifier: BSD-2-Clause
#include "core/hypercall.h"

#include "lib/errors.h"

/* Console text goes in pieces of this size, through the stack. */
#define CONSOLE_PIECE 256

enum argument {
    RBX,
    RCX,
    RDX,
    RSI,
    ARGUMENTS,
};

/* Writes as much of an answer as the guest has room for, but not less than its first word, which is the size.
 */
static int64_t answer(const struct hypercall_caller *caller, const uint64_t arguments[ARGUMENTS],
                      const void *from, uint64_t size)
{
    uint64_t room = min_u64(arguments[RCX], size);

    if (room < sizeof(uint32_t))
        return -EINVAL;
    if (guest_memory_check(caller->memory, GPA(arguments[RBX]), room, PAGING_WRITE) != 0 ||
        guest_memory_write(caller->memory, GPA(arguments[RBX]), from, room, NULL) != 0)
        return -EFAULT;
    return (int64_t)room;
}

static int64_t get_version(const struct hypercall_caller *caller, const uint64_t arguments[ARGUMENTS])
{
    (void)caller, (void)arguments;
    return HYPERCALL_VERSION;
}

static int64_t get_info(const struct hypercall_caller *caller, const uint64_t arguments[ARGUMENTS])
{
    struct hypercall_info info = {.size = sizeof(info), .hypercalls = HYPERCALL_ALL};

    caller->ops->info(caller->context, &info);
    return answer(caller, arguments, &info, sizeof(info));
}

static int64_t get_time(const struct hypercall_caller *caller, const uint64_t arguments[ARGUMENTS])
{
    struct hypercall_time time = {.size = sizeof(time)};

    caller->ops->time(caller->context, &time);
    return answer(caller, arguments, &time, sizeof(time));
}

static int64_t yield(const struct hypercall_caller *caller, const uint64_t arguments[ARGUMENTS])
{
    (void)arguments;
    caller->ops->yield(caller->context);
    return 0;
}

static int64_t doorbell(const struct hypercall_caller *caller, const uint64_t arguments[ARGUMENTS])
{
    return caller->ops->doorbell(caller->context, arguments[RBX], arguments[RCX], arguments[RDX]);
}

static int64_t console_write(const struct hypercall_caller *caller, const uint64_t arguments[ARGUMENTS])
{
    uint64_t length = min_u64(arguments[RCX], HYPERCALL_CONSOLE_MAX);
    char text[CONSOLE_PIECE];

    if (guest_memory_check(caller->memory, GPA(arguments[RBX]), length, PAGING_READ) != 0)
        return -EFAULT;
    for (uint64_t done = 0; done < length; done += sizeof(text)) {
        size_t piece = min_u64(length - done, sizeof(text));

        if (guest_memory_read(caller->memory, GPA(arguments[RBX] + done), text, piece, NULL) != 0)
            return -EFAULT;
        caller->ops->console_write(caller->context, text, piece);
    }
    return (int64_t)length;
}

static int64_t power(const struct hypercall_caller *caller, const uint64_t arguments[ARGUMENTS])
{
    if (arguments[RBX] != HYPERCALL_POWER_OFF && arguments[RBX] != HYPERCALL_POWER_RESET)
        return -EINVAL;
    caller->ops->power(caller->context, (enum hypercall_power)arguments[RBX]);
    return 0;
}

/* ---- Steal time ---------------------------------------------------------------------------------------- */

static int64_t steal_time(const struct hypercall_caller *caller, const uint64_t arguments[ARGUMENTS])
{
    static const struct hypercall_steal nothing;
    struct hypercall_vcpu *vcpu = caller->vcpu;

    if (arguments[RCX] > 1)
        return -EINVAL;
    if (arguments[RCX] == 0) {
        hypercall_reset(vcpu);
        return 0;
    }
    if (!is_aligned(arguments[RBX], sizeof(nothing)))
        return -EINVAL;
    /* Aligned, it lies in one page: it is written whole or not at all. */
    if (guest_memory_write(caller->memory, GPA(arguments[RBX]), &nothing, sizeof(nothing), NULL) != 0)
        return -EFAULT;
    *vcpu = (struct hypercall_vcpu){.steal_enabled = true, .steal_page = GPA(arguments[RBX])};
    return 0;
}

void hypercall_reset(struct hypercall_vcpu *vcpu)
{
    *vcpu = (struct hypercall_vcpu){0};
}

/* The three writes are calls of another file, and the processor does not reorder stores: a reader sees them
 * so. */
void hypercall_steal_update(struct hypercall_vcpu *vcpu, const struct stage_chain *memory, uint64_t stolen,
                            uint64_t now)
{
    struct hypercall_steal steal = {.version = vcpu->steal_version + 1, .stolen = stolen, .updated = now};
    const uint32_t complete = steal.version + 1;

    if (!vcpu->steal_enabled)
        return;
    vcpu->steal_version = complete;
    vcpu->steal_enabled =
        guest_memory_write(memory, vcpu->steal_page, &steal.version, sizeof(steal.version), NULL) == 0 &&
        guest_memory_write(memory, vcpu->steal_page, &steal, sizeof(steal), NULL) == 0 &&
        guest_memory_write(memory, vcpu->steal_page, &complete, sizeof(complete), NULL) == 0;
}

/* ---- The table ----------------------------------------------------------------------------------------- */

typedef int64_t hypercall_handler(const struct hypercall_caller *caller, const uint64_t arguments[ARGUMENTS]);

static hypercall_handler *const handlers[HYPERCALL_COUNT] = {
    [HYPERCALL_GET_VERSION] = get_version,     [HYPERCALL_GET_INFO] = get_info,
    [HYPERCALL_GET_TIME] = get_time,           [HYPERCALL_YIELD] = yield,
    [HYPERCALL_DOORBELL] = doorbell,           [HYPERCALL_STEAL_TIME] = steal_time,
    [HYPERCALL_CONSOLE_WRITE] = console_write, [HYPERCALL_POWER] = power,
};

int64_t hypercall_execute(const struct hypercall_caller *caller, uint64_t number, const uint64_t arguments[4])
{
    if (number >= ARRAY_SIZE(handlers))
        return -ENOSYS;
    return handlers[number](caller, arguments);
}
