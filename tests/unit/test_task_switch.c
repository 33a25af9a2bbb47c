// SPDX-License-Identifier: BSD-2-Clause
/*
 * core/task_switch.c on a small memory. Fails when a field of either TSS format, a busy bit, NT or the back
 * link is not what the SDM's "Task Switching" says; when a refused switch changes anything; when a fault is
 * another than in the table of checks, or the state it is taken in could not be entered; when a table is
 * reached otherwise than as the processor does. test_exits_task_switch.c has the exit.
 */
#include "core/task_switch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/exception.h"
#include "mm/stage.h"

/* ---- A memory of 16 pages, and what may be wrong with it -------------------------------------------- */

#define GDT        0x1000u
#define OLD        0x3000u
#define NEW        0x5000u
#define LDT        0x7000u
#define STACK      0x9000u
#define MEMORY     0x10000u

#define CODE       0x08
#define DATA       0x10
#define CODE3      0x18
#define DATA3      0x20
#define TSS_OLD    0x28
#define TSS_NEW    0x30
#define LOCAL      0x38
#define SCRATCH    0x40
#define GDT_LIMIT  0x47u

#define WORD_CODE  0x00cf9a000000ffffULL /* flat, not accessed */
#define WORD_DATA  0x00cf92000000ffffULL
#define DPL3       (3ULL << 45)
#define PRESENT    BIT(47)
#define ACCESSED   BIT(40)
#define BUSY       BIT(41)
#define OLD_CR3    0xa000u
#define NEW_CR3    0xb000u
#define UNUSABLE   BIT(16)
#define EFLAGS_NT  BIT(14)
#define EFLAGS_VM  BIT(17)
#define EFLAGS_AC  BIT(18)
#define ALL_EFLAGS 0x003d7fd7u /* defined, VM apart */

enum page_state { PAGE_GOOD, PAGE_ABSENT, PAGE_READ_ONLY, PAGE_DEVICE, PAGE_MOVING };

static struct {
    uint8_t memory[MEMORY], before[MEMORY];
    enum page_state page[MEMORY / PAGE_SIZE];
    unsigned pushes, push_how; /* accesses that are not the processor's to a table */
    bool cr3_bad;
    unsigned cr3_loads;
    uint32_t cr3;
    unsigned races; /* exchanges that another processor is faster than, */
    uint32_t race;  /* and the bits that it sets */
} m;

static struct task_registers old_task, now;
static struct task_switch request;
static struct task_outcome outcome;

static enum task_access reach(uint32_t address, size_t size, bool write, struct task_fault *fault)
{
    for (uint32_t at = address; at < address + size; at++) {
        assert_true(at < MEMORY);
        switch (m.page[at / PAGE_SIZE]) {
        case PAGE_GOOD:
            break;
        case PAGE_READ_ONLY:
            if (!write)
                break;
            *fault = (struct task_fault){X86_VECTOR_PF, 3, at};
            return TASK_ACCESS_FAULT;
        case PAGE_ABSENT:
            *fault = (struct task_fault){X86_VECTOR_PF, write ? 2 : 0, at};
            return TASK_ACCESS_FAULT;
        case PAGE_DEVICE:
            return TASK_ACCESS_NO_MEMORY;
        case PAGE_MOVING:
            return TASK_ACCESS_AGAIN;
        }
    }
    return TASK_ACCESS_DONE;
}

static enum task_access fake_check(void *context, uint32_t address, size_t size, unsigned how,
                                   struct task_fault *fault)
{
    assert_ptr_equal(context, &m);
    assert_int_not_equal(how & STAGE_ACCESS_IMPLICIT, 0);
    assert_int_equal(how & PAGING_USER, 0);
    return reach(address, size, (how & PAGING_WRITE) != 0, fault);
}

static enum task_access fake_read(void *context, uint32_t address, void *to, size_t size, unsigned how,
                                  struct task_fault *fault)
{
    assert_ptr_equal(context, &m);
    assert_int_equal(how, STAGE_ACCESS_IMPLICIT);
    enum task_access answer = reach(address, size, false, fault);
    if (answer == TASK_ACCESS_DONE)
        memcpy(to, m.memory + address, size);
    return answer;
}

static enum task_access fake_write(void *context, uint32_t address, const void *from, size_t size,
                                   unsigned how, struct task_fault *fault)
{
    assert_ptr_equal(context, &m);
    enum task_access answer = reach(address, size, true, fault);
    if (answer == TASK_ACCESS_DONE)
        memcpy(m.memory + address, from, size);
    if (how != STAGE_ACCESS_IMPLICIT) {
        m.pushes++;
        m.push_how = how;
    }
    return answer;
}

static enum task_access fake_exchange(void *context, uint32_t address, uint32_t *expected, uint32_t desired,
                                      bool *exchanged, struct task_fault *fault)
{
    uint32_t value;

    assert_ptr_equal(context, &m);
    assert_int_equal(address % 4, 0);
    enum task_access answer = reach(address, 4, true, fault);
    if (answer != TASK_ACCESS_DONE)
        return answer;
    memcpy(&value, m.memory + address, 4);
    if (m.races > 0) {
        m.races--;
        value |= m.race;
        memcpy(m.memory + address, &value, 4);
    }
    *exchanged = value == *expected;
    if (*exchanged)
        memcpy(m.memory + address, &desired, 4);
    else
        *expected = value;
    return TASK_ACCESS_DONE;
}

static bool fake_load_cr3(void *context, uint32_t value)
{
    assert_ptr_equal(context, &m);
    m.cr3_loads++;
    m.cr3 = value;
    return !m.cr3_bad;
}

static const struct task_ops fake_ops = {fake_check, fake_read, fake_write, fake_exchange, fake_load_cr3};

static void put(uint32_t address, uint64_t value, size_t size)
{
    memcpy(m.memory + address, &value, size);
}

static uint64_t get(uint32_t address, size_t size)
{
    uint64_t value = 0;

    memcpy(&value, m.memory + address, size);
    return value;
}

static uint64_t descriptor(uint16_t selector)
{
    return get(old_task.gdt_base + (selector & ~7u), 8);
}

static void set_descriptor(uint16_t selector, uint64_t value)
{
    put(old_task.gdt_base + (selector & ~7u), value, 8);
}

/* ---- Tasks ------------------------------------------------------------------------------------------ */

/* The two formats, written from the SDM's figures: offsets of the fields. */
struct layout {
    unsigned size, width, eip, eflags, general, segments, segment_count, ldt, limit;
    uint64_t type;
};

static const struct layout layouts[2] = {
    {104, 4, 32, 36, 40, 72, 6, 96, 0x67, 9},
    {44, 2, 14, 16, 18, 34, 4, 42, 0x2b, 1},
};

static uint64_t tss_word(uint32_t base, const struct layout *l)
{
    return PRESENT | (uint64_t)base << 16 | l->limit | l->type << 40;
}

static struct task_segment flat(uint16_t selector, uint32_t rights)
{
    return (struct task_segment){selector, 0, 0xffffffff, rights};
}

/* A good switch by CALL from a 32-bit task to another, for tests to spoil. `old` and `new`: of layouts. */
static void fresh_with(unsigned old, unsigned new, uint32_t gdt)
{
    const struct layout *from = &layouts[old], *to = &layouts[new];

    memset(&m, 0, sizeof(m));
    memset(&old_task, 0, sizeof(old_task));
    old_task.gdt_base = gdt;
    old_task.gdt_limit = GDT_LIMIT;
    set_descriptor(CODE, WORD_CODE);
    set_descriptor(DATA, WORD_DATA);
    set_descriptor(CODE3, WORD_CODE | DPL3);
    set_descriptor(DATA3, WORD_DATA | DPL3);
    set_descriptor(TSS_OLD, tss_word(OLD, from) | BUSY);
    set_descriptor(TSS_NEW, tss_word(NEW, to));
    set_descriptor(LOCAL, PRESENT | (uint64_t)LDT << 16 | 2ULL << 40 | 15);
    put(LDT + 8, WORD_DATA, 8);

    memset(m.memory + OLD, 0xee, from->size);
    old_task.eip = 0x12345678;
    old_task.eflags = 0x246;
    for (unsigned i = 0; i < 8; i++)
        old_task.general[i] = 0x01010101 * (i + 1);
    for (unsigned i = 0; i < TASK_SEGMENTS; i++)
        old_task.segment[i] = flat((uint16_t)(0x100 + 8 * i), 0xc093);
    old_task.ldtr = (struct task_segment){.rights = UNUSABLE};
    old_task.tr = (struct task_segment){TSS_OLD, OLD, from->limit, (uint32_t)(0x82 | from->type)};
    old_task.cr3 = OLD_CR3;
    old_task.paging = true;

    put(NEW + to->eip, 0x4321, to->width);
    put(NEW + to->eflags, 0x202, to->width);
    for (unsigned i = 0; i < 8; i++)
        put(NEW + to->general + i * to->width, 0x91929394 + 0x01010101 * i, to->width);
    put(NEW + to->general + 4 * to->width, STACK + 0x100, to->width);
    for (unsigned i = 0; i < to->segment_count; i++)
        put(NEW + to->segments + i * to->width, i == DECODE_CS ? CODE : DATA, 2);
    if (new == 0)
        put(NEW + 28, NEW_CR3, 4);
    request = (struct task_switch){.source = TASK_SOURCE_CALL, .selector = TSS_NEW};
}

static void fresh(void)
{
    fresh_with(0, 0, GDT);
}

/* A segment of the new, 32-bit task. */
static void set_segment(enum decode_segment segment, uint16_t selector)
{
    put(NEW + layouts[0].segments + 4 * segment, selector, 2);
}

/* SDM vol. 3, "Checks on guest segment registers", without unrestricted guest. */
static void assert_enterable(void)
{
    const struct task_segment *cs = &now.segment[DECODE_CS], *ss = &now.segment[DECODE_SS];
    const unsigned cpl = ss->rights >> 5 & 3;

    assert_int_equal(now.tr.rights & ~9u, 0x82);
    assert_int_equal(now.tr.selector & 4, 0);
    assert_int_equal(now.eflags & ~(ALL_EFLAGS | EFLAGS_VM), 0);
    assert_int_not_equal(now.eflags & 2, 0);
    if ((now.ldtr.rights & UNUSABLE) == 0)
        assert_int_equal(now.ldtr.rights & 0x9f, 0x82);
    if (now.eflags & EFLAGS_VM) {
        for (unsigned i = 0; i < TASK_SEGMENTS; i++) {
            assert_int_equal(now.segment[i].base, (uint32_t)now.segment[i].selector << 4);
            assert_int_equal(now.segment[i].limit, 0xffff);
            assert_int_equal(now.segment[i].rights, 0xf3);
        }
        return;
    }
    assert_int_equal(cs->rights & 0x99, 0x99); /* usable, present, accessed code */
    assert_int_equal(cs->rights & UNUSABLE, 0);
    if (cs->rights & 4)
        assert_true((cs->rights >> 5 & 3) <= cpl);
    else
        assert_int_equal(cs->rights >> 5 & 3, cpl);
    assert_int_equal(ss->selector & 3, cpl);
    assert_int_equal(cs->selector & 3, cpl);
    if ((ss->rights & UNUSABLE) == 0)
        assert_int_equal(ss->rights & 0x9b, 0x93);
    for (unsigned i = 0; i < TASK_SEGMENTS; i++) {
        const struct task_segment *s = &now.segment[i];
        if ((s->rights & UNUSABLE) != 0 || i == DECODE_CS || i == DECODE_SS)
            continue;
        assert_int_equal(s->rights & 0x91, 0x91);
        if ((s->rights & 0xc) != 0xc)
            assert_true((s->rights >> 5 & 3) >= (s->selector & 3u));
    }
}

static enum task_result go(void)
{
    now = old_task;
    memcpy(m.before, m.memory, MEMORY);
    enum task_result result = task_switch(&fake_ops, &m, &request, &now, &outcome);
    if (result == TASK_SWITCHED || result == TASK_SWITCHED_FAULT)
        assert_enterable();
    return result;
}

static void refused(unsigned vector, uint32_t error)
{
    assert_int_equal(go(), TASK_REFUSED);
    assert_int_equal(outcome.fault.vector, vector);
    assert_int_equal(outcome.fault.error_code, error);
    assert_memory_equal(&now, &old_task, sizeof(now));
    assert_memory_equal(m.memory, m.before, MEMORY);
    assert_int_equal(m.cr3_loads, 0);
}

static void faulted(unsigned vector, uint32_t error)
{
    assert_int_equal(go(), TASK_SWITCHED_FAULT);
    assert_int_equal(outcome.fault.vector, vector);
    assert_int_equal(outcome.fault.error_code, error);
    assert_int_equal(now.tr.selector, TSS_NEW);
    assert_int_equal(now.eip, 0x4321);
    assert_false(outcome.trap);
}

/* ---- Good switches ---------------------------------------------------------------------------------- */

/* Fails when a field of either format is saved or loaded elsewhere, or a flag is not as the source has it. */
static void kinds(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 16; kind++) {
        const struct layout *from = &layouts[kind & 1], *to = &layouts[kind >> 1 & 1];
        const enum task_source source = (enum task_source)(kind >> 2);
        const bool nests = source == TASK_SOURCE_CALL || source == TASK_SOURCE_GATE;
        const uint64_t mask = from->width == 2 ? 0xffff : 0xffffffff;

        fresh_with(kind & 1, kind >> 1 & 1, GDT + (kind & 3));
        request.source = source;
        old_task.eflags |= EFLAGS_NT;
        if (source == TASK_SOURCE_IRET)
            set_descriptor(TSS_NEW, descriptor(TSS_NEW) | BUSY);
        assert_int_equal(go(), TASK_SWITCHED);

        assert_int_equal(descriptor(TSS_OLD) & BUSY, nests ? BUSY : 0);
        assert_int_equal(descriptor(TSS_NEW) & BUSY, BUSY);
        assert_int_equal(get(NEW, 2), nests ? TSS_OLD : 0);
        assert_int_equal(now.eflags, nests ? 0x202 | EFLAGS_NT : 0x202);
        assert_int_equal(get(OLD + from->eflags, from->width),
                         source == TASK_SOURCE_IRET ? 0x246 : 0x246 | EFLAGS_NT);
        assert_int_equal(get(OLD + from->eip, from->width), 0x12345678 & mask);
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(get(OLD + from->general + i * from->width, from->width),
                             0x01010101 * (i + 1) & mask);
        for (unsigned i = 0; i < from->segment_count; i++) {
            assert_int_equal(get(OLD + from->segments + i * from->width, 2), 0x100 + 8 * i);
            if (from->width == 4)
                assert_int_equal(get(OLD + from->segments + i * 4 + 2, 2), 0xeeee);
        }
        for (unsigned i = 0; i < from->eip; i++)
            assert_int_equal(m.memory[OLD + i], 0xee);
        for (unsigned i = from->ldt; i < from->size; i++)
            assert_int_equal(m.memory[OLD + i], 0xee);

        assert_int_equal(now.tr.selector, TSS_NEW);
        assert_int_equal(now.tr.base, NEW);
        assert_int_equal(now.tr.limit, to->limit);
        assert_int_equal(now.tr.rights, 0x82 | to->type);
        assert_int_equal(now.eip, 0x4321);
        for (unsigned i = 0; i < 8; i++) {
            const uint32_t value = i == 4 ? STACK + 0x100 : 0x91929394 + 0x01010101 * i;
            assert_int_equal(now.general[i], to->width == 4 ? value : value | 0xffff0000);
        }
        for (unsigned i = 0; i < to->segment_count; i++) {
            assert_int_equal(now.segment[i].selector, i == DECODE_CS ? CODE : DATA);
            assert_int_equal(now.segment[i].rights, i == DECODE_CS ? 0xc09b : 0xc093);
            assert_int_equal(now.segment[i].limit, 0xffffffff);
        }
        for (unsigned i = to->segment_count; i < TASK_SEGMENTS; i++)
            assert_int_equal(now.segment[i].rights | now.segment[i].selector, UNUSABLE);
        assert_int_equal(now.ldtr.rights, UNUSABLE);
        assert_int_equal(descriptor(CODE) & ACCESSED, ACCESSED);
        assert_int_equal(m.cr3_loads, to->width == 4);
        assert_int_equal(now.cr3, to->width == 4 ? NEW_CR3 : OLD_CR3);
        assert_false(outcome.trap);
        assert_int_equal(m.pushes, 0);
    }
}

static void loads(void **state)
{
    (void)state;
    /* CR3 that stays is not loaded, nor one without paging. */
    fresh();
    put(NEW + 28, OLD_CR3, 4);
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(m.cr3_loads, 0);
    fresh();
    old_task.paging = false;
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(m.cr3_loads, 0);
    assert_int_equal(now.cr3, OLD_CR3);
    fresh();
    m.cr3_bad = true;
    faulted(X86_VECTOR_TS, 0);
    assert_int_equal(now.cr3, OLD_CR3);

    fresh();
    put(NEW + 36, 0xffffffff & ~EFLAGS_VM, 4);
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(now.eflags, ALL_EFLAGS);

    fresh();
    put(NEW + 100, 1, 2);
    assert_int_equal(go(), TASK_SWITCHED);
    assert_true(outcome.trap);
    put(NEW + 100, 0xfffe, 2);
    put(GDT + TSS_NEW + 5, 0x89, 1);
    assert_int_equal(go(), TASK_SWITCHED);
    assert_false(outcome.trap);

    /* A local table: base, limit, entries; null selectors keep their RPL. */
    fresh();
    put(NEW + 96, LOCAL, 2);
    set_segment(DECODE_ES, 8 | 4);
    set_segment(DECODE_FS, 3);
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(now.ldtr.base, LDT);
    assert_int_equal(now.ldtr.limit, 15);
    assert_int_equal(now.segment[DECODE_ES].rights, 0xc093);
    assert_int_equal(get(LDT + 8, 8) & ACCESSED, ACCESSED);
    assert_int_equal(now.segment[DECODE_FS].selector, 3);
    assert_int_equal(now.segment[DECODE_FS].rights, UNUSABLE);

    /* Base and limit of a descriptor with G = 0. */
    fresh();
    set_descriptor(SCRATCH, 0xab4793cdef129876ULL);
    set_segment(DECODE_GS, SCRATCH);
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(now.segment[DECODE_GS].base, 0xabcdef12);
    assert_int_equal(now.segment[DECODE_GS].limit, 0x79876);
    assert_int_equal(now.segment[DECODE_GS].rights, 0x4093);

    /* A task that returns to itself finds what was saved just now. */
    fresh();
    request = (struct task_switch){.source = TASK_SOURCE_IRET, .selector = TSS_OLD};
    for (unsigned i = 0; i < TASK_SEGMENTS; i++)
        old_task.segment[i].selector = i == DECODE_CS ? CODE : DATA;
    put(OLD + 96, 0, 2);
    put(OLD + 28, OLD_CR3, 4);
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(now.eip, old_task.eip);
    assert_int_equal(now.general[7], old_task.general[7]);
}

static void ring_3(void)
{
    set_segment(DECODE_CS, CODE3 | 3);
    set_segment(DECODE_SS, DATA3 | 3);
}

static void privileges(void **state)
{
    (void)state;
    fresh();
    ring_3();
    for (unsigned i = DECODE_DS; i <= DECODE_GS; i++)
        set_segment((enum decode_segment)i, DATA3 | 3);
    set_segment(DECODE_ES, DATA3);
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(now.segment[DECODE_SS].rights, 0xc0f3);

    fresh();
    put(NEW + 36, 2 | EFLAGS_VM, 4);
    set_segment(DECODE_CS, 0x1234);
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(now.segment[DECODE_CS].selector, 0x1234);
    fresh();
    put(NEW + 36, 2 | EFLAGS_VM, 4);
    put(NEW + 96, LOCAL | 4, 2);
    faulted(X86_VECTOR_TS, LOCAL | 4);
}

/* ---- Switches that are refused ---------------------------------------------------------------------- */

static void bad_descriptors(void **state)
{
    static const struct {
        enum task_source source;
        uint16_t selector;
        uint64_t clear, set; /* bits of the new task's descriptor */
        uint8_t vector;
        uint16_t error;
    } rows[] = {
        {TASK_SOURCE_CALL, 0, 0, 0, X86_VECTOR_GP, 0},
        {TASK_SOURCE_IRET, 3, 0, BUSY, X86_VECTOR_TS, 0},
        {TASK_SOURCE_JMP, TSS_NEW | 4, 0, 0, X86_VECTOR_GP, TSS_NEW | 4},
        {TASK_SOURCE_IRET, TSS_NEW | 4, 0, BUSY, X86_VECTOR_TS, TSS_NEW | 4},
        {TASK_SOURCE_GATE, GDT_LIMIT + 1, 0, 0, X86_VECTOR_GP, GDT_LIMIT + 1},
        {TASK_SOURCE_IRET, GDT_LIMIT + 1, 0, BUSY, X86_VECTOR_TS, GDT_LIMIT + 1},
        {TASK_SOURCE_CALL, TSS_NEW | 3, 0, BUSY, X86_VECTOR_GP, TSS_NEW},
        {TASK_SOURCE_JMP, TSS_NEW, 0, BUSY, X86_VECTOR_GP, TSS_NEW},
        {TASK_SOURCE_GATE, TSS_NEW, 0, BUSY, X86_VECTOR_GP, TSS_NEW},
        {TASK_SOURCE_IRET, TSS_NEW, 0, 0, X86_VECTOR_TS, TSS_NEW},
        {TASK_SOURCE_CALL, TSS_NEW, 0, BIT(44), X86_VECTOR_GP, TSS_NEW},
        {TASK_SOURCE_CALL, TSS_NEW, 0, 4ULL << 40, X86_VECTOR_GP, TSS_NEW},
        {TASK_SOURCE_CALL, TSS_NEW, PRESENT, 0, X86_VECTOR_NP, TSS_NEW},
        {TASK_SOURCE_IRET, TSS_NEW, PRESENT, BUSY, X86_VECTOR_NP, TSS_NEW},
        {TASK_SOURCE_CALL, TSS_NEW, 1, 0, X86_VECTOR_TS, TSS_NEW},
        {TASK_SOURCE_CALL, TSS_NEW, 8ULL << 40 | 0x7f, 0x2a, X86_VECTOR_TS, TSS_NEW},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned external = 0; external < 2; external++) {
            fresh();
            request = (struct task_switch){
                .source = rows[i].source, .selector = rows[i].selector, .external = external == 1};
            set_descriptor(TSS_NEW, (descriptor(TSS_NEW) & ~rows[i].clear) | rows[i].set);
            refused(rows[i].vector, rows[i].error | external);
        }

    fresh();
    old_task.gdt_limit = TSS_NEW + 6;
    refused(X86_VECTOR_GP, TSS_NEW);
    fresh();
    old_task.tr.limit = 0x5e;
    refused(X86_VECTOR_TS, TSS_OLD);
    old_task.tr.limit = 0x5f;
    assert_int_equal(go(), TASK_SWITCHED);
    fresh_with(1, 0, GDT);
    old_task.tr.limit = 0x28;
    refused(X86_VECTOR_TS, TSS_OLD);
}

/* Whatever table is out of reach: the page fault is the old task's, and nothing is half done. */
static void out_of_reach(void **state)
{
    static const struct {
        enum task_source source;
        uint32_t page;
        enum page_state page_state;
        uint32_t address, error;
    } rows[] = {
        {TASK_SOURCE_CALL, OLD, PAGE_ABSENT, OLD + 32, 2},
        {TASK_SOURCE_JMP, OLD, PAGE_READ_ONLY, OLD + 32, 3},
        {TASK_SOURCE_IRET, OLD, PAGE_ABSENT, OLD + 32, 2},
        {TASK_SOURCE_JMP, NEW, PAGE_ABSENT, NEW, 0},
        {TASK_SOURCE_CALL, NEW, PAGE_READ_ONLY, NEW, 3},
        {TASK_SOURCE_GATE, NEW, PAGE_READ_ONLY, NEW, 3},
        {TASK_SOURCE_CALL, GDT, PAGE_ABSENT, GDT + TSS_NEW, 0},
        {TASK_SOURCE_CALL, GDT, PAGE_READ_ONLY, GDT + TSS_NEW + 4, 3},
        {TASK_SOURCE_JMP, GDT, PAGE_READ_ONLY, GDT + TSS_OLD + 5, 3},
        {TASK_SOURCE_IRET, GDT, PAGE_READ_ONLY, GDT + TSS_OLD + 5, 3},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned how = 0; how < 3; how++) {
            fresh();
            request.source = rows[i].source;
            if (request.source == TASK_SOURCE_IRET)
                set_descriptor(TSS_NEW, descriptor(TSS_NEW) | BUSY);
            enum page_state *page = &m.page[rows[i].page / PAGE_SIZE];
            *page = how == 0 ? rows[i].page_state : how == 1 ? PAGE_MOVING : PAGE_DEVICE;
            if (how == 0) {
                refused(X86_VECTOR_PF, rows[i].error);
                assert_int_equal(outcome.fault.address, rows[i].address);
                continue;
            }
            assert_int_equal(go(), how == 1 ? TASK_AGAIN : TASK_IMPOSSIBLE);
            assert_memory_equal(m.memory, m.before, MEMORY);
            assert_memory_equal(&now, &old_task, sizeof(now));
        }

    /* A TSS that ends in such a page. */
    fresh();
    set_descriptor(TSS_NEW, tss_word(NEW + PAGE_SIZE - 80, &layouts[0]));
    m.page[NEW / PAGE_SIZE + 1] = PAGE_ABSENT;
    refused(X86_VECTOR_PF, 0);
    assert_int_equal(outcome.fault.address, NEW + PAGE_SIZE);
    fresh();
    old_task.tr.base = OLD + PAGE_SIZE - 95;
    m.page[OLD / PAGE_SIZE + 1] = PAGE_READ_ONLY;
    refused(X86_VECTOR_PF, 3);

    /* A task that is only left and entered is not written. */
    fresh();
    request.source = TASK_SOURCE_JMP;
    m.page[NEW / PAGE_SIZE] = PAGE_READ_ONLY;
    assert_int_equal(go(), TASK_SWITCHED);
}

static void races(void **state)
{
    (void)state;
    fresh();
    m.races = 1;
    m.race = BUSY >> 32; /* another processor has the task */
    assert_int_equal(go(), TASK_AGAIN);
    assert_memory_equal(&now, &old_task, sizeof(now));
    assert_memory_equal(m.memory + OLD, m.before + OLD, PAGE_SIZE);
    fresh();
    m.races = 1;
    m.race = BIT(20); /* AVL */
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(descriptor(TSS_NEW) & (BUSY | BIT(52)), BUSY | BIT(52));
}

/* ---- Faults of the new task ------------------------------------------------------------------------- */

static void bad_segments(void **state)
{
    static const struct {
        unsigned segment; /* enum decode_segment; TASK_SEGMENTS: the LDT */
        uint16_t selector;
        uint64_t scratch; /* descriptor of SCRATCH */
        uint8_t vector;   /* 0: good */
        uint16_t error;
    } rows[] = {
        {6, LOCAL | 4, 0, X86_VECTOR_TS, LOCAL | 4},
        {6, GDT_LIMIT + 1, 0, X86_VECTOR_TS, GDT_LIMIT + 1},
        {6, TSS_OLD, 0, X86_VECTOR_TS, TSS_OLD},
        {6, SCRATCH, WORD_DATA, X86_VECTOR_TS, SCRATCH},
        {6, SCRATCH, 2ULL << 40, X86_VECTOR_TS, SCRATCH},
        {6, 3, 0, 0, 0},
        {DECODE_CS, 3, 0, X86_VECTOR_TS, 0},
        {DECODE_CS, GDT_LIMIT + 1, 0, X86_VECTOR_TS, GDT_LIMIT + 1},
        {DECODE_CS, 8 | 4, 0, X86_VECTOR_TS, 8 | 4},
        {DECODE_CS, DATA, 0, X86_VECTOR_TS, DATA},
        {DECODE_CS, LOCAL, 0, X86_VECTOR_TS, LOCAL},
        {DECODE_CS, CODE3, 0, X86_VECTOR_TS, CODE3},
        {DECODE_CS, CODE | 3, 0, X86_VECTOR_TS, CODE},
        {DECODE_CS, SCRATCH, WORD_CODE | BIT(42) | DPL3, X86_VECTOR_TS, SCRATCH},
        {DECODE_CS, SCRATCH, WORD_CODE | BIT(42), 0, 0},
        {DECODE_CS, SCRATCH, WORD_CODE & ~PRESENT, X86_VECTOR_NP, SCRATCH},
        {DECODE_SS, 0, 0, X86_VECTOR_TS, 0},
        {DECODE_SS, GDT_LIMIT + 1, 0, X86_VECTOR_TS, GDT_LIMIT + 1},
        {DECODE_SS, CODE, 0, X86_VECTOR_TS, CODE},
        {DECODE_SS, LOCAL, 0, X86_VECTOR_TS, LOCAL},
        {DECODE_SS, SCRATCH, WORD_DATA & ~BIT(41), X86_VECTOR_TS, SCRATCH},
        {DECODE_SS, DATA | 3, 0, X86_VECTOR_TS, DATA},
        {DECODE_SS, DATA3, 0, X86_VECTOR_TS, DATA3},
        {DECODE_SS, SCRATCH, WORD_DATA & ~PRESENT, X86_VECTOR_SS, SCRATCH},
        {DECODE_DS, GDT_LIMIT + 1, 0, X86_VECTOR_TS, GDT_LIMIT + 1},
        {DECODE_DS, LOCAL, 0, X86_VECTOR_TS, LOCAL},
        {DECODE_ES, SCRATCH, WORD_CODE & ~BIT(41), X86_VECTOR_TS, SCRATCH},
        {DECODE_ES, DATA | 3, 0, X86_VECTOR_TS, DATA},
        {DECODE_ES, CODE | 3, 0, X86_VECTOR_TS, CODE},
        {DECODE_FS, SCRATCH | 3, WORD_CODE | BIT(42), 0, 0},
        {DECODE_FS, SCRATCH, WORD_DATA & ~PRESENT, X86_VECTOR_NP, SCRATCH},
        {DECODE_GS, SCRATCH, WORD_DATA & ~BIT(41), 0, 0},
        {DECODE_GS, SCRATCH, WORD_DATA & ~PRESENT, X86_VECTOR_NP, SCRATCH},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        for (unsigned external = 0; external < 2; external++) {
            fresh();
            request.external = external == 1;
            set_descriptor(SCRATCH, rows[i].scratch);
            put(NEW + layouts[0].segments + 4 * rows[i].segment, rows[i].selector, 2);
            put(NEW + 100, 1, 2); /* T does not count for a task that faults first */
            if (rows[i].vector == 0) {
                assert_int_equal(go(), TASK_SWITCHED);
                continue;
            }
            faulted(rows[i].vector, rows[i].error | external);
            if (rows[i].segment < TASK_SEGMENTS && rows[i].segment != DECODE_CS)
                assert_int_equal(now.segment[rows[i].segment].rights & UNUSABLE, UNUSABLE);
            assert_int_equal(descriptor(SCRATCH), rows[i].scratch);
            assert_int_equal(now.cr3, NEW_CR3);
        }

    /* At CPL 3, a data segment of the supervisor's. */
    fresh();
    ring_3();
    faulted(X86_VECTOR_TS, DATA);
    /* A local table that is not there under the new CR3. */
    fresh();
    put(NEW + 96, LOCAL, 2);
    set_segment(DECODE_DS, 8 | 4);
    m.page[LDT / PAGE_SIZE] = PAGE_ABSENT;
    faulted(X86_VECTOR_PF, 0);
    assert_int_equal(outcome.fault.address, LDT + 8);
    m.page[LDT / PAGE_SIZE] = PAGE_MOVING;
    put(GDT + TSS_NEW + 5, 0x89, 1);
    assert_int_equal(go(), TASK_IMPOSSIBLE);
}

/* ---- The error code --------------------------------------------------------------------------------- */

static void set_error_code(void)
{
    request.source = TASK_SOURCE_GATE;
    request.external = true;
    request.has_error_code = true;
    request.error_code = 0x1234abcd;
}

static void error_code(void **state)
{
    (void)state;
    fresh();
    set_error_code();
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(now.general[4], STACK + 0xfc);
    assert_int_equal(get(STACK + 0xfc, 4), 0x1234abcd);
    assert_int_equal(m.push_how, 0);

    /* Two bytes by a 16-bit TSS, on a stack with a 16-bit pointer. */
    fresh_with(0, 1, GDT);
    set_error_code();
    set_descriptor(DATA, WORD_DATA & ~(BIT(54) | BIT(55)));
    put(STACK + 0x100, 0x77777777, 4);
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(now.general[4], 0xffff0000 | (STACK + 0xfe));
    assert_int_equal(get(STACK + 0xfc, 8), 0x77777777abcd0000);

    /* The access of the new task: of a user's, or with AC. */
    fresh();
    set_error_code();
    ring_3();
    for (unsigned i = DECODE_DS; i <= DECODE_GS; i++)
        set_segment((enum decode_segment)i, 0);
    set_segment(DECODE_ES, 0);
    put(NEW + 36, 2 | EFLAGS_AC, 4);
    assert_int_equal(go(), TASK_SWITCHED);
    assert_int_equal(m.push_how, PAGING_USER | STAGE_ACCESS_AC);

    fresh();
    set_error_code();
    m.page[STACK / PAGE_SIZE] = PAGE_READ_ONLY;
    faulted(X86_VECTOR_PF, 3);
    assert_int_equal(now.general[4], STACK + 0x100);

    /* Limits: the last bytes of a segment, one too few; one that expands down. */
    fresh();
    set_error_code();
    set_descriptor(SCRATCH, 0x0040920000000000 | (STACK + 0xff));
    set_segment(DECODE_SS, SCRATCH);
    assert_int_equal(go(), TASK_SWITCHED);
    set_descriptor(SCRATCH, 0x0040920000000000 | (STACK + 0xfe));
    put(GDT + TSS_NEW + 5, 0x89, 1);
    faulted(X86_VECTOR_SS, 1);
    set_descriptor(SCRATCH, 0x0040960000000000 | (STACK + 0xfb));
    put(GDT + TSS_NEW + 5, 0x89, 1);
    assert_int_equal(go(), TASK_SWITCHED);
    set_descriptor(SCRATCH, 0x0040960000000000 | (STACK + 0xfc));
    put(GDT + TSS_NEW + 5, 0x89, 1);
    faulted(X86_VECTOR_SS, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),           cmocka_unit_test(loads),        cmocka_unit_test(privileges),
        cmocka_unit_test(bad_descriptors), cmocka_unit_test(out_of_reach), cmocka_unit_test(races),
        cmocka_unit_test(bad_segments),    cmocka_unit_test(error_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
