// SPDX-License-Identifier: BSD-2-Clause
/*
 * A guest hypervisor's first steps (SDM vol. 3, "Introduction to Virtual Machine Extensions", "VMX
 * Instruction Reference"): capability MSRs, into VMX operation and out of it, every way that a VMX
 * instruction fails, launch state, the fields of a VMCS, and an Lv2 that executes three instructions.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/vmx.h"

#define OTHER_REGION   ((uint64_t)vmx_regions[2])
#define THIRD_REGION   ((uint64_t)vmx_regions[3])
#define FOREIGN_REGION ((uint64_t)vmx_regions[4]) /* with a revision that is not the processor's */

static uint64_t beyond_memory(void)
{
    return BIT(cpuid(0x80000008, 0).eax & 0xff);
}

/* ---- Capabilities ------------------------------------------------------------------------------------- */

static void try_wrmsr(uint32_t msr, uint64_t value)
{
    TRY("wrmsr", : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static bool word_is_sane(unsigned word)
{
    uint64_t allowed = vmx_allowed(word);

    return ((uint32_t)allowed & ~(allowed >> 32)) == 0;
}

static void capability_rows(void)
{
    uint64_t basic = rdmsr(MSR_VMX_BASIC), misc = rdmsr(MSR_VMX_MISC);
    char name[48];

    CHECK("basic-revision-31-is-0", (basic & BIT(31)) == 0);
    CHECK("basic-region-size", (basic >> 32 & 0x1fff) > 0 && (basic >> 32 & 0x1fff) <= 4096);
    CHECK("basic-addresses-not-32-bit", (basic & BIT(48)) == 0);
    guest_equal("basic-memory-type", basic >> 50 & 0xf, 6);
    guest_equal("basic-reserved", basic & (BIT(47) | BIT(46) | BIT(45) | ~(BIT(57) - 1)), 0);
    guest_value("basic-outs-info", basic >> 54 & 1);
    guest_value("basic-true-controls", basic >> 55 & 1);
    guest_equal("misc-cr3-targets", misc >> 16 & 0x1ff, 4);
    CHECK("misc-hlt-activity", (misc & BIT(6)) != 0);
    CHECK("pin-sane", word_is_sane(VMCS_PIN));
    CHECK("primary-sane", word_is_sane(VMCS_PRIMARY));
    CHECK("secondary-sane", word_is_sane(VMCS_SECONDARY));
    CHECK("exit-sane", word_is_sane(VMCS_EXIT));
    CHECK("entry-sane", word_is_sane(VMCS_ENTRY));
    guest_equal("secondary-none-must-be-1", (uint32_t)vmx_allowed(VMCS_SECONDARY), 0);
    CHECK("exit-host-64", vmx_may_set(EXIT_HOST_64));
    CHECK("entry-ia32e", vmx_may_set(ENTRY_IA32E));
    guest_equal("default1-pin", rdmsr(MSR_VMX_PIN) & 0x16, 0x16);
    guest_equal("default1-primary", rdmsr(MSR_VMX_PRIMARY) & 0x0401e172, 0x0401e172);
    guest_equal("default1-exit", rdmsr(MSR_VMX_EXIT) & 0x36dff, 0x36dff);
    guest_equal("default1-entry", rdmsr(MSR_VMX_ENTRY) & 0x11ff, 0x11ff);
    guest_equal("cr0-fixed0", rdmsr(MSR_VMX_CR0_FIXED0), CR0_PG | CR0_NE | CR0_PE);
    guest_equal("cr0-fixed1", rdmsr(MSR_VMX_CR0_FIXED1), 0xffffffff);
    guest_equal("cr4-fixed0", rdmsr(MSR_VMX_CR4_FIXED0), CR4_VMXE);
    CHECK("cr4-fixed1-has-vmxe", (rdmsr(MSR_VMX_CR4_FIXED1) & CR4_VMXE) != 0);
    CHECK("vmcs-enum", rdmsr(MSR_VMX_VMCS_ENUM) >= 0x2a);

    for (uint32_t msr = MSR_VMX_BASIC; msr <= MSR_VMX_EPT_VPID; msr++) {
        try_wrmsr(msr, rdmsr(msr));
        format_text(name, sizeof(name), "msr-%x-read-only", msr);
        guest_expect(name, VECTOR_GP, 0, 0);
    }
}

static void feature_control_rows(void)
{
    guest_equal("feature-control",
                rdmsr(MSR_FEATURE_CONTROL) & (FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON),
                FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON);
    try_wrmsr(MSR_FEATURE_CONTROL, FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON);
    guest_expect("feature-control-locked", VECTOR_GP, 0, 0);
    try_wrmsr(MSR_FEATURE_CONTROL, 0);
    guest_expect("feature-control-locked-0", VECTOR_GP, 0, 0);
}

/* ---- What raises an exception ------------------------------------------------------------------------- */

SNIPPET(vmxon64, 64, "vmxon (%rsi)");
SNIPPET(vmxoff64, 64, "vmxoff");
SNIPPET(vmclear64, 64, "vmclear (%rsi)");
SNIPPET(vmptrld64, 64, "vmptrld (%rsi)");
SNIPPET(vmptrst64, 64, "vmptrst (%rsi)");
SNIPPET(vmread64, 64, "vmread %rdi, %rax");
SNIPPET(vmwrite64, 64, "vmwrite %rax, %rdi");
SNIPPET(vmlaunch64, 64, "vmlaunch");
SNIPPET(vmresume64, 64, "vmresume");
SNIPPET(vmcall64, 64, "vmcall");
SNIPPET(invept64, 64, "invept (%rsi), %rdi");
SNIPPET(invvpid64, 64, "invvpid (%rsi), %rdi");
SNIPPET(vmxon32, 32, "vmxon (%esi)");
SNIPPET(vmxoff32, 32, "vmxoff");
SNIPPET(vmclear32, 32, "vmclear (%esi)");
SNIPPET(vmptrld32, 32, "vmptrld (%esi)");
SNIPPET(vmptrst32, 32, "vmptrst (%esi)");
SNIPPET(vmread32, 32, "vmread %edi, %eax");
SNIPPET(vmwrite32, 32, "vmwrite %eax, %edi");
SNIPPET(vmlaunch32, 32, "vmlaunch");
SNIPPET(vmresume32, 32, "vmresume");
SNIPPET(vmcall32, 32, "vmcall");
SNIPPET(invept32, 32, "invept (%esi), %edi");
SNIPPET(invvpid32, 32, "invvpid (%esi), %edi");

static const struct instruction {
    const char *name, *code64, *code32;
} instructions[] = {
    {"vmxon", vmxon64, vmxon32},          {"vmxoff", vmxoff64, vmxoff32},
    {"vmclear", vmclear64, vmclear32},    {"vmptrld", vmptrld64, vmptrld32},
    {"vmptrst", vmptrst64, vmptrst32},    {"vmread", vmread64, vmread32},
    {"vmwrite", vmwrite64, vmwrite32},    {"vmlaunch", vmlaunch64, vmlaunch32},
    {"vmresume", vmresume64, vmresume32}, {"vmcall", vmcall64, vmcall32},
    {"invept", invept64, invept32},       {"invvpid", invvpid64, invvpid32},
};

/* The last one ended in an exception; of VMCALL a hypervisor below may make a call to itself. */
static void expect_fault(const char *name, const struct instruction *instruction, int vector)
{
    if (instruction->code64 == vmcall64)
        guest_differs(name, (uint64_t)guest_fault.vector);
    else
        guest_expect(name, vector, 0, 0);
}

/* All of them with one code segment: the exception is the same for all. */
static void instruction_rows(const char *where, uint16_t segment, int vector)
{
    static uint64_t operand[2];
    char name[48];

    for (unsigned i = 0; i < ARRAY_SIZE(instructions); i++) {
        bool user = (segment & 3) == 3;

        guest_run(segment, segment == SELECTOR_CODE32 ? instructions[i].code32 : instructions[i].code64, 0,
                  user ? guest_user(operand) : (uint64_t)operand, 0);
        format_text(name, sizeof(name), "%s-%s", instructions[i].name, where);
        expect_fault(name, &instructions[i], vector);
    }
}

/* The memory operands of those that have one. */
static void operand_rows(void)
{
    const uint64_t bad = NON_CANONICAL, absent = GUEST_UNMAPPED;

    TRY("vmxon (%0)", : : "r"(absent) : "memory", "cc");
    guest_expect("vmxon-in-root-does-not-look-at-it", NO_VECTOR, 0, 0);
    TRY("vmclear (%0)", : : "r"(absent) : "memory", "cc");
    guest_expect("vmclear-absent", VECTOR_PF, 0, 0);
    TRY("vmptrld (%0)", : : "r"(absent) : "memory", "cc");
    guest_expect("vmptrld-absent", VECTOR_PF, 0, 0);
    TRY("vmptrst (%0)", : : "r"(absent) : "memory", "cc");
    guest_expect("vmptrst-absent", VECTOR_PF, PF_WRITE, 0);
    TRY("vmread %1, (%0)", : : "r"(absent), "r"((uint64_t)VMCS_GUEST_RIP) : "memory", "cc");
    guest_expect("vmread-absent", VECTOR_PF, PF_WRITE, 0);
    TRY("vmwrite (%0), %1", : : "r"(absent), "r"((uint64_t)VMCS_GUEST_RIP) : "memory", "cc");
    guest_expect("vmwrite-absent", VECTOR_PF, 0, 0);
    guest_equal("absent-cr2", guest_fault.cr2, absent);

    TRY("vmclear (%0)", : : "r"(bad) : "memory", "cc");
    guest_expect("vmclear-non-canonical", VECTOR_GP, 0, 0);
    TRY("vmptrld (%0)", : : "r"(bad) : "memory", "cc");
    guest_expect("vmptrld-non-canonical", VECTOR_GP, 0, 0);
    TRY("vmptrst (%0)", : : "r"(bad) : "memory", "cc");
    guest_expect("vmptrst-non-canonical", VECTOR_GP, 0, 0);
    TRY("vmread %1, (%0)", : : "r"(bad), "r"((uint64_t)VMCS_GUEST_RIP) : "memory", "cc");
    guest_expect("vmread-non-canonical", VECTOR_GP, 0, 0);
    TRY("vmwrite (%0), %1", : : "r"(bad), "r"((uint64_t)VMCS_GUEST_RIP) : "memory", "cc");
    guest_expect("vmwrite-non-canonical", VECTOR_GP, 0, 0);
}

/* ---- Into VMX operation, and out ---------------------------------------------------------------------- */

static void vmxon_rows(void)
{
    const uint64_t cr0 = read_cr0();

    TRY_PLAIN("vmxoff");
    guest_expect("vmxoff-without-vmxe", VECTOR_UD, 0, 0);
    guest_equal("vmxon-without-vmxe", vmx_on(VMXON_REGION), VMX_FAULT);
    guest_expect_vector("vmxon-without-vmxe-is-ud", VECTOR_UD, 0);

    TRY("movq %0, %%cr4", : : "r"(read_cr4() | CR4_VMXE) : "memory");
    guest_expect("cr4-vmxe", NO_VECTOR, 0, 0);
    guest_equal("cr4-vmxe-readback", read_cr4() & CR4_VMXE, CR4_VMXE);
    TRY("movq %0, %%cr4", : : "r"(read_cr4() & ~CR4_VMXE) : "memory");
    guest_expect("cr4-vmxe-off-again", NO_VECTOR, 0, 0);
    write_cr4(read_cr4() | CR4_VMXE);

    /* Not yet in VMX operation: everything but VMXON is #UD. VMXON has its own rows. */
    for (unsigned i = 1; i < ARRAY_SIZE(instructions); i++) {
        static uint64_t operand[2];
        char name[48];

        guest_run(SELECTOR_CODE, instructions[i].code64, 0, (uint64_t)operand, 0);
        format_text(name, sizeof(name), "%s-outside", instructions[i].name);
        expect_fault(name, &instructions[i], VECTOR_UD);
    }
    static uint64_t region;
    region = VMXON_REGION;
    guest_run(SELECTOR_USER_CODE, vmxon64, 0, guest_user(&region), 0);
    guest_expect("vmxon-outside-user", VECTOR_GP, 0, 0);
    guest_run(SELECTOR_CODE32, vmxon32, 0, (uint64_t)&region, 0);
    guest_expect("vmxon-outside-compatibility", VECTOR_UD, 0, 0);

    write_cr0(cr0 & ~CR0_NE);
    guest_equal("vmxon-cr0-ne-0", vmx_on(VMXON_REGION), VMX_FAULT);
    guest_expect_vector("vmxon-cr0-ne-0-is-gp", VECTOR_GP, 0);
    write_cr0(cr0);

    TRY("vmxon (%0)", : : "r"(GUEST_UNMAPPED) : "memory", "cc");
    guest_expect("vmxon-absent", VECTOR_PF, 0, 0);
    TRY("vmxon (%0)", : : "r"(NON_CANONICAL) : "memory", "cc");
    guest_expect("vmxon-non-canonical", VECTOR_GP, 0, 0);

    guest_equal("vmxon-misaligned", vmx_on(VMXON_REGION + 8), VMX_FAIL_INVALID);
    guest_equal("vmxon-misaligned-2k", vmx_on(VMXON_REGION + 2048), VMX_FAIL_INVALID);
    guest_equal("vmxon-beyond-memory", vmx_on(VMXON_REGION | beyond_memory()), VMX_FAIL_INVALID);
    guest_equal("vmxon-bit-63", vmx_on(VMXON_REGION | BIT(63)), VMX_FAIL_INVALID);
    guest_equal("vmxon-foreign-revision", vmx_on(FOREIGN_REGION), VMX_FAIL_INVALID);
    vmx_regions[0][0] ^= 1U << 31;
    guest_equal("vmxon-revision-bit-31", vmx_on(VMXON_REGION), VMX_FAIL_INVALID);
    vmx_regions[0][0] ^= 1U << 31;
    TRY_PLAIN("vmxoff");
    guest_expect("failed-vmxon-is-none", VECTOR_UD, 0, 0);

    guest_equal("vmxon", vmx_on(VMXON_REGION), VMX_SUCCEED);
}

static void in_operation_rows(void)
{
    const uint64_t cr0 = read_cr0(), cr4 = read_cr4();
    uint64_t value = 0;

    TRY("movq %0, %%cr4", : : "r"(cr4 & ~CR4_VMXE) : "memory");
    guest_expect("cr4-vmxe-is-fixed", VECTOR_GP, 0, 0);
    TRY("movq %0, %%cr0", : : "r"(cr0 & ~CR0_NE) : "memory");
    guest_expect("cr0-ne-is-fixed", VECTOR_GP, 0, 0);
    TRY("movq %0, %%cr0", : : "r"(cr0 & ~CR0_PG) : "memory");
    guest_expect("cr0-pg-is-fixed", VECTOR_GP, 0, 0);
    TRY("movq %0, %%cr0", : : "r"(cr0 ^ CR0_TS ^ CR0_EM ^ CR0_MP ^ CR0_WP ^ CR0_AM) : "memory");
    guest_expect("cr0-others-are-not", NO_VECTOR, 0, 0);
    write_cr0(cr0);
    TRY("movq %0, %%cr4", : : "r"(cr4 ^ CR4_TSD ^ CR4_DE ^ CR4_PGE ^ CR4_OSFXSR) : "memory");
    guest_expect("cr4-others-are-not", NO_VECTOR, 0, 0);
    write_cr4(cr4);
    guest_equal("cr0-after", read_cr0(), cr0);
    guest_equal("cr4-after", read_cr4(), cr4);

    /* No VMCS is current: there is nowhere to say why. */
    guest_equal("vmptrst-none", vmx_store(&value), VMX_SUCCEED);
    guest_equal("vmptrst-none-value", value, ~0UL);
    guest_equal("vmxon-again-none", vmx_on(VMXON_REGION), VMX_FAIL_INVALID);
    guest_equal("vmread-none", vmx_read(VMCS_GUEST_RIP, &value), VMX_FAIL_INVALID);
    guest_equal("vmwrite-none", vmx_write(VMCS_GUEST_RIP, 0), VMX_FAIL_INVALID);
    guest_equal("vmlaunch-none", vmx_launch_fails(), VMX_FAIL_INVALID);
    guest_equal("vmresume-none", vmx_resume_fails(), VMX_FAIL_INVALID);
    guest_equal("vmclear-misaligned-none", vmx_clear(VMCS_REGION + 8), VMX_FAIL_INVALID);
    guest_equal("vmclear-vmxon-pointer-none", vmx_clear(VMXON_REGION), VMX_FAIL_INVALID);
    guest_equal("vmptrld-misaligned-none", vmx_load(VMCS_REGION + 8), VMX_FAIL_INVALID);
    guest_equal("vmptrld-vmxon-pointer-none", vmx_load(VMXON_REGION), VMX_FAIL_INVALID);
    guest_equal("vmptrld-foreign-none", vmx_load(FOREIGN_REGION), VMX_FAIL_INVALID);
    VMX_TRY(value, "vmcall", "i"(0));
    guest_differs("vmcall-none", value);
}

/* ---- The current VMCS --------------------------------------------------------------------------------- */

static void pointer_rows(void)
{
    uint64_t value = 0;

    guest_equal("vmclear", vmx_clear(VMCS_REGION), VMX_SUCCEED);
    guest_equal("vmptrld", vmx_load(VMCS_REGION), VMX_SUCCEED);
    guest_equal("vmptrst", vmx_store(&value), VMX_SUCCEED);
    guest_equal("vmptrst-value", value, VMCS_REGION);
    guest_equal("vmptrld-again", vmx_load(VMCS_REGION), VMX_SUCCEED);

    vmx_expect_error("vmclear-misaligned", vmx_clear(OTHER_REGION + 8), 2);
    vmx_expect_error("vmclear-beyond-memory", vmx_clear(OTHER_REGION | beyond_memory()), 2);
    vmx_expect_error("vmclear-bit-63", vmx_clear(OTHER_REGION | BIT(63)), 2);
    vmx_expect_error("vmclear-vmxon-pointer", vmx_clear(VMXON_REGION), 3);
    vmx_expect_error("vmptrld-misaligned", vmx_load(OTHER_REGION + 8), 9);
    vmx_expect_error("vmptrld-beyond-memory", vmx_load(OTHER_REGION | beyond_memory()), 9);
    vmx_expect_error("vmptrld-bit-63", vmx_load(OTHER_REGION | BIT(63)), 9);
    vmx_expect_error("vmptrld-vmxon-pointer", vmx_load(VMXON_REGION), 10);
    vmx_expect_error("vmptrld-foreign", vmx_load(FOREIGN_REGION), 11);
    vmx_expect_error("vmxon-again", vmx_on(VMXON_REGION), 15);
    guest_equal("failures-keep-current", vmx_store(&value), VMX_SUCCEED);
    guest_equal("failures-keep-current-value", value, VMCS_REGION);

    /* A success leaves the error as it is. */
    vmx_expect_error("error-kept", vmx_clear(VMXON_REGION), 3);
    vmx_set(VMCS_GUEST_RSP, 1);
    guest_equal("error-kept-over-success", vmx_get(VMCS_ERROR), 3);

    /* Values belong to the VMCS, current or not. */
    vmx_set(VMCS_GUEST_RSP, 0x1111111122222222);
    guest_equal("second-vmclear", vmx_clear(OTHER_REGION), VMX_SUCCEED);
    guest_equal("vmclear-of-another-keeps-current", vmx_get(VMCS_GUEST_RSP), 0x1111111122222222);
    guest_equal("second-vmptrld", vmx_load(OTHER_REGION), VMX_SUCCEED);
    vmx_set(VMCS_GUEST_RSP, 0x3333333344444444);
    guest_equal("third-vmclear", vmx_clear(THIRD_REGION), VMX_SUCCEED);
    guest_equal("third-vmptrld", vmx_load(THIRD_REGION), VMX_SUCCEED);
    vmx_set(VMCS_GUEST_RSP, 0x5555555566666666);
    guest_equal("first-again", vmx_load(VMCS_REGION), VMX_SUCCEED);
    guest_equal("first-value", vmx_get(VMCS_GUEST_RSP), 0x1111111122222222);
    guest_equal("second-again", vmx_load(OTHER_REGION), VMX_SUCCEED);
    guest_equal("second-value", vmx_get(VMCS_GUEST_RSP), 0x3333333344444444);
    guest_equal("vmclear-current", vmx_clear(OTHER_REGION), VMX_SUCCEED);
    guest_equal("vmclear-current-leaves-none", vmx_store(&value), VMX_SUCCEED);
    guest_equal("vmclear-current-leaves-none-value", value, ~0UL);
    guest_equal("second-cleared-again", vmx_load(OTHER_REGION), VMX_SUCCEED);
    guest_equal("second-cleared-value", vmx_get(VMCS_GUEST_RSP), 0x3333333344444444);
    guest_equal("third-again", vmx_load(THIRD_REGION), VMX_SUCCEED);
    guest_equal("third-value", vmx_get(VMCS_GUEST_RSP), 0x5555555566666666);
    vmx_clear(THIRD_REGION);
    vmx_clear(OTHER_REGION);
    vmx_load(VMCS_REGION);
}

/* ---- Fields ------------------------------------------------------------------------------------------- */

/* Those that every processor has: first and last encoding of a run, two apart. */
static const struct {
    uint16_t first, last;
} runs[] = {
    {VMCS_GUEST_ES, VMCS_GUEST_TR},
    {VMCS_HOST_ES, VMCS_HOST_TR},
    {VMCS_IO_BITMAP_A, VMCS_IO_BITMAP_B},
    {VMCS_EXIT_MSR_STORE, VMCS_ENTRY_MSR_LOAD},
    {VMCS_TSC_OFFSET, VMCS_TSC_OFFSET},
    {VMCS_LINK_POINTER, VMCS_GUEST_DEBUGCTL},
    {VMCS_PIN, VMCS_ENTRY_EVENT_LENGTH},
    {VMCS_GUEST_ES_LIMIT, VMCS_GUEST_IDTR_LIMIT},
    {VMCS_GUEST_ES_RIGHTS, VMCS_GUEST_TR_RIGHTS},
    {VMCS_GUEST_INTERRUPTIBILITY, VMCS_GUEST_SYSENTER_CS},
    {VMCS_HOST_SYSENTER_CS, VMCS_HOST_SYSENTER_CS},
    {VMCS_CR0_MASK, VMCS_CR3_TARGET + 6},
    {VMCS_GUEST_CR0, VMCS_GUEST_SYSENTER_EIP},
    {VMCS_HOST_CR0, VMCS_HOST_RIP},
};

/* What a field keeps of ones; access rights may lose reserved bits (24.4.1). */
static uint64_t field_mask(uint16_t field)
{
    if (field >= VMCS_GUEST_ES_RIGHTS && field <= VMCS_GUEST_TR_RIGHTS)
        return 0x1f0ff;
    switch (field >> 13 & 3) {
    case 0:
        return 0xffff;
    case 2:
        return 0xffffffff;
    default:
        return ~0UL;
    }
}

static bool field_keeps(uint16_t field, uint64_t pattern)
{
    uint64_t mask = field_mask(field), value = ~pattern;

    if (mask == 0x1f0ff)
        pattern &= mask;
    return vmx_write(field, pattern) == VMX_SUCCEED && vmx_read(field, &value) == VMX_SUCCEED &&
           value == (pattern & mask);
}

static void field_rows(void)
{
    static const uint16_t information[] = {VMCS_ERROR,
                                           VMCS_EXIT_REASON,
                                           VMCS_EXIT_EVENT,
                                           VMCS_EXIT_EVENT_ERROR,
                                           VMCS_VECTORING,
                                           VMCS_VECTORING_ERROR,
                                           VMCS_EXIT_LENGTH,
                                           VMCS_EXIT_INFORMATION,
                                           VMCS_EXIT_QUALIFICATION,
                                           VMCS_IO_RCX,
                                           VMCS_IO_RSI,
                                           VMCS_IO_RDI,
                                           VMCS_IO_RIP,
                                           VMCS_LINEAR_ADDRESS};
    static const uint64_t none[] = {
        0x1000, 0x8000, BIT(32) | VMCS_GUEST_RIP, BIT(63) | VMCS_GUEST_RIP, 0x6c7e,
        0x0ffe, 0x68fe, VMCS_GUEST_RIP + 1,       VMCS_GUEST_CS + 1,        VMCS_PIN + 1};
    uint64_t value = 0;
    char name[48];

    for (unsigned i = 0; i < ARRAY_SIZE(runs); i++)
        for (uint16_t field = runs[i].first; field <= runs[i].last; field += 2) {
            format_text(name, sizeof(name), "field-%04x", field);
            guest_check(field_keeps(field, 0x5a5a5a5a5a5a5a5a) && field_keeps(field, ~0UL) &&
                            field_keeps(field, 0),
                        name, "lost");
        }

    vmx_set(VMCS_TSC_OFFSET, 0x1122334455667788);
    guest_equal("high-half-read", vmx_get(VMCS_TSC_OFFSET + 1), 0x11223344);
    vmx_set(VMCS_TSC_OFFSET + 1, 0xaabbccddeeff0011);
    guest_equal("high-half-write", vmx_get(VMCS_TSC_OFFSET), 0xeeff001155667788);
    __asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)VMCS_TSC_OFFSET) : "cc");
    guest_equal("vmread-register", value, 0xeeff001155667788);
    vmx_set(VMCS_GUEST_CS, 0x1234);
    value = ~0UL;
    __asm__ volatile("vmread %1, %0" : "+r"(value) : "r"((uint64_t)VMCS_GUEST_CS) : "cc");
    guest_equal("vmread-16-clears-register", value, 0x1234);
    value = ~0UL;
    vmx_read(VMCS_GUEST_CS, &value);
    guest_equal("vmread-16-clears-memory", value, 0x1234);

    for (unsigned i = 0; i < ARRAY_SIZE(information); i++) {
        format_text(name, sizeof(name), "information-%04x-reads", information[i]);
        guest_equal(name, vmx_read(information[i], &value), VMX_SUCCEED);
        format_text(name, sizeof(name), "information-%04x-read-only", information[i]);
        if ((rdmsr(MSR_VMX_MISC) & VMX_MISC_WRITE_ALL) != 0)
            guest_equal(name, vmx_write(information[i], 0), VMX_SUCCEED);
        else
            vmx_expect_error(name, vmx_write(information[i], 0), 13);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
        format_text(name, sizeof(name), "no-field-%lx-vmread", none[i]);
        vmx_expect_error(name, vmx_read(none[i], &value), 12);
        format_text(name, sizeof(name), "no-field-%lx-vmwrite", none[i]);
        vmx_expect_error(name, vmx_write(none[i], 0), 12);
    }
}

/* ---- Launch state ------------------------------------------------------------------------------------- */

static void launch_rows(void)
{
    uint64_t flags;

    vmx_prepare();
    vmx_expect_error("vmresume-of-clear", vmx_resume_fails(), 5);
    VMX_TRY(flags, "movl %k1, %%ss; vmlaunch", "r"(SELECTOR_DATA));
    vmx_expect_error("vmlaunch-behind-mov-ss", flags, 26);
    VMX_TRY(flags, "movl %k1, %%ss; vmresume", "r"(SELECTOR_DATA));
    vmx_expect_error("vmresume-behind-mov-ss", flags, 26);
    vmx_set(VMCS_HOST_CS, 0);
    vmx_expect_error("vmlaunch-host-state", vmx_launch_fails(), 8);
    vmx_set(VMCS_HOST_CS, SELECTOR_CODE);
    vmx_set(VMCS_CR3_TARGET_COUNT, 5);
    vmx_expect_error("vmlaunch-controls", vmx_launch_fails(), 7);
    vmx_set(VMCS_CR3_TARGET_COUNT, 0);
    vmx_expect_error("failed-launch-stays-clear", vmx_resume_fails(), 5);

    vmx_run_at(lv2_nothing);
    vmx_expect("launch", REASON_VMCALL);
    vmx_expect_error("vmlaunch-of-launched", vmx_launch_fails(), 4);
    vmx_run_at(lv2_nothing);
    vmx_expect("resume", REASON_VMCALL);
    guest_equal("vmclear-launched", vmx_clear(VMCS_REGION), VMX_SUCCEED);
    guest_equal("vmptrld-launched", vmx_load(VMCS_REGION), VMX_SUCCEED);
    vmx_expect_error("vmclear-clears-launch-state", vmx_resume_fails(), 5);
    guest_equal("launch-state-clear-again", vmx_switch(false), 0);
    guest_equal("launch-again", vmx_get(VMCS_EXIT_REASON), REASON_VMCALL);

    /* Another one becoming current does not change it. */
    vmx_load(OTHER_REGION);
    vmx_load(VMCS_REGION);
    vmx_expect_error("launched-survives-vmptrld", vmx_launch_fails(), 4);
}

/* ---- Lv2 ---------------------------------------------------------------------------------------------- */

LV2(lv2_inverts, "notq %rax; notq %rcx; notq %rdx; notq %rbx; notq %rbp; notq %rsi; notq %rdi; notq %r8\n"
                 "notq %r9; notq %r10; notq %r11; notq %r12; notq %r13; notq %r14; notq %r15");
LV2(lv2_cpuid_hlt, "cpuid; hlt");
LV2(lv2_flags, "pushq $0xad7; popfq");

static void lv2_rows(void)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", "r8",
                                        "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    uint64_t *registers = (uint64_t *)&vmx_registers;
    char name[48];

    vmx_prepare();
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        registers[i] = 0x0123456789abcdef * (i + 1);
    vmx_run_at(lv2_inverts);
    vmx_expect("inverts", REASON_VMCALL);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        format_text(name, sizeof(name), "register-%s", names[i]);
        guest_equal(name, registers[i], ~(0x0123456789abcdef * (i + 1)));
    }
    guest_equal("vmcall-length", vmx_exit.length, 3);
    guest_equal("vmcall-qualification", vmx_exit.qualification, 0);
    guest_equal("vmcall-event", vmx_exit.event & EVENT_VALID, 0);
    guest_equal("vmcall-vectoring", vmx_exit.vectoring & EVENT_VALID, 0);
    guest_equal("vmcall-rip", vmx_exit.rip, (uint64_t)lv2_inverts + 45);
    guest_equal("host-rflags", vmx_exit.host_rflags, RFLAGS_FIXED);
    guest_equal("entry-event-valid-cleared", vmx_get(VMCS_ENTRY_EVENT) & EVENT_VALID, 0);

    vmx_control(PRIMARY_HLT, true);
    vmx_run_at(lv2_cpuid_hlt);
    vmx_expect("cpuid", REASON_CPUID);
    guest_equal("cpuid-length", vmx_exit.length, 2);
    guest_equal("cpuid-rip", vmx_exit.rip, (uint64_t)lv2_cpuid_hlt);
    vmx_run_on();
    vmx_expect("hlt", REASON_HLT);
    guest_equal("hlt-length", vmx_exit.length, 1);
    guest_equal("hlt-rip", vmx_exit.rip, (uint64_t)lv2_cpuid_hlt + 2);
    vmx_run_on();
    vmx_expect("behind-hlt", REASON_VMCALL);

    vmx_run_at(lv2_flags);
    vmx_expect("flags", REASON_VMCALL);
    guest_equal("flags-saved", vmx_exit.rflags, 0xad7);
    guest_equal("flags-host", vmx_exit.host_rflags, RFLAGS_FIXED);
    vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_AC | RFLAGS_NT | RFLAGS_DF | 0x8d5);
    vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_nothing);
    vmx_run();
    vmx_expect("flags-loaded", REASON_VMCALL);
    guest_equal("flags-loaded-value", vmx_exit.rflags,
                RFLAGS_FIXED | RFLAGS_AC | RFLAGS_NT | RFLAGS_DF | 0x8d5);

    /* CPUID tells Lv2 nothing by itself: Lv1 answers. */
    vmx_registers.rax = 0;
    vmx_run_at(lv2_cpuid_hlt);
    vmx_registers.rax = 0x4c763230;
    vmx_run_on();
    guest_equal("cpuid-answer", vmx_registers.rax, 0x4c763230);
}

/* What an exit loads beside registers (27.5): descriptor tables get the largest limits, DR7 is 400H. */
static void host_state_rows(void)
{
    struct descriptor_pointer gdt = {0}, idt = {0};
    uint16_t tr = 0, ldtr = 0xffff;
    const uint64_t cr2 = 0x123456789000;

    vmx_prepare();
    write_dr7(0x400 | BIT(1));
    write_cr2(cr2);
    vmx_set(VMCS_HOST_FS_BASE, 0x1000000);
    vmx_set(VMCS_HOST_GS_BASE, 0x2000000);
    vmx_set(VMCS_HOST_SYSENTER_CS, 8);
    vmx_set(VMCS_HOST_SYSENTER_ESP, 0xffff800000001000);
    vmx_set(VMCS_HOST_SYSENTER_EIP, 0xffff800000002000);
    vmx_run_at(lv2_nothing);
    __asm__ volatile("sgdt %0; sidt %1; str %2; sldt %3" : "=m"(gdt), "=m"(idt), "=m"(tr), "=m"(ldtr));
    vmx_expect("host-state", REASON_VMCALL);
    guest_equal("host-gdtr-base", gdt.base, (uint64_t)guest_gdt);
    guest_equal("host-gdtr-limit", gdt.limit, 0xffff);
    guest_equal("host-idtr-base", idt.base, (uint64_t)guest_idt);
    guest_equal("host-idtr-limit", idt.limit, 0xffff);
    guest_equal("host-tr", tr, SELECTOR_TSS);
    guest_equal("host-ldtr", ldtr, 0);
    guest_equal("host-dr7", read_dr7(), 0x400);
    guest_equal("host-cr2-unchanged", read_cr2(), cr2);
    guest_equal("host-fs-base", rdmsr(MSR_FS_BASE), 0x1000000);
    guest_equal("host-gs-base", rdmsr(MSR_GS_BASE), 0x2000000);
    guest_equal("host-sysenter-cs", rdmsr(MSR_SYSENTER_CS), 8);
    guest_equal("host-sysenter-esp", rdmsr(MSR_SYSENTER_ESP), 0xffff800000001000);
    guest_equal("host-sysenter-eip", rdmsr(MSR_SYSENTER_EIP), 0xffff800000002000);
    vmx_prepare();
    vmx_run_at(lv2_nothing);
    guest_equal("host-fs-base-0", rdmsr(MSR_FS_BASE), 0);
}

static void vmxoff_rows(void)
{
    uint64_t value = 0;

    guest_equal("vmxoff", vmx_off(), VMX_SUCCEED);
    guest_equal("vmptrst-behind-vmxoff", vmx_store(&value), VMX_FAULT);
    TRY_PLAIN("vmxoff");
    guest_expect("vmxoff-again", VECTOR_UD, 0, 0);
    TRY("movq %0, %%cr0", : : "r"(read_cr0() & ~CR0_NE) : "memory");
    guest_expect("cr0-ne-is-free-again", NO_VECTOR, 0, 0);
    write_cr0(read_cr0() | CR0_NE);

    guest_equal("vmxon-second-time", vmx_on(VMXON_REGION), VMX_SUCCEED);
    guest_equal("vmptrst-second-time", vmx_store(&value), VMX_SUCCEED);
    guest_equal("no-vmcs-second-time", value, ~0UL);
    vmx_prepare();
    vmx_run_at(lv2_nothing);
    vmx_expect("launch-second-time", REASON_VMCALL);
    guest_equal("vmclear-before-vmxoff", vmx_clear(VMCS_REGION), VMX_SUCCEED);
    guest_equal("vmxoff-second-time", vmx_off(), VMX_SUCCEED);
    TRY("movq %0, %%cr4", : : "r"(read_cr4() & ~CR4_VMXE) : "memory");
    guest_expect("cr4-vmxe-is-free-again", NO_VECTOR, 0, 0);
}

void guest_main(void)
{
    CHECK("cpuid-vmx", (cpuid(1, 0).ecx & BIT(5)) != 0);
    if (!vmx_exists())
        return;
    vmx_regions[4][0] = (uint32_t)rdmsr(MSR_VMX_BASIC) ^ 1;
    capability_rows();
    feature_control_rows();
    vmxon_rows();
    in_operation_rows();
    instruction_rows("user", SELECTOR_USER_CODE, VECTOR_GP);
    instruction_rows("compatibility", SELECTOR_CODE32, VECTOR_UD);
    pointer_rows();
    operand_rows();
    field_rows();
    launch_rows();
    lv2_rows();
    host_state_rows();
    vmxoff_rows();
}
