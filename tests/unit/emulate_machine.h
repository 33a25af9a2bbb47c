// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/* A machine for the tests of core/emulate.c: one arena of bytes, any page of which can be the device. */
#include "core/emulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum {
    RAX,
    RCX,
    RDX,
    RBX,
    RSP,
    RBP,
    RSI,
    RDI,
};

#define CODE        0x20000000ULL
#define ARENA       0x30000000ULL
#define ARENA_SIZE  (2 * PAGE_SIZE)
#define DEVICE_BIAS 0x7700000000ULL /* guest-physical minus linear address of the device */

struct machine {
    uint64_t registers[16];
    uint64_t rflags;
    uint8_t memory[ARENA_SIZE];
    unsigned device_reads, device_writes, memory_reads, memory_writes;
    uint64_t fault_at;     /* guest memory from this linear address on faults; 0: none does */
    uint64_t read_only_at; /* from this one on it cannot be written; 0: all can */
    bool races;            /* and only since it was read */
    struct emulate emulate;
};

static bool linear(void *context, enum decode_segment segment, uint64_t offset, unsigned size, bool write,
                   gla_t *gla, struct emulate_fault *fault)
{
    (void)context;
    (void)segment;
    (void)size;
    (void)write;
    (void)fault;
    *gla = GLA(offset);
    return true;
}

static uint8_t *arena_bytes(struct machine *m, uint64_t address, unsigned size)
{
    assert_in_range(address, ARENA, ARENA + ARENA_SIZE - size);
    return m->memory + (address - ARENA);
}

static enum emulate_access check_memory(struct machine *m, gla_t gla, unsigned size, bool write,
                                        struct emulate_fault *fault)
{
    bool absent = m->fault_at != 0 && gla.value + size > m->fault_at;
    bool read_only = m->read_only_at != 0 && gla.value + size > m->read_only_at;

    if (!absent && !(read_only && write))
        return EMULATE_ACCESS_DONE;
    *fault = (struct emulate_fault){.vector = 14, .error_code = write ? 2 : 0, .address = gla.value};
    return EMULATE_ACCESS_FAULT;
}

static enum emulate_access memory_read(void *context, gla_t gla, unsigned size, bool modify, uint64_t *value,
                                       struct emulate_fault *fault)
{
    struct machine *m = context;
    enum emulate_access access = check_memory(m, gla, size, modify && !m->races, fault);

    if (access != EMULATE_ACCESS_DONE)
        return access;
    m->memory_reads++;
    *value = 0;
    memcpy(value, arena_bytes(m, gla.value, size), size);
    return access;
}

static enum emulate_access memory_write(void *context, gla_t gla, unsigned size, uint64_t value,
                                        struct emulate_fault *fault)
{
    struct machine *m = context;
    enum emulate_access access = check_memory(m, gla, size, true, fault);

    if (access != EMULATE_ACCESS_DONE)
        return access;
    m->memory_writes++;
    memcpy(arena_bytes(m, gla.value, size), &value, size);
    return access;
}

/* A device may leave rubbish above the bytes that it was asked for. */
static void mmio_read(void *context, gpa_t gpa, unsigned size, uint64_t *value)
{
    struct machine *m = context;

    assert_true(gpa.value % PAGE_SIZE + size <= PAGE_SIZE);
    m->device_reads++;
    *value = 0xa5a5a5a5a5a5a5a5;
    memcpy(value, arena_bytes(m, gpa.value - DEVICE_BIAS, size), size);
}

static void mmio_write(void *context, gpa_t gpa, unsigned size, uint64_t value)
{
    struct machine *m = context;

    assert_true(gpa.value % PAGE_SIZE + size <= PAGE_SIZE);
    m->device_writes++;
    memcpy(arena_bytes(m, gpa.value - DEVICE_BIAS, size), &value, size);
}

static const struct emulate_ops ops = {linear, memory_read, memory_write, mmio_read, mmio_write};

/* The exit at `device` of the instruction that `m` stands before. */
static enum emulate_result take_exit(struct machine *m, const struct decode_instruction *i, uint64_t device,
                                     bool write)
{
    m->emulate = (struct emulate){
        .ops = &ops,
        .context = m,
        .registers = m->registers,
        .rflags = &m->rflags,
        .rip = CODE,
        .stack_size = i->mode,
        .gpa = GPA(device + DEVICE_BIAS),
        .write = write,
    };
    return emulate_instruction(&m->emulate, i);
}
