// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the text of a configuration cannot tell by itself: whether the files are there, are what it says, and
 * fit; and whether the partitions fit together into the machine.
 */
#include "core/config/config.h"

#include "core/config/kernel.h"
#include "core/config/layout.h"
#include "core/config/report.h"
#include "core/config/values.h"
#include "lib/errors.h"

struct checker {
    struct config *config;
    struct config_files *files;
    struct config_report report;
    uint64_t memory; /* bytes that nobody has yet, */
    bool memory_known;
    unsigned processors; /* 0: not known */
    uint64_t settled;    /* partitions that have what they asked for: slot n is bit n */
};

/* A partition under check. */
struct subject {
    struct config_partition *partition;
    struct kernel_image image;
    bool image_known;
    uint64_t sizes[CONFIG_MODULES_MAX]; /* of the files that come with the kernel */
    unsigned count;
    bool files_known;
};

static bool find_file(struct checker *checker, struct subject *subject, const struct config_file *file,
                      const void **data, size_t *size)
{
    int error = checker->files->find(checker->files, file->path, data, size);
    struct slice path = config_quotable(file->path);

    if (error == -ENOENT)
        config_report(&checker->report, subject->partition, file->place, "%.*s: no such file",
                      SLICE_ARGUMENTS(path));
    else if (error)
        config_report(&checker->report, subject->partition, file->place, "%.*s: cannot be read (error %d)",
                      SLICE_ARGUMENTS(path), -error);
    return error == 0;
}

static void check_kernel(struct checker *checker, struct subject *subject)
{
    const struct config_partition *partition = subject->partition;
    struct slice path = config_quotable(partition->kernel.path);
    const void *data;
    size_t size;
    const char *why;

    if (path.length == 0 || !find_file(checker, subject, &partition->kernel, &data, &size) ||
        partition->boot_place.line == 0)
        return;
    if (kernel_probe(partition->boot, data, size, &subject->image, &why))
        config_report(&checker->report, subject->partition, partition->kernel.place, "%.*s: %s",
                      SLICE_ARGUMENTS(path), why);
    else
        subject->image_known = true;
}

/* The kernel's command line is no longer than it takes. */
static void check_command_line(struct checker *checker, struct subject *subject)
{
    struct config_partition *partition = subject->partition;

    if (subject->image_known && partition->boot == CONFIG_BOOT_LINUX &&
        partition->cmdline.length > subject->image.cmdline_max)
        config_report(&checker->report, partition, partition->cmdline_place,
                      "the command line has %zu characters, and this kernel takes %u",
                      partition->cmdline.length, subject->image.cmdline_max);
}

/* Looks up the files beside the kernel. Only those that belong to this kind of kernel are placed in memory.
 */
static void check_files(struct checker *checker, struct subject *subject)
{
    const struct config_partition *partition = subject->partition;
    bool has_initrd = partition->initrd.path.length != 0;
    const void *data;
    size_t size = 0;

    subject->files_known = partition->boot == CONFIG_BOOT_LINUX ? partition->module_count == 0 : !has_initrd;
    if (has_initrd) {
        subject->files_known &= find_file(checker, subject, &partition->initrd, &data, &size);
        subject->sizes[0] = size;
        subject->count = 1;
    }
    for (unsigned i = 0; i < partition->module_count; i++) {
        subject->files_known &= find_file(checker, subject, &partition->modules[i], &data, &size);
        subject->sizes[i] = size;
        subject->count = i + 1;
    }
}

/* Whether kernel and files fit into the partition's memory. */
static void check_layout(struct checker *checker, struct subject *subject)
{
    struct config_partition *partition = subject->partition;
    char given[CONFIG_SIZE_TEXT], needed[CONFIG_SIZE_TEXT];
    struct layout_range map[LAYOUT_MAP_MAX];
    struct layout layout;
    uint64_t start = partition->memory_fixed ? partition->memory_base : 0;
    int error;

    if (!subject->image_known || !subject->files_known || partition->memory == 0)
        return;
    error = layout_plan(&layout, &subject->image, map, layout_map(partition, map), subject->sizes,
                        subject->count);
    if (error == -ENOSPC)
        config_report(&checker->report, partition, partition->memory_place,
                      "memory = %s: kernel and files need %s", config_size_text(given, partition->memory),
                      config_size_text(needed, align_up(layout.end - start, MIB(1))));
    else if (error == -ENXIO)
        config_report(&checker->report, partition, partition->memory_place,
                      "memory = %s: the kernel has to be at 0x%llx, and no memory is there",
                      config_size_text(given, partition->memory), (unsigned long long)layout.missing);
    else if (error)
        config_report(&checker->report, partition, partition->memory_place,
                      "memory = %s: kernel and files are too large for any memory",
                      config_size_text(given, partition->memory));
}

/* ---- Partitions beside each other
 * ------------------------------------------------------------------------------- */

/* The first partition at or after slot `from` that has what it asked for; CONFIG_PARTITIONS_MAX: no more. */
static unsigned next_settled(const struct checker *checker, unsigned from)
{
    while (from < CONFIG_PARTITIONS_MAX && !(checker->settled & BIT(from)))
        from++;
    return from;
}

/* The processors of `set` that two partitions cannot both have: one has them to himself. */
static void check_processors_beside(struct checker *checker, struct config_partition *partition,
                                    const struct config_partition *other)
{
    const struct config_cpus *cpus = &partition->cpus;
    uint64_t both = cpus->set & other->cpus.set;
    struct slice name = config_quotable(partition->name), other_name = config_quotable(other->name);
    const char *format;

    if (both == 0 || (!cpus->dedicated && !other->cpus.dedicated))
        return;
    if (!cpus->dedicated)
        format = "partition '%.*s' cannot share processor %d, which '%.*s' has to itself";
    else if (!other->cpus.dedicated)
        format = "partition '%.*s' cannot have processor %d to itself: '%.*s' shares it";
    else
        format = "partition '%.*s' cannot have processor %d, which '%.*s' has to itself";
    config_report(&checker->report, partition, cpus->place, format, SLICE_ARGUMENTS(name),
                  __builtin_ctzll(both), SLICE_ARGUMENTS(other_name));
}

static void check_processors(struct checker *checker, struct config_partition *partition)
{
    const struct config_cpus *cpus = &partition->cpus;
    uint64_t absent = checker->processors > 0 && checker->processors < CONFIG_PROCESSORS_MAX
                          ? cpus->set & ~(BIT(checker->processors) - 1)
                          : 0;

    if (absent)
        config_report(&checker->report, partition, cpus->place,
                      "cpus: there is no processor %d; the machine has %u, and the first is 0",
                      __builtin_ctzll(absent), checker->processors);
    if (cpus->dedicated && (cpus->set & BIT(0)))
        config_report(&checker->report, partition, cpus->place,
                      "cpus: processor 0 is the housekeeper's, and can only be shared");
    for (unsigned i = next_settled(checker, 0); i < CONFIG_PARTITIONS_MAX; i = next_settled(checker, i + 1))
        check_processors_beside(checker, partition, &checker->config->partitions[i]);
}

/* The region of this name in a partition that is settled, and whose it is; NULL if nobody has it. */
static const struct config_shared *find_region(const struct checker *checker, struct slice name,
                                               const struct config_partition **owner)
{
    for (unsigned i = next_settled(checker, 0); i < CONFIG_PARTITIONS_MAX; i = next_settled(checker, i + 1)) {
        *owner = &checker->config->partitions[i];
        for (unsigned j = 0; j < (*owner)->shared_count; j++)
            if (slice_equal((*owner)->shared[j].name, name))
                return &(*owner)->shared[j];
    }
    return NULL;
}

static const char *region_text(char text[CONFIG_SIZE_TEXT], uint64_t size)
{
    return size ? config_size_text(text, size) : "a doorbell";
}

/* All who name a region agree on its size. */
static void check_regions(struct checker *checker, struct config_partition *partition)
{
    char here[CONFIG_SIZE_TEXT], there[CONFIG_SIZE_TEXT];

    for (unsigned i = 0; i < partition->shared_count; i++) {
        const struct config_shared *shared = &partition->shared[i];
        const struct config_partition *owner;
        const struct config_shared *known = find_region(checker, shared->name, &owner);

        if (known && known->size != shared->size)
            config_report(&checker->report, partition, shared->place,
                          "'%.*s' is %s here, but %s in partition '%.*s'",
                          SLICE_ARGUMENTS(config_quotable(shared->name)), region_text(here, shared->size),
                          region_text(there, known->size), SLICE_ARGUMENTS(config_quotable(owner->name)));
    }
}

/* Memory at a fixed place is nobody else's. */
static void check_fixed_memory(struct checker *checker, struct config_partition *partition)
{
    uint64_t end = partition->memory_base + partition->memory;

    if (!partition->memory_fixed)
        return;
    for (unsigned i = next_settled(checker, 0); i < CONFIG_PARTITIONS_MAX; i = next_settled(checker, i + 1)) {
        const struct config_partition *other = &checker->config->partitions[i];

        if (other->memory_fixed && other->memory_base < end &&
            partition->memory_base < other->memory_base + other->memory)
            config_report(&checker->report, partition, partition->memory_place,
                          "partition '%.*s' cannot have memory at 0x%llx, where partition '%.*s' has some",
                          SLICE_ARGUMENTS(config_quotable(partition->name)),
                          (unsigned long long)max_u64(partition->memory_base, other->memory_base),
                          SLICE_ARGUMENTS(config_quotable(other->name)));
    }
}

/* All that the machine must have for a partition: its memory, and regions that it is the first to name. */
static uint64_t memory_needed(const struct checker *checker, const struct config_partition *partition)
{
    uint64_t bytes = partition->memory;
    bool large = partition->memory_fixed && __builtin_add_overflow(bytes, CONFIG_MEMORY_LOW, &bytes);

    for (unsigned i = 0; i < partition->shared_count; i++) {
        const struct config_partition *owner;

        if (!find_region(checker, partition->shared[i].name, &owner))
            large |= __builtin_add_overflow(bytes, partition->shared[i].size, &bytes);
    }
    return large ? align_down(UINT64_MAX, PAGE_SIZE) : bytes;
}

/* Takes the partition's memory from what is free. */
static void check_memory(struct checker *checker, struct config_partition *partition)
{
    char needs[CONFIG_SIZE_TEXT], rest[CONFIG_SIZE_TEXT];
    uint64_t needed = memory_needed(checker, partition);

    if (partition->memory == 0)
        return;
    if (needed > checker->memory)
        config_report(&checker->report, partition, partition->memory_place,
                      "partition '%.*s' needs %s, only %s is free",
                      SLICE_ARGUMENTS(config_quotable(partition->name)), config_size_text(needs, needed),
                      config_size_text(rest, checker->memory));
    else if (!partition->refused)
        checker->memory -= needed;
}

static void check_partition(struct checker *checker, unsigned slot)
{
    struct config_partition *partition = &checker->config->partitions[slot];
    struct subject subject = {.partition = partition};

    check_kernel(checker, &subject);
    check_command_line(checker, &subject);
    check_files(checker, &subject);
    check_layout(checker, &subject);
    check_processors(checker, partition);
    check_regions(checker, partition);
    check_fixed_memory(checker, partition);
    if (checker->memory_known)
        check_memory(checker, partition);
    if (!partition->refused)
        checker->settled |= BIT(slot);
}

unsigned config_check(struct config *config, struct config_files *files, uint64_t memory, unsigned processors,
                      struct config_reporter *reporter)
{
    struct checker checker = {config, files, {reporter, 0}, memory, memory != 0, processors, 0};

    for (unsigned i = config_next(config, 0); i < CONFIG_PARTITIONS_MAX; i = config_next(config, i + 1))
        check_partition(&checker, i);
    return checker.report.errors;
}

unsigned config_check_partition(struct config *config, unsigned index, struct config_files *files,
                                uint64_t memory, unsigned processors, struct config_reporter *reporter)
{
    struct checker checker = {config, files, {reporter, 0}, memory, memory != 0, processors, 0};

    for (unsigned i = config_next(config, 0); i < CONFIG_PARTITIONS_MAX; i = config_next(config, i + 1))
        if (i != index && !config->partitions[i].refused)
            checker.settled |= BIT(i);
    check_partition(&checker, index);
    return checker.report.errors;
}
