// SPDX-License-Identifier: BSD-2-Clause
#include "tests/guests/lib/smp.h"

#include "lib/string.h"

/* ---- Local APIC by its mode --------------------------------------------------------------------------- */

static bool x2apic(void)
{
    return (rdmsr(MSR_APIC_BASE) & APIC_BASE_X2APIC) != 0;
}

uint32_t apic_read(unsigned reg)
{
    return x2apic() ? (uint32_t)rdmsr(MSR_X2APIC + reg / 16) : lapic_read(reg);
}

void apic_write(unsigned reg, uint32_t value)
{
    if (x2apic())
        wrmsr(MSR_X2APIC + reg / 16, value);
    else
        lapic_write(reg, value);
}

void apic_send(uint32_t destination, uint32_t low)
{
    if (x2apic()) {
        /* Unlike a write to the page, WRMSR waits for no store before it (SDM vol. 3, "MSR Access in x2APIC
         * Mode"). */
        __asm__ volatile("mfence; lfence" : : : "memory");
        wrmsr(MSR_X2APIC + LAPIC_ICR_LOW / 16, (uint64_t)destination << 32 | low);
        return;
    }
    while ((lapic_read(LAPIC_ICR_LOW) & ICR_PENDING) != 0)
        pause();
    lapic_write(LAPIC_ICR_HIGH, destination << 24);
    lapic_write(LAPIC_ICR_LOW, low);
}

bool apic_bit(unsigned reg, unsigned vector)
{
    return (apic_read(reg + (vector / 32) * 16) >> (vector % 32) & 1) != 0;
}

void smp_count_hit(struct guest_frame *frame)
{
    smp_processors[smp_self()].hits[frame->vector]++;
    if (frame->vector != VECTOR_NMI)
        apic_write(LAPIC_EOI, 0);
}

/* ---- Which processors there are ----------------------------------------------------------------------- */

/* ACPI, "Multiple APIC Description Table". */
#define MADT_ENTRIES    44
#define MADT_LOCAL_APIC 0
#define MADT_LOCAL_X2   9
#define MADT_ENABLED    BIT(0)

struct smp_processor smp_processors[SMP_MAX];
unsigned smp_count;

static uint32_t load32(const uint8_t *p)
{
    uint32_t value;

    memcpy(&value, p, sizeof(value));
    return value;
}

static void add(uint32_t apic_id, uint32_t flags, uint32_t self)
{
    if ((flags & MADT_ENABLED) != 0 && apic_id != self && smp_count < SMP_MAX)
        smp_processors[smp_count++].apic_id = apic_id;
}

void smp_init(void)
{
    const uint8_t *madt = acpi_table("APIC");
    uint32_t self = cpuid(1, 0).ebx >> 24;

    smp_processors[0].apic_id = self;
    smp_count = 1;
    if (madt == NULL)
        return;
    for (uint32_t at = MADT_ENTRIES; at + 2 <= load32(madt + 4) && madt[at + 1] >= 2; at += madt[at + 1]) {
        if (madt[at] == MADT_LOCAL_APIC)
            add(madt[at + 3], load32(madt + at + 4), self);
        else if (madt[at] == MADT_LOCAL_X2)
            add(load32(madt + at + 4), load32(madt + at + 8), self);
    }
}

/* ---- Their start -------------------------------------------------------------------------------------- */

#define STACK_SIZE       16384
#define INTERRUPT_STACKS 4

extern const char smp_trampoline[], smp_trampoline_begin[], smp_trampoline_end[];
extern uint64_t smp_stack;
extern unsigned smp_starting;
void smp_entry(unsigned n) __noreturn;

uint64_t smp_stack;
unsigned smp_starting;

/* As struct tss, without the I/O bitmap. */
struct __packed small_tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map;
};

static struct small_tss tsses[SMP_MAX] __aligned(128);
static char stacks[SMP_MAX][STACK_SIZE] __aligned(4096);
static char interrupt_stacks[SMP_MAX][INTERRUPT_STACKS][4096] __aligned(4096);

/* The TSS descriptors of processors 1 … stand at the end of the GDT, two slots each. */
static uint16_t tss_selector(unsigned n)
{
    return (uint16_t)((GDT_SLOTS - 2 * n) * 8);
}

unsigned smp_self(void)
{
    uint16_t selector;

    __asm__ volatile("str %w0" : "=r"(selector));
    return selector == SELECTOR_TSS ? 0 : (GDT_SLOTS - selector / 8U) / 2;
}

static void load_tss(unsigned n)
{
    struct small_tss *tss = &tsses[n];
    uint16_t selector = tss_selector(n);

    for (unsigned i = 0; i < INTERRUPT_STACKS; i++)
        tss->ist[i] = (uint64_t)interrupt_stacks[n][i] + sizeof(interrupt_stacks[n][i]);
    tss->io_map = sizeof(*tss);
    guest_segment(selector, (uint32_t)(uint64_t)tss, sizeof(*tss) - 1, SEGMENT_PRESENT | SEGMENT_TYPE(9));
    guest_gdt[selector / 8 + 1] = 0;
    __asm__ volatile("ltr %w0" : : "r"(selector) : "memory");
}

void smp_entry(unsigned n)
{
    struct smp_processor *self = &smp_processors[n];

    load_tss(n);
    guest_idt_load(sizeof(guest_idt) - 1);
    self->starts++;
    for (;;) {
        while (self->function == NULL)
            pause();
        self->function(self->argument);
        __asm__ volatile("" : : : "memory");
        self->function = NULL;
    }
}

static char *page_address(unsigned page)
{
    return (char *)((uintptr_t)page << PAGE_SHIFT);
}

const struct smp_begin *smp_begun(unsigned page)
{
    return (const void *)(page_address(page) + (smp_trampoline_begin - smp_trampoline));
}

void smp_prepare(unsigned n, unsigned page)
{
    memcpy(page_address(page), smp_trampoline, (size_t)(smp_trampoline_end - smp_trampoline));
    smp_stack = (uint64_t)stacks[n] + STACK_SIZE;
    smp_starting = n;
    __asm__ volatile("" : : : "memory");
}

bool smp_start(unsigned n, unsigned page)
{
    struct smp_processor *p = &smp_processors[n];
    unsigned starts = p->starts;

    smp_prepare(n, page);
    apic_send(p->apic_id, ICR_INIT | ICR_ASSERT);
    smp_delay();
    p->function = NULL;
    apic_send(p->apic_id, ICR_STARTUP | page);
    smp_delay();
    apic_send(p->apic_id, ICR_STARTUP | page);
    return smp_wait_change(&p->starts, starts);
}

/* ---- Work for them ------------------------------------------------------------------------------------ */

#define FOR_EVER 3000000000UL /* ticks of the TSC: 30 s of the emulator's time */
#define DELAY    1000000UL

void smp_delay(void)
{
    uint64_t start = rdtsc();

    while (rdtsc() - start < DELAY)
        pause();
}

bool smp_wait_change(const volatile unsigned *value, unsigned old)
{
    uint64_t start = rdtsc();

    while (*value == old && rdtsc() - start < FOR_EVER)
        pause();
    return *value != old;
}

void smp_call(unsigned n, smp_function *function, void *argument)
{
    if (n == 0) {
        function(argument);
        return;
    }
    smp_processors[n].argument = argument;
    __asm__ volatile("" : : : "memory");
    smp_processors[n].function = function;
}

void smp_join(unsigned n)
{
    uint64_t start = rdtsc();

    while (smp_processors[n].function != NULL) {
        if (rdtsc() - start > FOR_EVER) {
            guest_check(false, "processor-answers", "processor %u does not", n);
            guest_finish();
        }
        pause();
    }
}

void smp_run(unsigned n, smp_function *function, void *argument)
{
    smp_call(n, function, argument);
    smp_join(n);
}

void smp_run_each(uint32_t mask, smp_function *function, void *argument)
{
    for (unsigned n = 0; n < smp_count; n++)
        if ((mask >> n & 1) != 0)
            smp_run(n, function, argument);
}

void smp_run_together(uint32_t mask, smp_function *function, void *argument)
{
    for (unsigned n = 1; n < smp_count; n++)
        if ((mask >> n & 1) != 0)
            smp_call(n, function, argument);
    if ((mask & 1) != 0)
        function(argument);
    for (unsigned n = 1; n < smp_count; n++)
        if ((mask >> n & 1) != 0)
            smp_join(n);
}
