// SPDX-License-Identifier: BSD-2-Clause
/*
 * An enemy in a partition: touches all that can be touched, with random values, and counts what it has
 * reached. One life is one seed: all MSRs, hypercalls and ports first, after which it says
 *
 *     SWEEP life N
 *     sweep: msrs N of M, ports N of 65536, hypercalls N of 1024
 *
 * then physical memory, registers, VMX, random instructions; and last something that ends the life (reset,
 * power-off, triple fault …) by turns. Whoever runs it starts it again. The life's number is kept in the
 * battery backed memory, which a reset leaves.
 *
 * The word `mild` leaves out random instructions and the end: the life begins anew with the next seed.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/pc.h"

#define CMOS_LIFE  0x68
#define PORTS      65536
#define HYPERCALLS 1024

static uint64_t random_state;
static unsigned life;

/* xorshift64* */
static uint64_t random(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1dUL;
}

/* ---- Watchdog: the PIT as an NMI, for code that does not come back ------------------------------------ */

#define PIN_PIT 2

static volatile uint64_t attempts; /* pieces of code begun */
static volatile bool executing;    /* one of them */

static void on_nmi(struct guest_frame *frame)
{
    static uint64_t last;
    bool stuck = executing && guest_try.resume != 0 && attempts == last;

    last = attempts;
    if (!stuck)
        return;
    frame->rip = guest_try.resume;
    frame->cs = SELECTOR_CODE;
    frame->rflags = RFLAGS_FIXED;
    frame->rsp = guest_try.rsp;
    frame->ss = SELECTOR_DATA;
    guest_try.resume = 0;
}

static void watchdog(bool on)
{
    guest_handlers[VECTOR_NMI] = on_nmi;
    if (on)
        pit_program(0, 2, 2386); /* 2 ms */
    ioapic_route(PIN_PIT, on ? IOAPIC_NMI : IOAPIC_MASKED);
}

/* Whatever comes is ended wherever it may have come from. */
static void on_interrupt(struct guest_frame *frame)
{
    (void)frame;
    lapic_write(LAPIC_EOI, 0);
    pic_eoi(8);
}

static void on_debug(struct guest_frame *frame)
{
    (void)frame;
    write_dr7(0x400);
    write_dr6(0);
}

/* ---- MSRs --------------------------------------------------------------------------------------------- */

static const struct {
    uint32_t first, count;
} msr_ranges[] = {{0, 0x2000}, {0xc0000000, 0x2000}, {0x40000000, 0x400}, {0x4b564d00, 0x10}};

static bool read_msr(uint32_t msr, uint64_t *value)
{
    uint32_t low, high;

    TRY("rdmsr", : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    *value = guest_fault.vector == NO_VECTOR ? (uint64_t)high << 32 | low : 0;
    return guest_fault.vector == NO_VECTOR;
}

static void write_msr(uint32_t msr, uint64_t value)
{
    TRY("wrmsr", : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static void touch_msr(uint32_t msr)
{
    uint64_t value;
    bool readable = read_msr(msr, &value);

    write_msr(msr, value ^ BIT(random() % 64));
    write_msr(msr, random());
    if (readable)
        write_msr(msr, value);
}

static unsigned sweep_msrs(unsigned *all)
{
    unsigned reached = 0;

    *all = 0;
    for (size_t i = 0; i < ARRAY_SIZE(msr_ranges); i++) {
        for (uint32_t n = 0; n < msr_ranges[i].count; n++) {
            touch_msr(msr_ranges[i].first + n);
            reached++;
        }
        *all += msr_ranges[i].count;
        take_pending_interrupts();
    }
    for (unsigned i = 0; i < 1000; i++)
        touch_msr((uint32_t)random());
    return reached;
}

/* ---- Hypercalls --------------------------------------------------------------------------------------- */

static void hypercall(uint64_t number)
{
    uint64_t a = number, b = random(), c = random(), d = random(), s = random(), t = random();
    register uint64_t r8 __asm__("r8") = random();
    register uint64_t r9 __asm__("r9") = random();
    register uint64_t r10 __asm__("r10") = random();

    TRY("vmcall",
        : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+S"(s), "+D"(t), "+r"(r8), "+r"(r9), "+r"(r10)
        :
        : "memory", "cc", "r11");
}

static unsigned sweep_hypercalls(void)
{
    unsigned reached = 0;

    for (unsigned n = 0; n < HYPERCALLS; n++) {
        for (unsigned i = 0; i < 4; i++)
            hypercall(n);
        reached++;
    }
    for (unsigned i = 0; i < 1000; i++)
        hypercall(random());
    return reached;
}

/* ---- Ports -------------------------------------------------------------------------------------------- */

/* Where a write can end the life: these come at its end. */
static const struct {
    uint16_t first, last;
} deadly_ports[] = {{0x64, 0x64}, {0x92, 0x92}, {0xcf9, 0xcf9}, {0x600, 0x60f}};

static bool deadly(uint16_t port, unsigned size)
{
    for (size_t i = 0; i < ARRAY_SIZE(deadly_ports); i++)
        if (port + size > deadly_ports[i].first && port <= deadly_ports[i].last)
            return true;
    return false;
}

static void port_out(uint16_t port, unsigned size)
{
    uint32_t value = (uint32_t)random();

    if (size == 1)
        outb(port, (uint8_t)value);
    else if (size == 2)
        outw(port, (uint16_t)value);
    else
        outl(port, value);
}

static void port_in(uint16_t port, unsigned size)
{
    if (size == 1)
        (void)inb(port);
    else if (size == 2)
        (void)inw(port);
    else
        (void)inl(port);
}

static void port_strings(uint16_t port)
{
    void *at = (void *)(GUEST_PLAYGROUND + random() % PAGE_SIZE);
    uint64_t count = random() % 8;

    __asm__ volatile("rep insb" : "+D"(at), "+c"(count) : "d"(port) : "memory");
    if (deadly(port, 1))
        return;
    count = random() % 8;
    __asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(port) : "memory");
}

static void serial_good_again(void)
{
    outb(0x3f8 + 1, 0);
    outb(0x3f8 + 4, 0);
    outb(0x3f8 + 3, 0x80);
    outb(0x3f8 + 1, 0);
    outb(0x3f8 + 0, 1);
    outb(0x3f8 + 3, 0x03);
    outb(0x3f8 + 2, 0x07);
    outb(0x3f8 + 4, 0x03);
}

static void remember_life(void)
{
    cmos_write(CMOS_LIFE, (uint8_t)(life + 1));
}

static unsigned sweep_ports(void)
{
    unsigned reached = 0;

    /* All ports, in an order that the seed chooses: an odd factor permutes. */
    uint32_t factor = (uint32_t)random() | 1, offset = (uint32_t)random();
    for (uint32_t i = 0; i < PORTS; i++) {
        uint16_t port = (uint16_t)(i * factor + offset);
        bool written = false;
        for (unsigned size = 1; size <= 4; size *= 2) {
            port_in(port, size);
            if (deadly(port, size))
                continue;
            port_out(port, size);
            written = true;
        }
        reached += written;
        if (i % 16 == 0)
            port_strings(port);
        if (i % 256 == 0)
            take_pending_interrupts();
    }
    pic_init(PIC_ALL);
    serial_good_again();
    remember_life();
    return reached;
}

/* ---- Physical memory ---------------------------------------------------------------------------------- */

#define WINDOW_PAGE 7

static void touch_page(uint64_t address, bool write)
{
    volatile uint8_t *page =
        guest_map(WINDOW_PAGE, (address & ~(PAGE_SIZE - 1UL)) | PAGE_PRESENT | PAGE_WRITE);
    volatile uint32_t *at = (volatile void *)(page + random() % 1023 * 4);
    uint32_t value = (uint32_t)random();

    TRY("movl (%0), %%eax; movb 1(%0), %%cl; movw 2(%0), %%cx", : : "r"(at) : "rax", "rcx", "memory");
    if (write)
        TRY("movl %1, (%0); movb %b1, 1(%0); movw %w1, 2(%0); lock xorl %1, (%0)",
            :
            : "r"(at), "a"(value)
            : "memory", "cc");
}

static void touch_range(uint64_t first, uint64_t end, uint64_t step, bool write)
{
    for (uint64_t at = first; at < end; at += step)
        touch_page(at, write);
}

/* The local APIC's and the IO-APIC's registers; but no INIT, which is for the end. */
static void touch_apics(void)
{
    for (unsigned i = 0; i < 2000; i++) {
        unsigned reg = (unsigned)(random() % 64) * 16;
        uint32_t value = (uint32_t)random();
        if (reg == LAPIC_ICR_LOW)
            value &= ~0x700U;
        (void)lapic_read(reg);
        lapic_write(reg, value);
        (void)ioapic_read((uint8_t)random());
        ioapic_write((uint8_t)random(), (uint32_t)random() & ~0x500U);
        if (i % 16 == 0)
            take_pending_interrupts();
    }
    lapic_init(false);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        ioapic_route(pin, IOAPIC_MASKED);
}

static void sweep_memory(void)
{
    uint64_t memory = MIB(1) + guest_memory_size();
    uint64_t end = 1UL << min_u64(cpuid(0x80000008, 0).eax & 0xff, 52);

    touch_range(0xa0000, 0x100000, PAGE_SIZE, true);
    touch_range(GUEST_PLAYGROUND, min_u64(memory, GUEST_PLAYGROUND + GUEST_PLAYGROUND_SIZE), PAGE_SIZE, true);
    touch_range(memory, memory + MIB(1), PAGE_SIZE, true);
    touch_range(memory + MIB(1), GIB(4), MIB(2), true);
    touch_range(0xfec00000 + PAGE_SIZE, 0xfed00000, PAGE_SIZE, true);
    touch_range(0xfee00000 + PAGE_SIZE, 0xfef00000, PAGE_SIZE, true);
    for (uint64_t at = GIB(4); at < end; at *= 2)
        touch_range(at, at + 4 * PAGE_SIZE, PAGE_SIZE, true);
    for (unsigned i = 0; i < 4096; i++) {
        uint64_t at = random() & (end - 1);
        if (at >= memory)
            touch_page(at, true);
    }
    touch_page(end - PAGE_SIZE, true);
    touch_apics();
    guest_map(WINDOW_PAGE, 0);
}

/* ---- Control and debug registers, instructions -------------------------------------------------------- */

#define TOUCH_REGISTER(name, save, flip)                                                                     \
    static void touch_##name(void)                                                                           \
    {                                                                                                        \
        uint64_t good = read_##name(), bad = (save) ^ (flip);                                                \
        TRY("mov %0, %%" #name "; mov %1, %%" #name, : : "r"(bad), "r"(good) : "memory");                    \
        TRY("mov %0, %%" #name, : : "r"(good) : "memory");                                                   \
        TRY("mov %0, %%" #name, : : "r"(good) : "memory");                                                   \
    }

TOUCH_REGISTER(cr0, good, BIT(random() % 64))
TOUCH_REGISTER(cr3, good, (random() & 1) != 0 ? BIT(63) : BIT(3 + random() % 2))
TOUCH_REGISTER(cr4, good, BIT(random() % 64))
TOUCH_REGISTER(cr8, good, random())
TOUCH_REGISTER(dr0, good, random())
TOUCH_REGISTER(dr3, good, random())
TOUCH_REGISTER(dr6, good, random())
TOUCH_REGISTER(dr7, good, (random() & 1) != 0 ? random() & 0xffff0000 : BIT(random() % 64))

static void touch_xcr(void)
{
    uint64_t value = random() % 4 == 0 ? random() : random() & 0x2ff;

    write_cr4(read_cr4() | CR4_OSXSAVE);
    TRY("xsetbv",
        :
        : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"((uint32_t)(random() % 3))
        : "memory");
    TRY("xsetbv", : : "a"(3), "d"(0), "c"(0) : "memory");
}

static void touch_cpuid(void)
{
    (void)cpuid((uint32_t)random(), (uint32_t)random());
    (void)cpuid((uint32_t)random() & 0xc00000ff, (uint32_t)random() & 0xff);
    (void)cpuid(0x40000000 + ((uint32_t)random() & 0xff), 0);
}

static void (*const register_acts[])(void) = {touch_cr0, touch_cr3, touch_cr4, touch_cr8, touch_dr0,
                                              touch_dr3, touch_dr6, touch_dr7, touch_xcr, touch_cpuid};

/* With RAX the address of a page of random bytes, RCX and RDX random. */
static const char *const instructions[] = {
    "\x0f\x01\xc1",         /* vmcall */
    "\x0f\x01\xc2",         /* vmlaunch */
    "\x0f\x01\xc3",         /* vmresume */
    "\x0f\x01\xc4",         /* vmxoff */
    "\xf3\x0f\xc7\x30",     /* vmxon */
    "\x0f\xc7\x30",         /* vmptrld */
    "\x66\x0f\xc7\x30",     /* vmclear */
    "\x0f\xc7\x38",         /* vmptrst */
    "\x0f\x78\xca",         /* vmread */
    "\x0f\x79\xca",         /* vmwrite */
    "\x0f\x01\xd4",         /* vmfunc */
    "\x66\x0f\x38\x80\x08", /* invept */
    "\x66\x0f\x38\x81\x08", /* invvpid */
    "\x66\x0f\x38\x82\x08", /* invpcid */
    "\x0f\x37",             /* getsec */
    "\x0f\xaa",             /* rsm */
    "\x0f\x33",             /* rdpmc */
    "\x0f\x01\xc8",         /* monitor */
    "\x0f\x01\xcf",         /* encls */
    "\x0f\x01\xd9",         /* AMD's vmmcall */
    "\x0f\x01\xc0",         /* enclv */
    "\x0f\x01\xc5",         /* pconfig */
    "\x0f\xc7\x18",         /* xrstors */
    "\x0f\xc7\x28",         /* xsaves */
    "\x0f\x09",             /* wbinvd */
    "\x0f\x08",             /* invd */
    "\x0f\x0b",             /* ud2 */
    "\xf1",                 /* int1 */
};

#define CODE_PAGE (GUEST_PLAYGROUND + 16 * PAGE_SIZE)
#define DATA_PAGE (GUEST_PLAYGROUND + 32 * PAGE_SIZE)

extern uint64_t sweep_rbp;
/* Where RBP is kept, which the code may lose and the compiler may want. */
uint64_t sweep_rbp;

static void execute(void)
{
    uint64_t a = DATA_PAGE, c = random(), d = random(), code = CODE_PAGE;

    attempts++;
    executing = true;
    __asm__ volatile("movq %%rbp, sweep_rbp" : : : "memory");
    TRY("call *%%rsi", "; movq sweep_rbp, %%rbp"
        : "+a"(a), "+c"(c), "+d"(d), "+S"(code)
        :
        : "memory", "cc", "rbx", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15");
    executing = false;
}

static void random_fill(uint64_t at, size_t size)
{
    for (size_t i = 0; i < size; i += 8)
        *(volatile uint64_t *)(at + i) = random();
}

static void sweep_instructions(void)
{
    for (unsigned round = 0; round < 16; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(instructions); i++) {
            random_fill(DATA_PAGE, 64);
            memset((void *)CODE_PAGE, 0xc3, 16);
            memcpy((void *)CODE_PAGE, instructions[i], strlen(instructions[i]));
            execute();
        }
    }
}

/* Anything at all, in ring 0: it may well be the end. */
static void sweep_garbage(void)
{
    for (unsigned i = 0; i < 500; i++) {
        memset((void *)CODE_PAGE, 0xcc, PAGE_SIZE);
        random_fill(CODE_PAGE, 16);
        execute();
        write_dr7(0x400);
    }
}

static void sweep_registers(void)
{
    for (unsigned i = 0; i < 2000; i++)
        register_acts[random() % ARRAY_SIZE(register_acts)]();
}

/* ---- The end of a life -------------------------------------------------------------------------------- */

static void end_by_ports(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(deadly_ports); i++)
        for (unsigned n = 0; n < 64; n++)
            for (unsigned size = 1; size <= 4; size *= 2)
                port_out((uint16_t)(deadly_ports[(i + life) % ARRAY_SIZE(deadly_ports)].first + random() % 4),
                         size);
}

static void end_by_reset(void)
{
    outb(0xcf9, 0x06);
}

static void end_by_power(void)
{
    outw(0x604, BIT(13));
}

static void end_by_triple_fault(void)
{
    guest_idt_load(0);
    __asm__ volatile("ud2");
}

static void end_by_cr3(void)
{
    write_cr3(random() & 0xffffffff000);
}

static void end_by_init(void)
{
    lapic_write(LAPIC_ICR_HIGH, 0);
    lapic_write(LAPIC_ICR_LOW, 0x500 | ICR_ASSERT);
}

static void end_by_jump(void)
{
    guest_idt_load(0);
    __asm__ volatile("jmp *%0" : : "r"(0xd0000000UL));
}

static void (*const ends[])(void) = {end_by_reset, end_by_triple_fault, end_by_ports, end_by_init,
                                     end_by_power, end_by_jump,         end_by_cr3};

void guest_main(void)
{
    bool mild = guest_argument("mild");

    life = cmos_read(CMOS_LIFE);
    for (;; life++) {
        remember_life();
        random_state = 0x9e3779b97f4a7c15UL * (life + 1);
        print("SWEEP life %u\n", life);
        for (unsigned vector = 32; vector < 256; vector++)
            guest_handlers[vector] = vector == VECTOR_LEAVE ? NULL : on_interrupt;
        guest_handlers[VECTOR_DB] = on_debug;
        pic_init(PIC_ALL);
        lapic_init(false);
        watchdog(true);

        unsigned all_msrs, msrs = sweep_msrs(&all_msrs);
        unsigned hypercalls = sweep_hypercalls();
        unsigned ports = sweep_ports();
        print("sweep: msrs %u of %u, ports %u of %u, hypercalls %u of %u\n", msrs, all_msrs, ports, PORTS,
              hypercalls, HYPERCALLS);
        sweep_memory();
        watchdog(true);
        sweep_registers();
        sweep_instructions();
        print("SWEEP all of life %u\n", life);
        if (mild)
            continue;
        sweep_garbage();
        ends[life % ARRAY_SIZE(ends)]();
        for (;;)
            pause();
    }
}
