// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a configuration means: sections, and the lines in them. Every mistake is reported where it stands, and
 * the parser goes on as if the line had been a good one, so that it causes no other message.
 */
#include "core/config/parser.h"

#include "core/config/values.h"
#include "lib/errors.h"

#define POLICY_PREFIX SLICE("policy.")

/* ---- Keys
 * --------------------------------------------------------------------------------------------------- */

/* The row of the policy key table that `policy.NAME` is in, or -1. */
static int find_policy(const struct config_parser *parser, struct slice name)
{
    const struct slice prefix = POLICY_PREFIX;

    if (!parser->section->policies || name.length < prefix.length ||
        memcmp(name.start, prefix.start, prefix.length) != 0)
        return -1;
    name = (struct slice){name.start + prefix.length, name.length - prefix.length};
    for (int i = 0; i < CONFIG_POLICIES_MAX && parser->policies[i].name; i++)
        if (slice_is(name, parser->policies[i].name))
            return i;
    return -1;
}

static void report_unknown_key(struct config_parser *parser, const struct config_token *name)
{
    char buffer[CONFIG_REASON_MAX];
    struct config_text list = {buffer, sizeof(buffer), 0};

    for (const struct config_key *key = parser->section->keys; key->name; key++)
        config_text_add(&list, "%s%s", key == parser->section->keys ? "" : ", ", key->name);
    if (parser->section->policies) /* there are many */
        config_text_add(&list, ", policy.NAME");
    config_error_at(parser, name->place, "unknown key '%.*s'; %s has %s", CONFIG_QUOTE(name->text),
                    parser->section->title, buffer);
}

/* Notes that a key stands at `name`; a second time it is an error, and its value is not looked at: false. */
static bool note_key(struct config_parser *parser, const struct config_token *name, struct config_place *seen)
{
    if (seen->line == 0) {
        *seen = name->place;
        return true;
    }
    config_error_at(parser, name->place, "'%.*s' is given twice, first in line %u", CONFIG_QUOTE(name->text),
                    seen->line);
    return false;
}

/* Whether a value stands on the line; otherwise false after a message. */
static bool need_value(struct config_parser *parser, const struct config_line *line, bool may_be_empty)
{
    if (line->value.text.length || (line->quoted && may_be_empty))
        return true;
    config_error_at(parser, line->value.place, "'%.*s' has no value", CONFIG_QUOTE(line->name.text));
    return false;
}

static void read_policy(struct config_parser *parser, const struct config_line *line, int row)
{
    int choice;

    if (!note_key(parser, &line->name, &parser->policy_keys[row]) || line->fault ||
        !need_value(parser, line, false))
        return;
    choice = config_read_choice(parser, line->name.text, line->value, parser->policies[row].values);
    if (choice >= 0)
        parser->partition->policies[row] = (uint8_t)choice;
}

static void parse_setting(struct config_parser *parser, const struct config_line *line)
{
    const struct config_key *key;
    struct config_place *seen;
    int row;

    parser->headed = true;
    if (!parser->section)
        return;
    row = find_policy(parser, line->name.text);
    if (row >= 0) {
        read_policy(parser, line, row);
        return;
    }
    key = config_find_key(parser->section->keys, line->name.text);
    if (!key) {
        report_unknown_key(parser, &line->name);
        return;
    }
    seen = &parser->keys[key - parser->section->keys];
    parser->key = line->name.place;
    if ((key->repeatable || note_key(parser, &line->name, seen)) && !line->fault &&
        need_value(parser, line, key->may_be_empty))
        key->read(parser, line->name.text, line->value);
}

/* ---- Sections
 * ----------------------------------------------------------------------------------------------- */

/* Each dedicated pCPU is one vCPU's, so that either number follows from the other. */
static void settle_vcpus(struct config_parser *parser)
{
    struct config_partition *partition = parser->partition;
    unsigned own = 0;

    for (uint64_t set = partition->cpus.dedicated ? partition->cpus.set : 0; set; set &= set - 1)
        own++;
    if (own > CONFIG_VCPUS_MAX)
        config_error_at(parser, partition->cpus.place,
                        "cpus lists %u processors; a partition has 1 to %d processors", own,
                        CONFIG_VCPUS_MAX);
    else if (own && partition->vcpus && partition->vcpus != own)
        config_error_at(parser, parser->vcpus, "vcpus = %u, but cpus lists %u, one for each",
                        partition->vcpus, own);
    if (partition->vcpus == 0)
        partition->vcpus = own && own <= CONFIG_VCPUS_MAX ? own : 1;
}

/* Reports the keys that have no meaning for this kind of kernel. */
static void check_keys_for_boot(struct config_parser *parser)
{
    const struct config_partition *partition = parser->partition;

    for (size_t i = 0; config_partition_section.keys[i].name; i++) {
        const struct config_key *key = &config_partition_section.keys[i];
        /* Of those that may be repeated only `module` is not for every kind. */
        const struct config_place *places = key->repeatable ? parser->module_keys : &parser->keys[i];
        unsigned count = key->repeatable ? partition->module_count : parser->keys[i].line != 0;

        for (unsigned j = 0; j < count && !(key->boots & (1U << partition->boot)); j++)
            config_error_at(parser, places[j], "'%s' is not for boot = %s", key->name,
                            config_boot_words[partition->boot]);
    }
}

/* Says what can be said only when all keys of a partition are known. */
static void end_section(struct config_parser *parser)
{
    const struct config_key *keys = config_partition_section.keys;
    struct config_partition *partition = parser->partition;

    if (!partition)
        return;
    for (size_t i = 0; keys[i].name; i++)
        if (keys[i].required && parser->keys[i].line == 0)
            config_error_at(parser, partition->place, "'%s' is missing: a partition needs it", keys[i].name);
    settle_vcpus(parser);
    if (partition->boot_place.line)
        check_keys_for_boot(parser);
}

/* Refuses a name that another partition has. */
static void check_name_is_free(struct config_parser *parser)
{
    struct config_partition *partition = parser->partition;
    const struct config *config = parser->config;

    for (unsigned i = config_next(config, 0); i < CONFIG_PARTITIONS_MAX; i = config_next(config, i + 1)) {
        const struct config_partition *other = &config->partitions[i];

        if (other == partition || !slice_equal(other->name, partition->name))
            continue;
        /* A line of another text would tell nothing. */
        if (parser->alone)
            config_error_at(parser, partition->place, "a partition '%.*s' exists already",
                            CONFIG_QUOTE(partition->name));
        else
            config_error_at(parser, partition->place, "a partition '%.*s' exists already, in line %u",
                            CONFIG_QUOTE(partition->name), other->place.line);
        break;
    }
}

/* The partition gets its name. */
static void set_name(struct config_parser *parser, struct slice name, struct config_place place)
{
    struct config_partition *partition = parser->partition;

    partition->name = name;
    partition->place = place;
    if (name.length == 0)
        config_error_at(parser, place, "a partition needs a name: [partition NAME]");
    else if (!config_is_name(name))
        config_error_at(parser, place, "'%.*s' is no name: " CONFIG_NAME_RULE, CONFIG_QUOTE(name),
                        CONFIG_NAME_MAX);
    if (name.length)
        check_name_is_free(parser);
}

/* The name in a header; `wanted` is what it has to be, if its length is not 0. */
static void read_name(struct config_parser *parser, const struct config_line *line, struct slice wanted)
{
    struct slice rest = line->value.text;
    struct slice name = config_take_word(&rest);
    struct config_place place = name.length ? line->value.place : line->name.place;

    if (line->fault == CONFIG_FAULT_BYTE) {
        parser->partition->place = place;
        return;
    }
    if (wanted.length == 0)
        set_name(parser, name, place);
    else if (slice_equal(name, wanted))
        parser->partition->place = place;
    else
        config_error_at(parser, place, "the partition is called '%.*s' here, and '%.*s' before",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(wanted));
    if (rest.length)
        config_error_at(parser, config_place_in(&line->value, rest), "text after the partition's name");
}

/* The first slot that holds no partition; CONFIG_PARTITIONS_MAX if all do. */
static unsigned free_slot(const struct config *config)
{
    unsigned i = 0;

    while (i < CONFIG_PARTITIONS_MAX && config->partitions[i].in_use)
        i++;
    return i;
}

static void begin_partition(struct config_parser *parser, struct config_place place)
{
    struct config *config = parser->config;
    unsigned slot = free_slot(config);
    bool full = slot == CONFIG_PARTITIONS_MAX;

    parser->section = &config_partition_section;
    parser->partition = full || parser->alone ? &parser->spare : &config->partitions[slot];
    config_default_partition(parser->partition);
    if (full)
        config_error_at(parser, place, "more than %d partitions", CONFIG_PARTITIONS_MAX);
    else if (!parser->alone)
        config->partition_count++;
}

static void begin_umbra(struct config_parser *parser, const struct config_line *line)
{
    parser->section = &config_umbra_section;
    if (line->value.text.length)
        config_error_at(parser, line->value.place, "text after 'umbra'");
    if (parser->umbra.line)
        config_error_at(parser, line->name.place, "a section [umbra] exists already, in line %u",
                        parser->umbra.line);
    else
        parser->umbra = line->name.place;
}

/* The header of a text that is one partition's: there may be one, in front, or there must be. */
static void parse_lone_header(struct config_parser *parser, const struct config_line *line)
{
    bool second = parser->headed;

    parser->headed = true;
    if (line->fault == CONFIG_FAULT_BYTE && !slice_is(line->name.text, "partition"))
        return;
    if (second || !slice_is(line->name.text, "partition")) {
        config_error_at(parser, line->name.place, "only one section, [partition NAME], can stand here");
        parser->section = NULL;
        return;
    }
    if (parser->partition) {
        read_name(parser, line, parser->partition->name);
    } else {
        begin_partition(parser, line->name.place);
        read_name(parser, line, (struct slice){NULL, 0});
    }
}

static void parse_header(struct config_parser *parser, const struct config_line *line)
{
    parser->outside = false;
    if (parser->alone) {
        parse_lone_header(parser, line);
        return;
    }
    end_section(parser);
    parser->section = NULL;
    parser->partition = NULL;
    memset(parser->keys, 0, sizeof(parser->keys));
    memset(parser->policy_keys, 0, sizeof(parser->policy_keys));
    if (slice_is(line->name.text, "partition")) {
        begin_partition(parser, line->name.place);
        read_name(parser, line, (struct slice){NULL, 0});
    } else if (slice_is(line->name.text, "umbra")) {
        begin_umbra(parser, line);
    } else if (line->fault != CONFIG_FAULT_BYTE) {
        config_error_at(parser, line->name.place,
                        "unknown section '%.*s'; there are [umbra] and [partition NAME]",
                        CONFIG_QUOTE(line->name.text));
    }
}

/* ---- Lines
 * -------------------------------------------------------------------------------------------------- */

static void report_fault(struct config_parser *parser, const struct config_line *line)
{
    static const char *const messages[] = {
        [CONFIG_FAULT_NO_EQUALS] = "not 'key = value': there is no =",
        [CONFIG_FAULT_NO_KEY] = "not 'key = value': there is no key before the =",
        [CONFIG_FAULT_OPEN_HEADER] = "the section's name is not closed by ]",
        [CONFIG_FAULT_AFTER_HEADER] = "text after the section's ]",
        [CONFIG_FAULT_OPEN_QUOTE] = "the value is not closed by a second \"",
        [CONFIG_FAULT_AFTER_QUOTE] = "text after the value's second \"",
    };

    if (line->fault == CONFIG_FAULT_BYTE)
        config_error_at(parser, line->fault_place, "byte 0x%02x is neither printable ASCII nor a tab",
                        line->fault_byte);
    else if (line->fault)
        config_error_at(parser, line->fault_place, "%s", messages[line->fault]);
}

static void parse_line(struct config_parser *parser, const struct config_line *line)
{
    if (line->kind == CONFIG_LINE_SECTION) {
        parse_header(parser, line);
    } else if (parser->outside && line->kind != CONFIG_LINE_BLANK) {
        config_error_at(parser, line->name.place, "text before the first section");
        return;
    }
    report_fault(parser, line);
    if (line->kind == CONFIG_LINE_SETTING)
        parse_setting(parser, line);
}

static void parse_lines(struct config_parser *parser, struct slice text)
{
    struct config_lexer lexer;
    struct config_line line;

    config_lexer_start(&lexer, text);
    while (config_lexer_next(&lexer, &line))
        parse_line(parser, &line);
    end_section(parser);
    parser->partition = NULL;
}

unsigned config_parse(struct config *config, const char *text, size_t length,
                      const struct config_policy_key *policies, struct config_reporter *reporter)
{
    struct config_parser parser = {
        .config = config,
        .policies = policies,
        .report = {reporter, 0},
        .outside = true,
    };

    memset(config, 0, sizeof(*config));
    config->console_port = 0x3f8;
    config->console_baud = 115200;
    config->escape = 'A' - '@';
    parse_lines(&parser, (struct slice){text, length});
    if (config->nmi.length && config_find(config, config->nmi) == CONFIG_PARTITIONS_MAX) {
        config_error_at(&parser, config->nmi_place, "nmi = %.*s: must be monitor or a partition's name",
                        CONFIG_QUOTE(config->nmi));
        config->nmi = (struct slice){NULL, 0};
    }
    return parser.report.errors;
}

int config_parse_section(struct config *config, struct slice name, const char *text, size_t length,
                         const struct config_policy_key *policies, struct config_reporter *reporter,
                         unsigned *index)
{
    const struct config_place start = {1, 1};
    struct config_parser parser = {
        .config = config,
        .policies = policies,
        .report = {reporter, 0},
        .alone = true,
        .outside = true,
    };
    unsigned slot = free_slot(config);

    if (name.length) {
        parser.outside = false;
        begin_partition(&parser, start);
        set_name(&parser, name, start);
    }
    parse_lines(&parser, (struct slice){text, length});
    if (!parser.spare.in_use && parser.report.errors == 0)
        config_error_at(&parser, start, "there is no section [partition NAME]");
    if (parser.report.errors)
        return -EINVAL;
    config->partitions[slot] = parser.spare;
    config->partition_count++;
    *index = slot;
    return 0;
}
