// SPDX-License-Identifier: BSD-2-Clause
/*
 * Any bytes through the decoder, and what it accepts through the emulation. Fails on a read past the bytes,
 * undefined behaviour, a field out of its range, an access that leaves its page, or a repetition past its
 * bound.
 */
#include "core/emulate.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

struct machine {
    uint64_t registers[16];
    uint64_t rflags;
    unsigned accesses;
};

static bool linear(void *context, enum decode_segment segment, uint64_t offset, unsigned size, bool write,
                   gla_t *gla, struct emulate_fault *fault)
{
    (void)context;
    (void)write;
    require(segment <= DECODE_GS && size >= 1 && size <= 8);
    *gla = GLA(offset);
    if (offset >= UINT64_MAX - 4096)
        *fault = (struct emulate_fault){.vector = 13, .has_error_code = true};
    return offset < UINT64_MAX - 4096;
}

/* The address decides what becomes of an access to it. */
static enum emulate_access access_to(gla_t gla, struct emulate_fault *fault)
{
    if (gla.value & BIT(20))
        return EMULATE_ACCESS_AGAIN;
    if ((gla.value & BIT(21)) == 0)
        return EMULATE_ACCESS_DONE;
    *fault = (struct emulate_fault){.vector = 14, .address = gla.value};
    return EMULATE_ACCESS_FAULT;
}

static enum emulate_access memory_read(void *context, gla_t gla, unsigned size, bool modify, uint64_t *value,
                                       struct emulate_fault *fault)
{
    struct machine *m = context;

    (void)size;
    (void)modify;
    m->accesses++;
    *value = gla.value;
    return access_to(gla, fault);
}

static enum emulate_access memory_write(void *context, gla_t gla, unsigned size, uint64_t value,
                                        struct emulate_fault *fault)
{
    struct machine *m = context;

    m->accesses++;
    require(size == 8 || value >> (8 * size) == 0);
    return access_to(gla, fault);
}

static void mmio_read(void *context, gpa_t gpa, unsigned size, uint64_t *value)
{
    struct machine *m = context;

    m->accesses++;
    require(gpa.value % PAGE_SIZE + size <= PAGE_SIZE);
    *value = UINT64_MAX;
}

static void mmio_write(void *context, gpa_t gpa, unsigned size, uint64_t value)
{
    struct machine *m = context;

    m->accesses++;
    require(gpa.value % PAGE_SIZE + size <= PAGE_SIZE);
    require(size == 8 || value >> (8 * size) == 0);
}

static const struct emulate_ops ops = {linear, memory_read, memory_write, mmio_read, mmio_write};

static void check_fields(const struct decode_instruction *i, size_t size)
{
    require(i->length >= 1 && i->length <= DECODE_LENGTH_MAX && i->length <= size);
    require(i->operation > DECODE_NONE && i->operation < DECODE_OPERATIONS);
    require(i->operand_size == 1 || i->operand_size == 2 || i->operand_size == 4 || i->operand_size == 8);
    require(i->memory_size >= 1 && i->memory_size <= i->operand_size);
    require(i->address_size == 2 || i->address_size == 4 || i->address_size == 8);
    require(i->mode == DECODE_MODE_64 || (i->operand_size < 8 && i->address_size < 8 && i->rex == 0));
    require(i->reg.number < 16 && i->memory.segment <= DECODE_GS);
    require(i->memory.base < 16 || i->memory.base == DECODE_NO_REGISTER);
    require(i->memory.index < 16 || i->memory.index == DECODE_NO_REGISTER);
}

/* The first bytes choose mode and exit and fill the registers, the rest is the instruction. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t modes[] = {DECODE_MODE_16, DECODE_MODE_32, DECODE_MODE_64, DECODE_MODE_64};
    struct machine m = {.rflags = 2};
    struct decode_instruction i;

    if (size < 12)
        return 0;
    enum decode_mode mode = modes[data[0] & 3];
    int error = decode_instruction_bytes(&i, mode, data + 12, size - 12);
    require(error == 0 || error == -EOPNOTSUPP || error == -EINVAL || error == -EAGAIN);
    require(error != -EAGAIN || size - 12 < DECODE_LENGTH_MAX);
    if (error != 0)
        return 0;
    check_fields(&i, size - 12);

    uint64_t word;
    memcpy(&word, data + 4, 8);
    for (unsigned n = 0; n < 16; n++)
        m.registers[n] = word >> 2 * n;
    m.rflags |= (uint64_t)data[2] << 4;
    struct emulate e = {.ops = &ops,
                        .context = &m,
                        .registers = m.registers,
                        .rflags = &m.rflags,
                        .stack_size = i.mode,
                        .gpa = GPA((uint64_t)data[3] << 4),
                        .write = data[0] & 4};
    uint64_t count = m.registers[1];
    enum emulate_result result = emulate_instruction(&e, &i);
    require(result != EMULATE_AGAIN || i.repeat != DECODE_REPEAT_NONE);
    require(m.accesses <= 3 * EMULATE_ELEMENTS_MAX);
    uint64_t done = (count - m.registers[1]) & (UINT64_MAX >> (64 - 8 * i.address_size));
    require(i.repeat == DECODE_REPEAT_NONE || done <= EMULATE_ELEMENTS_MAX);
    return 0;
}
