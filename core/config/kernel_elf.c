// SPDX-License-Identifier: BSD-2-Clause
/*
 * ELF programs (System V ABI, chapters 4 and 5), of 32 and 64 bits: what PT_LOAD headers say is loaded at its
 * physical address.
 */
#include "core/config/kernel_formats.h"

enum {
    EI_CLASS = 4,
    EI_DATA = 5,
    EI_VERSION = 6,
    E_TYPE = 16,
    E_MACHINE = 18,
    IDENT_SIZE = 20, /* as far as both classes are the same */
};

enum {
    CLASS_32 = 1,
    CLASS_64 = 2,
    DATA_LITTLE_ENDIAN = 1,
    VERSION_CURRENT = 1,
    TYPE_EXECUTABLE = 2,
    TYPE_SHARED = 3,
    MACHINE_386 = 3,
    MACHINE_X86_64 = 62,
    PT_LOAD = 1,
    PF_X = 1,
};

#define PROGRAM_HEADERS_MAX 128

/* Where a class has its fields. Addresses, offsets and sizes are 4 or 8 bytes long, `word`. */
struct layout_of_class {
    uint16_t machine;
    uint8_t word;
    uint8_t header_size, entry, phoff, phentsize, phnum;
    uint8_t ph_size, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz;
};

static const struct layout_of_class class_32 = {
    .machine = MACHINE_386,
    .word = 4,
    .header_size = 52,
    .entry = 24,
    .phoff = 28,
    .phentsize = 42,
    .phnum = 44,
    .ph_size = 32,
    .p_flags = 24,
    .p_offset = 4,
    .p_vaddr = 8,
    .p_paddr = 12,
    .p_filesz = 16,
    .p_memsz = 20,
};

static const struct layout_of_class class_64 = {
    .machine = MACHINE_X86_64,
    .word = 8,
    .header_size = 64,
    .entry = 24,
    .phoff = 32,
    .phentsize = 54,
    .phnum = 56,
    .ph_size = 56,
    .p_flags = 4,
    .p_offset = 8,
    .p_vaddr = 16,
    .p_paddr = 24,
    .p_filesz = 32,
    .p_memsz = 40,
};

/* The program headers, which lie in the file. */
struct program {
    const struct layout_of_class *class;
    uint64_t headers;
    unsigned count;
    uint64_t entry;
};

static uint64_t read_word(const struct kernel_file *file, const struct program *program, uint64_t offset)
{
    return program->class->word == 8 ? kernel_file_u64(file, offset) : kernel_file_u32(file, offset);
}

bool kernel_elf_recognise(const struct kernel_file *file)
{
    return file->size >= IDENT_SIZE && memcmp(file->data, "\177ELF", 4) == 0;
}

static bool read_header(const struct kernel_file *file, struct program *program, const char **why)
{
    uint16_t type = kernel_file_u16(file, E_TYPE);
    bool wide = file->data[EI_CLASS] == CLASS_64;

    program->class = wide ? &class_64 : &class_32;
    if ((!wide && file->data[EI_CLASS] != CLASS_32) || file->data[EI_DATA] != DATA_LITTLE_ENDIAN ||
        file->data[EI_VERSION] != VERSION_CURRENT ||
        kernel_file_u16(file, E_MACHINE) != program->class->machine) {
        *why = "is an ELF file, but not for x86";
        return false;
    }
    if (type != TYPE_EXECUTABLE && type != TYPE_SHARED) {
        *why = "is an ELF file, but no program that is linked";
        return false;
    }
    if (!kernel_file_has(file, 0, program->class->header_size)) {
        *why = "is cut short: its ELF header is not whole";
        return false;
    }
    program->entry = read_word(file, program, program->class->entry);
    program->headers = read_word(file, program, program->class->phoff);
    program->count = kernel_file_u16(file, program->class->phnum);
    if (kernel_file_u16(file, program->class->phentsize) != program->class->ph_size ||
        program->count > PROGRAM_HEADERS_MAX) {
        *why = "has damaged ELF program headers";
        return false;
    }
    if (!kernel_file_has(file, program->headers, (uint64_t)program->count * program->class->ph_size)) {
        *why = "is cut short: its ELF program headers are not in it";
        return false;
    }
    return true;
}

/*
 * A kernel for the upper half is linked where it is not loaded, and its entry point may be given as either:
 * as a virtual address it lies in code; as a physical one it need not be translated.
 */
static bool translate_entry(const struct kernel_file *file, const struct program *program, uint64_t header,
                            uint64_t *entry)
{
    uint64_t virtual_start = read_word(file, program, header + program->class->p_vaddr);
    uint64_t memory_size = read_word(file, program, header + program->class->p_memsz);

    if (!(kernel_file_u32(file, header + program->class->p_flags) & PF_X) || program->entry < virtual_start ||
        program->entry - virtual_start >= memory_size)
        return false;
    *entry = program->entry - virtual_start + read_word(file, program, header + program->class->p_paddr);
    return true;
}

static bool add_segment(const struct kernel_file *file, const struct program *program, uint64_t header,
                        struct kernel_image *image, const char **why)
{
    struct kernel_segment segment = {
        .offset = read_word(file, program, header + program->class->p_offset),
        .file_size = read_word(file, program, header + program->class->p_filesz),
        .address = read_word(file, program, header + program->class->p_paddr),
        .memory_size = read_word(file, program, header + program->class->p_memsz),
    };

    if (segment.file_size > segment.memory_size) {
        *why = "has damaged ELF program headers";
        return false;
    }
    if (!kernel_file_has(file, segment.offset, segment.file_size)) {
        *why = "is cut short: an ELF segment is not in it";
        return false;
    }
    return kernel_segment_add(image, &segment, why);
}

/* Whether the entry point is a byte that is loaded. */
static bool entry_is_loaded(const struct kernel_image *image)
{
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct kernel_segment *segment = &image->segments[i];

        if (image->entry >= segment->address && image->entry - segment->address < segment->memory_size)
            return true;
    }
    return false;
}

static bool load_segments(const struct kernel_file *file, const struct program *program,
                          struct kernel_image *image, const char **why)
{
    bool translated = false;

    image->entry = program->entry;
    for (unsigned i = 0; i < program->count; i++) {
        uint64_t header = program->headers + (uint64_t)i * program->class->ph_size;

        if (kernel_file_u32(file, header) != PT_LOAD)
            continue;
        if (!add_segment(file, program, header, image, why))
            return false;
        if (!translated)
            translated = translate_entry(file, program, header, &image->entry);
    }
    if (!entry_is_loaded(image)) {
        *why = "has an ELF entry point outside its segments";
        return false;
    }
    return true;
}

bool kernel_elf_probe(const struct kernel_file *file, struct kernel_image *image, const char **why)
{
    struct program program;

    return read_header(file, &program, why) && load_segments(file, &program, image, why);
}

/* vmlinux says nothing about its limits, so these are those of all Linux kernels with a 64-bit entry point.
 */
bool kernel_elf_probe_linux(const struct kernel_file *file, struct kernel_image *image, const char **why)
{
    struct program program;

    if (!read_header(file, &program, why))
        return false;
    if (program.class != &class_64) {
        *why = "is a 32-bit ELF file, no Linux kernel for x86-64";
        return false;
    }
    image->boot_version = 0x020f;
    image->cmdline_max = 2047;
    image->initrd_max = 0x7fffffff;
    return load_segments(file, &program, image, why);
}
