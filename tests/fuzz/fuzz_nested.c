// SPDX-License-Identifier: BSD-2-Clause
/*
 * A guest hypervisor that does whatever comes: VMX instructions with any operands, any values in the fields
 * of its VMCSs and in its memory (VMCSs, MSR lists, bitmaps, EPT), which may change under every single look
 * at it, and guests of its that exit for any reason. The production code of a partition is under it, two
 * arrays in the place of the processor's VMCSs.
 *
 * Fails on undefined behaviour, on a panic, and when an entry to the guest's guest finds a VMCS02 that
 *   - lacks anything that Umbra demands: a control, an intercepted register, exception or bit, its host
 * state;
 *   - refers to a frame that is neither the partition's nor kept for it; or whose EPT does, anywhere;
 *   - the processor would refuse: the entry checks of nested/checks.h, made once more with what the hardware
 *     has.
 */
#include "tests/fuzz/asserts.h"

#include <stdio.h>

/* What guides the fuzzer is what the production code does, not what judges it. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

#include "arch/x86/paging_ept.h"
#include "core/nested_guest.h"
#include "nested/checks.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/nested_good.h"
#include "vmx/policy_msr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

/* ---- Choices ------------------------------------------------------------------------------------------- */

/* Zeros when they have run out. */
static struct {
    const uint8_t *data;
    size_t size;
} stream;

static uint64_t next(unsigned bytes)
{
    uint64_t value = 0;

    if (stream.size < bytes)
        bytes = (unsigned)stream.size;
    memcpy(&value, stream.data, bytes);
    stream.data += bytes;
    stream.size -= bytes;
    return value;
}

/* ---- Guest memory -------------------------------------------------------------------------------------- */

/*
 * The guest's first pages: what it uses. Elsewhere its memory is empty. Page tables of Lv1 are at
 * GUEST_TABLES, a page for each of the other things behind them.
 */
#define PAGES       64
#define REGION(n)   ((24 + (n)) * PAGE_SIZE) /* VMCSs */
#define REGIONS     3
#define REGION_ON   (27 * PAGE_SIZE) /* VMXON's */
#define OPERAND     (28 * PAGE_SIZE)
#define EPT12_ROOT  (32 * PAGE_SIZE) /* and a table of each level behind it */
#define EPT12_FLAGS 0x1e

static uint8_t *low_memory;               /* where it is */
static uint8_t golden[PAGES * PAGE_SIZE]; /* what it is at the beginning */
static uint8_t good_region[PAGE_SIZE];
static bool has_good_region;

static void put(uint64_t address, uint64_t value)
{
    if (address <= sizeof(golden) - sizeof(value))
        memcpy(low_memory + address, &value, sizeof(value));
}

/* Another processor of the guest's: whenever a stage has said where some memory is, some other is there. */
static bool restless;

static enum stage_outcome walk_restless(const struct stage *stage, uint64_t address, unsigned access,
                                        struct translation *translation, struct stage_fault *fault)
{
    (void)stage;
    if (restless && stream.size > 8)
        put(address & ~7ULL, next(8));
    return guest->view.stage.walk(&guest->view.stage, address, access, translation, fault);
}

static const struct stage restless_stage = {.walk = walk_restless};

static uint64_t random_place(void)
{
    const uint8_t how = (uint8_t)next(1);

    switch (how & 7) {
    case 0: /* where no memory is, or no address */
        return how & 8 ? GUEST_MEMORY + next(4) : next(8);
    case 1: /* across a page */
        return (uint64_t)(how >> 3) * PAGE_SIZE + 0xff0 + next(1);
    case 2:
        return next(3);
    default:
        return next(1) % PAGES * PAGE_SIZE;
    }
}

/* ---- What Umbra demands of each entry ------------------------------------------------------------------ */

static struct vcpu *lv2(void)
{
    return &guest->nested->nested.vcpu02;
}

static struct vcpu *current(void)
{
    return nested_guest_runs(guest) ? lv2() : &guest->vcpu;
}

/* Fields that VMCS02 keeps from its birth: host state, Umbra's own lists. */
static uint64_t born[VMCS_FIELD_COUNT];

static void check_kept(void)
{
    static const uint16_t kept[] = {VMCS_INDEX_EXIT_MSR_STORE_ADDRESS, VMCS_INDEX_EXIT_MSR_LOAD_ADDRESS,
                                    VMCS_INDEX_ENTRY_MSR_LOAD_ADDRESS, VMCS_INDEX_EXIT_MSR_STORE_COUNT,
                                    VMCS_INDEX_EXIT_MSR_LOAD_COUNT,    VMCS_INDEX_ENTRY_MSR_LOAD_COUNT};

    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        require(vmcs_field_class(vmcs_field_at(i)) != VMCS_CLASS_HOST || fake_vmcs.values[i] == born[i],
                "host state is not Umbra's");
    for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
        require(fake_vmcs.values[kept[i]] == born[kept[i]], "an MSR list is not Umbra's");
    require(fake_get(VMCS_VMCS_LINK_POINTER) == UINT64_MAX, "a link pointer");
}

/* What Umbra's controls have must be there, but for what the merge may take away. */
static void check_controls(void)
{
    const uint64_t *own = lv2()->controls.words;
    const uint64_t primary = fake_get(VMCS_PRIMARY_CONTROLS), secondary = fake_get(VMCS_SECONDARY_CONTROLS);
    const uint64_t free_primary = VMX_PRIMARY_TPR_SHADOW | VMX_PRIMARY_CR8_LOAD_EXITING |
                                  VMX_PRIMARY_CR8_STORE_EXITING | VMX_PRIMARY_IO_BITMAPS |
                                  VMX_PRIMARY_INTERRUPT_WINDOW_EXITING | VMX_PRIMARY_NMI_WINDOW_EXITING;
    const uint64_t free_secondary = VMX_SECONDARY_RDTSCP | VMX_SECONDARY_INVPCID | VMX_SECONDARY_XSAVES |
                                    VMX_SECONDARY_UNRESTRICTED_GUEST | VMX_SECONDARY_VIRTUALIZE_X2APIC |
                                    VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES;

    require(fake_get(VMCS_PIN_CONTROLS) == own[VMX_WORD_PIN], "pin-based controls");
    require((own[VMX_WORD_PIN] & VMX_PIN_EXTERNAL_INTERRUPT_EXITING) != 0 &&
                (own[VMX_WORD_PIN] & VMX_PIN_NMI_EXITING) != 0 &&
                (own[VMX_WORD_PIN] & VMX_PIN_PREEMPTION_TIMER) != 0,
            "pin-based controls of Umbra's own");
    require(fake_get(VMCS_EXIT_CONTROLS) == own[VMX_WORD_EXIT], "exit controls");
    require(((fake_get(VMCS_ENTRY_CONTROLS) ^ own[VMX_WORD_ENTRY]) & ~(uint64_t)VMX_ENTRY_IA32E_GUEST) == 0,
            "entry controls");
    require((own[VMX_WORD_PRIMARY] & ~free_primary & ~primary) == 0, "primary controls");
    require((primary & VMX_PRIMARY_UNCONDITIONAL_IO_EXITING) != 0 && (primary & VMX_PRIMARY_IO_BITMAPS) == 0,
            "ports that do not exit");
    require((primary & VMX_PRIMARY_MSR_BITMAPS) != 0, "no MSR bitmap");
    require((own[VMX_WORD_SECONDARY] & ~free_secondary & ~secondary) == 0, "secondary controls");
    require((secondary & VMX_SECONDARY_EPT) != 0 && (secondary & VMX_SECONDARY_VPID) != 0, "no EPT, no VPID");
    require(fake_get(VMCS_VPID) == guest->nested->input.vpid && fake_get(VMCS_VPID) != guest->vcpu.vpid,
            "VPID");
    require((fake_get(VMCS_EXCEPTION_BITMAP) & BIT(X86_VECTOR_MC)) != 0, "machine checks");
    require((fake_get(VMCS_EXCEPTION_BITMAP) & BIT(X86_VECTOR_AC)) != 0, "alignment checks");
}

static void check_masks(void)
{
    const struct register_policy *policy = lv2()->policy;

    require((policy->cr0.mask & ~fake_get(VMCS_CR0_MASK)) == 0, "a bit of CR0 that Umbra intercepts");
    require((policy->cr4.mask & ~fake_get(VMCS_CR4_MASK)) == 0, "a bit of CR4 that Umbra intercepts");
}

/* Only IA32_TPR of a virtual local APIC in x2APIC mode may be through beside what the policy lets through. */
static void check_msr_bitmap(void)
{
    const hpa_t frame = HPA(fake_get(VMCS_MSR_BITMAPS));
    const uint64_t *bitmap = physmap_pointer(frame),
                   *own = physmap_pointer(lv2()->msr_bitmaps[lv2()->regime]);
    const bool x2apic = (fake_get(VMCS_SECONDARY_CONTROLS) & VMX_SECONDARY_VIRTUALIZE_X2APIC) != 0;

    require(frame.value == guest->nested->input.msr_bitmap.value, "somebody else's MSR bitmap");
    for (unsigned word = 0; word < PAGE_SIZE / 8; word++) {
        const bool tpr = word % (0x800 / 8) == MSR_IA32_X2APIC_TPR / 64;
        const uint64_t may = tpr && x2apic ? BIT(MSR_IA32_X2APIC_TPR % 64) : 0;

        require((own[word] & ~may & ~bitmap[word]) == 0, "a register that the policy intercepts");
    }
}

static bool is_partitions(uint64_t address)
{
    return frame_owner_of(partition_machine()->frames, HPA(address)) == partition->frame_owner;
}

static bool is_kept(uint64_t address)
{
    return frame_owner_of(partition_machine()->frames, HPA(address)) == partition->kept_owner;
}

static void check_pages(void)
{
    if ((fake_get(VMCS_PRIMARY_CONTROLS) & VMX_PRIMARY_TPR_SHADOW) != 0) {
        const uint64_t address = fake_get(VMCS_VIRTUAL_APIC_ADDRESS);
        const uint64_t own = physmap_address(partition->platform.lapics[0].page).value;

        require(address == own || is_partitions(address), "the virtual-APIC page");
    }
    if ((fake_get(VMCS_SECONDARY_CONTROLS) & VMX_SECONDARY_VIRTUALIZE_APIC_ACCESSES) != 0)
        require(is_partitions(fake_get(VMCS_APIC_ACCESS_ADDRESS)), "the APIC-access page");
    require(is_kept(fake_get(VMCS_EPT_POINTER) & EPTP_ADDRESS), "the root of EPT");
}

/* Every table is one of the vCPU's quota, every page the partition's. */
static void check_ept(uint64_t table, unsigned level)
{
    const uint64_t *entries = physmap_pointer(HPA(table));

    require(is_kept(table), "a table of EPT");
    for (unsigned i = 0; i < 512; i++) {
        const uint64_t address = entries[i] & EPTP_ADDRESS;

        if ((entries[i] & (EPT_READ | EPT_WRITE | EPT_EXECUTE)) == 0)
            continue;
        if (level == 1 || (entries[i] & EPT_LARGE) != 0)
            require(is_partitions(align_down(address, BIT(12 + 9 * (level - 1)))), "a page of EPT");
        else
            check_ept(address, level - 1);
    }
}

/* The machine's memory, for the checks that look into it. */
static bool read_frame(void *context, uint64_t address, void *to, size_t size)
{
    (void)context;
    require(is_kept(address) || is_partitions(address), "an address that leads elsewhere");
    memcpy(to, physmap_pointer(HPA(address)), size);
    return true;
}

static void require_row(const struct nested_check_row *row)
{
    if (row == NULL)
        return;
    fprintf(stderr, "the processor refuses %#lx: ", fake_vmcs.values[row->field]);
    require(false, row->name);
}

/* As the processor looks at it. */
static void check_as_processor(void)
{
    static struct vmcs12 vmcs;
    static struct nested_capabilities capabilities;
    uint64_t pdptes[4];
    const struct nested_check_context context = {
        .vmcs = &vmcs,
        .capabilities = &capabilities,
        .current = lv2()->vmcs.value,
        .efer = lv2()->policy->efer | X86_EFER_NXE | X86_EFER_LME | X86_EFER_SCE,
        .debugctl = policy_msr_find(MSR_IA32_DEBUGCTL)->value,
        .physical_bits = 46,
        .linear_bits = 48,
        .ia32e_mode = true,
        .rtm = true,
        .read = read_frame,
        .pdptes = pdptes,
    };

    capabilities.offered = partition_machine()->capabilities;
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        vmcs12_write(&vmcs, vmcs_field_at(i), fake_vmcs.values[i]);
    require_row(nested_check_controls(&context, NESTED_CHECK_ALL));
    require_row(nested_check_guest(&context, NESTED_CHECK_ALL));
}

static uint64_t entries;

static void check_entry(void)
{
    require(fake_beside.current == lv2()->vmcs.value, "another VMCS");
    check_kept();
    check_controls();
    check_masks();
    check_msr_bitmap();
    check_pages();
    if (entries++ % 8 == 0)
        check_ept(fake_get(VMCS_EPT_POINTER) & EPTP_ADDRESS, 4);
    check_as_processor();
    /* It takes the processor for one with CET, and does not know of the monitor trap flag. */
    const uint32_t event = fake_injection();
    if (EVENT_TYPE(event) != VCPU_EVENT_OTHER && EVENT_VECTOR(event) != X86_VECTOR_CP)
        fake_check_entry();
}

/* ---- Lv2 ------------------------------------------------------------------------------------------------
 */

/* An event such as a processor may have been about to deliver; no machine check: that is the machine's. */
static uint32_t random_event(bool *has_code)
{
    const uint8_t how = (uint8_t)next(1);
    const uint8_t vector = how >> 3 == X86_VECTOR_MC ? X86_VECTOR_UD : how >> 3;

    *has_code = false;
    switch (how & 7) {
    case 0:
        return (uint32_t)BIT(31) | vector;
    case 1:
        return (uint32_t)BIT(31) | VCPU_EVENT_NMI << 8 | X86_VECTOR_NMI;
    case 2:
        return (uint32_t)BIT(31) | VCPU_EVENT_SOFTWARE_INTERRUPT << 8 | vector;
    case 3:
    case 4:
        *has_code = fake_pushes_error_code(vector) && vector != X86_VECTOR_CP;
        return (uint32_t)BIT(31) | VCPU_EVENT_HARDWARE_EXCEPTION << 8 | (*has_code ? (uint32_t)BIT(11) : 0) |
               vector;
    case 5:
        return (uint32_t)BIT(31) | VCPU_EVENT_SOFTWARE_EXCEPTION << 8 | X86_VECTOR_BP;
    default:
        return 0;
    }
}

/* What Lv2 may have changed of its own without an exit. */
static void change_state(void)
{
    const uint64_t cr0 = next(2) & ~fake_get(VMCS_CR0_MASK) & (X86_CR0_TS | X86_CR0_MP | X86_CR0_EM);
    const uint8_t how = (uint8_t)next(1);
    uint64_t rflags = fake_get(VMCS_GUEST_RFLAGS) & ~(uint64_t)(X86_RFLAGS_IF | X86_RFLAGS_TF);

    if (how & 1)
        rflags |= X86_RFLAGS_IF;
    if (how & 2)
        rflags |= X86_RFLAGS_TF;
    fake_set(VMCS_GUEST_CR0, fake_get(VMCS_GUEST_CR0) ^ cr0);
    fake_set(VMCS_GUEST_RFLAGS, rflags);
    fake_set(VMCS_GUEST_RIP, (uint32_t)next(4) & 0x7fffffff);
    fake_set(VMCS_GUEST_INTERRUPTIBILITY, how & 8 ? BLOCKING_BY_NMI : 0);
    fake_set(VMCS_GUEST_PENDING_DEBUG, 0);
    fake_cpu.tsc += next(2);
}

/* Accesses to ports are of 1, 2 or 4 bytes, and control registers are 0, 3, 4 and 8. */
static uint64_t random_qualification(uint32_t reason)
{
    static const uint8_t sizes[] = {0, 1, 3, 0}, registers[] = {0, 3, 4, 8};
    const uint64_t value = next(4);

    if (reason == EXIT_REASON_IO_INSTRUCTION)
        return (value & ~7ULL) | sizes[value & 3];
    if (reason == EXIT_REASON_CR_ACCESS)
        return (value & ~15ULL) | registers[value & 3];
    return value;
}

/* It runs, and exits. */
static void run_lv2(struct vcpu *vcpu)
{
    bool has_code;
    uint32_t event;

    if (vcpu != lv2())
        return;
    check_entry();
    change_state();
    for (unsigned i = 0; i < VCPU_REGISTERS; i++)
        if (i != VCPU_RSP)
            vcpu->registers[i] = next(1) << (8 * (i & 7));
    vcpu->registers[VCPU_RCX] = next(1) & 1 ? 0xc0000080 + next(1) : next(2);

    const uint8_t reason = (uint8_t)next(1);
    fake_set(VMCS_EXIT_REASON, reason == 0xff   ? EXIT_REASON_ENTRY_FAILURE | next(1)
                               : reason == 0xfe ? next(4)
                                                : reason % EXIT_REASON_COUNT);
    fake_set(VMCS_EXIT_QUALIFICATION, random_qualification((uint32_t)fake_get(VMCS_EXIT_REASON)));
    fake_set(VMCS_GUEST_PHYSICAL_ADDRESS, random_place());
    fake_set(VMCS_GUEST_LINEAR_ADDRESS, fake_get(VMCS_GUEST_PHYSICAL_ADDRESS));
    fake_set(VMCS_EXIT_INSTRUCTION_LENGTH, 1 + next(1) % 15);
    fake_set(VMCS_EXIT_INSTRUCTION_INFO, next(4));
    event = random_event(&has_code);
    if (EVENT_TYPE(event) != VCPU_EVENT_NMI &&
        (fake_get(VMCS_EXCEPTION_BITMAP) >> EVENT_VECTOR(event) & 1) == 0)
        event = BIT(31) | VCPU_EVENT_NMI << 8 | X86_VECTOR_NMI; /* it would not have made an exit */
    fake_set(VMCS_EXIT_INTERRUPTION_INFO, event);
    fake_set(VMCS_EXIT_INTERRUPTION_ERROR_CODE, has_code ? next(2) : 0);
    event = random_event(&has_code);
    if (EVENT_TYPE(event) == VCPU_EVENT_EXTERNAL_INTERRUPT) /* it could not have been delivered */
        event = fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_IF ? event : 0;
    if (EVENT_TYPE(event) == VCPU_EVENT_NMI)
        fake_set(VMCS_GUEST_INTERRUPTIBILITY, 0);
    fake_set(VMCS_IDT_VECTORING_INFO, event);
    fake_set(VMCS_IDT_VECTORING_ERROR_CODE, has_code ? next(2) : 0);
}

/* ---- Lv1 ------------------------------------------------------------------------------------------------
 */

/* As the run loop: whether the vCPU goes on, its events looked at. */
static bool is_ready(void)
{
    if (partition->request != PARTITION_REQUEST_NONE)
        return false;
    platform_receive(&partition->platform, 0);
    if (guest->wait == VCPU_WAIT_HALTED &&
        (nested_guest_runs(guest) ? nested_guest_would_wake(guest) : vcpu_events_would_wake(&guest->vcpu)))
        guest->wait = VCPU_WAIT_NOT;
    if (guest->wait != VCPU_WAIT_NOT)
        return false;
    if (guest->vcpu.events_changed) {
        if (nested_guest_runs(guest) && !nested_guest_events(guest))
            return guest->wait == VCPU_WAIT_NOT;
        vcpu_events_decide(&guest->vcpu);
    }
    return partition->request == PARTITION_REQUEST_NONE;
}

/* Memory operands are at `displacement`, register operands RBX and, if any, RDI. */
#define BY_MEMORY   (3u << 28 | 1u << 27 | 1u << 22 | 3u << 15 | 2u << 7)
#define BY_REGISTER (3u << 28 | 1u << 10 | 7u << 3)

/* An exit of Lv1's by an instruction. */
static void instruct(enum exit_reason reason, uint32_t information, uint64_t displacement)
{
    if (!is_ready() || nested_guest_runs(guest))
        return;
    run_to_exit(reason, displacement, 3);
    fake_set(VMCS_EXIT_INSTRUCTION_INFO, information);
    handle();
}

static void instruct_with(enum exit_reason reason, uint64_t operand)
{
    put(OPERAND, operand);
    instruct(reason, BY_MEMORY, OPERAND);
}

static void write_field(struct vmcs_field field, uint64_t value)
{
    guest->vcpu.registers[VCPU_RBX] = field.encoding;
    guest->vcpu.registers[VCPU_RDI] = value;
    instruct(EXIT_REASON_VMWRITE, BY_REGISTER, 0);
}

/* Lv1's own state, as it began: what a logical exit loads may have been anything. */
static uint64_t lv1_state[VMCS_FIELD_COUNT];

static void mend_lv1(void)
{
    if (nested_guest_runs(guest))
        return;
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field field = vmcs_field_at(i);

        if (vmcs_field_class(field) == VMCS_CLASS_GUEST && fake_has(field))
            vcpu_write(&guest->vcpu, field, lv1_state[i]);
    }
}

static void load_region(uint64_t region, bool good)
{
    mend_lv1();
    instruct_with(EXIT_REASON_VMCLEAR, region);
    if (good)
        memcpy(low_memory + region, good_region, sizeof(good_region));
    instruct_with(EXIT_REASON_VMPTRLD, region);
}

static uint64_t random_value(struct vmcs_field field)
{
    const struct vmx_capabilities *offered = &guest->nested->policy.capabilities.offered;
    const uint64_t old = vmcs12_read(&guest->nested->nested.vmcs12, field);
    const uint8_t how = (uint8_t)next(1);

    switch (how & 7) {
    case 0:
        return next(8);
    case 1:
    case 2:
        return old ^ BIT(next(1) & 63);
    case 3:
        return old ^ BIT(next(1) & 15);
    case 4:
        return next(1);
    case 5: /* a control word of those that the field may be */
        return (next(4) | vmx_controls_must(offered, (enum vmx_word)(how >> 3) % VMX_WORDS)) &
               vmx_controls_may(offered, (enum vmx_word)(how >> 3) % VMX_WORDS);
    case 6:
        return EPT12_ROOT + EPT12_FLAGS;
    default:
        return random_place();
    }
}

static void random_instruction(void)
{
    static const enum exit_reason reasons[] = {
        EXIT_REASON_VMCLEAR, EXIT_REASON_VMLAUNCH, EXIT_REASON_VMPTRLD, EXIT_REASON_VMPTRST,
        EXIT_REASON_VMREAD,  EXIT_REASON_VMRESUME, EXIT_REASON_VMWRITE, EXIT_REASON_VMXOFF,
        EXIT_REASON_VMXON,   EXIT_REASON_INVEPT,   EXIT_REASON_INVVPID};
    const uint8_t how = (uint8_t)next(1);

    put(OPERAND, random_place());
    guest->vcpu.registers[VCPU_RBX] = how & 0x40 ? next(8) : next(2);
    instruct(reasons[next(1) % ARRAY_SIZE(reasons)], how & 0x80 ? (uint32_t)next(4) : BY_MEMORY,
             how & 0x20 ? random_place() : OPERAND);
}

static void random_event_of_lv1(void)
{
    switch (next(1) % 6) {
    case 0:
        vcpu_queue_nmi(&guest->vcpu);
        break;
    case 1:
        if (nested_guest_takes_init(guest) && next(1) & 1)
            (void)nested_guest_takes_startup(guest, (uint8_t)next(1));
        break;
    case 2: {
        const struct lapic_message message = {.vector = (uint8_t)next(1), .mode = LAPIC_FIXED};

        (void)lapic_deliver(partition->platform.lapics, 1, &message);
        vcpu_events_changed(&guest->vcpu);
        break;
    }
    case 3: /* it comes back to its processor */
        vcpu_unload(current());
        vcpu_load(&guest->vcpu);
        if (nested_guest_runs(guest))
            nested_guest_resume(guest);
        break;
    default:
        fake_cpu.tsc += next(4);
        break;
    }
}

static void step(void)
{
    const uint8_t what = (uint8_t)next(1);

    if (nested_guest_runs(guest) && (what & 7) != 7 && (what & 7) != 6) {
        if (is_ready() && nested_guest_runs(guest))
            (void)nested_guest_run(guest, 0);
        return;
    }
    switch (what & 15) {
    case 0:
    case 1:
    case 2: {
        const struct vmcs_field field = vmcs_field_at((unsigned)next(1) % VMCS_FIELD_COUNT);

        write_field(field, random_value(field));
        break;
    }
    case 3:
        load_region(REGION((what >> 4) % REGIONS), true);
        break;
    case 4:
        load_region(REGION((what >> 4) % REGIONS), false);
        break;
    case 5:
    case 8:
    case 9:
        mend_lv1();
        instruct(EXIT_REASON_VMLAUNCH, 0, 0);
        instruct(EXIT_REASON_VMRESUME, 0, 0);
        break;
    case 6: {
        const uint64_t address = random_place() + 8 * (uint64_t)(what >> 4);

        put(address & ~7ULL, what & 0x80 ? next(8) : random_place() | (next(2) & 0xfff));
        break;
    }
    case 7:
        random_event_of_lv1();
        break;
    case 10:
    case 11:
        random_instruction();
        break;
    case 12:
        restless = what & 0x10;
        break;
    default: /* bytes of a VMCS, in memory */
        put(REGION((what >> 4) % REGIONS) + next(2) % PAGE_SIZE / 8 * 8, next(8));
        break;
    }
}

/* ---- The machine ----------------------------------------------------------------------------------------
 */

/*
 * What a VMCS looks like in memory that can be entered, and has an EPT of its own that shows the first 2 MiB:
 * Lv1 itself makes one. It is in VMX operation.
 */
static void make_good(void)
{
    static struct vmcs12 vmcs;

    nested_good_vmcs12(&vmcs, &guest->nested->policy.capabilities.offered, GUEST_RIP, GUEST_TABLES);
    vmcs12_write(&vmcs, VMCS_PRIMARY_CONTROLS,
                 vmcs12_read(&vmcs, VMCS_PRIMARY_CONTROLS) | VMX_PRIMARY_SECONDARY_CONTROLS);
    vmcs12_write(&vmcs, VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_EPT);
    vmcs12_write(&vmcs, VMCS_EPT_POINTER, EPT12_ROOT + EPT12_FLAGS);
    load_region(REGION(0), false);
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++)
        write_field(vmcs_field_at(i), vmcs12_read(&vmcs, vmcs_field_at(i)));
    instruct_with(EXIT_REASON_VMCLEAR, REGION(0));
    memcpy(good_region, low_memory + REGION(0), sizeof(good_region));
}

/* Once: the partition, its memory, and what of both each input begins with. */
static void build(void)
{
    struct translation translation;
    struct stage_fault fault;
    const uint32_t revision = VMCS12_REVISION;

    guest_nested = true;
    (void)start_64(NULL);
    fake_cpu.any_msr = true;
    require(stage_chain_walk(&guest->view_chain, 0, PAGING_READ, &translation, &fault) == STAGE_DONE,
            "memory");
    low_memory = physmap_pointer(HPA(translation.address));
    guest->view_chain.stages[0] = &restless_stage;
    require(fake_beside.vmcs == lv2()->vmcs.value, "VMCS01 is current");
    memcpy(born, fake_beside.values, sizeof(born));

    put(REGION_ON, revision);
    for (unsigned i = 0; i < REGIONS; i++)
        put(REGION(i), revision);
    for (unsigned level = 0; level < 3; level++)
        put(EPT12_ROOT + level * PAGE_SIZE, (EPT12_ROOT + (level + 1) * PAGE_SIZE) | 7);
    for (uint64_t page = 0; page < 512; page++)
        put(EPT12_ROOT + 3 * PAGE_SIZE + 8 * page, page * PAGE_SIZE | 0x37);
    memcpy(golden, low_memory, sizeof(golden));
    memcpy(lv1_state, fake_vmcs.values, sizeof(lv1_state));
    fake_guest = run_lv2;
}

/* The partition's first moment again, but in VMX operation, with a good VMCS. */
static void begin(void)
{
    const struct vcpu_start start = {.mode = VCPU_START_LONG_64,
                                     .rip = GUEST_RIP,
                                     .rsp = GUEST_RSP,
                                     .cr3 = GUEST_TABLES,
                                     .code_selector = 8,
                                     .data_selector = 16};

    restless = false;
    partition->request = PARTITION_REQUEST_NONE;
    partition->reason[0] = 0;
    vcpu_unload(current());
    memcpy(low_memory, golden, sizeof(golden));
    platform_reset(&partition->platform, 0);
    partition_vcpu_reset(guest);
    vcpu_load(&guest->vcpu);
    vcpu_reset(&guest->vcpu);
    paging_start(guest, &start);
    guest->wait = VCPU_WAIT_NOT;
    fake_cpu.tsc = HOST_TSC;
    fake_cpu.any_msr = true;
    guest->vcpu.registers[VCPU_RDI] = X86_CR4_PAE | X86_CR4_VMXE;
    if (is_ready())
        take_exit(EXIT_REASON_CR_ACCESS, 4 | 7 << 8, 3);
    memcpy(lv1_state, fake_vmcs.values, sizeof(lv1_state));
    instruct_with(EXIT_REASON_VMXON, REGION_ON);
    if (!has_good_region)
        make_good();
    has_good_region = true;
    load_region(REGION(0), true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool built;

    if (!built)
        build();
    built = true;
    stream.data = data;
    stream.size = 0;
    begin();
    stream.size = size;
    while (stream.size != 0 && partition->request == PARTITION_REQUEST_NONE)
        step();
    return 0;
}

#pragma clang attribute pop
