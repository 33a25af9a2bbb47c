// SPDX-License-Identifier: BSD-2-Clause
/*
 * Interrupt delivery: 8259s, IO-APIC and local APIC (SDM vol. 3, "Advanced Programmable Interrupt
 * Controller"), what blocks interrupts and for how long, HLT, NMI. The source on demand is the UART: its
 * transmitter-empty interrupt is raised by IER bit 1 and falls with it. x2APIC mode comes last: the
 * emulator's APIC cannot go back.
 */
#include "lib/printf.h"
#include "tests/guests/lib/pc.h"

#define UART     0x3f8
#define UART_IRQ 4

#define LOW      0x51
#define MIDDLE   0x71
#define HIGH     0xa1

static const uint64_t patience = 20000000; /* ticks: 0.2 s of the emulator's time */

static void uart_quiet(void)
{
    while ((inb(UART + 5) & 0x40) == 0)
        pause();
}

static void uart_raise(void)
{
    outb(UART + 4, 0x0b); /* OUT2 lets the interrupt out */
    outb(UART + 1, 2);
}

static void uart_lower(void)
{
    outb(UART + 1, 0);
    (void)inb(UART + 2);
}

/* ---- 8259 --------------------------------------------------------------------------------------------- */

static bool isr_seen;
static uint16_t isr_value;

static void pic_handler(struct guest_frame *frame)
{
    isr_value = pic_read(PIC_READ_ISR);
    isr_seen = true;
    uart_lower();
    pc_count_pic(frame);
}

static void pic_rows(void)
{
    lapic_init(true);
    pic_init(PIC_ALL);
    guest_handlers[PIC_BASE + UART_IRQ] = pic_handler;
    guest_handlers[PIC_BASE + 0] = pc_count_pic;
    guest_handlers[PIC_BASE + 8] = pc_count_pic;
    pc_hits_clear();

    pic_mask(0xa55a);
    guest_equal("pic-mask-readback", inb(PIC_MASTER + 1) | inb(PIC_SLAVE + 1) << 8, 0xa55a);
    pic_mask(PIC_ALL);
    guest_equal("pic-isr-empty", pic_read(PIC_READ_ISR), 0);

    uart_quiet();
    uart_raise();
    guest_equal("pic-irr-while-masked", pic_read(PIC_READ_IRR) >> UART_IRQ & 1, 1);
    take_pending_interrupts();
    guest_equal("pic-masked-not-taken", pc_hits[PIC_BASE + UART_IRQ], 0);
    uart_quiet();
    uart_lower();
    guest_equal("pic-irr-falls-with-line", pic_read(PIC_READ_IRR) >> UART_IRQ & 1, 0);

    uart_quiet();
    pic_mask((uint16_t)(PIC_ALL & ~(1 << UART_IRQ)));
    uart_raise();
    bool came = pc_wait(PIC_BASE + UART_IRQ, 1, patience);
    CHECK("pic-irq", came);
    CHECK("pic-isr-in-handler", isr_seen && isr_value == 1 << UART_IRQ);
    guest_equal("pic-isr-after-eoi", pic_read(PIC_READ_ISR), 0);
    take_pending_interrupts();
    guest_equal("pic-irq-once", pc_hits[PIC_BASE + UART_IRQ], 1);

    /* Two at once: IRQ 0 before IRQ 4; the timer's one shot is waited for with interrupts off. */
    uart_quiet();
    pc_hits_clear();
    pic_mask((uint16_t)(PIC_ALL & ~(1 << UART_IRQ | 1)));
    pit_program(0, 0, 100);
    while ((pic_read(PIC_READ_IRR) & 1) == 0)
        pause();
    uart_raise();
    (void)pc_wait(PIC_BASE + UART_IRQ, 1, patience);
    CHECK("pic-priority",
          pc_order_count == 2 && pc_order[0] == PIC_BASE && pc_order[1] == PIC_BASE + UART_IRQ);

    /* Without its EOI, IRQ 0 keeps IRQ 4 waiting, and a specific EOI lets it through. */
    uart_quiet();
    pc_hits_clear();
    outb(PIC_MASTER, 0xc2); /* IRQ 2 lowest: IRQ 3 highest, then 4 */
    uart_raise();
    pit_program(0, 0, 100);
    while ((pic_read(PIC_READ_IRR) & 1) == 0)
        pause();
    (void)pc_wait(PIC_BASE, 1, patience);
    CHECK("pic-rotated-priority",
          pc_order_count == 2 && pc_order[0] == PIC_BASE + UART_IRQ && pc_order[1] == PIC_BASE);
    outb(PIC_MASTER, 0xc7);

    /* The base vector is the guest's choice. */
    outb(PIC_MASTER, 0x11);
    outb(PIC_MASTER + 1, 0x90);
    outb(PIC_MASTER + 1, 4);
    outb(PIC_MASTER + 1, 3); /* automatic EOI */
    pic_mask((uint16_t)(PIC_ALL & ~(1 << UART_IRQ)));
    uart_quiet();
    TRY("sti; nop; nop; cli; nop", : : : "memory");
    guest_expect("pic-nothing-pending", NO_VECTOR, 0, 0);
    uart_quiet();
    uart_raise();
    TRY("sti; nop; nop; cli; nop", : : : "memory");
    uart_lower();
    guest_expect("pic-base-vector", 0x90 + UART_IRQ, 0, 2);
    guest_equal("pic-automatic-eoi", pic_read(PIC_READ_ISR), 0);
    pic_init(PIC_ALL);
}

/* ---- IO-APIC ------------------------------------------------------------------------------------------ */

#define VECTOR_UART 0x81

static unsigned lower_after;
static bool level_in_tmr;

static void level_handler(struct guest_frame *frame)
{
    isr_value = (uint16_t)(ioapic_read(0x10 + 2 * UART_IRQ) & IOAPIC_REMOTE);
    level_in_tmr = lapic_bit(LAPIC_TMR, VECTOR_UART);
    if (pc_hits[VECTOR_UART] + 1 >= lower_after)
        uart_lower();
    pc_count_lapic(frame);
}

static void ioapic_rows(void)
{
    char name[48];

    lapic_init(false);
    guest_equal("ioapic-pins", (ioapic_read(1) >> 16 & 0xff) + 1, IOAPIC_PINS);
    guest_differs("ioapic-version", ioapic_read(1) & 0xff);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        ioapic_route(pin, IOAPIC_MASKED | (0x30 + pin));
        ioapic_write((uint8_t)(0x11 + 2 * pin), pin << 24);
        format_text(name, sizeof(name), "ioapic-entry-%02u", pin);
        CHECK(name, (ioapic_read((uint8_t)(0x10 + 2 * pin)) & 0x1afff) == (IOAPIC_MASKED | (0x30 + pin)) &&
                        ioapic_read((uint8_t)(0x11 + 2 * pin)) >> 24 == pin);
    }
    ioapic_route(0, IOAPIC_MASKED | 0x5000 | 0x30);
    guest_equal("ioapic-status-read-only", ioapic_read(0x10) & 0x5000, 0);
    ioapic_write(0, 0x05000000);
    guest_equal("ioapic-id", ioapic_read(0) >> 24 & 0xf, 5);
    ioapic_write(0, 0);

    guest_handlers[VECTOR_UART] = level_handler;
    lower_after = 1;
    uart_quiet();
    pc_hits_clear();
    ioapic_route(UART_IRQ, VECTOR_UART);
    uart_raise();
    bool came = pc_wait(VECTOR_UART, 1, patience);
    take_pending_interrupts();
    CHECK("ioapic-edge", came);
    guest_equal("ioapic-edge-once", pc_hits[VECTOR_UART], 1);
    guest_equal("ioapic-edge-no-remote-irr", isr_value, 0);
    guest_equal("ioapic-edge-tmr", level_in_tmr, 0);

    ioapic_route(UART_IRQ, VECTOR_UART | IOAPIC_MASKED);
    uart_quiet();
    pc_hits_clear();
    uart_raise();
    take_pending_interrupts();
    guest_equal("ioapic-masked", pc_hits[VECTOR_UART], 0);
    uart_quiet();
    uart_lower();

    /* A level stays asserted over two EOIs: three interrupts. */
    ioapic_route(UART_IRQ, VECTOR_UART | IOAPIC_LEVEL);
    uart_quiet();
    pc_hits_clear();
    lower_after = 3;
    uart_raise();
    (void)pc_wait(VECTOR_UART, 3, patience);
    uart_lower();
    take_pending_interrupts();
    /* 82093AA: remote IRR from acceptance to EOI, then the level is looked at again. The emulator does
     * neither. */
    guest_differs("ioapic-level-asserted-over-eoi", pc_hits[VECTOR_UART]);
    guest_differs("ioapic-level-remote-irr", isr_value);
    CHECK("ioapic-level", pc_hits[VECTOR_UART] >= 1);
    guest_equal("ioapic-level-tmr", level_in_tmr, 1);
    guest_equal("ioapic-level-remote-irr-cleared", ioapic_read(0x10 + 2 * UART_IRQ) & IOAPIC_REMOTE, 0);

    /* Masked while asserted: it comes when it is unmasked. */
    ioapic_route(UART_IRQ, VECTOR_UART | IOAPIC_LEVEL | IOAPIC_MASKED);
    uart_quiet();
    pc_hits_clear();
    lower_after = 1;
    uart_raise();
    take_pending_interrupts();
    unsigned masked = pc_hits[VECTOR_UART];
    ioapic_route(UART_IRQ, VECTOR_UART | IOAPIC_LEVEL);
    came = pc_wait(VECTOR_UART, 1, patience);
    CHECK("ioapic-level-unmasked-comes", masked == 0 && came);
    ioapic_route(UART_IRQ, VECTOR_UART | IOAPIC_MASKED);

    /* The PIT's IRQ 0 is pin 2. */
    guest_handlers[LOW] = pc_count_lapic;
    pc_hits_clear();
    ioapic_route(2, LOW);
    pit_program(0, 2, 1193);
    CHECK("ioapic-pit-is-pin-2", pc_wait(LOW, 3, patience));
    ioapic_route(2, LOW | IOAPIC_MASKED);
    take_pending_interrupts();

    /* Logical, flat: this processor has bit 0. */
    lapic_write(LAPIC_DFR, 0xffffffff);
    lapic_write(LAPIC_LDR, 0x01000000);
    pc_hits_clear();
    ioapic_write(0x11 + 4, 0x01000000);
    ioapic_write(0x10 + 4, LOW | 0x800);
    CHECK("ioapic-logical", pc_wait(LOW, 1, patience));
    ioapic_route(2, LOW | IOAPIC_MASKED);
    take_pending_interrupts();
}

/* ---- Local APIC --------------------------------------------------------------------------------------- */

static void self_ipi(unsigned vector)
{
    lapic_write(LAPIC_ICR_LOW, ICR_SELF | vector);
}

static uint32_t ppr_seen;
static bool isr_bit_seen;

static void nesting_handler(struct guest_frame *frame)
{
    pc_hits[frame->vector]++;
    pc_order[pc_order_count++] = (uint8_t)frame->vector;
    if (frame->vector == MIDDLE) {
        ppr_seen = lapic_read(LAPIC_PPR);
        isr_bit_seen = lapic_bit(LAPIC_ISR, MIDDLE);
        self_ipi(LOW);
        self_ipi(HIGH);
        take_pending_interrupts(); /* only HIGH may come here */
        pc_order[pc_order_count++] = 0;
    }
    lapic_write(LAPIC_EOI, 0);
}

static void lapic_rows(void)
{
    lapic_init(false);
    guest_equal("lapic-id", lapic_read(LAPIC_ID), 0);
    guest_value("lapic-version", lapic_read(LAPIC_VERSION) & 0xff);
    guest_value("lapic-lvt-entries", lapic_read(LAPIC_VERSION) >> 16 & 0xff);
    guest_equal("lapic-svr", lapic_read(LAPIC_SVR), 0x1ff);
    lapic_write(LAPIC_LDR, 0xff123456);
    guest_equal("lapic-ldr", lapic_read(LAPIC_LDR), 0xff000000);
    lapic_write(LAPIC_DFR, 0x0fffffff);
    guest_equal("lapic-dfr", lapic_read(LAPIC_DFR), 0x0fffffff);
    lapic_write(LAPIC_DFR, 0xffffffff);
    lapic_write(LAPIC_LDR, 0x01000000);

    guest_handlers[LOW] = guest_handlers[MIDDLE] = guest_handlers[HIGH] = pc_count_lapic;
    pc_hits_clear();
    self_ipi(MIDDLE);
    self_ipi(LOW);
    self_ipi(HIGH);
    CHECK("irr-while-disabled",
          lapic_bit(LAPIC_IRR, LOW) && lapic_bit(LAPIC_IRR, MIDDLE) && lapic_bit(LAPIC_IRR, HIGH));
    guest_equal("if-clear-blocks", pc_order_count, 0);
    (void)pc_wait(LOW, 1, patience);
    CHECK("highest-first",
          pc_order_count == 3 && pc_order[0] == HIGH && pc_order[1] == MIDDLE && pc_order[2] == LOW);
    CHECK("irr-empty-after", !lapic_bit(LAPIC_IRR, LOW) && !lapic_bit(LAPIC_ISR, LOW));

    pc_hits_clear();
    for (unsigned i = 0; i < 5; i++)
        self_ipi(LOW);
    take_pending_interrupts();
    take_pending_interrupts();
    guest_equal("same-vector-collapses", pc_hits[LOW], 1);

    guest_handlers[LOW] = guest_handlers[MIDDLE] = guest_handlers[HIGH] = nesting_handler;
    pc_hits_clear();
    self_ipi(MIDDLE);
    (void)pc_wait(LOW, 1, patience);
    CHECK("nested-by-priority", pc_order_count == 4 && pc_order[0] == MIDDLE && pc_order[1] == HIGH &&
                                    pc_order[2] == 0 && pc_order[3] == LOW);
    guest_equal("ppr-in-service", ppr_seen & 0xf0, MIDDLE & 0xf0);
    CHECK("isr-in-service", isr_bit_seen);
    guest_handlers[LOW] = guest_handlers[MIDDLE] = guest_handlers[HIGH] = pc_count_lapic;

    pc_hits_clear();
    lapic_write(LAPIC_TPR, 0x70);
    self_ipi(LOW);
    self_ipi(MIDDLE);
    self_ipi(HIGH);
    take_pending_interrupts();
    CHECK("tpr-blocks-its-class", pc_order_count == 1 && pc_order[0] == HIGH);
    guest_equal("ppr-follows-tpr", lapic_read(LAPIC_PPR), 0x70);
    write_cr8(6);
    take_pending_interrupts();
    CHECK("cr8-lowered-lets-through", pc_order_count == 2 && pc_order[1] == MIDDLE);
    lapic_write(LAPIC_TPR, 0);
    take_pending_interrupts();
    CHECK("tpr-lowered-lets-through", pc_order_count == 3 && pc_order[2] == LOW);
    lapic_write(LAPIC_EOI, 0);
    guest_equal("eoi-without-service", pc_order_count, 3);

    static const struct {
        const char *name;
        uint32_t high, low;
        bool comes;
    } sends[] = {
        {"ipi-self", 0, ICR_SELF, true},
        {"ipi-all", 0, ICR_ALL, true},
        {"ipi-all-others", 0, 0xc0000, false},
        {"ipi-physical", 0, ICR_ASSERT, true},
        {"ipi-physical-other", 1U << 24, ICR_ASSERT, false},
        {"ipi-physical-broadcast", 0xffU << 24, ICR_ASSERT, true},
        {"ipi-logical", 1U << 24, ICR_ASSERT | 0x800, true},
        {"ipi-logical-mask", 0x81U << 24, ICR_ASSERT | 0x800, true},
        {"ipi-logical-other", 2U << 24, ICR_ASSERT | 0x800, false},
        {"ipi-lowest-priority", 1U << 24, ICR_ASSERT | 0x800 | 0x100, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(sends); i++) {
        pc_hits_clear();
        lapic_write(LAPIC_ICR_HIGH, sends[i].high);
        lapic_write(LAPIC_ICR_LOW, sends[i].low | MIDDLE);
        take_pending_interrupts();
        guest_equal(sends[i].name, pc_hits[MIDDLE], sends[i].comes);
    }
    guest_equal("icr-idle", lapic_read(LAPIC_ICR_LOW) & 0x1000, 0);

    lapic_write(LAPIC_ESR, 0);
    lapic_write(LAPIC_ESR, 0);
    guest_equal("esr-empty", lapic_read(LAPIC_ESR), 0);
    self_ipi(5);
    lapic_write(LAPIC_ESR, 0);
    guest_differs("esr-illegal-vector", lapic_read(LAPIC_ESR));
    lapic_write(LAPIC_ESR, 0);
    lapic_write(LAPIC_ESR, 0);
    guest_equal("esr-empty-again", lapic_read(LAPIC_ESR), 0);

    /* Software-disabled: local vector table masked, and it stays so when enabled again. */
    lapic_write(LAPIC_LVT_TIMER, MIDDLE);
    lapic_write(LAPIC_SVR, 0xff);
    guest_equal("disabled-masks-lvt", lapic_read(LAPIC_LVT_TIMER) & LVT_MASKED, LVT_MASKED);
    lapic_write(LAPIC_SVR, 0x1ff);
    guest_equal("enabled-lvt-still-masked", lapic_read(LAPIC_LVT_TIMER) & LVT_MASKED, LVT_MASKED);
    pc_hits_clear();
    self_ipi(HIGH);
    take_pending_interrupts();
    guest_equal("enabled-delivers", pc_hits[HIGH], 1);
}

/* ---- What blocks, and for how long -------------------------------------------------------------------- */

static void shadow_row(const char *name, int vector, int64_t offset)
{
    guest_expect(name, vector, 0, offset);
    if (guest_fault.vector == LOW)
        lapic_write(LAPIC_EOI, 0);
    else
        take_pending_interrupts();
    guest_handlers[LOW] = NULL;
}

/* A pending LOW that TRY catches; whatever is left is taken by shadow_row. */
static void pend(void)
{
    guest_handlers[LOW] = NULL;
    self_ipi(LOW);
}

static void drop(void)
{
    guest_handlers[LOW] = pc_count_lapic;
    take_pending_interrupts();
    guest_handlers[LOW] = NULL;
}

static void shadow_rows(void)
{
    lapic_init(false);
    pend();
    TRY("sti; cli; nop", : : : "memory");
    guest_check(guest_fault.vector == NO_VECTOR, "sti-cli", "vector %d at %ld", guest_fault.vector,
                guest_fault.offset);
    drop();
    pend();
    TRY("sti; nop; cli", : : : "memory");
    shadow_row("sti-shadow-one-instruction", LOW, 2);
    drop();
    pend();
    TRY("pushfq; orl $0x200, (%%rsp); popfq; cli", : : : "memory", "cc");
    shadow_row("popf-no-shadow", LOW, 9);
    drop();
    pend();
    TRY("sti; movl %0, %%ss; cli; nop", : : "r"(SELECTOR_DATA) : "memory");
    guest_value("sti-then-mov-ss-vector", (uint64_t)(int64_t)guest_fault.vector);
    if (guest_fault.vector == LOW)
        lapic_write(LAPIC_EOI, 0);
    drop();
    pend();
    TRY("sti; sti; cli; nop", : : : "memory");
    guest_value("sti-sti-cli-vector", (uint64_t)(int64_t)guest_fault.vector);
    if (guest_fault.vector == LOW)
        lapic_write(LAPIC_EOI, 0);
    drop();

    /* IF set already: the write that pends it is followed at once by the interrupt. */
    TRY("sti; nop; movl %0, (%1); nop; cli",
        :
        : "r"(ICR_SELF | LOW), "r"(LAPIC_BASE + LAPIC_ICR_LOW)
        : "memory");
    shadow_row("if-set-taken-at-once", LOW, 4);
    drop();
    pend();
    TRY("sti; hlt; cli", : : : "memory");
    shadow_row("sti-hlt-wakes", LOW, 2);
    drop();
    lapic_write(LAPIC_TPR, 0x50);
    pend();
    TRY("sti; nop; nop; xorl %%eax, %%eax; movq %%rax, %%cr8; nop; cli", : : : "memory", "rax");
    shadow_row("cr8-write-lets-through", LOW, 9);
    drop();
    /* IRETQ that sets IF: taken before the next instruction. */
    pend();
    TRY("movq %%rsp, %%rax; pushq $0x10; pushq %%rax; pushq $0x202; pushq $8; pushq $1f; iretq; 1: nop; cli",
        :
        :
        : "memory", "rax");
    guest_check(guest_fault.vector == LOW && *(const uint8_t *)guest_fault.frame.rip == 0x90,
                "iret-no-shadow", "vector %d at %ld", guest_fault.vector, guest_fault.offset);
    lapic_write(LAPIC_EOI, 0);
    drop();
    /* An interrupt at a REP leaves it restartable. */
    uint64_t count = 0x100000, to = GUEST_PLAYGROUND;
    guest_handlers[LOW] = pc_count_lapic;
    pc_hits_clear();
    lapic_write(LAPIC_LVT_TIMER, LOW);
    lapic_write(LAPIC_TIMER_DCR, DIVIDE_BY_1);
    lapic_write(LAPIC_TIMER_ICR, 5000);
    __asm__ volatile("sti; rep stosb; cli" : "+D"(to), "+c"(count) : "a"(0) : "memory");
    guest_check(pc_hits[LOW] == 1 && count == 0 && to == GUEST_PLAYGROUND + 0x100000, "rep-interrupted",
                "%u interrupts, %#lx left, at %#lx", pc_hits[LOW], count, to);
    lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
}

/* ---- NMI ---------------------------------------------------------------------------------------------- */

static volatile unsigned nmis, nmis_inside;

static void nmi_handler(struct guest_frame *frame)
{
    (void)frame;
    nmis++;
    if (nmis == 1) {
        lapic_write(LAPIC_ICR_LOW, ICR_ASSERT | ICR_NMI);
        lapic_write(LAPIC_ICR_LOW, ICR_ASSERT | ICR_NMI);
        for (unsigned i = 0; i < 10; i++)
            pause();
        nmis_inside = nmis;
    }
}

static void nmi_rows(void)
{
    lapic_init(false);
    guest_handlers[VECTOR_NMI] = nmi_handler;
    nmis = 1;
    lapic_write(LAPIC_ICR_HIGH, 0);
    lapic_write(LAPIC_ICR_LOW, ICR_ASSERT | ICR_NMI);
    for (unsigned i = 0; i < 10; i++)
        pause();
    guest_equal("nmi-with-if-clear", nmis - 1, 1);
    CHECK("nmi-not-in-irr", !lapic_bit(LAPIC_IRR, VECTOR_NMI));

    /* From the PIT by way of the IO-APIC: it wakes a processor that is halted with interrupts off. */
    nmis = 1;
    pit_program(0, 0, 1193); /* first: it was periodic, and its edges would be NMIs */
    ioapic_route(2, IOAPIC_NMI);
    __asm__ volatile("cli; hlt" : : : "memory");
    ioapic_route(2, IOAPIC_MASKED);
    guest_equal("nmi-wakes-from-hlt", nmis - 1, 1);

    nmis = 0;
    lapic_write(LAPIC_ICR_LOW, ICR_ASSERT | ICR_NMI);
    for (unsigned i = 0; i < 10; i++)
        pause();
    guest_equal("nmi-blocked-inside", nmis_inside, 1);
    guest_equal("nmi-one-more-after-iret", nmis, 2);
    guest_handlers[VECTOR_NMI] = NULL;
}

/* ---- x2APIC ------------------------------------------------------------------------------------------- */

static uint64_t x2apic(unsigned reg)
{
    return rdmsr(MSR_X2APIC + reg / 16);
}

static void x2apic_handler(struct guest_frame *frame)
{
    pc_hits[frame->vector]++;
    wrmsr(MSR_X2APIC + LAPIC_EOI / 16, 0);
}

static void x2apic_write_row(const char *name, unsigned reg, uint64_t value, bool good)
{
    TRY("wrmsr",
        :
        : "c"(MSR_X2APIC + reg / 16), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
        : "memory");
    guest_expect(name, good ? NO_VECTOR : VECTOR_GP, 0, 0);
}

static void x2apic_rows(void)
{
    if ((cpuid(1, 0).ecx & BIT(21)) == 0)
        return;
    lapic_init(false);
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | BIT(10));
    guest_equal("x2apic-on", rdmsr(MSR_APIC_BASE), 0xfee00d00);
    guest_equal("x2apic-id", x2apic(LAPIC_ID), 0);
    guest_equal("x2apic-ldr", x2apic(LAPIC_LDR), 1);
    guest_equal("x2apic-keeps-svr", x2apic(LAPIC_SVR), 0x1ff);
    guest_handlers[MIDDLE] = x2apic_handler;
    pc_hits_clear();
    wrmsr(MSR_X2APIC + 0x3f, MIDDLE);
    take_pending_interrupts();
    guest_equal("x2apic-self-ipi", pc_hits[MIDDLE], 1);
    wrmsr(MSR_X2APIC + LAPIC_ICR_LOW / 16, ICR_ASSERT | MIDDLE);
    take_pending_interrupts();
    guest_equal("x2apic-icr-physical", pc_hits[MIDDLE], 2);
    wrmsr(MSR_X2APIC + LAPIC_ICR_LOW / 16, BIT(32) | 0x800 | ICR_ASSERT | MIDDLE);
    take_pending_interrupts();
    guest_equal("x2apic-icr-logical", pc_hits[MIDDLE], 3);
    wrmsr(MSR_X2APIC + LAPIC_ICR_LOW / 16, BIT(33) | ICR_ASSERT | MIDDLE);
    take_pending_interrupts();
    guest_equal("x2apic-icr-other", pc_hits[MIDDLE], 3);
    wrmsr(MSR_X2APIC + LAPIC_TPR / 16, 0x70);
    guest_equal("x2apic-tpr-cr8", read_cr8(), 7);
    wrmsr(MSR_X2APIC + 0x3f, MIDDLE);
    take_pending_interrupts();
    guest_equal("x2apic-tpr-blocks", pc_hits[MIDDLE], 3);
    wrmsr(MSR_X2APIC + LAPIC_TPR / 16, 0);
    take_pending_interrupts();
    guest_equal("x2apic-tpr-lowered", pc_hits[MIDDLE], 4);

    x2apic_write_row("x2apic-write-id", LAPIC_ID, 0, false);
    x2apic_write_row("x2apic-write-version", LAPIC_VERSION, 0, false);
    x2apic_write_row("x2apic-write-ldr", LAPIC_LDR, 0, false);
    x2apic_write_row("x2apic-write-dfr", LAPIC_DFR, 0, false);
    x2apic_write_row("x2apic-write-icr-high", LAPIC_ICR_HIGH, 0, false);
    x2apic_write_row("x2apic-write-irr", LAPIC_IRR, 0, false);
    x2apic_write_row("x2apic-write-ccr", LAPIC_TIMER_CCR, 0, false);
    x2apic_write_row("x2apic-eoi-not-zero", LAPIC_EOI, 1, false);
    x2apic_write_row("x2apic-esr-not-zero", LAPIC_ESR, 1, false);
    x2apic_write_row("x2apic-tpr-reserved", LAPIC_TPR, 0x100, false);
    x2apic_write_row("x2apic-tpr-high", LAPIC_TPR, BIT(32), false);
    x2apic_write_row("x2apic-tpr-good", LAPIC_TPR, 0, true);
    static const uint16_t no_read[] = {LAPIC_EOI, LAPIC_DFR, LAPIC_ICR_HIGH, 0x3f0, 0x40, 0x90};
    for (size_t i = 0; i < ARRAY_SIZE(no_read); i++) {
        char name[32];
        uint32_t low, high;
        TRY("rdmsr", : "=a"(low), "=d"(high) : "c"(MSR_X2APIC + no_read[i] / 16) : "memory");
        format_text(name, sizeof(name), "x2apic-read-%03x", no_read[i]);
        guest_expect(name, VECTOR_GP, 0, 0);
    }
    TRY("wrmsr", : : "c"(MSR_APIC_BASE), "a"(0xfee00900), "d"(0) : "memory");
    guest_expect("x2apic-back-to-xapic", VECTOR_GP, 0, 0);
}

void guest_main(void)
{
    pic_rows();
    ioapic_rows();
    lapic_rows();
    shadow_rows();
    nmi_rows();
    x2apic_rows();
}
