// SPDX-License-Identifier: BSD-2-Clause
/* The wiring of the board. Which device answers at which I/O port is in platform_ports.c. */
#include "core/vdev/platform.h"

#include "lib/string.h"

enum platform_irq {
    IRQ_TIMER = 0, /* the PIT's own choice */
    IRQ_UART = 4,
    IRQ_RTC = 8,
    IRQ_SCI = 9,
};

/* Pins of the IO-APIC that are not the line of the same number (MultiProcessor Specification,
 * section 3.6.2.2). */
#define IOAPIC_PIN_PIC   0
#define IOAPIC_PIN_TIMER 2

#define LINT0            0

/* ---- What the devices ask for -------------------------------------------------------------------------- */

static uint64_t inner_now(void *context)
{
    const struct platform *platform = context;

    return vdev_now(&platform->host);
}

static void inner_set_irq(void *context, unsigned line, bool level)
{
    struct platform *platform = context;

    if (line < PIC_LINES)
        pic_set_line(&platform->pic, line, level);
    ioapic_set_pin(&platform->ioapic, line == IRQ_TIMER ? IOAPIC_PIN_TIMER : line, level);
    if (line == IRQ_RTC && level)
        acpi_pm_signal_rtc(&platform->acpi_pm);
}

static void inner_power(void *context, enum vdev_power what)
{
    const struct platform *platform = context;

    platform->host.ops->power(platform->host.context, what);
}

static void inner_console_write(void *context, char byte)
{
    const struct platform *platform = context;

    platform->host.ops->console_write(platform->host.context, byte);
}

static void inner_wake(void *context, unsigned vcpu)
{
    const struct platform *platform = context;

    platform->host.ops->wake(platform->host.context, vcpu);
}

static void inner_posted(void *context, unsigned vcpu)
{
    const struct platform *platform = context;
    const struct vdev_ops *ops = platform->host.ops;

    (ops->posted != NULL ? ops->posted : ops->wake)(platform->host.context, vcpu);
}

static void inner_ipi(void *context, unsigned vcpu, enum vdev_ipi kind, uint8_t vector)
{
    const struct platform *platform = context;

    platform->host.ops->ipi(platform->host.context, vcpu, kind, vector);
}

static const struct vdev_ops inner_ops = {
    .now = inner_now,
    .set_irq = inner_set_irq,
    .power = inner_power,
    .console_write = inner_console_write,
    .wake = inner_wake,
    .posted = inner_posted,
    .ipi = inner_ipi,
};

static void pic_output(void *context, bool level)
{
    struct platform *platform = context;

    for (unsigned i = 0; i < platform->settings.vcpus; i++)
        lapic_set_lint(&platform->lapics[i], LINT0, level);
    ioapic_set_pin(&platform->ioapic, IOAPIC_PIN_PIC, level);
}

/* From a local APIC, whose owner does not hold the lock. */
static void lapic_ended(void *context, uint8_t vector)
{
    struct platform *platform = context;

    spinlock_acquire(&platform->lock);
    ioapic_eoi(&platform->ioapic, vector);
    spinlock_release(&platform->lock);
}

/* ---- Memory-mapped I/O --------------------------------------------------------------------------------- */

static bool ioapic_decodes(gpa_t gpa)
{
    return align_down(gpa.value, PAGE_SIZE) == IOAPIC_BASE_DEFAULT;
}

/* Who else than the local APICs answers at `gpa`. False: nobody. */
static bool board_read(struct platform *platform, gpa_t gpa, unsigned size, uint64_t *value)
{
    bool decoded = true;

    spinlock_acquire(&platform->lock);
    if (ioapic_decodes(gpa))
        *value = ioapic_mmio_read(&platform->ioapic, gpa.value & (PAGE_SIZE - 1), size);
    else
        decoded = pci_mmio_read(&platform->pci, gpa, size, value);
    spinlock_release(&platform->lock);
    return decoded;
}

static bool board_write(struct platform *platform, gpa_t gpa, unsigned size, uint64_t value)
{
    bool decoded = true;

    spinlock_acquire(&platform->lock);
    if (ioapic_decodes(gpa))
        ioapic_mmio_write(&platform->ioapic, gpa.value & (PAGE_SIZE - 1), size, value);
    else
        decoded = pci_mmio_write(&platform->pci, gpa, size, value);
    spinlock_release(&platform->lock);
    return decoded;
}

/* Registers do not go on in the next page. */
static bool within_page(unsigned offset, unsigned size)
{
    return offset + size <= PAGE_SIZE;
}

bool platform_mmio_read(struct platform *platform, unsigned vcpu, gpa_t gpa, unsigned size, uint64_t *value)
{
    unsigned offset = gpa.value & (PAGE_SIZE - 1);

    if (!within_page(offset, size))
        return false;
    if (!lapic_decodes(&platform->lapics[vcpu], gpa))
        return board_read(platform, gpa, size, value);
    *value = lapic_mmio_read(&platform->lapics[vcpu], offset, size);
    return true;
}

bool platform_mmio_write(struct platform *platform, unsigned vcpu, gpa_t gpa, unsigned size, uint64_t value)
{
    unsigned offset = gpa.value & (PAGE_SIZE - 1);

    if (!within_page(offset, size))
        return false;
    if (!lapic_decodes(&platform->lapics[vcpu], gpa))
        return board_write(platform, gpa, size, value);
    lapic_mmio_write(&platform->lapics[vcpu], offset, size, value);
    return true;
}

/* ---- Time ---------------------------------------------------------------------------------------------- */

uint64_t platform_deadline(struct platform *platform, unsigned vcpu)
{
    uint64_t deadline = lapic_deadline(&platform->lapics[vcpu]);

    if (vcpu != 0)
        return deadline;
    spinlock_acquire(&platform->lock);
    deadline = min_u64(deadline, pit_deadline(&platform->pit));
    deadline = min_u64(deadline, rtc_deadline(&platform->rtc));
    deadline = min_u64(deadline, uart_deadline(&platform->uart));
    deadline = min_u64(deadline, acpi_pm_deadline(&platform->acpi_pm));
    spinlock_release(&platform->lock);
    return deadline;
}

void platform_expire(struct platform *platform, unsigned vcpu, uint64_t now)
{
    lapic_expire(&platform->lapics[vcpu], now);
    if (vcpu != 0)
        return;
    spinlock_acquire(&platform->lock);
    pit_expire(&platform->pit, now);
    rtc_expire(&platform->rtc, now);
    uart_expire(&platform->uart, now);
    acpi_pm_expire(&platform->acpi_pm, now);
    spinlock_release(&platform->lock);
}

/* ---- Interrupts ---------------------------------------------------------------------------------------- */

/* External interrupts do not wait for the local APIC's priorities, so they go first. The output of the 8259s
 * is a level that everybody may look at. */
static bool external_pending(const struct platform *platform, unsigned vcpu)
{
    return pic_pending(&platform->pic) && lapic_accepts_extint(&platform->lapics[vcpu]);
}

int platform_interrupt_pending(const struct platform *platform, unsigned vcpu)
{
    if (external_pending(platform, vcpu))
        return PLATFORM_INTERRUPT_EXTERNAL;
    return lapic_pending(&platform->lapics[vcpu]);
}

/* The INTA cycle, unless another vCPU has made it first: then -1. */
static int external_take(struct platform *platform, unsigned vcpu)
{
    int vector = -1;

    spinlock_acquire(&platform->lock);
    if (external_pending(platform, vcpu)) {
        lapic_extint_taken(&platform->lapics[vcpu]);
        vector = pic_take(&platform->pic);
    }
    spinlock_release(&platform->lock);
    return vector;
}

int platform_interrupt_take(struct platform *platform, unsigned vcpu)
{
    struct lapic *lapic = &platform->lapics[vcpu];

    if (external_pending(platform, vcpu))
        return external_take(platform, vcpu);
    return lapic_pending(lapic) < 0 ? -1 : lapic_take(lapic);
}

/* ---- The operator -------------------------------------------------------------------------------------- */

bool platform_console_input(struct platform *platform, char byte)
{
    bool taken;

    spinlock_acquire(&platform->lock);
    taken = uart_receive(&platform->uart, (uint8_t)byte);
    spinlock_release(&platform->lock);
    return taken;
}

bool platform_press_power_button(struct platform *platform)
{
    bool heard;

    spinlock_acquire(&platform->lock);
    heard = acpi_pm_press_power_button(&platform->acpi_pm);
    spinlock_release(&platform->lock);
    return heard;
}

/* ---- Power-on ------------------------------------------------------------------------------------------ */

/*
 * The devices first: they let go of their interrupt lines, which the interrupt controllers remember. No vCPU
 * runs, but the housekeeper may be asked about the board.
 */
void platform_reset(struct platform *platform, int64_t wall_clock)
{
    spinlock_acquire(&platform->lock);
    pit_reset(&platform->pit);
    rtc_reset(&platform->rtc, wall_clock);
    uart_reset(&platform->uart);
    acpi_pm_reset(&platform->acpi_pm);
    pci_reset(&platform->pci);
    platform->post_code = 0;
    pic_reset(&platform->pic);
    ioapic_reset(&platform->ioapic);
    for (unsigned i = 0; i < platform->settings.vcpus; i++)
        lapic_reset(&platform->lapics[i]);
    lapic_enable_virtual_wire(&platform->lapics[0]);
    spinlock_release(&platform->lock);
}

void platform_init(struct platform *platform, const struct vdev_host *host,
                   const struct platform_settings *settings, void *const *apic_pages)
{
    const struct lapic_settings lapic_settings = {
        .host = &platform->inner,
        .all = platform->lapics,
        .count = settings->vcpus,
        .timer_hz = settings->lapic_timer_hz,
        .physical_address_bits = settings->physical_address_bits,
        .eoi = lapic_ended,
    };

    memset(platform, 0, sizeof(*platform));
    platform->host = *host;
    platform->inner = (struct vdev_host){.ops = &inner_ops, .context = platform, .tsc_hz = host->tsc_hz};
    platform->settings = *settings;

    for (unsigned i = 0; i < settings->vcpus; i++)
        lapic_init(&platform->lapics[i], &lapic_settings, i, apic_pages[i]);
    ioapic_init(&platform->ioapic, platform->lapics, settings->vcpus);
    pic_init(&platform->pic, &platform->inner, pic_output);
    pit_init(&platform->pit, &platform->inner);
    rtc_init(&platform->rtc, &platform->inner, IRQ_RTC, settings->wall_clock, settings->memory_low,
             settings->memory_high);
    uart_init(&platform->uart, &platform->inner, IRQ_UART, settings->console_uart);
    acpi_pm_init(&platform->acpi_pm, &platform->inner, IRQ_SCI);
    pci_init(&platform->pci);
    lapic_enable_virtual_wire(&platform->lapics[0]);
}
