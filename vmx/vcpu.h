// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * One virtual processor as the hardware has it: its VMCS, its general registers, and what Umbra knows of
 * both.
 *
 * VMCS fields are reached through a cache: a field is read from the processor at most once between two exits,
 * and a value that is already there is not written. Fields that the processor changes (guest state, exit
 * information) are forgotten at each entry; controls and host state are Umbra's alone and stay known for
 * ever.
 *
 * A vCPU is in one of two regimes (enum vcpu_regime). In the shadow regime the hardware's CR3, IA32_EFER and
 * IA32_PAT are Umbra's, as the tables that the processor walks are, and so are some bits of CR0 and CR4 (by
 * the policy); the guest's own values are read and written by the functions here in either regime, never by
 * the fields of the VMCS.
 *
 * All functions want the vCPU's VMCS to be current on this processor (vcpu_load), and interrupts off.
 */
#include "lib/panic.h"
#include "lib/types.h"
#include "vmx/controls.h"
#include "vmx/fields.h"
#include "vmx/instructions.h"
#include "vmx/policy_cr.h"
#include "vmx/state.h"

/* General registers in the processor's own order. RSP is a VMCS field: vcpu_read_register knows. */
enum vcpu_register {
    VCPU_RAX,
    VCPU_RCX,
    VCPU_RDX,
    VCPU_RBX,
    VCPU_RSP,
    VCPU_RBP,
    VCPU_RSI,
    VCPU_RDI,
    VCPU_R8,
    VCPU_REGISTERS = 16,
};

#define VCPU_FIELD_WORDS ((VMCS_FIELD_COUNT + 63) / 64)

/* The next interrupt for this vCPU: a question to the room above. */
struct vcpu_interrupt_ops {
    /* The vector that would be taken now if the guest allowed it, or -1. */
    int (*pending)(void *context);
    /* Acknowledges it and returns the vector, or -1 if it has gone. */
    int (*take)(void *context);
    /* The TPR threshold that makes the processor exit when a masked interrupt becomes deliverable. */
    uint8_t (*tpr_threshold)(void *context);
};

struct vcpu {
    /* entry.S knows these two. */
    uint64_t registers[VCPU_REGISTERS];
    uint64_t host_rsp;

    unsigned (*enter)(struct vcpu *vcpu,
                      bool launched); /* the way in that this machine needs (vmx/barriers.h) */
    hpa_t vmcs;
    bool launched;
    uint16_t vpid;
    struct vmx_controls controls; /* those of the regime in force, as they are at first */
    bool has_preemption_timer;
    uint8_t preemption_timer_shift;

    /*
     * The field cache: bit n of `known` (of `known_lasting` for the fields that Umbra alone writes) says that
     * values[n] is what the VMCS has.
     */
    uint64_t known[VCPU_FIELD_WORDS];
    uint64_t known_lasting[VCPU_FIELD_WORDS];
    uint64_t values[VMCS_FIELD_COUNT];

    enum vcpu_regime regime;
    const struct register_policy *policy; /* of the regime in force */
    const struct register_policy *policies[VCPU_REGIMES];
    struct vmx_controls regime_controls[VCPU_REGIMES];
    hpa_t msr_bitmaps[VCPU_REGIMES]; /* they follow the local APIC's mode (vmx/apicv.h) */
    struct {
        uint64_t cr3, efer, pat;
    } guest; /* the guest's own values in the shadow regime; in the other they are in the VMCS */

    /* Events (vmx/events.c). */
    const struct vcpu_interrupt_ops *interrupt_ops;
    void *interrupt_context;
    uint32_t injection; /* interruption information of what the next entry injects; 0: nothing */
    uint32_t injection_error_code;
    uint32_t injection_length;
    int deferred_interrupt; /* a vector that was acknowledged but could not be delivered yet; -1: none */
    bool nmi_pending;
    uint32_t
        windows; /* window-exiting controls that are on whatever else is waited for: a guest hypervisor's */
    bool events_changed; /* the next entry has to look at events again */
    uint32_t exceptions; /* exceptions that exit besides Umbra's own: a guest hypervisor's */

    struct vcpu_state *state; /* what neither the VMCS nor `registers` holds */
    struct vcpu_state own_state;

    /*
     * The same virtual processor by another VMCS, which shares `state`: a guest hypervisor and its guest.
     * Both VMCSs are active on the processor that has loaded one of them, until that one is unloaded. NULL:
     * there is none.
     */
    struct vcpu *beside;
    bool has_host_state; /* of the processor where it is active */

    /* Frames of VMCS shadowing (vcpu_link_shadow), with contents; vmcs 0: there are none. */
    struct vcpu_shadow {
        hpa_t vmcs; /* a shadow VMCS */
        hpa_t vmread_bitmap, vmwrite_bitmap;
    } shadow;
};

/* How a vCPU that is built is set up. All memory is the caller's for as long as the vCPU lives. */
struct vcpu_settings {
    const struct vmx_capabilities *capabilities;
    /* By regime; NULL and 0 for one that is never in force. */
    const struct vmx_controls *controls[VCPU_REGIMES];  /* copied */
    const struct register_policy *policy[VCPU_REGIMES]; /* derived for an instance that fits the regime */
    hpa_t msr_bitmap[VCPU_REGIMES];                     /* frames, filled by policy_msr_bitmap */
    enum vcpu_regime regime;                            /* the first one */
    hpa_t root; /* as for vcpu_set_root; may be a frame that is not in use yet, until the first entry */
    const struct vcpu_interrupt_ops *interrupt_ops;
    void *interrupt_context;
    hpa_t vmcs;         /* a frame */
    hpa_t virtual_apic; /* the local APIC's register page */
    uint16_t vpid;      /* not 0, one for each vCPU */
    void *xsave_area;   /* VCPU_XSAVE_AREA_SIZE bytes, a frame of its own */
    uint64_t owner;     /* whose it is: another number for each partition that ever was; not 0 */
    /* The virtual processor that this is another VMCS of, built already and not loaded anywhere; NULL: none.
     * Its state is shared: xsave_area and owner are not used. */
    struct vcpu *beside;
};

/*
 * The mode a vCPU starts in. Segments are flat in the first two (boot protocols of Linux and Multiboot); only
 * the last one wants unrestricted guest.
 */
enum vcpu_start_mode {
    VCPU_START_PROTECTED_32, /* paging off */
    VCPU_START_LONG_64,      /* 4-level paging by cr3 */
    VCPU_START_REAL,         /* as after INIT (SDM vol. 3, table "Processor state following INIT"), with CS by
                                code_selector: where a start-up message sends a processor */
};

struct vcpu_start {
    enum vcpu_start_mode mode;
    uint64_t rip, rsp, rax, rbx, rdx, rsi, cr3;
    uint64_t gdt_base;
    uint16_t gdt_limit;
    uint16_t code_selector, data_selector;
};

/* Makes a vCPU with controls and host state in its VMCS; guest state comes by vcpu_start. -EIO: VMX refuses.
 */
int vcpu_init(struct vcpu *vcpu, const struct vcpu_settings *settings) __must_check;

/* As after power-on: everything that vcpu_start does not set. Its VMCS is current. */
void vcpu_reset(struct vcpu *vcpu);

/*
 * Puts the vCPU's registers in the state of `start`. What an INIT leaves alone (x87 and vector registers,
 * XCR0, most MSRs) stays: vcpu_reset comes before for a first start. Its VMCS is current.
 */
void vcpu_start(struct vcpu *vcpu, const struct vcpu_start *start);

/*
 * Makes the vCPU the one that this processor runs: its VMCS current, its other state in the registers. True
 * if it was not already.
 */
bool vcpu_load(struct vcpu *vcpu);

/* Makes vcpu->beside's VMCS current instead of the vCPU's, which is loaded. General registers are not
 * touched. */
void vcpu_switch(struct vcpu *vcpu);

/* Takes the vCPU off this processor: its state is whole in memory, the VMCS clear. Another may load it then.
 */
void vcpu_unload(struct vcpu *vcpu);

/* The same for whichever vCPU is on this processor, if any. */
void vcpu_unload_current(void);

/*
 * A copy of what a vCPU's registers hold, to be looked at on any processor. CR0, CR3, CR4, IA32_EFER and
 * IA32_PAT are the guest's own in both regimes.
 */
struct vcpu_snapshot {
    bool valid;
    uint64_t registers[VCPU_REGISTERS]; /* RSP too */
    uint64_t values[VMCS_FIELD_COUNT];
    uint64_t known[VCPU_FIELD_WORDS]; /* bit n: values[n] could be read */
};

/* Copies the registers of the vCPU, whose VMCS is current. */
void vcpu_take_snapshot(struct vcpu *vcpu, struct vcpu_snapshot *snapshot);

/* How an attempt to run the guest ended. */
enum vcpu_run_result {
    VCPU_RAN, /* an exit: VMCS_EXIT_REASON says which; it, the vectoring information and RIP are known */
    VCPU_ENTRY_FAILED, /* VMfail: VMCS_VM_INSTRUCTION_ERROR says why */
};

/* Whether no exit changes the field: controls and host state, but for the one control whose valid bit each
 * exit clears. */
static inline bool vcpu_field_lasts(struct vmcs_field field)
{
    return (vmcs_field_class(field) == VMCS_CLASS_CONTROL || vmcs_field_class(field) == VMCS_CLASS_HOST) &&
           field.index != VMCS_INDEX_ENTRY_INTERRUPTION_INFO;
}

/* The field's bit in word `word` of a set of fields; 0 if it is in another word. */
static inline uint64_t vcpu_field_bit(struct vmcs_field field, unsigned word)
{
    return field.index / 64 == word ? BIT(field.index % 64) : 0;
}

static inline uint64_t *vcpu_known_word(struct vcpu *vcpu, struct vmcs_field field)
{
    return &(vcpu_field_lasts(field) ? vcpu->known_lasting : vcpu->known)[field.index / 64];
}

static inline bool vcpu_field_known(struct vcpu *vcpu, struct vmcs_field field)
{
    return (*vcpu_known_word(vcpu, field) >> (field.index % 64) & 1) != 0;
}

static inline void vcpu_read_hardware(struct vcpu *vcpu, struct vmcs_field field)
{
    if (unlikely(!vmx_read(field.encoding, &vcpu->values[field.index])))
        panic("VMREAD of field %#x failed", field.encoding);
}

static inline void vcpu_set_known(struct vcpu *vcpu, struct vmcs_field field)
{
    *vcpu_known_word(vcpu, field) |= BIT(field.index % 64);
}

/* Reads a field from the processor into the cache. */
static inline void vcpu_fetch(struct vcpu *vcpu, struct vmcs_field field)
{
    vcpu_read_hardware(vcpu, field);
    vcpu_set_known(vcpu, field);
}

/* The same for three at once, for those that nearly every exit needs, and that are not known yet. */
static inline void vcpu_fetch3(struct vcpu *vcpu, struct vmcs_field a, struct vmcs_field b,
                               struct vmcs_field c)
{
    vcpu_read_hardware(vcpu, a);
    vcpu_read_hardware(vcpu, b);
    vcpu_read_hardware(vcpu, c);
    vcpu_set_known(vcpu, a);
    vcpu_set_known(vcpu, b);
    vcpu_set_known(vcpu, c);
}

/* A field that is known, without a question. */
static inline uint64_t vcpu_fetched(const struct vcpu *vcpu, struct vmcs_field field)
{
    return vcpu->values[field.index];
}

/* The value of a field. */
static inline uint64_t vcpu_read(struct vcpu *vcpu, struct vmcs_field field)
{
    if (!vcpu_field_known(vcpu, field))
        vcpu_fetch(vcpu, field);
    return vcpu->values[field.index];
}

/* The same for a field that this processor may lack: false if it does. */
static inline bool vcpu_try_read(struct vcpu *vcpu, struct vmcs_field field, uint64_t *value)
{
    if (vcpu_field_known(vcpu, field))
        *value = vcpu->values[field.index];
    return vcpu_field_known(vcpu, field) || vmx_read(field.encoding, value);
}

/* Writes a field whose value is known to change. */
static inline void vcpu_put(struct vcpu *vcpu, struct vmcs_field field, uint64_t value)
{
    if (unlikely(!vmx_write(field.encoding, value)))
        panic("VMWRITE of %#lx to field %#x failed", value, field.encoding);
    vcpu->values[field.index] = value;
    vcpu_set_known(vcpu, field);
}

/*
 * Writes a field behind the cache's back: for those who write many that nobody is likely to look at, and call
 * vcpu_forget at the end.
 */
static inline void vcpu_write_hardware(struct vmcs_field field, uint64_t value)
{
    if (unlikely(!vmx_write(field.encoding, value)))
        panic("VMWRITE of %#lx to field %#x failed", value, field.encoding);
}

/* Of the fields that an exit changes, none is known any more. */
static inline void vcpu_forget(struct vcpu *vcpu)
{
#pragma GCC unroll 8
    for (unsigned word = 0; word < VCPU_FIELD_WORDS; word++)
        vcpu->known[word] = 0;
}

static inline void vcpu_write(struct vcpu *vcpu, struct vmcs_field field, uint64_t value)
{
    if (!vcpu_field_known(vcpu, field) || vcpu->values[field.index] != value)
        vcpu_put(vcpu, field, value);
}

/*
 * With VMCS shadowing, VMREAD and VMWRITE of the guest go to vcpu->shadow.vmcs, as far as the bitmaps let
 * them; without, all of them exit. vcpu->shadow has a VMCS, and the vCPU's own is current.
 */
static inline void vcpu_link_shadow(struct vcpu *vcpu, bool linked)
{
    const uint64_t other = vcpu_read(vcpu, VMCS_SECONDARY_CONTROLS) & ~(uint64_t)VMX_SECONDARY_VMCS_SHADOWING;

    vcpu_write(vcpu, VMCS_VMREAD_BITMAP, vcpu->shadow.vmread_bitmap.value);
    vcpu_write(vcpu, VMCS_VMWRITE_BITMAP, vcpu->shadow.vmwrite_bitmap.value);
    vcpu_write(vcpu, VMCS_SECONDARY_CONTROLS, other | (linked ? VMX_SECONDARY_VMCS_SHADOWING : 0));
    vcpu_write(vcpu, VMCS_VMCS_LINK_POINTER, linked ? vcpu->shadow.vmcs.value : UINT64_MAX);
}

/*
 * Enters the guest until its next exit. `timer`, below 2^32, is how many ticks of the TSC the guest may run
 * at most, where there is a VMX-preemption timer. Interrupts off. Exit path.
 */
static inline enum vcpu_run_result vcpu_run(struct vcpu *vcpu, uint64_t timer)
{
    if (likely(vcpu->has_preemption_timer) &&
        unlikely(
            !vmx_write(VMCS_PREEMPTION_TIMER_VALUE.encoding, (timer >> vcpu->preemption_timer_shift) + 1)))
        panic("the VMX-preemption timer takes no value");
    if (unlikely(vcpu->enter(vcpu, vcpu->launched) != 0))
        return VCPU_ENTRY_FAILED;
    vcpu->launched = true;
    vcpu_read_hardware(vcpu, VMCS_EXIT_REASON);
    vcpu_read_hardware(vcpu, VMCS_IDT_VECTORING_INFO);
    vcpu_read_hardware(vcpu, VMCS_GUEST_RIP);
    /* Nothing else is known any more. Unrolled, these are stores of constants. */
#pragma GCC unroll 8
    for (unsigned word = 0; word < VCPU_FIELD_WORDS; word++)
        vcpu->known[word] = vcpu_field_bit(VMCS_EXIT_REASON, word) |
                            vcpu_field_bit(VMCS_IDT_VECTORING_INFO, word) |
                            vcpu_field_bit(VMCS_GUEST_RIP, word);
    return VCPU_RAN;
}

/* A general register by the processor's number (0-15), RSP included. */
static inline uint64_t vcpu_read_register(struct vcpu *vcpu, unsigned number)
{
    return number == VCPU_RSP ? vcpu_read(vcpu, VMCS_GUEST_RSP) : vcpu->registers[number];
}

static inline void vcpu_write_register(struct vcpu *vcpu, unsigned number, uint64_t value)
{
    if (number == VCPU_RSP)
        vcpu_write(vcpu, VMCS_GUEST_RSP, value);
    else
        vcpu->registers[number] = value;
}

/* The guest's own CR0 and CR4, by read shadow and mask. */
static inline uint64_t vcpu_read_cr0(struct vcpu *vcpu)
{
    return policy_cr_guest(vcpu_read(vcpu, VMCS_GUEST_CR0), vcpu_read(vcpu, VMCS_CR0_READ_SHADOW),
                           policy_cr_mask(&vcpu->policy->cr0));
}

static inline uint64_t vcpu_read_cr4(struct vcpu *vcpu)
{
    return policy_cr_guest(vcpu_read(vcpu, VMCS_GUEST_CR4), vcpu_read(vcpu, VMCS_CR4_READ_SHADOW),
                           policy_cr_mask(&vcpu->policy->cr4));
}

/*
 * The guest's own CR3, IA32_EFER and IA32_PAT. In the EPT regime a write takes effect by itself; in the
 * shadow regime the caller sees to the tables that the processor walks (vcpu_set_root). IA32_EFER is written
 * by vcpu_write_control_state.
 */
static inline uint64_t vcpu_read_cr3(struct vcpu *vcpu)
{
    return vcpu->regime == VCPU_REGIME_SHADOW ? vcpu->guest.cr3 : vcpu_read(vcpu, VMCS_GUEST_CR3);
}

static inline void vcpu_write_cr3(struct vcpu *vcpu, uint64_t value)
{
    if (vcpu->regime == VCPU_REGIME_SHADOW)
        vcpu->guest.cr3 = value;
    else
        vcpu_write(vcpu, VMCS_GUEST_CR3, value);
}

static inline uint64_t vcpu_read_efer(struct vcpu *vcpu)
{
    return vcpu->regime == VCPU_REGIME_SHADOW ? vcpu->guest.efer : vcpu_read(vcpu, VMCS_GUEST_EFER);
}

static inline uint64_t vcpu_read_pat(struct vcpu *vcpu)
{
    return vcpu->regime == VCPU_REGIME_SHADOW ? vcpu->guest.pat : vcpu_read(vcpu, VMCS_GUEST_PAT);
}

static inline void vcpu_write_pat(struct vcpu *vcpu, uint64_t value)
{
    if (vcpu->regime == VCPU_REGIME_SHADOW)
        vcpu->guest.pat = value;
    else
        vcpu_write(vcpu, VMCS_GUEST_PAT, value);
}

/*
 * Gives the guest new values of CR0, CR3, CR4 and EFER, each where the policy puts it; the controls follow
 * EFER.LMA. In the shadow regime a guest without paging has neither CR4.SMEP nor SMAP in the hardware, whose
 * paging is always on.
 */
void vcpu_write_control_state(struct vcpu *vcpu, const struct cr_state *state);

/*
 * The same without guest/host masks and read shadows: the hardware's side of it. For a guest of a guest
 * hypervisor, whose masks are not the policy's alone (nested/merge.h).
 */
void vcpu_write_control_values(struct vcpu *vcpu, const struct cr_state *state);

/* CR0, CR3, CR4, EFER and CS.L as the guest sees them. */
void vcpu_read_control_state(struct vcpu *vcpu, struct cr_state *state);

/*
 * From now on `regime` is in force, with `root` as for vcpu_set_root: controls, MSR bitmap, exception bitmap,
 * and where the guest's registers are. What the guest sees of them stays; what the processor cached of the
 * vCPU's linear addresses goes. The vCPU was built with controls and policy for `regime`. The VMCS is
 * current.
 */
void vcpu_set_regime(struct vcpu *vcpu, enum vcpu_regime regime, hpa_t root);

/*
 * The table that the processor begins its walks at: of EPT, or in the shadow regime of what stands in CR3 (a
 * PAE one lies below 4 GiB). Nothing is invalidated. The VMCS is current.
 */
void vcpu_set_root(struct vcpu *vcpu, hpa_t root);

/* Moves past the instruction that exited: RIP, and the shadows of STI and MOV SS end. */
void vcpu_skip_instruction(struct vcpu *vcpu);

/* The same for one of `length` bytes, where the exit does not tell the length. */
void vcpu_skip_bytes(struct vcpu *vcpu, uint64_t length);

/*
 * An instruction, or one iteration of a repeated one, was executed in the guest's place: where it
 * single-steps, the trap follows. Skipping an instruction does this by itself.
 */
void vcpu_end_step(struct vcpu *vcpu);

/* Has all exceptions of the guest exit, or only those that do in its regime. The VMCS is current. */
void vcpu_intercept_exceptions(struct vcpu *vcpu, bool all);

/* The hardware forgets what it cached of this vCPU's linear addresses (VPID). */
void vcpu_flush_linear(struct vcpu *vcpu);
