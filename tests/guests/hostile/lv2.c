// SPDX-License-Identifier: BSD-2-Clause
#include "tests/guests/hostile/hostile.h"

/* What it executes, with registers at random; VMCALL is the end of each. */
#define LV2_CODES(X)                                                                                         \
    X(read, "movq (%rdi), %rax")                                                                             \
    X(write, "movq %rsi, (%rdi)")                                                                            \
    X(write_again, "movq %rsi, (%rdi); movq %rsi, 8(%rdi); movq (%rdi), %rax")                               \
    X(exchange, "lock xchgq %rsi, (%rdi)")                                                                   \
    X(flags, "lock xorb $0x20, (%rdi)")                                                                      \
    X(execute, "jmp *%rdi")                                                                                  \
    X(copy, "movq %r8, %rsi; movl $8, %ecx; rep movsq")                                                      \
    X(cpuid, "cpuid")                                                                                        \
    X(rdmsr, "rdmsr")                                                                                        \
    X(wrmsr, "wrmsr")                                                                                        \
    X(cr0, "movq %cr0, %rax; xorl %ebx, %eax; movq %rax, %cr0")                                              \
    X(cr3, "movq %r9, %cr3; movq (%rdi), %rax")                                                              \
    X(cr4, "movq %cr4, %rax; xorl %ebx, %eax; movq %rax, %cr4")                                              \
    X(cr8, "movq %rbx, %cr8; movq %cr8, %rax")                                                               \
    X(ts, "clts; movq %cr0, %rax; orl $8, %eax; lmsw %ax")                                                   \
    X(invlpg, "invlpg (%rdi); movq (%rdi), %rax")                                                            \
    X(invpcid, "pushq %rdi; pushq $0; andl $3, %ebx; invpcid (%rsp), %rbx")                                  \
    X(wbinvd, "wbinvd; invd")                                                                                \
    X(hlt, "hlt")                                                                                            \
    X(sti_hlt, "sti; hlt")                                                                                   \
    X(pause, "pause; pause; sti; pause; cli")                                                                \
    X(monitor, "movq %rdi, %rax; xorl %ecx, %ecx; xorl %edx, %edx; monitor; mwait")                          \
    X(time, "rdtsc; movl %ebx, %ecx; rdpmc")                                                                 \
    X(rdtscp, "rdtscp")                                                                                      \
    X(in, "inb %dx, %al; inl %dx, %eax")                                                                     \
    X(out, "outb %al, %dx; outw %ax, %dx")                                                                   \
    X(tables, "sgdt (%rdi); sidt (%rdi); lgdt (%rdi)")                                                       \
    X(selectors, "str %ax; sldt %bx; lldt %bx; ltr %ax")                                                     \
    X(segments, "movw %bx, %ds; movw %bx, %fs; movw %bx, %ss; nop")                                          \
    X(xsetbv, "xorl %ecx, %ecx; xsetbv")                                                                     \
    X(xsaves, "xsaves (%rdi); xrstors (%rdi)")                                                               \
    X(random, "rdrand %rax; rdseed %rax")                                                                    \
    X(debug, "movq %dr7, %rax; movq %rbx, %dr0; movq %rbx, %dr7")                                            \
    X(step, "pushfq; orl $0x100, (%rsp); popfq; nop; cpuid")                                                 \
    X(traps, "int3; int $0x41")                                                                              \
    X(undefined, "ud2")                                                                                      \
    X(vmx, "vmptrst (%rdi); vmxoff; vmlaunch")                                                               \
    X(ring, "pushq $0x23; pushq %rdi; pushq $2; pushq $0x2b; pushq %r8; iretq")                              \
    X(sysenter, "sysenter")                                                                                  \
    X(syscall, "syscall")                                                                                    \
    X(loop, "1: jmp 1b")

#define X(NAME, TEXT) LV2(lv2_##NAME, TEXT);
LV2_CODES(X)
#undef X

static const char *const lv2_codes[] = {
#define X(NAME, TEXT) lv2_##NAME,
    LV2_CODES(X)
#undef X
};

/* Its own IDT: everything is the end. */
LV2(lv2_event, "");
struct gate lv2_idt[256];

/* Registers that exist, mostly; none of a local APIC in x2APIC mode but two, and not IA32_APIC_BASE: Lv1
 * would not survive it. */
uint32_t random_msr(struct self *self)
{
    static const struct {
        uint32_t first, count;
    } runs[] = {
        {0xc0000080, 5},     {0xc0000100, 4},   {MSR_SYSENTER_CS, 3}, {MSR_TSC, 1}, {0x48, 2},
        {0x808, 1},          {MSR_DEBUGCTL, 1}, {MSR_PAT, 1},         {0x3a, 2},    {0x10a, 2},
        {MSR_VMX_BASIC, 18}, {0x83f, 1},        {0x250, 16},          {0x179, 2},   {MSR_TSC_DEADLINE, 1},
        {0xda0, 1},          {0x40000000, 2},   {0x1000, 4096},
    };
    const size_t run = below(self, ARRAY_SIZE(runs));

    return runs[run].first + (uint32_t)below(self, runs[run].count);
}

/* A port that neither ends the partition nor is its console. */
static uint16_t random_port(struct self *self)
{
    static const uint16_t ports[] = {0x20, 0x21, 0xa1, 0x40,  0x43,   0x61,
                                     0x70, 0x71, 0x80, 0xcfc, 0x7ffe, 0xffff};

    return ports[below(self, ARRAY_SIZE(ports))];
}

void random_registers(struct self *self)
{
    struct vmx_registers *r = &self->registers;

    *r = (struct vmx_registers){
        .rax = random(self),
        .rcx = random_msr(self),
        .rdx = random_port(self),
        .rbx = BIT(below(self, 24)),
        .rsi = random_entry(self),
        .rdi = random_address(self),
        .r8 = random_address(self),
        .r9 = (one_in(self, 4) ? MAPS : ARENA + below(self, ROOTS) * PAGE_SIZE),
    };
    if (one_in(self, 4))
        r->rbx = random(self) & 0xffff;
    if (one_in(self, 4)) /* for WRMSR: what may be taken */
        r->rax = r->rdx = 0;
}

const char *random_code(struct self *self)
{
    return lv2_codes[below(self, ARRAY_SIZE(lv2_codes))];
}

void make_lv2(void)
{
    for (unsigned vector = 0; vector < ARRAY_SIZE(lv2_idt); vector++)
        lv2_idt[vector] = (struct gate){
            .offset_low = (uint16_t)(uint64_t)lv2_event,
            .selector = SELECTOR_CODE,
            .attributes = GATE_INTERRUPT | GATE_DPL3,
            .offset_middle = (uint16_t)((uint64_t)lv2_event >> 16),
        };
}
