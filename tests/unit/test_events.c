// SPDX-License-Identifier: BSD-2-Clause
/*
 * vmx/events.c, rule by rule. Fails when an event whose delivery was interrupted comes back changed or not at
 * all, when two exceptions merge otherwise than the SDM's tables say, when an injection would fail the
 * processor's checks, when a window is not asked for (or one that cannot open), and when an entry at which
 * nothing changed writes to the VMCS.
 */
#include "vmx/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mm/physmap.h"
#include "tests/unit/fake_vmcs.h"

#define EXTERNAL(vector)  (BIT(31) | (vector))
#define NMI               (BIT(31) | 2 << 8 | 2)
#define EXCEPTION(vector) (BIT(31) | 3 << 8 | (vector))
#define WITH_CODE         BIT(11)
#define SOFTWARE(t, v)    (BIT(31) | (t) << 8 | (v))
#define INTERRUPT_WINDOW  BIT(2)
#define NMI_WINDOW        BIT(22)
#define PRIMARY_OTHERS    (BIT(21) | BIT(7)) /* TPR shadow, HLT exiting */

/* An interrupt controller of one request. */
static struct {
    int pending; /* -1: none */
    bool gone;   /* it is withdrawn before it is acknowledged */
    unsigned taken;
    uint8_t threshold;
} source;

static int source_pending(void *context)
{
    assert_ptr_equal(context, &source);
    return source.pending;
}

static int source_take(void *context)
{
    int vector = source.gone ? -1 : source.pending;

    (void)context;
    source.pending = -1;
    source.taken++;
    return vector;
}

static uint8_t source_threshold(void *context)
{
    (void)context;
    return source.threshold;
}

static const struct vcpu_interrupt_ops source_ops = {source_pending, source_take, source_threshold};
static struct vcpu vcpu;
static uint32_t apic_page[PAGE_SIZE / 4] __aligned(PAGE_SIZE);

static int setup(void **state)
{
    (void)state;
    memset(&fake_vmcs, 0, sizeof(fake_vmcs));
    memset(&vcpu, 0, sizeof(vcpu));
    memset(&source, 0, sizeof(source));
    source.pending = -1;
    vcpu.enter = vcpu_enter;
    vcpu.interrupt_ops = &source_ops;
    vcpu.interrupt_context = &source;
    vcpu.controls.words[VMX_WORD_PRIMARY] = PRIMARY_OTHERS;
    fake_set(VMCS_PRIMARY_CONTROLS, PRIMARY_OTHERS);
    fake_set(VMCS_VIRTUAL_APIC_ADDRESS, physmap_address(apic_page).value);
    fake_set(VMCS_GUEST_CR0, X86_CR0_PE);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF);
    vcpu_events_reset(&vcpu);
    return 0;
}

/* An exit, and what the run loop does first after it. `vectoring`: the event whose delivery it interrupted.
 */
static void exits_during(uint64_t vectoring, uint64_t error_code, uint64_t length)
{
    fake_set(VMCS_IDT_VECTORING_INFO, vectoring);
    fake_set(VMCS_IDT_VECTORING_ERROR_CODE, error_code);
    fake_set(VMCS_EXIT_INSTRUCTION_LENGTH, length);
    assert_int_equal(vcpu_run(&vcpu, 0), VCPU_RAN);
    vcpu_events_after_exit(&vcpu);
}

static void exits(void)
{
    exits_during(0, 0xbad, 0xbad);
}

/* What is injected at the entry, which has to be one that the processor accepts. */
static uint32_t enters(void)
{
    vcpu_events_before_entry(&vcpu);
    fake_check_entry();
    return fake_injection();
}

static uint64_t windows(void)
{
    uint64_t primary = fake_get(VMCS_PRIMARY_CONTROLS);

    assert_int_equal(primary & ~(INTERRUPT_WINDOW | NMI_WINDOW), PRIMARY_OTHERS);
    return primary & (INTERRUPT_WINDOW | NMI_WINDOW);
}

static void guest(uint64_t rflags, uint64_t blocking)
{
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | rflags);
    fake_set(VMCS_GUEST_INTERRUPTIBILITY, blocking);
}

static void interrupt(int vector)
{
    source.pending = vector;
    vcpu_events_changed(&vcpu);
}

/* ---- One rule each ------------------------------------------------------------------------------------ */

/* Fails when an entry looks at events, or writes, without a reason. */
static void nothing_changed(void **state)
{
    (void)state;
    assert_int_equal(enters(), 0);
    exits();
    fake_vmcs.reads = fake_vmcs.writes = 0;
    assert_int_equal(enters(), 0);
    assert_int_equal(fake_vmcs.reads + fake_vmcs.writes, 0);

    /* Looking again and finding the same is no reason either: what was read and written is known. */
    vcpu_events_changed(&vcpu);
    assert_int_equal(enters(), 0);
    fake_vmcs.reads = fake_vmcs.writes = 0;
    vcpu_events_changed(&vcpu);
    assert_int_equal(enters(), 0);
    assert_int_equal(fake_vmcs.reads + fake_vmcs.writes, 0);
    assert_int_equal(windows(), 0);
}

/* Fails when an interrupted delivery is not repeated as it was. */
static void delivered_again(void **state)
{
    (void)state;
    static const struct {
        uint64_t information, error_code, length;
    } cases[] = {
        {EXTERNAL(0x31), 0, 0},
        {EXTERNAL(255), 0, 0},
        {NMI, 0, 0},
        {EXCEPTION(X86_VECTOR_DE), 0, 0},
        {EXCEPTION(X86_VECTOR_DB), 0, 0},
        {EXCEPTION(X86_VECTOR_DF) | WITH_CODE, 0, 0},
        {EXCEPTION(X86_VECTOR_GP) | WITH_CODE, 0x1234, 0},
        {EXCEPTION(X86_VECTOR_PF) | WITH_CODE, 0x8007, 0},
        {SOFTWARE(4, 0x80), 0, 2},
        {SOFTWARE(5, X86_VECTOR_DB), 0, 1},
        {SOFTWARE(6, X86_VECTOR_BP), 0, 1},
        {SOFTWARE(6, X86_VECTOR_OF), 0, 15},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t information = cases[i].information;
        setup(state);
        /* Bit 12 is undefined there, and reserved here. An NMI was blocking already. */
        guest(X86_RFLAGS_IF, information == NMI ? BLOCKING_BY_NMI : 0);
        exits_during(information | EVENT_NMI_UNBLOCKED, cases[i].error_code, cases[i].length);
        assert_int_equal(enters(), information);
        if (information & WITH_CODE)
            assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), cases[i].error_code);
        if (cases[i].length != 0)
            assert_int_equal(fake_get(VMCS_ENTRY_INSTRUCTION_LENGTH), cases[i].length);
        assert_int_equal(fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_RF, 0);
        /* Once delivered it is over. */
        exits();
        assert_int_equal(enters(), 0);
    }
    /* An event that was not being delivered is none. */
    setup(state);
    exits_during(EXCEPTION(X86_VECTOR_GP) & ~BIT(31), 0, 0);
    assert_int_equal(enters(), 0);
}

/*
 * Where the processor delivers the local APIC's interrupts by itself (vmx/apicv.h). Fails when one whose
 * delivery exited does not come back with the vector in service, or when an event that was injected, or is no
 * external interrupt, comes back with it.
 */
static void delivered_again_by_processor(void **state)
{
    (void)state;
    static const struct {
        uint64_t injected, vectoring, again;
    } cases[] = {
        {0, EXTERNAL(0x61), EXTERNAL(0x61)},
        {0, EXTERNAL(0x51), EXTERNAL(0x61)}, /* Bochs names the one that is requested next, ... */
        {0, EXTERNAL(0), EXTERNAL(0x61)},    /* ... or none */
        {EXTERNAL(0x20), EXTERNAL(0x20), EXTERNAL(0x20)},
        /* What was injected is delivered; the next delivery is the processor's. */
        {EXTERNAL(0x20), EXTERNAL(0x51), EXTERNAL(0x61)},
        {SOFTWARE(4, 0x51), EXTERNAL(0x51), EXTERNAL(0x61)},
        {EXTERNAL(0x20), NMI, NMI},
        {0, NMI, NMI},
        {0, EXCEPTION(X86_VECTOR_DE), EXCEPTION(X86_VECTOR_DE)},
        {0, EXCEPTION(X86_VECTOR_PF) | WITH_CODE, EXCEPTION(X86_VECTOR_PF) | WITH_CODE},
        {0, SOFTWARE(4, 0x80), SOFTWARE(4, 0x80)},
    };
    const uint64_t in_service = 0x61 << 8 | 0x51; /* SVI, and RVI, which is not looked at */

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        for (unsigned delivers = 0; delivers < 2; delivers++) {
            setup(state);
            fake_set(VMCS_SECONDARY_CONTROLS, delivers ? VMX_SECONDARY_VIRTUAL_INTERRUPT_DELIVERY : 0);
            if (cases[i].injected != 0)
                vcpu_requeue_event(&vcpu, cases[i].injected, 0, 2);
            assert_int_equal(enters(), cases[i].injected);
            fake_set(VMCS_GUEST_INTERRUPT_STATUS, in_service);
            exits_during(cases[i].vectoring, 0, 2);
            uint64_t again = delivers ? cases[i].again : cases[i].vectoring;
            assert_int_equal(enters(), again);
            /* It is injected now: if its delivery exits once more, it is told rightly. */
            fake_set(VMCS_GUEST_INTERRUPT_STATUS, 0x71 << 8);
            exits_during(again, 0, 2);
            assert_int_equal(enters(), again);
        }
    }

    /* What an earlier entry injected is over. */
    setup(state);
    fake_set(VMCS_SECONDARY_CONTROLS, VMX_SECONDARY_VIRTUAL_INTERRUPT_DELIVERY);
    vcpu_requeue_event(&vcpu, EXTERNAL(0x51), 0, 0);
    assert_int_equal(enters(), EXTERNAL(0x51));
    exits();
    assert_int_equal(enters(), 0);
    fake_set(VMCS_GUEST_INTERRUPT_STATUS, in_service);
    exits_during(EXTERNAL(0x51), 0, 0);
    assert_int_equal(enters(), EXTERNAL(0x61));
}

/* Fails when an event comes while it is blocked, or its window is not asked for. */
static void windows_open(void **state)
{
    (void)state;
    static const struct {
        bool nmi;
        uint64_t rflags, blocking, windows;
        bool injected;
    } cases[] = {
        {false, X86_RFLAGS_IF, 0, 0, true},
        {false, 0, 0, INTERRUPT_WINDOW, false},
        {false, X86_RFLAGS_IF, BLOCKING_BY_STI, INTERRUPT_WINDOW, false},
        {false, X86_RFLAGS_IF, BLOCKING_BY_MOV_SS, INTERRUPT_WINDOW, false},
        {false, X86_RFLAGS_IF, BLOCKING_BY_NMI, 0, true},
        {true, X86_RFLAGS_IF, 0, 0, true},
        {true, 0, 0, 0, true},
        {true, 0, BLOCKING_BY_NMI, NMI_WINDOW, false},
        {true, 0, BLOCKING_BY_MOV_SS, NMI_WINDOW, false},
        /* An NMI window that is open in the shadow of STI, where no NMI may go, would exit for ever. */
        {true, X86_RFLAGS_IF, BLOCKING_BY_STI, INTERRUPT_WINDOW, false},
        {true, X86_RFLAGS_IF, BLOCKING_BY_STI | BLOCKING_BY_NMI, INTERRUPT_WINDOW, false},
    };

    /* An event that is injected ends the shadow. */
    guest(X86_RFLAGS_IF, BLOCKING_BY_STI);
    vcpu_queue_nmi(&vcpu);
    assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_UD, false, 0));
    assert_int_equal(enters(), EXCEPTION(X86_VECTOR_UD));
    assert_int_equal(windows(), NMI_WINDOW);

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        setup(state);
        guest(cases[i].rflags, cases[i].blocking);
        if (cases[i].nmi)
            vcpu_queue_nmi(&vcpu);
        else
            interrupt(0x40);
        assert_int_equal(enters(), cases[i].injected ? (cases[i].nmi ? NMI : EXTERNAL(0x40)) : 0);
        assert_int_equal(windows(), cases[i].windows);

        /* When nothing holds it back any more it is delivered, once, and the window is closed. */
        exits();
        guest(X86_RFLAGS_IF, 0);
        vcpu_events_changed(&vcpu);
        assert_int_equal(enters(), cases[i].injected ? 0 : cases[i].nmi ? NMI : EXTERNAL(0x40));
        assert_int_equal(windows(), 0);
        assert_int_equal(source.taken, !cases[i].nmi);
        exits();
        vcpu_events_changed(&vcpu);
        assert_int_equal(enters(), 0);
    }
}

/* Fails when the order is not: what was under way, NMI, interrupt; or what has to wait gets no window. */
static void priorities(void **state)
{
    (void)state;
    interrupt(0x40);
    vcpu_queue_nmi(&vcpu);
    assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_UD, false, 0));
    assert_int_equal(enters(), EXCEPTION(X86_VECTOR_UD));
    assert_int_equal(windows(), INTERRUPT_WINDOW | NMI_WINDOW);
    exits();
    vcpu_events_changed(&vcpu);
    assert_int_equal(enters(), NMI);
    assert_int_equal(windows(), INTERRUPT_WINDOW);
    exits();
    vcpu_events_changed(&vcpu);
    assert_int_equal(enters(), EXTERNAL(0x40));
    assert_int_equal(windows(), 0);

    /* A request that is withdrawn before it is acknowledged injects nothing. */
    exits();
    source.gone = true;
    interrupt(0x41);
    assert_int_equal(enters(), 0);
    assert_int_equal(windows(), 0);
}

/* Fails when an interrupt or NMI is lost, or taken twice, because its delivery ran into a fault. */
static void deferred(void **state)
{
    (void)state;
    interrupt(0x40);
    assert_int_equal(enters(), EXTERNAL(0x40));
    exits_during(EXTERNAL(0x40), 0, 0);
    assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_PF, true, 2));
    interrupt(0x50); /* the controller has the next one already */
    assert_int_equal(enters(), EXCEPTION(X86_VECTOR_PF) | WITH_CODE);
    assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), 2);
    assert_int_equal(windows(), INTERRUPT_WINDOW);
    exits();
    vcpu_events_changed(&vcpu);
    assert_int_equal(enters(), EXTERNAL(0x40));
    assert_int_equal(source.taken, 1);
    assert_int_equal(windows(), INTERRUPT_WINDOW);
    exits();
    vcpu_events_changed(&vcpu);
    assert_int_equal(enters(), EXTERNAL(0x50));
    assert_int_equal(source.taken, 2);

    setup(state);
    guest(X86_RFLAGS_IF, BLOCKING_BY_NMI);
    exits_during(NMI, 0, 0);
    assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_GP, true, 0x11));
    assert_int_equal(enters(), EXCEPTION(X86_VECTOR_GP) | WITH_CODE);
    assert_int_equal(windows(), NMI_WINDOW);
    exits();
    vcpu_events_changed(&vcpu);
    assert_int_equal(enters(), NMI);

    /* A software interrupt is the instruction's doing, which is run again: it must not wait as well. */
    setup(state);
    exits_during(SOFTWARE(4, 0x80), 0, 2);
    assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_NP, true, 0x402));
    assert_int_equal(enters(), EXCEPTION(X86_VECTOR_NP) | WITH_CODE);
    exits();
    vcpu_events_changed(&vcpu);
    assert_int_equal(enters(), 0);
}

/*
 * SDM vol. 3, tables "Interrupt and exception classes" and "Conditions for generating a double fault". Fails
 * when any of the 32 x 32 pairs, or a pair whose first is no exception, merges otherwise.
 */
static void merging(void **state)
{
    (void)state;
    enum class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };
    enum outcome { SECOND, DOUBLE, SHUTDOWN };
    static const enum class classes[32] = {
        [0] = CONTRIBUTORY,  [10] = CONTRIBUTORY, [11] = CONTRIBUTORY,
        [12] = CONTRIBUTORY, [13] = CONTRIBUTORY, [21] = CONTRIBUTORY,
        [14] = PAGE_FAULT,   [20] = PAGE_FAULT,   [8] = DOUBLE_FAULT,
    };
    static const enum outcome outcomes[4][4] = {
        [BENIGN] = {SECOND, SECOND, SECOND, SECOND},
        [CONTRIBUTORY] = {SECOND, DOUBLE, SECOND, SECOND},
        [PAGE_FAULT] = {SECOND, DOUBLE, DOUBLE, SECOND},
        [DOUBLE_FAULT] = {SECOND, SHUTDOWN, SHUTDOWN, SECOND},
    };
    static const uint64_t benign[] = {EXTERNAL(14), NMI, SOFTWARE(4, 13), SOFTWARE(5, 1), SOFTWARE(6, 3)};

    for (unsigned first = 0; first < 32 + ARRAY_SIZE(benign); first++) {
        for (unsigned second = 0; second < 32; second++) {
            uint64_t under_way = first < 32 ? EXCEPTION(first) : benign[first - 32];
            enum class class = first < 32 ? classes[first] : BENIGN;
            bool code = fake_pushes_error_code(second);

            setup(state);
            if (first < 32 && fake_pushes_error_code(first))
                under_way |= WITH_CODE;
            exits_during(under_way, 0, 1);
            bool goes_on = vcpu_queue_exception(&vcpu, (uint8_t)second, code, 0x99);
            enum outcome outcome = outcomes[class][classes[second]];
            assert_int_equal(goes_on, outcome != SHUTDOWN);
            if (outcome == SECOND) {
                assert_int_equal(enters(), EXCEPTION(second) | (code ? WITH_CODE : 0));
                if (code)
                    assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), 0x99);
            } else if (outcome == DOUBLE) {
                assert_int_equal(enters(), EXCEPTION(8) | WITH_CODE);
                assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), 0);
            }
        }
    }

    /* Two that are queued one after the other merge in the same way. */
    setup(state);
    assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_GP, true, 0));
    assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_NP, true, 8));
    assert_int_equal(enters(), EXCEPTION(8) | WITH_CODE);
    assert_false(vcpu_queue_exception(&vcpu, X86_VECTOR_PF, true, 0));
}

/* Fails when an exception in real mode has an error code, with which the entry fails. */
static void real_mode(void **state)
{
    (void)state;
    fake_set(VMCS_GUEST_CR0, 0);
    assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_GP, true, 0));
    assert_int_equal(enters(), EXCEPTION(X86_VECTOR_GP));
    exits_during(EXCEPTION(X86_VECTOR_GP), 0, 0);
    assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_SS, true, 0));
    assert_int_equal(enters(), EXCEPTION(X86_VECTOR_DF));
}

/* Fails when a fault leaves RF clear, or a debug trap sets it (SDM vol. 3, "Debug exceptions"). */
static void resume_flag(void **state)
{
    (void)state;
    for (unsigned vector = 0; vector < 32; vector++) {
        setup(state);
        assert_true(vcpu_queue_exception(&vcpu, (uint8_t)vector, fake_pushes_error_code(vector), 0));
        enters();
        assert_int_equal((fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_RF) != 0, vector != X86_VECTOR_DB);
    }
}

/* Fails when the threshold is not the controller's, or is written where there is no TPR shadow. */
static void tpr_threshold(void **state)
{
    (void)state;
    source.threshold = 7;
    vcpu_events_changed(&vcpu);
    enters();
    assert_int_equal(fake_get(VMCS_TPR_THRESHOLD), 7);
    exits();
    source.threshold = 0;
    enters();
    assert_int_equal(fake_get(VMCS_TPR_THRESHOLD), 7); /* nobody said that it changed */
    vcpu_events_changed(&vcpu);
    enters();
    assert_int_equal(fake_get(VMCS_TPR_THRESHOLD), 0);

    vcpu.controls.words[VMX_WORD_PRIMARY] = 0;
    source.threshold = 3;
    vcpu_events_changed(&vcpu);
    enters();
    assert_int_equal(fake_get(VMCS_TPR_THRESHOLD), 0);
}

/* Fails when an intercepted event does not go on as it was. */
static void requeued(void **state)
{
    (void)state;
    exits();
    vcpu_requeue_event(&vcpu, SOFTWARE(5, X86_VECTOR_DB) | EVENT_NMI_UNBLOCKED, 0, 1);
    assert_int_equal(enters(), SOFTWARE(5, X86_VECTOR_DB));
    assert_int_equal(fake_get(VMCS_ENTRY_INSTRUCTION_LENGTH), 1);
    exits();
    vcpu_requeue_event(&vcpu, EXCEPTION(X86_VECTOR_AC) | WITH_CODE, 0, 7);
    assert_int_equal(enters(), EXCEPTION(X86_VECTOR_AC) | WITH_CODE);
    assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), 0);
}

/* Fails when an IRET that faulted after it had unblocked NMIs leaves them unblocked. */
static void nmi_blocking_restored(void **state)
{
    (void)state;
    exits();
    vcpu_restore_nmi_blocking(&vcpu, 0);
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPTIBILITY), 0);
    vcpu_restore_nmi_blocking(&vcpu, EVENT_NMI_UNBLOCKED);
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);

    /* During a delivery the bit is undefined. */
    setup(state);
    exits_during(EXTERNAL(0x40), 0, 0);
    vcpu_restore_nmi_blocking(&vcpu, EVENT_NMI_UNBLOCKED);
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPTIBILITY), 0);
}

/* Fails when a HLT does not end, or ends for nothing. */
static void wakes(void **state)
{
    (void)state;
    assert_false(vcpu_events_would_wake(&vcpu));
    interrupt(0x40);
    assert_true(vcpu_events_would_wake(&vcpu));
    exits();
    guest(0, 0);
    assert_false(vcpu_events_would_wake(&vcpu));
    vcpu_queue_nmi(&vcpu);
    assert_true(vcpu_events_would_wake(&vcpu));
    exits();
    guest(0, BLOCKING_BY_NMI);
    assert_false(vcpu_events_would_wake(&vcpu));
    exits();
    fake_set(VMCS_GUEST_PENDING_DEBUG, X86_DR6_B(1)); /* a breakpoint's condition alone is no trap */
    assert_false(vcpu_events_would_wake(&vcpu));
    exits();
    fake_set(VMCS_GUEST_PENDING_DEBUG, X86_DR6_BS);
    assert_true(vcpu_events_would_wake(&vcpu));
    exits();
    fake_set(VMCS_GUEST_PENDING_DEBUG, 0);
    assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_UD, false, 0));
    assert_true(vcpu_events_would_wake(&vcpu));

    vcpu_events_reset(&vcpu);
    source.pending = -1;
    exits();
    guest(X86_RFLAGS_IF, 0);
    assert_false(vcpu_events_would_wake(&vcpu));
    assert_int_equal(enters(), 0);
    assert_int_equal(windows(), 0);
}

/* ---- A random stream against a model ------------------------------------------------------------------ */

/*
 * A processor's events, as a list of what waits and of what keeps it waiting. `raised` and `delivered` count
 * every interrupt by vector: none is lost, none comes twice.
 */
static struct {
    uint64_t under_way; /* an exception, or what an exit interrupted: it goes before all others */
    uint64_t deferred;  /* an acknowledged interrupt whose delivery faulted */
    bool nmi;
    bool requested[256];
    unsigned raised[256], delivered[256];
    unsigned nmis_latched, nmis_delivered;
} model;

static int model_highest(void *context)
{
    (void)context;
    for (int vector = 255; vector >= 32; vector--)
        if (model.requested[vector])
            return vector;
    return -1;
}

static int model_take(void *context)
{
    int vector = model_highest(context);

    model.requested[vector] = false;
    return vector;
}

static bool model_interrupt_waits(void)
{
    return model.deferred != 0 || model_highest(NULL) >= 0;
}

static bool interrupts_open(void)
{
    return (fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_IF) &&
           !(fake_get(VMCS_GUEST_INTERRUPTIBILITY) & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
}

/* What the next entry has to inject. */
static uint64_t model_next(void)
{
    uint64_t next = model.under_way;

    if (next == 0 && model.nmi && fake_get(VMCS_GUEST_INTERRUPTIBILITY) == 0)
        next = NMI;
    if (next == 0 && interrupts_open() && model_interrupt_waits())
        next = model.deferred != 0 ? model.deferred : EXTERNAL((unsigned)model_highest(NULL));
    if (next == NMI && model.under_way == 0)
        model.nmi = false;
    if (next != 0 && next == model.deferred && model.under_way == 0)
        model.deferred = 0;
    model.under_way = 0;
    return next;
}

static uint64_t random_state = 88172645463325252ULL;

static unsigned chance(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % n;
}

/* The guest gets what was injected. */
static void model_deliver(uint64_t event)
{
    uint64_t blocking = fake_get(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI;
    uint64_t rflags = fake_get(VMCS_GUEST_RFLAGS) & ~(uint64_t)X86_RFLAGS_RF;

    if (event == NMI) {
        model.nmis_delivered++;
        blocking |= BLOCKING_BY_NMI;
    } else if (EVENT_TYPE(event) == VCPU_EVENT_EXTERNAL_INTERRUPT) {
        model.delivered[EVENT_VECTOR(event)]++;
    }
    fake_set(VMCS_GUEST_INTERRUPTIBILITY, blocking);
    fake_set(VMCS_GUEST_RFLAGS, chance(2) ? rflags & ~(uint64_t)X86_RFLAGS_IF : rflags);
}

/* The guest runs for a while: STI, CLI, MOV SS, IRET; until a window stops it. */
static void model_run_guest(void)
{
    static const uint64_t states[][2] = {
        {0, 0},
        {X86_RFLAGS_IF, 0},
        {X86_RFLAGS_IF, BLOCKING_BY_STI},
        {0, BLOCKING_BY_MOV_SS},
    };

    bool shadow = (fake_get(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_BY_STI) != 0;

    for (unsigned steps = chance(4); steps > 0; steps--) {
        uint64_t nmi_blocking = chance(3) == 0 ? 0 : fake_get(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_BY_NMI;
        const uint64_t *next = states[chance(ARRAY_SIZE(states))];

        guest(next[0], next[1] | nmi_blocking);
        if ((windows() & INTERRUPT_WINDOW) && interrupts_open())
            break;
        /* This processor opens the NMI window in the shadow of STI. */
        if ((windows() & NMI_WINDOW) &&
            !(fake_get(VMCS_GUEST_INTERRUPTIBILITY) & (BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS)))
            break;
        /* Nothing that waits is held back by anything but the guest. Only an NMI that met the shadow of an
         * STI whose next instruction clears IF is a little late. */
        assert_false(interrupts_open() && model_interrupt_waits());
        assert_false(fake_get(VMCS_GUEST_INTERRUPTIBILITY) == 0 && model.nmi && !shadow);
    }
    if (!(shadow && model.nmi))
        vcpu_events_changed(&vcpu); /* as the exit of a window says it */
}

static void stimulate(void)
{
    if (chance(3) == 0) {
        unsigned vector = 32 + chance(224);
        model.raised[vector] += !model.requested[vector];
        model.requested[vector] = true;
        vcpu_events_changed(&vcpu);
    }
    if (chance(8) == 0) {
        model.nmis_latched += !model.nmi;
        model.nmi = true;
        vcpu_queue_nmi(&vcpu);
    }
}

/* One entry and one exit, of three kinds: the delivery is interrupted, it faults, or the guest runs. */
static void one_round(void)
{
    uint64_t event = model_next();

    assert_int_equal(enters(), event);
    unsigned kind = event != 0 ? chance(4) : 3;
    if (kind >= 2 && event != 0)
        model_deliver(event);
    if (kind >= 2)
        model_run_guest();
    if (kind < 2) { /* the processor has taken the event, but not brought it to the guest */
        if (event == NMI)
            fake_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI);
        exits_during(event, 0, 0);
        model.under_way = event;
    } else {
        exits();
    }
    bool benign = event == 0 || kind != 0 || EVENT_TYPE(event) != VCPU_EVENT_HARDWARE_EXCEPTION;
    if (kind == 0 && benign) {
        assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_UD, false, 0));
        if (event == NMI) {
            model.nmis_latched += !model.nmi; /* two that wait are one */
            model.nmis_latched--;
            model.nmi = true;
        } else {
            model.deferred = event;
        }
        model.under_way = EXCEPTION(X86_VECTOR_UD);
    } else if (kind == 3 && chance(8) == 0) {
        assert_true(vcpu_queue_exception(&vcpu, X86_VECTOR_UD, false, 0));
        model.under_way = EXCEPTION(X86_VECTOR_UD);
    }
}

/* Fails when an event is lost, comes twice or out of order, or waits although it could be delivered. */
static void random_stream(void **state)
{
    static const struct vcpu_interrupt_ops ops = {model_highest, model_take, source_threshold};
    (void)state;

    vcpu.interrupt_ops = &ops;
    memset(&model, 0, sizeof(model));
    for (unsigned round = 0; round < 200000; round++) {
        stimulate();
        one_round();
    }
    /* What still waits is delivered to a guest that lets it. */
    for (unsigned round = 0; round < 500; round++) {
        guest(X86_RFLAGS_IF, 0);
        exits();
        vcpu_events_changed(&vcpu);
        uint64_t event = model_next();
        assert_int_equal(enters(), event);
        if (event != 0)
            model_deliver(event);
    }
    assert_memory_equal(model.raised, model.delivered, sizeof(model.raised));
    assert_int_equal(model.nmis_latched, model.nmis_delivered);
    assert_true(model.nmis_delivered > 1000);
    unsigned delivered = 0;
    for (unsigned vector = 32; vector < 256; vector++)
        delivered += model.delivered[vector];
    assert_true(delivered > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_changed, setup),
        cmocka_unit_test_setup(delivered_again, setup),
        cmocka_unit_test_setup(delivered_again_by_processor, setup),
        cmocka_unit_test_setup(windows_open, setup),
        cmocka_unit_test_setup(priorities, setup),
        cmocka_unit_test_setup(deferred, setup),
        cmocka_unit_test_setup(merging, setup),
        cmocka_unit_test_setup(real_mode, setup),
        cmocka_unit_test_setup(resume_flag, setup),
        cmocka_unit_test_setup(tpr_threshold, setup),
        cmocka_unit_test_setup(requeued, setup),
        cmocka_unit_test_setup(nmi_blocking_restored, setup),
        cmocka_unit_test_setup(wakes, setup),
        cmocka_unit_test_setup(random_stream, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
