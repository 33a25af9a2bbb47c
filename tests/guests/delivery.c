// SPDX-License-Identifier: BSD-2-Clause
/*
 * Page faults that no instruction of the program asked for: of stacks, gates and descriptors while an event
 * is delivered (SDM vol. 3, "Double Fault Exception"); and pages where no memory is. With the word
 * `table-holes` tables there as well: where the processor itself walks a partition's tables, by EPT, Umbra
 * learns of such a one, but not what for, and the partition ends.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/space.h"

#define HOLE        0xd0000000UL /* no memory there on the bare machine nor in a partition */

/* ---- Faults while an event is delivered -------------------------------------------------------------------
 */

#define VECTOR_TEST 0x41
#define IST_TEST    5
#define NO_STACK    (GUEST_UNMAPPED + PAGE_SIZE)
#define SECOND_PAGE (GUEST_WINDOW + PAGE_SIZE)

SNIPPET(leave, 64, "");

static void lidt(uint64_t base)
{
    struct descriptor_pointer pointer = {sizeof(guest_idt) - 1, base};

    __asm__ volatile("lidt %0" : : "m"(pointer));
}

/* The IDT in the window: from `vector` on in its second page, which is not there. */
static void idt_split(unsigned vector)
{
    guest_map(0, SPACE_B | PAGE_PRESENT | PAGE_WRITE);
    guest_map(1, (SPACE_B + PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITE);
    uint64_t base = SECOND_PAGE - vector * sizeof(guest_idt[0]);
    memcpy((void *)base, guest_idt, sizeof(guest_idt));
    guest_map(1, 0);
    lidt(base);
}

static void expect_cr2(const char *name, uint64_t expected)
{
    guest_equal(name, guest_fault.cr2, expected);
}

static void stack_rows(void)
{
    guest_idt[VECTOR_TEST].ist = IST_TEST;
    guest_tss.ist[IST_TEST - 1] = NO_STACK;
    TRY_PLAIN("int $0x41");
    guest_expect("no-stack", VECTOR_PF, PF_WRITE, 0);
    expect_cr2("no-stack-cr2", NO_STACK - 8);

    /* Its top in one page, the rest in another. */
    guest_map(1, (SPACE_B + PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITE);
    guest_map(0, 0);
    guest_tss.ist[IST_TEST - 1] = SECOND_PAGE + 16;
    TRY_PLAIN("int $0x41");
    guest_expect("half-a-stack", VECTOR_PF, PF_WRITE, 0);
    expect_cr2("half-a-stack-cr2", SECOND_PAGE - 8);
    guest_map(0, SPACE_B | PAGE_PRESENT | PAGE_WRITE);
    TRY_PLAIN("int $0x41");
    guest_expect_vector("whole-stack", VECTOR_TEST, 0);

    set_cr0(CR0_WP, true);
    guest_map(0, SPACE_B | PAGE_PRESENT);
    TRY_PLAIN("int $0x41");
    guest_expect("read-only-stack", VECTOR_PF, PF_PRESENT | PF_WRITE, 0);
    set_cr0(CR0_WP, false);
    TRY_PLAIN("int $0x41");
    guest_expect_vector("read-only-stack-wp-0", VECTOR_TEST, 0);

    guest_tss.ist[IST_TEST - 1] = NO_STACK;
    guest_idt[VECTOR_PF].ist = IST_TEST;
    TRY("movq (%0), %%rax", : : "r"(GUEST_UNMAPPED) : "memory", "rax");
    guest_expect("page-fault-without-stack", VECTOR_DF, 0, 0);
    TRY_PLAIN("int $0x41");
    guest_expect_vector("page-fault-twice-without-stack", VECTOR_DF, 0);
    guest_gate_reset(VECTOR_PF);
    guest_gate_reset(VECTOR_TEST);

    /* From ring 3: the stack of ring 0 is missing. */
    uint64_t rsp0 = guest_tss.rsp[0];
    guest_idt[VECTOR_PF].ist = IST_FREE;
    guest_tss.rsp[0] = NO_STACK;
    guest_run(SELECTOR_USER_CODE, leave, 0, 0, 0);
    guest_expect_vector("no-stack-for-ring-3", VECTOR_PF, PF_WRITE);
    guest_equal("no-stack-for-ring-3-cs", guest_fault.frame.cs, SELECTOR_USER_CODE);
    guest_gate_reset(VECTOR_PF);
    guest_run(SELECTOR_USER_CODE, leave, 0, 0, 0);
    guest_expect_vector("no-stack-for-ring-3-double", VECTOR_DF, 0);
    guest_tss.rsp[0] = rsp0;
}

static void table_delivery_rows(void)
{
    idt_split(VECTOR_LEAVE);
    TRY_PLAIN("int " VECTOR_LEAVE_TEXT);
    guest_expect("no-gate", VECTOR_PF, 0, 0);
    expect_cr2("no-gate-cr2", SECOND_PAGE);
    guest_map(1, (SPACE_B + PAGE_SIZE) | PAGE_PRESENT);
    TRY_PLAIN("int " VECTOR_LEAVE_TEXT);
    guest_expect_vector("gate-again", VECTOR_LEAVE, 0);
    idt_split(VECTOR_PF);
    TRY("movq (%0), %%rax", : : "r"(GUEST_UNMAPPED) : "memory", "rax");
    guest_expect("no-gate-for-page-fault", VECTOR_DF, 0, 0);
    expect_cr2("no-gate-for-page-fault-cr2", SECOND_PAGE);
    lidt((uint64_t)guest_idt);

    guest_idt[VECTOR_TEST].offset_low = (uint16_t)GUEST_UNMAPPED;
    guest_idt[VECTOR_TEST].offset_middle = (uint16_t)(GUEST_UNMAPPED >> 16);
    TRY_PLAIN("int $0x41");
    guest_expect_vector("no-handler", VECTOR_PF, 0);
    expect_cr2("no-handler-cr2", GUEST_UNMAPPED);
    guest_equal("no-handler-rip", guest_fault.frame.rip, GUEST_UNMAPPED);
    guest_gate_reset(VECTOR_TEST);

    /* The GDT in the window: SELECTOR_FREE and those behind in its second page. */
    struct descriptor_pointer old, new = {sizeof(guest_gdt) - 1, SECOND_PAGE - SELECTOR_FREE};
    guest_segment(SELECTOR_FREE, 0, 0xfffff,
                  SEGMENT_CODE_DATA | SEGMENT_PRESENT | SEGMENT_PAGES | SEGMENT_BIG | SEGMENT_TYPE(2));
    guest_map(0, SPACE_B | PAGE_PRESENT | PAGE_WRITE);
    guest_map(1, (SPACE_B + PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITE);
    memcpy((void *)new.base, guest_gdt, sizeof(guest_gdt));
    __asm__ volatile("sgdt %0; lgdt %1" : "=m"(old) : "m"(new));
    guest_map(1, 0);
    TRY("movl %0, %%es", : : "r"(SELECTOR_FREE) : "memory");
    guest_expect("no-descriptor", VECTOR_PF, 0, 0);
    expect_cr2("no-descriptor-cr2", SECOND_PAGE);
    set_cr0(CR0_WP, true);
    guest_map(1, (SPACE_B + PAGE_SIZE) | PAGE_PRESENT);
    TRY("movl %0, %%es", : : "r"(SELECTOR_FREE) : "memory");
    guest_expect("descriptor-accessed-read-only", VECTOR_PF, PF_PRESENT | PF_WRITE, 0);
    set_cr0(CR0_WP, false);
    TRY("movl %0, %%es", : : "r"(SELECTOR_FREE) : "memory");
    guest_expect("descriptor-accessed", NO_VECTOR, 0, 0);
    CHECK("descriptor-accessed-set", (*(volatile uint64_t *)SECOND_PAGE & SEGMENT_TYPE(1)) != 0);
    __asm__ volatile("movl %0, %%es; lgdt %1" : : "r"(SELECTOR_DATA), "m"(old));
}

/* ---- Where no memory is -----------------------------------------------------------------------------------
 */

static void hole_rows(void)
{
    space_reset();
    space_one.table[0] = HOLE | SPACE_FULL | PAGE_UNCACHED;
    space_load(&space_one);
    volatile uint8_t *hole = (volatile uint8_t *)SPACE_BASE;
    guest_equal("hole-read-1", hole[3], 0xff);
    guest_equal("hole-read-4", *(volatile uint32_t *)(hole + 4), 0xffffffff);
    guest_equal("hole-read-8", *(volatile uint64_t *)(hole + 8), ~0UL);
    *(volatile uint32_t *)(hole + 4) = 0;
    guest_equal("hole-written", *(volatile uint32_t *)(hole + 4), 0xffffffff);
    guest_equal("hole-flags", space_one.table[0] & SPACE_FLAGS, SPACE_FLAGS);
    space_one.table[0] = SPACE_A | SPACE_FULL;
    invlpg(space_page(0));
    space_frame("hole-to-memory", space_page(0), SPACE_A);
    space_one.table[0] = HOLE | SPACE_FULL;
    invlpg(space_page(0));
    guest_equal("memory-to-hole", *space_page(0), ~0UL);
}

/* A table there reads as all ones: reserved bits. */
static void hole_table_rows(void)
{
    for (unsigned level = 2; level <= 4; level++) {
        char name[32];
        space_reset();
        *space_entry(&space_one, level) = HOLE | SPACE_FULL;
        space_load(&space_one);
        format_text(name, sizeof(name), "hole-is-table-%u", level - 1);
        space_refuse(name, space_page(0), READ, PF_PRESENT | PF_RESERVED);
        *space_entry(&space_one, level) = 0;
        format_text(name, sizeof(name), "hole-no-table-%u", level - 1);
        space_load(&space_one);
        space_refuse(name, space_page(0), READ, 0);
    }
}

void guest_main(void)
{
    space_init();
    stack_rows();
    table_delivery_rows();
    space_init();
    hole_rows();
    if (guest_argument("table-holes"))
        hole_table_rows();
}
