// SPDX-License-Identifier: BSD-2-Clause
/*
 * What comes to an Lv2 by itself, or by what it did wrong (SDM vol. 3, "Other Causes of VM Exits"):
 * exceptions by bitmap and error code, debug exceptions, triple faults, interrupts and NMIs and their
 * windows, time.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/pc.h"
#include "tests/guests/lib/vmx.h"

#define VECTOR_LOCAL 0x61

static uint8_t msr_bitmap[4096] __aligned(4096);

extern uint64_t lv2_memory[16];
uint64_t lv2_memory[16] __aligned(16);

/* ---- Exceptions --------------------------------------------------------------------------------------- */

LV2(lv2_divide, "xorl %ecx, %ecx; xorl %edx, %edx; movl $1, %eax; divl %ecx");
LV2(lv2_int1, ".byte 0xf1");
LV2(lv2_int3, "int3");
LV2(lv2_ud2, "ud2");
LV2(lv2_not_available, "clts; movq %cr0, %rax; orq $8, %rax; movq %rax, %cr0; fnop");
LV2(lv2_not_present, "movl $0x50, %eax; movl %eax, %fs"); /* SELECTOR_FREE */
LV2(lv2_bad_selector, "movl $0x1f8, %eax; movl %eax, %fs");
LV2(lv2_non_canonical, "movq $0x8000000000000000, %rax; movq (%rax), %rax");
LV2(lv2_stack, "movq $0x8000000000000000, %rbp; movq (%rbp), %rax");
LV2(lv2_page_read, "movl (%rdi), %eax");
LV2(lv2_page_write, "movl %eax, (%rdi)");
LV2(lv2_single_step, "pushq $0x102; popfq; nop; nop");
LV2(lv2_breakpoint, "nop");
LV2(lv2_int21, "int $0x21");

static void exception_rows(void)
{
    static const struct {
        const char *name, *code;
        unsigned vector;
        uint64_t event, error;
        unsigned length; /* 0: not defined */
    } rows[] = {
        {"divide", lv2_divide, VECTOR_DE, EVENT_EXCEPTION, 0, 0},
        {"int1", lv2_int1, VECTOR_DB, EVENT_PRIVILEGED, 0, 1},
        {"int3", lv2_int3, VECTOR_BP, EVENT_SOFT_EXCEPTION, 0, 1},
        {"ud2", lv2_ud2, VECTOR_UD, EVENT_EXCEPTION, 0, 0},
        {"not-available", lv2_not_available, VECTOR_NM, EVENT_EXCEPTION, 0, 0},
        {"not-present", lv2_not_present, VECTOR_NP, EVENT_EXCEPTION | EVENT_ERROR, SELECTOR_FREE, 0},
        {"bad-selector", lv2_bad_selector, VECTOR_GP, EVENT_EXCEPTION | EVENT_ERROR, 0x1f8, 0},
        {"non-canonical", lv2_non_canonical, VECTOR_GP, EVENT_EXCEPTION | EVENT_ERROR, 0, 0},
        {"stack", lv2_stack, VECTOR_SS, EVENT_EXCEPTION | EVENT_ERROR, 0, 0},
        {"page", lv2_page_read, VECTOR_PF, EVENT_EXCEPTION | EVENT_ERROR, 0, 0},
    };
    char name[48];

    guest_segment(SELECTOR_FREE, 0, 0xfffff, SEGMENT_CODE_DATA | SEGMENT_TYPE(3));
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        vmx_prepare();
        write_cr2(0x111000);
        vmx_set(VMCS_EXCEPTION_BITMAP, BIT(rows[i].vector));
        vmx_run_with(rows[i].code, GUEST_UNMAPPED + 0x123);
        format_text(name, sizeof(name), "exception-%s", rows[i].name);
        vmx_expect_event(name, rows[i].event | rows[i].vector, rows[i].error);
        format_text(name, sizeof(name), "exception-%s-vectoring", rows[i].name);
        guest_equal(name, vmx_exit.vectoring & EVENT_VALID, 0);
        if (rows[i].length != 0) {
            format_text(name, sizeof(name), "exception-%s-length", rows[i].name);
            guest_equal(name, vmx_exit.length, rows[i].length);
        }
        if (rows[i].vector == VECTOR_PF) {
            guest_equal("exception-page-qualification", vmx_exit.qualification, GUEST_UNMAPPED + 0x123);
            guest_equal("exception-page-cr2-unchanged", read_cr2(), 0x111000);
        }
    }
}

/* Lv2's own handler: goes on behind VMCALL, by the frame. */
static uint64_t own_error, own_vector;

static void own_handler(struct guest_frame *frame)
{
    own_vector = frame->vector;
    own_error = frame->error;
    frame->rip = (uint64_t)lv2_nothing;
}

static void own_exception_rows(void)
{
    static const struct {
        const char *name, *code;
        unsigned vector;
        uint64_t error;
    } rows[] = {
        {"divide", lv2_divide, VECTOR_DE, 0},
        {"int3", lv2_int3, VECTOR_BP, 0},
        {"ud2", lv2_ud2, VECTOR_UD, 0},
        {"not-present", lv2_not_present, VECTOR_NP, SELECTOR_FREE},
        {"bad-selector", lv2_bad_selector, VECTOR_GP, 0x1f8},
        {"stack", lv2_stack, VECTOR_SS, 0},
        {"page-read", lv2_page_read, VECTOR_PF, 0},
        {"page-write", lv2_page_write, VECTOR_PF, PF_WRITE},
        {"int-n", lv2_int21, 0x21, 0},
    };
    char name[48];

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        vmx_prepare();
        vmx_set(VMCS_EXCEPTION_BITMAP, ~BIT(rows[i].vector & 31) & 0xffffffff);
        own_vector = own_error = ~0UL;
        write_cr2(0);
        guest_handlers[rows[i].vector] = own_handler;
        vmx_run_with(rows[i].code, GUEST_UNMAPPED + 0x456);
        guest_handlers[rows[i].vector] = NULL;
        format_text(name, sizeof(name), "own-%s", rows[i].name);
        vmx_expect(name, WENT_THROUGH);
        format_text(name, sizeof(name), "own-%s-vector", rows[i].name);
        guest_equal(name, own_vector, rows[i].vector);
        format_text(name, sizeof(name), "own-%s-error", rows[i].name);
        guest_equal(name, own_error, rows[i].error);
        if (rows[i].vector == VECTOR_PF) {
            format_text(name, sizeof(name), "own-%s-cr2", rows[i].name);
            guest_equal(name, read_cr2(), GUEST_UNMAPPED + 0x456);
        }
    }
}

/* Page faults by error code: (error & mask) == match decides whether the bitmap's bit means exit or not. */
static void page_fault_rows(void)
{
    static const struct {
        uint32_t mask, match;
    } rows[] = {{0, 0},          {0, 1},
                {PF_WRITE, 0},   {PF_WRITE, PF_WRITE},
                {PF_PRESENT, 0}, {PF_PRESENT, PF_PRESENT},
                {0xffffffff, 0}, {0xffffffff, PF_WRITE}};
    char name[48];

    guest_handlers[VECTOR_PF] = own_handler;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned j = 0; j < 4; j++) {
            bool bit = j & 1, write = j & 2;
            uint32_t error = write ? PF_WRITE : 0;
            bool equal = (error & rows[i].mask) == rows[i].match;

            vmx_prepare();
            vmx_set(VMCS_EXCEPTION_BITMAP, bit ? BIT(VECTOR_PF) : 0);
            vmx_set(VMCS_PF_MASK, rows[i].mask);
            vmx_set(VMCS_PF_MATCH, rows[i].match);
            vmx_run_with(write ? lv2_page_write : lv2_page_read, GUEST_UNMAPPED);
            format_text(name, sizeof(name), "pf-mask-%x-match-%x-%s-bit-%d", rows[i].mask, rows[i].match,
                        write ? "write" : "read", bit);
            if (bit == equal)
                vmx_expect_event(name, EVENT_EXCEPTION | EVENT_ERROR | VECTOR_PF, error);
            else
                vmx_expect(name, WENT_THROUGH);
        }
    guest_handlers[VECTOR_PF] = NULL;
}

/* #DB: what DR6 would say is the qualification, and DR6 stays (25.2, 27.2.1). */
static void debug_rows(void)
{
    vmx_prepare();
    vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_DB));
    write_dr6(0xffff0ff0);
    vmx_run_at(lv2_single_step);
    vmx_expect_event("single-step", EVENT_EXCEPTION | VECTOR_DB, 0);
    guest_equal("single-step-qualification", vmx_exit.qualification, BIT(14));
    guest_equal("single-step-dr6-unchanged", read_dr6(), 0xffff0ff0);
    guest_equal("single-step-rflags", vmx_exit.rflags & RFLAGS_TF, RFLAGS_TF);
    guest_equal("single-step-rip", vmx_exit.rip - (uint64_t)lv2_single_step, 7);
    vmx_prepare();
    vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_DB));
    write_dr0((uint64_t)lv2_breakpoint);
    vmx_control(ENTRY_LOAD_DEBUG, true);
    vmx_set(VMCS_GUEST_DR7, 0x402);
    vmx_run_at(lv2_breakpoint);
    vmx_expect_event("breakpoint", EVENT_EXCEPTION | VECTOR_DB, 0);
    guest_equal("breakpoint-qualification", vmx_exit.qualification & 0xf, 1);
    guest_equal("breakpoint-rip", vmx_exit.rip, (uint64_t)lv2_breakpoint);
    write_dr0(0);
    write_dr7(0x400);
}

LV2(lv2_triple, "movq $0, lv2_memory; movq $0, lv2_memory + 8; lidt lv2_memory; ud2");

static void triple_rows(void)
{
    vmx_prepare();
    vmx_run_at(lv2_triple);
    vmx_expect_qualification("triple-fault", REASON_TRIPLE_FAULT, 0);
    guest_idt_load(sizeof(guest_idt) - 1);
    /* The double fault on the way, if Lv1 wants it. */
    vmx_prepare();
    vmx_set(VMCS_EXCEPTION_BITMAP, BIT(VECTOR_DF));
    vmx_run_at(lv2_triple);
    vmx_expect_event("double-fault", EVENT_EXCEPTION | EVENT_ERROR | VECTOR_DF, 0);
    guest_idt_load(sizeof(guest_idt) - 1);
    vmx_prepare();
    vmx_run_at(lv2_nothing);
    vmx_expect("after-triple-fault", WENT_THROUGH);
}

/* ---- Interrupts --------------------------------------------------------------------------------------- */

LV2(lv2_sti, "sti; nop; nop; cli");
LV2(lv2_sti_shadow, "sti; cpuid; nop; nop; cli");
LV2(lv2_mov_ss, "pushq $0x202; movl $0x10, %eax; popfq; cli; sti; movl %eax, %ss; nop; nop; cli");
LV2(lv2_nmi_self, "movl $0xfee00300, %eax; movl $0x4400, (%rax); nop; nop; nop"); /* to ICR_HIGH */
LV2(lv2_iretq, "movl %ss, %eax; movq %rsp, %rcx; pushq %rax; pushq %rcx; pushq $2; pushq $0x08; pushq $1f; "
               "iretq; 1: nop");

static void interrupt_rows(void)
{
    lapic_init(false);
    guest_handlers[VECTOR_LOCAL] = pc_count_lapic;

    /* Off: Lv2's interrupt, by Lv2's gate; here both are one. */
    vmx_prepare();
    pc_hits_clear();
    lapic_write(LAPIC_ICR_LOW, ICR_SELF | ICR_ASSERT | VECTOR_LOCAL);
    vmx_run_at(lv2_nothing);
    vmx_expect("interrupt-masked", WENT_THROUGH);
    guest_equal("interrupt-masked-waits", pc_hits[VECTOR_LOCAL], 0);
    vmx_run_at(lv2_sti);
    vmx_expect("interrupt-in-lv2", WENT_THROUGH);
    guest_equal("interrupt-in-lv2-hits", pc_hits[VECTOR_LOCAL], 1);

    if (!vmx_offered("external-interrupt", PIN_EXTERNAL_INTERRUPT))
        return;
    /* On: an exit, and the interrupt is Lv1's, still pending. */
    vmx_prepare();
    vmx_control(PIN_EXTERNAL_INTERRUPT, true);
    pc_hits_clear();
    lapic_write(LAPIC_ICR_LOW, ICR_SELF | ICR_ASSERT | VECTOR_LOCAL);
    vmx_run_at(lv2_sti);
    vmx_expect_qualification("interrupt-exits", REASON_EXTERNAL_INTERRUPT, 0);
    guest_equal("interrupt-not-acknowledged", vmx_exit.event & EVENT_VALID, 0);
    guest_equal("interrupt-not-delivered", pc_hits[VECTOR_LOCAL], 0);
    guest_equal("interrupt-irr", lapic_bit(LAPIC_IRR, VECTOR_LOCAL), 1);
    take_pending_interrupts();
    guest_equal("interrupt-lv1-takes-it", pc_hits[VECTOR_LOCAL], 1);
    vmx_run();
    vmx_expect("interrupt-lv2-goes-on", WENT_THROUGH);

    /* With acknowledgement it is in service, and Lv1 has its vector. */
    if (vmx_offered("acknowledge", EXIT_ACKNOWLEDGE)) {
        vmx_control(EXIT_ACKNOWLEDGE, true);
        pc_hits_clear();
        lapic_write(LAPIC_ICR_LOW, ICR_SELF | ICR_ASSERT | VECTOR_LOCAL);
        vmx_run_at(lv2_sti);
        vmx_expect("interrupt-acknowledged", REASON_EXTERNAL_INTERRUPT);
        guest_equal("interrupt-acknowledged-event", vmx_exit.event, EVENT_INTERRUPT | VECTOR_LOCAL);
        guest_equal("interrupt-acknowledged-isr", lapic_bit(LAPIC_ISR, VECTOR_LOCAL), 1);
        guest_equal("interrupt-acknowledged-irr", lapic_bit(LAPIC_IRR, VECTOR_LOCAL), 0);
        lapic_write(LAPIC_EOI, 0);
        take_pending_interrupts();
        guest_equal("interrupt-acknowledged-once", pc_hits[VECTOR_LOCAL], 0);
    }
    /* Pending at the entry, and Lv2 open: it exits before the first instruction. */
    vmx_prepare();
    vmx_control(PIN_EXTERNAL_INTERRUPT, true);
    lapic_write(LAPIC_ICR_LOW, ICR_SELF | ICR_ASSERT | VECTOR_LOCAL);
    vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmx_run();
    vmx_expect("interrupt-at-entry", REASON_EXTERNAL_INTERRUPT);
    guest_equal("interrupt-at-entry-rip", vmx_exit.rip, (uint64_t)lv2_nothing);
    take_pending_interrupts();
    guest_handlers[VECTOR_LOCAL] = NULL;
}

static void interrupt_window_rows(void)
{
    if (!vmx_offered("interrupt-window", PRIMARY_INTERRUPT_WINDOW))
        return;
    vmx_prepare();
    vmx_control(PRIMARY_INTERRUPT_WINDOW, true);
    vmx_run_at(lv2_nothing);
    vmx_expect("window-closed", WENT_THROUGH);
    vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_nothing);
    vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmx_run();
    vmx_expect_qualification("window-open", REASON_INTERRUPT_WINDOW, 0);
    guest_equal("window-open-rip", vmx_exit.rip, (uint64_t)lv2_nothing);
    vmx_run_at(lv2_sti);
    vmx_expect("window-sti", REASON_INTERRUPT_WINDOW);
    guest_equal("window-sti-rip", vmx_exit.rip - (uint64_t)lv2_sti, 2);
    vmx_run_at(lv2_sti_shadow);
    vmx_expect("window-sti-shadow", REASON_CPUID);
    guest_equal("window-sti-shadow-blocking", vmx_get(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_STI);
    /* Lv1 emulates the instruction: the shadow ends. */
    vmx_set(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmx_run_on();
    vmx_expect("window-behind-shadow", REASON_INTERRUPT_WINDOW);
    /* By the entry's own interruptibility. */
    vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_nothing);
    vmx_set(VMCS_GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmx_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_STI);
    vmx_run();
    vmx_expect("window-blocked-by-sti", WENT_THROUGH);
    vmx_set(VMCS_GUEST_RIP, (uint64_t)lv2_nothing);
    vmx_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_MOV_SS);
    vmx_run();
    vmx_expect("window-blocked-by-mov-ss", WENT_THROUGH);
    vmx_set(VMCS_GUEST_INTERRUPTIBILITY, 0);
}

static unsigned nmis;

static void count_nmi(struct guest_frame *frame)
{
    (void)frame;
    nmis++;
}

static void nmi_rows(void)
{
    guest_handlers[VECTOR_NMI] = count_nmi;
    lapic_write(LAPIC_ICR_HIGH, lapic_read(LAPIC_ID));
    vmx_prepare();
    nmis = 0;
    vmx_run_at(lv2_nmi_self);
    vmx_expect("nmi-in-lv2", WENT_THROUGH);
    guest_equal("nmi-in-lv2-hits", nmis, 1);
    if (!vmx_offered("nmi", PIN_NMI))
        return;
    vmx_prepare();
    vmx_control(PIN_NMI, true);
    nmis = 0;
    vmx_run_at(lv2_nmi_self);
    vmx_expect("nmi-exits", REASON_EXCEPTION);
    guest_equal("nmi-exits-event", vmx_exit.event, EVENT_NMI);
    guest_equal("nmi-not-delivered", nmis, 0);
    guest_equal("nmi-qualification", vmx_exit.qualification, 0);
    /* NMIs are blocked now, in Lv1, until an IRET; and this one is gone. */
    __asm__ volatile("movl %%ss, %%eax; movq %%rsp, %%rcx; pushq %%rax; pushq %%rcx; pushfq; pushq $0x08\n"
                     "leaq 1f(%%rip), %%rax; pushq %%rax; iretq; 1:"
                     :
                     :
                     : "rax", "rcx", "memory", "cc");
    guest_equal("nmi-none-left", nmis, 0);

    if (!vmx_offered("virtual-nmi", PIN_VIRTUAL_NMI) || !vmx_offered("nmi-window", PRIMARY_NMI_WINDOW))
        return;
    vmx_prepare();
    vmx_control(PIN_NMI, true);
    vmx_control(PIN_VIRTUAL_NMI, true);
    vmx_control(PRIMARY_NMI_WINDOW, true);
    vmx_run_at(lv2_nothing);
    vmx_expect_qualification("nmi-window", REASON_NMI_WINDOW, 0);
    guest_equal("nmi-window-rip", vmx_exit.rip, (uint64_t)lv2_nothing);
    vmx_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_NMI);
    vmx_run_at(lv2_nothing);
    vmx_expect("nmi-window-blocked", WENT_THROUGH);
    guest_equal("nmi-blocking-saved", vmx_get(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_NMI);
    vmx_run_at(lv2_iretq);
    vmx_expect("nmi-window-behind-iret", REASON_NMI_WINDOW);
    guest_equal("nmi-window-behind-iret-blocking", vmx_get(VMCS_GUEST_INTERRUPTIBILITY), 0);
    vmx_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_MOV_SS);
    vmx_run_at(lv2_nothing);
    vmx_expect("nmi-window-mov-ss", WENT_THROUGH);
    guest_handlers[VECTOR_NMI] = NULL;
}

/* ---- Time --------------------------------------------------------------------------------------------- */

LV2(lv2_read_tsc, "rdtsc; shlq $32, %rdx; orq %rdx, %rax");
LV2(lv2_rdmsr_tsc, "movl $0x10, %ecx; rdmsr");
LV2(lv2_pause, "pause");
LV2(lv2_spins, "1: pause; jmp 1b");
LV2(lv2_pause_loop, "movl $100000, %ecx; 1: pause; decl %ecx; jnz 1b");

static void time_rows(void)
{
    const uint64_t offset = BIT(40);

    if (vmx_offered("tsc-offset", PRIMARY_TSC_OFFSET)) {
        vmx_prepare();
        vmx_set(VMCS_TSC_OFFSET, offset);
        uint64_t before = rdtsc();
        vmx_run_at(lv2_read_tsc);
        uint64_t after = rdtsc();
        CHECK("tsc-no-offset", vmx_registers.rax >= before && vmx_registers.rax <= after);
        vmx_control(PRIMARY_TSC_OFFSET, true);
        before = rdtsc();
        vmx_run_at(lv2_read_tsc);
        after = rdtsc();
        CHECK("tsc-offset", vmx_registers.rax >= before + offset && vmx_registers.rax <= after + offset);
        vmx_set(VMCS_TSC_OFFSET, -offset);
        before = rdtsc();
        vmx_run_at(lv2_read_tsc);
        after = rdtsc();
        CHECK("tsc-negative-offset", vmx_registers.rax - before + offset <= after - before);
        if (vmx_may_set(PRIMARY_MSR_BITMAPS)) {
            vmx_control(PRIMARY_MSR_BITMAPS, true);
            vmx_set(VMCS_MSR_BITMAP, (uint64_t)msr_bitmap);
            vmx_set(VMCS_TSC_OFFSET, offset);
            before = rdtsc();
            vmx_run_at(lv2_rdmsr_tsc);
            after = rdtsc();
            uint64_t seen = vmx_registers.rdx << 32 | (uint32_t)vmx_registers.rax;
            CHECK("tsc-offset-by-rdmsr", seen >= before + offset && seen <= after + offset);
        }
    }
    if (vmx_offered("preemption-timer", PIN_PREEMPTION_TIMER)) {
        vmx_prepare();
        vmx_control(PIN_PREEMPTION_TIMER, true);
        vmx_set(VMCS_PREEMPTION_TIMER, 0);
        vmx_run_at(lv2_spins);
        vmx_expect_qualification("timer-0", REASON_PREEMPTION_TIMER, 0);
        guest_equal("timer-0-rip", vmx_exit.rip, (uint64_t)lv2_spins);
        vmx_set(VMCS_PREEMPTION_TIMER, 1000);
        vmx_run_at(lv2_spins);
        vmx_expect("timer-1000", REASON_PREEMPTION_TIMER);
        guest_equal("timer-not-saved", vmx_get(VMCS_PREEMPTION_TIMER), 1000);
        if (vmx_offered("save-timer", EXIT_SAVE_TIMER)) {
            vmx_control(EXIT_SAVE_TIMER, true);
            vmx_run_at(lv2_spins);
            vmx_expect("timer-saved", REASON_PREEMPTION_TIMER);
            guest_equal("timer-saved-value", vmx_get(VMCS_PREEMPTION_TIMER), 0);
            vmx_set(VMCS_PREEMPTION_TIMER, 0xffffff00);
            vmx_run_at(lv2_nothing);
            vmx_expect("timer-long", WENT_THROUGH);
            CHECK("timer-long-saved", vmx_get(VMCS_PREEMPTION_TIMER) <= 0xffffff00 &&
                                          vmx_get(VMCS_PREEMPTION_TIMER) > 0xf0000000);
        }
    }
    if (vmx_offered("pause-loop", SECONDARY_PAUSE_LOOP)) {
        vmx_prepare();
        vmx_control(SECONDARY_PAUSE_LOOP, true);
        vmx_set(VMCS_PLE_GAP, 1000);
        vmx_set(VMCS_PLE_WINDOW, 10000);
        vmx_run_at(lv2_pause_loop);
        vmx_expect_qualification("pause-loop", REASON_PAUSE, 0);
        CHECK("pause-loop-later", vmx_registers.rcx < 100000);
        vmx_run_at(lv2_pause);
        vmx_expect("pause-once", WENT_THROUGH);
    }
    if (vmx_may_set(PRIMARY_MTF)) {
        vmx_prepare();
        vmx_control(PRIMARY_MTF, true);
        vmx_run_at(lv2_read_tsc);
        vmx_expect_qualification("mtf", REASON_MTF, 0);
        guest_equal("mtf-rip", vmx_exit.rip - (uint64_t)lv2_read_tsc, 2);
        vmx_run();
        vmx_expect("mtf-again", REASON_MTF);
    }
}

void guest_main(void)
{
    CHECK("vmx", vmx_exists());
    vmx_enable();
    exception_rows();
    own_exception_rows();
    page_fault_rows();
    debug_rows();
    triple_rows();
    interrupt_rows();
    interrupt_window_rows();
    nmi_rows();
    time_rows();
    vmx_off();
}
