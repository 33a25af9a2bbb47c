// SPDX-License-Identifier: BSD-2-Clause
/*
 * The registers of the local APIC: who may read and write them in which mode, interrupt acceptance and
 * priority, LVT, errors. The timer is in lapic_timer.c, interrupt messages in lapic_delivery.c.
 */
#include "core/vdev/lapic_private.h"
#include "lib/errors.h"
#include "lib/string.h"

/* Version 14H, highest LVT entry 5, EOI-broadcast suppression. */
#define VERSION_VALUE (0x14 | 5 << 16 | 1 << 24)

#define BASE_RESERVED 0x2ff /* bits 7:0 and 9; those from MAXPHYADDR on are reserved as well */
#define DFR_FIXED     0x0fffffffu

#define VECTOR_WORDS  8 /* of IRR, ISR, TMR */

#define LVT_MODE(lvt) (((lvt) >> 8) & 7)

/* Who may do what. Writes to a row without WRITE are ignored, reads without READ give 0; in x2APIC mode it is
 * #GP. */
enum register_access {
    READ = 1,
    WRITE = 2,
    X2_READ = 4,
    X2_WRITE = 8,
    ABSENT = 16, /* not there, and access is no error in xAPIC mode */
    ALL = READ | WRITE | X2_READ | X2_WRITE,
    ALL_READ = READ | X2_READ,
};

/*
 * One row for each register. A write in xAPIC mode drops all bits that are not writable; in x2APIC mode those
 * that are not read-only either are reserved, and #GP. Registers without a row: ESR.illegal register address
 * in xAPIC mode, #GP in x2APIC mode.
 */
static const struct register_rule {
    uint8_t access;
    uint32_t writable;
    uint32_t read_only;
} rules[LAPIC_SELF_IPI / 16 + 1] = {
    [LAPIC_ID / 16] = {ALL_READ, 0, 0},
    [LAPIC_VERSION / 16] = {ALL_READ, 0, 0},
    [LAPIC_TPR / 16] = {ALL, 0xff, 0},
    [LAPIC_APR / 16] = {ABSENT, 0, 0}, /* since the Pentium 4 */
    [LAPIC_PPR / 16] = {ALL_READ, 0, 0},
    [LAPIC_EOI / 16] = {WRITE | X2_WRITE, 0, 0},
    [LAPIC_RRD / 16] = {ABSENT, 0, 0}, /* since the Pentium 4 */
    [LAPIC_LDR / 16] = {READ | WRITE | X2_READ, 0xff000000, 0},
    [LAPIC_DFR / 16] = {READ | WRITE, 0xf0000000, 0},
    /* Bit 9, focus checking, does nothing; systems write it nevertheless. */
    [LAPIC_SVR / 16] = {ALL, 0x13ff, 0},
    [LAPIC_ISR / 16 ... LAPIC_ISR / 16 + 7] = {ALL_READ, 0, 0},
    [LAPIC_TMR / 16 ... LAPIC_TMR / 16 + 7] = {ALL_READ, 0, 0},
    [LAPIC_IRR / 16 ... LAPIC_IRR / 16 + 7] = {ALL_READ, 0, 0},
    [LAPIC_ESR / 16] = {ALL, 0, 0},
    /* In x2APIC mode with the destination in bits 63:32. */
    [LAPIC_ICR / 16] = {ALL, 0xccfff, 0x1000},
    [LAPIC_ICR_HIGH / 16] = {READ | WRITE, 0xff000000, 0},
    [LAPIC_LVT_TIMER / 16] = {ALL, 0x700ff, 0x1000},
    [LAPIC_LVT_THERMAL / 16] = {ALL, 0x107ff, 0x1000},
    [LAPIC_LVT_PERFORMANCE / 16] = {ALL, 0x107ff, 0x1000},
    [LAPIC_LVT_LINT0 / 16] = {ALL, 0x1a7ff, 0x5000},
    [LAPIC_LVT_LINT1 / 16] = {ALL, 0x1a7ff, 0x5000},
    [LAPIC_LVT_ERROR / 16] = {ALL, 0x100ff, 0x1000},
    [LAPIC_INITIAL_COUNT / 16] = {ALL, 0xffffffff, 0},
    [LAPIC_CURRENT_COUNT / 16] = {ALL_READ, 0, 0},
    [LAPIC_DIVIDE / 16] = {ALL, 0xb, 0},
    [LAPIC_SELF_IPI / 16] = {X2_WRITE, 0xff, 0},
};

/* ---- Priority ----------------------------------------------------------------------------------------- */

/* The highest vector in words `lowest` to 7 of the eight registers from `offset`; -1 if none. */
static int find_highest(const struct lapic *lapic, unsigned offset, unsigned lowest)
{
    uint32_t any = 0;

    /* Mostly there is none. */
#pragma GCC unroll 8
    for (unsigned word = 0; word < VECTOR_WORDS; word++)
        any |= lapic_get(lapic, offset + word * 16);
    if (any == 0)
        return -1;
    for (unsigned word = VECTOR_WORDS; word-- > lowest;) {
        uint32_t bits = lapic_get(lapic, offset + word * 16);

        if (bits != 0)
            return (int)(word * 32 + 31 - (unsigned)__builtin_clz(bits));
    }
    return -1;
}

static void set_bits(struct lapic *lapic, unsigned offset, unsigned word, uint32_t set, uint32_t clear)
{
    lapic_put(lapic, offset + word * 16, (lapic_get(lapic, offset + word * 16) & ~clear) | set);
}

static bool is_level(const struct lapic *lapic, uint8_t vector)
{
    return (lapic_get(lapic, LAPIC_TMR + vector / 32u * 16) >> vector % 32 & 1) != 0;
}

/* SDM vol. 3, "Task and Processor Priorities". */
static uint8_t processor_priority(const struct lapic *lapic)
{
    int in_service = find_highest(lapic, LAPIC_ISR, 0);
    uint8_t tpr = (uint8_t)lapic_get(lapic, LAPIC_TPR);

    if (in_service < 0 || tpr >> 4 >= in_service >> 4)
        return tpr;
    return (uint8_t)(in_service & 0xf0);
}

uint8_t lapic_cr8_read(const struct lapic *lapic)
{
    return (uint8_t)lapic_get(lapic, LAPIC_TPR) >> 4;
}

void lapic_cr8_write(struct lapic *lapic, uint8_t value)
{
    lapic_put(lapic, LAPIC_TPR, (uint32_t)value << 4);
}

/* Whether one in service, of the same class or a higher one, holds `vector` back. */
static bool is_held_back(const struct lapic *lapic, int vector)
{
    int in_service = find_highest(lapic, LAPIC_ISR, (unsigned)vector / 32);

    return in_service >= 0 && in_service >> 4 >= vector >> 4;
}

int lapic_pending(const struct lapic *lapic)
{
    int vector = find_highest(lapic, LAPIC_IRR, 0);

    if (vector < 0 || vector >> 4 <= lapic_cr8_read(lapic) || is_held_back(lapic, vector))
        return -1;
    return vector;
}

uint8_t lapic_take(struct lapic *lapic)
{
    uint8_t vector = (uint8_t)find_highest(lapic, LAPIC_IRR, 0);

    set_bits(lapic, LAPIC_IRR, vector / 32, 0, 1u << vector % 32);
    set_bits(lapic, LAPIC_ISR, vector / 32, 1u << vector % 32, 0);
    return vector;
}

uint8_t lapic_tpr_threshold(const struct lapic *lapic)
{
    int vector = find_highest(lapic, LAPIC_IRR, 0);

    /* What an interrupt in service holds back waits for an EOI, not for the TPR. */
    if (vector < 0 || vector >> 4 > lapic_cr8_read(lapic) || is_held_back(lapic, vector))
        return 0;
    return (uint8_t)(vector >> 4);
}

/* ---- Acceptance and end ------------------------------------------------------------------------------- */

/*
 * A vector becomes edge-triggered only if it is neither requested nor in service: the end of a level must
 * reach its source even if somebody sends the same vector meanwhile.
 */
bool lapic_accept_word(struct lapic *lapic, unsigned word, uint32_t bits, bool level)
{
    uint32_t busy = lapic_get(lapic, LAPIC_IRR + word * 16) | lapic_get(lapic, LAPIC_ISR + word * 16);

    if (!lapic_is_software_enabled(lapic))
        return false;
    if (level)
        set_bits(lapic, LAPIC_TMR, word, bits, 0);
    else
        set_bits(lapic, LAPIC_TMR, word, 0, bits & ~busy);
    set_bits(lapic, LAPIC_IRR, word, bits, 0);
    return true;
}

bool lapic_accept(struct lapic *lapic, uint8_t vector, bool level)
{
    const struct vdev_host *host = lapic->settings.host;

    if (!lapic_is_software_enabled(lapic))
        return false;
    if (vector < LAPIC_FIRST_VECTOR) {
        lapic_error(lapic, LAPIC_ERROR_RECEIVE_VECTOR);
        return false;
    }
    lapic_accept_word(lapic, vector / 32, 1u << vector % 32, level);
    host->ops->wake(host->context, lapic->id);
    return true;
}

void lapic_error(struct lapic *lapic, uint32_t bits)
{
    bool first = lapic->errors == 0;

    lapic->errors |= bits;
    if (first)
        lapic_lvt_signal(lapic, LAPIC_LVT_ERROR);
}

void lapic_lvt_signal(struct lapic *lapic, unsigned offset)
{
    const struct vdev_host *host = lapic->settings.host;
    uint32_t lvt = lapic_get(lapic, offset);

    if (lvt & LAPIC_LVT_MASKED)
        return;
    switch (LVT_MODE(lvt)) { /* of timer and error always 0 */
    case LAPIC_FIXED:
        lapic_accept(lapic, (uint8_t)lvt, false);
        break;
    case LAPIC_NMI:
        host->ops->ipi(host->context, lapic->id, VDEV_IPI_NMI, 0);
        break;
    case LAPIC_INIT:
        host->ops->ipi(host->context, lapic->id, VDEV_IPI_INIT, 0);
        break;
    default: /* SMI: there is no SMM; others are reserved */
        break;
    }
}

static bool lint_level(const struct lapic *lapic, unsigned pin)
{
    return __atomic_load_n(&lapic->lint[pin], __ATOMIC_SEQ_CST);
}

/* Without the APIC the pins are the processor's INTR, which has no edges, and NMI. */
static void evaluate_bare_pin(struct lapic *lapic, unsigned pin, bool rising)
{
    const struct vdev_host *host = lapic->settings.host;

    if (rising && pin == 1)
        host->ops->ipi(host->context, lapic->id, VDEV_IPI_NMI, 0);
}

void lapic_evaluate_lint(struct lapic *lapic, unsigned pin, bool rising)
{
    const struct vdev_host *host = lapic->settings.host;
    unsigned offset = LAPIC_LVT_LINT0 + pin * 16;
    uint32_t lvt = lapic_get(lapic, offset);

    if (!lapic_is_enabled(lapic)) {
        evaluate_bare_pin(lapic, pin, rising);
        return;
    }
    if ((!rising && !lint_level(lapic, pin)) || (lvt & LAPIC_LVT_MASKED))
        return;
    if (LVT_MODE(lvt) == LAPIC_EXTINT) {
        host->ops->wake(host->context, lapic->id);
    } else if (LVT_MODE(lvt) == LAPIC_FIXED && (lvt & LAPIC_LVT_LEVEL)) {
        if (!(lvt & LAPIC_LVT_REMOTE_IRR) && lapic_accept(lapic, (uint8_t)lvt, true))
            lapic_put(lapic, offset, lvt | LAPIC_LVT_REMOTE_IRR);
    } else if (rising) {
        lapic_lvt_signal(lapic, offset);
    }
}

/*
 * An edge at a masked pin is lost. Whoever unmasks it looks at the level after that (write_lint), and here
 * the mask is looked at after the level has been set: one of the two sees the other.
 */
void lapic_set_lint(struct lapic *lapic, unsigned pin, bool level)
{
    bool before = __atomic_exchange_n(&lapic->lint[pin], level, __ATOMIC_SEQ_CST);

    if (!level || before)
        return;
    if (lapic_is_enabled(lapic) && (lapic_get(lapic, LAPIC_LVT_LINT0 + pin * 16) & LAPIC_LVT_MASKED))
        return;
    lapic_post_mail(lapic, (uint32_t)LAPIC_MAIL_LINT0 << pin);
}

bool lapic_accepts_extint(const struct lapic *lapic)
{
    uint32_t lvt = lapic_get(lapic, LAPIC_LVT_LINT0);

    if (!lapic_is_enabled(lapic) || lapic->extint)
        return true;
    return !(lvt & LAPIC_LVT_MASKED) && LVT_MODE(lvt) == LAPIC_EXTINT;
}

void lapic_extint_taken(struct lapic *lapic)
{
    lapic->extint = false;
}

static void end_level(struct lapic *lapic, uint8_t vector)
{
    for (unsigned pin = 0; pin < ARRAY_SIZE(lapic->lint); pin++) {
        unsigned offset = LAPIC_LVT_LINT0 + pin * 16;
        uint32_t lvt = lapic_get(lapic, offset);

        if ((lvt & LAPIC_LVT_REMOTE_IRR) && (uint8_t)lvt == vector) {
            lapic_put(lapic, offset, lvt & (uint32_t)~LAPIC_LVT_REMOTE_IRR);
            lapic_evaluate_lint(lapic, pin, false);
        }
    }
    if (!(lapic_get(lapic, LAPIC_SVR) & LAPIC_SVR_SUPPRESS_EOI))
        lapic->settings.eoi(lapic->settings.host->context, vector);
}

void lapic_eoi(struct lapic *lapic)
{
    int vector = find_highest(lapic, LAPIC_ISR, 0);

    if (vector < 0)
        return;
    set_bits(lapic, LAPIC_ISR, (unsigned)vector / 32, 0, 1u << vector % 32);
    lapic_eoi_virtualized(lapic, (uint8_t)vector);
}

void lapic_eoi_virtualized(struct lapic *lapic, uint8_t vector)
{
    if (unlikely(is_level(lapic, vector)))
        end_level(lapic, vector);
}

/* ---- Registers ---------------------------------------------------------------------------------------- */

static uint32_t read_register(const struct lapic *lapic, unsigned offset)
{
    switch (offset) {
    case LAPIC_PPR:
        return processor_priority(lapic);
    case LAPIC_CURRENT_COUNT:
        return lapic_timer_current_count(lapic);
    default:
        return lapic_get(lapic, offset);
    }
}

static void write_svr(struct lapic *lapic, uint32_t value)
{
    lapic_put(lapic, LAPIC_SVR, value);
    if (value & LAPIC_SVR_ENABLE)
        return;
    for (unsigned offset = LAPIC_LVT_TIMER; offset <= LAPIC_LVT_ERROR; offset += 16)
        lapic_put(lapic, offset, lapic_get(lapic, offset) | LAPIC_LVT_MASKED);
}

static void write_lint(struct lapic *lapic, unsigned offset, uint32_t value)
{
    if (LVT_MODE(value) == LAPIC_FIXED && (value & LAPIC_LVT_LEVEL))
        value |= lapic_get(lapic, offset) & LAPIC_LVT_REMOTE_IRR;
    lapic_put(lapic, offset, value);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* see lapic_set_lint */
    lapic_evaluate_lint(lapic, (offset - LAPIC_LVT_LINT0) / 16, false);
}

static void write_lvt(struct lapic *lapic, unsigned offset, uint32_t value)
{
    /* While the APIC is software-disabled the mask bits cannot be cleared. */
    if (!lapic_is_software_enabled(lapic))
        value |= LAPIC_LVT_MASKED;
    switch (offset) {
    case LAPIC_LVT_TIMER:
        lapic_timer_write_lvt(lapic, value);
        break;
    case LAPIC_LVT_LINT0:
    case LAPIC_LVT_LINT1:
        write_lint(lapic, offset, value);
        break;
    default:
        lapic_put(lapic, offset, value);
        break;
    }
}

/* `value` has writable bits only. */
static void write_register(struct lapic *lapic, unsigned offset, uint32_t value)
{
    switch (offset) {
    case LAPIC_EOI:
        lapic_eoi(lapic);
        break;
    case LAPIC_DFR:
        lapic_put(lapic, offset, value | DFR_FIXED);
        break;
    case LAPIC_SVR:
        write_svr(lapic, value);
        break;
    case LAPIC_ESR:
        lapic_put(lapic, offset, lapic->errors);
        lapic->errors = 0;
        break;
    case LAPIC_ICR:
        lapic_put(lapic, offset, value);
        lapic_send(lapic);
        break;
    case LAPIC_LVT_TIMER:
    case LAPIC_LVT_THERMAL:
    case LAPIC_LVT_PERFORMANCE:
    case LAPIC_LVT_LINT0:
    case LAPIC_LVT_LINT1:
    case LAPIC_LVT_ERROR:
        write_lvt(lapic, offset, value);
        break;
    case LAPIC_INITIAL_COUNT:
        lapic_timer_write_initial_count(lapic, value);
        break;
    case LAPIC_DIVIDE:
        lapic_timer_write_divide(lapic, value);
        break;
    case LAPIC_SELF_IPI:
        lapic_send_self(lapic, (uint8_t)value);
        break;
    default:
        lapic_put(lapic, offset, value);
        break;
    }
}

static const struct register_rule *find_rule(unsigned offset)
{
    static const struct register_rule none;

    return offset / 16 < ARRAY_SIZE(rules) ? &rules[offset / 16] : &none;
}

bool lapic_decodes(const struct lapic *lapic, gpa_t gpa)
{
    return lapic_is_enabled(lapic) && !lapic_is_x2apic(lapic) &&
           align_down(gpa.value, PAGE_SIZE) == align_down(lapic->base, PAGE_SIZE);
}

/* In xAPIC mode, access to a row that x2APIC mode alone has is as illegal as to none. */
static bool is_illegal(const struct register_rule *rule)
{
    return (rule->access & (READ | WRITE | ABSENT)) == 0;
}

uint64_t lapic_mmio_read(struct lapic *lapic, unsigned offset, unsigned size)
{
    const struct register_rule *rule = find_rule(offset);
    unsigned byte = offset % 16;
    uint32_t value;

    if (is_illegal(rule)) {
        lapic_error(lapic, LAPIC_ERROR_ADDRESS);
        return 0;
    }
    if (!(rule->access & READ) || byte >= 4)
        return 0;
    value = read_register(lapic, offset - byte) >> byte * 8;
    return size < 4 ? value & ((1u << size * 8) - 1) : value;
}

void lapic_mmio_write(struct lapic *lapic, unsigned offset, unsigned size, uint64_t value)
{
    const struct register_rule *rule = find_rule(offset);

    if (is_illegal(rule))
        lapic_error(lapic, LAPIC_ERROR_ADDRESS);
    else if ((rule->access & WRITE) && offset % 16 == 0 && size == 4)
        write_register(lapic, offset, (uint32_t)value & rule->writable);
}

/* What the guest wrote gives way to what was there before, then it is an ordinary write. */
void lapic_write_virtualized(struct lapic *lapic, unsigned offset)
{
    const struct register_rule *rule = find_rule(offset &= 0xff0);
    uint32_t value = lapic_get(lapic, offset);

    if (rule->access == 0)
        return;
    lapic_put(lapic, offset, lapic->copy[offset / 16]);
    if (rule->access & (lapic_is_x2apic(lapic) ? X2_WRITE : WRITE))
        write_register(lapic, offset, value & rule->writable);
}

/* ---- Modes and MSRs ----------------------------------------------------------------------------------- */

/* The ID's place follows from the mode, and in x2APIC mode LDR from the ID. */
static void set_identity(struct lapic *lapic)
{
    if (lapic_is_x2apic(lapic)) {
        lapic_put(lapic, LAPIC_ID, lapic->id);
        lapic_put(lapic, LAPIC_LDR, lapic->id >> 4 << 16 | 1u << (lapic->id & 15));
    } else {
        lapic_put(lapic, LAPIC_ID, lapic->id << 24);
    }
}

/* Register state after power-up or reset; the mode stays. The pins are wires and keep their levels. */
void lapic_reset_by_init(struct lapic *lapic)
{
    /* Word by word: senders may be looking. */
    for (unsigned offset = 0; offset < PAGE_SIZE; offset += 4)
        __atomic_store_n(&lapic->page[offset / 4], 0, __ATOMIC_RELAXED);
    memset(lapic->copy, 0, sizeof(lapic->copy));
    lapic->deadline = VDEV_NEVER;
    lapic->errors = 0;
    lapic->extint = false;

    set_identity(lapic);
    lapic_put(lapic, LAPIC_VERSION, VERSION_VALUE);
    lapic_put(lapic, LAPIC_DFR, UINT32_MAX);
    write_svr(lapic, 0xff);
}

void lapic_reset(struct lapic *lapic)
{
    lapic->mailbox = (struct lapic_mailbox){0};
    lapic->base = LAPIC_BASE_DEFAULT | LAPIC_BASE_ENABLE | (lapic->id == 0 ? LAPIC_BASE_BSP : 0);
    lapic_reset_by_init(lapic);
}

void lapic_init(struct lapic *lapic, const struct lapic_settings *settings, unsigned id, void *page)
{
    *lapic = (struct lapic){.page = page, .settings = *settings, .id = id};
    lapic_reset(lapic);
}

void lapic_enable_virtual_wire(struct lapic *lapic)
{
    write_register(lapic, LAPIC_SVR, LAPIC_SVR_ENABLE | 0xff);
    write_register(lapic, LAPIC_LVT_LINT0, LAPIC_EXTINT << 8);
    write_register(lapic, LAPIC_LVT_LINT1, LAPIC_NMI << 8);
}

/* SDM vol. 3, "x2APIC State Transitions": bit n of row m: a write may lead from m to n; others are #GP. */
static const uint8_t transitions[] = {
    [LAPIC_MODE_DISABLED] = 1 << LAPIC_MODE_DISABLED | 1 << LAPIC_MODE_XAPIC,
    [LAPIC_MODE_INVALID] = 0,
    [LAPIC_MODE_XAPIC] = 1 << LAPIC_MODE_DISABLED | 1 << LAPIC_MODE_XAPIC | 1 << LAPIC_MODE_X2APIC,
    [LAPIC_MODE_X2APIC] = 1 << LAPIC_MODE_DISABLED | 1 << LAPIC_MODE_X2APIC,
};

/* The BSP bit is read-only here: which processor it is, is the configuration's business. */
static int write_base(struct lapic *lapic, uint64_t value)
{
    uint64_t reserved = BASE_RESERVED | ~(BIT(lapic->settings.physical_address_bits) - 1);
    enum lapic_mode from = lapic_mode(lapic), to = (enum lapic_mode)(value >> 10 & 3);

    if ((value & reserved) || !(transitions[from] & 1u << to))
        return -EINVAL;
    __atomic_store_n(&lapic->base, (value & ~LAPIC_BASE_BSP) | (lapic->base & LAPIC_BASE_BSP),
                     __ATOMIC_RELAXED);
    if (from == to)
        return 0;
    if (to == LAPIC_MODE_X2APIC)
        set_identity(lapic); /* all other registers live on */
    else
        lapic_reset_by_init(lapic);
    return 0;
}

static int read_x2apic(const struct lapic *lapic, unsigned offset, uint64_t *value)
{
    if (!lapic_is_x2apic(lapic) || !(find_rule(offset)->access & X2_READ))
        return -EINVAL;
    *value = read_register(lapic, offset);
    if (offset == LAPIC_ICR)
        *value |= (uint64_t)lapic_get(lapic, LAPIC_ICR + 4) << 32;
    return 0;
}

static int write_x2apic(struct lapic *lapic, unsigned offset, uint64_t value)
{
    const struct register_rule *rule = find_rule(offset);
    uint32_t low = (uint32_t)value;

    if (!lapic_is_x2apic(lapic) || !(rule->access & X2_WRITE) || (low & ~(rule->writable | rule->read_only)))
        return -EINVAL;
    if (offset == LAPIC_ICR)
        lapic_put(lapic, LAPIC_ICR + 4, (uint32_t)(value >> 32));
    else if (value >> 32)
        return -EINVAL;
    write_register(lapic, offset, low & rule->writable);
    return 0;
}

int lapic_msr_read(struct lapic *lapic, uint32_t msr, uint64_t *value)
{
    switch (msr) {
    case LAPIC_MSR_BASE:
        *value = lapic->base;
        return 0;
    case LAPIC_MSR_TSC_DEADLINE:
        *value = lapic_timer_read_deadline(lapic);
        return 0;
    case LAPIC_MSR_X2APIC ... LAPIC_MSR_X2APIC_LAST:
        return read_x2apic(lapic, (msr - LAPIC_MSR_X2APIC) * 16, value);
    default:
        return -EINVAL;
    }
}

int lapic_msr_write(struct lapic *lapic, uint32_t msr, uint64_t value)
{
    switch (msr) {
    case LAPIC_MSR_BASE:
        return write_base(lapic, value);
    case LAPIC_MSR_TSC_DEADLINE:
        lapic_timer_write_deadline(lapic, value);
        return 0;
    case LAPIC_MSR_X2APIC ... LAPIC_MSR_X2APIC_LAST:
        return write_x2apic(lapic, (msr - LAPIC_MSR_X2APIC) * 16, value);
    default:
        return -EINVAL;
    }
}
