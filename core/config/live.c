// SPDX-License-Identifier: BSD-2-Clause
/* The partitions of a configuration while the machine runs: found, changed, removed. */
#include "core/config/parser.h"

#include "lib/errors.h"
#include "lib/printf.h"

unsigned config_next(const struct config *config, unsigned from)
{
    while (from < CONFIG_PARTITIONS_MAX && !config->partitions[from].in_use)
        from++;
    return min_u64(from, CONFIG_PARTITIONS_MAX);
}

unsigned config_find(const struct config *config, struct slice name)
{
    unsigned i = config_next(config, 0);

    while (i < CONFIG_PARTITIONS_MAX && !slice_equal(config->partitions[i].name, name))
        i = config_next(config, i + 1);
    return i;
}

uint64_t config_dedicated(const struct config *config)
{
    uint64_t set = 0;

    for (unsigned i = config_next(config, 0); i < CONFIG_PARTITIONS_MAX; i = config_next(config, i + 1)) {
        const struct config_partition *partition = &config->partitions[i];

        if (!partition->refused && partition->cpus.dedicated)
            set |= partition->cpus.set;
    }
    return set;
}

void config_remove(struct config *config, unsigned index)
{
    memset(&config->partitions[index], 0, sizeof(config->partitions[index]));
    config->partition_count--;
}

/* The message is taken from where it stands against the partition. */
static void ignore_error(struct config_reporter *reporter __unused, struct config_place place __unused,
                         const char *message __unused)
{
}

int config_set(struct config_partition *partition, struct slice key, struct slice value,
               char reason[CONFIG_REASON_MAX])
{
    struct config_reporter reporter = {ignore_error};
    struct config_parser parser = {.report = {&reporter, 0}, .spare = *partition};
    const struct config_key *row = config_find_key(config_live_keys, key);

    if (!row) {
        format_text(reason, CONFIG_REASON_MAX,
                    "'%.*s' cannot be changed; weight, cap, on-stop and timeout can", CONFIG_QUOTE(key));
        return -ENOENT;
    }
    if (value.length == 0) {
        format_text(reason, CONFIG_REASON_MAX, "'%.*s' has no value", CONFIG_QUOTE(key));
        return -EINVAL;
    }
    /* By the parser's rules, on a copy: what is wrong with the value does not stand against the partition. */
    parser.partition = &parser.spare;
    parser.spare.refused = false;
    row->read(&parser, key, (struct config_token){value, {1, 1}});
    if (parser.report.errors) {
        memcpy(reason, parser.spare.reason, CONFIG_REASON_MAX);
        return -EINVAL;
    }
    partition->cpus.weight = parser.spare.cpus.weight;
    partition->cpus.cap = parser.spare.cpus.cap;
    partition->on_stop = parser.spare.on_stop;
    partition->timeout = parser.spare.timeout;
    return 0;
}
