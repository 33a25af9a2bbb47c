// SPDX-License-Identifier: BSD-2-Clause
/*
 * The two regimes of a vCPU (vmx/vcpu.c), on every recorded processor, and on each of them without any one
 * control that Umbra can do without. Fails when a guest sees another value of a register in one regime than
 * in the other, when the hardware's registers are not as shadow tables need them, when an entry would fail
 * the processor's checks of controls and control registers, and when a field of the VMCS is used that the
 * processor has not.
 */
#include "vmx/vcpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/cpu.h"
#include "arch/x86/descriptor.h"
#include "arch/x86/percpu.h"
#include "mm/physmap.h"
#include "tests/unit/fake_vmcs.h"
#include "tests/unit/processors.h"
#include "vmx/apicv.h"
#include "vmx/barriers.h"
#include "vmx/events.h"

#define EPT_ROOT    0x7000
#define SHADOW_ROOT 0x9000
#define HOST_EFER   0xd00

/* ---- The processor ------------------------------------------------------------------------------------ */

static uint64_t software_efer; /* where the VMCS does not switch it */

uint64_t percpu_offset;
const char vcpu_exit[1], vcpu_exit_filling[1];

uint64_t cpu_rdmsr(uint32_t msr)
{
    return msr == MSR_IA32_EFER ? HOST_EFER : PAT_RESET;
}

#define READS_0(NAME)                                                                                        \
    uint64_t NAME(void)                                                                                      \
    {                                                                                                        \
        return 0;                                                                                            \
    }
READS_0(cpu_read_cr0)
READS_0(cpu_read_cr3)
READS_0(cpu_read_cr4)
READS_0(descriptor_gdt_base)
READS_0(descriptor_idt_base)
READS_0(descriptor_tss_base)

#define TAKES_ANY(NAME)                                                                                      \
    void NAME(uint64_t value)                                                                                \
    {                                                                                                        \
        (void)value;                                                                                         \
    }
TAKES_ANY(cpu_write_cr2)
TAKES_ANY(cpu_write_dr0)
TAKES_ANY(cpu_write_dr1)
TAKES_ANY(cpu_write_dr2)
TAKES_ANY(cpu_write_dr3)
TAKES_ANY(cpu_write_dr6)

void vcpu_state_reset(struct vcpu_state *state)
{
    *state = (struct vcpu_state){.xsave_area = state->xsave_area};
}

void vcpu_state_save(struct vcpu_state *state)
{
    (void)state;
}

void vcpu_state_load(const struct vcpu_state *state)
{
    (void)state;
}

void vcpu_state_write_efer(uint64_t efer)
{
    assert_false(vmx_capabilities_switch_efer(fake_vmcs.processor));
    software_efer = efer;
}

unsigned vcpu_enter_clearing(struct vcpu *vcpu, bool launched)
{
    (void)vcpu, (void)launched;
    fail();
    return 1;
}

bool vcpu_state_compacts(void)
{
    return true;
}

const struct vcpu_barriers *vcpu_state_barriers(void)
{
    static const struct vcpu_barriers none;

    return &none;
}

struct vcpu_msr_lists vcpu_state_msr_lists(const struct vcpu_state *state)
{
    (void)state;
    return (struct vcpu_msr_lists){.count = 0};
}

__noreturn void panic_at(const char *file, int line, const char *format, ...)
{
    (void)format;
    fail_msg("panic at %s:%d", file, line);
    abort();
}

/* ---- A vCPU on it ------------------------------------------------------------------------------------- */

#define CR4_OFFERED                                                                                          \
    (X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PKE |   \
     X86_CR4_TSD | X86_CR4_OSFXSR)
#define EFER_OFFERED (X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE)

static struct vmx_capabilities capabilities;
static bool has[VCPU_REGIMES], unrestricted;
static struct register_policy policies[VCPU_REGIMES];
static struct vmx_controls controls[VCPU_REGIMES];
static struct vcpu vcpu;
static uint8_t region[PAGE_SIZE] __aligned(PAGE_SIZE), apic_page[PAGE_SIZE] __aligned(PAGE_SIZE);

static uint8_t no_threshold(void *context)
{
    (void)context;
    return 0;
}

static int no_interrupt(void *context)
{
    (void)context;
    return -1;
}

static const struct vcpu_interrupt_ops no_interrupts = {no_interrupt, no_interrupt, no_threshold};

static void derive(enum vcpu_regime regime, enum cr_instance instance)
{
    const struct register_policy_settings settings = {
        .instance = instance,
        .overrides.cr0 = X86_CR0_PE,
        .cr0_fixed0 = capabilities.cr0_fixed0,
        .cr0_fixed1 = capabilities.cr0_fixed1,
        .cr4_fixed0 = capabilities.cr4_fixed0,
        .cr4_fixed1 = capabilities.cr4_fixed1,
        .cr4_offered = CR4_OFFERED & capabilities.cr4_fixed1,
        .efer_offered = EFER_OFFERED,
    };
    struct vmx_demands demands = {{0}};

    assert_int_equal(policy_cr_derive(&policies[regime], &settings, NULL), 0);
    policy_register_demand(&policies[regime], &demands);
    if (!vmx_controls_available(&capabilities, VMX_WORD_PRIMARY, VMX_PRIMARY_TPR_SHADOW))
        demands.words[VMX_WORD_PRIMARY] &= ~(uint64_t)VMX_PRIMARY_TPR_SHADOW;
    assert_int_equal(vmx_controls_compute(&controls[regime], &capabilities, &demands, NULL), 0);
}

/* Builds the vCPU with all regimes that the processor has, `regime` first. */
static void build(enum vcpu_regime regime)
{
    struct vcpu_settings settings = {
        .capabilities = &capabilities,
        .regime = regime,
        .root = HPA(regime == VCPU_REGIME_SHADOW ? SHADOW_ROOT : EPT_ROOT),
        .interrupt_ops = &no_interrupts,
        .vmcs = physmap_address(region),
        .virtual_apic = physmap_address(apic_page),
        .vpid = 1,
        .owner = 1,
    };

    unrestricted = vmx_capabilities_have_unrestricted_guest(&capabilities);
    has[VCPU_REGIME_EPT] = vmx_capabilities_have_ept(&capabilities);
    has[VCPU_REGIME_SHADOW] = vmx_capabilities_have_shadow(&capabilities);
    for (unsigned i = 0; i < VCPU_REGIMES; i++) {
        if (!has[i])
            continue;
        derive(i, i == VCPU_REGIME_SHADOW ? CR_INSTANCE_SHADOW
                  : unrestricted          ? CR_INSTANCE_UNRESTRICTED
                                          : CR_INSTANCE_RESTRICTED);
        settings.controls[i] = &controls[i];
        settings.policy[i] = &policies[i];
        settings.msr_bitmap[i] = HPA(0x1000 * (i + 1));
    }
    vcpu_unload_current();
    memset(&fake_vmcs, 0, sizeof(fake_vmcs));
    fake_vmcs.processor = &capabilities;
    software_efer = UINT64_MAX;
    assert_int_equal(vcpu_init(&vcpu, &settings), 0);
    vcpu_reset(&vcpu);
}

static void set_processor(unsigned which)
{
    static const struct vmx_msr_ops ops = {processor_rdmsr, processor_cpuid};

    processor = &processors[which];
    vmx_capabilities_read(&capabilities, &ops);
}

/* ---- What the processor and Umbra's tables ask -----------------------------------------------------------
 */

static bool has_control(struct vmcs_field field, uint64_t mask)
{
    return (fake_get(field) & mask) == mask;
}

/* SDM vol. 3, "Checks on guest control registers, debug registers, and MSRs", and of the controls what they
 * need. */
static void check_entry(void)
{
    const uint64_t cr0 = fake_get(VMCS_GUEST_CR0), cr4 = fake_get(VMCS_GUEST_CR4);
    const uint64_t efer = fake_get(VMCS_GUEST_EFER);
    const bool free_paging = has_control(VMCS_SECONDARY_CONTROLS, BIT(7));
    const bool ia32e = has_control(VMCS_ENTRY_CONTROLS, BIT(9));
    const uint64_t may_be_0 = free_paging ? X86_CR0_PE | X86_CR0_PG : 0;

    assert_int_equal(capabilities.cr0_fixed0 & ~may_be_0 & ~cr0, 0);
    assert_int_equal(cr0 & ~capabilities.cr0_fixed1, 0);
    assert_int_equal(capabilities.cr4_fixed0 & ~cr4, 0);
    assert_int_equal(cr4 & ~capabilities.cr4_fixed1, 0);
    assert_false((cr0 & X86_CR0_PG) && !(cr0 & X86_CR0_PE));
    assert_false(ia32e && (!(cr0 & X86_CR0_PG) || !(cr4 & X86_CR4_PAE)));
    assert_false(!ia32e && (cr4 & X86_CR4_PCIDE));
    if (has_control(VMCS_ENTRY_CONTROLS, BIT(15))) {
        assert_int_equal((efer & X86_EFER_LMA) != 0, ia32e);
        assert_false((cr0 & X86_CR0_PG) && ((efer & X86_EFER_LME) != 0) != ia32e);
    }
    assert_false(free_paging && !has_control(VMCS_SECONDARY_CONTROLS, BIT(1)));
}

static uint64_t guest_cr0, guest_cr3, guest_cr4, guest_efer, guest_pat; /* the model: plain variables */

/* The guest sees what it wrote, and the hardware is what the regime needs. */
static void check(void)
{
    const bool shadow = vcpu.regime == VCPU_REGIME_SHADOW;
    const uint64_t cr0 = fake_get(VMCS_GUEST_CR0), cr4 = fake_get(VMCS_GUEST_CR4);
    const uint64_t of_paging = X86_CR4_SMEP | X86_CR4_SMAP;
    const bool lma = guest_efer & X86_EFER_LMA;
    struct cr_state state;

    check_entry();
    vcpu_read_control_state(&vcpu, &state);
    assert_int_equal(vcpu_read_cr0(&vcpu), guest_cr0);
    assert_int_equal(vcpu_read_cr4(&vcpu), guest_cr4);
    assert_int_equal(state.cr0, guest_cr0);
    assert_int_equal(state.cr3, guest_cr3);
    assert_int_equal(state.cr4, guest_cr4);
    assert_int_equal(state.efer, guest_efer);
    assert_int_equal(vcpu_read_pat(&vcpu), guest_pat);

    assert_int_equal(has_control(VMCS_SECONDARY_CONTROLS, BIT(1)), !shadow);
    assert_int_equal(has_control(VMCS_SECONDARY_CONTROLS, BIT(7)), !shadow && unrestricted);
    assert_int_equal(cr4 & X86_CR4_PKE, guest_cr4 & X86_CR4_PKE);
    assert_int_equal(fake_get(VMCS_PRIMARY_CONTROLS) & (BIT(9) | BIT(15) | BIT(16)),
                     shadow ? BIT(9) | BIT(15) | BIT(16) : 0);
    assert_int_equal(fake_get(VMCS_EXCEPTION_BITMAP), BIT(1) | BIT(17) | BIT(18) | (shadow ? BIT(14) : 0));
    assert_int_equal(fake_get(VMCS_MSR_BITMAPS), shadow ? 0x2000 : 0x1000);
    assert_int_equal(has_control(VMCS_ENTRY_CONTROLS, BIT(9)), lma);
    if (!shadow) {
        assert_int_equal(fake_get(VMCS_EPT_POINTER), EPT_ROOT | 3 << 3 | 6);
        assert_int_equal(fake_get(VMCS_GUEST_CR3), guest_cr3);
        assert_int_equal(fake_get(VMCS_GUEST_EFER), guest_efer);
        assert_int_equal(fake_get(VMCS_GUEST_PAT), guest_pat);
        assert_int_equal(cr4 & of_paging, guest_cr4 & of_paging);
        return;
    }
    assert_int_equal(fake_get(VMCS_GUEST_CR3), SHADOW_ROOT);
    assert_int_equal(cr0 & 0x80010021, 0x80010021); /* PG, WP, NE, PE */
    assert_int_equal(cr4 & (X86_CR4_PAE | X86_CR4_PSE | X86_CR4_PGE | X86_CR4_PCIDE), X86_CR4_PAE);
    assert_int_equal(cr4 & of_paging, guest_cr0 & X86_CR0_PG ? guest_cr4 & of_paging : 0);
    if (vmx_capabilities_switch_efer(&capabilities)) {
        assert_int_equal(fake_get(VMCS_GUEST_EFER),
                         (guest_efer & X86_EFER_SCE) | X86_EFER_NXE | (lma ? 0x500 : 0));
        assert_int_equal(fake_get(VMCS_HOST_EFER), HOST_EFER);
    } else {
        assert_int_equal(software_efer & X86_EFER_SCE, guest_efer & X86_EFER_SCE);
    }
    if (has_control(VMCS_ENTRY_CONTROLS, BIT(14)))
        assert_int_equal(fake_get(VMCS_GUEST_PAT), PAT_RESET);
}

/* ---- Guests ----------------------------------------------------------------------------------------------
 */

static uint64_t random_64(void)
{
    return (uint64_t)(uint32_t)mrand48() << 32 | (uint32_t)mrand48();
}

/* The guest has run, and exited: nothing of its state is known. */
static void exits(void)
{
    const bool switched = has_control(VMCS_ENTRY_CONTROLS, BIT(15));

    memset(vcpu.known, 0, sizeof(vcpu.known));
    if (vcpu.regime == VCPU_REGIME_EPT && switched)
        assert_int_equal(fake_get(VMCS_GUEST_EFER), guest_efer);
}

/* A guest's write to one of its registers that exits; what the policy refuses, it does not do. */
static void write_register(unsigned which, uint64_t value)
{
    struct cr_state state;
    unsigned effects;
    enum cr_answer answer = CR_DONE;

    vcpu_read_control_state(&vcpu, &state);
    if (which == 0)
        answer = policy_cr0_write(vcpu.policy, &state, value, &effects);
    else if (which == 4)
        answer = policy_cr4_write(vcpu.policy, &state, value, &effects);
    else
        answer = policy_efer_write(vcpu.policy, &state, value, &effects);
    if (answer == CR_GP)
        return;
    if (vcpu.regime == VCPU_REGIME_EPT && !unrestricted && !(state.cr0 & X86_CR0_PG))
        return; /* Umbra would have changed the regime first */
    guest_cr0 = state.cr0;
    guest_cr4 = state.cr4;
    guest_efer = state.efer;
    vcpu_write_control_state(&vcpu, &state);
}

static void set_regime(enum vcpu_regime regime)
{
    const unsigned flushes = fake_vmcs.linear_flushes;

    if (!has[regime] || (regime == VCPU_REGIME_EPT && !unrestricted && !(guest_cr0 & X86_CR0_PG)))
        return;
    vcpu_set_regime(&vcpu, regime, HPA(regime == VCPU_REGIME_SHADOW ? SHADOW_ROOT : EPT_ROOT));
    if (has_control(VMCS_SECONDARY_CONTROLS, BIT(5)))
        assert_true(fake_vmcs.linear_flushes > flushes);
}

static void step(void)
{
    const uint64_t cr0 = random_64() & (X86_CR0_WP | X86_CR0_PG | X86_CR0_TS | X86_CR0_AM);

    exits();
    switch (lrand48() % 8) {
    case 0:
        set_regime(lrand48() % VCPU_REGIMES);
        break;
    case 1:
        guest_cr3 = random_64() & 0xffffff000;
        vcpu_write_cr3(&vcpu, guest_cr3);
        break;
    case 2:
        guest_pat = random_64() & 0x0707070707070707;
        vcpu_write_pat(&vcpu, guest_pat);
        break;
    case 3:
    case 4:
        write_register(0, cr0 | X86_CR0_PE | X86_CR0_ET);
        break;
    case 5:
        write_register(6, random_64() & EFER_OFFERED);
        break;
    default:
        write_register(4, random_64() & CR4_OFFERED & capabilities.cr4_fixed1);
        break;
    }
    check();
}

static void start(enum vcpu_start_mode mode)
{
    const struct vcpu_start begin = {
        .mode = mode, .rip = 0x1000, .cr3 = 0x5000, .code_selector = 8, .data_selector = 16};

    vcpu_start(&vcpu, &begin);
    guest_cr0 = mode == VCPU_START_LONG_64 ? 0x80000031 : 0x11;
    guest_cr3 = 0x5000;
    guest_cr4 = mode == VCPU_START_LONG_64 ? X86_CR4_PAE : 0;
    guest_efer = mode == VCPU_START_LONG_64 ? 0x500 : 0;
    guest_pat = PAT_RESET;
}

/* From either start, in every regime that the processor has, some turns of a guest's life. */
static void live(unsigned turns)
{
    for (unsigned n = 0; n < 2 * VCPU_REGIMES; n++) {
        const enum vcpu_regime regime = n % VCPU_REGIMES;
        const enum vcpu_start_mode mode = n / VCPU_REGIMES ? VCPU_START_LONG_64 : VCPU_START_PROTECTED_32;

        if (vmx_capabilities_have_ept(&capabilities) == false && regime == VCPU_REGIME_EPT)
            continue;
        if (vmx_capabilities_have_shadow(&capabilities) == false && regime == VCPU_REGIME_SHADOW)
            continue;
        if (!vmx_capabilities_have_unrestricted_guest(&capabilities) && regime == VCPU_REGIME_EPT &&
            mode == VCPU_START_PROTECTED_32)
            continue;
        build(regime);
        start(mode);
        check();
        for (unsigned turn = 0; turn < turns; turn++)
            step();
    }
}

static void every_processor(void **state)
{
    (void)state;
    srand48(7);
    for (unsigned which = 0; which < PROCESSORS; which++) {
        set_processor(which);
        live(4000);
    }
}

/* Each control taken away in turn. What a partition asks for besides is not part of this. */
static void every_processor_without(void **state)
{
    static const struct {
        enum vmx_word word;
        uint32_t mask;
    } table[] = {
#define X(WORD, BIT, NAME, TEXT, WANT, WHY) {VMX_WORD_##WORD, 1u << (BIT)},
        VMX_CONTROLS(X)
#undef X
    };
    unsigned ran = 0;

    (void)state;
    srand48(8);
    for (unsigned which = 0; which < PROCESSORS; which++) {
        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
            set_processor(which);
            if (table[i].word == VMX_WORD_TERTIARY || table[i].word == VMX_WORD_EXIT2)
                continue; /* of no use to Umbra: nothing changes */
            capabilities.controls[table[i].word] &= ~((uint64_t)table[i].mask << 32);
            if (vmx_capabilities_obstacle(&capabilities) != NULL)
                continue;
            ran++;
            live(20);
        }
    }
    assert_true(ran > 300);
}

/* ---- What a change of regimes leaves alone
 * ------------------------------------------------------------------ */

/* Controls that come and go while the guest runs. Fails when a change of regime loses or invents one. */
static void running_controls(void **state)
{
    const struct {
        struct vmcs_field field;
        uint64_t mask;
    } running[] = {
        {VMCS_PIN_CONTROLS, BIT(7)},                         /* posted interrupts */
        {VMCS_PRIMARY_CONTROLS, BIT(2)},                     /* interrupt window */
        {VMCS_PRIMARY_CONTROLS, BIT(22) | BIT(23)},          /* NMI window, MOV DR */
        {VMCS_SECONDARY_CONTROLS, BIT(0) | BIT(8) | BIT(9)}, /* the local APIC in xAPIC mode */
        {VMCS_SECONDARY_CONTROLS, BIT(4) | BIT(8) | BIT(9)}, /* and in x2APIC mode */
    };

    (void)state;
    set_processor(SKYLAKE_X);
    for (size_t i = 0; i < ARRAY_SIZE(running); i++) {
        const struct vmcs_field field = running[i].field;

        build(VCPU_REGIME_EPT);
        start(VCPU_START_LONG_64);
        const uint64_t before = vcpu_read(&vcpu, field);
        assert_int_equal(before & running[i].mask, 0);
        vcpu_write(&vcpu, field, before | running[i].mask);
        set_regime(VCPU_REGIME_SHADOW);
        assert_true(has_control(field, running[i].mask));
        vcpu_write(&vcpu, field, vcpu_read(&vcpu, field) & ~running[i].mask);
        set_regime(VCPU_REGIME_EPT);
        assert_int_equal(fake_get(field), before);
        check();
    }
}

/* Once in x2APIC mode, always by that mode's bitmaps. Fails when the other regime's is the plain one. */
static void bitmaps_follow_the_apic(void **state)
{
    const struct apicv apicv = {.x2apic = true,
                                .msr_bitmap = {HPA(0x1000), HPA(0x2000)},
                                .msr_bitmap_x2apic = {HPA(0x3000), HPA(0x4000)}};

    (void)state;
    set_processor(SKYLAKE_X);
    build(VCPU_REGIME_EPT);
    start(VCPU_START_LONG_64);
    apicv_init(&apicv, &vcpu, HPA(0));
    apicv_set_mode(&apicv, &vcpu, APICV_X2APIC);
    assert_int_equal(fake_get(VMCS_MSR_BITMAPS), 0x3000);
    set_regime(VCPU_REGIME_SHADOW);
    assert_int_equal(fake_get(VMCS_MSR_BITMAPS), 0x4000);
    assert_true(has_control(VMCS_SECONDARY_CONTROLS, BIT(4)));
    apicv_set_mode(&apicv, &vcpu, APICV_NONE);
    assert_int_equal(fake_get(VMCS_MSR_BITMAPS), 0x2000);
    set_regime(VCPU_REGIME_EPT);
    assert_int_equal(fake_get(VMCS_MSR_BITMAPS), 0x1000);
}

/* ---- The rest
 * ----------------------------------------------------------------------------------------------- */

/*
 * A guest in real mode has set CR0.PE, and loaded no segment since: what an entry without unrestricted guest
 * asks of them (SDM vol. 3, "Checks on guest segment registers"). Fails when one of them is left as it cannot
 * be.
 */
static void segments_from_real_mode(void **state)
{
    (void)state;
    set_processor(SKYLAKE_X);
    for (unsigned n = 0; n < 64; n++) {
        const unsigned rpl = n & 3, code_type = n & 4 ? 3 : 0xb;

        build(VCPU_REGIME_EPT);
        start(VCPU_START_REAL);
        for (unsigned segment = 0; segment < 6; segment++) {
            fake_set(vmcs_field_at(VMCS_INDEX_GUEST_ES_SELECTOR + segment), 0x1230 | (rpl + segment) % 4);
            fake_set(vmcs_field_at(VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS + segment),
                     segment == 1 ? 0x90 | code_type : 0x93);
        }
        memset(vcpu.known, 0, sizeof(vcpu.known));
        set_regime(VCPU_REGIME_SHADOW);

        const uint64_t cs = fake_get(VMCS_GUEST_CS_ACCESS_RIGHTS), ss = fake_get(VMCS_GUEST_SS_ACCESS_RIGHTS);
        assert_int_equal(cs, 0x9b);
        assert_int_equal(ss, 0x93);
        assert_int_equal(fake_get(VMCS_GUEST_CS_SELECTOR), 0x1230);
        assert_int_equal(fake_get(VMCS_GUEST_SS_SELECTOR), 0x1230);
        for (unsigned segment = 0; segment < 6; segment++) {
            const uint64_t selector = fake_get(vmcs_field_at(VMCS_INDEX_GUEST_ES_SELECTOR + segment));
            const uint64_t rights = fake_get(vmcs_field_at(VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS + segment));

            if (segment != 1 && segment != 2)
                assert_int_equal(selector, 0x1230 | (rpl + segment) % 4);
            assert_true((rights >> 5 & 3) >= (selector & 3));
            assert_int_equal(rights & ~0x60ULL, segment == 1 ? 0x9b : 0x93);
        }
    }

    /* A guest that was in protected mode all along keeps what it has. */
    set_processor(LYNNFIELD);
    build(VCPU_REGIME_EPT);
    start(VCPU_START_LONG_64);
    vcpu_write(&vcpu, VMCS_GUEST_DS_SELECTOR, 0x2b);
    vcpu_write(&vcpu, VMCS_GUEST_DS_ACCESS_RIGHTS, 0xc0f3);
    vcpu_write(&vcpu, VMCS_GUEST_SS_SELECTOR, 0x2b);
    vcpu_write(&vcpu, VMCS_GUEST_SS_ACCESS_RIGHTS, 0xc0f3);
    set_regime(VCPU_REGIME_SHADOW);
    assert_int_equal(fake_get(VMCS_GUEST_SS_SELECTOR), 0x2b);
    assert_int_equal(fake_get(VMCS_GUEST_DS_ACCESS_RIGHTS), 0xc0f3);
}

/* Fails when a snapshot shows Umbra's values for the guest's, also where the processor has no such field. */
static void snapshot_is_the_guests(void **state)
{
    static struct vcpu_snapshot snapshot;

    (void)state;
    for (unsigned which = 0; which < PROCESSORS; which++) {
        set_processor(which);
        build(VCPU_REGIME_SHADOW);
        start(VCPU_START_PROTECTED_32);
        vcpu_write_pat(&vcpu, guest_pat = 0x0106010601060106);
        vcpu_take_snapshot(&vcpu, &snapshot);
        assert_true(snapshot.valid);
        assert_int_equal(snapshot.values[VMCS_INDEX_GUEST_CR0], guest_cr0);
        assert_int_equal(snapshot.values[VMCS_INDEX_GUEST_CR3], guest_cr3);
        assert_int_equal(snapshot.values[VMCS_INDEX_GUEST_CR4], guest_cr4);
        assert_int_equal(snapshot.values[VMCS_INDEX_GUEST_EFER], guest_efer);
        assert_int_equal(snapshot.values[VMCS_INDEX_GUEST_PAT], guest_pat);
        assert_true(snapshot.known[VMCS_INDEX_GUEST_PAT / 64] & BIT(VMCS_INDEX_GUEST_PAT % 64));
        assert_true(snapshot.known[VMCS_INDEX_GUEST_EFER / 64] & BIT(VMCS_INDEX_GUEST_EFER % 64));
    }
}

/* Fails when RIP wraps at 32 bits in 64-bit mode, or does not outside it, with an EFER of Umbra's in the
 * hardware. */
static void instruction_pointer(void **state)
{
    (void)state;
    set_processor(SKYLAKE_X);
    for (unsigned n = 0; n < 2; n++) {
        build(VCPU_REGIME_SHADOW);
        start(n ? VCPU_START_LONG_64 : VCPU_START_PROTECTED_32);
        vcpu_write(&vcpu, VMCS_GUEST_RIP, 0xffffffff);
        vcpu_skip_bytes(&vcpu, 1);
        assert_int_equal(fake_get(VMCS_GUEST_RIP), n ? 0x100000000 : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_processor),         cmocka_unit_test(every_processor_without),
        cmocka_unit_test(running_controls),        cmocka_unit_test(bitmaps_follow_the_apic),
        cmocka_unit_test(segments_from_real_mode), cmocka_unit_test(snapshot_is_the_guests),
        cmocka_unit_test(instruction_pointer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
