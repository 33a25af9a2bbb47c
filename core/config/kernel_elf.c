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
    SHT_NULL = 0,
    SHT_NOBITS = 8,
    SHF_ALLOC = 2,
};

#define PROGRAM_HEADERS_MAX 128
#define SECTION_HEADERS_MAX 512

/* Where a class has its fields. Addresses, offsets and sizes are 4 or 8 bytes long, `word`. */
struct layout_of_class {
    uint16_t machine;
    uint8_t word;
    uint8_t header_size, entry, phoff, phentsize, phnum;
    uint8_t ph_size, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz;
    uint8_t shoff, shentsize, shnum, shstrndx;
    uint8_t sh_size, sh_type, sh_flags, sh_addr, sh_offset, sh_length;
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
    .shoff = 32,
    .shentsize = 46,
    .shnum = 48,
    .shstrndx = 50,
    .sh_size = 40,
    .sh_type = 4,
    .sh_flags = 8,
    .sh_addr = 12,
    .sh_offset = 16,
    .sh_length = 20,
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
    .shoff = 40,
    .shentsize = 58,
    .shnum = 60,
    .shstrndx = 62,
    .sh_size = 64,
    .sh_type = 4,
    .sh_flags = 8,
    .sh_addr = 16,
    .sh_offset = 24,
    .sh_length = 32,
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
    return true;
}

static bool find_loose_section(const struct kernel_file *file, const struct layout_of_class *class,
                               uint64_t header, struct kernel_section *section)
{
    const struct program program = {.class = class};
    const uint32_t type = kernel_file_u32(file, header + class->sh_type);

    *section = (struct kernel_section){
        .offset = read_word(file, &program, header + class->sh_offset),
        .size =
            type == SHT_NULL || type == SHT_NOBITS ? 0 : read_word(file, &program, header + class->sh_length),
        .address_at = class->sh_addr,
        .address_size = class->word,
    };
    return section->size && !(kernel_file_u32(file, header + class->sh_flags) & SHF_ALLOC) &&
           read_word(file, &program, header + class->sh_addr) == 0;
}

bool kernel_section_loose(const struct kernel_image *image, const void *data, unsigned index,
                          struct kernel_section *section)
{
    const struct kernel_file file = {data, image->file_size};

    return find_loose_section(&file, image->elf64 ? &class_64 : &class_32,
                              image->sections.offset + (uint64_t)index * image->sections.entry_size, section);
}

/* The section header table. A program need not have one, so that a bad one is as good as none. */
static void read_sections(const struct kernel_file *file, const struct program *program,
                          struct kernel_image *image)
{
    const struct layout_of_class *class = program->class;
    struct kernel_sections sections = {
        .offset = read_word(file, program, class->shoff),
        .count = kernel_file_u16(file, class->shnum),
        .entry_size = kernel_file_u16(file, class->shentsize),
        .names = kernel_file_u16(file, class->shstrndx),
    };

    if (sections.entry_size != class->sh_size || sections.count > SECTION_HEADERS_MAX ||
        sections.names >= sections.count ||
        !kernel_file_has(file, sections.offset, (uint64_t)sections.count * sections.entry_size))
        return;
    for (unsigned i = 0; i < sections.count; i++) {
        struct kernel_section section;
        bool loose =
            find_loose_section(file, class, sections.offset + (uint64_t)i * sections.entry_size, &section);

        if (section.size && !kernel_file_has(file, section.offset, section.size))
            return;
        if (loose)
            sections.room += align_up(section.size, KERNEL_SECTION_ALIGN);
    }
    image->sections = sections;
}

bool kernel_elf_read(const struct kernel_file *file, struct kernel_image *image, const char **why)
{
    struct program program;

    if (!read_header(file, &program, why) || !load_segments(file, &program, image, why))
        return false;
    image->elf64 = program.class == &class_64;
    if (image->kind != KERNEL_MULTIBOOT)
        read_sections(file, &program, image);
    return true;
}

bool kernel_elf_probe(const struct kernel_file *file, struct kernel_image *image, const char **why)
{
    return kernel_elf_read(file, image, why) && kernel_check_entry(image, why);
}

/*
 * vmlinux says nothing about its limits, so these are those of all Linux kernels with a 64-bit entry point,
 * and it stays where it is linked.
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
    return load_segments(file, &program, image, why) && kernel_check_entry(image, why);
}
