// SPDX-License-Identifier: BSD-2-Clause
#include "core/task_switch.h"

#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "lib/string.h"
#include "mm/stage.h"

/* Segment access rights in a VMCS, which are bytes 5 and 6 of a descriptor. */
#define RIGHTS_TYPE(r)          ((r)&15)
#define RIGHTS_ACCESSED         BIT(0)
#define RIGHTS_WRITABLE         BIT(1) /* of code: readable */
#define RIGHTS_DOWN             BIT(2) /* of code: conforming */
#define RIGHTS_CODE             BIT(3)
#define RIGHTS_CODE_DATA        BIT(4)
#define RIGHTS_DPL(r)           ((unsigned)(r) >> 5 & 3)
#define RIGHTS_PRESENT          BIT(7)
#define RIGHTS_BIG              BIT(14)
#define RIGHTS_GRANULARITY      BIT(15)
#define RIGHTS_UNUSABLE         BIT(16)
#define RIGHTS_FROM(descriptor) ((uint32_t)((descriptor) >> 40) & 0xf0ff)

/* Types of system descriptors: bit 1 of a TSS's is its busy bit, bit 3 says that it is a 32-bit one. */
#define TYPE_LDT                2
#define TYPE_TSS                1
#define TYPE_TSS_BUSY           BIT(1)
#define TYPE_TSS_32BIT          BIT(3)

/* Virtual-8086 mode: present, CPL 3, data, writable, accessed (SDM vol. 3, "Checks on guest segment
 * registers"). */
#define RIGHTS_VIRTUAL_8086     0xf3

#define SELECTOR_TABLE_LDT      BIT(2)
#define SELECTOR_RPL(s)         ((s)&3u)
#define SELECTOR_ERROR(s)       ((s)&0xfffcu)
#define SELECTOR_IS_NULL(s)     (SELECTOR_ERROR(s) == 0)

#define EFLAGS_DEFINED                                                                                       \
    (X86_RFLAGS_CF | X86_RFLAGS_PF | X86_RFLAGS_AF | X86_RFLAGS_ZF | X86_RFLAGS_SF | X86_RFLAGS_TF |         \
     X86_RFLAGS_IF | X86_RFLAGS_DF | X86_RFLAGS_OF | X86_RFLAGS_IOPL | X86_RFLAGS_NT | X86_RFLAGS_RF |       \
     X86_RFLAGS_VM | X86_RFLAGS_AC | X86_RFLAGS_VIF | X86_RFLAGS_VIP | X86_RFLAGS_ID)

/* How often an update of a descriptor that other processors change as well is tried. */
#define ATTEMPTS_MAX 16

/*
 * The two formats (SDM vol. 3, figures "32-Bit Task-State Segment (TSS)" and "16-Bit TSS Format"). From
 * `first` on there is one field of `word` bytes after the other: EIP, EFLAGS, the general registers, the
 * segment registers, LDTR. All but the last are saved.
 */
struct tss_format {
    uint8_t size; /* bytes that a switch looks at */
    uint8_t first;
    uint8_t word;
    uint8_t segments;
};

static const struct tss_format tss_32bit = {.size = 104, .first = 32, .word = 4, .segments = 6};
static const struct tss_format tss_16bit = {.size = 44, .first = 14, .word = 2, .segments = 4};

enum tss_field {
    FIELD_EIP,
    FIELD_EFLAGS,
    FIELD_GENERAL,
    FIELD_SEGMENT = FIELD_GENERAL + 8,
};

#define GENERAL_ESP  4

#define TSS_SIZE_MAX 104
#define TSS_LINK     0   /* both: selector of the previous task */
#define TSS_CR3      28  /* 32-bit only */
#define TSS_TRAP     100 /* 32-bit only: bit 0 */

/* A descriptor, and where it was read. */
struct descriptor {
    uint32_t address;
    uint32_t base, limit;
    uint32_t rights;
};

/* One switch under way. A function that answers TASK_ACCESS_FAULT has said what fault. */
struct work {
    const struct task_ops *ops;
    void *context;
    const struct task_switch *request;
    struct task_registers *registers;
    struct task_fault *fault;
};

/* ---- Memory and faults ------------------------------------------------------------------------------ */

static enum task_access fault_with(struct work *w, uint8_t vector, uint32_t error_code)
{
    *w->fault = (struct task_fault){
        .vector = vector,
        .error_code = error_code | (w->request->external ? X86_SELECTOR_ERROR_EXTERNAL : 0),
    };
    return TASK_ACCESS_FAULT;
}

static enum task_access fault_selector(struct work *w, uint8_t vector, uint16_t selector)
{
    return fault_with(w, vector, SELECTOR_ERROR(selector));
}

/* Tables are the processor's own: supervisor accesses at any CPL (SDM vol. 3, "Access Rights"). */
static enum task_access check_table(struct work *w, uint32_t address, size_t size, unsigned access)
{
    return w->ops->check(w->context, address, size, access | STAGE_ACCESS_IMPLICIT, w->fault);
}

static enum task_access read_table(struct work *w, uint32_t address, void *to, size_t size)
{
    return w->ops->read(w->context, address, to, size, STAGE_ACCESS_IMPLICIT, w->fault);
}

static enum task_access write_table(struct work *w, uint32_t address, const void *from, size_t size)
{
    return w->ops->write(w->context, address, from, size, STAGE_ACCESS_IMPLICIT, w->fault);
}

/* ---- Descriptors ------------------------------------------------------------------------------------ */

/* Where a descriptor's type is. */
static uint32_t type_address(uint32_t descriptor)
{
    return descriptor + 5;
}

/*
 * Clears and sets bits of a descriptor's type, locked, as the processor does. A bit that is to be set and is
 * `mine` must not be: TASK_ACCESS_AGAIN, another processor was faster.
 */
static enum task_access update_type(struct work *w, uint32_t descriptor, uint8_t clear, uint8_t set,
                                    uint8_t mine)
{
    const uint32_t address = type_address(descriptor);
    const unsigned shift = 8 * (address & 3);
    const uint32_t aligned = address & ~3u;
    uint32_t expected;
    enum task_access answer = read_table(w, aligned, &expected, sizeof(expected));

    for (unsigned i = 0; answer == TASK_ACCESS_DONE && i < ATTEMPTS_MAX; i++) {
        const uint32_t desired = (expected & ~((uint32_t)clear << shift)) | (uint32_t)set << shift;
        bool exchanged = false;
        if ((expected >> shift & mine) != 0)
            return TASK_ACCESS_AGAIN;
        if (desired == expected)
            return TASK_ACCESS_DONE;
        answer = w->ops->exchange(w->context, aligned, &expected, desired, &exchanged, w->fault);
        if (exchanged)
            return answer;
    }
    return answer == TASK_ACCESS_DONE ? TASK_ACCESS_AGAIN : answer;
}

/*
 * Reads the descriptor of `selector`; if there is none, the fault is `vector`. Local ones are the new task's:
 * its LDTR has limit 0 until it is loaded, and if it is null.
 */
static enum task_access read_descriptor(struct work *w, uint16_t selector, uint8_t vector,
                                        struct descriptor *descriptor)
{
    const struct task_registers *r = w->registers;
    const bool local = (selector & SELECTOR_TABLE_LDT) != 0;
    const uint32_t limit = local ? r->ldtr.limit : r->gdt_limit;
    uint64_t raw;

    if ((selector | 7u) > limit)
        return fault_selector(w, vector, selector);

    descriptor->address = (local ? r->ldtr.base : r->gdt_base) + (selector & ~7u);
    enum task_access answer = read_table(w, descriptor->address, &raw, sizeof(raw));
    if (answer != TASK_ACCESS_DONE)
        return answer;
    descriptor->rights = RIGHTS_FROM(raw);
    descriptor->base = (uint32_t)(raw >> 16 & 0xffffff) | (uint32_t)(raw >> 56) << 24;
    descriptor->limit = (uint32_t)(raw & 0xffff) | (uint32_t)(raw >> 48 & 0xf) << 16;
    if (descriptor->rights & RIGHTS_GRANULARITY)
        descriptor->limit = descriptor->limit << 12 | 0xfff;
    return TASK_ACCESS_DONE;
}

static struct task_segment segment_of(uint16_t selector, const struct descriptor *descriptor)
{
    return (struct task_segment){
        .selector = selector,
        .base = descriptor->base,
        .limit = descriptor->limit,
        .rights = descriptor->rights,
    };
}

/* ---- Before the commit point ------------------------------------------------------------------------ */

static const struct tss_format *format_of(uint32_t rights)
{
    return rights & TYPE_TSS_32BIT ? &tss_32bit : &tss_16bit;
}

static uint32_t field_offset(const struct tss_format *format, unsigned field)
{
    return format->first + field * format->word;
}

/* Bytes from the first field to the end of those that are saved. */
static uint32_t saved_size(const struct tss_format *format)
{
    return (FIELD_SEGMENT + format->segments) * format->word;
}

/* The old task stays busy, and the new one will return to it. */
static bool nests(const struct work *w)
{
    return w->request->source == TASK_SOURCE_CALL || w->request->source == TASK_SOURCE_GATE;
}

static bool is_return(const struct work *w)
{
    return w->request->source == TASK_SOURCE_IRET;
}

/* The new TSS: a return wants a busy one, all others one that is available. */
static enum task_access find_task(struct work *w, struct descriptor *tss)
{
    const uint16_t selector = w->request->selector;
    const uint8_t vector = is_return(w) ? X86_VECTOR_TS : X86_VECTOR_GP;
    const uint32_t wanted = TYPE_TSS | (is_return(w) ? TYPE_TSS_BUSY : 0);

    if (SELECTOR_IS_NULL(selector) || (selector & SELECTOR_TABLE_LDT) != 0)
        return fault_selector(w, vector, selector);
    enum task_access answer = read_descriptor(w, selector, vector, tss);
    if (answer != TASK_ACCESS_DONE)
        return answer;
    if ((tss->rights & RIGHTS_CODE_DATA) != 0 || (RIGHTS_TYPE(tss->rights) & ~TYPE_TSS_32BIT) != wanted)
        return fault_selector(w, vector, selector);
    if ((tss->rights & RIGHTS_PRESENT) == 0)
        return fault_selector(w, X86_VECTOR_NP, selector);
    if (tss->limit < format_of(tss->rights)->size - 1u)
        return fault_selector(w, X86_VECTOR_TS, selector);
    return TASK_ACCESS_DONE;
}

/* Where the old task's descriptor is. */
static uint32_t old_descriptor(const struct work *w)
{
    return w->registers->gdt_base + (w->registers->tr.selector & ~7u);
}

/* All that will be written or read has to be there before anything is. */
static enum task_access check_tables(struct work *w, const struct descriptor *tss)
{
    const struct task_segment *old = &w->registers->tr;
    const struct tss_format *format = format_of(old->rights);
    enum task_access answer;

    if (old->limit < format->first + saved_size(format) - 1)
        return fault_selector(w, X86_VECTOR_TS, old->selector);
    answer = check_table(w, old->base + format->first, saved_size(format), PAGING_READ | PAGING_WRITE);
    if (answer == TASK_ACCESS_DONE)
        answer = check_table(w, tss->base, format_of(tss->rights)->size, PAGING_READ);
    if (answer == TASK_ACCESS_DONE && nests(w))
        answer = check_table(w, tss->base + TSS_LINK, sizeof(uint16_t), PAGING_WRITE);
    if (answer == TASK_ACCESS_DONE && !nests(w))
        answer = check_table(w, type_address(old_descriptor(w)), 1, PAGING_READ | PAGING_WRITE);
    return answer;
}

static void put_field(uint8_t *fields, const struct tss_format *format, unsigned field, uint32_t value)
{
    memcpy(fields + field * format->word, &value, format->word);
}

/* Saves the old task. The upper halves of selectors' fields are reserved: they stay as they are. */
static enum task_access save_task(struct work *w)
{
    const struct task_registers *r = w->registers;
    const struct tss_format *format = format_of(r->tr.rights);
    const uint32_t address = r->tr.base + format->first;
    uint8_t fields[TSS_SIZE_MAX];
    enum task_access answer = read_table(w, address, fields, saved_size(format));

    if (answer != TASK_ACCESS_DONE)
        return answer;
    put_field(fields, format, FIELD_EIP, r->eip);
    put_field(fields, format, FIELD_EFLAGS, is_return(w) ? r->eflags & ~(uint32_t)X86_RFLAGS_NT : r->eflags);
    for (unsigned i = 0; i < ARRAY_SIZE(r->general); i++)
        put_field(fields, format, FIELD_GENERAL + i, r->general[i]);
    for (unsigned i = 0; i < format->segments; i++)
        memcpy(fields + (FIELD_SEGMENT + i) * format->word, &r->segment[i].selector, sizeof(uint16_t));
    return write_table(w, address, fields, saved_size(format));
}

/* Steps 1 to 5 of "Task Switching", and 10: who marks the task busy has it. Until then nothing has changed.
 */
static enum task_access claim_task(struct work *w, struct descriptor *tss)
{
    enum task_access answer = find_task(w, tss);

    if (answer == TASK_ACCESS_DONE)
        answer = check_tables(w, tss);
    if (answer == TASK_ACCESS_DONE && !is_return(w))
        answer = update_type(w, tss->address, 0, TYPE_TSS_BUSY, TYPE_TSS_BUSY);
    return answer;
}

/*
 * Steps 6 to 9: `image` is the new TSS, read when the old one has been saved, for they may be one. All has
 * been checked: only another processor of the guest's that changes page tables meanwhile can bring a fault.
 */
static enum task_access leave_task(struct work *w, const struct descriptor *tss, uint8_t image[TSS_SIZE_MAX])
{
    enum task_access answer = TASK_ACCESS_DONE;

    if (!nests(w))
        answer = update_type(w, old_descriptor(w), TYPE_TSS_BUSY, 0, 0);
    if (answer == TASK_ACCESS_DONE)
        answer = save_task(w);
    if (answer == TASK_ACCESS_DONE && nests(w))
        answer = write_table(w, tss->base + TSS_LINK, &w->registers->tr.selector, sizeof(uint16_t));
    if (answer == TASK_ACCESS_DONE)
        answer = read_table(w, tss->base, image, format_of(tss->rights)->size);
    return answer;
}

/* ---- The commit ------------------------------------------------------------------------------------- */

static uint32_t get_field(const uint8_t *image, const struct tss_format *format, unsigned field)
{
    uint32_t value = 0;

    memcpy(&value, image + field_offset(format, field), format->word);
    return value;
}

static struct task_segment unusable(uint32_t selector)
{
    return (struct task_segment){.selector = (uint16_t)selector, .rights = RIGHTS_UNUSABLE};
}

static unsigned new_cpl(const struct task_registers *r)
{
    return r->eflags & X86_RFLAGS_VM ? 3 : SELECTOR_RPL(r->segment[DECODE_CS].selector);
}

static void load_virtual_8086(struct task_registers *r)
{
    for (unsigned i = 0; i < TASK_SEGMENTS; i++) {
        struct task_segment *segment = &r->segment[i];
        segment->base = (uint32_t)segment->selector << 4;
        segment->limit = 0xffff;
        segment->rights = RIGHTS_VIRTUAL_8086;
    }
}

/*
 * CS and SS as they are for a new task that takes its fault before they are checked: CPL is CS's RPL. VM
 * entry wants a code segment even so (SDM vol. 3, "Checks on guest segment registers").
 */
static void prepare_privilege(struct task_registers *r)
{
    struct task_segment *cs = &r->segment[DECODE_CS];
    const uint32_t dpl = new_cpl(r) << 5;

    cs->limit = UINT16_MAX;
    cs->rights =
        (uint32_t)(RIGHTS_ACCESSED | RIGHTS_WRITABLE | RIGHTS_CODE | RIGHTS_CODE_DATA | RIGHTS_PRESENT) | dpl;
    r->segment[DECODE_SS].rights |= dpl;
}

/* Loads what needs no check. Segment registers have their selectors, and are unusable until they are checked.
 */
static void commit(struct work *w, const struct descriptor *tss, const uint8_t *image)
{
    const struct tss_format *format = format_of(tss->rights);
    struct task_registers *r = w->registers;

    r->tr = segment_of(w->request->selector, tss);
    r->tr.rights |= TYPE_TSS_BUSY;
    r->eip = get_field(image, format, FIELD_EIP);
    r->eflags = (uint32_t)((get_field(image, format, FIELD_EFLAGS) & EFLAGS_DEFINED) | X86_RFLAGS_RESERVED |
                           (nests(w) ? X86_RFLAGS_NT : 0));
    /* The SDM does not say what a 16-bit TSS leaves in the upper halves: ones, as processors do. */
    for (unsigned i = 0; i < ARRAY_SIZE(r->general); i++)
        r->general[i] = get_field(image, format, FIELD_GENERAL + i) | (format->word == 2 ? 0xffff0000 : 0);
    for (unsigned i = 0; i < TASK_SEGMENTS; i++)
        r->segment[i] = unusable(i < format->segments ? get_field(image, format, FIELD_SEGMENT + i) : 0);
    r->ldtr = unusable(get_field(image, format, FIELD_SEGMENT + format->segments));
    if (r->eflags & X86_RFLAGS_VM)
        load_virtual_8086(r);
    else
        prepare_privilege(r);
}

/* ---- After the commit point ------------------------------------------------------------------------- */

static enum task_access load_ldtr(struct work *w)
{
    struct task_segment *ldtr = &w->registers->ldtr;
    const uint16_t selector = ldtr->selector;
    struct descriptor d;

    if (SELECTOR_IS_NULL(selector))
        return TASK_ACCESS_DONE;
    enum task_access answer = read_descriptor(w, selector, X86_VECTOR_TS, &d);
    if (answer != TASK_ACCESS_DONE)
        return answer;
    if ((d.rights & RIGHTS_CODE_DATA) != 0 || RIGHTS_TYPE(d.rights) != TYPE_LDT ||
        (d.rights & RIGHTS_PRESENT) == 0)
        return fault_selector(w, X86_VECTOR_TS, selector);
    *ldtr = segment_of(selector, &d);
    return TASK_ACCESS_DONE;
}

static bool is_code(const struct descriptor *d)
{
    return (d->rights & (RIGHTS_CODE_DATA | RIGHTS_CODE)) == (RIGHTS_CODE_DATA | RIGHTS_CODE);
}

static bool is_conforming(const struct descriptor *d)
{
    return is_code(d) && (d->rights & RIGHTS_DOWN) != 0;
}

/* Whether the type and the privileges of a descriptor suit the register. */
static bool suits_cs(const struct descriptor *d, uint16_t selector, unsigned cpl)
{
    (void)selector; /* its RPL is CPL */
    return is_code(d) && (is_conforming(d) ? RIGHTS_DPL(d->rights) <= cpl : RIGHTS_DPL(d->rights) == cpl);
}

static bool suits_ss(const struct descriptor *d, uint16_t selector, unsigned cpl)
{
    return (d->rights & RIGHTS_CODE_DATA) != 0 && !is_code(d) && (d->rights & RIGHTS_WRITABLE) != 0 &&
           RIGHTS_DPL(d->rights) == cpl && SELECTOR_RPL(selector) == cpl;
}

static bool suits_data(const struct descriptor *d, uint16_t selector, unsigned cpl)
{
    if ((d->rights & RIGHTS_CODE_DATA) == 0 || (is_code(d) && (d->rights & RIGHTS_WRITABLE) == 0))
        return false;
    return is_conforming(d) ||
           (RIGHTS_DPL(d->rights) >= cpl && RIGHTS_DPL(d->rights) >= SELECTOR_RPL(selector));
}

/* The checks of each register, in the order in which they are loaded. */
static const struct segment_check {
    enum decode_segment segment;
    bool (*suits)(const struct descriptor *descriptor, uint16_t selector, unsigned cpl);
    uint8_t not_present; /* vector */
    bool may_be_null;
} segment_checks[] = {
    {DECODE_CS, suits_cs, X86_VECTOR_NP, false},  {DECODE_SS, suits_ss, X86_VECTOR_SS, false},
    {DECODE_DS, suits_data, X86_VECTOR_NP, true}, {DECODE_ES, suits_data, X86_VECTOR_NP, true},
    {DECODE_FS, suits_data, X86_VECTOR_NP, true}, {DECODE_GS, suits_data, X86_VECTOR_NP, true},
};

static enum task_access load_segment(struct work *w, const struct segment_check *check)
{
    struct task_segment *segment = &w->registers->segment[check->segment];
    const uint16_t selector = segment->selector;
    struct descriptor d;

    if (SELECTOR_IS_NULL(selector))
        return check->may_be_null ? TASK_ACCESS_DONE : fault_selector(w, X86_VECTOR_TS, selector);
    enum task_access answer = read_descriptor(w, selector, X86_VECTOR_TS, &d);
    if (answer != TASK_ACCESS_DONE)
        return answer;
    if (!check->suits(&d, selector, new_cpl(w->registers)))
        return fault_selector(w, X86_VECTOR_TS, selector);
    if ((d.rights & RIGHTS_PRESENT) == 0)
        return fault_selector(w, check->not_present, selector);
    answer = update_type(w, d.address, 0, RIGHTS_ACCESSED, 0);
    if (answer != TASK_ACCESS_DONE)
        return answer;
    d.rights |= RIGHTS_ACCESSED;
    *segment = segment_of(selector, &d);
    return TASK_ACCESS_DONE;
}

static enum task_access load_segments(struct work *w)
{
    enum task_access answer = load_ldtr(w);

    if (w->registers->eflags & X86_RFLAGS_VM)
        return answer;
    for (unsigned i = 0; i < ARRAY_SIZE(segment_checks) && answer == TASK_ACCESS_DONE; i++)
        answer = load_segment(w, &segment_checks[i]);
    return answer;
}

/* Whether [offset, offset + size) is inside the stack segment. */
static bool stack_allows(const struct task_segment *ss, uint32_t offset, unsigned size)
{
    const uint64_t last = (uint64_t)offset + size - 1;

    if (ss->rights & RIGHTS_DOWN)
        return offset > ss->limit && last <= (ss->rights & RIGHTS_BIG ? UINT32_MAX : UINT16_MAX);
    return last <= ss->limit;
}

/* The width is that of the TSS (SDM vol. 2, INT, TASK-GATE); the access is the new task's. */
static enum task_access push_error_code(struct work *w, unsigned size)
{
    struct task_registers *r = w->registers;
    const struct task_segment *ss = &r->segment[DECODE_SS];
    const uint32_t mask = ss->rights & RIGHTS_BIG ? UINT32_MAX : UINT16_MAX;
    const uint32_t offset = (r->general[GENERAL_ESP] - size) & mask;
    unsigned how = 0;

    if (new_cpl(r) == 3)
        how |= PAGING_USER;
    if (r->eflags & X86_RFLAGS_AC)
        how |= STAGE_ACCESS_AC;
    if (!stack_allows(ss, offset, size))
        return fault_with(w, X86_VECTOR_SS, 0);
    enum task_access answer =
        w->ops->write(w->context, ss->base + offset, &w->request->error_code, size, how, w->fault);
    if (answer == TASK_ACCESS_DONE)
        r->general[GENERAL_ESP] = (r->general[GENERAL_ESP] & ~mask) | offset;
    return answer;
}

/*
 * Steps 12 and 13. CR3 that does not change is not loaded: neither the PDPTEs nor the TLB are to follow then
 * (SDM vol. 3, "PDPTE Registers", "Operations that Invalidate TLBs and Paging-Structure Caches").
 */
static enum task_access enter_task(struct work *w, const struct tss_format *format, const uint8_t *image)
{
    struct task_registers *r = w->registers;
    uint32_t cr3 = r->cr3;

    if (format == &tss_32bit && r->paging)
        memcpy(&cr3, image + TSS_CR3, sizeof(cr3));
    if (cr3 != r->cr3) {
        if (!w->ops->load_cr3(w->context, cr3))
            return fault_with(w, X86_VECTOR_TS, 0);
        r->cr3 = cr3;
    }
    enum task_access answer = load_segments(w);
    if (answer == TASK_ACCESS_DONE && w->request->has_error_code)
        answer = push_error_code(w, format->word);
    return answer;
}

/* VM entry also wants SS to have CS's RPL; what a failed switch leaves in SS is not defined. */
static void settle_stack_selector(struct task_registers *r)
{
    struct task_segment *ss = &r->segment[DECODE_SS];

    if (ss->rights & RIGHTS_UNUSABLE)
        ss->selector = (uint16_t)((ss->selector & ~3u) | new_cpl(r));
}

static enum task_result result_before_commit(enum task_access answer)
{
    static const enum task_result results[] = {
        [TASK_ACCESS_FAULT] = TASK_REFUSED,
        [TASK_ACCESS_NO_MEMORY] = TASK_IMPOSSIBLE,
        [TASK_ACCESS_AGAIN] = TASK_AGAIN,
    };

    return results[answer];
}

enum task_result task_switch(const struct task_ops *ops, void *context, const struct task_switch *request,
                             struct task_registers *registers, struct task_outcome *outcome)
{
    struct work w = {
        .ops = ops,
        .context = context,
        .request = request,
        .registers = registers,
        .fault = &outcome->fault,
    };
    struct descriptor tss;
    uint8_t image[TSS_SIZE_MAX];

    *outcome = (struct task_outcome){0};
    enum task_access answer = claim_task(&w, &tss);
    if (answer != TASK_ACCESS_DONE)
        return result_before_commit(answer);
    answer = leave_task(&w, &tss, image);
    if (answer == TASK_ACCESS_FAULT)
        return TASK_REFUSED;
    if (answer != TASK_ACCESS_DONE)
        return TASK_IMPOSSIBLE;

    const struct tss_format *format = format_of(tss.rights);
    commit(&w, &tss, image);
    answer = enter_task(&w, format, image);
    if (answer == TASK_ACCESS_FAULT) {
        settle_stack_selector(registers);
        return TASK_SWITCHED_FAULT;
    }
    if (answer != TASK_ACCESS_DONE)
        return TASK_IMPOSSIBLE;
    outcome->trap = format == &tss_32bit && (image[TSS_TRAP] & 1) != 0;
    return TASK_SWITCHED;
}
