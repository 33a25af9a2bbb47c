// SPDX-License-Identifier: BSD-2-Clause
/*
 * Any bytes as a configuration. Besides what the sanitizers see: every slice and every place of an error lies
 * in the text, a partition is refused exactly when it has a reason, each error is reported and counted, and
 * what a good partition says is in range. The second half of the input (behind the first NUL) is the content
 * of each file.
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
    require(partition->module_count <= CONFIG_MODULES_MAX);
    for (unsigned i = 0; i < partition->module_count; i++)
        require_file(text, &partition->modules[i]);
    require(strnlen(partition->reason, CONFIG_REASON_MAX) < CONFIG_REASON_MAX);
    require(partition->refused == (partition->reason[0] != '\0'));
    if (partition->refused)
        return;
    require(partition->name.length && partition->name.length <= CONFIG_NAME_MAX);
    require(partition->memory >= CONFIG_MEMORY_MIN && is_aligned(partition->memory, CONFIG_MEMORY_UNIT));
    require(partition->vcpus == 1 && partition->kernel.path.length);
}

static void require_all(const struct config *config, struct slice text)
{
    require(config->partition_count <= CONFIG_PARTITIONS_MAX);
    require(config->console_port && config->console_baud && config->escape > 0 && config->escape < ' ');
    for (unsigned i = 0; i < config->partition_count; i++)
        require_partition(text, &config->partitions[i]);
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
    uint64_t memory = 0;

    require(config_parse(&config, input.text.start, input.text.length, core_policy_keys, &input.reporter) ==
            input.errors);
    require_all(&config, input.text);
    input.errors = 0;
    require(config_check(&config, &input.files, MIB(512), &input.reporter) == input.errors);
    require_all(&config, input.text);
    for (unsigned i = 0; i < config.partition_count; i++)
        memory += config.partitions[i].refused ? 0 : config.partitions[i].memory;
    require(memory <= MIB(512));
    return 0;
}
