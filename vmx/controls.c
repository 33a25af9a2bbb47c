// SPDX-License-Identifier: BSD-2-Clause
#include "vmx/controls.h"

#include "arch/x86/cpuid.h"
#include "lib/errors.h"

enum want {
    WANT_REQUIRED,
    WANT_PREFERRED,
    WANT_DEMANDED,
    WANT_BY_REGIME,
    WANT_RUNTIME,
    WANT_BY_MODE,
    WANT_NEVER,
};

struct control {
    uint8_t word; /* enum vmx_word */
    uint8_t want; /* enum want */
    uint32_t mask;
    const char *name;
    const char *reason;
    const char *missing;  /* the obstacle, if this one is required and cannot be had */
    const char *insisted; /* the obstacle, if this one is not wanted and cannot be left out */
};

static const struct control table[VMX_CONTROL_ROWS] = {
#define X(WORD, BIT, NAME, TEXT, WANT, WHY)                                                                  \
    {.word = VMX_WORD_##WORD,                                                                                \
     .want = WANT_##WANT,                                                                                    \
     .mask = 1U << (BIT),                                                                                    \
     .name = TEXT,                                                                                           \
     .reason = WHY,                                                                                          \
     .missing = "this processor lacks the VMX control \"" TEXT "\"",                                         \
     .insisted = "this processor insists on the VMX control \"" TEXT "\""},
    VMX_CONTROLS(X)
#undef X
};

/*
 * A control that may be 1 only if another one is (SDM vol. 3, 26.2.1). Those that follow a mode are seen to
 * in vmx/apicv.c. IA32_EFER and IA32_PAT are switched by the VMCS wholly or not at all, and with EPT they
 * must be: nothing else keeps the guest's apart from Umbra's there. A row comes after those on what it needs.
 */
static const struct {
    uint8_t row;
    uint8_t needs;
} dependencies[] = {
    {VMX_CONTROL_PIN_VIRTUAL_NMIS, VMX_CONTROL_PIN_NMI_EXITING},
    {VMX_CONTROL_PRIMARY_NMI_WINDOW_EXITING, VMX_CONTROL_PIN_VIRTUAL_NMIS},
    {VMX_CONTROL_SECONDARY_EPT, VMX_CONTROL_EXIT_SAVE_PAT},
    {VMX_CONTROL_SECONDARY_EPT, VMX_CONTROL_EXIT_LOAD_PAT},
    {VMX_CONTROL_SECONDARY_EPT, VMX_CONTROL_ENTRY_LOAD_PAT},
    {VMX_CONTROL_SECONDARY_EPT, VMX_CONTROL_EXIT_SAVE_EFER},
    {VMX_CONTROL_SECONDARY_EPT, VMX_CONTROL_EXIT_LOAD_EFER},
    {VMX_CONTROL_SECONDARY_EPT, VMX_CONTROL_ENTRY_LOAD_EFER},
    {VMX_CONTROL_ENTRY_LOAD_PAT, VMX_CONTROL_EXIT_SAVE_PAT},
    {VMX_CONTROL_ENTRY_LOAD_PAT, VMX_CONTROL_EXIT_LOAD_PAT},
    {VMX_CONTROL_EXIT_SAVE_PAT, VMX_CONTROL_ENTRY_LOAD_PAT},
    {VMX_CONTROL_EXIT_LOAD_PAT, VMX_CONTROL_ENTRY_LOAD_PAT},
    {VMX_CONTROL_ENTRY_LOAD_EFER, VMX_CONTROL_EXIT_SAVE_EFER},
    {VMX_CONTROL_ENTRY_LOAD_EFER, VMX_CONTROL_EXIT_LOAD_EFER},
    {VMX_CONTROL_EXIT_SAVE_EFER, VMX_CONTROL_ENTRY_LOAD_EFER},
    {VMX_CONTROL_EXIT_LOAD_EFER, VMX_CONTROL_ENTRY_LOAD_EFER},
    {VMX_CONTROL_SECONDARY_UNRESTRICTED_GUEST, VMX_CONTROL_SECONDARY_EPT},
    {VMX_CONTROL_SECONDARY_MODE_BASED_EXECUTE, VMX_CONTROL_SECONDARY_EPT},
    {VMX_CONTROL_EXIT_SAVE_PREEMPTION_TIMER, VMX_CONTROL_PIN_PREEMPTION_TIMER},
};

/* ---- Reading ----------------------------------------------------------------------------------------- */

/*
 * Where the allowed settings of a word are reported (SDM vol. 3, A.3 to A.5). Words of 32 bits have "must" in
 * bits 31:0 and "may" in bits 63:32; words of 64 bits have "may" only. A word comes after the one it depends
 * on.
 */
static const struct {
    uint32_t msr;
    bool has_true;       /* a TRUE register stands TRUE_DISTANCE above it, where IA32_VMX_BASIC says so */
    bool wide;           /* 64 bits */
    uint8_t parent_word; /* the word is there if this control of another word may be 1 */
    uint32_t parent_mask;
} words[VMX_WORDS] = {
    {MSR_IA32_VMX_PINBASED_CTLS, true, false, 0, 0},
    {MSR_IA32_VMX_PROCBASED_CTLS, true, false, 0, 0},
    {MSR_IA32_VMX_PROCBASED_CTLS2, false, false, VMX_WORD_PRIMARY, VMX_PRIMARY_SECONDARY_CONTROLS},
    {MSR_IA32_VMX_PROCBASED_CTLS3, false, true, VMX_WORD_PRIMARY, VMX_PRIMARY_TERTIARY_CONTROLS},
    {MSR_IA32_VMX_EXIT_CTLS, true, false, 0, 0},
    {MSR_IA32_VMX_EXIT_CTLS2, false, true, VMX_WORD_EXIT, VMX_EXIT_SECONDARY_CONTROLS},
    {MSR_IA32_VMX_ENTRY_CTLS, true, false, 0, 0},
};

#define TRUE_DISTANCE (MSR_IA32_VMX_TRUE_PINBASED_CTLS - MSR_IA32_VMX_PINBASED_CTLS)

uint64_t vmx_controls_must(const struct vmx_capabilities *capabilities, enum vmx_word word)
{
    return words[word].wide ? 0 : capabilities->controls[word] & 0xffffffff;
}

uint64_t vmx_controls_may(const struct vmx_capabilities *capabilities, enum vmx_word word)
{
    return words[word].wide ? capabilities->controls[word] : capabilities->controls[word] >> 32;
}

void vmx_capabilities_read(struct vmx_capabilities *capabilities, const struct vmx_msr_ops *ops)
{
    uint32_t features = ops->cpuid(1, 0).ecx;
    bool has_true;

    *capabilities =
        (struct vmx_capabilities){.intel_vmx = features & CPUID_1_ECX_VMX, .smx = features & CPUID_1_ECX_SMX};
    if (!capabilities->intel_vmx)
        return;

    capabilities->feature_control = ops->rdmsr(MSR_IA32_FEATURE_CONTROL);
    capabilities->basic = ops->rdmsr(MSR_IA32_VMX_BASIC);
    capabilities->misc = ops->rdmsr(MSR_IA32_VMX_MISC);
    capabilities->cr0_fixed0 = ops->rdmsr(MSR_IA32_VMX_CR0_FIXED0);
    capabilities->cr0_fixed1 = ops->rdmsr(MSR_IA32_VMX_CR0_FIXED1);
    capabilities->cr4_fixed0 = ops->rdmsr(MSR_IA32_VMX_CR4_FIXED0);
    capabilities->cr4_fixed1 = ops->rdmsr(MSR_IA32_VMX_CR4_FIXED1);
    capabilities->vmcs_enum = ops->rdmsr(MSR_IA32_VMX_VMCS_ENUM);

    has_true = capabilities->basic & VMX_BASIC_TRUE_CONTROLS;
    for (unsigned word = 0; word < VMX_WORDS; word++) {
        if (words[word].parent_mask != 0 &&
            !vmx_controls_available(capabilities, (enum vmx_word)words[word].parent_word,
                                    words[word].parent_mask))
            continue;
        capabilities->controls[word] =
            ops->rdmsr(words[word].msr + (has_true && words[word].has_true ? TRUE_DISTANCE : 0));
    }
    if (vmx_controls_may(capabilities, VMX_WORD_SECONDARY) & (VMX_SECONDARY_EPT | VMX_SECONDARY_VPID))
        capabilities->ept_vpid = ops->rdmsr(MSR_IA32_VMX_EPT_VPID_CAP);
    if (vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_VM_FUNCTIONS))
        capabilities->vmfunc = ops->rdmsr(MSR_IA32_VMX_VMFUNC);
}

/* ---- Obstacles --------------------------------------------------------------------------------------- */

static bool has_vmx(const struct vmx_capabilities *c)
{
    return c->intel_vmx;
}

/* Not locked is as good as on: Umbra sets the bit and locks the register itself. */
static bool firmware_permits(const struct vmx_capabilities *c)
{
    return !(c->feature_control & FEATURE_CONTROL_LOCKED) ||
           (c->feature_control & FEATURE_CONTROL_VMXON_OUTSIDE_SMX);
}

static bool has_wb_vmcs(const struct vmx_capabilities *c)
{
    return (c->basic >> VMX_BASIC_TYPE_SHIFT & VMX_BASIC_TYPE_MASK) == MEMORY_TYPE_WB;
}

static bool has_wide_addresses(const struct vmx_capabilities *c)
{
    return !(c->basic & VMX_BASIC_32BIT_ADDRESS);
}

static bool has_ept_format(const struct vmx_capabilities *c)
{
    return (c->ept_vpid & VMX_EPT_WALK_4) && (c->ept_vpid & VMX_EPT_MEMORY_WB);
}

static bool has_invept(const struct vmx_capabilities *c)
{
    return (c->ept_vpid & VMX_EPT_INVEPT) && (c->ept_vpid & (VMX_EPT_INVEPT_SINGLE | VMX_EPT_INVEPT_ALL));
}

static bool switches_pat(const struct vmx_capabilities *c)
{
    return vmx_controls_available(c, VMX_WORD_EXIT, VMX_EXIT_SAVE_PAT | VMX_EXIT_LOAD_PAT) &&
           vmx_controls_available(c, VMX_WORD_ENTRY, VMX_ENTRY_LOAD_PAT);
}

bool vmx_capabilities_switch_efer(const struct vmx_capabilities *capabilities)
{
    return vmx_controls_available(capabilities, VMX_WORD_EXIT, VMX_EXIT_SAVE_EFER | VMX_EXIT_LOAD_EFER) &&
           vmx_controls_available(capabilities, VMX_WORD_ENTRY, VMX_ENTRY_LOAD_EFER);
}

/* The exits that shadow paging needs and EPT does without, and what it is done instead of. */
#define SHADOW_PRIMARY                                                                                       \
    (VMX_PRIMARY_CR3_LOAD_EXITING | VMX_PRIMARY_CR3_STORE_EXITING | VMX_PRIMARY_INVLPG_EXITING)
#define NESTED_PAGING (VMX_SECONDARY_EPT | VMX_SECONDARY_UNRESTRICTED_GUEST)

bool vmx_capabilities_have_ept(const struct vmx_capabilities *capabilities)
{
    return vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_EPT) &&
           has_ept_format(capabilities) && has_invept(capabilities) &&
           vmx_capabilities_switch_efer(capabilities) && switches_pat(capabilities) &&
           (vmx_controls_must(capabilities, VMX_WORD_PRIMARY) & SHADOW_PRIMARY) == 0;
}

bool vmx_capabilities_have_unrestricted_guest(const struct vmx_capabilities *capabilities)
{
    return vmx_capabilities_have_ept(capabilities) &&
           vmx_controls_available(capabilities, VMX_WORD_SECONDARY, VMX_SECONDARY_UNRESTRICTED_GUEST);
}

bool vmx_capabilities_have_shadow(const struct vmx_capabilities *capabilities)
{
    return vmx_controls_available(capabilities, VMX_WORD_PRIMARY, SHADOW_PRIMARY) &&
           (vmx_controls_must(capabilities, VMX_WORD_SECONDARY) & NESTED_PAGING) == 0;
}

static bool has_translation(const struct vmx_capabilities *c)
{
    return vmx_capabilities_have_ept(c) || vmx_capabilities_have_shadow(c);
}

/* From what hides everything else to what is rarest. Controls that are missing come after them, by name. */
static const struct {
    bool (*overcome)(const struct vmx_capabilities *c);
    const char *message;
} obstacles[] = {
    {has_vmx, "this processor has no VT-x"},
    {firmware_permits, "VT-x is locked off: turn it on in the firmware's settings"},
    {has_wb_vmcs, "this processor does not keep VMCSs in write-back memory"},
    {has_wide_addresses, "this processor keeps VMCSs below 4 GiB only"},
    {has_translation,
     "this processor has neither EPT as Umbra needs it nor the exits that shadow paging needs"},
};

const char *vmx_capabilities_obstacle(const struct vmx_capabilities *capabilities)
{
    for (unsigned i = 0; i < ARRAY_SIZE(obstacles); i++) {
        if (!obstacles[i].overcome(capabilities))
            return obstacles[i].message;
    }
    for (unsigned i = 0; i < VMX_CONTROL_ROWS; i++) {
        const struct control *control = &table[i];
        enum vmx_word word = (enum vmx_word)control->word;
        bool needed = control->want == WANT_REQUIRED || control->want == WANT_RUNTIME;
        bool welcome = control->want == WANT_REQUIRED || control->want == WANT_PREFERRED ||
                       control->want == WANT_BY_REGIME;

        if (needed && !vmx_controls_available(capabilities, word, control->mask))
            return control->missing;
        if (!welcome && (vmx_controls_must(capabilities, word) & control->mask))
            return control->insisted;
    }
    return NULL;
}

/* ---- Control words ----------------------------------------------------------------------------------- */

static bool is_demanded(const struct vmx_demands *demands, const struct control *control)
{
    return demands != NULL && (demands->words[control->word] & control->mask);
}

/* Decides one row; 0, or the error that vmx_controls_compute gives. */
static int decide(struct vmx_controls *controls, const struct vmx_capabilities *capabilities,
                  const struct vmx_demands *demands, const struct control *control)
{
    enum vmx_word word = (enum vmx_word)control->word;
    bool may = vmx_controls_available(capabilities, word, control->mask);
    bool must = vmx_controls_must(capabilities, word) & control->mask;
    bool demanded = is_demanded(demands, control);

    if (demanded && control->want != WANT_DEMANDED && control->want != WANT_BY_REGIME)
        return -EINVAL;
    switch ((enum want)control->want) {
    case WANT_REQUIRED:
        if (!may)
            return -EOPNOTSUPP;
        controls->words[word] |= control->mask;
        return 0;
    case WANT_PREFERRED:
        if (may)
            controls->words[word] |= control->mask;
        return 0;
    case WANT_DEMANDED:
    case WANT_BY_REGIME:
        if (demanded && !may)
            return -EOPNOTSUPP;
        if (demanded)
            controls->words[word] |= control->mask;
        break;
    case WANT_RUNTIME:
        if (!may)
            return -EOPNOTSUPP;
        break;
    case WANT_BY_MODE:
    case WANT_NEVER:
        break;
    }
    return must && !demanded ? -EBUSY : 0;
}

int vmx_controls_compute(struct vmx_controls *controls, const struct vmx_capabilities *capabilities,
                         const struct vmx_demands *demands, const char **culprit)
{
    *controls = (struct vmx_controls){0};
    for (unsigned i = 0; i < VMX_CONTROL_ROWS; i++) {
        int error = decide(controls, capabilities, demands, &table[i]);

        if (error != 0) {
            if (culprit != NULL)
                *culprit = table[i].name;
            return error;
        }
    }

    for (unsigned i = 0; i < ARRAY_SIZE(dependencies); i++) {
        const struct control *control = &table[dependencies[i].row];
        const struct control *needs = &table[dependencies[i].needs];

        if (!vmx_controls_have(controls, (enum vmx_word)control->word, control->mask) ||
            vmx_controls_have(controls, (enum vmx_word)needs->word, needs->mask))
            continue;
        if (control->want != WANT_PREFERRED) {
            if (culprit != NULL)
                *culprit = needs->name;
            return -EOPNOTSUPP;
        }
        controls->words[control->word] &= ~(uint64_t)control->mask;
    }

    /* A VPID is of use only with a way to drop its translations. */
    if (!(capabilities->ept_vpid & VMX_VPID_INVVPID) ||
        !(capabilities->ept_vpid & (VMX_VPID_INVVPID_SINGLE | VMX_VPID_INVVPID_ALL)))
        controls->words[VMX_WORD_SECONDARY] &= ~(uint64_t)VMX_SECONDARY_VPID;

    /* What the processor insists on and the table does not know are the reserved bits of the default-1 class.
     */
    for (unsigned word = 0; word < VMX_WORDS; word++)
        controls->words[word] |= vmx_controls_must(capabilities, (enum vmx_word)word);
    return 0;
}

/* ---- Words for people -------------------------------------------------------------------------------- */

const char *vmx_control_name(enum vmx_control_row row)
{
    return table[row].name;
}

const char *vmx_control_reason(enum vmx_control_row row)
{
    return table[row].reason;
}

/* The registers that tell of other capabilities than controls, in the order of vmx_capabilities_describe. */
enum feature_source {
    SOURCE_BASIC,
    SOURCE_MISC,
    SOURCE_EPT_VPID,
};

/* Capabilities that are not controls. */
static const struct {
    const char *name;
    uint8_t source; /* enum feature_source */
    uint64_t mask;
} features[] = {
    {"TRUE controls", SOURCE_BASIC, VMX_BASIC_TRUE_CONTROLS},
    {"dual-monitor treatment of SMIs", SOURCE_BASIC, VMX_BASIC_DUAL_MONITOR},
    {"exit information for INS and OUTS", SOURCE_BASIC, VMX_BASIC_INS_OUTS_INFO},
    {"injection with any error code", SOURCE_BASIC, VMX_BASIC_ANY_ERROR_CODE},
    {"IA32_EFER.LMA saved on exit", SOURCE_MISC, VMX_MISC_STORE_LMA},
    {"activity state HLT", SOURCE_MISC, VMX_MISC_ACTIVITY_HLT},
    {"activity state shutdown", SOURCE_MISC, VMX_MISC_ACTIVITY_SHUTDOWN},
    {"activity state wait-for-SIPI", SOURCE_MISC, VMX_MISC_ACTIVITY_SIPI},
    {"VMWRITE to any field", SOURCE_MISC, VMX_MISC_VMWRITE_ANY},
    {"injection with instruction length 0", SOURCE_MISC, VMX_MISC_INJECT_ZERO_LENGTH},
    {"EPT: execute-only pages", SOURCE_EPT_VPID, VMX_EPT_EXECUTE_ONLY},
    {"EPT: four levels", SOURCE_EPT_VPID, VMX_EPT_WALK_4},
    {"EPT: five levels", SOURCE_EPT_VPID, VMX_EPT_WALK_5},
    {"EPT: tables in uncached memory", SOURCE_EPT_VPID, VMX_EPT_MEMORY_UC},
    {"EPT: tables in write-back memory", SOURCE_EPT_VPID, VMX_EPT_MEMORY_WB},
    {"EPT: 2 MiB pages", SOURCE_EPT_VPID, VMX_EPT_PAGE_2M},
    {"EPT: 1 GiB pages", SOURCE_EPT_VPID, VMX_EPT_PAGE_1G},
    {"EPT: accessed and dirty flags", SOURCE_EPT_VPID, VMX_EPT_ACCESSED_DIRTY},
    {"EPT: advanced exit information", SOURCE_EPT_VPID, VMX_EPT_ADVANCED_EXIT_INFO},
    {"EPT: supervisor shadow stacks", SOURCE_EPT_VPID, VMX_EPT_SUPERVISOR_SHADOW_STACK},
    {"INVEPT", SOURCE_EPT_VPID, VMX_EPT_INVEPT},
    {"INVEPT of one context", SOURCE_EPT_VPID, VMX_EPT_INVEPT_SINGLE},
    {"INVEPT of all contexts", SOURCE_EPT_VPID, VMX_EPT_INVEPT_ALL},
    {"INVVPID", SOURCE_EPT_VPID, VMX_VPID_INVVPID},
    {"INVVPID of one address", SOURCE_EPT_VPID, VMX_VPID_INVVPID_ADDRESS},
    {"INVVPID of one context", SOURCE_EPT_VPID, VMX_VPID_INVVPID_SINGLE},
    {"INVVPID of all contexts", SOURCE_EPT_VPID, VMX_VPID_INVVPID_ALL},
    {"INVVPID of one context but globals", SOURCE_EPT_VPID, VMX_VPID_INVVPID_RETAIN_GLOBALS},
};

const char *vmx_capabilities_describe(const struct vmx_capabilities *capabilities, unsigned n, bool *present)
{
    if (n < ARRAY_SIZE(features)) {
        const uint64_t sources[] = {capabilities->basic, capabilities->misc, capabilities->ept_vpid};

        *present = sources[features[n].source] & features[n].mask;
        return features[n].name;
    }
    n -= ARRAY_SIZE(features);
    if (n < VMX_CONTROL_ROWS) {
        *present = vmx_controls_available(capabilities, (enum vmx_word)table[n].word, table[n].mask);
        return table[n].name;
    }
    return NULL;
}
