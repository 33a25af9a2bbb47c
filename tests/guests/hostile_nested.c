// SPDX-License-Identifier: BSD-2-Clause
/*
 * A guest hypervisor that is an enemy of whoever runs it. All its processors write random values to fields of
 * their VMCSs and into VMCSs in memory, each other's too; point bitmaps, MSR lists, APIC pages and EPT at
 * holes, beyond the memory, at each other's and into tables that are rewritten meanwhile; and enter Lv2s,
 * which execute privileged instructions and touch memory, both at random. What was spoilt is mended
 * afterwards, mostly, so that many entries succeed. It goes on for ever and says
 *
 *     HOSTILE nested processors
 *     ALIVE operations exits failures faults others
 *
 * each REPORT operations of processor 0: its own, the exits of its Lv2s, entries that failed, the faults that
 * it took; the operations of the others. The word `alone` leaves the others out, `gentle` leaves out what a
 * processor answers by a VMX abort.
 *
 * How it survives. 16-24 MiB have three parts:
 *
 *   arena   Tables: page tables and EPT in one, as in hostile_paging.c. A word is a value of random_entry()
 *           but for its low flags, and so leads to the arena, to the zone, to where no memory is, or nowhere.
 *   zone    What VMX and Lv2's stacks write, with all addresses that there are: VMCSs, MSR lists, bitmaps,
 *           APIC pages. An entry refers to it as one large page only, whose first 4 KiB are unused: so it is
 *           never a table, whatever an entry is taken for.
 *   maps    The good tables, which show Lv2 all below 16 MiB (the island: image and page tables) without the
 *           right to write. The first word of each root in the arena leads there, and is left alone.
 *
 * Host state is good whenever an entry may succeed: after each VMPTRLD it is written anew, since others may
 * have written to that VMCS's memory up to then. An entry that was told to wait for ever does not: the
 * VMX-preemption timer is always on.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/hostile/hostile.h"

#define REPORT      (1UL << 8)
#define VECTOR_TICK 0x41
#define TICKS       400000 /* of the local APIC's timer, a period */

static struct self selves[PLAYERS];

/* ---- Attempts ----------------------------------------------------------------------------------------- */

/* Each comes back whatever it raises: 0, or FAULTED. */
#define FAULTED 2

/* code(a, b): the flags, as a VMX instruction left them in RAX if it is one. */
uint64_t attempt(struct self *self, const char *code, uint64_t a, uint64_t b);
/* Enters Lv2 with self->registers: 0 behind an exit, else 1. */
uint64_t enter(struct self *self, uint64_t resume);
extern const char attempt_over[], enter_over[];

__asm__(".pushsection .text\n"
        ".macro keep\n pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
        "movq %rsp, (%rdi)\n.endm\n"
        "attempt: keep\n movq %rsi, %rax; movq %rdx, %rdi; movq %rcx, %rsi; call *%rax\n"
        "attempt_over: popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx; ret\n"
        "enter: keep\n testq %rsi, %rsi\n"
        "movq 8(%rdi), %rax; movq 16(%rdi), %rcx; movq 24(%rdi), %rdx; movq 32(%rdi), %rbx\n"
        "movq 40(%rdi), %rbp; movq 48(%rdi), %rsi; movq 64(%rdi), %r8; movq 72(%rdi), %r9\n"
        "movq 80(%rdi), %r10; movq 88(%rdi), %r11; movq 96(%rdi), %r12; movq 104(%rdi), %r13\n"
        "movq 112(%rdi), %r14; movq 120(%rdi), %r15; movq 56(%rdi), %rdi\n"
        "jnz 1f\n vmlaunch\n jmp 2f\n1: vmresume\n"
        "2: movl $1, %eax; jmp attempt_over\n"
        "enter_over: movq %fs:0, %rsp; xorl %eax, %eax; jmp attempt_over\n"
        ".popsection");

_Static_assert(offsetof(struct self, registers) == 8 && offsetof(struct vmx_registers, rdi) == 48,
               "enter() knows the places");

#define CODE(name, text)                                                                                     \
    extern const char name[];                                                                                \
    __asm__(".pushsection .text\n" #name ": " text "; ret\n.popsection")

#define ANSWER "; pushfq; popq %rax; andl $0x41, %eax"

CODE(do_vmxon, "pushq %rdi; vmxon (%rsp); popq %rdi" ANSWER);
CODE(do_vmxoff, "vmxoff" ANSWER);
CODE(do_vmclear, "pushq %rdi; vmclear (%rsp); popq %rdi" ANSWER);
CODE(do_vmptrld, "pushq %rdi; vmptrld (%rsp); popq %rdi" ANSWER);
CODE(do_vmptrst, "vmptrst (%rdi)" ANSWER);
CODE(do_vmread, "vmread %rdi, (%rsi)" ANSWER);
CODE(do_vmwrite, "vmwrite %rsi, %rdi" ANSWER);
CODE(do_vmwrite_memory, "vmwrite (%rsi), %rdi" ANSWER);
CODE(do_invept, "pushq %rsi; pushq %rsi; invept (%rsp), %rdi; popq %rsi; popq %rsi" ANSWER);
CODE(do_invvpid,
     "pushq %rsi; movzwl %si, %eax; pushq %rax; invvpid (%rsp), %rdi; popq %rsi; popq %rsi" ANSWER);
CODE(do_cr4, "movq %rdi, %cr4; xorl %eax, %eax");

static void on_fault(struct guest_frame *frame)
{
    struct self *self = &selves[smp_self()];

    self->faults++;
    frame->rip = (uint64_t)attempt_over;
    frame->cs = SELECTOR_CODE;
    frame->rflags = RFLAGS_FIXED;
    frame->rsp = self->resume_rsp;
    frame->ss = SELECTOR_DATA;
    frame->rax = FAULTED;
}

static void on_nmi(struct guest_frame *frame)
{
    (void)frame;
}

static void on_tick(struct guest_frame *frame)
{
    (void)frame;
    apic_write(LAPIC_EOI, 0);
}

/* ---- VMCSs -------------------------------------------------------------------------------------------- */

/* By which rule a field gets its random value. */
enum how {
    BITS,     /* one flipped, or all at random */
    CONTROLS, /* such as are allowed, mostly */
    PAGE,     /* a page, of kind `detail` */
    EPTP,
    ROOT, /* CR3 */
    EVENT,
    FEW,      /* below `detail`, mostly */
    ACTIVITY, /* any but wait-for-SIPI, which has no end */
    SELECTOR,
    ADDRESS, /* linear */
};

static const struct field {
    uint16_t field;
    uint8_t how;
    uint8_t count; /* that many, two apart; 0 is one */
    uint32_t detail;
} fields[] = {
    {VMCS_VPID, FEW, 0, 3},
    {VMCS_PIN, CONTROLS, 0, 0},
    {VMCS_PRIMARY, CONTROLS, 0, 0},
    {VMCS_PRIMARY, CONTROLS, 0, 0},
    {VMCS_SECONDARY, CONTROLS, 0, 0},
    {VMCS_SECONDARY, CONTROLS, 0, 0},
    {VMCS_EXIT, CONTROLS, 0, 0},
    {VMCS_ENTRY, CONTROLS, 0, 0},
    {VMCS_IO_BITMAP_A, PAGE, 2, ZONE_BITMAPS},
    {VMCS_MSR_BITMAP, PAGE, 0, ZONE_BITMAPS},
    {VMCS_ENTRY_MSR_LOAD, PAGE, 0, ZONE_LISTS},
    {VMCS_ENTRY_MSR_LOAD_COUNT, FEW, 0, 4},
    {VMCS_VIRTUAL_APIC, PAGE, 2, ZONE_APIC}, /* and the APIC-access page */
    {VMCS_EPTP, EPTP, 0, 0},
    {VMCS_EPTP, EPTP, 0, 0},
    {VMCS_XSS_BITMAP, BITS, 0, 0},
    {VMCS_TSC_OFFSET, BITS, 0, 0},
    {VMCS_LINK_POINTER, PAGE, 0, ZONE_VMCS},
    {VMCS_GUEST_DEBUGCTL, BITS, 0, 0},
    {VMCS_GUEST_PAT, BITS, 0, 0},
    {VMCS_GUEST_EFER, BITS, 0, 0},
    {0x280a, BITS, 4, 0}, /* the PDPTEs */
    {VMCS_EXCEPTION_BITMAP, BITS, 3, 0},
    {VMCS_CR3_TARGET_COUNT, FEW, 0, 5},
    {VMCS_ENTRY_EVENT, EVENT, 0, 0},
    {VMCS_ENTRY_EVENT, EVENT, 0, 0},
    {VMCS_ENTRY_EVENT_ERROR, FEW, 0, 0x10000},
    {VMCS_ENTRY_EVENT_LENGTH, FEW, 0, 17},
    {VMCS_TPR_THRESHOLD, FEW, 0, 16},
    {VMCS_PLE_GAP, BITS, 2, 0},
    {VMCS_GUEST_ES, SELECTOR, 8, 0},
    {VMCS_GUEST_ES_LIMIT, BITS, 10, 0},
    {VMCS_GUEST_ES_RIGHTS, BITS, 8, 0},
    {VMCS_GUEST_ES_BASE, ADDRESS, 10, 0},
    {VMCS_GUEST_INTERRUPTIBILITY, FEW, 0, 16},
    {VMCS_GUEST_ACTIVITY, ACTIVITY, 0, 0},
    {VMCS_GUEST_SMBASE, BITS, 2, 0}, /* and SYSENTER_CS */
    {VMCS_PREEMPTION_TIMER, FEW, 0, 200},
    {VMCS_CR0_MASK, BITS, 4, 0},
    {VMCS_CR3_TARGET, ROOT, 4, 0},
    {VMCS_GUEST_CR0, BITS, 0, 0},
    {VMCS_GUEST_CR3, ROOT, 0, 0},
    {VMCS_GUEST_CR4, BITS, 0, 0},
    {VMCS_GUEST_DR7, BITS, 0, 0},
    {VMCS_GUEST_RFLAGS, BITS, 0, 0},
    {VMCS_GUEST_PENDING_DEBUG, BITS, 0, 0},
    {VMCS_GUEST_SYSENTER_ESP, ADDRESS, 2, 0},
    {VMCS_GUEST_RSP, ADDRESS, 2, 0}, /* and RIP */
};

static uint64_t write_field(struct self *self, uint64_t field, uint64_t value)
{
    return attempt(self, do_vmwrite, field, value);
}

static uint64_t read_field(struct self *self, uint64_t field)
{
    uint64_t value = 0;

    (void)attempt(self, do_vmread, field, (uint64_t)&value);
    return value;
}

static uint64_t vmcs_of(unsigned number, uint64_t n)
{
    return ZONE + (ZONE_VMCS + number * VMCSS + n) * PAGE_SIZE;
}

struct setting {
    uint32_t field;
    uint64_t value;
};

static void write_all(struct self *self, const struct setting *settings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        (void)write_field(self, settings[i].field, settings[i].value);
}

static uint64_t required(unsigned word, uint64_t more)
{
    const uint64_t allowed = vmx_allowed(word);

    return (uint32_t)allowed | (more & allowed >> 32);
}

#define TIMER   BIT(6)
#define HOST_64 BIT(9)

/* Without these a successful entry may have no return. */
static void write_vital(struct self *self)
{
    uint16_t task;

    __asm__("str %w0" : "=r"(task));
    const uint64_t *descriptor = &guest_gdt[task / 8];
    const struct setting settings[] = {
        {VMCS_PIN, required(VMCS_PIN, TIMER)},
        {VMCS_EXIT, required(VMCS_EXIT, HOST_64)},
        {VMCS_EXIT_MSR_STORE_COUNT, 0},
        {VMCS_EXIT_MSR_LOAD_COUNT, 0},
        {VMCS_PREEMPTION_TIMER, 100},
        {VMCS_GUEST_ACTIVITY, 0},
        {VMCS_HOST_CR0, read_cr0()},
        {VMCS_HOST_CR3, read_cr3()},
        {VMCS_HOST_CR4, read_cr4()},
        {VMCS_HOST_EFER, rdmsr(MSR_EFER)},
        {VMCS_HOST_PAT, 0x0007040600070406},
        {VMCS_HOST_CS, SELECTOR_CODE},
        {VMCS_HOST_SS, SELECTOR_DATA},
        {VMCS_HOST_DS, SELECTOR_DATA},
        {VMCS_HOST_ES, SELECTOR_DATA},
        {VMCS_HOST_FS, 0},
        {VMCS_HOST_GS, 0},
        {VMCS_HOST_TR, task},
        {VMCS_HOST_FS_BASE, (uint64_t)self},
        {VMCS_HOST_TR_BASE, (*descriptor >> 16 & 0xffffff) | (*descriptor >> 56 << 24)},
        {VMCS_HOST_GDTR_BASE, (uint64_t)guest_gdt},
        {VMCS_HOST_IDTR_BASE, (uint64_t)guest_idt},
        {VMCS_HOST_SYSENTER_ESP, 0},
        {VMCS_HOST_SYSENTER_EIP, 0},
        {VMCS_HOST_RSP, ZONE + (ZONE_STACKS + 2 * self->number + 1) * PAGE_SIZE},
        {VMCS_HOST_RIP, (uint64_t)enter_over},
    };

    write_all(self, settings, ARRAY_SIZE(settings));
}

#define SECONDARY_ON BIT(31)
#define EPT_ON       BIT(1)
#define RIGHTS_CODE  0xa09b
#define RIGHTS_DATA  0xc093
#define RIGHTS_TASK  0x008b
#define RIGHTS_NONE  0x10000
#define EPTP_FLAGS   0x1eUL /* write-back, four levels */

/* All the others, as they are good; those that are 0 are written as well. */
static void write_good(struct self *self)
{
    const struct setting settings[] = {
        {VMCS_PRIMARY, required(VMCS_PRIMARY, SECONDARY_ON)},
        {VMCS_SECONDARY, required(VMCS_SECONDARY, EPT_ON)},
        {VMCS_ENTRY, required(VMCS_ENTRY, HOST_64)},
        {VMCS_EPTP, (MAPS + MAPS_EPT * PAGE_SIZE) | EPTP_FLAGS},
        {VMCS_IO_BITMAP_A, ZONE + ZONE_BITMAPS * PAGE_SIZE},
        {VMCS_IO_BITMAP_B, ZONE + (ZONE_BITMAPS + 1) * PAGE_SIZE},
        {VMCS_MSR_BITMAP, ZONE + (ZONE_BITMAPS + 2) * PAGE_SIZE},
        {VMCS_VIRTUAL_APIC, ZONE + ZONE_APIC * PAGE_SIZE},
        {VMCS_APIC_ACCESS, ZONE + (ZONE_APIC + 1) * PAGE_SIZE},
        {VMCS_ENTRY_MSR_LOAD, ZONE + ZONE_LISTS * PAGE_SIZE},
        {VMCS_EXIT_MSR_LOAD, ZONE + ZONE_LISTS * PAGE_SIZE},
        {VMCS_EXIT_MSR_STORE, ZONE + ZONE_LISTS * PAGE_SIZE},
        {VMCS_VPID, self->number + 1},
        {VMCS_LINK_POINTER, ~0UL},
        {VMCS_GUEST_CR0, read_cr0()},
        {VMCS_GUEST_CR3, MAPS},
        {VMCS_GUEST_CR4, read_cr4()},
        {VMCS_GUEST_EFER, rdmsr(MSR_EFER)},
        {VMCS_GUEST_PAT, 0x0007040600070406},
        {VMCS_GUEST_DR7, 0x400},
        {VMCS_GUEST_RFLAGS, RFLAGS_FIXED},
        {VMCS_GUEST_ES, SELECTOR_DATA},
        {VMCS_GUEST_CS, SELECTOR_CODE},
        {VMCS_GUEST_SS, SELECTOR_DATA},
        {VMCS_GUEST_DS, SELECTOR_DATA},
        {VMCS_GUEST_TR, SELECTOR_TSS},
        {VMCS_GUEST_ES_RIGHTS, RIGHTS_DATA},
        {VMCS_GUEST_CS_RIGHTS, RIGHTS_CODE},
        {VMCS_GUEST_SS_RIGHTS, RIGHTS_DATA},
        {VMCS_GUEST_DS_RIGHTS, RIGHTS_DATA},
        {VMCS_GUEST_FS_RIGHTS, RIGHTS_NONE},
        {VMCS_GUEST_GS_RIGHTS, RIGHTS_NONE},
        {VMCS_GUEST_LDTR_RIGHTS, RIGHTS_NONE},
        {VMCS_GUEST_TR_RIGHTS, RIGHTS_TASK},
        {VMCS_GUEST_ES_LIMIT, UINT32_MAX},
        {VMCS_GUEST_CS_LIMIT, UINT32_MAX},
        {VMCS_GUEST_ES_LIMIT + 4, UINT32_MAX},
        {VMCS_GUEST_ES_LIMIT + 6, UINT32_MAX},
        {VMCS_GUEST_TR_LIMIT, sizeof(guest_tss) - 1},
        {VMCS_GUEST_TR_BASE, (uint64_t)&guest_tss},
        {VMCS_GUEST_GDTR_BASE, (uint64_t)guest_gdt},
        {VMCS_GUEST_GDTR_LIMIT, sizeof(guest_gdt) - 1},
        {VMCS_GUEST_IDTR_BASE, (uint64_t)lv2_idt},
        {VMCS_GUEST_IDTR_LIMIT, sizeof(lv2_idt) - 1},
    };
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
        for (unsigned n = 0; n == 0 || n < fields[i].count; n++)
            (void)write_field(self, fields[i].field + 2 * n, 0);
    write_vital(self);
    write_all(self, settings, ARRAY_SIZE(settings));
}

/* Makes the VMCS at `region` current, which others may have written to: with it comes what they wrote. */
static void make_current(struct self *self, uint64_t region)
{
    if (attempt(self, do_vmptrld, region, 0) != VMX_SUCCEED)
        return;
    self->spoilt_count = 0;
    write_vital(self);
}

/* One of its own VMCSs is as in the image again. */
static void restore(struct self *self)
{
    const uint64_t region = vmcs_of(self->number, below(self, VMCSS));

    (void)attempt(self, do_vmclear, region, 0);
    memcpy((void *)region, self->image, sizeof(self->image));
    make_current(self, region);
}

/* Into VMX operation, from wherever it is. */
static void begin(struct self *self)
{
    volatile uint32_t *region = (volatile uint32_t *)(ZONE + (ZONE_VMXON + self->number) * PAGE_SIZE);

    (void)attempt(self, do_cr4, read_cr4() | CR4_VMXE, 0);
    region[0] = (uint32_t)rdmsr(MSR_VMX_BASIC);
    (void)attempt(self, do_vmxon, (uint64_t)region, 0);
}

/* The image, by an ordinary VMCS that is cleared. */
static void make_image(struct self *self)
{
    const uint64_t region = vmcs_of(self->number, 0);
    volatile uint32_t *revision = (volatile uint32_t *)region;

    memset((void *)region, 0, PAGE_SIZE);
    revision[0] = (uint32_t)rdmsr(MSR_VMX_BASIC);
    if (attempt(self, do_vmclear, region, 0) != VMX_SUCCEED ||
        attempt(self, do_vmptrld, region, 0) != VMX_SUCCEED) {
        guest_check(false, "vmptrld", "of processor %u", self->number);
        guest_finish();
    }
    write_good(self);
    (void)attempt(self, do_vmclear, region, 0);
    memcpy(self->image, (const void *)region, sizeof(self->image));
}

/* ---- Spoiling ----------------------------------------------------------------------------------------- */

static uint64_t random_controls(struct self *self, unsigned word, uint64_t old)
{
    const uint64_t allowed = vmx_allowed(word);
    uint64_t value = old ^ BIT(below(self, 32));

    if (one_in(self, 8))
        return value; /* allowed or not */
    if (one_in(self, 2))
        value = random(self) & random(self);
    return (value & allowed >> 32) | (uint32_t)allowed;
}

static uint64_t random_eptp(struct self *self)
{
    const uint64_t flags =
        one_in(self, 8) ? below(self, 0x1000) : EPTP_FLAGS | (one_in(self, 2) ? BIT(6) : 0);

    switch (below(self, 8)) {
    case 0:
        return random_hole(self) | flags;
    case 1:
        return (ARENA + below(self, ARENA_PAGES) * PAGE_SIZE) | flags;
    default:
        return (ARENA + (ROOTS + below(self, ROOTS)) * PAGE_SIZE) | flags;
    }
}

static uint64_t random_root(struct self *self)
{
    if (one_in(self, 8))
        return one_in(self, 2) ? random_hole(self) : random(self);
    return ARENA + below(self, ROOTS) * PAGE_SIZE + (one_in(self, 8) ? below(self, 32) : 0);
}

static uint64_t random_value(struct self *self, const struct field *f, unsigned field, uint64_t old)
{
    switch ((enum how)f->how) {
    case CONTROLS:
        return random_controls(self, field, old);
    case PAGE:
        return random_page(self, f->detail);
    case EPTP:
        return random_eptp(self);
    case ROOT:
        return random_root(self);
    case EVENT: /* types 0 to 7, any vector that is an exception, mostly */
        return BIT(31) | below(self, 8) << 8 | below(self, one_in(self, 8) ? 256 : 32) |
               (one_in(self, 2) ? EVENT_ERROR : 0);
    case FEW:
        return below(self, one_in(self, 64) ? 0x10000 : f->detail);
    case ACTIVITY:
        return below(self, 3);
    case SELECTOR:
        return one_in(self, 2) ? below(self, GDT_SLOTS) * 8 : below(self, 0x10000);
    case ADDRESS:
        return one_in(self, 2) ? random_address(self) : old ^ BIT(below(self, 64));
    case BITS:
        break;
    }
    return one_in(self, 4) ? random(self) : old ^ BIT(below(self, one_in(self, 4) ? 64 : 16));
}

/* What keeps an entry that succeeds from having a return. */
static uint64_t keep_vital(unsigned field, uint64_t value)
{
    switch (field) {
    case VMCS_PIN:
        return value | TIMER;
    case VMCS_PREEMPTION_TIMER:
        return value & 0xfff;
    default:
        return value;
    }
}

static void spoil(struct self *self)
{
    const struct field *f = &fields[below(self, ARRAY_SIZE(fields))];
    const unsigned field = f->field + (f->count != 0 ? 2 * (unsigned)below(self, f->count) : 0);
    const uint64_t old = read_field(self, field);

    if (self->spoilt_count == MUTATIONS)
        return;
    self->spoilt[self->spoilt_count].field = field;
    self->spoilt[self->spoilt_count++].value = old;
    (void)write_field(self, field, keep_vital(field, random_value(self, f, field, old)));
}

static void mend(struct self *self)
{
    while (self->spoilt_count != 0) {
        const unsigned last = --self->spoilt_count;

        (void)write_field(self, self->spoilt[last].field, self->spoilt[last].value);
    }
}

/* Host state, and no entry: controls that no processor has make it fail first. */
static void spoil_host(struct self *self)
{
    static const uint16_t hosts[] = {VMCS_HOST_CR0,  VMCS_HOST_CR3,     VMCS_HOST_CR4,
                                     VMCS_HOST_EFER, VMCS_HOST_CS,      VMCS_HOST_TR,
                                     VMCS_HOST_RIP,  VMCS_HOST_FS_BASE, VMCS_HOST_GDTR_BASE};

    (void)write_field(self, VMCS_PIN, required(VMCS_PIN, TIMER) | BIT(31));
    for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
        if (one_in(self, 2))
            (void)write_field(self, hosts[i], random(self));
    if (enter(self, one_in(self, 2)) == 1)
        self->failures++;
    write_vital(self);
}

/* The lists of exits: a register or two that all processors have; or, seldom, what ends in a VMX abort. */
static void use_lists(struct self *self)
{
    const bool wild = !self->gentle && one_in(self, 512);
    const unsigned address = one_in(self, 2) ? VMCS_EXIT_MSR_STORE : VMCS_EXIT_MSR_LOAD;
    static uint64_t lists[PLAYERS][4] __aligned(16);
    uint64_t *list = lists[self->number];

    list[0] = MSR_STAR;
    list[1] = random(self);
    list[2] = MSR_KERNEL_GS_BASE;
    list[3] = below(self, BIT(47));
    (void)write_field(self, address, wild ? random_page(self, ZONE_LISTS) : (uint64_t)list);
    (void)write_field(self,
                      address == VMCS_EXIT_MSR_STORE ? VMCS_EXIT_MSR_STORE_COUNT : VMCS_EXIT_MSR_LOAD_COUNT,
                      below(self, 3));
}

/* ---- Operations --------------------------------------------------------------------------------------- */

/* An Lv2, from the start of some code; it may go on where an exit left it. */
static void run(struct self *self)
{
    for (unsigned turns = 1 + (unsigned)below(self, 3); turns != 0; turns--) {
        random_registers(self);
        if (!one_in(self, 16)) {
            (void)write_field(self, VMCS_GUEST_RIP, (uint64_t)random_code(self));
            (void)write_field(self, VMCS_GUEST_RSP,
                              ZONE + (ZONE_STACKS + 2 * self->number + 1) * PAGE_SIZE - 64);
        }
        const uint64_t failure = enter(self, 1) != 0 ? enter(self, 0) : 0;
        if (failure == 0 && (read_field(self, VMCS_EXIT_REASON) & REASON_ENTRY_FAILURE) == 0) {
            self->exits++;
            continue;
        }
        self->failures++;
        if (failure == FAULTED) /* VMX operation is over */
            begin(self);
        restore(self);
        return;
    }
}

static void spoil_and_run(struct self *self)
{
    for (unsigned n = (unsigned)below(self, MUTATIONS); n != 0; n--)
        spoil(self);
    run(self);
    if (!one_in(self, 4))
        mend(self);
    if (one_in(self, 8)) /* what Lv2 itself has changed */
        restore(self);
}

/* In memory, whoever has it current. */
static void scribble_vmcs(struct self *self)
{
    volatile uint64_t *words = page_at(ZONE, ZONE_VMCS + below(self, PLAYERS * VMCSS));

    for (unsigned n = (unsigned)below(self, 8); n != 0; n--)
        words[1 + below(self, 511)] = one_in(self, 2) ? random(self) : random_page(self, ZONE_LISTS);
    if (one_in(self, 8))
        ((volatile uint32_t *)words)[0] = (uint32_t)(rdmsr(MSR_VMX_BASIC) ^ (one_in(self, 4) ? BIT(31) : 0));
}

/* Bitmaps, APIC pages and MSR lists; a list has entries that can be loaded, mostly. */
static void scribble_pages(struct self *self)
{
    volatile uint64_t *words = page_at(ZONE, ZONE_BITMAPS + below(self, 2 * ZONE_OF_A_KIND));
    volatile uint64_t *list = page_at(ZONE, ZONE_LISTS + below(self, ZONE_OF_A_KIND));

    for (unsigned n = 0; n < 8; n++) {
        words[below(self, 512)] = one_in(self, 2) ? random(self) & random(self) : 0;
        list[2 * n] = one_in(self, 16) ? random(self) : random_msr(self);
        list[2 * n + 1] = one_in(self, 4) ? random(self) : 0;
    }
}

static void rewrite_tables(struct self *self)
{
    for (unsigned n = 0; n < 8; n++)
        page_at(ARENA, below(self, ARENA_PAGES))[random_slot(self)] = random_entry(self);
    volatile uint8_t *flags =
        (volatile uint8_t *)&page_at(ARENA, below(self, ARENA_PAGES))[random_slot(self)];
    const uint8_t bit = (uint8_t)BIT(below(self, 7)); /* not the one that makes it a large page */
    __asm__ volatile("lock xorb %1, %0" : "+m"(*flags) : "q"(bit) : "memory", "cc");
}

static void load_another(struct self *self)
{
    make_current(self, vmcs_of((unsigned)below(self, PLAYERS), below(self, VMCSS)));
    if (one_in(self, 2))
        run(self);
    restore(self);
}

/* Single instructions, with operands of any kind. Writes to memory go to the zone. */
static void odd_instruction(struct self *self)
{
    static uint64_t sink[PLAYERS][64] __aligned(64);
    uint64_t *place = sink[self->number];

    switch (below(self, 8)) {
    case 0:
        (void)attempt(self, do_vmclear, random_page(self, ZONE_VMCS), 0);
        break;
    case 1: /* a VMCS that it might make current by this would lack host state */
        (void)attempt(self, do_vmptrld, one_in(self, 2) ? random_hole(self) : ARENA + 8, 0);
        break;
    case 2:
        (void)attempt(self, do_vmptrst, one_in(self, 2) ? GUEST_UNMAPPED : (uint64_t)place, 0);
        break;
    case 3:
        (void)attempt(self, do_vmread, below(self, 0x7000), one_in(self, 4) ? BIT(60) : (uint64_t)place);
        break;
    case 4: /* no field of host state or of what is vital */
        (void)attempt(self, do_vmwrite_memory, 0x7000 + random(self) % 0x10000,
                      one_in(self, 4) ? BIT(60) : (uint64_t)place);
        break;
    case 5:
        (void)attempt(self, do_invept, below(self, 4), random_eptp(self));
        break;
    case 6:
        (void)attempt(self, do_invvpid, below(self, 5), random(self));
        break;
    default:
        if (!one_in(self, 4)) {
            (void)attempt(self, do_vmxon, random_page(self, ZONE_VMXON), 0);
            break;
        }
        (void)attempt(self, do_vmxoff, 0, 0);
        if (one_in(self, 2))
            (void)attempt(self, do_vmclear, vmcs_of(0, 0), 0); /* #UD */
        begin(self);
        restore(self);
        break;
    }
}

/* Events that come from outside of Lv2, whichever processor runs one. */
static void disturb(struct self *self)
{
    take_pending_interrupts();
    apic_write(LAPIC_EOI, 0);
    if (one_in(self, 4))
        apic_send(smp_processors[below(self, smp_count)].apic_id, ICR_NMI | ICR_ASSERT);
    else
        apic_send(smp_processors[below(self, smp_count)].apic_id, ICR_ASSERT | VECTOR_TICK);
}

static const struct {
    unsigned weight;
    void (*act)(struct self *self);
} operations[] = {
    {24, spoil_and_run}, {3, restore},        {1, spoil_host},   {1, use_lists},       {6, scribble_vmcs},
    {4, scribble_pages}, {8, rewrite_tables}, {1, load_another}, {4, odd_instruction}, {1, disturb},
};

static void operate(struct self *self)
{
    unsigned sum = 0;

    for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
        sum += operations[i].weight;
    uint64_t chosen = below(self, sum);
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        if (chosen < operations[i].weight) {
            operations[i].act(self);
            break;
        }
        chosen -= operations[i].weight;
    }
    self->operations++;
}

/* ---- Processors --------------------------------------------------------------------------------------- */

static void play(void *unused)
{
    struct self *self = &selves[smp_self()];

    (void)unused;
    self->number = smp_self();
    self->random = 0x9e3779b97f4a7c15UL * (self->number + 1);
    self->gentle = guest_argument("gentle");
    apic_write(LAPIC_SVR, 0x1ff);
    apic_write(LAPIC_TIMER_DCR, DIVIDE_BY_1);
    apic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | VECTOR_TICK);
    apic_write(LAPIC_TIMER_ICR, TICKS);
    begin(self);
    make_image(self);
    restore(self);
    for (;;) {
        operate(self);
        if (self != &selves[0] || self->operations % REPORT != 0)
            continue;
        uint64_t others = 0;
        for (unsigned n = 1; n < PLAYERS; n++)
            others += selves[n].operations;
        print("ALIVE %lu %lu %lu %lu %lu\n", self->operations, self->exits, self->failures, self->faults,
              others);
    }
}

/* Every exception on a stack of the processor's own. */
static void catch_all(void)
{
    for (unsigned vector = 0; vector < 32; vector++) {
        guest_handlers[vector] = vector == VECTOR_NMI ? on_nmi : on_fault;
        if (vector != VECTOR_DF && vector != VECTOR_NMI)
            guest_idt[vector].ist = IST_FREE;
    }
    guest_handlers[VECTOR_TICK] = on_tick;
}
void guest_main(void)
{
    const bool alone = guest_argument("alone");
    unsigned count = 1;

    if (!vmx_exists() || !vmx_may_set(PIN_PREEMPTION_TIMER) || !vmx_may_set(SECONDARY_EPT)) {
        guest_check(false, "vmx", "no VMX, no preemption timer, or no EPT");
        guest_finish();
    }
    make_memory();
    make_lv2();
    smp_init();
    catch_all();
    for (unsigned n = 1; n < smp_count && n < PLAYERS && !alone; n++)
        if (smp_start(n, SMP_PAGE_FIRST)) {
            smp_call(n, play, NULL);
            count++;
        }
    print("HOSTILE nested %u\n", count);
    play(NULL);
}
