// SPDX-License-Identifier: BSD-2-Clause
/*
 * Any hypercalls by a small partition with a hole, a read-only page and memory of somebody else beside it.
 * Fails on an access to what is not the partition's, a text that is not the guest's, a result that is not
 * documented, a call that takes more of guest memory or of the console than it may, or a structure that is
 * half written.
 */
#include "core/hypercall.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mm/p2m.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAGES  6
#define OTHERS 4                        /* this page of the six is another partition's */
#define TOP    GPA(BIT(48) - PAGE_SIZE) /* where the partition has its last page */

static void require(bool condition)
{
    if (!condition)
        abort();
}

static uint8_t memory[PAGES * PAGE_SIZE] __aligned(PAGE_SIZE);
static gpa_t from;     /* where the call in hand says that its text is */
static size_t written; /* to the console, by one call */

static void op_info(void *context, struct hypercall_info *info)
{
    (void)context;
    memset(info->name, 'n', sizeof(info->name) - 1);
    info->tsc_hz = 0xaaaaaaaaaaaaaaaa;
}

static void op_time(void *context, struct hypercall_time *time)
{
    (void)context;
    time->tsc = 0xaaaaaaaaaaaaaaaa;
}

static void op_yield(void *context)
{
    (void)context;
}

static int op_doorbell(void *context, uint64_t region, uint64_t peer, uint64_t vector)
{
    (void)context;
    return region > 1 || vector > 7 ? -EINVAL : peer > 3 ? -ENOENT : 0;
}

static void op_console_write(void *context, const char *text, size_t length)
{
    (void)context;
    for (size_t i = 0; i < length; i++, written++) {
        uint64_t gpa = from.value + written;
        const uint8_t *byte = gpa >= TOP.value ? &memory[5 * PAGE_SIZE + gpa % PAGE_SIZE] : &memory[gpa];

        require(gpa < 3 * PAGE_SIZE || (gpa >= TOP.value && gpa < TOP.value + PAGE_SIZE));
        require((uint8_t)text[i] == *byte);
    }
}

static void op_power(void *context, enum hypercall_power what)
{
    (void)context;
    require(what == HYPERCALL_POWER_OFF || what == HYPERCALL_POWER_RESET);
}

static void check_result(uint64_t number, const uint64_t arguments[4], int64_t result)
{
    switch (number) {
    case HYPERCALL_GET_VERSION:
        require(result == HYPERCALL_VERSION);
        break;
    case HYPERCALL_GET_INFO:
    case HYPERCALL_GET_TIME:
        require(result == -EFAULT || (result == -EINVAL && arguments[1] < 4) ||
                (result >= 4 && (uint64_t)result <= arguments[1] && result <= 80));
        break;
    case HYPERCALL_CONSOLE_WRITE:
        require(result == -EFAULT || (result == (int64_t)min_u64(arguments[1], HYPERCALL_CONSOLE_MAX) &&
                                      written == (size_t)result));
        require(result >= 0 || written == 0);
        break;
    case HYPERCALL_DOORBELL:
        require(result == 0 || result == -EINVAL || result == -ENOENT);
        break;
    case HYPERCALL_STEAL_TIME:
        require(result == 0 || result == -EINVAL || result == -EFAULT);
        break;
    case HYPERCALL_YIELD:
    case HYPERCALL_POWER:
        require(result == 0 || (result == -EINVAL && arguments[0] > 1));
        break;
    default:
        require(result == -ENOSYS);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct hypercall_ops ops = {op_info,     op_time,          op_yield,
                                             op_doorbell, op_console_write, op_power};
    const unsigned rw = PAGING_READ | PAGING_WRITE;
    const uint16_t owner = FRAME_OWNER_PARTITION;
    struct frame_extent extents[8];
    struct frame_pool pool;
    struct p2m_region regions[4];
    struct p2m p2m;
    const struct stage_chain chain = {.stages = {&p2m.stage}, .count = 1};
    struct hypercall_vcpu vcpu;
    static uint8_t before[PAGES * PAGE_SIZE];
    const struct hypercall_caller caller = {&ops, NULL, &chain, &vcpu};

    /* Pages 0 to 2, the third read-only; a hole; page 5, far up. */
    memset(memory, 0, PAGES * PAGE_SIZE);
    memset(&memory[2 * PAGE_SIZE], 0x22, PAGE_SIZE);
    memset(&memory[OTHERS * PAGE_SIZE], 0x99, PAGE_SIZE);
    memcpy(before, memory, sizeof(before));
    const hpa_t base = HPA((uintptr_t)memory);
    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), NULL);
    require(frame_pool_add(&pool, base, PAGES * PAGE_SIZE, FRAME_OWNER_FREE) == 0);
    require(frame_claim(&pool, base, OTHERS * PAGE_SIZE, owner) == 0);
    require(frame_claim(&pool, HPA(base.value + 5 * PAGE_SIZE), PAGE_SIZE, owner) == 0);
    require(frame_claim(&pool, HPA(base.value + OTHERS * PAGE_SIZE), PAGE_SIZE, owner + 1) == 0);
    p2m_init(&p2m, regions, ARRAY_SIZE(regions), &pool, owner);
    const struct p2m_region added[] = {
        {GPA(0), base, 2 * PAGE_SIZE, (uint8_t)rw, MEMORY_TYPE_WB},
        {GPA(2 * PAGE_SIZE), HPA(base.value + 2 * PAGE_SIZE), PAGE_SIZE, PAGING_READ, MEMORY_TYPE_WB},
        {TOP, HPA(base.value + 5 * PAGE_SIZE), PAGE_SIZE, (uint8_t)rw, MEMORY_TYPE_WB},
    };
    for (size_t i = 0; i < ARRAY_SIZE(added); i++)
        require(p2m_add(&p2m, &added[i]) == 0);
    hypercall_reset(&vcpu);

    /* A byte: which call, and how wide its arguments are; then these. */
    while (size >= 1) {
        unsigned width = data[0] & 0x10 ? 8 : 2;
        uint64_t number = data[0] & 0xf, arguments[4] = {0};

        data++, size--;
        for (unsigned i = 0; i < 4; i++) {
            unsigned bytes = size < width ? (unsigned)size : width;

            memcpy(&arguments[i], data, bytes);
            data += bytes;
            size -= bytes;
        }
        if (number == 0xf)
            number = arguments[3];
        if (number == 0xe) {
            hypercall_steal_update(&vcpu, &chain, arguments[0], arguments[1]);
            require(!vcpu.steal_enabled || (vcpu.steal_version & 1) == 0);
            continue;
        }
        written = 0;
        from = GPA(arguments[0]);
        check_result(number, arguments, hypercall_execute(&caller, number, arguments));
    }
    require(memcmp(&memory[2 * PAGE_SIZE], &before[2 * PAGE_SIZE], 3 * PAGE_SIZE) == 0);
    return 0;
}
