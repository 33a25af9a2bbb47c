// SPDX-License-Identifier: BSD-2-Clause
/*
 * Port I/O: every form of IN and OUT, string forms with what can happen in their midst, and the PC's ports
 * that a guest can look at without harm: UART, port 0x61, 0x92, CMOS, PCI configuration, and what nobody
 * decodes.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/pc.h"

#define UART      0x3f8
#define SCRATCH   (UART + 7)
/* Nobody decodes these, on the emulated PC nor on a partition's board. */
#define UNCLAIMED 0x5a0

static void uart_idle(void)
{
    while ((inb(UART + 5) & 0x40) == 0)
        pause();
}

/* ---- UART --------------------------------------------------------------------------------------------- */

static void uart_rows(void)
{
    char name[48];

    for (unsigned value = 0; value < 256; value += 51) {
        outb(SCRATCH, (uint8_t)value);
        format_text(name, sizeof(name), "uart-scratch-%02x", value);
        guest_equal(name, inb(SCRATCH), value);
    }
    uart_idle();
    outb(UART + 3, 0x83);
    uint8_t low = inb(UART), high = inb(UART + 1), lcr = inb(UART + 3);
    outb(UART, 0x0c);
    outb(UART + 1, 0x01);
    uint8_t low2 = inb(UART), high2 = inb(UART + 1);
    outb(UART, low);
    outb(UART + 1, high);
    outb(UART + 3, 3);
    guest_equal("uart-divisor", low | high << 8, 1);
    guest_equal("uart-lcr", lcr, 0x83);
    guest_equal("uart-divisor-write", low2 | high2 << 8, 0x10c);
    outb(UART + 1, 0xff);
    uint8_t ier = inb(UART + 1);
    outb(UART + 1, 0);
    guest_equal("uart-ier-four-bits", ier, 0x0f);
    guest_equal("uart-iir-fifo-none", inb(UART + 2), 0xc1);
    uart_idle();
    outb(UART + 1, 2);
    uint8_t first = inb(UART + 2), second = inb(UART + 2);
    outb(UART + 1, 0);
    guest_equal("uart-iir-transmitter-empty", first, 0xc2);
    guest_equal("uart-iir-read-clears", second, 0xc1);
    uart_idle();
    guest_equal("uart-lsr-idle", inb(UART + 5), 0x60);

    /* Loopback (16550 data sheet): modem outputs appear as inputs, what is sent is received. */
    static const uint8_t modem[][2] = {{0x00, 0x00}, {0x01, 0x20}, {0x02, 0x10},
                                       {0x04, 0x40}, {0x08, 0x80}, {0x0f, 0xf0}};
    uart_idle();
    uint8_t seen[ARRAY_SIZE(modem)];
    for (size_t i = 0; i < ARRAY_SIZE(modem); i++) {
        outb(UART + 4, 0x10 | modem[i][0]);
        seen[i] = inb(UART + 6) & 0xf0;
    }
    outb(UART + 4, 0x0b);
    for (size_t i = 0; i < ARRAY_SIZE(modem); i++) {
        format_text(name, sizeof(name), "uart-loop-modem-%x", modem[i][0]);
        guest_equal(name, seen[i], modem[i][1]);
    }
    uart_idle();
    outb(UART + 2, 0x07);
    outb(UART + 4, 0x1b);
    outb(UART, 0x5a);
    uint64_t end = rdtsc() + 10000000;
    while ((inb(UART + 5) & 1) == 0 && rdtsc() < end)
        pause();
    uint8_t lsr = inb(UART + 5), data = inb(UART), lsr_after = inb(UART + 5);
    outb(UART + 4, 0x0b);
    guest_equal("uart-loop-ready", lsr & 1, 1);
    guest_equal("uart-loop-data", data, 0x5a);
    guest_equal("uart-loop-empty-after", lsr_after & 1, 0);
    outb(UART + 4, 0xff);
    uint8_t mcr = inb(UART + 4);
    outb(UART + 4, 0x0b);
    guest_equal("uart-mcr-five-bits", mcr, 0x1f);
}

/* ---- Instruction forms -------------------------------------------------------------------------------- */

static void form_rows(void)
{
    uint64_t rax = 0x1122334455667788UL;

    outb(SCRATCH, 0xa5);
    __asm__ volatile("inb %%dx, %%al" : "+a"(rax) : "d"(SCRATCH));
    guest_equal("in-byte-keeps-rest", rax, 0x11223344556677a5UL);
    rax = ~0UL;
    __asm__ volatile("inw %%dx, %%ax" : "+a"(rax) : "d"(UNCLAIMED));
    guest_equal("in-word-keeps-rest", rax, ~0UL);
    rax = 0x1122334400000000UL;
    __asm__ volatile("inl %%dx, %%eax" : "+a"(rax) : "d"(UNCLAIMED));
    guest_equal("in-long-clears-upper-half", rax, 0xffffffff);
    rax = 0;
    __asm__ volatile("inb $0x21, %%al" : "+a"(rax));
    guest_equal("in-immediate", rax, 0xff);
    uint64_t rdx = 0xffffffff00000000UL | SCRATCH;
    __asm__ volatile("outb %%al, %%dx" : : "a"(0x3c), "d"(rdx));
    guest_equal("out-ignores-upper-rdx", inb(SCRATCH), 0x3c);
    write_flags(RFLAGS_FIXED | 0x8d5);
    (void)inb(SCRATCH);
    guest_equal("in-keeps-flags", read_flags() & 0x8d5, 0x8d5);

    guest_equal("unclaimed-byte", inb(UNCLAIMED), 0xff);
    guest_equal("unclaimed-word", inw(UNCLAIMED), 0xffff);
    guest_equal("unclaimed-long", inl(UNCLAIMED), 0xffffffff);
    outl(UNCLAIMED, 0);
    guest_equal("unclaimed-after-write", inl(UNCLAIMED), 0xffffffff);
}

static void string_rows(void)
{
    uint8_t *buffer = (uint8_t *)GUEST_PLAYGROUND;
    uint64_t to = (uint64_t)buffer, from = (uint64_t)buffer, count = 16;

    memset(buffer, 0, PAGE_SIZE);
    outb(SCRATCH, 0x77);
    __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(SCRATCH) : "memory");
    CHECK("rep-insb-registers", to == GUEST_PLAYGROUND + 16 && count == 0);
    CHECK("rep-insb-data", buffer[0] == 0x77 && buffer[15] == 0x77 && buffer[16] == 0);
    to = GUEST_PLAYGROUND + 100;
    count = 4;
    __asm__ volatile("std; rep insb; cld" : "+D"(to), "+c"(count) : "d"(SCRATCH) : "memory", "cc");
    CHECK("rep-insb-down",
          to == GUEST_PLAYGROUND + 96 && buffer[100] == 0x77 && buffer[97] == 0x77 && buffer[96] == 0);
    to = GUEST_PLAYGROUND + 200;
    count = 3;
    __asm__ volatile("rep insw" : "+D"(to), "+c"(count) : "d"(UNCLAIMED) : "memory");
    CHECK("rep-insw", to == GUEST_PLAYGROUND + 206 && buffer[205] == 0xff && buffer[206] == 0);
    count = 3;
    __asm__ volatile("rep insl" : "+D"(to), "+c"(count) : "d"(UNCLAIMED) : "memory");
    CHECK("rep-insl", to == GUEST_PLAYGROUND + 218 && buffer[217] == 0xff && buffer[218] == 0);
    to = GUEST_PLAYGROUND + 300;
    count = 0;
    __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(SCRATCH) : "memory");
    CHECK("rep-insb-none", to == GUEST_PLAYGROUND + 300 && buffer[300] == 0);
    __asm__ volatile("insb" : "+D"(to) : "d"(SCRATCH) : "memory");
    CHECK("insb", to == GUEST_PLAYGROUND + 301 && buffer[300] == 0x77);

    memcpy(buffer, "\x10\x20\x30", 3);
    count = 3;
    __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(SCRATCH) : "memory");
    CHECK("rep-outsb", from == GUEST_PLAYGROUND + 3 && count == 0 && inb(SCRATCH) == 0x30);
    from = GUEST_PLAYGROUND + 1;
    __asm__ volatile("outsb" : "+S"(from) : "d"(SCRATCH) : "memory");
    guest_equal("outsb", inb(SCRATCH), 0x20);
    from = GUEST_PLAYGROUND + 2;
    count = 3;
    __asm__ volatile("std; rep outsb; cld" : "+S"(from), "+c"(count) : "d"(SCRATCH) : "memory", "cc");
    CHECK("rep-outsb-down", from == GUEST_PLAYGROUND - 1 && inb(SCRATCH) == 0x10);
    wrmsr(MSR_FS_BASE, 1);
    from = GUEST_PLAYGROUND;
    __asm__ volatile("fs outsb" : "+S"(from) : "d"(SCRATCH) : "memory");
    wrmsr(MSR_FS_BASE, 0);
    guest_equal("outsb-fs", inb(SCRATCH), 0x20);
    from = 0xdead000000000000UL | GUEST_PLAYGROUND;
    __asm__ volatile("addr32 outsb" : "+S"(from) : "d"(SCRATCH) : "memory");
    guest_equal("outsb-address-32", inb(SCRATCH), 0x10);
    guest_equal("outsb-address-32-rsi", from, GUEST_PLAYGROUND + 1);

    /* Over the end of what is mapped: what was done is done, the registers point at what was not. */
    guest_map(1, 0);
    volatile uint8_t *page = guest_map(0, GUEST_PLAYGROUND | PAGE_PRESENT | PAGE_WRITE);
    outb(SCRATCH, 0x42);
    to = (uint64_t)page + PAGE_SIZE - 4;
    count = 10;
    TRY("rep insb", : "+D"(to), "+c"(count) : "d"(SCRATCH) : "memory");
    guest_expect("rep-insb-fault", VECTOR_PF, PF_WRITE, 0);
    CHECK("rep-insb-fault-registers", to == (uint64_t)page + PAGE_SIZE && count == 6);
    guest_equal("rep-insb-fault-cr2", guest_fault.cr2, (uint64_t)page + PAGE_SIZE);
    guest_equal("rep-insb-fault-data", page[PAGE_SIZE - 1], 0x42);
    page[PAGE_SIZE - 1] = 0x99;
    from = (uint64_t)page + PAGE_SIZE - 4;
    count = 10;
    TRY("rep outsb", : "+S"(from), "+c"(count) : "d"(SCRATCH) : "memory");
    guest_expect("rep-outsb-fault", VECTOR_PF, 0, 0);
    CHECK("rep-outsb-fault-registers", from == (uint64_t)page + PAGE_SIZE && count == 6);
    guest_equal("rep-outsb-fault-sent", inb(SCRATCH), 0x99);
    to = NON_CANONICAL;
    TRY("insb", : "+D"(to) : "d"(SCRATCH) : "memory");
    guest_expect("insb-non-canonical", VECTOR_GP, 0, 0);
    guest_map(0, GUEST_PLAYGROUND | PAGE_PRESENT);
    write_cr0(read_cr0() | CR0_WP);
    to = (uint64_t)page;
    TRY("insb", : "+D"(to) : "d"(SCRATCH) : "memory");
    guest_expect("insb-read-only", VECTOR_PF, PF_PRESENT | PF_WRITE, 0);
    write_cr0(read_cr0() & ~CR0_WP);

    /* One item that lies on two pages. */
    guest_map(0, GUEST_PLAYGROUND | PAGE_PRESENT | PAGE_WRITE);
    guest_map(1, (GUEST_PLAYGROUND + 4 * PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITE);
    to = (uint64_t)page + PAGE_SIZE - 2;
    TRY("insl", : "+D"(to) : "d"(UNCLAIMED) : "memory");
    guest_expect("insl-two-pages", NO_VECTOR, 0, 0);
    CHECK("insl-two-pages-data", buffer[PAGE_SIZE - 1] == 0xff && buffer[4 * PAGE_SIZE + 1] == 0xff &&
                                     buffer[4 * PAGE_SIZE + 2] == 0);
}

/* A single step over each item of a REP (SDM vol. 3, "Single-Step Exception Condition"). */
static void step_rows(void)
{
    uint64_t to = GUEST_PLAYGROUND, count = 3;

    write_dr6(0xffff0ff0);
    TRY("pushfq; orl $0x100, (%%rsp); popfq; rep insb",
        : "+D"(to), "+c"(count)
        : "d"(SCRATCH)
        : "memory", "cc");
    guest_expect("step-rep-insb", VECTOR_DB, 0, 9);
    CHECK("step-rep-insb-registers", to == GUEST_PLAYGROUND + 1 && count == 2);
    TRY("pushfq; orl $0x100, (%%rsp); popfq; inb %%dx, %%al; nop", : : "d"(SCRATCH) : "memory", "cc", "rax");
    guest_expect("step-in", VECTOR_DB, 0, 10);
    TRY("pushfq; orl $0x100, (%%rsp); popfq; outb %%al, %%dx; nop",
        :
        : "d"(SCRATCH), "a"(1)
        : "memory", "cc");
    guest_expect("step-out", VECTOR_DB, 0, 10);
    TRY("pushfq; orl $0x100, (%%rsp); popfq; cpuid; nop", : : : "memory", "cc", "rax", "rbx", "rcx", "rdx");
    guest_expect("step-cpuid", VECTOR_DB, 0, 11);
    TRY("pushfq; orl $0x100, (%%rsp); popfq; rdmsr; nop",
        :
        : "c"(MSR_APIC_BASE)
        : "memory", "cc", "rax", "rdx");
    guest_expect("step-rdmsr", VECTOR_DB, 0, 11);
    write_dr6(0xffff0ff0);
}

/* ---- The board ---------------------------------------------------------------------------------------- */

#define PCI_ADDRESS 0xcf8
#define PCI_DATA    0xcfc
#define PCI_ENABLE  BIT(31)

static void board_rows(void)
{
    outl(PCI_ADDRESS, PCI_ENABLE);
    guest_equal("pci-address-readback", inl(PCI_ADDRESS), PCI_ENABLE);
    uint32_t id = inl(PCI_DATA);
    guest_differs("pci-host-bridge", id);
    CHECK("pci-host-bridge-there", id != 0xffffffff && (id & 0xffff) != 0);
    guest_equal("pci-word", inw(PCI_DATA + 2), id >> 16);
    guest_equal("pci-byte", inb(PCI_DATA + 1), id >> 8 & 0xff);
    outl(PCI_ADDRESS, PCI_ENABLE | 8);
    guest_equal("pci-class-host-bridge", inl(PCI_DATA) >> 16, 0x0600);
    outl(PCI_ADDRESS, PCI_ENABLE | 31 << 11);
    guest_equal("pci-no-device", inl(PCI_DATA), 0xffffffff);
    outl(PCI_ADDRESS, PCI_ENABLE | 7 << 16);
    guest_equal("pci-no-bus", inl(PCI_DATA), 0xffffffff);
    outl(PCI_ADDRESS, 0);
    guest_equal("pci-disabled", inl(PCI_DATA), 0xffffffff);

    uint8_t port61 = inb(0x61);
    outb(0x61, 3);
    guest_equal("port-61-low-bits", inb(0x61) & 3, 3);
    outb(0x61, 0);
    guest_equal("port-61-low-bits-clear", inb(0x61) & 3, 0);
    outb(0x61, port61 & 3);
    guest_equal("port-92-a20", inb(0x92) & 3, 2);

    outb(0x70, 0x8d); /* NMI off, index 0dH */
    guest_equal("cmos-index-with-nmi-bit", inb(0x71) & 0x80, 0x80);
    outb(0x70, 0x0d);
    uint64_t kib = (uint64_t)cmos_read(0x31) << 8 | cmos_read(0x30);
    uint64_t blocks = (uint64_t)cmos_read(0x35) << 8 | cmos_read(0x34);
    CHECK("cmos-memory", kib * 1024 <= guest_memory_size() + MIB(1) || kib == 0xffff);
    guest_check(blocks * 65536 <= guest_memory_size() &&
                    (blocks + 32) * 65536 + MIB(16) > guest_memory_size(),
                "cmos-memory-above-16-mib", "%lu blocks, %lu bytes", blocks, guest_memory_size());
}

void guest_main(void)
{
    uart_rows();
    form_rows();
    string_rows();
    step_rows();
    board_rows();
}
