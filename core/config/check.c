// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the text of a configuration cannot tell by itself: whether the files are there, are what it says, and
 * fit.
 */
#include "core/config/config.h"

#include "core/config/kernel.h"
#include "core/config/layout.h"
#include "core/config/report.h"
#include "core/config/values.h"
#include "lib/errors.h"

struct checker {
    struct config_files *files;
    struct config_report report;
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

/* A kernel that the loaders know, and its command line. */
static void check_boot(struct checker *checker, struct subject *subject)
{
    struct config_partition *partition = subject->partition;

    if (partition->boot_place.line == 0)
        return;
    if (partition->boot != CONFIG_BOOT_LINUX && partition->boot != CONFIG_BOOT_MULTIBOOT)
        config_report(&checker->report, partition, partition->boot_place,
                      "boot = %s: this version loads linux and multiboot",
                      config_boot_words[partition->boot]);
    else if (subject->image_known && partition->boot == CONFIG_BOOT_LINUX &&
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
    struct layout layout;
    int error;

    if (!subject->image_known || !subject->files_known || partition->memory == 0)
        return;
    error = layout_plan(&layout, &subject->image, layout_low_memory(partition->memory), subject->sizes,
                        subject->count);
    if (error == -ENOSPC)
        config_report(&checker->report, partition, partition->memory_place,
                      "memory = %s: kernel and files need %s", config_size_text(given, partition->memory),
                      config_size_text(needed, align_up(layout.needed, MIB(1))));
    else if (error)
        config_report(&checker->report, partition, partition->memory_place,
                      "memory = %s: kernel and files are too large for any memory",
                      config_size_text(given, partition->memory));
}

/* Takes the partition's memory from what is free. */
static void check_memory(struct checker *checker, struct config_partition *partition, uint64_t *available)
{
    char needs[CONFIG_SIZE_TEXT], rest[CONFIG_SIZE_TEXT];

    if (partition->memory > *available)
        config_report(&checker->report, partition, partition->memory_place,
                      "partition '%.*s' needs %s, only %s is free",
                      SLICE_ARGUMENTS(config_quotable(partition->name)),
                      config_size_text(needs, partition->memory), config_size_text(rest, *available));
    else if (!partition->refused)
        *available -= partition->memory;
}

unsigned config_check(struct config *config, struct config_files *files, uint64_t memory,
                      struct config_reporter *reporter)
{
    struct checker checker = {files, {reporter, 0}};
    bool memory_known = memory != 0;

    for (unsigned i = 0; i < config->partition_count; i++) {
        struct subject subject = {.partition = &config->partitions[i]};

        check_kernel(&checker, &subject);
        check_boot(&checker, &subject);
        check_files(&checker, &subject);
        check_layout(&checker, &subject);
        if (memory_known)
            check_memory(&checker, &config->partitions[i], &memory);
    }
    return checker.report.errors;
}
