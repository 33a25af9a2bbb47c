// SPDX-License-Identifier: BSD-2-Clause
/*
 * EPT violations. Fails when memory is not filled in, when a device register gets or gives another value than
 * the instruction says, when an operand is not what it is on a bus whose pages are memory, devices and
 * nothing in any order, when an instruction that cannot be carried out changes anything or does not say why,
 * or when an interrupt waits after the access that lets it through.
 */
#include "core/exits/exits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_machine.h"

/* SDM vol. 3, table "Exit qualification for EPT violations". */
#define READ       BIT(0)
#define WRITE      BIT(1)
#define FETCH      BIT(2)
#define LINEAR     BIT(7)
#define NOT_TABLES BIT(8)
#define USUAL      (LINEAR | NOT_TABLES)

#define LAPIC      0xfee00000
#define IOAPIC     0xfec00000 /* its first register, IOREGSEL, can be written and read, also by bytes */
#define HOLE       0xa0000

static uint64_t reg(unsigned number)
{
    return guest->vcpu.registers[number];
}

static void set_reg(unsigned number, uint64_t value)
{
    guest->vcpu.registers[number] = value;
}

static void violation_exit(uint64_t gpa, uint64_t qualification)
{
    run_to_exit(EXIT_REASON_EPT_VIOLATION, qualification, 0xbad);
    fake_set(VMCS_GUEST_RIP, GUEST_RIP);
    fake_set(VMCS_GUEST_PHYSICAL_ADDRESS, gpa);
    /* Such an exit saves RF = 1. */
    fake_set(VMCS_GUEST_RFLAGS, fake_get(VMCS_GUEST_RFLAGS) | X86_RFLAGS_RESERVED | X86_RFLAGS_RF);
}

static void violation(uint64_t gpa, uint64_t qualification)
{
    violation_exit(gpa, qualification);
    handle();
}

#define CODE(...)                                                                                            \
    do {                                                                                                     \
        const uint8_t bytes[] = {__VA_ARGS__};                                                               \
        guest_put(GUEST_RIP, bytes, sizeof(bytes));                                                          \
    } while (0)

/* Fails when an access to the partition's own memory is anything but let through. */
static void filled(void **state)
{
    (void)state;
    static const uint64_t kinds[] = {READ, WRITE, FETCH, READ | WRITE};

    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        start_32(state);
        take_snapshot(&snapshot);
        violation(0x300000, kinds[i] | USUAL);
        assert_done(GUEST_RIP);
        assert_int_equal(guest->vtlb.statistics.filled, 1);
        assert_int_equal(guest->vtlb.statistics.fills[1] + guest->vtlb.statistics.fills[0], 1);
        assert_int_equal(guest->mmio, 0);
        /* The guest's own page tables are memory as well. */
        violation(0x500000, READ | LINEAR);
        assert_done(GUEST_RIP);
        assert_int_equal(guest->vtlb.statistics.filled, 2);
    }

    /* What was being delivered is delivered again. */
    violation_exit(0x700000, READ | USUAL);
    fake_set(VMCS_IDT_VECTORING_INFO, 0x80000b0d);
    fake_set(VMCS_IDT_VECTORING_ERROR_CODE, 0x18);
    handle();
    assert_int_equal(next_injection(), 0x80000b0d);
    assert_int_equal(fake_get(VMCS_ENTRY_EXCEPTION_ERROR_CODE), 0x18);
}

/* An IRET that faulted here had unblocked NMIs. */
static void nmi_blocking(void **state)
{
    (void)state;
    violation(0x300000, READ | USUAL | BIT(12));
    assert_done(GUEST_RIP);
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPTIBILITY), BLOCKING_BY_NMI);
}

static void device_registers(void **state)
{
    (void)state;
    CODE(0xa1, 0x30, 0x00, 0xe0, 0xfe); /* mov eax, [version] */
    set_reg(VCPU_RAX, UINT64_MAX);
    violation(LAPIC + 0x30, READ | USUAL);
    assert_done(GUEST_RIP + 5);
    assert_int_equal(reg(VCPU_RAX), 0x01050014); /* EOI broadcasts can be suppressed, six LVT entries */
    assert_int_equal(fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_RF, 0);
    assert_int_equal(guest->mmio, 1);
    assert_true(guest->deadline_changed);

    CODE(0xc7, 0x05, 0x80, 0x00, 0xe0, 0xfe, 0x35, 0, 0, 0); /* mov dword [TPR], 35H */
    violation(LAPIC + 0x80, WRITE | USUAL);
    assert_done(GUEST_RIP + 10);
    assert_int_equal(partition->platform.lapics[0].page[LAPIC_TPR / 4], 0x35);

    CODE(0x81, 0x0d, 0x80, 0x00, 0xe0, 0xfe, 0x40, 0, 0, 0); /* or dword [TPR], 40H */
    violation(LAPIC + 0x80, READ | WRITE | USUAL);
    assert_done(GUEST_RIP + 10);
    assert_int_equal(partition->platform.lapics[0].page[LAPIC_TPR / 4], 0x75);

    CODE(0x8b, 0x24, 0x25, 0x80, 0x00, 0xe0, 0xfe); /* mov esp, [TPR]: RSP is the VMCS's */
    violation(LAPIC + 0x80, READ | USUAL);
    assert_done(GUEST_RIP + 7);
    assert_int_equal(fake_get(VMCS_GUEST_RSP), 0x75);

    CODE(0x83, 0x3d, 0x80, 0x00, 0xe0, 0xfe, 0x75); /* cmp dword [TPR], 75H: flags are the VMCS's */
    violation(LAPIC + 0x80, READ | USUAL);
    assert_done(GUEST_RIP + 7);
    assert_int_not_equal(fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_ZF, 0);

    CODE(0xa0, 0x00, 0x00, 0x0a, 0x00); /* mov al, [hole] */
    set_reg(VCPU_RAX, 0);
    violation(HOLE, READ | USUAL);
    assert_done(GUEST_RIP + 5);
    assert_int_equal(reg(VCPU_RAX), 0xff);
    CODE(0xa2, 0x00, 0x00, 0x0a, 0x00);
    violation(HOLE, WRITE | USUAL);
    assert_done(GUEST_RIP + 5);
}

/* The shadow of STI and a single step end with an emulated instruction as with any. */
static void instruction_ends(void **state)
{
    (void)state;
    CODE(0xa1, 0x30, 0x00, 0xe0, 0xfe);
    violation_exit(LAPIC + 0x30, READ | USUAL);
    fake_set(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF | X86_RFLAGS_TF | X86_RFLAGS_RF);
    handle();
    assert_done(GUEST_RIP + 5);
    assert_int_equal(fake_get(VMCS_GUEST_INTERRUPTIBILITY), 0);
    assert_int_equal(fake_get(VMCS_GUEST_PENDING_DEBUG), X86_DR6_BS);

    /* With BTF only branches trap. */
    start_32(state);
    CODE(0xa1, 0x30, 0x00, 0xe0, 0xfe);
    violation_exit(LAPIC + 0x30, READ | USUAL);
    fake_set(VMCS_GUEST_DEBUGCTL, DEBUGCTL_BTF);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_TF);
    handle();
    assert_int_equal(fake_get(VMCS_GUEST_PENDING_DEBUG), 0);
}

/* Fails when an interrupt stays behind after the EOI, or the lower TPR, that lets it through. */
static void interrupts_follow(void **state)
{
    (void)state;
    struct lapic *lapic = &partition->platform.lapics[0];
    const struct lapic_message first = {.vector = 0x55}, second = {.vector = 0x51};

    violation_exit(0x300000, READ | USUAL);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_IF);
    handle();
    assert_true(lapic_deliver(lapic, 1, &first));
    assert_int_equal(next_injection(), 0x80000055);
    assert_true(lapic_deliver(lapic, 1, &second));
    violation(0x500000, READ | USUAL);
    assert_int_equal(next_injection(), 0); /* of the same class: it waits for the EOI */
    CODE(0xa3, 0xb0, 0x00, 0xe0, 0xfe);    /* mov [EOI], eax */
    violation(LAPIC + 0xb0, WRITE | USUAL);
    assert_int_equal(next_injection(), 0x80000051);
    violation(LAPIC + 0xb0, WRITE | USUAL);
    assert_done(GUEST_RIP + 5);

    /* The threshold may not be above the TPR at an entry (SDM vol. 3, "VM-execution control fields"). */
    CODE(0xa3, 0x80, 0x00, 0xe0, 0xfe); /* mov [TPR], eax */
    set_reg(VCPU_RAX, 0x60);
    violation(LAPIC + 0x80, WRITE | USUAL);
    assert_true(lapic_deliver(lapic, 1, &first));
    assert_int_equal(next_injection(), 0);
    assert_int_equal(fake_get(VMCS_TPR_THRESHOLD), 5);
    set_reg(VCPU_RAX, 0x40);
    violation(LAPIC + 0x80, WRITE | USUAL);
    assert_int_equal(next_injection(), 0x80000055);
    assert_int_equal(fake_get(VMCS_TPR_THRESHOLD), 0);
}

static void repeated(void **state)
{
    (void)state;
    CODE(0xf3, 0xab); /* rep stosd */
    set_reg(VCPU_RDI, HOLE);
    set_reg(VCPU_RCX, 100);
    violation(HOLE, WRITE | USUAL);
    assert_done(GUEST_RIP);
    assert_int_equal(reg(VCPU_RCX), 36);
    assert_int_equal(reg(VCPU_RDI), HOLE + 64 * 4);
    violation(HOLE + 64 * 4, WRITE | USUAL);
    assert_done(GUEST_RIP + 2);
    assert_int_equal(reg(VCPU_RCX), 0);

    /* Single steps come between the elements. */
    set_reg(VCPU_RDI, HOLE);
    set_reg(VCPU_RCX, 5);
    violation_exit(HOLE, WRITE | USUAL);
    fake_set(VMCS_GUEST_RFLAGS, X86_RFLAGS_RESERVED | X86_RFLAGS_TF);
    handle();
    assert_int_equal(reg(VCPU_RCX), 4);
    assert_int_equal(fake_get(VMCS_GUEST_RIP), GUEST_RIP);
    assert_int_equal(fake_get(VMCS_GUEST_PENDING_DEBUG), X86_DR6_BS);
}

/* Faults of the instruction's other half, and of the instruction itself. */
static void faults(void **state)
{
    (void)state;
    CODE(0xff, 0x35, 0x30, 0x00, 0xe0, 0xfe); /* push dword [version] */
    violation_exit(LAPIC + 0x30, READ | USUAL);
    fake_set(VMCS_GUEST_SS_LIMIT, 0xfff);
    take_snapshot(&snapshot);
    handle();
    assert_fault(X86_VECTOR_SS, 0);

    start_64(state);
    CODE(0xa5); /* movsd */
    guest_unmap(0x5000);
    set_reg(VCPU_RSI, LAPIC + 0x30);
    set_reg(VCPU_RDI, 0x5000);
    violation_exit(LAPIC + 0x30, READ | USUAL);
    take_snapshot(&snapshot);
    handle();
    assert_fault(X86_VECTOR_PF, X86_PF_WRITE);
    assert_int_equal(fake_cpu.cr2, 0x5000);

    /* The code's own page, which only another processor could have taken away meanwhile. */
    start_64(state);
    guest_unmap(GUEST_RIP);
    violation_exit(LAPIC + 0x30, READ | USUAL);
    take_snapshot(&snapshot);
    handle();
    assert_fault(X86_VECTOR_PF, 0);
    assert_int_equal(fake_cpu.cr2, GUEST_RIP);
}

/* Fails when instructions are fetched from elsewhere than CS:EIP, which wraps at 4 GiB, or RIP in 64-bit
 * mode. */
static void fetched_where(void **state)
{
    (void)state;
    for (unsigned compatibility = 0; compatibility < 2; compatibility++) {
        if (compatibility)
            start_64(state);
        CODE(0xa1, 0x30, 0x00, 0xe0, 0xfe);
        violation_exit(LAPIC + 0x30, READ | USUAL);
        fake_set(VMCS_GUEST_CS_ACCESS_RIGHTS, 0xc09b);
        fake_set(VMCS_GUEST_CS_BASE, 0xffe00000);
        fake_set(VMCS_GUEST_RIP, GUEST_RIP + 0x200000);
        handle();
        assert_done(GUEST_RIP + 0x200000 + 5);
        assert_int_equal(reg(VCPU_RAX), 0x01050014);
    }

    start_64(state);
    CODE(0x8b, 0x03); /* mov eax, [rbx] */
    set_reg(VCPU_RBX, LAPIC + 0x30);
    violation_exit(LAPIC + 0x30, READ | USUAL);
    fake_set(VMCS_GUEST_CS_BASE, 0x1000);
    handle();
    assert_done(GUEST_RIP + 2);
    assert_int_equal(reg(VCPU_RAX), 0x01050014);
}

/* Nothing answers a fetch from a hole: all ones are no instruction. */
static void fetch_from_hole(void **state)
{
    (void)state;
    violation_exit(HOLE, FETCH | USUAL);
    fake_set(VMCS_GUEST_RIP, HOLE);
    take_snapshot(&snapshot);
    handle();
    assert_fault(X86_VECTOR_UD, 0);
    assert_int_equal(fake_get(VMCS_GUEST_RIP), HOLE);
}

/* ---- Operands anywhere -------------------------------------------------------------------------------- */

/* Three pages of linear addresses in a row, and what a test puts at them. */
#define LEFT   0x4000ULL
#define MIDDLE 0x5000ULL
#define RIGHT  0x6000ULL

/* The page at `address` (below 2 MiB) leads to `gpa`. */
static void guest_map(uint64_t address, uint64_t gpa)
{
    guest_put64(GUEST_TABLES + 0x3000 + address / PAGE_SIZE * 8, gpa | 0x7);
}

static uint32_t guest_word(uint64_t gpa)
{
    uint32_t word;

    guest_take(gpa, &word, sizeof(word));
    return word;
}

static uint8_t *selected(void)
{
    return &partition->platform.ioapic.select;
}

/* A 64-bit guest whose MIDDLE leads to `gpa`; RBX points to `address`. */
static void start_around(void **state, uint64_t gpa, uint64_t address)
{
    start_64(state);
    guest_map(MIDDLE, gpa);
    guest_put64(LEFT + 0xff8, 0x1122334455667788);
    guest_put64(RIGHT, 0x99aabbccddeeff00);
    *selected() = 0x12;
    set_reg(VCPU_RBX, address);
    set_reg(VCPU_RAX, 0xa4a3a2a1);
}

/*
 * Operands across a page's end, memory on one side and none on the other. Fails when a byte is not its
 * page's: memory's, a device's, or nothing's.
 */
static void crossing(void **state)
{
    static const struct {
        uint64_t gpa, address; /* what MIDDLE leads to, and the operand */
        uint32_t before;       /* the guest's view of it */
        uint64_t left, right;  /* memory after it was written */
        uint8_t selected;
    } cases[] = {
        {HOLE, MIDDLE - 2, 0xffff1122, 0xa2a1334455667788, 0x99aabbccddeeff00, 0x12},
        {HOLE, RIGHT - 3, 0x00ffffff, 0x1122334455667788, 0x99aabbccddeeffa4, 0x12},
        {IOAPIC, MIDDLE - 1, 0x00001211, 0xa122334455667788, 0x99aabbccddeeff00, 0xa2},
        {IOAPIC, MIDDLE - 3, 0x12112233, 0xa3a2a14455667788, 0x99aabbccddeeff00, 0xa4},
        {IOAPIC, RIGHT - 1, 0xeeff0000, 0x1122334455667788, 0x99aabbccdda4a3a2, 0x12},
    };

    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        const uint64_t exit = cases[n].gpa + (cases[n].address < MIDDLE ? 0 : cases[n].address - MIDDLE);
        uint64_t left, right;

        start_around(state, cases[n].gpa, cases[n].address);
        CODE(0x8b, 0x0b); /* mov ecx, [rbx] */
        violation(exit, READ | USUAL);
        assert_done(GUEST_RIP + 2);
        assert_int_equal(reg(VCPU_RCX), cases[n].before);

        CODE(0x89, 0x03); /* mov [rbx], eax */
        violation(exit, WRITE | USUAL);
        assert_done(GUEST_RIP + 2);
        guest_take(LEFT + 0xff8, &left, 8);
        guest_take(RIGHT, &right, 8);
        assert_int_equal(left, cases[n].left);
        assert_int_equal(right, cases[n].right);
        assert_int_equal(*selected(), cases[n].selected);
    }

    /* both at once: xadd [rbx], eax */
    start_around(state, IOAPIC, MIDDLE - 1);
    CODE(0x0f, 0xc1, 0x03);
    violation(IOAPIC, WRITE | USUAL);
    assert_done(GUEST_RIP + 3);
    assert_int_equal(reg(VCPU_RAX), 0x00001211);
    assert_int_equal(*selected(), 0xb4);
    assert_int_equal(guest_word(MIDDLE - 4), 0xb2223344);
}

/*
 * Outside 64-bit mode linear addresses end at 4 GiB, also in compatibility mode, whose tables go on. Fails
 * when an operand does not get from a hole to the first byte of memory.
 */
static void wraps(void **state)
{
    for (unsigned compatibility = 0; compatibility < 2; compatibility++) {
        if (compatibility)
            start_64(state);
        guest_put64(0, 0x99aabbccddeeff00);
        CODE(0xa1, 0xfe, 0x0f, 0x00, 0x00); /* mov eax, [0ffeh] */
        violation_exit(0xfffffffe, READ | USUAL);
        fake_set(VMCS_GUEST_CS_ACCESS_RIGHTS, 0xc09b);
        fake_set(VMCS_GUEST_DS_BASE, 0xfffff000);
        handle();
        assert_done(GUEST_RIP + 5);
        assert_int_equal(reg(VCPU_RAX), 0xff00ffff);
    }
}

/* Fails when one of two operands without memory is taken for the other, or for memory. */
static void two_devices(void **state)
{
    static const struct {
        uint64_t source, destination;
        bool below; /* CMPSB's first operand is the lower one */
        uint8_t selected;
    } cases[] = {{HOLE, IOAPIC, false, 0xff}, {IOAPIC, HOLE, true, 0x12}};

    for (unsigned n = 0; n < 2 * ARRAY_SIZE(cases); n++) {
        const uint64_t source = cases[n / 2].source, destination = cases[n / 2].destination;

        start_around(state, source, MIDDLE);
        guest_map(RIGHT, destination);
        set_reg(VCPU_RSI, MIDDLE);
        set_reg(VCPU_RDI, RIGHT);
        CODE(0xa6); /* cmpsb, which may exit with either */
        violation(n % 2 == 0 ? source : destination, READ | USUAL);
        assert_done(GUEST_RIP + 1);
        assert_int_equal((fake_get(VMCS_GUEST_RFLAGS) & X86_RFLAGS_CF) != 0, cases[n / 2].below);

        set_reg(VCPU_RSI, MIDDLE);
        set_reg(VCPU_RDI, RIGHT);
        CODE(0xa4); /* movsb, too */
        violation(n % 2 == 0 ? source : destination, (n % 2 == 0 ? READ : WRITE) | USUAL);
        assert_done(GUEST_RIP + 1);
        assert_int_equal(reg(VCPU_RSI), MIDDLE + 1);
        assert_int_equal(reg(VCPU_RDI), RIGHT + 1);
        assert_int_equal(*selected(), cases[n / 2].selected);
    }
}

/* PUSH and POP with the stack where no memory is. Fails when the value goes elsewhere. */
static void stack_in_device(void **state)
{
    start_around(state, IOAPIC, RIGHT);
    CODE(0xff, 0x33); /* push qword [rbx], of memory */
    violation_exit(IOAPIC, WRITE | USUAL);
    fake_set(VMCS_GUEST_RSP, MIDDLE + 8);
    guest_put64(RIGHT, 0x99aabbccddeeff34);
    handle();
    assert_done(GUEST_RIP + 2);
    assert_int_equal(fake_get(VMCS_GUEST_RSP), MIDDLE);
    assert_int_equal(*selected(), 0x34);

    CODE(0x8f, 0x03); /* pop qword [rbx] */
    violation(IOAPIC, READ | USUAL);
    assert_done(GUEST_RIP + 2);
    assert_int_equal(fake_get(VMCS_GUEST_RSP), MIDDLE + 8);
    assert_int_equal(guest_word(RIGHT), 0x34);

    guest_map(RIGHT, HOLE);
    CODE(0xff, 0x33); /* from the hole to the device, */
    violation(HOLE, READ | USUAL);
    assert_done(GUEST_RIP + 2);
    assert_int_equal(*selected(), 0xff);
    CODE(0x8f, 0x03); /* and the other way */
    violation(HOLE, WRITE | USUAL);
    assert_done(GUEST_RIP + 2);
    assert_int_equal(fake_get(VMCS_GUEST_RSP), MIDDLE + 8);
}

/* The code changed since the exit. Fails when anything but the instruction that is there now is done. */
static void another_instruction(void **state)
{
    start_around(state, IOAPIC, RIGHT + 4);
    CODE(0x03, 0x03); /* add eax, [rbx]: memory, elsewhere in its page than the exit's */
    set_reg(VCPU_RAX, 1);
    violation(IOAPIC, WRITE | USUAL);
    assert_done(GUEST_RIP + 2);
    assert_int_equal(reg(VCPU_RAX), 0x99aabbcd);
    assert_int_equal(*selected(), 0x12);

    CODE(0x88, 0x03); /* mov [rbx], al: a device, after a read of a hole */
    set_reg(VCPU_RBX, MIDDLE);
    violation(HOLE + 8, READ | USUAL);
    assert_done(GUEST_RIP + 2);
    assert_int_equal(*selected(), 0xcd);
}

/* Linear addresses of which one page's tables will not stand still. */
static enum stage_outcome restless_walk(const struct stage *stage, uint64_t address, unsigned access,
                                        struct translation *translation, struct stage_fault *fault)
{
    (void)stage;
    *fault = (struct stage_fault){.stage = stage, .address = address};
    if (align_down(address, PAGE_SIZE) == MIDDLE)
        return STAGE_AGAIN;
    return guest->lv1.walk.stage.walk(&guest->lv1.walk.stage, address, access, translation, fault);
}

/*
 * What the guest may not do in one page, known before anything is done in the other. Fails when half an
 * operand is written, or when the fault is of the wrong page or kind.
 */
static void half_allowed(void **state)
{
    static const struct stage restless = {.walk = restless_walk};

    for (unsigned n = 0; n < 2; n++) {
        start_around(state, HOLE, n == 0 ? MIDDLE - 2 : RIGHT - 2);
        guest_unmap(MIDDLE);
        CODE(0x01, 0x03); /* add [rbx], eax: its read needs the right to write */
        violation_exit(HOLE + 8, READ | USUAL);
        take_snapshot(&snapshot);
        handle();
        assert_fault(X86_VECTOR_PF, X86_PF_WRITE);
        assert_int_equal(fake_cpu.cr2, n == 0 ? MIDDLE : RIGHT - 2);

        start_around(state, HOLE, n == 0 ? MIDDLE - 2 : RIGHT - 2);
        guest_unmap(MIDDLE);
        CODE(0x89, 0x03); /* mov [rbx], eax */
        violation_exit(HOLE + 8, WRITE | USUAL);
        take_snapshot(&snapshot);
        handle();
        assert_fault(X86_VECTOR_PF, X86_PF_WRITE);
        assert_int_equal(guest_word(MIDDLE - 4), 0x11223344);
        assert_int_equal(guest_word(RIGHT), 0xddeeff00);

        start_around(state, HOLE, n == 0 ? MIDDLE - 2 : RIGHT - 2);
        guest->lv1.linear.stages[0] = &restless;
        CODE(0x89, 0x03);
        violation(HOLE + 8, WRITE | USUAL);
        assert_done(GUEST_RIP); /* once more */
        assert_int_equal(guest_word(MIDDLE - 4), 0x11223344);
        assert_int_equal(guest_word(RIGHT), 0xddeeff00);
    }
}

static void crashes(void **state)
{
    (void)state;
    violation(HOLE, READ | LINEAR);
    assert_crashed("page tables at 0xa0000, where it has no memory");

    start_32(state);
    violation_exit(HOLE, WRITE | USUAL);
    fake_set(VMCS_IDT_VECTORING_INFO, 0x80000030);
    handle();
    assert_crashed("event delivery through 0xa0000, where it has no memory");

    start_32(state);
    CODE(0x0f, 0x28, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55); /* movaps xmm0, [eax] */
    violation(HOLE, READ | USUAL);
    assert_crashed("access to 0xa0000 by an instruction that Umbra does not emulate, at rip 0x100000 (first "
                   "bytes 0f28001122334455)");
    assert_int_equal(guest->mmio, 0);

    start_32(state);
    violation_exit(HOLE, READ | USUAL);
    fake_set(VMCS_GUEST_RIP, HOLE + 8);
    handle();
    assert_crashed("outside its memory, at rip 0xa0008");

    start_32(state);
    run_to_exit(EXIT_REASON_EPT_MISCONFIGURATION, 0, 0);
    fake_set(VMCS_GUEST_PHYSICAL_ADDRESS, 0x1234000);
    handle();
    assert_crashed("EPT misconfiguration at 0x1234000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(filled, start_32),
        cmocka_unit_test_setup(nmi_blocking, start_32),
        cmocka_unit_test_setup(device_registers, start_32),
        cmocka_unit_test_setup(instruction_ends, start_32),
        cmocka_unit_test_setup(interrupts_follow, start_32),
        cmocka_unit_test_setup(repeated, start_32),
        cmocka_unit_test_setup(faults, start_32),
        cmocka_unit_test_setup(fetched_where, start_32),
        cmocka_unit_test_setup(fetch_from_hole, start_32),
        cmocka_unit_test(crossing),
        cmocka_unit_test_setup(wraps, start_32),
        cmocka_unit_test(two_devices),
        cmocka_unit_test(stack_in_device),
        cmocka_unit_test(another_instruction),
        cmocka_unit_test(half_allowed),
        cmocka_unit_test_setup(crashes, start_32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
