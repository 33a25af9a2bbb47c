// SPDX-License-Identifier: BSD-2-Clause
#include "boot/multiboot2.h"

#include "lib/errors.h"

enum {
    TAG_END = 0,
    TAG_COMMAND_LINE = 1,
    TAG_LOADER_NAME = 2,
    TAG_MODULE = 3,
    TAG_MEMORY_MAP = 6,
    TAG_FRAMEBUFFER = 8,
    TAG_RSDP_OLD = 14,
    TAG_RSDP_NEW = 15,
};

struct tag {
    uint32_t type;
    uint32_t size;
};

struct tag_module {
    struct tag header;
    uint32_t start;
    uint32_t end;
    char string[];
};

struct tag_memory_map {
    struct tag header;
    uint32_t entry_size;
    uint32_t entry_version;
};

struct tag_memory_entry {
    uint64_t base;
    uint64_t size;
    uint32_t type;
    uint32_t reserved;
};

struct tag_framebuffer {
    struct tag header;
    uint64_t base;
    uint32_t pitch;
    uint32_t width;
    uint32_t height;
    uint8_t bits_per_pixel;
    uint8_t kind;
} __packed;

static struct slice slice_skip(struct slice s, size_t bytes)
{
    return (struct slice){s.start + bytes, s.length - bytes};
}

static bool slice_drop_prefix(struct slice *s, const char *prefix)
{
    size_t length = strlen(prefix);

    if (s->length < length || memcmp(s->start, prefix, length) != 0)
        return false;
    *s = slice_skip(*s, length);
    return true;
}

/* GRUB's loop over a stick names a file (hd0,msdos1)/umbra/FILE, the configuration names it FILE. */
static struct slice module_name(struct slice name)
{
    if (name.length > 0 && name.start[0] == '(') {
        size_t i = 0;
        while (i < name.length && name.start[i] != ')')
            i++;
        if (i < name.length)
            name = slice_skip(name, i + 1);
    }
    if (!slice_drop_prefix(&name, "/umbra/") && !slice_drop_prefix(&name, "./"))
        slice_drop_prefix(&name, "/");
    return name;
}

static void add_module(struct boot_information *information, const struct tag_module *tag)
{
    if (information->module_count == BOOT_MODULES_MAX) {
        information->modules_ignored++;
        return;
    }

    struct boot_module *module = &information->modules[information->module_count++];
    struct slice name = {tag->string, strnlen(tag->string, tag->header.size - sizeof(*tag))};
    struct slice arguments = name;
    size_t word = 0;

    while (word < name.length && name.start[word] != ' ')
        word++;
    arguments = slice_skip(name, word);
    while (arguments.length > 0 && arguments.start[0] == ' ')
        arguments = slice_skip(arguments, 1);
    name.length = word;
    *module = (struct boot_module){
        .base = HPA(tag->start),
        .size = tag->end - tag->start,
        .name = module_name(name),
        .arguments = arguments,
    };
}

static void add_memory(struct boot_information *information, const struct tag_memory_map *tag)
{
    const char *entries = (const char *)(tag + 1);
    size_t bytes = tag->header.size - sizeof(*tag);

    if (tag->entry_size < sizeof(struct tag_memory_entry))
        return;
    for (size_t offset = 0; offset + tag->entry_size <= bytes; offset += tag->entry_size) {
        const struct tag_memory_entry *entry = (const void *)(entries + offset);
        if (information->memory_count == BOOT_MEMORY_RANGES_MAX) {
            information->memory_ignored++;
            continue;
        }
        information->memory[information->memory_count++] =
            (struct boot_memory_range){HPA(entry->base), entry->size, entry->type};
    }
}

static void read_tag(struct boot_information *information, const struct tag *tag)
{
    size_t content = tag->size - sizeof(*tag);
    const char *text = (const char *)(tag + 1);

    switch (tag->type) {
    case TAG_COMMAND_LINE:
        information->command_line = (struct slice){text, strnlen(text, content)};
        break;
    case TAG_LOADER_NAME:
        information->loader_name = (struct slice){text, strnlen(text, content)};
        break;
    case TAG_MODULE:
        if (tag->size > sizeof(struct tag_module))
            add_module(information, (const struct tag_module *)tag);
        break;
    case TAG_MEMORY_MAP:
        if (tag->size >= sizeof(struct tag_memory_map))
            add_memory(information, (const struct tag_memory_map *)tag);
        break;
    case TAG_FRAMEBUFFER:
        if (tag->size >= sizeof(struct tag_framebuffer)) {
            const struct tag_framebuffer *f = (const void *)tag;
            information->has_framebuffer = true;
            information->framebuffer = (struct boot_framebuffer){
                .base = HPA(f->base),
                .pitch = f->pitch,
                .width = f->width,
                .height = f->height,
                .bits_per_pixel = f->bits_per_pixel,
                .kind = f->kind,
            };
        }
        break;
    case TAG_RSDP_OLD:
        if (information->rsdp == NULL)
            information->rsdp = text;
        break;
    case TAG_RSDP_NEW:
        information->rsdp = text;
        break;
    default:
        break;
    }
}

int multiboot2_parse(struct boot_information *information, const void *tags, hpa_t physical)
{
    const uint32_t *total = tags;

    *information = (struct boot_information){.base = physical, .size = *total};
    for (uint64_t offset = 8; offset + sizeof(struct tag) <= information->size;) {
        const struct tag *tag = (const void *)((const char *)tags + offset);
        if (tag->type == TAG_END)
            return 0;
        if (tag->size < sizeof(*tag) || tag->size > information->size - offset)
            return -EINVAL;
        read_tag(information, tag);
        offset = align_up(offset + tag->size, 8);
    }
    return -EINVAL;
}

const struct boot_module *boot_module_find(const struct boot_information *information, struct slice name)
{
    if (!slice_drop_prefix(&name, "./"))
        slice_drop_prefix(&name, "/");
    for (unsigned i = 0; i < information->module_count; i++)
        if (slice_equal(information->modules[i].name, name))
            return &information->modules[i];
    return NULL;
}
