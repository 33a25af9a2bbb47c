// SPDX-License-Identifier: BSD-2-Clause
#include "arch/x86/trap.h"

#include "arch/x86/cpu.h"
#include "arch/x86/exception.h"
#include "arch/x86/machine_check.h"
#include "arch/x86/percpu.h"
#include "arch/x86/registers.h"
#include "lib/panic.h"
#include "lib/printf.h"

extern const char trap_rdmsr_safe_read[], trap_rdmsr_safe_failed[];
extern const char trap_wrmsr_safe_write[], trap_wrmsr_safe_failed[];

PERCPU static unsigned nmis;
static void (*handlers[256])(void);
static void (*unhandled)(void);
static __noreturn void (*stop_on_nmi)(void);
static uint64_t stopper; /* percpu_offset of the processor that stops the others */

void trap_set_handler(uint8_t vector, void (*handler)(void))
{
    invariant(vector >= X86_VECTOR_FIRST_INTERRUPT);
    handlers[vector] = handler;
}

void trap_set_unhandled(void (*handler)(void))
{
    unhandled = handler;
}

void trap_dispatch(uint8_t vector)
{
    if (handlers[vector] != NULL)
        handlers[vector]();
    else if (unhandled != NULL)
        unhandled();
}

unsigned trap_take_nmis(void)
{
    unsigned count = 0;

    for (unsigned number = 0; number < percpu_count; number++)
        count += __atomic_exchange_n(that_cpu_pointer(nmis, number), 0, __ATOMIC_RELAXED);
    return count;
}

void trap_stop_on_nmi(__noreturn void (*stop)(void))
{
    __atomic_store_n(&stopper, this_cpu(percpu_offset), __ATOMIC_RELAXED);
    __atomic_store_n(&stop_on_nmi, stop, __ATOMIC_RELEASE);
}

static void take_nmi(void)
{
    __noreturn void (*stop)(void) = __atomic_load_n(&stop_on_nmi, __ATOMIC_ACQUIRE);

    if (stop != NULL && __atomic_load_n(&stopper, __ATOMIC_RELAXED) != this_cpu(percpu_offset))
        stop();
    __atomic_fetch_add(this_cpu_pointer(nmis), 1, __ATOMIC_RELAXED);
}

unsigned trap_enable_machine_checks(void)
{
    static const struct machine_check_ops ops = {.rdmsr = trap_rdmsr_safe, .wrmsr = cpu_wrmsr};
    unsigned left = machine_check_enable(&ops);

    cpu_write_cr4(cpu_read_cr4() | X86_CR4_MCE);
    return left;
}

/* Of the exception that this processor is about to panic for. */
PERCPU static const struct trap_frame *panic_frame;

static void print_frame(struct panic_hook *hook)
{
    const struct trap_frame *f = this_cpu(panic_frame);

    (void)hook;
    if (f == NULL)
        return;
    print("vector %lu error %#lx rip %#lx cs %#lx rflags %#lx rsp %#lx cr2 %#lx\n", f->vector, f->error_code,
          f->rip, f->cs, f->rflags, f->rsp, cpu_read_cr2());
    print("rax %016lx rbx %016lx rcx %016lx rdx %016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
    print("rsi %016lx rdi %016lx rbp %016lx r8  %016lx\n", f->rsi, f->rdi, f->rbp, f->r8);
    print("r9  %016lx r10 %016lx r11 %016lx r12 %016lx\n", f->r9, f->r10, f->r11, f->r12);
    print("r13 %016lx r14 %016lx r15 %016lx cr3 %016lx\n", f->r13, f->r14, f->r15, cpu_read_cr3());
}

void trap_register_panic_hook(void)
{
    static struct panic_hook hook = {.run = print_frame};

    panic_hook_register(&hook);
}

void trap_handle(struct trap_frame *frame)
{
    if (frame->vector >= X86_VECTOR_FIRST_INTERRUPT) {
        trap_dispatch((uint8_t)frame->vector);
        return;
    }
    if (frame->vector == X86_VECTOR_NMI) {
        take_nmi();
        return;
    }
    if (frame->vector == X86_VECTOR_GP && frame->rip == (uint64_t)trap_rdmsr_safe_read) {
        frame->rip = (uint64_t)trap_rdmsr_safe_failed;
        return;
    }
    if (frame->vector == X86_VECTOR_GP && frame->rip == (uint64_t)trap_wrmsr_safe_write) {
        frame->rip = (uint64_t)trap_wrmsr_safe_failed;
        return;
    }

    /* A machine check may come in the middle of another exception's panic. */
    const struct trap_frame *interrupted = this_cpu(panic_frame);
    this_cpu(panic_frame) = frame;
    if (frame->vector == X86_VECTOR_MC && machine_check_handle(false)) {
        this_cpu(panic_frame) = interrupted;
        return;
    }
    panic("exception %lu in Umbra at %#lx", frame->vector, frame->rip);
}
