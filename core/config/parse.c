// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a configuration means: sections and keys, each with its rule. Every mistake is reported where it
 * stands, and the parser goes on as if the line had been a good one, so that it causes no other message.
 */
#include "core/config/config.h"

#include "core/config/lexer.h"
#include "core/config/report.h"
#include "core/config/values.h"
#include "lib/errors.h"

/* The most rows of a key table. */
#define KEYS_MAX        10

#define POLICY_PREFIX   SLICE("policy.")

#define BOOT_BIT(boot)  (1U << CONFIG_BOOT_##boot)
#define BOOT_LINUX      BOOT_BIT(LINUX)
#define BOOT_MULTIBOOTS (BOOT_BIT(MULTIBOOT) | BOOT_BIT(MULTIBOOT2))
#define BOOT_ANY        (BOOT_LINUX | BOOT_MULTIBOOTS | BOOT_BIT(ELF))

struct parser;

/* A key and its rule. */
struct key {
    const char *name;
    /* Reads the value of key `name`, which is not empty unless `may_be_empty`. */
    void (*read)(struct parser *parser, struct slice name, struct config_token value);
    bool repeatable;
    bool required;
    bool may_be_empty; /* written "" */
    unsigned boots;    /* the kinds of kernel that it is for, by BOOT_BIT */
};

/* The kinds of section. `keys` ends with a row without a name. */
struct section {
    const char *title; /* for messages */
    const struct key *keys;
    bool policies;
};

struct parser {
    struct config *config;
    const struct config_policy_key *policies;
    struct config_report report;

    const struct section *section;      /* NULL: none yet, or an unknown one */
    bool outside;                       /* no section header has been met */
    struct config_place umbra;          /* of the first [umbra]; line 0: none yet */
    struct config_partition *partition; /* of the section; NULL in another */
    struct config_partition spare; /* for partitions beyond the table's end, so that they are checked too */

    /* Where the keys of this section stand; line 0: not met. */
    struct config_place keys[KEYS_MAX];
    struct config_place policy_keys[CONFIG_POLICIES_MAX];
    struct config_place module_keys[CONFIG_MODULES_MAX];
};

#define error_at(parser, place, ...) config_report(&(parser)->report, (parser)->partition, place, __VA_ARGS__)
#define QUOTE(text)                  SLICE_ARGUMENTS(config_quotable(text))

/* The place of `part`, which lies in `token`. */
static struct config_place place_in(const struct config_token *token, struct slice part)
{
    return (struct config_place){token->place.line,
                                 token->place.column + (unsigned)(part.start - token->text.start)};
}

/* ---- Values
 * ------------------------------------------------------------------------------------------------- */

/* Appends "a, b or c". */
static void add_words(struct config_text *text, const char *const *words)
{
    for (size_t i = 0; words[i]; i++)
        config_text_add(text, "%s%s", i == 0 ? "" : words[i + 1] ? ", " : " or ", words[i]);
}

/* The index of the value in `words`, or -1 after a message. */
static int read_choice(struct parser *parser, struct slice name, struct config_token value,
                       const char *const *words)
{
    char buffer[96];
    struct config_text list = {buffer, sizeof(buffer), 0};
    int choice = config_choice(value.text, words);

    if (choice < 0) {
        add_words(&list, words);
        error_at(parser, value.place, "%.*s = %.*s: must be %s", QUOTE(name), QUOTE(value.text), buffer);
    }
    return choice;
}

static void read_memory(struct parser *parser, struct slice name, struct config_token value)
{
    char least[CONFIG_SIZE_TEXT], unit[CONFIG_SIZE_TEXT];
    uint64_t bytes;
    int error = config_size(value.text, &bytes);

    if (error == -ERANGE)
        error_at(parser, value.place, "%.*s = %.*s: does not fit into 64 bits", QUOTE(name),
                 QUOTE(value.text));
    else if (error)
        error_at(parser, value.place, "%.*s = %.*s: not a size, which is a number and K, M or G, as in 256M",
                 QUOTE(name), QUOTE(value.text));
    else if (bytes < CONFIG_MEMORY_MIN)
        error_at(parser, value.place, "%.*s = %.*s: a partition needs at least %s", QUOTE(name),
                 QUOTE(value.text), config_size_text(least, CONFIG_MEMORY_MIN));
    else if (!is_aligned(bytes, CONFIG_MEMORY_UNIT))
        error_at(parser, value.place, "%.*s = %.*s: not a multiple of %s", QUOTE(name), QUOTE(value.text),
                 config_size_text(unit, CONFIG_MEMORY_UNIT));
    else {
        parser->partition->memory = bytes;
        parser->partition->memory_place = value.place;
    }
}

static void read_vcpus(struct parser *parser, struct slice name, struct config_token value)
{
    uint64_t count;
    int error = config_number(value.text, &count);

    if (error == -EINVAL)
        error_at(parser, value.place, "%.*s = %.*s: not a number", QUOTE(name), QUOTE(value.text));
    else if (error || count < 1 || count > CONFIG_VCPUS_MAX)
        error_at(parser, value.place, "%.*s = %.*s: a partition has 1 to %d processors", QUOTE(name),
                 QUOTE(value.text), CONFIG_VCPUS_MAX);
    else if (count > 1)
        error_at(parser, value.place, "%.*s = %.*s: this version gives a partition one processor",
                 QUOTE(name), QUOTE(value.text));
    else
        parser->partition->vcpus = (unsigned)count;
}

static void read_boot(struct parser *parser, struct slice name, struct config_token value)
{
    int choice = read_choice(parser, name, value, config_boot_words);

    if (choice >= 0) {
        parser->partition->boot = (enum config_boot)choice;
        parser->partition->boot_place = value.place;
    }
}

/* A file name, and in `file->arguments` what follows it. False after a message. */
static bool read_file(struct parser *parser, struct slice name, struct config_token value,
                      struct config_file *file)
{
    struct slice rest = value.text;
    struct slice path = config_take_word(&rest);

    if (path.length == 0) {
        error_at(parser, value.place, "%.*s names no file", QUOTE(name));
        return false;
    }
    *file = (struct config_file){path, rest, place_in(&value, path)};
    return true;
}

/* The same for keys whose file takes no arguments. */
static void read_lone_file(struct parser *parser, struct slice name, struct config_token value,
                           struct config_file *file)
{
    if (!read_file(parser, name, value, file) || file->arguments.length == 0)
        return;
    error_at(parser, place_in(&value, file->arguments),
             "%.*s: text after the file name; a kernel's arguments are its cmdline", QUOTE(name));
    file->arguments.length = 0;
}

static void read_kernel(struct parser *parser, struct slice name, struct config_token value)
{
    read_lone_file(parser, name, value, &parser->partition->kernel);
}

static void read_initrd(struct parser *parser, struct slice name, struct config_token value)
{
    read_lone_file(parser, name, value, &parser->partition->initrd);
}

static void read_module(struct parser *parser, struct slice name, struct config_token value)
{
    struct config_partition *partition = parser->partition;

    if (partition->module_count == CONFIG_MODULES_MAX) {
        error_at(parser, value.place, "more than %d modules", CONFIG_MODULES_MAX);
        return;
    }
    if (read_file(parser, name, value, &partition->modules[partition->module_count]))
        partition->module_count++;
}

static void read_cmdline(struct parser *parser, struct slice name __unused, struct config_token value)
{
    parser->partition->cmdline = value.text;
    parser->partition->cmdline_place = value.place;
}

static void read_console(struct parser *parser, struct slice name, struct config_token value)
{
    static const char *const words[] = {"none", "uart", NULL};
    int choice = read_choice(parser, name, value, words);

    if (choice >= 0)
        parser->partition->console_uart = choice == 1;
}

static void read_on_stop(struct parser *parser, struct slice name, struct config_token value)
{
    int choice = read_choice(parser, name, value, config_on_stop_words);

    if (choice >= 0)
        parser->partition->on_stop = (enum config_on_stop)choice;
}

/* `com1`..`com4` or a port number, and the speed. */
static void read_umbra_console(struct parser *parser, struct slice name, struct config_token value)
{
    static const char *const words[] = {"com1", "com2", "com3", "com4", NULL};
    static const uint16_t ports[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
    const unsigned registers = 8;
    const unsigned fastest = 115200;
    struct slice rest = value.text;
    struct slice port_text = config_take_word(&rest);
    struct slice baud_text = config_take_word(&rest);
    int choice = config_choice(port_text, words);
    uint64_t port, baud;

    if (choice >= 0)
        parser->config->console_port = ports[choice];
    else if (config_number(port_text, &port))
        error_at(parser, place_in(&value, port_text),
                 "%.*s = %.*s: not com1, com2, com3, com4 or a port number such as 0x3f8", QUOTE(name),
                 QUOTE(port_text));
    else if (port == 0 || port > UINT16_MAX + 1 - registers)
        error_at(parser, place_in(&value, port_text), "%.*s = %.*s: no port, which is 1 to 0x%x", QUOTE(name),
                 QUOTE(port_text), UINT16_MAX + 1 - registers);
    else
        parser->config->console_port = (uint16_t)port;

    if (baud_text.length == 0)
        return;
    /* The UART divides its clock by a whole number of 16 bits. */
    if (config_number(baud_text, &baud) || baud == 0 || fastest % baud != 0 || fastest / baud > UINT16_MAX)
        error_at(parser, place_in(&value, baud_text), "%.*s: speed %.*s does not divide %u", QUOTE(name),
                 QUOTE(baud_text), fastest);
    else
        parser->config->console_baud = (uint32_t)baud;
    if (rest.length)
        error_at(parser, place_in(&value, rest), "%.*s: text after the speed", QUOTE(name));
}

/* `^A`. Control characters that have a key of their own must reach the guest: Backspace, Tab, Enter, Escape.
 */
static void read_escape(struct parser *parser, struct slice name, struct config_token value)
{
    const char *text = value.text.start;
    char letter = value.text.length == 2 && text[0] == '^' ? text[1] : '\0';

    if (letter >= 'a' && letter <= 'z')
        letter = (char)(letter - 'a' + 'A');
    if (letter == 'H' || letter == 'I' || letter == 'J' || letter == 'M' || letter == '[')
        error_at(parser, value.place,
                 "%.*s = %.*s: a key of its own (Backspace, Tab, Enter or Escape) sends that", QUOTE(name),
                 QUOTE(value.text));
    else if (letter >= 'A' && letter <= '_')
        parser->config->escape = (char)(letter - '@');
    else
        error_at(parser, value.place, "%.*s = %.*s: not a control character, as in ^A", QUOTE(name),
                 QUOTE(value.text));
}

/* ---- Keys
 * --------------------------------------------------------------------------------------------------- */

static const struct key umbra_keys[] = {
    {.name = "console", .read = read_umbra_console},
    {.name = "escape", .read = read_escape},
    {.name = NULL},
};

static const struct key partition_keys[] = {
    {.name = "memory", .read = read_memory, .required = true, .boots = BOOT_ANY},
    {.name = "vcpus", .read = read_vcpus, .boots = BOOT_ANY},
    {.name = "boot", .read = read_boot, .required = true, .boots = BOOT_ANY},
    {.name = "kernel", .read = read_kernel, .required = true, .boots = BOOT_ANY},
    {.name = "initrd", .read = read_initrd, .boots = BOOT_LINUX},
    {.name = "module", .read = read_module, .repeatable = true, .boots = BOOT_MULTIBOOTS},
    {.name = "cmdline", .read = read_cmdline, .may_be_empty = true, .boots = BOOT_ANY},
    {.name = "console", .read = read_console, .boots = BOOT_ANY},
    {.name = "on-stop", .read = read_on_stop, .boots = BOOT_ANY},
    {.name = NULL},
};

_Static_assert(ARRAY_SIZE(umbra_keys) <= KEYS_MAX && ARRAY_SIZE(partition_keys) <= KEYS_MAX, "KEYS_MAX");

static const struct section umbra_section = {"[umbra]", umbra_keys, false};
static const struct section partition_section = {"a partition", partition_keys, true};

static const struct key *find_key(const struct section *section, struct slice name)
{
    for (const struct key *key = section->keys; key->name; key++)
        if (slice_is(name, key->name))
            return key;
    return NULL;
}

/* The row of the policy key table that `policy.NAME` is in, or -1. */
static int find_policy(const struct parser *parser, struct slice name)
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

static void report_unknown_key(struct parser *parser, const struct config_token *name)
{
    char buffer[CONFIG_REASON_MAX];
    struct config_text list = {buffer, sizeof(buffer), 0};

    for (const struct key *key = parser->section->keys; key->name; key++)
        config_text_add(&list, "%s%s", key == parser->section->keys ? "" : ", ", key->name);
    for (int i = 0; parser->section->policies && i < CONFIG_POLICIES_MAX && parser->policies[i].name; i++)
        config_text_add(&list, ", policy.%s", parser->policies[i].name);
    error_at(parser, name->place, "unknown key '%.*s'; %s has %s", QUOTE(name->text), parser->section->title,
             buffer);
}

/* Notes that a key stands at `name`; a second time it is an error, and its value is not looked at: false. */
static bool note_key(struct parser *parser, const struct config_token *name, struct config_place *seen)
{
    if (seen->line == 0) {
        *seen = name->place;
        return true;
    }
    error_at(parser, name->place, "'%.*s' is given twice, first in line %u", QUOTE(name->text), seen->line);
    return false;
}

/* Whether a value stands on the line; otherwise false after a message. */
static bool need_value(struct parser *parser, const struct config_line *line, bool may_be_empty)
{
    if (line->value.text.length || (line->quoted && may_be_empty))
        return true;
    error_at(parser, line->value.place, "'%.*s' has no value", QUOTE(line->name.text));
    return false;
}

static void read_policy(struct parser *parser, const struct config_line *line, int row)
{
    int choice;

    if (!note_key(parser, &line->name, &parser->policy_keys[row]) || line->fault ||
        !need_value(parser, line, false))
        return;
    choice = read_choice(parser, line->name.text, line->value, parser->policies[row].values);
    if (choice >= 0)
        parser->partition->policies[row] = (uint8_t)choice;
}

static void parse_setting(struct parser *parser, const struct config_line *line)
{
    const struct key *key;
    struct config_place *seen;
    int row;

    if (!parser->section)
        return;
    row = find_policy(parser, line->name.text);
    if (row >= 0) {
        read_policy(parser, line, row);
        return;
    }
    key = find_key(parser->section, line->name.text);
    if (!key) {
        report_unknown_key(parser, &line->name);
        return;
    }
    seen = &parser->keys[key - parser->section->keys];
    if (key->repeatable && parser->partition->module_count < CONFIG_MODULES_MAX)
        parser->module_keys[parser->partition->module_count] = line->name.place;
    if ((key->repeatable || note_key(parser, &line->name, seen)) && !line->fault &&
        need_value(parser, line, key->may_be_empty))
        key->read(parser, line->name.text, line->value);
}

/* ---- Sections
 * ----------------------------------------------------------------------------------------------- */

/* Says what can be said only when all keys of a partition are known. */
static void end_section(struct parser *parser)
{
    struct config_partition *partition = parser->partition;
    const char *boot;

    if (!partition)
        return;
    for (size_t i = 0; partition_keys[i].name; i++)
        if (partition_keys[i].required && parser->keys[i].line == 0)
            error_at(parser, partition->place, "'%s' is missing: a partition needs it",
                     partition_keys[i].name);
    if (partition->boot_place.line == 0)
        return;
    boot = config_boot_words[partition->boot];
    for (size_t i = 0; partition_keys[i].name; i++) {
        const struct key *key = &partition_keys[i];
        const struct config_place *places = key->repeatable ? parser->module_keys : &parser->keys[i];
        unsigned count = key->repeatable ? partition->module_count : parser->keys[i].line != 0;

        for (unsigned j = 0; j < count && !(key->boots & (1U << partition->boot)); j++)
            error_at(parser, places[j], "'%s' is not for boot = %s", key->name, boot);
    }
}

/* A letter, then letters, digits, '-' and '_': a name that can be typed as one word and is no number. */
static bool is_name(struct slice text)
{
    if (text.length > CONFIG_NAME_MAX)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        char byte = text.start[i];
        bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');

        if (!letter && (i == 0 || ((byte < '0' || byte > '9') && byte != '-' && byte != '_')))
            return false;
    }
    return true;
}

static void check_name(struct parser *parser, const struct config_line *line)
{
    struct config_partition *partition = parser->partition;
    struct slice rest = line->value.text;

    partition->name = config_take_word(&rest);
    partition->place = partition->name.length ? line->value.place : line->name.place;
    if (line->fault == CONFIG_FAULT_BYTE)
        return;
    if (partition->name.length == 0)
        error_at(parser, partition->place, "a partition needs a name: [partition NAME]");
    else if (!is_name(partition->name))
        error_at(parser, partition->place,
                 "'%.*s' is no name: a letter, then letters, digits, - and _, at most %d in all",
                 QUOTE(partition->name), CONFIG_NAME_MAX);
    if (rest.length)
        error_at(parser, place_in(&line->value, rest), "text after the partition's name");
    for (unsigned i = 0; partition->name.length && i < parser->config->partition_count; i++) {
        const struct config_partition *other = &parser->config->partitions[i];

        if (other != partition && slice_equal(other->name, partition->name)) {
            error_at(parser, partition->place, "a partition '%.*s' exists already, in line %u",
                     QUOTE(partition->name), other->place.line);
            break;
        }
    }
}

static void begin_partition(struct parser *parser, const struct config_line *line)
{
    struct config *config = parser->config;
    bool full = config->partition_count == CONFIG_PARTITIONS_MAX;

    parser->section = &partition_section;
    parser->partition = full ? &parser->spare : &config->partitions[config->partition_count++];
    *parser->partition = (struct config_partition){.vcpus = 1, .console_uart = true};
    if (full)
        error_at(parser, line->name.place, "more than %d partitions", CONFIG_PARTITIONS_MAX);
    check_name(parser, line);
}

static void begin_umbra(struct parser *parser, const struct config_line *line)
{
    parser->section = &umbra_section;
    if (line->value.text.length)
        error_at(parser, line->value.place, "text after 'umbra'");
    if (parser->umbra.line)
        error_at(parser, line->name.place, "a section [umbra] exists already, in line %u",
                 parser->umbra.line);
    else
        parser->umbra = line->name.place;
}

static void parse_header(struct parser *parser, const struct config_line *line)
{
    end_section(parser);
    parser->outside = false;
    parser->section = NULL;
    parser->partition = NULL;
    memset(parser->keys, 0, sizeof(parser->keys));
    memset(parser->policy_keys, 0, sizeof(parser->policy_keys));
    if (slice_is(line->name.text, "partition"))
        begin_partition(parser, line);
    else if (slice_is(line->name.text, "umbra"))
        begin_umbra(parser, line);
    else if (line->fault != CONFIG_FAULT_BYTE)
        error_at(parser, line->name.place, "unknown section '%.*s'; there are [umbra] and [partition NAME]",
                 QUOTE(line->name.text));
}

/* ---- Lines
 * -------------------------------------------------------------------------------------------------- */

static void report_fault(struct parser *parser, const struct config_line *line)
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
        error_at(parser, line->fault_place, "byte 0x%02x is neither printable ASCII nor a tab",
                 line->fault_byte);
    else if (line->fault)
        error_at(parser, line->fault_place, "%s", messages[line->fault]);
}

static void parse_line(struct parser *parser, const struct config_line *line)
{
    if (line->kind == CONFIG_LINE_SECTION) {
        parse_header(parser, line);
    } else if (parser->outside && line->kind != CONFIG_LINE_BLANK) {
        error_at(parser, line->name.place, "text before the first section");
        return;
    }
    report_fault(parser, line);
    if (line->kind == CONFIG_LINE_SETTING)
        parse_setting(parser, line);
}

unsigned config_parse(struct config *config, const char *text, size_t length,
                      const struct config_policy_key *policies, struct config_reporter *reporter)
{
    struct parser parser = {.config = config, .policies = policies, .report = {reporter, 0}, .outside = true};
    struct config_lexer lexer;
    struct config_line line;

    memset(config, 0, sizeof(*config));
    config->console_port = 0x3f8;
    config->console_baud = 115200;
    config->escape = 'A' - '@';
    config_lexer_start(&lexer, (struct slice){text, length});
    while (config_lexer_next(&lexer, &line))
        parse_line(&parser, &line);
    end_section(&parser);
    return parser.report.errors;
}
