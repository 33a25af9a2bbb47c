// SPDX-License-Identifier: BSD-2-Clause
#include "arch/x86/trap.h"

#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "lib/panic.h"
#include "lib/printf.h"

enum {
    VECTOR_NMI = 2,
    VECTOR_GENERAL_PROTECTION = 13,
    VECTOR_FIRST_EXTERNAL = 32,
};

extern const char trap_rdmsr_safe_read[], trap_rdmsr_safe_failed[];

PERCPU static unsigned nmis;
static void (*handlers[256])(void);
static void (*unhandled)(void);

void trap_set_handler(uint8_t vector, void (*handler)(void))
{
    invariant(vector >= VECTOR_FIRST_EXTERNAL);
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
    unsigned count = this_cpu(nmis);

    this_cpu(nmis) = 0;
    return count;
}

/* Of the exception that Umbra is about to panic for. */
static const struct trap_frame *panic_frame;

static void print_frame(struct panic_hook *hook)
{
    const struct trap_frame *f = panic_frame;

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
    if (frame->vector >= VECTOR_FIRST_EXTERNAL) {
        trap_dispatch((uint8_t)frame->vector);
        return;
    }
    if (frame->vector == VECTOR_NMI) {
        this_cpu(nmis)++;
        return;
    }
    if (frame->vector == VECTOR_GENERAL_PROTECTION && frame->rip == (uint64_t)trap_rdmsr_safe_read) {
        frame->rip = (uint64_t)trap_rdmsr_safe_failed;
        return;
    }
    panic_frame = frame;
    panic("exception %lu in Umbra at %#lx", frame->vector, frame->rip);
}
