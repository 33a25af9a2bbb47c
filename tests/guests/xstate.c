// SPDX-License-Identifier: BSD-2-Clause
/*
 * The extended state (SDM vol. 1, chapter 13): what XSAVE, XSAVEOPT, XSAVEC and XSAVES write is what XRSTOR
 * and XRSTORS load again, for every set of components in use, in the format that CPUID describes, and nothing
 * else is written.
 *
 * A set of components gets a pattern by XRSTOR from an image in the standard format; after a save, an
 * initialisation and a restore, XSAVE tells what the registers hold.
 */
#include "lib/printf.h"
#include "lib/string.h"
#include "tests/guests/lib/guest.h"

#define IMAGE_SIZE     4096 /* the standard format of what is KNOWN takes 2,688 bytes */
#define HEADER         512
#define FORMAT_COMPACT BIT(63)
#define KNOWN          0xe7ULL /* x87, SSE, AVX, opmasks, ZMM_Hi256, Hi16_ZMM */
#define UNTOUCHED      0xa5

struct __aligned(64) image
{
    uint8_t bytes[IMAGE_SIZE];
};

enum form { FORM_XSAVE, FORM_XSAVEOPT, FORM_XSAVEC, FORM_XSAVES, FORMS };

static const char *const form_names[] = {"xsave", "xsaveopt", "xsavec", "xsaves"};

static struct image pattern, saved, seen;
static uint64_t components; /* that the processor has, of those known here */
static struct {
    unsigned offset, size;
    bool aligned;
} places[64];

static uint64_t *header(struct image *image)
{
    return (uint64_t *)(image->bytes + HEADER);
}

static void set_xcr0(uint64_t value)
{
    __asm__ volatile("xsetbv" : : "a"((uint32_t)value), "d"(0), "c"(0) : "memory");
}

static void save(enum form form, struct image *image, uint64_t mask)
{
    switch (form) {
    case FORM_XSAVE:
        __asm__ volatile("xsave64 (%0)" : : "r"(image), "a"((uint32_t)mask), "d"(0) : "memory");
        break;
    case FORM_XSAVEOPT:
        __asm__ volatile("xsaveopt64 (%0)" : : "r"(image), "a"((uint32_t)mask), "d"(0) : "memory");
        break;
    case FORM_XSAVEC:
        __asm__ volatile("xsavec64 (%0)" : : "r"(image), "a"((uint32_t)mask), "d"(0) : "memory");
        break;
    case FORM_XSAVES:
        __asm__ volatile("xsaves64 (%0)" : : "r"(image), "a"((uint32_t)mask), "d"(0) : "memory");
        break;
    case FORMS:
        break;
    }
}

/* Returns the vector of what the instruction raised, NO_VECTOR if nothing. */
static int restore(enum form form, const struct image *image, uint64_t mask)
{
    if (form == FORM_XSAVES)
        TRY("xrstors64 (%[image])", : : [image] "r"(image), "a"((uint32_t)mask), "d"(0) : "memory");
    else
        TRY("xrstor64 (%[image])", : : [image] "r"(image), "a"((uint32_t)mask), "d"(0) : "memory");
    return guest_fault.vector;
}

static void initialise(void)
{
    static const struct image nothing = {.bytes = {[24] = 0x80, [25] = 0x1f}}; /* MXCSR */

    restore(FORM_XSAVE, &nothing, components);
}

/* Where component `i` lies in an image with XCOMP_BV `compact` (SDM vol. 1, 13.4.3). */
static unsigned place(unsigned i, uint64_t compact)
{
    unsigned offset = HEADER + 64;

    if (i < 2 || (compact & FORMAT_COMPACT) == 0)
        return i < 2 ? i * 160 : places[i].offset;
    for (unsigned j = 2; j < i; j++) {
        if ((compact & BIT(j)) == 0)
            continue;
        if (places[j].aligned)
            offset = (offset + 63) & ~63U;
        offset += places[j].size;
    }
    return places[i].aligned ? (offset + 63) & ~63U : offset;
}

static void look_at_components(void)
{
    components = cpuid(0xd, 0).eax & KNOWN;
    places[0].size = 24;
    places[1].size = 256;
    for (unsigned i = 2; i < 64; i++) {
        if ((components & BIT(i)) == 0)
            continue;
        places[i].size = cpuid(0xd, i).eax;
        places[i].offset = cpuid(0xd, i).ebx;
        places[i].aligned = (cpuid(0xd, i).ecx & 2) != 0;
    }
}

/* An image in the standard format in which these components have values of their own. */
static void make_pattern(uint64_t set)
{
    static const uint8_t x87[24] = {0x7f, 0x02, 0, 0x38, 0xff};

    memset(&pattern, 0, sizeof(pattern));
    pattern.bytes[24] = 0x80;
    pattern.bytes[25] = 0x1f;
    for (unsigned i = 1; i < 64; i++) {
        if ((set & BIT(i)) != 0)
            for (unsigned j = 0; j < places[i].size; j++)
                pattern.bytes[place(i, 0) + j] = (uint8_t)(i * 31 + j * 7 + 1);
    }
    if ((set & BIT(0)) != 0)
        memcpy(pattern.bytes, x87, sizeof(x87));
    *header(&pattern) = set;
}

static bool same_component(const struct image *a, uint64_t compact, unsigned i)
{
    /* Of x87: control, status, tags. */
    return memcmp(a->bytes + place(i, compact), pattern.bytes + place(i, 0), i == 0 ? 5 : places[i].size) ==
           0;
}

static bool untouched(const struct image *image, unsigned from, unsigned to)
{
    while (from < to && image->bytes[from] == UNTOUCHED)
        from++;
    return from >= to;
}

/* Saves what the components of `set` hold, as far as `mask` asks for it, and restores it. Returns what is
 * wrong, or NULL. */
static const char *round_trip(enum form form, uint64_t set, uint64_t mask)
{
    const uint64_t compact = form >= FORM_XSAVEC ? FORMAT_COMPACT | mask : 0;
    unsigned end = HEADER + 64;

    make_pattern(set);
    memset(&saved, UNTOUCHED, sizeof(saved));
    memset(header(&saved), 0, 64);
    initialise();
    restore(FORM_XSAVE, &pattern, components);
    save(form, &saved, mask);
    if (header(&saved)[0] != (set & mask))
        return "XSTATE_BV";
    if (header(&saved)[1] != compact)
        return "XCOMP_BV";
    for (unsigned i = 2; i < 8; i++)
        if (header(&saved)[i] != 0)
            return "the header's reserved bytes are written";
    for (unsigned i = 0; i < 64; i++) {
        if ((mask & BIT(i)) == 0)
            continue;
        if (end < place(i, compact) + places[i].size)
            end = place(i, compact) + places[i].size;
        if ((set & BIT(i)) != 0 && !same_component(&saved, compact, i))
            return "a component's image";
    }
    if (!untouched(&saved, end, IMAGE_SIZE))
        return "bytes behind the image are written";
    initialise();
    if (restore(form, &saved, mask) != NO_VECTOR)
        return "the image is refused";
    memset(&seen, 0, sizeof(seen));
    save(FORM_XSAVE, &seen, components);
    if (header(&seen)[0] != (set & mask))
        return "other components are in use";
    for (unsigned i = 0; i < 64; i++)
        if ((set & mask & BIT(i)) != 0 && !same_component(&seen, 0, i))
            return "a component's registers";
    return NULL;
}

static void row(enum form form, uint64_t set, uint64_t mask)
{
    const char *wrong = round_trip(form, set, mask);
    char name[32];

    format_text(name, sizeof(name), "%s-%02lx-of-%02lx", form_names[form], set, mask);
    guest_check(wrong == NULL, name, "%s", wrong);
    initialise();
}

/*
 * CPUID tells the size of the compacted format beside that of its components. Where the two disagree the
 * format is not what the SDM says (docs/notes/bochs.md), and software leaves it alone.
 */
static bool compacts(void)
{
    return (cpuid(0xd, 1).eax & BIT(1)) != 0 && cpuid(0xd, 1).ebx == place(63, FORMAT_COMPACT | components);
}

static bool has(enum form form)
{
    static const uint32_t bits[] = {[FORM_XSAVEOPT] = BIT(0), [FORM_XSAVEC] = BIT(1), [FORM_XSAVES] = BIT(3)};

    return form == FORM_XSAVE ||
           ((cpuid(0xd, 1).eax & bits[form]) != 0 && (form == FORM_XSAVEOPT || compacts()));
}

void guest_main(void)
{
    guest_value("xsave", (cpuid(1, 0).ecx & BIT(26)) != 0);
    if ((cpuid(1, 0).ecx & BIT(26)) == 0)
        return;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    look_at_components();
    set_xcr0(components);
    guest_value("components", components);
    guest_value("compacted-format", compacts());
    for (enum form form = 0; form < FORMS; form++) {
        if (!has(form))
            continue;
        for (uint64_t set = 0; set <= components; set++)
            if ((set & ~components) == 0)
                row(form, set, components);
        for (unsigned i = 0; i < 8; i++)
            if ((components & BIT(i)) != 0)
                row(form, components, BIT(i));
    }
    set_xcr0(1);
}
