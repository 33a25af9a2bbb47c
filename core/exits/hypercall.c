// SPDX-License-Identifier: BSD-2-Clause
/* VMCALL: what hypercalls ask of the partition and its vCPU. */
#include "core/hypercall.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "core/run.h"
#include "core/shared.h"
#include "lib/errors.h"
#include "lib/string.h"
#include "vmx/tsc.h"

_Static_assert(HYPERCALL_NAME_SIZE > CONFIG_NAME_MAX, "a partition's name and its terminator");

static void op_info(void *context, struct hypercall_info *info)
{
    const struct partition_vcpu *v = context;
    const struct partition *partition = v->partition;

    info->number = partition->number;
    info->vcpus = partition->vcpu_count;
    info->vcpu = v->number;
    info->memory = partition->memory;
    info->tsc_hz = partition->platform.host.tsc_hz;
    info->regions = partition->shared.count;
    memcpy(info->name, partition->config->name.start, partition->config->name.length);
}

static void op_time(void *context, struct hypercall_time *time)
{
    const struct partition_vcpu *v = context;
    const struct partition *partition = v->partition;

    time->tsc = partition_tsc(partition);
    time->wall_clock = partition_machine()->wall_clock();
    time->tsc_hz = partition->platform.host.tsc_hz;
    time->tsc_offset = partition->tsc_offset;
    time->tsc_multiplier = TSC_MULTIPLIER_ONE;
}

static void op_yield(void *context)
{
    (void)context;
    run_yield();
}

static int op_doorbell(void *context, uint64_t region, uint64_t peer, uint64_t vector)
{
    struct partition_vcpu *v = context;

    return shared_ring(&v->partition->shared, region, peer, vector);
}

static void op_console_write(void *context, const char *text, size_t length)
{
    const struct partition_vcpu *v = context;

    for (size_t i = 0; i < length; i++)
        partition_machine()->console_write(v->partition->number, text[i]);
}

static void op_power(void *context, enum hypercall_power what)
{
    struct partition_vcpu *v = context;

    partition_request(v->partition,
                      what == HYPERCALL_POWER_RESET ? PARTITION_REQUEST_RESET : PARTITION_REQUEST_STOP);
}

static const struct hypercall_ops ops = {
    .info = op_info,
    .time = op_time,
    .yield = op_yield,
    .doorbell = op_doorbell,
    .console_write = op_console_write,
    .power = op_power,
};

/*
 * The exit comes at every privilege level and in every mode. Who may not call gets an answer instead of an
 * exception, as a program may run where it cannot be told from a system.
 */
void exit_vmcall(struct partition_vcpu *v)
{
    const struct hypercall_caller caller = {
        .ops = &ops,
        .context = v,
        .memory = &v->partition->memory_chain,
        .vcpu = &v->hypercall,
    };
    uint64_t *registers = v->vcpu.registers;
    const uint64_t cut = linear_mode(v) == DECODE_MODE_64 ? UINT64_MAX : UINT32_MAX;
    const uint64_t arguments[] = {registers[VCPU_RBX] & cut, registers[VCPU_RCX] & cut,
                                  registers[VCPU_RDX] & cut, registers[VCPU_RSI] & cut};
    int64_t result = -EPERM;

    if (linear_cpl(v) == 0)
        result = hypercall_execute(&caller, registers[VCPU_RAX] & cut, arguments);
    registers[VCPU_RAX] = (uint64_t)result & cut;
    vcpu_skip_instruction(&v->vcpu);
}
