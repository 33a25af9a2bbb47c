// SPDX-License-Identifier: BSD-2-Clause
#include "tests/guests/lib/vmx.h"

#include "lib/printf.h"
#include "lib/string.h"

uint32_t vmx_regions[VMX_REGIONS][1024] __aligned(4096);
struct vmx_exit vmx_exit;
static bool launched;

#define LV2_STACK_SIZE 8192
static char lv2_stack[LV2_STACK_SIZE] __aligned(16);
static char lv1_stack[64] __aligned(16); /* the host RSP: vmx_returned leaves it at once */

/* ---- Instructions ------------------------------------------------------------------------------------- */

uint64_t vmx_on(uint64_t region)
{
    uint64_t flags;

    VMX_TRY(flags, "vmxon %1", "m"(region));
    return flags;
}

uint64_t vmx_clear(uint64_t region)
{
    uint64_t flags;

    VMX_TRY(flags, "vmclear %1", "m"(region));
    return flags;
}

uint64_t vmx_load(uint64_t region)
{
    uint64_t flags;

    VMX_TRY(flags, "vmptrld %1", "m"(region));
    return flags;
}

uint64_t vmx_store(uint64_t *region)
{
    uint64_t flags;

    VMX_TRY(flags, "vmptrst (%1)", "r"(region));
    return flags;
}

uint64_t vmx_off(void)
{
    uint64_t flags;

    VMX_TRY(flags, "vmxoff", "i"(0));
    return flags;
}

uint64_t vmx_read(uint64_t field, uint64_t *value)
{
    uint64_t flags;

    VMX_TRY(flags, "vmread %1, (%2)", "r"(field), "r"(value));
    return flags;
}

uint64_t vmx_write(uint64_t field, uint64_t value)
{
    uint64_t flags;

    VMX_TRY(flags, "vmwrite %2, %1", "r"(field), "r"(value));
    return flags;
}

uint64_t vmx_launch_fails(void)
{
    uint64_t flags;

    VMX_TRY(flags, "vmlaunch", "i"(0));
    return flags;
}

uint64_t vmx_resume_fails(void)
{
    uint64_t flags;

    VMX_TRY(flags, "vmresume", "i"(0));
    return flags;
}

uint64_t vmx_invept(uint64_t type, uint64_t first, uint64_t second)
{
    const uint64_t descriptor[2] = {first, second};
    uint64_t flags;

    VMX_TRY(flags, "invept %1, %2", "m"(descriptor), "r"(type));
    return flags;
}

uint64_t vmx_invvpid(uint64_t type, uint64_t first, uint64_t second)
{
    const uint64_t descriptor[2] = {first, second};
    uint64_t flags;

    VMX_TRY(flags, "invvpid %1, %2", "m"(descriptor), "r"(type));
    return flags;
}

static void must(const char *what, uint64_t flags, uint64_t argument)
{
    if (flags == VMX_SUCCEED)
        return;
    guest_check(false, "vmx", "%s %#lx: %#lx, vector %d", what, argument, flags, guest_fault.vector);
    guest_finish();
}

uint64_t vmx_get(uint64_t field)
{
    uint64_t value = 0;

    must("vmread", vmx_read(field, &value), field);
    return value;
}

void vmx_set(uint64_t field, uint64_t value)
{
    must("vmwrite", vmx_write(field, value), field);
}

void vmx_expect_error(const char *name, uint64_t outcome, unsigned error)
{
    uint64_t seen = ~0UL;

    if (outcome == VMX_FAIL_VALID)
        seen = vmx_get(VMCS_ERROR);
    guest_check(seen == error, name, "flags %#lx error %ld vector %d, not error %u", outcome, (long)seen,
                guest_fault.vector, error);
}

/* ---- Controls ----------------------------------------------------------------------------------------- */

uint64_t vmx_allowed(unsigned word)
{
    bool true_ones = (rdmsr(MSR_VMX_BASIC) & VMX_BASIC_TRUE) != 0;
    uint32_t msr = word == VMCS_PIN       ? MSR_VMX_PIN
                   : word == VMCS_PRIMARY ? MSR_VMX_PRIMARY
                   : word == VMCS_EXIT    ? MSR_VMX_EXIT
                                          : MSR_VMX_ENTRY;

    if (word == VMCS_SECONDARY)
        return vmx_may_set(PRIMARY_SECONDARY) ? rdmsr(MSR_VMX_SECONDARY) : 0;
    return rdmsr(true_ones ? msr - MSR_VMX_PIN + MSR_VMX_TRUE_PIN : msr);
}

bool vmx_may_set(unsigned word, unsigned bit)
{
    return (vmx_allowed(word) >> 32 & BIT(bit)) != 0;
}

bool vmx_may_clear(unsigned word, unsigned bit)
{
    return (vmx_allowed(word) & BIT(bit)) == 0;
}

bool vmx_offered(const char *name, unsigned word, unsigned bit)
{
    char row[48];

    if (vmx_may_set(word, bit))
        return true;
    format_text(row, sizeof(row), "%s-not-offered", name);
    guest_differs(row, 1);
    return false;
}

void vmx_control(unsigned word, unsigned bit, bool on)
{
    uint64_t value = vmx_get(word);

    vmx_set(word, on ? value | BIT(bit) : value & ~BIT(bit));
    if (word == VMCS_SECONDARY && on)
        vmx_control(PRIMARY_SECONDARY, true);
}

/* ---- VMX operation ------------------------------------------------------------------------------------ */

bool vmx_exists(void)
{
    if ((cpuid(1, 0).ecx & BIT(5)) == 0)
        return false;
    if ((rdmsr(MSR_FEATURE_CONTROL) & FEATURE_CONTROL_LOCKED) == 0)
        wrmsr(MSR_FEATURE_CONTROL, FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMXON);
    for (unsigned i = 0; i < VMX_REGIONS; i++)
        vmx_regions[i][0] = (uint32_t)rdmsr(MSR_VMX_BASIC);
    return true;
}

void vmx_enable(void)
{
    write_cr4(read_cr4() | CR4_VMXE);
    must("vmxon", vmx_on(VMXON_REGION), VMXON_REGION);
}

/* ---- Lv2 ---------------------------------------------------------------------------------------------- */

#define RIGHTS_CODE     0xa09b /* long, accessed */
#define RIGHTS_DATA     0xc093
#define RIGHTS_TSS      0x008b
#define RIGHTS_UNUSABLE 0x10000
#define FLAT_LIMIT      0xffffffff

static void prepare_controls(void)
{
    static const unsigned words[] = {VMCS_PIN, VMCS_PRIMARY, VMCS_EXIT, VMCS_ENTRY};

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        vmx_set(words[i], (uint32_t)vmx_allowed(words[i]));
    if (vmx_may_set(PRIMARY_SECONDARY))
        vmx_set(VMCS_SECONDARY, (uint32_t)vmx_allowed(VMCS_SECONDARY));
    vmx_control(EXIT_HOST_64, true);
    vmx_control(ENTRY_IA32E, true);
    vmx_set(VMCS_EXCEPTION_BITMAP, 0);
    vmx_set(VMCS_PF_MASK, 0);
    vmx_set(VMCS_PF_MATCH, 0);
    vmx_set(VMCS_CR3_TARGET_COUNT, 0);
    vmx_set(VMCS_EXIT_MSR_STORE_COUNT, 0);
    vmx_set(VMCS_EXIT_MSR_LOAD_COUNT, 0);
    vmx_set(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
    vmx_set(VMCS_ENTRY_EVENT, 0);
    vmx_set(VMCS_CR0_MASK, 0);
    vmx_set(VMCS_CR4_MASK, 0);
    vmx_set(VMCS_CR0_SHADOW, 0);
    vmx_set(VMCS_CR4_SHADOW, 0);
    vmx_set(VMCS_TSC_OFFSET, 0);
    vmx_set(VMCS_LINK_POINTER, ~0UL);
}

static void prepare_host(void)
{
    vmx_set(VMCS_HOST_CR0, read_cr0());
    vmx_set(VMCS_HOST_CR3, read_cr3());
    vmx_set(VMCS_HOST_CR4, read_cr4());
    vmx_set(VMCS_HOST_CS, SELECTOR_CODE);
    vmx_set(VMCS_HOST_SS, SELECTOR_DATA);
    vmx_set(VMCS_HOST_DS, SELECTOR_DATA);
    vmx_set(VMCS_HOST_ES, SELECTOR_DATA);
    vmx_set(VMCS_HOST_FS, 0);
    vmx_set(VMCS_HOST_GS, 0);
    vmx_set(VMCS_HOST_TR, SELECTOR_TSS);
    vmx_set(VMCS_HOST_FS_BASE, 0);
    vmx_set(VMCS_HOST_GS_BASE, 0);
    vmx_set(VMCS_HOST_TR_BASE, (uint64_t)&guest_tss);
    vmx_set(VMCS_HOST_GDTR_BASE, (uint64_t)guest_gdt);
    vmx_set(VMCS_HOST_IDTR_BASE, (uint64_t)guest_idt);
    vmx_set(VMCS_HOST_SYSENTER_CS, 0);
    vmx_set(VMCS_HOST_SYSENTER_ESP, 0);
    vmx_set(VMCS_HOST_SYSENTER_EIP, 0);
    vmx_set(VMCS_HOST_RSP, (uint64_t)lv1_stack + sizeof(lv1_stack));
    vmx_set(VMCS_HOST_RIP, (uint64_t)vmx_returned);
}

static void prepare_segments(void)
{
    static const struct {
        uint16_t selector;
        uint32_t limit, rights;
    } segments[] = {
        {SELECTOR_DATA, FLAT_LIMIT, RIGHTS_DATA},
        {SELECTOR_CODE, FLAT_LIMIT, RIGHTS_CODE},
        {SELECTOR_DATA, FLAT_LIMIT, RIGHTS_DATA},
        {SELECTOR_DATA, FLAT_LIMIT, RIGHTS_DATA},
        {0, FLAT_LIMIT, RIGHTS_UNUSABLE},
        {0, FLAT_LIMIT, RIGHTS_UNUSABLE},
        {0, 0, RIGHTS_UNUSABLE},
        {SELECTOR_TSS, sizeof(guest_tss) - 1, RIGHTS_TSS},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(segments); i++) {
        vmx_set(VMCS_GUEST_ES + 2 * i, segments[i].selector);
        vmx_set(VMCS_GUEST_ES_LIMIT + 2 * i, segments[i].limit);
        vmx_set(VMCS_GUEST_ES_RIGHTS + 2 * i, segments[i].rights);
        vmx_set(VMCS_GUEST_ES_BASE + 2 * i, 0);
    }
    vmx_set(VMCS_GUEST_TR_BASE, (uint64_t)&guest_tss);
    vmx_set(VMCS_GUEST_GDTR_BASE, (uint64_t)guest_gdt);
    vmx_set(VMCS_GUEST_GDTR_LIMIT, sizeof(guest_gdt) - 1);
    vmx_set(VMCS_GUEST_IDTR_BASE, (uint64_t)guest_idt);
    vmx_set(VMCS_GUEST_IDTR_LIMIT, sizeof(guest_idt) - 1);
}

static void prepare_guest(void)
{
    vmx_set(VMCS_GUEST_CR0, read_cr0());
    vmx_set(VMCS_GUEST_CR3, read_cr3());
    vmx_set(VMCS_GUEST_CR4, read_cr4());
    vmx_set(VMCS_GUEST_DR7, 0x400);
    vmx_set(VMCS_GUEST_DEBUGCTL, 0);
    vmx_set(VMCS_GUEST_RSP, (uint64_t)lv2_stack + LV2_STACK_SIZE);
    vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_nothing);
    vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
    vmx_set(VMCS_GUEST_PENDING_DEBUG, 0);
    vmx_set(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmx_set(VMCS_GUEST_ACTIVITY, 0);
    vmx_set(VMCS_GUEST_SMBASE, 0);
    vmx_set(VMCS_GUEST_SYSENTER_CS, 0);
    vmx_set(VMCS_GUEST_SYSENTER_ESP, 0);
    vmx_set(VMCS_GUEST_SYSENTER_EIP, 0);
}

void vmx_prepare(void)
{
    must("vmclear", vmx_clear(VMCS_REGION), VMCS_REGION);
    must("vmptrld", vmx_load(VMCS_REGION), VMCS_REGION);
    launched = false;
    memset(&vmx_registers, 0, sizeof(vmx_registers));
    prepare_controls();
    prepare_host();
    prepare_segments();
    prepare_guest();
}

void vmx_run(void)
{
    memset(&vmx_exit, 0, sizeof(vmx_exit));
    vmx_exit.outcome = vmx_switch(launched) & VMX_FLAGS;
    if (vmx_exit.outcome == VMX_FAIL_VALID)
        vmx_exit.error = vmx_get(VMCS_ERROR);
    if (vmx_exit.outcome != VMX_SUCCEED)
        return;
    vmx_exit.reason = vmx_get(VMCS_EXIT_REASON);
    if ((vmx_exit.reason & REASON_ENTRY_FAILURE) == 0)
        launched = true;
    vmx_exit.qualification = vmx_get(VMCS_EXIT_QUALIFICATION);
    vmx_exit.length = vmx_get(VMCS_EXIT_LENGTH);
    vmx_exit.information = vmx_get(VMCS_EXIT_INFORMATION);
    vmx_exit.event = vmx_get(VMCS_EXIT_EVENT);
    vmx_exit.event_error = vmx_get(VMCS_EXIT_EVENT_ERROR);
    vmx_exit.vectoring = vmx_get(VMCS_VECTORING);
    vmx_exit.vectoring_error = vmx_get(VMCS_VECTORING_ERROR);
    vmx_exit.linear = vmx_get(VMCS_LINEAR_ADDRESS);
    vmx_exit.rip = vmx_get(VMCS_GUEST_RIP);
    vmx_exit.rflags = vmx_get(VMCS_GUEST_RFLAGS);
    vmx_exit.host_rflags = vmx_host_rflags;
}

void vmx_run_at(const char *entry)
{
    vmx_set(VMCS_GUEST_RIP, (uint64_t)entry);
    vmx_set(VMCS_GUEST_RSP, (uint64_t)lv2_stack + LV2_STACK_SIZE);
    vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
    vmx_run();
}

void vmx_run_with(const char *entry, uint64_t rdi)
{
    vmx_registers.rdi = rdi;
    vmx_run_at(entry);
}

void vmx_run_on(void)
{
    vmx_set(VMCS_GUEST_RIP, vmx_exit.rip + vmx_exit.length);
    vmx_run();
}

void vmx_expect(const char *name, uint64_t reason)
{
    guest_check(vmx_exit.outcome == VMX_SUCCEED && vmx_exit.reason == reason, name,
                "outcome %#lx error %lu reason %#lx qualification %#lx event %#lx error %#lx rip %#lx, not "
                "reason %lu",
                vmx_exit.outcome, vmx_exit.error, vmx_exit.reason, vmx_exit.qualification, vmx_exit.event,
                vmx_exit.event_error, vmx_exit.rip, reason);
}

void vmx_expect_qualification(const char *name, uint64_t reason, uint64_t qualification)
{
    if (vmx_exit.outcome == VMX_SUCCEED && vmx_exit.reason == reason)
        guest_equal(name, vmx_exit.qualification, qualification);
    else
        vmx_expect(name, reason);
}

void vmx_expect_event(const char *name, uint64_t event, uint64_t error)
{
    bool good = vmx_exit.outcome == VMX_SUCCEED && vmx_exit.reason == REASON_EXCEPTION &&
                vmx_exit.event == event && ((event & EVENT_ERROR) == 0 || vmx_exit.event_error == error);

    guest_check(good, name, "outcome %#lx reason %#lx event %#lx error %#lx, not event %#lx error %#lx",
                vmx_exit.outcome, vmx_exit.reason, vmx_exit.event, vmx_exit.event_error, event, error);
}
