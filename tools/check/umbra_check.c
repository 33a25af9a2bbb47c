// SPDX-License-Identifier: BSD-2-Clause
/*
 * umbra-check FILE.conf [--memory SIZE] [--processors N] [--files]
 *
 * Checks a configuration by the hypervisor's own parser. The files that it names are looked for from the
 * current directory. Every error goes to standard output as `file:line:column: message`, in the order of the
 * text.
 *
 * --memory SIZE  what the machine has for partitions, as in a configuration (4G); without it that is not
 * checked
 * --processors N how many processors the machine has; without it that is not checked
 * --files        if all is good, prints the files that the configuration names, one a line, as it names them
 *
 * Exit status: 0 good, 1 errors, 2 wrong usage or an unreadable configuration.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config/config.h"
#include "core/config/values.h"
#include "core/policy_keys.h"

enum status {
    STATUS_GOOD,
    STATUS_ERRORS,
    STATUS_USAGE,
};

struct options {
    const char *configuration;
    uint64_t memory;     /* 0: not known */
    uint64_t processors; /* 0: not known */
    bool list_files;
};

struct finding {
    struct config_place place;
    unsigned order;
    char *message;
};

struct findings {
    struct config_reporter reporter;
    struct finding *all;
    unsigned count;
};

static __noreturn void fail(const char *what, const char *reason)
{
    fprintf(stderr, "umbra-check: %s: %s\n", what, reason);
    exit(STATUS_USAGE);
}

/* Maps a file for as long as this program runs. 0 or a negative errno. */
static int map_file(const char *path, const void **data, size_t *size)
{
    int file = open(path, O_RDONLY);
    struct stat status;
    int error = 0;

    if (file < 0)
        return -errno;
    if (fstat(file, &status) < 0) {
        error = -errno;
    } else if (!S_ISREG(status.st_mode)) {
        error = S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
    } else if (status.st_size == 0) {
        *data = "";
        *size = 0;
    } else {
        void *mapped = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);

        if (mapped == MAP_FAILED)
            error = -errno;
        *data = mapped;
        *size = (size_t)status.st_size;
    }
    close(file);
    return error;
}

static int find_file(struct config_files *files __unused, struct slice path, const void **data, size_t *size)
{
    char name[PATH_MAX];

    if (path.length >= sizeof(name))
        return -ENAMETOOLONG;
    memcpy(name, path.start, path.length);
    name[path.length] = '\0';
    return map_file(name, data, size);
}

static void keep_finding(struct config_reporter *reporter, struct config_place place, const char *message)
{
    struct findings *findings = container_of(reporter, struct findings, reporter);
    struct finding *all = realloc(findings->all, (findings->count + 1) * sizeof(*all));
    char *copy = strdup(message);

    if (!all || !copy)
        fail("errors", strerror(ENOMEM));
    all[findings->count] = (struct finding){place, findings->count, copy};
    findings->all = all;
    findings->count++;
    // cppcheck-suppress memleak ; the copy is kept in all[]
}

static int compare_findings(const void *one, const void *two)
{
    const struct finding *a = one, *b = two;

    if (a->place.line != b->place.line)
        return a->place.line < b->place.line ? -1 : 1;
    if (a->place.column != b->place.column)
        return a->place.column < b->place.column ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

static void print_findings(const struct options *options, struct findings *findings)
{
    if (findings->count)
        qsort(findings->all, findings->count, sizeof(*findings->all), compare_findings);
    for (unsigned i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->all[i];

        printf("%s:%u:%u: %s\n", options->configuration, finding->place.line, finding->place.column,
               finding->message);
        free(finding->message);
    }
    free(findings->all);
}

static void print_file(const struct config_file *file)
{
    if (file->path.length)
        printf("%.*s\n", SLICE_ARGUMENTS(file->path));
}

static void print_files(const struct config *config)
{
    for (unsigned i = config_next(config, 0); i < CONFIG_PARTITIONS_MAX; i = config_next(config, i + 1)) {
        const struct config_partition *partition = &config->partitions[i];

        print_file(&partition->kernel);
        print_file(&partition->initrd);
        for (unsigned j = 0; j < partition->module_count; j++)
            print_file(&partition->modules[j]);
    }
}

#define USAGE "usage: umbra-check FILE.conf [--memory SIZE] [--processors N] [--files]"

static void read_options(struct options *options, int count, char **words)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--files") == 0) {
            options->list_files = true;
        } else if (strcmp(words[i], "--memory") == 0) {
            if (i + 1 == count || config_size(slice_of(words[i + 1]), &options->memory) ||
                options->memory == 0)
                fail("--memory", "wants a size: a number and K, M or G");
            i++;
        } else if (strcmp(words[i], "--processors") == 0) {
            if (i + 1 == count || config_number(slice_of(words[i + 1]), &options->processors) ||
                options->processors == 0 || options->processors > UINT_MAX)
                fail("--processors", "wants a number, at least 1");
            i++;
        } else if (words[i][0] == '-' || options->configuration) {
            fail(words[i], "unknown; " USAGE);
        } else {
            options->configuration = words[i];
        }
    }
    if (!options->configuration)
        fail("no configuration given", USAGE);
}

int main(int count, char **words)
{
    static struct config config;
    struct options options = {0};
    struct findings findings = {.reporter = {keep_finding}};
    struct config_files files = {find_file};
    const void *text;
    size_t length;
    unsigned errors;
    int unreadable;

    read_options(&options, count, words);
    unreadable = map_file(options.configuration, &text, &length);
    if (unreadable)
        fail(options.configuration, strerror(-unreadable));
    errors = config_parse(&config, text, length, core_policy_keys, &findings.reporter);
    errors += config_check(&config, &files, options.memory, (unsigned)options.processors, &findings.reporter);
    print_findings(&options, &findings);
    if (!errors && options.list_files)
        print_files(&config);
    return errors ? STATUS_ERRORS : STATUS_GOOD;
}
