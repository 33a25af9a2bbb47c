// SPDX-License-Identifier: BSD-2-Clause
#include "tests/guests/lib/guest.h"

#include "lib/printf.h"
#include "lib/string.h"

void guest_start(uint32_t magic, uint32_t information);

/* ---- Console ------------------------------------------------------------------------------------------ */

#define COM1           0x3f8
#define PORT_DEBUG     0xe9
#define PORT_SHUTDOWN  0x8900 /* Bochs */
#define PORT_POWER     0x604  /* PM1a control of a partition: SLP_TYP 0 is S5 */
#define POWER_SLP_EN   BIT(13)
#define LINE_THR_EMPTY BIT(5)

static bool quiet;

static void put_character(char c)
{
    if (quiet) {
        outb(PORT_DEBUG, (uint8_t)c);
        return;
    }
    while ((inb(COM1 + 5) & LINE_THR_EMPTY) == 0)
        pause();
    outb(COM1, (uint8_t)c);
}

static void console_write(struct print_sink *sink, const char *text, size_t length)
{
    (void)sink;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n')
            put_character('\r');
        put_character(text[i]);
    }
}

static void console_init(void)
{
    static struct print_sink sink = {.write = console_write};

    outb(COM1 + 1, 0);
    outb(COM1 + 3, 0x80);
    outb(COM1 + 0, 1); /* 115200 baud */
    outb(COM1 + 1, 0);
    outb(COM1 + 3, 0x03); /* 8N1 */
    outb(COM1 + 2, 0x07); /* FIFOs on, empty */
    outb(COM1 + 4, 0x03);
    print_sink_register(&sink);
}

void guest_quiet(bool on)
{
    quiet = on;
}

/* ---- Rows --------------------------------------------------------------------------------------------- */

static unsigned passed, failed;

void guest_check(bool good, const char *name, const char *seen, ...)
{
    va_list arguments;

    if (good) {
        passed++;
        print("PASS %s\n", name);
        return;
    }
    failed++;
    print("FAIL %s: ", name);
    va_start(arguments, seen);
    print_va(seen, arguments);
    va_end(arguments);
    print("\n");
}

void guest_equal(const char *name, uint64_t seen, uint64_t expected)
{
    guest_check(seen == expected, name, "%#lx, not %#lx", seen, expected);
}

void guest_value(const char *name, uint64_t value)
{
    print("VALUE %s %#lx\n", name, value);
}

void guest_differs(const char *name, uint64_t value)
{
    print("DIFF %s %#lx\n", name, value);
}

void guest_bench(const char *name, uint64_t *samples, size_t count, uint64_t overhead)
{
    /* Insertion into a sorted run: nearly all samples are equal. */
    for (size_t i = 1; i < count; i++) {
        uint64_t sample = samples[i];
        size_t j = i;
        for (; j > 0 && samples[j - 1] > sample; j--)
            samples[j] = samples[j - 1];
        samples[j] = sample;
    }
    print("BENCH %s %ld %ld %ld %lu\n", name, (long)(samples[count / 2] - overhead),
          (long)(samples[0] - overhead), (long)(samples[count - 1] - overhead), count);
}

/* ---- Descriptors -------------------------------------------------------------------------------------- */

#define CODE (SEGMENT_CODE_DATA | SEGMENT_PRESENT | SEGMENT_PAGES | SEGMENT_TYPE(11) | 0xf00000000ffffULL)
#define DATA                                                                                                 \
    (SEGMENT_CODE_DATA | SEGMENT_PRESENT | SEGMENT_PAGES | SEGMENT_BIG | SEGMENT_TYPE(3) | 0xf00000000ffffULL)

uint64_t guest_gdt[GDT_SLOTS] __aligned(16) = {
    [SELECTOR_CODE / 8] = CODE | SEGMENT_LONG,
    [SELECTOR_DATA / 8] = DATA,
    [SELECTOR_USER_CODE32 / 8] = CODE | SEGMENT_BIG | SEGMENT_DPL(3),
    [SELECTOR_USER_DATA / 8] = DATA | SEGMENT_DPL(3),
    [SELECTOR_USER_CODE / 8] = CODE | SEGMENT_LONG | SEGMENT_DPL(3),
    [SELECTOR_USER_DATA2 / 8] = DATA | SEGMENT_DPL(3),
    [SELECTOR_CODE32 / 8] = CODE | SEGMENT_BIG,
};

extern const struct descriptor_pointer guest_gdt_pointer;
const struct descriptor_pointer guest_gdt_pointer = {sizeof(guest_gdt) - 1, (uint64_t)guest_gdt};

struct gate guest_idt[256] __aligned(16);
struct tss guest_tss __aligned(4096);

extern const char guest_stubs[];
extern char guest_stack_top[];

#define STACK_SIZE 4096
static char stacks[5][STACK_SIZE] __aligned(4096); /* RSP0 and IST 1–4 */
static char user_stack[STACK_SIZE] __aligned(4096);

void guest_segment(uint16_t selector, uint32_t base, uint32_t limit, uint64_t attributes)
{
    guest_gdt[selector / 8] = (limit & 0xffff) | (uint64_t)(limit >> 16 & 0xf) << 48 |
                              (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(base >> 24) << 56 | attributes;
}

void guest_gate_reset(unsigned vector)
{
    uint64_t stub = (uint64_t)guest_stubs + 16UL * vector;
    uint8_t ist = vector == VECTOR_DF ? 1 : vector == VECTOR_NMI ? 2 : vector == 18 ? 3 : 0;

    guest_idt[vector] = (struct gate){
        .offset_low = (uint16_t)stub,
        .selector = SELECTOR_CODE,
        .ist = ist,
        .attributes = GATE_INTERRUPT | (vector == VECTOR_LEAVE ? GATE_DPL3 : 0),
        .offset_middle = (uint16_t)(stub >> 16),
        .offset_high = (uint32_t)(stub >> 32),
    };
}

void guest_idt_load(uint16_t limit)
{
    struct descriptor_pointer pointer = {limit, (uint64_t)guest_idt};

    __asm__ volatile("lidt %0" : : "m"(pointer));
}

void guest_tss_load(uint32_t limit)
{
    guest_segment(SELECTOR_TSS, (uint32_t)(uint64_t)&guest_tss, limit, SEGMENT_PRESENT | SEGMENT_TYPE(9));
    guest_gdt[SELECTOR_TSS / 8 + 1] = 0;
    __asm__ volatile("ltr %w0" : : "r"(SELECTOR_TSS) : "memory");
}

static void descriptors_init(void)
{
    for (unsigned vector = 0; vector < 256; vector++)
        guest_gate_reset(vector);
    guest_idt_load(sizeof(guest_idt) - 1);

    guest_tss.rsp[0] = (uint64_t)stacks[0] + STACK_SIZE;
    for (unsigned i = 1; i < ARRAY_SIZE(stacks); i++)
        guest_tss.ist[i - 1] = (uint64_t)stacks[i] + STACK_SIZE;
    guest_tss.io_map = offsetof(struct tss, io_bits);
    memset(guest_tss.io_bits, 0xff, sizeof(guest_tss.io_bits));
    guest_tss_load(sizeof(guest_tss) - 1);
}

/* ---- Memory ------------------------------------------------------------------------------------------- */

volatile uint64_t guest_window[512] __aligned(4096);
static volatile uint64_t window_directory[512] __aligned(4096);

volatile void *guest_map(unsigned page, uint64_t entry)
{
    volatile void *address = (void *)(GUEST_WINDOW + page * PAGE_SIZE);

    guest_window[page] = entry;
    invlpg(address);
    return address;
}

static void window_init(void)
{
    window_directory[0] = (uint64_t)guest_window | PAGE_PRESENT | PAGE_WRITE | PAGE_USER;
    guest_pointers[2] = (uint64_t)window_directory | PAGE_PRESENT | PAGE_WRITE | PAGE_USER;
    write_cr3(read_cr3());
}

/* ---- Exceptions and interrupts ------------------------------------------------------------------------ */

void guest_dispatch(struct guest_frame *frame);

volatile struct guest_fault guest_fault;
__typeof__(guest_try) guest_try;
guest_handler *guest_handlers[256];

void guest_dispatch(struct guest_frame *frame)
{
    if (guest_handlers[frame->vector] != NULL) {
        guest_handlers[frame->vector](frame);
        return;
    }
    if (guest_try.resume == 0) {
        guest_check(false, "unexpected", "vector %lu error %#lx at %#lx cr2 %#lx", frame->vector,
                    frame->error, frame->rip, read_cr2());
        guest_finish();
    }

    guest_fault.vector = (int)frame->vector;
    guest_fault.error = frame->error;
    guest_fault.cr2 = read_cr2();
    guest_fault.dr6 = read_dr6();
    guest_fault.offset = (int64_t)(frame->rip - guest_try.start);
    guest_fault.frame_address = (uint64_t)frame;
    memcpy((void *)(uintptr_t)&guest_fault.frame, frame, sizeof(*frame));

    frame->rip = guest_try.resume;
    frame->cs = SELECTOR_CODE;
    frame->rflags = RFLAGS_FIXED;
    frame->rsp = guest_try.rsp;
    frame->ss = SELECTOR_DATA;
    guest_try.resume = 0;
}

void guest_expect_vector(const char *name, int vector, uint64_t error)
{
    guest_check(guest_fault.vector == vector && (vector == NO_VECTOR || guest_fault.error == error), name,
                "vector %d error %#lx cr2 %#lx, not %d error %#lx", guest_fault.vector, guest_fault.error,
                guest_fault.cr2, vector, error);
}

void guest_expect(const char *name, int vector, uint64_t error, int64_t offset)
{
    if (guest_fault.vector == vector && vector != NO_VECTOR && guest_fault.error == error &&
        guest_fault.offset != offset) {
        guest_check(false, name, "vector %d at offset %ld, not %ld", vector, guest_fault.offset, offset);
        return;
    }
    guest_expect_vector(name, vector, error);
}

void guest_run(uint16_t code_segment, const char *entry, uint64_t rdi, uint64_t rsi, uint64_t flags)
{
    bool user = (code_segment & 3) == 3;
    struct {
        uint64_t rip, cs, rflags, rsp, ss;
    } volatile frame = {
        .rip = user ? guest_user(entry) : (uint64_t)entry,
        .cs = code_segment,
        .rflags = RFLAGS_FIXED | flags,
        .rsp = user ? guest_user(user_stack + STACK_SIZE) : (uint64_t)user_stack + STACK_SIZE,
        .ss = user ? SELECTOR_USER_DATA : SELECTOR_DATA,
    };
    uint64_t data = frame.ss;
    uint64_t stack = (uint64_t)&frame;

    TRY("movl %%edx, %%ds; movl %%edx, %%es; movq %%rax, %%rsp; iretq",
        : "+D"(rdi), "+S"(rsi), "+a"(stack), "+d"(data)
        :
        : "memory", "cc", "rcx", "rbx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15");
    guest_fault.offset = (int64_t)(guest_fault.frame.rip - frame.rip);
}

/* ---- The guest itself --------------------------------------------------------------------------------- */

struct multiboot_information {
    uint32_t flags;
    uint32_t memory_lower; /* KiB */
    uint32_t memory_upper; /* KiB from 1 MiB on */
    uint32_t boot_device;
    uint32_t command_line;
};

#define MULTIBOOT_LOADED       0x2badb002
#define MULTIBOOT_MEMORY       BIT(0)
#define MULTIBOOT_COMMAND_LINE BIT(2)

static char command_line[256];
static uint64_t memory_size;

bool guest_argument(const char *word)
{
    size_t length = strlen(word);

    for (const char *s = command_line; *s != '\0';) {
        while (*s == ' ')
            s++;
        const char *end = s;
        while (*end != '\0' && *end != ' ')
            end++;
        if ((size_t)(end - s) == length && memcmp(s, word, length) == 0)
            return true;
        s = end;
    }
    return false;
}

const char *guest_argument_value(const char *key)
{
    size_t length = strlen(key);

    for (const char *s = command_line; *s != '\0'; s++)
        if ((s == command_line || s[-1] == ' ') && strlen(s) >= length && memcmp(s, key, length) == 0)
            return s + length;
    return NULL;
}

uint64_t guest_memory_size(void)
{
    return memory_size;
}

bool guest_under_umbra(void)
{
    struct cpuid leaf = cpuid(0x40000000, 0);

    return (cpuid(1, 0).ecx & BIT(31)) != 0 && memcmp(&leaf.ebx, "Umbra", 5) == 0;
}

void guest_finish(void)
{
    cli();
    quiet = false;
    print("DONE %u %u\n", passed, failed);
    while ((inb(COM1 + 5) & BIT(6)) == 0)
        pause();
    for (const char *s = "Shutdown"; *s != '\0'; s++)
        outb(PORT_SHUTDOWN, (uint8_t)*s);
    outw(PORT_POWER, POWER_SLP_EN);
    for (;;)
        __asm__ volatile("cli; hlt");
}

void guest_start(uint32_t magic, uint32_t information)
{
    const struct multiboot_information *mbi = (const void *)(uintptr_t)information;

    console_init();
    descriptors_init();
    window_init();
    outb(0x21, 0xff); /* both 8259s: all lines masked */
    outb(0xa1, 0xff);
    guest_check(magic == MULTIBOOT_LOADED, "multiboot", "magic %#x", magic);
    if ((mbi->flags & MULTIBOOT_MEMORY) != 0)
        memory_size = KIB(mbi->memory_upper);
    if ((mbi->flags & MULTIBOOT_COMMAND_LINE) != 0) {
        const char *from = (const char *)(uintptr_t)mbi->command_line;
        memcpy(command_line, from, strnlen(from, sizeof(command_line) - 1));
    }
    if (MIB(1) + memory_size >= GUEST_PLAYGROUND + GUEST_PLAYGROUND_SIZE)
        memset((void *)GUEST_PLAYGROUND, 0, GUEST_PLAYGROUND_SIZE);
    guest_main();
    guest_finish();
}
