// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A guest hypervisor that executes VMX instructions (nested/instructions.c): its memory with a few VMCSs, its
 * registers in a fake VMCS01, its operands as a test lays them down, and a picture of all that an instruction
 * could change. Include after <cmocka.h>, in one file of a program.
 */
#include <string.h>

#include "mm/p2m.h"
#include "nested/instructions.h"
#include "tests/unit/fake_vmcs.h"
#include "tests/unit/processors.h"

/* ---- The machine ------------------------------------------------------------------------------ */

/* Its memory: a region a page. */
enum {
    PAGE_NOTHING,
    PAGE_VMXON,
    PAGE_A,
    PAGE_B,
    PAGE_BAD_REVISION,
    PAGE_SHADOW,
    PAGE_READ_ONLY, /* a VMCS in memory that cannot be written */
    PAGES,
    PAGE_HOLE = PAGES, /* no memory */
};
#define AT(page)      ((uint64_t)(page)*PAGE_SIZE)
#define PHYSICAL_BITS 36

static unsigned char memory[PAGES][PAGE_SIZE] __aligned(PAGE_SIZE);
static struct frame_extent extents[2];
static struct frame_pool pool;
static struct p2m_region regions[4];
static struct p2m p2m;
static struct stage_chain chain;

static const struct vmx_msr_ops msr_ops = {processor_rdmsr, processor_cpuid};
static struct vmx_capabilities hardware;
static struct nested_policy policy;
static struct register_policy registers_policy;
static struct vcpu vcpu01;
static struct nested_vcpu n;

/* VMCS02, where what an exit left away is. */
static uint64_t vmcs02[VMCS_FIELD_COUNT];

void vcpu_switch(struct vcpu *from)
{
    (void)from;
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const uint64_t value = fake_vmcs.values[i];

        fake_vmcs.values[i] = vmcs02[i];
        vmcs02[i] = value;
    }
}

/* What an instruction is given, and what it asks for. */
static struct {
    struct nested_operands operands;
    uint64_t operand[2]; /* in memory */
    enum nested_access access;
    enum decode_segment segment;
    uint64_t offset;
    unsigned size, reads, writes;
} run;

static struct {
    unsigned ept, vpid;
    bool has_eptp, has_address, keep_globals;
    uint64_t eptp, address;
    uint16_t tag;
} invalidated;

static inline enum nested_access access_operand(enum decode_segment segment, uint64_t offset, unsigned size,
                                                struct nested_fault *fault)
{
    run.segment = segment;
    run.offset = offset;
    run.size = size;
    assert_true(size <= sizeof(run.operand));
    if (run.access == NESTED_ACCESS_FAULT)
        *fault = (struct nested_fault){X86_VECTOR_PF, true, 5, 0x1234};
    return run.access;
}

static inline enum nested_access operand_read(void *context, enum decode_segment segment, uint64_t offset,
                                              void *to, unsigned size, struct nested_fault *fault)
{
    enum nested_access access = access_operand(segment, offset, size, fault);

    assert_ptr_equal(context, &run);
    run.reads++;
    if (access == NESTED_ACCESS_DONE)
        memcpy(to, run.operand, size);
    return access;
}

static inline enum nested_access operand_write(void *context, enum decode_segment segment, uint64_t offset,
                                               const void *from, unsigned size, struct nested_fault *fault)
{
    enum nested_access access = access_operand(segment, offset, size, fault);

    assert_ptr_equal(context, &run);
    run.writes++;
    if (access == NESTED_ACCESS_DONE)
        memcpy(run.operand, from, size);
    return access;
}

static const struct nested_operand_ops operand_ops = {operand_read, operand_write};

static inline void invalidate_ept(void *context, const uint64_t *eptp)
{
    assert_ptr_equal(context, &invalidated);
    invalidated.ept++;
    invalidated.has_eptp = eptp != NULL;
    invalidated.eptp = eptp != NULL ? *eptp : 0;
}

static inline void invalidate_vpid(void *context, uint16_t vpid, const uint64_t *address, bool keep_globals)
{
    assert_ptr_equal(context, &invalidated);
    invalidated.vpid++;
    invalidated.tag = vpid;
    invalidated.has_address = address != NULL;
    invalidated.address = address != NULL ? *address : 0;
    invalidated.keep_globals = keep_globals;
}

static const struct nested_ops nested_ops = {
    .invalidate_ept = invalidate_ept,
    .invalidate_vpid = invalidate_vpid,
};

/* The partition's memory, but that the tables would not stand still after so many walks. */
static unsigned walks_left;

static inline enum stage_outcome walk_restless(const struct stage *stage, uint64_t address, unsigned access,
                                               struct translation *translation, struct stage_fault *fault)
{
    if (walks_left-- > 0)
        return p2m.stage.walk(&p2m.stage, address, access, translation, fault);
    *fault = (struct stage_fault){.stage = stage, .address = address};
    return STAGE_AGAIN;
}
static const struct stage restless = {.walk = walk_restless};
static const struct stage_chain restless_chain = {.stages = {&restless}, .count = 1};

static inline void put(unsigned page, unsigned offset, uint64_t value, unsigned size)
{
    memcpy(&memory[page][offset], &value, size);
}

static inline uint64_t get(unsigned page, unsigned offset, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, &memory[page][offset], size);
    return value;
}

static inline void map(unsigned first, unsigned count, uint8_t rights)
{
    const struct p2m_region region = {GPA(AT(first)), HPA((uint64_t)(uintptr_t)memory[first]),
                                      count * PAGE_SIZE, rights, MEMORY_TYPE_WB};

    assert_int_equal(p2m_add(&p2m, &region), 0);
}

static inline void offer(bool ept, bool vpid)
{
    const struct nested_capabilities_settings settings = {
        .hardware = &hardware, .ept = ept, .vpid = vpid, .cr4 = X86_CR4_PAE | X86_CR4_PGE};

    nested_capabilities_derive(&policy.capabilities, &settings);
}

static inline void set_instruction(enum exit_reason instruction)
{
    run.operands.instruction = instruction;
}

/* RBX is the second register operand, [RSI] the memory operand, RDI the register one. */
#define INFORMATION (3u << 28 | 6u << 23 | 1u << 22 | 3u << 15 | 2u << 7)
#define BY_REGISTER (3u << 28 | 1u << 10 | 7u << 3)

static inline enum nested_answer execute(enum exit_reason instruction, uint64_t operand, uint64_t second)
{
    set_instruction(instruction);
    run.operand[0] = operand;
    vcpu01.registers[VCPU_RBX] = second;
    return nested_instruction(&n, &run.operands);
}

static inline void set_mode(bool long_mode, bool cs_l)
{
    fake_set(VMCS_GUEST_EFER, X86_EFER_SCE | X86_EFER_NXE | (long_mode ? X86_EFER_LME | X86_EFER_LMA : 0));
    fake_set(VMCS_GUEST_CS_ACCESS_RIGHTS, cs_l ? 0xa09b : 0xc09b);
    memset(vcpu01.known, 0, sizeof(vcpu01.known));
}

#define FLAGS (X86_RFLAGS_CF | X86_RFLAGS_PF | X86_RFLAGS_AF | X86_RFLAGS_ZF | X86_RFLAGS_SF | X86_RFLAGS_OF)

/* In 64-bit mode, in VMX root operation, with A current, and nothing in the way of any instruction. */
static inline int set_up(void **state)
{
    const hpa_t base = HPA((uint64_t)(uintptr_t)memory);

    (void)state;
    processor = &processors[SKYLAKE_X];
    vmx_capabilities_read(&hardware, &msr_ops);

    memset(memory, 0, sizeof(memory));
    frame_pool_init(&pool, extents, ARRAY_SIZE(extents), NULL);
    assert_int_equal(frame_pool_add(&pool, base, sizeof(memory), FRAME_OWNER_FREE), 0);
    assert_int_equal(frame_claim(&pool, base, sizeof(memory), FRAME_OWNER_PARTITION), 0);
    p2m_init(&p2m, regions, ARRAY_SIZE(regions), &pool, FRAME_OWNER_PARTITION);
    map(0, PAGE_READ_ONLY, PAGING_READ | PAGING_WRITE);
    map(PAGE_READ_ONLY, 1, PAGING_READ);
    chain = (struct stage_chain){.stages = {&p2m.stage}, .count = 1};
    for (unsigned page = PAGE_VMXON; page < PAGES; page++)
        put(page, 0, VMCS12_REVISION, 4);
    put(PAGE_BAD_REVISION, 0, VMCS12_REVISION + 1, 4);
    put(PAGE_SHADOW, 0, VMCS12_REVISION | BIT(31), 4);
    put(PAGE_B, VMCS12_LAUNCH_STATE, 1, 8);

    memset(&fake_vmcs, 0, sizeof(fake_vmcs));
    fake_set(VMCS_GUEST_CR0, 0x80000031);
    /* The hardware's CR4.VMXE is Umbra's, the guest's own is in the read shadow. */
    registers_policy = (struct register_policy){.cr4.mask = X86_CR4_VMXE};
    fake_set(VMCS_GUEST_CR4, X86_CR4_VMXE | X86_CR4_PAE);
    fake_set(VMCS_CR4_READ_SHADOW, X86_CR4_VMXE);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF | FLAGS);
    fake_set(VMCS_GUEST_SS_ACCESS_RIGHTS, 0xc093);

    memset(&vcpu01, 0, sizeof(vcpu01));
    vcpu01.policy = &registers_policy;
    vcpu01.registers[VCPU_RSI] = 0xffff800012345678;
    set_mode(true, true);

    memset(&policy, 0, sizeof(policy));
    policy.physical_bits = PHYSICAL_BITS;
    policy.linear_bits = 48;
    policy.hardware = &hardware;
    offer(true, true);

    memset(&invalidated, 0, sizeof(invalidated));
    memset(&n, 0, sizeof(n));
    n.policy = &policy;
    n.ops = &nested_ops;
    n.context = &invalidated;
    n.memory = &chain;
    n.vcpu01 = &vcpu01;
    n.mode = NESTED_ROOT;
    n.vmxon_pointer = AT(PAGE_VMXON);
    n.current = AT(PAGE_A);
    n.vmcs12.changed = true;

    memset(&run, 0, sizeof(run));
    run.operands.ops = &operand_ops;
    run.operands.context = &run;
    run.operands.information = INFORMATION;
    return 0;
}

#define GOOD_EPTP 0x000000001234505eULL

/* A state in which the instruction succeeds. */
static inline void prepare(enum exit_reason instruction)
{
    set_up(NULL);
    set_instruction(instruction);
    run.operand[0] = AT(PAGE_B);
    switch (instruction) {
    case EXIT_REASON_VMXON:
        nested_reset(&n);
        run.operand[0] = AT(PAGE_VMXON);
        break;
    case EXIT_REASON_VMREAD:
    case EXIT_REASON_VMWRITE:
        vcpu01.registers[VCPU_RBX] = 0x681e;
        break;
    case EXIT_REASON_INVEPT:
        vcpu01.registers[VCPU_RBX] = 1;
        run.operand[0] = GOOD_EPTP;
        break;
    case EXIT_REASON_INVVPID:
        vcpu01.registers[VCPU_RBX] = 0;
        run.operand[0] = 1;
        break;
    default:
        break;
    }
}

/* ---- What all of it looks like afterwards ------------------------------------------------------------ */

struct picture {
    unsigned char memory[PAGES][PAGE_SIZE];
    uint64_t fields[VMCS_FIELD_COUNT];
    uint64_t registers[VCPU_REGISTERS];
    enum nested_mode mode;
    uint64_t vmxon_pointer, current, operand[2];
    struct vmcs12 vmcs12;
    unsigned invalidations;
};

static struct picture before, after;

static inline void take_picture(struct picture *picture)
{
    memset(picture, 0, sizeof(*picture));
    memcpy(picture->memory, memory, sizeof(memory));
    memcpy(picture->fields, fake_vmcs.values, sizeof(picture->fields));
    memcpy(picture->registers, vcpu01.registers, sizeof(picture->registers));
    picture->mode = n.mode;
    picture->vmxon_pointer = n.vmxon_pointer;
    picture->current = n.current;
    memcpy(picture->operand, run.operand, sizeof(picture->operand));
    memcpy(&picture->vmcs12, &n.vmcs12, sizeof(n.vmcs12));
    picture->vmcs12.changed = false; /* it may have gone to memory meanwhile */
    picture->invalidations = invalidated.ept + invalidated.vpid;
}

static inline void assert_same_but(const char *name)
{
    take_picture(&after);
    if (memcmp(&before, &after, sizeof(before)) != 0)
        fail_msg("%s: something has changed", name);
}

static inline uint64_t flags(void)
{
    return fake_get(VMCS_GUEST_RFLAGS) & FLAGS;
}

static inline void assert_succeeded(void)
{
    assert_int_equal(fake_get(VMCS_GUEST_RFLAGS), X86_RFLAGS_RESERVED | X86_RFLAGS_IF);
}
