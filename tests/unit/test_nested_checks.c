// SPDX-License-Identifier: BSD-2-Clause
/*
 * nested/checks*.c: every row of the tables of entry checks, by VMCSs that differ from good ones in little.
 * Fails when a VMCS that the SDM forbids passes or fails by another row, when a good one fails, when a row is
 * never seen to hold and to fail, or when a group that a written field matters to is left out.
 */
#include "nested/checks.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/msr.h"
#include "arch/x86/registers.h"
#include "vmx/events.h"

/* ---- The world of an entry --------------------------------------------------------------------------- */

#define PHYSICAL_BITS 36
#define BEYOND        BIT(PHYSICAL_BITS)
#define HIGHEST_PAGE  (BEYOND - PAGE_SIZE)
#define MEMORY        0x4000 /* bytes of memory, from address 0 */
#define CURRENT       0x1000
#define LINKED        0x2000
#define VIRTUAL_APIC  0x3000
#define PDPTE_TABLE   0x0020
#define NOWHERE       0x8000 /* there is no memory */

#define PIN_DEFAULT   0x16
#define PRIMARY_TRUE  0x04006172
#define EXIT_TRUE     0x00036dfb
#define ENTRY_TRUE    0x000011fb

struct world {
    struct vmcs12 vmcs;
    struct nested_capabilities capabilities;
    struct nested_check_context context;
    uint8_t memory[MEMORY];
    uint64_t pdptes[4];
    unsigned reads;
};

static bool read_memory(void *context, uint64_t address, void *to, size_t size)
{
    struct world *world = context;

    world->reads++;
    if (address > MEMORY || size > MEMORY - address)
        return false;
    memcpy(to, &world->memory[address], size);
    return true;
}

static void set(struct world *world, enum vmcs_index field, uint64_t value)
{
    vmcs12_write(&world->vmcs, vmcs_field_at(field), value);
}

static void set_bits(struct world *world, enum vmcs_index field, uint64_t bits)
{
    set(world, field, world->vmcs.values[field] | bits);
}

static void clear_bits(struct world *world, enum vmcs_index field, uint64_t bits)
{
    set(world, field, world->vmcs.values[field] & ~bits);
}

static void put(struct world *world, uint64_t address, uint64_t value, size_t size)
{
    memcpy(&world->memory[address], &value, size);
}

#define F(NAME) VMCS_INDEX_##NAME

static uint64_t word(uint64_t must, uint64_t may)
{
    return must | (must | may) << 32;
}

static void offer(struct vmx_capabilities *offered)
{
    offered->intel_vmx = true;
    offered->basic = VMCS12_REVISION;
    offered->misc = VMX_MISC_ACTIVITY_HLT | VMX_MISC_ACTIVITY_SIPI | 4 << VMX_MISC_CR3_TARGETS_SHIFT;
    offered->cr0_fixed0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_PG;
    offered->cr0_fixed1 = 0xffffffff;
    offered->cr4_fixed0 = X86_CR4_VMXE;
    offered->cr4_fixed1 = 0x7ff | X86_CR4_LA57 | X86_CR4_VMXE | X86_CR4_PCIDE;
    offered->ept_vpid = VMX_EPT_WALK_4 | VMX_EPT_MEMORY_WB | VMX_EPT_INVEPT | VMX_EPT_INVEPT_ALL;
    offered->controls[VMX_WORD_PIN] = word(PIN_DEFAULT, 0x69);
    offered->controls[VMX_WORD_PRIMARY] = word(PRIMARY_TRUE, 0xfff9fffe);
    offered->controls[VMX_WORD_SECONDARY] = word(0, 0xff);
    offered->controls[VMX_WORD_EXIT] = word(EXIT_TRUE, 0x007c8204);
    offered->controls[VMX_WORD_ENTRY] = word(ENTRY_TRUE, 0x0000c204);
}

/* A guest in 64-bit mode, of a 64-bit Lv1, restricted and with EPT; each control of the words that has checks
 * is 1, but for those that exclude others. */
static void long_mode(struct world *world)
{
    static const struct {
        uint16_t field;
        uint64_t value;
    } values[] = {
        {F(PIN_CONTROLS), PIN_DEFAULT | VMX_PIN_EXTERNAL_INTERRUPT_EXITING | VMX_PIN_NMI_EXITING |
                              VMX_PIN_VIRTUAL_NMIS | VMX_PIN_PREEMPTION_TIMER},
        {F(PRIMARY_CONTROLS), PRIMARY_TRUE | VMX_PRIMARY_TPR_SHADOW | VMX_PRIMARY_NMI_WINDOW_EXITING |
                                  VMX_PRIMARY_IO_BITMAPS | VMX_PRIMARY_MSR_BITMAPS |
                                  VMX_PRIMARY_SECONDARY_CONTROLS},
        {F(SECONDARY_CONTROLS), VMX_SECONDARY_EPT | VMX_SECONDARY_VPID},
        {F(CR3_TARGET_COUNT), 4},
        {F(IO_BITMAP_A), 0x10000},
        {F(IO_BITMAP_B), 0x11000},
        {F(MSR_BITMAPS), 0x12000},
        {F(VIRTUAL_APIC_ADDRESS), VIRTUAL_APIC},
        {F(APIC_ACCESS_ADDRESS), 0xfee00000},
        {F(TPR_THRESHOLD), 5},
        {F(VPID), 1},
        {F(EPT_POINTER), 0x1000 | 3 << 3 | MEMORY_TYPE_WB},
        {F(EXIT_CONTROLS), EXIT_TRUE | VMX_EXIT_SAVE_DEBUG_CONTROLS | VMX_EXIT_HOST_64 | VMX_EXIT_LOAD_PAT |
                               VMX_EXIT_LOAD_EFER | VMX_EXIT_SAVE_PREEMPTION_TIMER},
        {F(EXIT_MSR_STORE_COUNT), 1},
        {F(EXIT_MSR_STORE_ADDRESS), 0x13010},
        {F(EXIT_MSR_LOAD_COUNT), 2},
        {F(EXIT_MSR_LOAD_ADDRESS), 0x13020},
        {F(ENTRY_CONTROLS), ENTRY_TRUE | VMX_ENTRY_LOAD_DEBUG_CONTROLS | VMX_ENTRY_IA32E_GUEST |
                                VMX_ENTRY_LOAD_PAT | VMX_ENTRY_LOAD_EFER},
        {F(ENTRY_MSR_LOAD_COUNT), 3},
        {F(ENTRY_MSR_LOAD_ADDRESS), 0x13040},
        {F(HOST_CR0), X86_CR0_PE | X86_CR0_NE | X86_CR0_PG},
        {F(HOST_CR3), 0x14000},
        {F(HOST_CR4), X86_CR4_VMXE | X86_CR4_PAE},
        {F(HOST_PAT), PAT_RESET},
        {F(HOST_EFER), X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA},
        {F(HOST_ES_SELECTOR), 0x10},
        {F(HOST_CS_SELECTOR), 0x08},
        {F(HOST_SS_SELECTOR), 0x10},
        {F(HOST_DS_SELECTOR), 0x10},
        {F(HOST_FS_SELECTOR), 0x10},
        {F(HOST_GS_SELECTOR), 0x10},
        {F(HOST_TR_SELECTOR), 0x18},
        {F(HOST_RIP), 0xffffffff80000000},
        {F(GUEST_CR0), X86_CR0_PE | X86_CR0_NE | X86_CR0_PG},
        {F(GUEST_CR3), 0x15000},
        {F(GUEST_CR4), X86_CR4_VMXE | X86_CR4_PAE},
        {F(GUEST_DR7), X86_DR7_INIT},
        {F(GUEST_PAT), PAT_RESET},
        {F(GUEST_EFER), X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA},
        {F(GUEST_ES_SELECTOR), 0x10},
        {F(GUEST_CS_SELECTOR), 0x08},
        {F(GUEST_SS_SELECTOR), 0x10},
        {F(GUEST_DS_SELECTOR), 0x10},
        {F(GUEST_FS_SELECTOR), 0x10},
        {F(GUEST_GS_SELECTOR), 0x10},
        {F(GUEST_LDTR_SELECTOR), 0x20},
        {F(GUEST_TR_SELECTOR), 0x18},
        {F(GUEST_ES_LIMIT), 0xffffffff},
        {F(GUEST_CS_LIMIT), 0xffffffff},
        {F(GUEST_SS_LIMIT), 0xffffffff},
        {F(GUEST_DS_LIMIT), 0xffffffff},
        {F(GUEST_FS_LIMIT), 0xffffffff},
        {F(GUEST_GS_LIMIT), 0xffffffff},
        {F(GUEST_LDTR_LIMIT), 0xffff},
        {F(GUEST_TR_LIMIT), 0x67},
        {F(GUEST_ES_ACCESS_RIGHTS), 0xc093},
        {F(GUEST_CS_ACCESS_RIGHTS), 0xa09b},
        {F(GUEST_SS_ACCESS_RIGHTS), 0xc093},
        {F(GUEST_DS_ACCESS_RIGHTS), 0xc093},
        {F(GUEST_FS_ACCESS_RIGHTS), 0xc093},
        {F(GUEST_GS_ACCESS_RIGHTS), 0xc093},
        {F(GUEST_LDTR_ACCESS_RIGHTS), 0x82},
        {F(GUEST_TR_ACCESS_RIGHTS), 0x8b},
        {F(GUEST_GDTR_LIMIT), 0xffff},
        {F(GUEST_IDTR_LIMIT), 0xffff},
        {F(GUEST_RFLAGS), X86_RFLAGS_RESERVED | X86_RFLAGS_IF},
        {F(GUEST_RIP), 0xffffffff81000000},
        {F(VMCS_LINK_POINTER), UINT64_MAX},
    };

    memset(world, 0, sizeof(*world));
    offer(&world->capabilities.offered);
    world->context = (struct nested_check_context){
        .vmcs = &world->vmcs,
        .capabilities = &world->capabilities,
        .current = CURRENT,
        .efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_NXE,
        .debugctl = DEBUGCTL_BTF,
        .physical_bits = PHYSICAL_BITS,
        .linear_bits = 48,
        .ia32e_mode = true,
        .read = read_memory,
        .context = world,
        .pdptes = world->pdptes,
    };
    put(world, CURRENT, VMCS12_REVISION, 4);
    put(world, LINKED, VMCS12_REVISION, 4);
    put(world, VIRTUAL_APIC + 0x80, 0x5f, 1);
    for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
        set(world, values[i].field, values[i].value);
}

/* Not in IA-32e mode, paging as before. */
static void protected_mode(struct world *world)
{
    long_mode(world);
    clear_bits(world, F(ENTRY_CONTROLS), VMX_ENTRY_IA32E_GUEST);
    clear_bits(world, F(GUEST_EFER), X86_EFER_LME | X86_EFER_LMA);
    set(world, F(GUEST_CS_ACCESS_RIGHTS), 0xc09b);
    set(world, F(GUEST_RIP), 0x1000);
}

/* PAE paging without EPT: the PDPTEs are in memory. */
static void shadow_paging(struct world *world)
{
    protected_mode(world);
    clear_bits(world, F(SECONDARY_CONTROLS), VMX_SECONDARY_EPT);
    set(world, F(GUEST_CR3), PDPTE_TABLE | 0x1f); /* the low bits do not matter */
    for (unsigned i = 0; i < 4; i++)
        put(world, PDPTE_TABLE + 8 * i, i == 3 ? 0xf0e : HIGHEST_PAGE | i << 9 | 1, 8);
}

static void virtual_8086(struct world *world)
{
    protected_mode(world);
    set_bits(world, F(GUEST_RFLAGS), X86_RFLAGS_VM);
    for (unsigned i = 0; i < 6; i++) {
        set(world, F(GUEST_ES_SELECTOR) + i, 0x1003 * i);
        set(world, F(GUEST_ES_BASE) + i, 0x10030 * i);
        set(world, F(GUEST_ES_LIMIT) + i, 0xffff);
        set(world, F(GUEST_ES_ACCESS_RIGHTS) + i, 0xf3);
    }
}

static void unrestricted(struct world *world)
{
    long_mode(world);
    set_bits(world, F(SECONDARY_CONTROLS), VMX_SECONDARY_UNRESTRICTED_GUEST);
}

static void real_mode(struct world *world)
{
    protected_mode(world);
    set_bits(world, F(SECONDARY_CONTROLS), VMX_SECONDARY_UNRESTRICTED_GUEST);
    clear_bits(world, F(GUEST_CR0), X86_CR0_PE | X86_CR0_PG);
    for (unsigned i = 0; i < 6; i++) {
        set(world, F(GUEST_ES_LIMIT) + i, 0xffff);
        set(world, F(GUEST_ES_ACCESS_RIGHTS) + i, 0x93);
    }
}

/* Lv1 outside of IA-32e mode. */
static void host_32(struct world *world)
{
    protected_mode(world);
    world->context.ia32e_mode = false;
    clear_bits(world, F(EXIT_CONTROLS), VMX_EXIT_HOST_64);
    clear_bits(world, F(HOST_EFER), X86_EFER_LME | X86_EFER_LMA);
    set(world, F(HOST_RIP), 0xffffffff);
}

/* CPL 3 in 64-bit mode. */
static void user_mode(struct world *world)
{
    long_mode(world);
    for (unsigned i = 0; i < 6; i++) {
        set_bits(world, F(GUEST_ES_SELECTOR) + i, 3);
        set_bits(world, F(GUEST_ES_ACCESS_RIGHTS) + i, 0x60);
    }
}

/* ---- Changes that are not a field's ------------------------------------------------------------------ */

static void bits_57(struct world *world)
{
    world->context.linear_bits = 57;
}

static void with_rtm(struct world *world)
{
    world->context.rtm = true;
}

static void without_mtf(struct world *world)
{
    world->capabilities.offered.controls[VMX_WORD_PRIMARY] &=
        ~((uint64_t)VMX_PRIMARY_MONITOR_TRAP_FLAG << 32);
}

static void with_shutdown(struct world *world)
{
    world->capabilities.offered.misc |= VMX_MISC_ACTIVITY_SHUTDOWN;
}

static void without_hlt(struct world *world)
{
    world->capabilities.offered.misc &= ~VMX_MISC_ACTIVITY_HLT;
}

static void with_length_0(struct world *world)
{
    world->capabilities.offered.misc |= VMX_MISC_INJECT_ZERO_LENGTH;
}

static void with_any_error_code(struct world *world)
{
    world->capabilities.offered.basic |= VMX_BASIC_ANY_ERROR_CODE;
}

static void with_uc_and_ad(struct world *world)
{
    world->capabilities.offered.ept_vpid |= VMX_EPT_MEMORY_UC | VMX_EPT_ACCESSED_DIRTY;
}

static void from_32_bits(struct world *world)
{
    world->context.ia32e_mode = false;
}

static void tpr_4f(struct world *world)
{
    put(world, VIRTUAL_APIC + 0x80, 0x4f, 1);
}

static void bad_pdpte(struct world *world)
{
    put(world, PDPTE_TABLE + 16, 0x3, 8);
}

static void shadow_revision(struct world *world)
{
    put(world, LINKED, VMCS12_REVISION | BIT(31), 4);
}

/* ---- Cases ------------------------------------------------------------------------------------------- */

enum operation {
    OP_END,
    OP_SET,
    OP_OR,
    OP_CLEAR,
    OP_CALL,
};

struct change {
    enum operation operation;
    enum vmcs_index field;
    uint64_t value;
    void (*call)(struct world *world);
};

struct test_case {
    const char *row; /* NULL: the entry passes */
    void (*base)(struct world *world);
    struct change changes[8];
};

#define SET(FIELD, VALUE)                                                                                    \
    {                                                                                                        \
        OP_SET, VMCS_INDEX_##FIELD, VALUE, NULL                                                              \
    }
#define OR(FIELD, VALUE)                                                                                     \
    {                                                                                                        \
        OP_OR, VMCS_INDEX_##FIELD, VALUE, NULL                                                               \
    }
#define CLEAR(FIELD, VALUE)                                                                                  \
    {                                                                                                        \
        OP_CLEAR, VMCS_INDEX_##FIELD, VALUE, NULL                                                            \
    }
#define CALL(FUNCTION)                                                                                       \
    {                                                                                                        \
        OP_CALL, 0, 0, FUNCTION                                                                              \
    }
#define FAILS(ROW, BASE, ...)                                                                                \
    {                                                                                                        \
        ROW, BASE,                                                                                           \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define PASSES(BASE, ...)    FAILS(NULL, BASE, __VA_ARGS__)

/* An event to inject. */
#define INJECT(TYPE, VECTOR) SET(ENTRY_INTERRUPTION_INFO, EVENT_VALID | (TYPE) << 8 | (VECTOR))
#define INJECT_ERROR(TYPE, VECTOR)                                                                           \
    SET(ENTRY_INTERRUPTION_INFO, EVENT_VALID | EVENT_HAS_ERROR_CODE | (TYPE) << 8 | (VECTOR))

/* A page's address: alignment and width. */
#define PAGE_CASES(ROW, FIELD, ...)                                                                          \
    FAILS(ROW, long_mode, SET(FIELD, 0x10800), __VA_ARGS__),                                                 \
        FAILS(ROW, long_mode, SET(FIELD, 0x10001), __VA_ARGS__),                                             \
        FAILS(ROW, long_mode, SET(FIELD, BEYOND), __VA_ARGS__),                                              \
        FAILS(ROW, long_mode, SET(FIELD, BIT(63)), __VA_ARGS__)

/* A canonical address of 48 and of 57 bits. */
#define CANONICAL_CASES(ROW, FIELD)                                                                          \
    FAILS(ROW, long_mode, SET(FIELD, BIT(47))), FAILS(ROW, long_mode, SET(FIELD, 0xffff7fffffffffff)),       \
        FAILS(ROW, long_mode, SET(FIELD, BIT(63))), PASSES(long_mode, SET(FIELD, BIT(47) - 1)),              \
        PASSES(long_mode, SET(FIELD, 0xffff800000000000)),                                                   \
        FAILS(ROW, long_mode, CALL(bits_57), SET(FIELD, BIT(56))),                                           \
        PASSES(long_mode, CALL(bits_57), SET(FIELD, BIT(56) - 1))

#define LIST_CASES(NAME, LIST)                                                                               \
    FAILS(NAME, long_mode, SET(LIST##_ADDRESS, 0x13008)),                                                    \
        FAILS(NAME, long_mode, SET(LIST##_ADDRESS, 0x13001)),                                                \
        FAILS(NAME, long_mode, SET(LIST##_ADDRESS, BEYOND)),                                                 \
        PASSES(long_mode, SET(LIST##_ADDRESS, BEYOND - 16), SET(LIST##_COUNT, 1)),                           \
        FAILS("end of the " NAME, long_mode, SET(LIST##_ADDRESS, BEYOND - 16), SET(LIST##_COUNT, 2)),        \
        FAILS("end of the " NAME, long_mode, SET(LIST##_ADDRESS, 32), SET(LIST##_COUNT, 0xffffffff)),        \
        PASSES(long_mode, SET(LIST##_ADDRESS, 16), SET(LIST##_COUNT, 0xffffffff)),                           \
        PASSES(long_mode, SET(LIST##_ADDRESS, BIT(63) | 1), SET(LIST##_COUNT, 0))

#define PAT_CASES(ROW, FIELD, WORD, CONTROL, LOAD)                                                           \
    FAILS(ROW, long_mode, SET(FIELD, 2)), FAILS(ROW, long_mode, SET(FIELD, 3ULL << 32)),                     \
        FAILS(ROW, long_mode, SET(FIELD, 8)), FAILS(ROW, long_mode, SET(FIELD, BIT(63))),                    \
        PASSES(long_mode, SET(FIELD, 0x0706050401000607)),                                                   \
        PASSES(long_mode, SET(FIELD, 2), CLEAR(WORD, LOAD))

/* Registers whose checks are the same: of the six, and of four of them. */
#define VIRTUAL_8086_CASES(S)                                                                                \
    FAILS(#S " base in virtual-8086 mode", virtual_8086, OR(GUEST_##S##_BASE, 1)),                           \
        FAILS(#S " base in virtual-8086 mode", virtual_8086, OR(GUEST_##S##_BASE, BIT(32))),                 \
        FAILS(#S " base in virtual-8086 mode", virtual_8086, SET(GUEST_##S##_SELECTOR, 0xffff)),             \
        FAILS(#S " limit in virtual-8086 mode", virtual_8086, SET(GUEST_##S##_LIMIT, 0xfffe)),               \
        FAILS(#S " limit in virtual-8086 mode", virtual_8086, SET(GUEST_##S##_LIMIT, 0x1ffff)),              \
        FAILS(#S " rights in virtual-8086 mode", virtual_8086, SET(GUEST_##S##_ACCESS_RIGHTS, 0x93)),        \
        FAILS(#S " rights in virtual-8086 mode", virtual_8086, SET(GUEST_##S##_ACCESS_RIGHTS, 0x100f3)),     \
        PASSES(virtual_8086, SET(GUEST_##S##_SELECTOR, 0xffff), SET(GUEST_##S##_BASE, 0xffff0))

#define COMMON_CASES(S)                                                                                      \
    FAILS(#S " present", long_mode, CLEAR(GUEST_##S##_ACCESS_RIGHTS, 0x80)),                                 \
        FAILS(#S " reserved rights", long_mode, OR(GUEST_##S##_ACCESS_RIGHTS, 0x100)),                       \
        FAILS(#S " reserved rights", long_mode, OR(GUEST_##S##_ACCESS_RIGHTS, 0x800)),                       \
        FAILS(#S " reserved rights", long_mode, OR(GUEST_##S##_ACCESS_RIGHTS, BIT(17))),                     \
        FAILS(#S " reserved rights", long_mode, OR(GUEST_##S##_ACCESS_RIGHTS, BIT(31))),                     \
        PASSES(long_mode, OR(GUEST_##S##_ACCESS_RIGHTS, BIT(12))),                                           \
        FAILS(#S " granularity", long_mode, OR(GUEST_##S##_ACCESS_RIGHTS, BIT(15)),                          \
              SET(GUEST_##S##_LIMIT, 0xffffeff)),                                                            \
        FAILS(#S " granularity", long_mode, CLEAR(GUEST_##S##_ACCESS_RIGHTS, BIT(15)),                       \
              SET(GUEST_##S##_LIMIT, 0x100fff)),                                                             \
        PASSES(long_mode, CLEAR(GUEST_##S##_ACCESS_RIGHTS, BIT(15)), SET(GUEST_##S##_LIMIT, 0xffffe)),       \
        PASSES(long_mode, OR(GUEST_##S##_ACCESS_RIGHTS, BIT(15)), SET(GUEST_##S##_LIMIT, 0xfff))

#define USER_CASES(S)                                                                                        \
    FAILS(#S " S", long_mode, CLEAR(GUEST_##S##_ACCESS_RIGHTS, 0x10)), VIRTUAL_8086_CASES(S), COMMON_CASES(S)

#define DATA_CASES(S)                                                                                        \
    USER_CASES(S), FAILS(#S " type", long_mode, CLEAR(GUEST_##S##_ACCESS_RIGHTS, 1)),                        \
        FAILS(#S " type", long_mode, SET(GUEST_##S##_ACCESS_RIGHTS, 0xc099)),                                \
        FAILS(#S " type", unrestricted, SET(GUEST_##S##_ACCESS_RIGHTS, 0xc09a)),                             \
        PASSES(long_mode, SET(GUEST_##S##_ACCESS_RIGHTS, 0xc09b)),                                           \
        PASSES(long_mode, SET(GUEST_##S##_ACCESS_RIGHTS, 0xc091)),                                           \
        PASSES(long_mode, SET(GUEST_##S##_ACCESS_RIGHTS, 0xc097)),                                           \
        FAILS(#S " DPL", long_mode, SET(GUEST_##S##_SELECTOR, 0x11)),                                        \
        FAILS(#S " DPL", user_mode, SET(GUEST_##S##_ACCESS_RIGHTS, 0xc0db)),                                 \
        PASSES(user_mode, SET(GUEST_##S##_ACCESS_RIGHTS, 0xc0df)),                                           \
        PASSES(user_mode, SET(GUEST_##S##_SELECTOR, 2)), PASSES(unrestricted, SET(GUEST_##S##_SELECTOR, 3)), \
        PASSES(long_mode, SET(GUEST_##S##_ACCESS_RIGHTS, 0xffff0f00), SET(GUEST_##S##_SELECTOR, 3))

static const struct test_case cases[] = {
    PASSES(long_mode),
    PASSES(protected_mode),
    PASSES(shadow_paging),
    PASSES(virtual_8086),
    PASSES(unrestricted),
    PASSES(real_mode),
    PASSES(host_32),
    PASSES(user_mode),

    /* 27.2.1.1 */
    FAILS("pin-based controls", long_mode, CLEAR(PIN_CONTROLS, BIT(4))),
    FAILS("pin-based controls", long_mode, OR(PIN_CONTROLS, VMX_PIN_POSTED_INTERRUPTS)),
    FAILS("primary processor-based controls", long_mode, CLEAR(PRIMARY_CONTROLS, BIT(26))),
    FAILS("primary processor-based controls", long_mode, OR(PRIMARY_CONTROLS, VMX_PRIMARY_TERTIARY_CONTROLS)),
    FAILS("secondary processor-based controls", long_mode, OR(SECONDARY_CONTROLS, VMX_SECONDARY_PML)),
    PASSES(shadow_paging, SET(SECONDARY_CONTROLS, 0xffffffff),
           CLEAR(PRIMARY_CONTROLS, VMX_PRIMARY_SECONDARY_CONTROLS)),
    FAILS("CR3-target count", long_mode, SET(CR3_TARGET_COUNT, 5)),
    FAILS("virtual NMIs want NMI exiting", long_mode, CLEAR(PIN_CONTROLS, VMX_PIN_NMI_EXITING)),
    PASSES(long_mode, CLEAR(PIN_CONTROLS, VMX_PIN_NMI_EXITING | VMX_PIN_VIRTUAL_NMIS),
           CLEAR(PRIMARY_CONTROLS, VMX_PRIMARY_NMI_WINDOW_EXITING)),
    FAILS("NMI-window exiting wants virtual NMIs", long_mode, CLEAR(PIN_CONTROLS, VMX_PIN_VIRTUAL_NMIS)),
    FAILS("x2APIC mode wants a TPR shadow", long_mode,
          OR(SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUALIZE_X2APIC),
          CLEAR(PRIMARY_CONTROLS, VMX_PRIMARY_TPR_SHADOW)),
    FAILS("x2APIC mode excludes APIC accesses", long_mode,
          OR(SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUALIZE_X2APIC | VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES)),
    PASSES(long_mode, OR(SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUALIZE_X2APIC)),
    FAILS("unrestricted guest wants EPT", unrestricted, CLEAR(SECONDARY_CONTROLS, VMX_SECONDARY_EPT)),

    PAGE_CASES("I/O bitmap A", IO_BITMAP_A),
    PASSES(long_mode, SET(IO_BITMAP_A, HIGHEST_PAGE)),
    PAGE_CASES("I/O bitmap B", IO_BITMAP_B),
    PASSES(long_mode, SET(IO_BITMAP_A, 1), SET(IO_BITMAP_B, BEYOND),
           CLEAR(PRIMARY_CONTROLS, VMX_PRIMARY_IO_BITMAPS)),
    PAGE_CASES("MSR bitmaps", MSR_BITMAPS),
    PASSES(long_mode, SET(MSR_BITMAPS, 1), CLEAR(PRIMARY_CONTROLS, VMX_PRIMARY_MSR_BITMAPS)),
    PAGE_CASES("virtual-APIC address", VIRTUAL_APIC_ADDRESS),
    PAGE_CASES("APIC-access address", APIC_ACCESS_ADDRESS,
               OR(SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES)),
    PASSES(long_mode, SET(APIC_ACCESS_ADDRESS, HIGHEST_PAGE),
           OR(SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES)),
    PASSES(long_mode, SET(APIC_ACCESS_ADDRESS, 1)),
    PASSES(long_mode, SET(TPR_THRESHOLD, 0x1f), CLEAR(PRIMARY_CONTROLS, VMX_PRIMARY_TPR_SHADOW)),
    FAILS("TPR threshold", long_mode, SET(TPR_THRESHOLD, 16)),
    FAILS("TPR threshold", long_mode, SET(TPR_THRESHOLD, BIT(31))),
    PASSES(long_mode, SET(TPR_THRESHOLD, 16), SET(VIRTUAL_APIC_ADDRESS, 1),
           CLEAR(PRIMARY_CONTROLS, VMX_PRIMARY_TPR_SHADOW)),
    FAILS("virtual TPR below the threshold", long_mode, SET(TPR_THRESHOLD, 6)),
    FAILS("virtual TPR below the threshold", long_mode, CALL(tpr_4f)),
    PASSES(long_mode, SET(TPR_THRESHOLD, 6), OR(SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES)),
    PASSES(long_mode, SET(TPR_THRESHOLD, 15), SET(VIRTUAL_APIC_ADDRESS, NOWHERE)),
    FAILS("VPID", long_mode, SET(VPID, 0)),
    PASSES(long_mode, SET(VPID, 0), CLEAR(SECONDARY_CONTROLS, VMX_SECONDARY_VPID)),
    PASSES(long_mode, SET(VPID, 0xffff)),
    FAILS("EPT pointer", long_mode, SET(EPT_POINTER, 0x1018)),
    PASSES(long_mode, SET(EPT_POINTER, 0x1018), CALL(with_uc_and_ad)),
    FAILS("EPT pointer", long_mode, SET(EPT_POINTER, 0x101c), CALL(with_uc_and_ad)),
    FAILS("EPT pointer", long_mode, SET(EPT_POINTER, 0x1016)),
    FAILS("EPT pointer", long_mode, SET(EPT_POINTER, 0x1026)),
    FAILS("EPT pointer", long_mode, OR(EPT_POINTER, BIT(6))),
    PASSES(long_mode, OR(EPT_POINTER, BIT(6)), CALL(with_uc_and_ad)),
    FAILS("EPT pointer", long_mode, OR(EPT_POINTER, BIT(7)), CALL(with_uc_and_ad)),
    FAILS("EPT pointer", long_mode, OR(EPT_POINTER, BIT(11))),
    FAILS("EPT pointer", long_mode, OR(EPT_POINTER, BEYOND)),
    PASSES(long_mode, OR(EPT_POINTER, HIGHEST_PAGE)),
    PASSES(shadow_paging, SET(EPT_POINTER, 0)),

    /* 27.2.1.2 */
    FAILS("VM-exit controls", long_mode, CLEAR(EXIT_CONTROLS, BIT(0))),
    FAILS("VM-exit controls", long_mode, OR(EXIT_CONTROLS, VMX_EXIT_LOAD_PERF_GLOBAL_CTRL)),
    FAILS("saving the preemption timer wants it active", long_mode,
          CLEAR(PIN_CONTROLS, VMX_PIN_PREEMPTION_TIMER)),
    PASSES(long_mode, CLEAR(PIN_CONTROLS, VMX_PIN_PREEMPTION_TIMER),
           CLEAR(EXIT_CONTROLS, VMX_EXIT_SAVE_PREEMPTION_TIMER)),
    LIST_CASES("exit MSR-store list", EXIT_MSR_STORE),
    LIST_CASES("exit MSR-load list", EXIT_MSR_LOAD),

    /* 27.2.1.3 */
    FAILS("VM-entry controls", long_mode, CLEAR(ENTRY_CONTROLS, BIT(12))),
    FAILS("VM-entry controls", long_mode, OR(ENTRY_CONTROLS, VMX_ENTRY_TO_SMM)),
    FAILS("VM-entry controls", long_mode, OR(ENTRY_CONTROLS, VMX_ENTRY_DEACTIVATE_DUAL_MONITOR)),
    LIST_CASES("entry MSR-load list", ENTRY_MSR_LOAD),
    PASSES(long_mode, SET(ENTRY_INTERRUPTION_INFO, 0x7fffffff), SET(ENTRY_EXCEPTION_ERROR_CODE, 0xffffffff),
           SET(ENTRY_INSTRUCTION_LENGTH, 16)),
    FAILS("type of the event", long_mode, INJECT(1, 0)),
    FAILS("type of the event", long_mode, INJECT(7, 0), CALL(without_mtf)),
    PASSES(long_mode, INJECT(7, 0)),
    FAILS("vector of the event", long_mode, INJECT(7, 1)),
    FAILS("vector of the event", long_mode, INJECT(2, 3)),
    PASSES(long_mode, INJECT(2, 2)),
    FAILS("vector of the event", long_mode, INJECT(3, 32)),
    PASSES(long_mode, INJECT(3, 31)),
    PASSES(long_mode, INJECT(0, 0)),
    PASSES(long_mode, INJECT(0, 255)),
    PASSES(long_mode, INJECT(4, 255), SET(ENTRY_INSTRUCTION_LENGTH, 2)),
    FAILS("error code with such an event", long_mode, INJECT_ERROR(0, 14)),
    FAILS("error code with such an event", long_mode, INJECT_ERROR(6, 14), SET(ENTRY_INSTRUCTION_LENGTH, 1)),
    FAILS("error code with such an event", real_mode, INJECT_ERROR(3, 13)),
    FAILS("error code with such an event", real_mode, INJECT_ERROR(3, 13), CALL(with_any_error_code)),
    PASSES(real_mode, INJECT(3, 13)),
    PASSES(unrestricted, INJECT_ERROR(3, 13)),
    FAILS("error code with such a vector", unrestricted, INJECT(3, 13)),
    FAILS("error code with such a vector", long_mode, INJECT(3, 8)),
    FAILS("error code with such a vector", long_mode, INJECT(3, 10)),
    FAILS("error code with such a vector", long_mode, INJECT(3, 11)),
    FAILS("error code with such a vector", long_mode, INJECT(3, 12)),
    FAILS("error code with such a vector", long_mode, INJECT(3, 14)),
    FAILS("error code with such a vector", long_mode, INJECT(3, 17)),
    FAILS("error code with such a vector", long_mode, INJECT_ERROR(3, 9)),
    FAILS("error code with such a vector", long_mode, INJECT_ERROR(3, 18)),
    FAILS("error code with such a vector", long_mode, INJECT_ERROR(3, 21)),
    PASSES(long_mode, INJECT_ERROR(3, 8)),
    PASSES(long_mode, INJECT_ERROR(3, 17)),
    PASSES(long_mode, INJECT(3, 21)),
    PASSES(long_mode, INJECT_ERROR(3, 21), CALL(with_any_error_code)),
    PASSES(long_mode, INJECT(3, 14), CALL(with_any_error_code)),
    FAILS("reserved bits of the event", long_mode, INJECT(0, BIT(12))),
    FAILS("reserved bits of the event", long_mode, INJECT(0, BIT(30))),
    FAILS("error code of the event", long_mode, INJECT_ERROR(3, 14),
          SET(ENTRY_EXCEPTION_ERROR_CODE, BIT(16))),
    FAILS("error code of the event", long_mode, INJECT_ERROR(3, 14),
          SET(ENTRY_EXCEPTION_ERROR_CODE, BIT(31))),
    PASSES(long_mode, INJECT_ERROR(3, 14), SET(ENTRY_EXCEPTION_ERROR_CODE, 0xffff)),
    PASSES(long_mode, INJECT(3, 6), SET(ENTRY_EXCEPTION_ERROR_CODE, 0xffffffff)),
    FAILS("instruction length of the event", long_mode, INJECT(4, 3)),
    FAILS("instruction length of the event", long_mode, INJECT(5, 1)),
    FAILS("instruction length of the event", long_mode, INJECT(6, 3)),
    FAILS("instruction length of the event", long_mode, INJECT(6, 3), SET(ENTRY_INSTRUCTION_LENGTH, 16)),
    FAILS("instruction length of the event", long_mode, INJECT(6, 3), SET(ENTRY_INSTRUCTION_LENGTH, 16),
          CALL(with_length_0)),
    PASSES(long_mode, INJECT(6, 3), CALL(with_length_0)),
    PASSES(long_mode, INJECT(5, 1), SET(ENTRY_INSTRUCTION_LENGTH, 1)),
    PASSES(long_mode, INJECT(4, 3), SET(ENTRY_INSTRUCTION_LENGTH, 15)),

    /* 27.2.2 */
    FAILS("host CR0", long_mode, CLEAR(HOST_CR0, X86_CR0_NE)),
    FAILS("host CR0", long_mode, CLEAR(HOST_CR0, X86_CR0_PG)),
    FAILS("host CR0", unrestricted, CLEAR(HOST_CR0, X86_CR0_PE | X86_CR0_PG)),
    FAILS("host CR0", long_mode, OR(HOST_CR0, BIT(32))),
    PASSES(long_mode, OR(HOST_CR0, X86_CR0_CD | X86_CR0_NW)),
    FAILS("host CR4", long_mode, CLEAR(HOST_CR4, X86_CR4_VMXE)),
    FAILS("host CR4", long_mode, OR(HOST_CR4, X86_CR4_SMXE)),
    FAILS("host CR4", long_mode, OR(HOST_CR4, BIT(63))),
    FAILS("host CR3", long_mode, OR(HOST_CR3, BEYOND)),
    FAILS("host CR3", long_mode, OR(HOST_CR3, BIT(63))),
    PASSES(long_mode, SET(HOST_CR3, BEYOND - 1)),
    CANONICAL_CASES("host IA32_SYSENTER_ESP", HOST_SYSENTER_ESP),
    CANONICAL_CASES("host IA32_SYSENTER_EIP", HOST_SYSENTER_EIP),
    PAT_CASES("host IA32_PAT", HOST_PAT, EXIT_CONTROLS, EXIT, VMX_EXIT_LOAD_PAT),
    FAILS("host IA32_EFER", long_mode, OR(HOST_EFER, BIT(1))),
    FAILS("host IA32_EFER", long_mode, OR(HOST_EFER, BIT(63))),
    PASSES(long_mode, OR(HOST_EFER, X86_EFER_NXE)),
    FAILS("host IA32_EFER.LMA and LME", long_mode, CLEAR(HOST_EFER, X86_EFER_LMA)),
    FAILS("host IA32_EFER.LMA and LME", long_mode, CLEAR(HOST_EFER, X86_EFER_LME)),
    FAILS("host IA32_EFER.LMA and LME", host_32, OR(HOST_EFER, X86_EFER_LME)),
    FAILS("host IA32_EFER.LMA and LME", host_32, OR(HOST_EFER, X86_EFER_LMA)),
    PASSES(long_mode, SET(HOST_EFER, BIT(63)), CLEAR(EXIT_CONTROLS, VMX_EXIT_LOAD_EFER)),

    /* 27.2.3 */
    FAILS("host ES", long_mode, OR(HOST_ES_SELECTOR, 1)),
    FAILS("host CS", long_mode, OR(HOST_CS_SELECTOR, 2)),
    FAILS("host SS", long_mode, OR(HOST_SS_SELECTOR, 4)),
    FAILS("host DS", long_mode, OR(HOST_DS_SELECTOR, 1)),
    FAILS("host FS", long_mode, OR(HOST_FS_SELECTOR, 2)),
    FAILS("host GS", long_mode, OR(HOST_GS_SELECTOR, 4)),
    FAILS("host TR", long_mode, OR(HOST_TR_SELECTOR, 4)),
    FAILS("host CS is null", long_mode, SET(HOST_CS_SELECTOR, 0)),
    FAILS("host TR is null", long_mode, SET(HOST_TR_SELECTOR, 0)),
    FAILS("host SS is null", host_32, SET(HOST_SS_SELECTOR, 0)),
    PASSES(long_mode, SET(HOST_SS_SELECTOR, 0), SET(HOST_ES_SELECTOR, 0), SET(HOST_DS_SELECTOR, 0),
           SET(HOST_FS_SELECTOR, 0), SET(HOST_GS_SELECTOR, 0), SET(HOST_CS_SELECTOR, 0xfff8),
           SET(HOST_TR_SELECTOR, 0xfff8)),
    CANONICAL_CASES("host FS base", HOST_FS_BASE),
    CANONICAL_CASES("host GS base", HOST_GS_BASE),
    CANONICAL_CASES("host GDTR base", HOST_GDTR_BASE),
    CANONICAL_CASES("host IDTR base", HOST_IDTR_BASE),
    CANONICAL_CASES("host TR base", HOST_TR_BASE),

    /* 27.2.4 */
    FAILS("host address-space size", long_mode, CALL(from_32_bits)),
    FAILS("host address-space size", protected_mode, CALL(from_32_bits)),
    FAILS("host address-space size", protected_mode,
          CLEAR(EXIT_CONTROLS, VMX_EXIT_HOST_64 | VMX_EXIT_LOAD_EFER)),
    FAILS("IA-32e mode guest of a 32-bit host", host_32, OR(ENTRY_CONTROLS, VMX_ENTRY_IA32E_GUEST)),
    FAILS("host CR4.PCIDE", host_32, OR(HOST_CR4, X86_CR4_PCIDE)),
    PASSES(long_mode, OR(HOST_CR4, X86_CR4_PCIDE)),
    FAILS("host CR4.PAE", long_mode, CLEAR(HOST_CR4, X86_CR4_PAE)),
    PASSES(host_32, CLEAR(HOST_CR4, X86_CR4_PAE)),
    FAILS("host RIP", host_32, SET(HOST_RIP, BIT(32))),
    FAILS("host RIP", long_mode, SET(HOST_RIP, BIT(47))),
    FAILS("host RIP", long_mode, SET(HOST_RIP, BIT(55)), CALL(bits_57)),
    PASSES(long_mode, SET(HOST_RIP, BIT(55)), OR(HOST_CR4, X86_CR4_LA57), CALL(bits_57)),
    FAILS("host RIP", long_mode, SET(HOST_RIP, BIT(56)), OR(HOST_CR4, X86_CR4_LA57), CALL(bits_57)),
    PASSES(long_mode, SET(HOST_RIP, BIT(47) - 1)),

    /* 27.3.1.1 */
    FAILS("CR0", long_mode, CLEAR(GUEST_CR0, X86_CR0_NE)),
    FAILS("CR0", unrestricted, CLEAR(GUEST_CR0, X86_CR0_NE)),
    FAILS("CR0", protected_mode, CLEAR(GUEST_CR0, X86_CR0_PG)),
    FAILS("CR0", long_mode, OR(GUEST_CR0, BIT(63))),
    FAILS("CR0", unrestricted, OR(GUEST_CR0, BIT(32))),
    PASSES(long_mode, OR(GUEST_CR0, X86_CR0_CD | X86_CR0_NW)),
    PASSES(real_mode, OR(GUEST_CR0, X86_CR0_PE)),
    FAILS("CR0.PG without PE", real_mode, OR(GUEST_CR0, X86_CR0_PG)),
    FAILS("CR4", long_mode, CLEAR(GUEST_CR4, X86_CR4_VMXE)),
    FAILS("CR4", long_mode, OR(GUEST_CR4, X86_CR4_SMXE)),
    FAILS("CR4", long_mode, OR(GUEST_CR4, BIT(32))),
    FAILS("IA32_DEBUGCTL", long_mode, SET(GUEST_DEBUGCTL, DEBUGCTL_LBR)),
    FAILS("IA32_DEBUGCTL", long_mode, SET(GUEST_DEBUGCTL, BIT(63))),
    PASSES(long_mode, SET(GUEST_DEBUGCTL, DEBUGCTL_BTF)),
    PASSES(long_mode, SET(GUEST_DEBUGCTL, UINT64_MAX), SET(GUEST_DR7, UINT64_MAX),
           CLEAR(ENTRY_CONTROLS, VMX_ENTRY_LOAD_DEBUG_CONTROLS)),
    FAILS("IA-32e mode without paging", unrestricted, CLEAR(GUEST_CR0, X86_CR0_PG)),
    FAILS("IA-32e mode without PAE", long_mode, CLEAR(GUEST_CR4, X86_CR4_PAE)),
    PASSES(protected_mode, CLEAR(GUEST_CR4, X86_CR4_PAE)),
    FAILS("CR4.PCIDE outside IA-32e mode", protected_mode, OR(GUEST_CR4, X86_CR4_PCIDE)),
    PASSES(long_mode, OR(GUEST_CR4, X86_CR4_PCIDE)),
    FAILS("CR3", long_mode, OR(GUEST_CR3, BEYOND)),
    FAILS("CR3", long_mode, OR(GUEST_CR3, BIT(63))),
    PASSES(long_mode, SET(GUEST_CR3, BEYOND - 1)),
    FAILS("DR7", long_mode, OR(GUEST_DR7, BIT(32))),
    FAILS("DR7", long_mode, OR(GUEST_DR7, BIT(63))),
    PASSES(long_mode, SET(GUEST_DR7, 0xffffffff)),
    CANONICAL_CASES("IA32_SYSENTER_ESP", GUEST_SYSENTER_ESP),
    CANONICAL_CASES("IA32_SYSENTER_EIP", GUEST_SYSENTER_EIP),
    PAT_CASES("IA32_PAT", GUEST_PAT, ENTRY_CONTROLS, ENTRY, VMX_ENTRY_LOAD_PAT),
    FAILS("IA32_EFER", long_mode, OR(GUEST_EFER, BIT(1))),
    FAILS("IA32_EFER", long_mode, OR(GUEST_EFER, BIT(63))),
    PASSES(long_mode, OR(GUEST_EFER, X86_EFER_NXE)),
    FAILS("IA32_EFER.LMA", long_mode, CLEAR(GUEST_EFER, X86_EFER_LMA)),
    FAILS("IA32_EFER.LMA", protected_mode, OR(GUEST_EFER, X86_EFER_LMA)),
    FAILS("IA32_EFER.LMA", real_mode, OR(GUEST_EFER, X86_EFER_LMA)),
    FAILS("IA32_EFER.LME", long_mode, CLEAR(GUEST_EFER, X86_EFER_LME)),
    FAILS("IA32_EFER.LME", protected_mode, OR(GUEST_EFER, X86_EFER_LME)),
    PASSES(real_mode, OR(GUEST_EFER, X86_EFER_LME)),
    PASSES(long_mode, SET(GUEST_EFER, BIT(63)), CLEAR(ENTRY_CONTROLS, VMX_ENTRY_LOAD_EFER)),

    /* 27.3.1.2 */
    DATA_CASES(ES),
    DATA_CASES(DS),
    DATA_CASES(FS),
    DATA_CASES(GS),
    FAILS("ES base", long_mode, SET(GUEST_ES_BASE, BIT(32))),
    FAILS("DS base", long_mode, SET(GUEST_DS_BASE, BIT(63))),
    PASSES(long_mode, SET(GUEST_ES_BASE, 0xffffffff), SET(GUEST_DS_BASE, 0xffffffff),
           SET(GUEST_SS_BASE, 0xffffffff), SET(GUEST_CS_BASE, 0xffffffff)),
    PASSES(long_mode, SET(GUEST_ES_BASE, BIT(63)), OR(GUEST_ES_ACCESS_RIGHTS, BIT(16))),
    CANONICAL_CASES("FS base", GUEST_FS_BASE),
    CANONICAL_CASES("GS base", GUEST_GS_BASE),
    FAILS("FS base", long_mode, SET(GUEST_FS_BASE, BIT(63)), OR(GUEST_FS_ACCESS_RIGHTS, BIT(16))),

    USER_CASES(CS),
    FAILS("CS base", long_mode, SET(GUEST_CS_BASE, BIT(32))),
    FAILS("CS base", long_mode, SET(GUEST_CS_BASE, BIT(32)), OR(GUEST_CS_ACCESS_RIGHTS, BIT(16))),
    FAILS("CS type", long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa09a)),
    FAILS("CS type", long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa093)),
    FAILS("CS type", long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0x1a093)),
    FAILS("CS type", unrestricted, SET(GUEST_CS_ACCESS_RIGHTS, 0xa091)),
    FAILS("CS type", unrestricted, SET(GUEST_CS_ACCESS_RIGHTS, 0xa097)),
    FAILS("CS type", unrestricted, SET(GUEST_CS_ACCESS_RIGHTS, 0xa09e)),
    PASSES(long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa099)),
    PASSES(long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa09d)),
    PASSES(long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa09f)),
    PASSES(unrestricted, SET(GUEST_CS_ACCESS_RIGHTS, 0xa093)),
    FAILS("CS DPL", unrestricted, SET(GUEST_CS_ACCESS_RIGHTS, 0xa0b3)),
    FAILS("CS DPL", user_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa09b)),
    FAILS("CS DPL", user_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa0d9)),
    FAILS("CS DPL", long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa0bb)),
    FAILS("CS DPL", long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa0bf)),
    FAILS("CS DPL", long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa0bd)),
    PASSES(user_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa09f)),
    PASSES(user_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xa0fd)),
    FAILS("CS D/B with L", long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xe09b)),
    PASSES(protected_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xe09b)),
    PASSES(long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xc09b), SET(GUEST_RIP, 0)),

    USER_CASES(SS),
    FAILS("SS RPL", long_mode, SET(GUEST_CS_SELECTOR, 0x0b)),
    FAILS("SS RPL", user_mode, SET(GUEST_CS_SELECTOR, 0x0a)),
    PASSES(unrestricted, SET(GUEST_CS_SELECTOR, 0x0b)),
    FAILS("SS base", long_mode, SET(GUEST_SS_BASE, BIT(32))),
    PASSES(long_mode, SET(GUEST_SS_BASE, BIT(63)), OR(GUEST_SS_ACCESS_RIGHTS, BIT(16))),
    FAILS("SS type", long_mode, SET(GUEST_SS_ACCESS_RIGHTS, 0xc092)),
    FAILS("SS type", long_mode, SET(GUEST_SS_ACCESS_RIGHTS, 0xc09b)),
    FAILS("SS type", long_mode, SET(GUEST_SS_ACCESS_RIGHTS, 0xc091)),
    PASSES(long_mode, SET(GUEST_SS_ACCESS_RIGHTS, 0xc097)),
    PASSES(long_mode, SET(GUEST_SS_ACCESS_RIGHTS, 0xffff0f00 | BIT(16))),
    PASSES(long_mode, SET(GUEST_SS_ACCESS_RIGHTS, 0x10000)),
    FAILS("SS DPL", long_mode, SET(GUEST_SS_ACCESS_RIGHTS, 0x10060), SET(GUEST_CS_ACCESS_RIGHTS, 0xa0fb)),
    FAILS("SS DPL", long_mode, SET(GUEST_SS_SELECTOR, 0x13), SET(GUEST_CS_SELECTOR, 0x0b)),
    PASSES(unrestricted, SET(GUEST_SS_SELECTOR, 0x13)),
    FAILS("SS DPL with such a CS or in real mode", real_mode, SET(GUEST_SS_ACCESS_RIGHTS, 0xb3)),
    FAILS("SS DPL with such a CS or in real mode", real_mode, SET(GUEST_SS_ACCESS_RIGHTS, 0xf3),
          SET(GUEST_CS_ACCESS_RIGHTS, 0xfb)),
    FAILS("SS DPL with such a CS or in real mode", unrestricted, SET(GUEST_SS_ACCESS_RIGHTS, 0xc0f3),
          SET(GUEST_CS_ACCESS_RIGHTS, 0xa093)),
    PASSES(unrestricted, SET(GUEST_SS_ACCESS_RIGHTS, 0xc0f3), SET(GUEST_CS_ACCESS_RIGHTS, 0xa0fb)),

    FAILS("TR TI", long_mode, OR(GUEST_TR_SELECTOR, 4)),
    CANONICAL_CASES("TR base", GUEST_TR_BASE),
    FAILS("TR type", long_mode, SET(GUEST_TR_ACCESS_RIGHTS, 0x89)),
    FAILS("TR type", long_mode, SET(GUEST_TR_ACCESS_RIGHTS, 0x83)),
    FAILS("TR type", protected_mode, SET(GUEST_TR_ACCESS_RIGHTS, 0x81)),
    PASSES(protected_mode, SET(GUEST_TR_ACCESS_RIGHTS, 0x83)),
    FAILS("TR S", long_mode, OR(GUEST_TR_ACCESS_RIGHTS, 0x10)),
    COMMON_CASES(TR),
    FAILS("TR unusable", long_mode, OR(GUEST_TR_ACCESS_RIGHTS, BIT(16))),
    FAILS("TR present", virtual_8086, CLEAR(GUEST_TR_ACCESS_RIGHTS, 0x80)),

    FAILS("LDTR TI", long_mode, OR(GUEST_LDTR_SELECTOR, 4)),
    CANONICAL_CASES("LDTR base", GUEST_LDTR_BASE),
    FAILS("LDTR type", long_mode, SET(GUEST_LDTR_ACCESS_RIGHTS, 0x83)),
    FAILS("LDTR type", virtual_8086, SET(GUEST_LDTR_ACCESS_RIGHTS, 0x80)),
    FAILS("LDTR S", long_mode, OR(GUEST_LDTR_ACCESS_RIGHTS, 0x10)),
    COMMON_CASES(LDTR),
    PASSES(long_mode, SET(GUEST_LDTR_ACCESS_RIGHTS, 0xffffff5f), SET(GUEST_LDTR_SELECTOR, 7),
           SET(GUEST_LDTR_BASE, BIT(63))),

    /* 27.3.1.3 */
    CANONICAL_CASES("GDTR base", GUEST_GDTR_BASE),
    CANONICAL_CASES("IDTR base", GUEST_IDTR_BASE),
    FAILS("GDTR limit", long_mode, SET(GUEST_GDTR_LIMIT, 0x10000)),
    FAILS("IDTR limit", long_mode, SET(GUEST_IDTR_LIMIT, 0x80000000)),

    /* 27.3.1.4 */
    FAILS("RIP", protected_mode, SET(GUEST_RIP, BIT(32))),
    PASSES(protected_mode, SET(GUEST_RIP, 0xffffffff)),
    FAILS("RIP", protected_mode, SET(GUEST_RIP, BIT(32)), SET(GUEST_CS_ACCESS_RIGHTS, 0xa09b)),
    FAILS("RIP", long_mode, SET(GUEST_CS_ACCESS_RIGHTS, 0xc09b)),
    FAILS("RIP", long_mode, SET(GUEST_RIP, BIT(48))),
    FAILS("RIP", long_mode, SET(GUEST_RIP, 0xfffe800000000000)),
    PASSES(long_mode, SET(GUEST_RIP, BIT(47))),
    PASSES(long_mode, SET(GUEST_RIP, 0xffff000000000000)),
    PASSES(long_mode, SET(GUEST_RIP, BIT(56)), CALL(bits_57)),
    FAILS("RIP", long_mode, SET(GUEST_RIP, BIT(57)), CALL(bits_57)),
    FAILS("RFLAGS", long_mode, CLEAR(GUEST_RFLAGS, BIT(1))),
    FAILS("RFLAGS", long_mode, OR(GUEST_RFLAGS, BIT(3))),
    FAILS("RFLAGS", long_mode, OR(GUEST_RFLAGS, BIT(5))),
    FAILS("RFLAGS", long_mode, OR(GUEST_RFLAGS, BIT(15))),
    FAILS("RFLAGS", long_mode, OR(GUEST_RFLAGS, BIT(22))),
    FAILS("RFLAGS", long_mode, OR(GUEST_RFLAGS, BIT(63))),
    PASSES(long_mode, SET(GUEST_RFLAGS, 0x3d7fd7)),
    FAILS("RFLAGS.VM", virtual_8086, OR(ENTRY_CONTROLS, VMX_ENTRY_IA32E_GUEST),
          OR(GUEST_EFER, X86_EFER_LMA | X86_EFER_LME)),
    FAILS("RFLAGS.VM", virtual_8086, OR(SECONDARY_CONTROLS, VMX_SECONDARY_UNRESTRICTED_GUEST),
          CLEAR(GUEST_CR0, X86_CR0_PE | X86_CR0_PG)),
    FAILS("RFLAGS.IF with an interrupt", long_mode, INJECT(0, 32), CLEAR(GUEST_RFLAGS, X86_RFLAGS_IF)),
    PASSES(long_mode, INJECT(2, 2), CLEAR(GUEST_RFLAGS, X86_RFLAGS_IF)),
    PASSES(long_mode, SET(ENTRY_INTERRUPTION_INFO, 32), CLEAR(GUEST_RFLAGS, X86_RFLAGS_IF)),

    /* 27.3.1.5 */
    FAILS("activity state", long_mode, SET(GUEST_ACTIVITY, 2)),
    FAILS("activity state", long_mode, SET(GUEST_ACTIVITY, 4)),
    FAILS("activity state", long_mode, SET(GUEST_ACTIVITY, 1), CALL(without_hlt)),
    FAILS("activity state", long_mode, SET(GUEST_ACTIVITY, BIT(31))),
    PASSES(long_mode, SET(GUEST_ACTIVITY, 1)),
    PASSES(long_mode, SET(GUEST_ACTIVITY, 2), CALL(with_shutdown)),
    PASSES(long_mode, SET(GUEST_ACTIVITY, 3), CALL(without_hlt)),
    PASSES(user_mode, SET(GUEST_ACTIVITY, 3)),
    FAILS("HLT above CPL 0", user_mode, SET(GUEST_ACTIVITY, 1)),
    FAILS("HLT above CPL 0", virtual_8086, SET(GUEST_ACTIVITY, 1)),
    FAILS("inactive behind STI or MOV SS", long_mode, SET(GUEST_ACTIVITY, 1),
          SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI)),
    FAILS("inactive behind STI or MOV SS", long_mode, SET(GUEST_ACTIVITY, 3),
          SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS)),
    PASSES(long_mode, SET(GUEST_ACTIVITY, 1), SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI)),
    FAILS("event in such an activity state", long_mode, SET(GUEST_ACTIVITY, 1), INJECT(3, 6)),
    FAILS("event in such an activity state", long_mode, SET(GUEST_ACTIVITY, 1), INJECT(4, 18),
          SET(ENTRY_INSTRUCTION_LENGTH, 2)),
    FAILS("event in such an activity state", long_mode, SET(GUEST_ACTIVITY, 1), INJECT(6, 1),
          SET(ENTRY_INSTRUCTION_LENGTH, 2)),
    PASSES(long_mode, SET(GUEST_ACTIVITY, 1), INJECT(0, 32)),
    PASSES(long_mode, SET(GUEST_ACTIVITY, 1), INJECT(2, 2)),
    PASSES(long_mode, SET(GUEST_ACTIVITY, 1), INJECT(3, 1)),
    PASSES(long_mode, SET(GUEST_ACTIVITY, 1), INJECT(3, 18)),
    PASSES(long_mode, SET(GUEST_ACTIVITY, 1), INJECT(7, 0)),
    FAILS("event in such an activity state", long_mode, SET(GUEST_ACTIVITY, 2), INJECT(0, 32),
          CALL(with_shutdown)),
    FAILS("event in such an activity state", long_mode, SET(GUEST_ACTIVITY, 2), INJECT(3, 1),
          CALL(with_shutdown)),
    FAILS("event in such an activity state", long_mode, SET(GUEST_ACTIVITY, 2), INJECT(7, 0),
          CALL(with_shutdown)),
    PASSES(long_mode, SET(GUEST_ACTIVITY, 2), INJECT(2, 2), CALL(with_shutdown)),
    PASSES(long_mode, SET(GUEST_ACTIVITY, 2), INJECT(3, 18), CALL(with_shutdown)),
    FAILS("event in such an activity state", long_mode, SET(GUEST_ACTIVITY, 3), INJECT(2, 2)),
    FAILS("event in such an activity state", long_mode, SET(GUEST_ACTIVITY, 3), INJECT(3, 18)),
    FAILS("event in such an activity state", long_mode, SET(GUEST_ACTIVITY, 3), INJECT(0, 32)),

    FAILS("interruptibility state", long_mode, SET(GUEST_INTERRUPTIBILITY, BIT(4))),
    FAILS("interruptibility state", long_mode, SET(GUEST_INTERRUPTIBILITY, BIT(31))),
    FAILS("blocking by STI and MOV SS", long_mode, SET(GUEST_INTERRUPTIBILITY, 3)),
    FAILS("blocking by STI without IF", long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI),
          CLEAR(GUEST_RFLAGS, X86_RFLAGS_IF)),
    PASSES(long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI)),
    PASSES(long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS), CLEAR(GUEST_RFLAGS, X86_RFLAGS_IF)),
    FAILS("interrupt behind STI or MOV SS", long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI),
          INJECT(0, 32)),
    FAILS("interrupt behind STI or MOV SS", long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS),
          INJECT(0, 32)),
    PASSES(long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS), INJECT(3, 6)),
    PASSES(long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI), INJECT(3, 6)),
    PASSES(long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI), INJECT(0, 32)),
    FAILS("NMI behind MOV SS", long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS), INJECT(2, 2)),
    FAILS("blocking by SMI", long_mode, SET(GUEST_INTERRUPTIBILITY, BIT(2))),
    FAILS("NMI behind STI", long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI), INJECT(2, 2)),
    FAILS("NMI while virtual ones are blocked", long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI),
          INJECT(2, 2)),
    PASSES(long_mode, SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI), INJECT(2, 2),
           CLEAR(PIN_CONTROLS, VMX_PIN_VIRTUAL_NMIS),
           CLEAR(PRIMARY_CONTROLS, VMX_PRIMARY_NMI_WINDOW_EXITING)),

    FAILS("pending debug exceptions", long_mode, SET(GUEST_PENDING_DEBUG, BIT(4))),
    FAILS("pending debug exceptions", long_mode, SET(GUEST_PENDING_DEBUG, BIT(11))),
    FAILS("pending debug exceptions", long_mode, SET(GUEST_PENDING_DEBUG, BIT(13))),
    FAILS("pending debug exceptions", long_mode, SET(GUEST_PENDING_DEBUG, BIT(15))),
    FAILS("pending debug exceptions", long_mode, SET(GUEST_PENDING_DEBUG, BIT(17))),
    FAILS("pending debug exceptions", long_mode, SET(GUEST_PENDING_DEBUG, BIT(63))),
    PASSES(long_mode, SET(GUEST_PENDING_DEBUG, 0x500f)),
    FAILS("pending BS", long_mode, SET(GUEST_PENDING_DEBUG, BIT(14)), SET(GUEST_ACTIVITY, 1)),
    FAILS("pending BS", long_mode, SET(GUEST_PENDING_DEBUG, BIT(14)),
          SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI)),
    FAILS("pending BS", long_mode, OR(GUEST_RFLAGS, X86_RFLAGS_TF),
          SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI)),
    FAILS("pending BS", long_mode, OR(GUEST_RFLAGS, X86_RFLAGS_TF),
          SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS)),
    FAILS("pending BS", long_mode, OR(GUEST_RFLAGS, X86_RFLAGS_TF), SET(GUEST_ACTIVITY, 1)),
    FAILS("pending BS", long_mode, OR(GUEST_RFLAGS, X86_RFLAGS_TF), SET(GUEST_PENDING_DEBUG, BIT(14)),
          SET(GUEST_DEBUGCTL, DEBUGCTL_BTF), SET(GUEST_ACTIVITY, 1)),
    PASSES(long_mode, OR(GUEST_RFLAGS, X86_RFLAGS_TF), SET(GUEST_PENDING_DEBUG, BIT(14)),
           SET(GUEST_ACTIVITY, 1)),
    PASSES(long_mode, OR(GUEST_RFLAGS, X86_RFLAGS_TF), SET(GUEST_DEBUGCTL, DEBUGCTL_BTF),
           SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS)),
    PASSES(long_mode, OR(GUEST_RFLAGS, X86_RFLAGS_TF)),
    PASSES(long_mode, OR(GUEST_RFLAGS, X86_RFLAGS_TF), SET(GUEST_ACTIVITY, 3)),
    PASSES(long_mode, OR(GUEST_RFLAGS, X86_RFLAGS_TF), SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI)),
    FAILS("pending RTM", long_mode, SET(GUEST_PENDING_DEBUG, BIT(16) | BIT(12))),
    PASSES(long_mode, SET(GUEST_PENDING_DEBUG, BIT(16) | BIT(12)), CALL(with_rtm)),
    FAILS("pending RTM", long_mode, SET(GUEST_PENDING_DEBUG, BIT(16)), CALL(with_rtm)),
    FAILS("pending RTM", long_mode, SET(GUEST_PENDING_DEBUG, BIT(16) | BIT(12) | BIT(14)), CALL(with_rtm)),
    FAILS("pending RTM", long_mode, SET(GUEST_PENDING_DEBUG, BIT(16) | BIT(12) | BIT(0)), CALL(with_rtm)),
    FAILS("pending RTM", long_mode, SET(GUEST_PENDING_DEBUG, BIT(16) | BIT(12)), CALL(with_rtm),
          SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS)),
    PASSES(long_mode, SET(GUEST_PENDING_DEBUG, BIT(16) | BIT(12)), CALL(with_rtm),
           SET(GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI)),

    FAILS("VMCS link pointer", long_mode, SET(VMCS_LINK_POINTER, LINKED | 1)),
    FAILS("VMCS link pointer", long_mode, SET(VMCS_LINK_POINTER, LINKED | 0x800)),
    FAILS("VMCS link pointer", long_mode, SET(VMCS_LINK_POINTER, BEYOND)),
    FAILS("VMCS link pointer", long_mode, SET(VMCS_LINK_POINTER, UINT64_MAX - 1)),
    PASSES(long_mode, SET(VMCS_LINK_POINTER, LINKED)),
    FAILS("revision of the linked VMCS", long_mode, SET(VMCS_LINK_POINTER, LINKED), CALL(shadow_revision)),
    FAILS("revision of the linked VMCS", long_mode, SET(VMCS_LINK_POINTER, VIRTUAL_APIC)),
    FAILS("revision of the linked VMCS", long_mode, SET(VMCS_LINK_POINTER, NOWHERE)),
    FAILS("VMCS linked to itself", long_mode, SET(VMCS_LINK_POINTER, CURRENT)),

    /* 27.3.1.6 */
    FAILS("PDPTE 0", protected_mode, SET(GUEST_PDPTE0, 3)),
    FAILS("PDPTE 1", protected_mode, SET(GUEST_PDPTE1, 0x21)),
    FAILS("PDPTE 2", protected_mode, SET(GUEST_PDPTE2, 0x101)),
    FAILS("PDPTE 3", protected_mode, SET(GUEST_PDPTE3, BEYOND | 1)),
    FAILS("PDPTE 0", protected_mode, SET(GUEST_PDPTE0, BIT(63) | 1)),
    PASSES(protected_mode, SET(GUEST_PDPTE0, HIGHEST_PAGE | 0xe19), SET(GUEST_PDPTE1, UINT64_MAX - 1)),
    PASSES(long_mode, SET(GUEST_PDPTE0, 3)),
    PASSES(real_mode, SET(GUEST_PDPTE0, 3)),
    PASSES(protected_mode, SET(GUEST_PDPTE0, 3), CLEAR(GUEST_CR4, X86_CR4_PAE)),
    PASSES(shadow_paging, SET(GUEST_PDPTE0, 3), SET(GUEST_PDPTE1, 3), SET(GUEST_PDPTE2, 3),
           SET(GUEST_PDPTE3, 3)),
    FAILS("PDPTEs in memory", shadow_paging, CALL(bad_pdpte)),
    FAILS("PDPTEs in memory", shadow_paging, SET(GUEST_CR3, NOWHERE)),
    PASSES(shadow_paging, CALL(bad_pdpte), CLEAR(GUEST_CR4, X86_CR4_PAE)),
    PASSES(protected_mode, SET(GUEST_CR3, NOWHERE)),
    /* Bits 63:32 of CR3 are no part of the table's address. */
    PASSES(shadow_paging, SET(GUEST_CR3, BIT(32) | PDPTE_TABLE)),
};

static void build(struct world *world, const struct test_case *test)
{
    test->base(world);
    for (unsigned i = 0; i < ARRAY_SIZE(test->changes); i++) {
        const struct change *change = &test->changes[i];

        switch (change->operation) {
        case OP_SET:
            set(world, change->field, change->value);
            break;
        case OP_OR:
            set_bits(world, change->field, change->value);
            break;
        case OP_CLEAR:
            clear_bits(world, change->field, change->value);
            break;
        case OP_CALL:
            change->call(world);
            break;
        case OP_END:
            return;
        }
    }
}

/* ---- Every row --------------------------------------------------------------------------------------- */

static const struct nested_check_row *enter(const struct world *world, uint32_t groups)
{
    const struct nested_check_row *row = nested_check_controls(&world->context, groups);

    if (row == NULL)
        row = nested_check_host(&world->context, groups);
    if (row == NULL)
        row = nested_check_guest(&world->context, groups);
    return row;
}

/* Which rows were seen to hold and to fail, by group and place. */
#define MAXIMUM 32
static bool held[NESTED_CHECK_GROUPS][MAXIMUM], failed[NESTED_CHECK_GROUPS][MAXIMUM];

static bool applies(const struct world *world, const struct nested_check_row *row)
{
    const struct vmcs12 *vmcs = &world->vmcs;

    return row->mask == 0 || (row->word == VMX_WORD_PIN && vmcs12_has_pin(vmcs, row->mask)) ||
           (row->word == VMX_WORD_PRIMARY && vmcs12_has_primary(vmcs, row->mask)) ||
           (row->word == VMX_WORD_SECONDARY && vmcs12_has_secondary(vmcs, row->mask)) ||
           (row->word == VMX_WORD_EXIT && vmcs12_has_exit(vmcs, row->mask)) ||
           (row->word == VMX_WORD_ENTRY && vmcs12_has_entry(vmcs, row->mask));
}

/* The row, the only one that does not hold, is returned by the function that its group belongs to, and by
 * that alone. */
static bool is_told_by_one(const struct world *world, unsigned group, const struct nested_check_row *row)
{
    const struct nested_check_row *controls = nested_check_controls(&world->context, BIT(group));
    const struct nested_check_row *host = nested_check_host(&world->context, BIT(group));
    const struct nested_check_row *guest = nested_check_guest(&world->context, BIT(group));

    return controls == (group < NESTED_CHECK_HOST_REGISTERS ? row : NULL) &&
           host == (group >= NESTED_CHECK_HOST_REGISTERS && group < NESTED_CHECK_REGISTERS ? row : NULL) &&
           guest == (group >= NESTED_CHECK_REGISTERS ? row : NULL);
}

static void each_case(void **state)
{
    (void)state;
    static struct world world;
    unsigned right = 0;

    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        const struct nested_check_row *row;
        size_t count;

        build(&world, &cases[n]);
        row = enter(&world, NESTED_CHECK_ALL);
        if ((row == NULL) != (cases[n].row == NULL) || (row != NULL && strcmp(row->name, cases[n].row) != 0))
            print_error("case %u: \"%s\" instead of \"%s\"\n", n, row == NULL ? "passes" : row->name,
                        cases[n].row == NULL ? "passes" : cases[n].row);
        else
            right++;
        for (unsigned group = 0; group < NESTED_CHECK_GROUPS; group++) {
            const struct nested_check_row *rows = nested_check_rows(group, &count);

            assert_in_range(count, 1, MAXIMUM);
            for (size_t i = 0; i < count; i++) {
                if (row == &rows[i])
                    failed[group][i] = is_told_by_one(&world, group, row);
                else if (row == NULL && applies(&world, &rows[i]))
                    held[group][i] = true;
            }
        }
    }
    assert_int_equal(right, ARRAY_SIZE(cases));
}

/* After all cases: a row without one of both kinds is not tested. */
static void each_row(void **state)
{
    (void)state;
    unsigned total = 0, complete = 0;

    for (unsigned group = 0; group < NESTED_CHECK_GROUPS; group++) {
        size_t count;
        const struct nested_check_row *rows = nested_check_rows(group, &count);

        for (size_t i = 0; i < count; i++, total++) {
            if (!held[group][i] || !failed[group][i])
                print_error("row \"%s\" (%s): no case in which it %s\n", rows[i].name,
                            nested_check_group_name(group), held[group][i] ? "fails" : "holds");
            complete += held[group][i] && failed[group][i];
        }
    }
    print_message("entry checks: %u of %u rows passed and failed, in %zu cases\n", complete, total,
                  ARRAY_SIZE(cases));
    assert_int_equal(complete, total);
}

static void injecting(struct world *world)
{
    long_mode(world);
    set(world, F(ENTRY_INTERRUPTION_INFO), EVENT_VALID | 32);
}

static void injecting_page_fault(struct world *world)
{
    long_mode(world);
    set(world, F(ENTRY_INTERRUPTION_INFO), EVENT_VALID | EVENT_HAS_ERROR_CODE | 3 << 8 | 14);
}

static void with_apic_accesses(struct world *world)
{
    long_mode(world);
    set_bits(world, F(SECONDARY_CONTROLS), VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES);
}

static void linked(struct world *world)
{
    long_mode(world);
    set(world, F(VMCS_LINK_POINTER), LINKED);
}

#define PAGES     (BEYOND - PAGE_SIZE)
#define CR0_FREE  (0xffffffff & ~(X86_CR0_PE | X86_CR0_NE | X86_CR0_PG))
#define CR4_FREE  (0x7ff | X86_CR4_LA57 | X86_CR4_PCIDE)
#define EFER_FREE (X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE)
#define RIGHTS    0x1f0ff

/* Each bit of a field by itself: the row fails exactly when one changes that is not free. */
static void bits(void **state)
{
    (void)state;
    static const struct {
        const char *row;
        void (*base)(struct world *world);
        enum vmcs_index field;
        uint64_t free;
    } fields[] = {
        {"I/O bitmap A", long_mode, F(IO_BITMAP_A), PAGES},
        {"I/O bitmap B", long_mode, F(IO_BITMAP_B), PAGES},
        {"MSR bitmaps", long_mode, F(MSR_BITMAPS), PAGES},
        {"virtual-APIC address", long_mode, F(VIRTUAL_APIC_ADDRESS), PAGES},
        {"APIC-access address", with_apic_accesses, F(APIC_ACCESS_ADDRESS), PAGES},
        {"TPR threshold", long_mode, F(TPR_THRESHOLD), 0xf},
        {"exit MSR-store list", long_mode, F(EXIT_MSR_STORE_ADDRESS), BEYOND - 16},
        {"exit MSR-load list", long_mode, F(EXIT_MSR_LOAD_ADDRESS), BEYOND - 16},
        {"entry MSR-load list", long_mode, F(ENTRY_MSR_LOAD_ADDRESS), BEYOND - 16},
        {"reserved bits of the event", injecting, F(ENTRY_INTERRUPTION_INFO), 0x80000fff},
        {"error code of the event", injecting_page_fault, F(ENTRY_EXCEPTION_ERROR_CODE), 0xffff},
        {"host CR0", long_mode, F(HOST_CR0), CR0_FREE},
        {"host CR3", long_mode, F(HOST_CR3), BEYOND - 1},
        {"host CR4", long_mode, F(HOST_CR4), CR4_FREE},
        {"host IA32_EFER", long_mode, F(HOST_EFER), EFER_FREE},
        {"host ES", long_mode, F(HOST_ES_SELECTOR), 0xfff8},
        {"host CS", long_mode, F(HOST_CS_SELECTOR), 0xfff8},
        {"host SS", long_mode, F(HOST_SS_SELECTOR), 0xfff8},
        {"host DS", long_mode, F(HOST_DS_SELECTOR), 0xfff8},
        {"host FS", long_mode, F(HOST_FS_SELECTOR), 0xfff8},
        {"host GS", long_mode, F(HOST_GS_SELECTOR), 0xfff8},
        {"host TR", long_mode, F(HOST_TR_SELECTOR), 0xfff8},
        {"host RIP", host_32, F(HOST_RIP), 0xffffffff},
        {"CR0", long_mode, F(GUEST_CR0), CR0_FREE},
        {"CR0", unrestricted, F(GUEST_CR0), CR0_FREE | X86_CR0_PE | X86_CR0_PG},
        {"CR3", long_mode, F(GUEST_CR3), BEYOND - 1},
        {"CR4", long_mode, F(GUEST_CR4), CR4_FREE},
        {"IA32_DEBUGCTL", long_mode, F(GUEST_DEBUGCTL), DEBUGCTL_BTF},
        {"DR7", long_mode, F(GUEST_DR7), 0xffffffff},
        {"IA32_EFER", long_mode, F(GUEST_EFER), EFER_FREE},
        {"ES reserved rights", long_mode, F(GUEST_ES_ACCESS_RIGHTS), RIGHTS},
        {"CS reserved rights", long_mode, F(GUEST_CS_ACCESS_RIGHTS), RIGHTS},
        {"SS reserved rights", long_mode, F(GUEST_SS_ACCESS_RIGHTS), RIGHTS},
        {"DS reserved rights", long_mode, F(GUEST_DS_ACCESS_RIGHTS), RIGHTS},
        {"FS reserved rights", long_mode, F(GUEST_FS_ACCESS_RIGHTS), RIGHTS},
        {"GS reserved rights", long_mode, F(GUEST_GS_ACCESS_RIGHTS), RIGHTS},
        {"LDTR reserved rights", long_mode, F(GUEST_LDTR_ACCESS_RIGHTS), RIGHTS},
        {"TR reserved rights", long_mode, F(GUEST_TR_ACCESS_RIGHTS), RIGHTS},
        {"GDTR limit", long_mode, F(GUEST_GDTR_LIMIT), 0xffff},
        {"IDTR limit", long_mode, F(GUEST_IDTR_LIMIT), 0xffff},
        {"RIP", long_mode, F(GUEST_RIP), BIT(48) - 1},
        {"RIP", protected_mode, F(GUEST_RIP), 0xffffffff},
        {"RFLAGS", long_mode, F(GUEST_RFLAGS), 0x3f7fd5},
        {"interruptibility state", long_mode, F(GUEST_INTERRUPTIBILITY), 0xf},
        {"pending debug exceptions", long_mode, F(GUEST_PENDING_DEBUG), 0x1500f},
        {"VMCS link pointer", linked, F(VMCS_LINK_POINTER), PAGES},
        {"PDPTE 0", protected_mode, F(GUEST_PDPTE0), UINT64_MAX}, /* not present */
    };
    static struct world world;

    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        uint64_t mask = vmcs_width_mask(vmcs_field_width(vmcs_field_at(fields[i].field)));

        for (unsigned bit = 0; bit < 64 && (mask >> bit & 1) != 0; bit++) {
            const struct nested_check_row *row;
            bool expected = (fields[i].free >> bit & 1) == 0;

            fields[i].base(&world);
            set(&world, fields[i].field, world.vmcs.values[fields[i].field] ^ BIT(bit));
            row = enter(&world, NESTED_CHECK_ALL);
            if ((row != NULL && strcmp(row->name, fields[i].row) == 0) != expected)
                fail_msg("%s, bit %u: \"%s\"", fields[i].row, bit, row == NULL ? "passes" : row->name);
        }
    }
}

/* Names are what a failure is known by; a row's group follows from the fields that it looks at. */
static void names(void **state)
{
    (void)state;
    size_t count, others;

    for (unsigned group = 0; group < NESTED_CHECK_GROUPS; group++) {
        const struct nested_check_row *rows = nested_check_rows(group, &count);

        assert_true(strlen(nested_check_group_name(group)) > 0);
        for (size_t i = 0; i < count; i++) {
            assert_true(strncmp(rows[i].section, group < NESTED_CHECK_REGISTERS ? "27.2." : "27.3.", 5) == 0);
            assert_true((nested_check_field_groups(rows[i].field) & BIT(group)) != 0);
            for (unsigned other = 0; other < NESTED_CHECK_GROUPS; other++) {
                const struct nested_check_row *row = nested_check_rows(other, &others);

                for (size_t j = 0; j < others; j++)
                    assert_true(strcmp(rows[i].name, row[j].name) != 0 || &rows[i] == &row[j]);
            }
        }
    }
}

/* Who fails is told by the function that returns it, and by the qualification. */
static void answers(void **state)
{
    (void)state;
    static struct world world;
    const struct nested_check_row *row;

    long_mode(&world);
    set(&world, F(VPID), 0);
    set(&world, F(HOST_CR0), 0);
    set(&world, F(GUEST_CR0), 0);
    assert_string_equal(nested_check_controls(&world.context, NESTED_CHECK_ALL)->name, "VPID");
    assert_string_equal(nested_check_host(&world.context, NESTED_CHECK_ALL)->name, "host CR0");
    row = nested_check_guest(&world.context, NESTED_CHECK_ALL);
    assert_string_equal(row->name, "CR0");
    assert_int_equal(row->qualification, 0);
    assert_int_equal(row->field, F(GUEST_CR0));

    /* A group that is left out is not looked at. */
    assert_null(nested_check_controls(&world.context, NESTED_CHECK_ALL & ~BIT(NESTED_CHECK_ADDRESSES)));
    assert_null(nested_check_host(&world.context, BIT(NESTED_CHECK_REGISTERS)));
    assert_null(nested_check_guest(&world.context, BIT(NESTED_CHECK_ADDRESSES)));

    long_mode(&world);
    set(&world, F(GUEST_INTERRUPTIBILITY), BLOCKING_BY_STI);
    set(&world, F(ENTRY_INTERRUPTION_INFO), EVENT_VALID | 2 << 8 | 2);
    assert_int_equal(nested_check_guest(&world.context, NESTED_CHECK_ALL)->qualification, 3);
    set(&world, F(GUEST_INTERRUPTIBILITY), BLOCKING_BY_MOV_SS);
    assert_int_equal(nested_check_guest(&world.context, NESTED_CHECK_ALL)->qualification, 0);

    for (unsigned i = 0; i < 4; i++) {
        protected_mode(&world);
        set(&world, F(GUEST_PDPTE0) + i, 3);
        assert_int_equal(nested_check_guest(&world.context, NESTED_CHECK_ALL)->qualification, 2);
    }
    shadow_paging(&world);
    bad_pdpte(&world);
    assert_int_equal(nested_check_guest(&world.context, NESTED_CHECK_ALL)->qualification, 2);

    long_mode(&world);
    set(&world, F(VMCS_LINK_POINTER), 1);
    assert_int_equal(nested_check_guest(&world.context, NESTED_CHECK_ALL)->qualification, 4);
    set(&world, F(VMCS_LINK_POINTER), VIRTUAL_APIC);
    assert_int_equal(nested_check_guest(&world.context, NESTED_CHECK_ALL)->qualification, 4);
    set(&world, F(VMCS_LINK_POINTER), CURRENT);
    assert_int_equal(nested_check_guest(&world.context, NESTED_CHECK_ALL)->qualification, 4);
}

/* PDPTEs are read once, and what was read is what the entry gets; bad ones are not handed on. */
static void pdptes(void **state)
{
    (void)state;
    static struct world world;

    shadow_paging(&world);
    assert_null(nested_check_guest(&world.context, NESTED_CHECK_ALL));
    assert_int_equal(world.reads, 1);
    assert_memory_equal(world.pdptes, &world.memory[PDPTE_TABLE], sizeof(world.pdptes));

    memset(world.pdptes, 0xa5, sizeof(world.pdptes));
    bad_pdpte(&world);
    assert_non_null(nested_check_guest(&world.context, NESTED_CHECK_ALL));
    protected_mode(&world);
    memset(world.pdptes, 0xa5, sizeof(world.pdptes));
    assert_null(nested_check_guest(&world.context, NESTED_CHECK_ALL));
    assert_int_equal(world.pdptes[0], 0xa5a5a5a5a5a5a5a5);
}

/* ---- Groups ------------------------------------------------------------------------------------------ */

static void (*const bases[])(struct world *world) = {
    long_mode, protected_mode, shadow_paging, virtual_8086, unrestricted, real_mode, host_32, user_mode,
};

static void forget_written(struct world *world)
{
    memset(world->vmcs.written, 0, sizeof(world->vmcs.written));
}

/* A new vCPU, or another VMCS: all fields count as written, whatever was checked before. */
static void everything(void **state)
{
    (void)state;
    static struct world world;
    struct nested_checked checked = {0};

    long_mode(&world);
    memset(world.vmcs.written, 0xff, sizeof(world.vmcs.written));
    world.vmcs.written[VMCS12_FIELD_WORDS - 1] >>= VMCS12_FIELD_WORDS * 64 - VMCS_FIELD_COUNT;
    assert_int_equal(nested_check_groups(&world.context, &checked), NESTED_CHECK_ALL);

    /* Nothing was written: what is left looks at memory, each group as long as it does. */
    nested_check_passed(&world.context, &checked);
    forget_written(&world);
    assert_int_equal(nested_check_groups(&world.context, &checked), BIT(NESTED_CHECK_VIRTUAL_TPR));
    set(&world, F(TPR_THRESHOLD), 0);
    set(&world, F(VMCS_LINK_POINTER), 0x3000);
    forget_written(&world);
    assert_int_equal(nested_check_groups(&world.context, &checked), BIT(NESTED_CHECK_LINK));
    set(&world, F(VMCS_LINK_POINTER), UINT64_MAX);
    set(&world, F(ENTRY_CONTROLS),
        vmcs12_read(&world.vmcs, VMCS_ENTRY_CONTROLS) & ~(uint64_t)VMX_ENTRY_IA32E_GUEST);
    forget_written(&world);
    assert_int_equal(nested_check_groups(&world.context, &checked), BIT(NESTED_CHECK_PDPTE_TABLE));
    set(&world, F(GUEST_CR0), X86_CR0_PE);
    forget_written(&world);
    assert_int_equal(nested_check_groups(&world.context, &checked), 0);

    long_mode(&world);
    nested_check_passed(&world.context, &checked);
    forget_written(&world);

    /* A round trip of Lv2 costs few groups: what is always written makes no other group look. */
    set(&world, F(GUEST_RIP), 0x1000);
    set(&world, F(GUEST_RFLAGS), X86_RFLAGS_RESERVED);
    set(&world, F(GUEST_RSP), 0x1000);
    set_bits(&world, F(PRIMARY_CONTROLS), VMX_PRIMARY_INTERRUPT_WINDOW_EXITING);
    assert_int_equal(nested_check_groups(&world.context, &checked),
                     BIT(NESTED_CHECK_EXECUTION) | BIT(NESTED_CHECK_ADDRESSES) | BIT(NESTED_CHECK_RIP) |
                         BIT(NESTED_CHECK_NON_REGISTER) | BIT(NESTED_CHECK_VIRTUAL_TPR));
}

static uint64_t random_state = 1;

static uint64_t random_number(uint64_t below)
{
    random_state = random_state * 6364136223846793005 + 1442695040888963407;
    return (random_state >> 20) % below;
}

/* The answer of every row to the world as it is, by group and place. */
static void answer(const struct world *world, bool answers_of[NESTED_CHECK_GROUPS][MAXIMUM])
{
    size_t count;

    for (unsigned group = 0; group < NESTED_CHECK_GROUPS; group++) {
        const struct nested_check_row *rows = nested_check_rows(group, &count);

        for (size_t i = 0; i < count; i++)
            answers_of[group][i] = !applies(world, &rows[i]) || rows[i].holds(&world->context, rows[i].field);
    }
}

/* A table's glance is not wrong: where it leaves the rows out, they hold. */
static void assert_glances(const struct world *world, bool answers_of[NESTED_CHECK_GROUPS][MAXIMUM])
{
    size_t count;

    for (unsigned group = 0; group < NESTED_CHECK_GROUPS; group++) {
        bool all = true;

        nested_check_rows(group, &count);
        for (size_t i = 0; i < count; i++)
            all = all && answers_of[group][i];
        assert_int_equal(all, enter(world, BIT(group)) == NULL);
    }
}

/* The fields on which most rows depend get each of their bits changed, others a sample. */
static bool is_tried(unsigned field, unsigned bit)
{
    switch (field) {
    case F(PIN_CONTROLS):
    case F(PRIMARY_CONTROLS):
    case F(SECONDARY_CONTROLS):
    case F(EXIT_CONTROLS):
    case F(ENTRY_CONTROLS):
    case F(ENTRY_INTERRUPTION_INFO):
    case F(GUEST_CR0):
    case F(GUEST_CR4):
    case F(GUEST_RFLAGS):
    case F(GUEST_CS_ACCESS_RIGHTS):
    case F(GUEST_SS_ACCESS_RIGHTS):
        return bit < 32;
    default:
        return random_number(bit < 32 ? 40 : 120) == 0;
    }
}

/*
 * From every case, fields take other values, one at a time: a row whose answer changes with it must be of a
 * group that is checked again. Fails when a dependency is missing from the tables.
 */
static void dependencies(void **state)
{
    (void)state;
    static struct world world;
    bool before[NESTED_CHECK_GROUPS][MAXIMUM] = {0}, after[NESTED_CHECK_GROUPS][MAXIMUM] = {0};

    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        struct nested_checked checked, now;

        build(&world, &cases[n]);
        nested_check_passed(&world.context, &checked);
        answer(&world, before);
        for (unsigned field = 0; field < VMCS_FIELD_COUNT; field++) {
            uint64_t old = world.vmcs.values[field];
            uint64_t mask = vmcs_width_mask(vmcs_field_width(vmcs_field_at(field)));

            for (unsigned bit = 0; bit < 64 && (mask >> bit & 1) != 0; bit++) {
                uint32_t groups;

                if (!is_tried(field, bit))
                    continue;
                forget_written(&world);
                set(&world, field, old ^ BIT(bit));
                nested_check_passed(&world.context, &now);
                /* Groups that are checked in any case are told of the field as well. */
                groups = now.modes != checked.modes ? nested_check_groups(&world.context, &checked)
                                                    : nested_check_field_groups(field);
                answer(&world, after);
                assert_glances(&world, after);
                for (unsigned group = 0; group < NESTED_CHECK_GROUPS; group++)
                    if ((groups & BIT(group)) == 0 &&
                        memcmp(before[group], after[group], sizeof(before[group])) != 0)
                        fail_msg("case %u: group \"%s\" looks at %s", n, nested_check_group_name(group),
                                 vmcs_field_name(vmcs_field_at(field)));
            }
            world.vmcs.values[field] = old;
        }
    }
}

/*
 * A hypervisor that writes at random, mends some of it and enters time and again: whatever is left out, the
 * answer is that of all checks.
 */
static void entries(void **state)
{
    (void)state;
    static struct world world, other;
    struct nested_checked checked = {0};
    unsigned passed = 0;

    long_mode(&world);
    for (unsigned round = 0; round < 50000; round++) {
        const struct nested_check_row *row;

        /* Towards another good state, or a bad one, by one field or all of them. */
        if (random_number(3) == 0)
            bases[random_number(ARRAY_SIZE(bases))](&other);
        else
            build(&other, &cases[random_number(ARRAY_SIZE(cases))]);
        if (random_number(4) == 0) {
            unsigned field = (unsigned)random_number(VMCS_FIELD_COUNT);

            set(&world, field, other.vmcs.values[field]);
        } else {
            for (unsigned field = 0; field < VMCS_FIELD_COUNT; field++)
                if (world.vmcs.values[field] != other.vmcs.values[field])
                    set(&world, field, other.vmcs.values[field]);
            world.context.ia32e_mode = other.context.ia32e_mode;
            memcpy(world.memory, other.memory, sizeof(world.memory));
        }
        row = enter(&world, nested_check_groups(&world.context, &checked));
        assert_ptr_equal(row, enter(&world, NESTED_CHECK_ALL));
        if (row == NULL) {
            nested_check_passed(&world.context, &checked);
            forget_written(&world);
            passed++;
        }
    }
    assert_in_range(passed, 5000, 45000);
}

/* Numbers and rows are two names for the same, in the order of the groups. */
static void numbers(void **state)
{
    unsigned number = 0;

    (void)state;
    for (unsigned group = 0; group < NESTED_CHECK_GROUPS; group++) {
        size_t count;
        const struct nested_check_row *rows = nested_check_rows(group, &count);

        for (size_t i = 0; i < count; i++, number++) {
            assert_ptr_equal(nested_check_at(number), &rows[i]);
            assert_int_equal(nested_check_number(&rows[i]), number);
        }
    }
    assert_null(nested_check_at(number));
    assert_in_range(number, 1, NESTED_CHECK_ROWS_MAX);
}

/* With the argument `rows`, lists them: for tests/boot/test_nested_checks.py. */
int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "rows") == 0) {
        for (unsigned i = 0; nested_check_at(i) != NULL; i++)
            puts(nested_check_at(i)->name);
        return 0;
    }

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case),  cmocka_unit_test(each_row), cmocka_unit_test(bits),
        cmocka_unit_test(names),      cmocka_unit_test(answers),  cmocka_unit_test(pdptes),
        cmocka_unit_test(everything), cmocka_unit_test(entries),  cmocka_unit_test(dependencies),
        cmocka_unit_test(numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
