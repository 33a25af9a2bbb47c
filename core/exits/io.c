// SPDX-License-Identifier: BSD-2-Clause
/* IN, OUT, INS and OUTS: every port is a device of the partition (SDM vol. 3, table 28-5;
 * "instruction-information field for INS and OUTS"). */
#include "arch/x86/cpu.h"
#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "core/exits/qualifications.h"
#include "core/paging.h"

#define INFORMATION_ADDRESS_SIZE(i) (2U << ((i) >> 7 & 7)) /* bytes */
#define INFORMATION_SEGMENT(i)      ((enum decode_segment)((i) >> 15 & 7))

#define DR7_ENABLES                 0xff
#define DR7_KIND_IO                 2
#define PENDING_ENABLED_BREAKPOINT  BIT(12)

/* A repeated instruction moves so many elements an exit at most; then it exits again. */
#define ELEMENTS_MAX                64

static uint64_t size_mask(unsigned bytes)
{
    return bytes >= 8 ? UINT64_MAX : BIT(8 * bytes) - 1;
}

/* Adds to a register as an instruction with `address_size` does: 32-bit results clear the upper half, 16-bit
 * ones keep it. */
static void advance(uint64_t *reg, uint64_t by, unsigned address_size)
{
    uint64_t mask = size_mask(address_size);
    uint64_t kept = address_size == 2 ? *reg & ~mask : 0;

    *reg = ((*reg + by) & mask) | kept;
}

/* One element at segment:offset. False: the guest gets a fault, or is crashed. */
static bool move_element(struct partition_vcpu *v, uint16_t port, unsigned size, bool in,
                         enum decode_segment segment, uint64_t offset, unsigned how)
{
    const struct stage_chain *linear = &v->level->linear;
    struct guest_transfer transfer;
    uint32_t value = 0;
    uint8_t vector;
    gla_t gla;
    int error;

    if (!linear_address(v, segment, offset, size, in, &gla, &vector)) {
        exit_inject(v, vector);
        return false;
    }
    if (in) {
        /* The device must not lose what the guest cannot take: the access is asked for before the port is
         * read. */
        error = guest_linear_check(linear, gla, size, how | PAGING_WRITE, &transfer);
        if (error == 0) {
            value = platform_port_read(&v->partition->platform, port, size);
            error = guest_linear_write(linear, gla, &value, size, how, &transfer);
        }
    } else {
        error = guest_linear_read(linear, gla, &value, size, how, &transfer);
        if (error == 0)
            platform_port_write(&v->partition->platform, port, size, value);
    }
    if (error == 0)
        return true;
    if (transfer.outcome == STAGE_FAULT)
        exit_inject_access_fault(v, GLA(gla.value + transfer.done), &transfer.fault);
    else if (transfer.outcome != STAGE_AGAIN) /* else the guest tries once more */
        partition_crash(v, "string I/O at %#lx, where it has no memory", gla.value);
    return false;
}

/*
 * I/O breakpoints (SDM vol. 3, "Debug control register"): the processor does not see the port of an access
 * that exited, so the trap that follows the instruction is made here.
 */
static void hit_breakpoints(struct partition_vcpu *v, uint16_t port, unsigned size)
{
    struct vcpu *vcpu = v->level->vcpu;
    uint64_t dr7 = vcpu_read(vcpu, VMCS_GUEST_DR7);
    const uint64_t addresses[4] = {cpu_read_dr0(), cpu_read_dr1(), cpu_read_dr2(), cpu_read_dr3()};
    uint64_t hit = 0;

    for (unsigned i = 0; i < 4; i++) {
        unsigned kind = (unsigned)(dr7 >> (16 + 4 * i)) & 15;
        uint64_t length = (uint64_t)(kind >> 2) + 1;
        uint64_t first = align_down(addresses[i], length == 3 ? 1 : length);
        bool enabled = (dr7 & (X86_DR7_L(i) | X86_DR7_G(i))) != 0;
        if (enabled && (kind & 3) == DR7_KIND_IO && first < (uint64_t)port + size && port < first + length)
            hit |= X86_DR6_B(i);
    }
    if (hit != 0)
        vcpu_write(vcpu, VMCS_GUEST_PENDING_DEBUG,
                   vcpu_read(vcpu, VMCS_GUEST_PENDING_DEBUG) | hit | PENDING_ENABLED_BREAKPOINT);
}

static void check_breakpoints(struct partition_vcpu *v, uint16_t port, unsigned size)
{
    if (unlikely((vcpu_read(v->level->vcpu, VMCS_GUEST_DR7) & DR7_ENABLES) != 0) &&
        (paging_read_cr4(v) & X86_CR4_DE) != 0)
        hit_breakpoints(v, port, size);
}

static void string_io(struct partition_vcpu *v, uint64_t qualification)
{
    struct vcpu *vcpu = v->level->vcpu;
    bool in = (qualification & IO_IN) != 0;
    bool repeat = (qualification & IO_REPEAT) != 0;
    unsigned size = IO_SIZE(qualification);
    uint64_t information = vcpu_read(vcpu, VMCS_EXIT_INSTRUCTION_INFO);
    unsigned address_size = INFORMATION_ADDRESS_SIZE(information);
    uint64_t mask = size_mask(address_size);
    enum decode_segment segment = in ? DECODE_ES : INFORMATION_SEGMENT(information);
    uint64_t *pointer = &vcpu->registers[in ? VCPU_RDI : VCPU_RSI];
    uint64_t *counter = &vcpu->registers[VCPU_RCX];
    uint64_t step = vcpu_read(vcpu, VMCS_GUEST_RFLAGS) & X86_RFLAGS_DF ? 0 - (uint64_t)size : size;
    /* Traps come between iterations. */
    bool traps = (vcpu_read(vcpu, VMCS_GUEST_RFLAGS) & X86_RFLAGS_TF) != 0 ||
                 (vcpu_read(vcpu, VMCS_GUEST_DR7) & DR7_ENABLES) != 0;
    unsigned most = traps ? 1 : ELEMENTS_MAX;
    unsigned how = linear_prepare(v);

    for (unsigned done = 0; !repeat || (*counter & mask) != 0; done++) {
        if (done == most) {
            vcpu_end_step(vcpu); /* RIP stays: the rest comes with the next exit */
            return;
        }
        if (!move_element(v, IO_PORT(qualification), size, in, segment, *pointer & mask, how))
            return;
        check_breakpoints(v, IO_PORT(qualification), size);
        advance(pointer, step, address_size);
        if (!repeat)
            break;
        advance(counter, UINT64_MAX, address_size);
    }
    vcpu_skip_instruction(vcpu);
}

/* IN or OUT of one register. */
static void port_io(struct partition_vcpu *v, uint64_t qualification)
{
    unsigned size = IO_SIZE(qualification);
    struct vcpu *vcpu = v->level->vcpu;
    uint64_t *rax = &vcpu->registers[VCPU_RAX];

    if (qualification & IO_IN) {
        uint64_t value = platform_port_read(&v->partition->platform, IO_PORT(qualification), size);
        uint64_t mask = size_mask(size);
        /* A 32-bit result clears the upper half of RAX, a smaller one leaves the rest alone. */
        *rax = (value & mask) | (size == 4 ? 0 : *rax & ~mask);
    } else {
        platform_port_write(&v->partition->platform, IO_PORT(qualification), size,
                            (uint32_t)(*rax & size_mask(size)));
    }
    check_breakpoints(v, IO_PORT(qualification), size);
    vcpu_skip_instruction(vcpu);
}

void exit_io(struct partition_vcpu *v)
{
    uint64_t qualification = vcpu_read(v->level->vcpu, VMCS_EXIT_QUALIFICATION);
    bool moves = (qualification & IO_IN) == 0 || platform_read_moves_deadline(IO_PORT(qualification));

    if (unlikely((qualification & IO_STRING) != 0))
        string_io(v, qualification);
    else
        port_io(v, qualification);
    /* After the access: whoever keeps the board's time looks at what it has made of it. */
    if (moves)
        partition_vcpu_touch_devices(v);
}
