// SPDX-License-Identifier: BSD-2-Clause
/*
 * Any bytes as a configuration. Besides what the sanitizers see: every slice and every place of an error lies
 * in the text, a partition is refused exactly when it has a reason, each error is reported and counted, what
 * a good partition says is in range, and good partitions do not collide. What follows the first NUL is the
 * content of each file; besides, its first line is a value for config_set, the rest a section to create.
 */
#include "core/config/config.h"

#include <stdlib.h>
#include <string.h>

#include "core/policy_keys.h"
#include "lib/errors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

struct input {
    struct config_reporter reporter;
    struct config_files files;
    struct slice text;
    struct slice file;
    unsigned errors;
};

/* The place is a byte of the text, or the end of one of its lines. */
static void require_place(struct slice text, struct config_place place)
{
    const char *line = text.start, *end = text.start + text.length;
    const char *next;

    require(place.line >= 1 && place.column >= 1);
    for (unsigned i = 1; i < place.line; i++) {
        next = memchr(line, '\n', (size_t)(end - line));
        require(next);
        line = next + 1;
    }
    next = line < end ? memchr(line, '\n', (size_t)(end - line)) : NULL;
    require(place.column <= (size_t)((next ? next : end) - line) + 1);
}

static void error(struct config_reporter *reporter, struct config_place place, const char *message)
{
    struct input *input = container_of(reporter, struct input, reporter);

    input->errors++;
    require(message[0] && strlen(message) < CONFIG_REASON_MAX);
    require_place(input->text, place);
}

static int find(struct config_files *files, struct slice path, const void **data, size_t *size)
{
    struct input *input = container_of(files, struct input, files);

    require(path.length);
    *data = input->file.start;
    *size = input->file.length;
    return path.start[0] == '-' ? -ENOENT : 0;
}

static void require_inside(struct slice text, struct slice part)
{
    require(part.length == 0 ||
            (part.start >= text.start && part.start + part.length <= text.start + text.length));
}

static void require_file(struct slice text, const struct config_file *file)
{
    require_inside(text, file->path);
    require_inside(text, file->arguments);
    if (file->path.length)
        require_place(text, file->place);
}

static void require_partition(struct slice text, const struct config_partition *partition)
{
    require_inside(text, partition->name);
    require_inside(text, partition->cmdline);
    require_place(text, partition->place);
    require_file(text, &partition->kernel);
    require_file(text, &partition->initrd);
    require(partition->in_use && partition->module_count <= CONFIG_MODULES_MAX);
    require(partition->shared_count <= CONFIG_SHARED_MAX);
    for (unsigned i = 0; i < partition->shared_count; i++)
        require_inside(text, partition->shared[i].name);
    for (unsigned i = 0; i < partition->module_count; i++)
        require_file(text, &partition->modules[i]);
    require(strnlen(partition->reason, CONFIG_REASON_MAX) < CONFIG_REASON_MAX);
    require(partition->refused == (partition->reason[0] != '\0'));
    if (partition->refused)
        return;
    require(partition->name.length && partition->name.length <= CONFIG_NAME_MAX);
    require(partition->memory >= CONFIG_MEMORY_MIN && is_aligned(partition->memory, CONFIG_MEMORY_UNIT));
    if (partition->memory_fixed)
        require(partition->memory_base >= MIB(1) && is_aligned(partition->memory_base, CONFIG_MEMORY_UNIT) &&
                partition->memory <= BIT(CONFIG_ADDRESS_BITS) - partition->memory_base);
    require(partition->vcpus >= 1 && partition->vcpus <= CONFIG_VCPUS_MAX && partition->kernel.path.length);
    require(partition->cpus.weight >= 1 && partition->cpus.weight <= CONFIG_WEIGHT_MAX);
    require(partition->cpus.cap <= 100 && partition->timeout <= CONFIG_TIMEOUT_MAX);
    require(partition->paging <= CONFIG_PAGING_VTLB_BASE);
    if (partition->paging != CONFIG_PAGING_AUTO)
        require_place(text, partition->paging_place);
    if (partition->cpus.dedicated)
        require(__builtin_popcountll(partition->cpus.set) == (int)partition->vcpus);
    for (unsigned i = 0; i < partition->shared_count; i++)
        require(partition->shared[i].name.length && partition->shared[i].name.length <= CONFIG_NAME_MAX &&
                (partition->shared[i].size & (partition->shared[i].size - 1)) == 0);
}

/* What two good partitions cannot both have. */
static void require_apart(const struct config_partition *a, const struct config_partition *b)
{
    if (a->refused || b->refused)
        return;
    if (a->cpus.dedicated || b->cpus.dedicated)
        require((a->cpus.set & b->cpus.set) == 0);
    if (a->memory_fixed && b->memory_fixed)
        require(a->memory_base + a->memory <= b->memory_base || b->memory_base + b->memory <= a->memory_base);
    for (unsigned i = 0; i < a->shared_count; i++)
        for (unsigned j = 0; j < b->shared_count; j++)
            if (slice_equal(a->shared[i].name, b->shared[j].name))
                require(a->shared[i].size == b->shared[j].size);
}

static void require_all(const struct config *config, struct slice text)
{
    require(config->partition_count <= CONFIG_PARTITIONS_MAX);
    require(config->console_port && config->console_baud && config->escape > 0 && config->escape < ' ');
    require_inside(text, config->nmi);
    require(config->nmi.length == 0 || config_find(config, config->nmi) < CONFIG_PARTITIONS_MAX);
    for (unsigned i = 0; i < CONFIG_PARTITIONS_MAX; i++) {
        require(config->partitions[i].in_use == (i < config->partition_count));
        if (config->partitions[i].in_use)
            require_partition(text, &config->partitions[i]);
    }
}

static void require_all_apart(const struct config *config)
{
    for (unsigned i = config_next(config, 0); i < CONFIG_PARTITIONS_MAX; i = config_next(config, i + 1)) {
        require(config->partitions[i].refused || !config->partitions[i].cpus.dedicated ||
                !(config->partitions[i].cpus.set & (BIT(0) | ~(BIT(8) - 1))));
        for (unsigned j = config_next(config, i + 1); j < CONFIG_PARTITIONS_MAX;
             j = config_next(config, j + 1))
            require_apart(&config->partitions[i], &config->partitions[j]);
    }
}

/* A change to `value` is made whole and in range, or not at all. */
static void change(struct config_partition *partition, struct slice value)
{
    static const char *const keys[] = {"weight", "cap", "on-stop", "timeout", "memory"};
    static struct config_partition before;
    char reason[CONFIG_REASON_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        before = *partition;
        if (config_set(partition, slice_of(keys[i]), value, reason)) {
            require(reason[0] && strnlen(reason, sizeof(reason)) < sizeof(reason));
            require(memcmp(partition, &before, sizeof(before)) == 0);
        }
    }
    require(partition->cpus.weight >= 1 && partition->cpus.weight <= CONFIG_WEIGHT_MAX);
    require(partition->cpus.cap <= 100 && partition->timeout <= CONFIG_TIMEOUT_MAX);
}

/* The partition of section `text` comes and goes; the others stay as they are. */
static void create_and_remove(struct config *config, struct input *input, struct slice text)
{
    static struct config before;
    unsigned slot = CONFIG_PARTITIONS_MAX;
    int error;

    if (config->partition_count)
        config_remove(config, config->partition_count / 2);
    before = *config;
    input->text = text;
    input->errors = 0;
    error = config_parse_section(config, (struct slice){NULL, 0}, text.start, text.length, core_policy_keys,
                                 &input->reporter, &slot);
    require((error != 0) == (input->errors != 0));
    if (error) {
        require(memcmp(config, &before, sizeof(before)) == 0);
        return;
    }
    require(!before.partitions[slot].in_use && config->partition_count == before.partition_count + 1);
    require_partition(input->text, &config->partitions[slot]);
    require(config_check_partition(config, slot, &input->files, MIB(512), 8, &input->reporter) ==
            input->errors);
    require_partition(input->text, &config->partitions[slot]);
    require_all_apart(config);

    config_remove(config, slot);
    require(memcmp(config, &before, sizeof(before)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config;
    size_t text = strnlen((const char *)data, size);
    size_t file = min_u64(text + 1, size);
    struct input input = {
        .reporter = {error},
        .files = {find},
        .text = {(const char *)data, text},
        .file = {(const char *)data + file, size - file},
    };
    const char *line_end = memchr(input.file.start, '\n', input.file.length);
    size_t line = line_end ? (size_t)(line_end - input.file.start) : input.file.length;
    uint64_t memory = 0;

    require(config_parse(&config, input.text.start, input.text.length, core_policy_keys, &input.reporter) ==
            input.errors);
    require_all(&config, input.text);
    input.errors = 0;
    require(config_check(&config, &input.files, MIB(512), 8, &input.reporter) == input.errors);
    require_all(&config, input.text);
    require_all_apart(&config);
    for (unsigned i = 0; i < config.partition_count; i++)
        memory += config.partitions[i].refused ? 0 : config.partitions[i].memory;
    require(memory <= MIB(512));
    if (config.partition_count)
        change(&config.partitions[0], (struct slice){input.file.start, line});
    line = min_u64(line + 1, input.file.length);
    create_and_remove(&config, &input, (struct slice){input.file.start + line, input.file.length - line});
    return 0;
}
