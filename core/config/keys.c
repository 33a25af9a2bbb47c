// SPDX-License-Identifier: BSD-2-Clause
/* What each key of a configuration means: how its value is read, and what is wrong with one that is not good.
 */
#include "core/config/parser.h"

#include "core/config/layout.h"
#include "core/config/values.h"
#include "lib/errors.h"

struct config_place config_place_in(const struct config_token *token, struct slice part)
{
    return (struct config_place){token->place.line,
                                 token->place.column + (unsigned)(part.start - token->text.start)};
}

bool config_is_name(struct slice text)
{
    if (text.length == 0 || text.length > CONFIG_NAME_MAX)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        char byte = text.start[i];
        bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');

        if (!letter && (i == 0 || ((byte < '0' || byte > '9') && byte != '-' && byte != '_')))
            return false;
    }
    return true;
}

/* ---- Values
 * ------------------------------------------------------------------------------------------------- */

/* Appends "a, b or c". */
static void add_words(struct config_text *text, const char *const *words)
{
    for (size_t i = 0; words[i]; i++)
        config_text_add(text, "%s%s", i == 0 ? "" : words[i + 1] ? ", " : " or ", words[i]);
}

int config_read_choice(struct config_parser *parser, struct slice name, struct config_token value,
                       const char *const *words)
{
    char buffer[96];
    struct config_text list = {buffer, sizeof(buffer), 0};
    int choice = config_choice(value.text, words);

    if (choice < 0) {
        add_words(&list, words);
        config_error_at(parser, value.place, "%.*s = %.*s: must be %s", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(value.text), buffer);
    }
    return choice;
}

/* A size of bytes. False after a message. */
static bool read_size(struct config_parser *parser, struct slice name, struct config_token value,
                      uint64_t *bytes)
{
    int error = config_size(value.text, bytes);

    if (error == -ERANGE)
        config_error_at(parser, value.place, "%.*s = %.*s: does not fit into 64 bits", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(value.text));
    else if (error)
        config_error_at(parser, value.place,
                        "%.*s = %.*s: not a size, which is a number and K, M or G, as in 256M",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(value.text));
    return error == 0;
}

/* A number from `least` to `most`, which are followed by `unit` in the message. False after it. */
static bool read_number(struct config_parser *parser, struct slice name, struct config_token value,
                        unsigned least, unsigned most, const char *unit, unsigned *number)
{
    uint64_t wide;
    int error = config_number(value.text, &wide);

    if (error || wide < least || wide > most) {
        config_error_at(parser, value.place, "%.*s = %.*s: must be %u to %u%s", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(value.text), least, most, unit);
        return false;
    }
    *number = (unsigned)wide;
    return true;
}

/* ---- Memory
 * ------------------------------------------------------------------------------------------------- */

/* Where memory at a fixed place may be: not in the first MiB, nor where the partition's devices are. */
static bool check_fixed(struct config_parser *parser, struct slice name, const struct config_token *value,
                        struct slice base_text, uint64_t base, uint64_t size)
{
    const char *why = NULL;
    char unit[CONFIG_SIZE_TEXT];

    if (base < CONFIG_MEMORY_LOW)
        why = "below 1M, where a partition's memory cannot be fixed";
    else if (base > BIT(CONFIG_ADDRESS_BITS) || size > BIT(CONFIG_ADDRESS_BITS) - base)
        why = "no machine has addresses of more than 52 bits";
    else if (base < GIB(4) && base + size > LAYOUT_LOW_MEMORY_MAX)
        why = "a partition's devices are from 3G to 4G";
    if (!is_aligned(base, CONFIG_MEMORY_UNIT))
        config_error_at(parser, config_place_in(value, base_text), "%.*s: at %.*s: not a multiple of %s",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(base_text),
                        config_size_text(unit, CONFIG_MEMORY_UNIT));
    else if (why)
        config_error_at(parser, config_place_in(value, base_text), "%.*s = %.*s: %s", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(value->text), why);
    else
        return true;
    return false;
}

/* `SIZE`, or `SIZE at ADDRESS`. */
static void read_memory(struct config_parser *parser, struct slice name, struct config_token value)
{
    struct config_partition *partition = parser->partition;
    char text[CONFIG_SIZE_TEXT];
    struct slice rest = value.text;
    struct config_token size = {config_take_word(&rest), value.place};
    struct slice at = rest;
    struct slice at_word = config_take_word(&at);
    bool fixed = slice_is(at_word, "at");
    struct config_token base_token = {at, config_place_in(&value, at)};
    uint64_t bytes, base = 0;

    if (!fixed)
        size = value;
    size.place = config_place_in(&value, size.text);
    if (!read_size(parser, name, size, &bytes))
        return;
    if (bytes < CONFIG_MEMORY_MIN) {
        config_error_at(parser, size.place, "%.*s = %.*s: a partition needs at least %s", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(size.text), config_size_text(text, CONFIG_MEMORY_MIN));
        return;
    }
    if (!is_aligned(bytes, CONFIG_MEMORY_UNIT)) {
        config_error_at(parser, size.place, "%.*s = %.*s: not a multiple of %s", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(size.text), config_size_text(text, CONFIG_MEMORY_UNIT));
        return;
    }
    if (fixed && at.length == 0) {
        config_error_at(parser, base_token.place, "%.*s = %.*s: has no address, as in 0x40000000",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(value.text));
        return;
    }
    if (fixed && config_size(at, &base)) {
        config_error_at(parser, base_token.place, "%.*s: at %.*s: not an address, as in 0x40000000",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(at));
        return;
    }
    if (fixed && !check_fixed(parser, name, &value, at, base, bytes))
        return;
    partition->memory = bytes;
    partition->memory_place = value.place;
    partition->memory_fixed = fixed;
    partition->memory_base = base;
}

/* Appends a region to the partition's. */
static void add_shared(struct config_parser *parser, const struct config_token *value, struct slice region,
                       uint64_t size)
{
    struct config_partition *partition = parser->partition;
    struct config_place place = config_place_in(value, region);

    for (unsigned i = 0; i < partition->shared_count; i++) {
        if (slice_equal(partition->shared[i].name, region)) {
            config_error_at(parser, place, "'%.*s' is named already, in line %u", CONFIG_QUOTE(region),
                            partition->shared[i].place.line);
            return;
        }
    }
    if (partition->shared_count == CONFIG_SHARED_MAX)
        config_error_at(parser, place, "more than %d shared regions and doorbells", CONFIG_SHARED_MAX);
    else
        partition->shared[partition->shared_count++] = (struct config_shared){region, size, place};
}

/* The name that `*rest` begins with. False after a message. */
static bool read_region_name(struct config_parser *parser, const struct config_token *value,
                             struct slice *rest, struct slice *region)
{
    *region = config_take_word(rest);
    if (config_is_name(*region))
        return true;
    config_error_at(parser, config_place_in(value, *region), "'%.*s' is no name: " CONFIG_NAME_RULE,
                    CONFIG_QUOTE(*region), CONFIG_NAME_MAX);
    return false;
}

/* `NAME SIZE`. */
static void read_shared(struct config_parser *parser, struct slice name, struct config_token value)
{
    char least[CONFIG_SIZE_TEXT];
    struct slice rest = value.text, region;
    struct config_token size;

    if (!read_region_name(parser, &value, &rest, &region))
        return;
    size = (struct config_token){rest, config_place_in(&value, rest)};
    uint64_t bytes;
    if (rest.length == 0)
        config_error_at(parser, size.place, "%.*s = %.*s: has no size, as in %.*s = %.*s 4M",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(region), CONFIG_QUOTE(name), CONFIG_QUOTE(region));
    else if (!read_size(parser, name, size, &bytes))
        return;
    else if (bytes < PAGE_SIZE || (bytes & (bytes - 1)) != 0)
        config_error_at(parser, size.place, "%.*s = %.*s: must be a power of two, at least %s",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(rest), config_size_text(least, PAGE_SIZE));
    else
        add_shared(parser, &value, region, bytes);
}

static void read_doorbell(struct config_parser *parser, struct slice name, struct config_token value)
{
    struct slice rest = value.text, region;

    if (!read_region_name(parser, &value, &rest, &region))
        return;
    if (rest.length)
        config_error_at(parser, config_place_in(&value, rest), "%.*s: text after the name",
                        CONFIG_QUOTE(name));
    else
        add_shared(parser, &value, region, 0);
}

/* ---- Processors
 * --------------------------------------------------------------------------------------------- */

/* The processors `N` or `N-M` that `item` of `list` names. False after a message. */
static bool read_range(struct config_parser *parser, struct slice name, struct slice list,
                       struct config_token item, uint64_t *set)
{
    size_t dash = 0;
    uint64_t first, last;
    int error, last_error;

    while (dash < item.text.length && item.text.start[dash] != '-')
        dash++;
    error = config_number((struct slice){item.text.start, dash}, &first);
    last = first;
    last_error = error;
    if (dash < item.text.length)
        last_error =
            config_number((struct slice){item.text.start + dash + 1, item.text.length - dash - 1}, &last);

    if (error == -EINVAL || last_error == -EINVAL)
        config_error_at(parser, item.place, "%.*s = %.*s: not processors, as in 2-3,5%s", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(item.text.length ? item.text : list),
                        parser->partition->cpus.dedicated ? ", and not shared" : "");
    else if (error || last_error || first >= CONFIG_PROCESSORS_MAX || last >= CONFIG_PROCESSORS_MAX)
        config_error_at(parser, item.place, "%.*s = %.*s: processors are 0 to %d", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(item.text), CONFIG_PROCESSORS_MAX - 1);
    else if (last < first)
        config_error_at(parser, item.place, "%.*s = %.*s: the lower number comes first", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(item.text));
    else {
        *set = (last == 63 ? UINT64_MAX : BIT(last + 1) - 1) & ~(BIT(first) - 1);
        return true;
    }
    return false;
}

/* A list of processors, such as 2-3,5. False after a message. */
static bool read_processors(struct config_parser *parser, struct slice name, struct config_token list,
                            uint64_t *set)
{
    *set = 0;
    for (size_t from = 0, to; from <= list.text.length; from = to + 1) {
        struct config_token item;
        uint64_t these;

        for (to = from; to < list.text.length && list.text.start[to] != ',';)
            to++;
        item.text = (struct slice){list.text.start + from, to - from};
        item.place = config_place_in(&list, item.text);
        if (!read_range(parser, name, list.text, item, &these))
            return false;
        if (*set & these) {
            config_error_at(parser, item.place, "%.*s = %.*s: processor %d is listed already",
                            CONFIG_QUOTE(name), CONFIG_QUOTE(item.text), __builtin_ctzll(*set & these));
            return false;
        }
        *set |= these;
    }
    return true;
}

/* What is said of shared processors only. */
static bool need_shared(struct config_parser *parser, struct slice name, const struct config_token *value)
{
    if (!parser->partition->cpus.dedicated)
        return true;
    config_error_at(parser, value->place, "%.*s is for shared processors, and the partition has its own",
                    CONFIG_QUOTE(name));
    return false;
}

static void read_weight(struct config_parser *parser, struct slice name, struct config_token value)
{
    if (need_shared(parser, name, &value))
        read_number(parser, name, value, 1, CONFIG_WEIGHT_MAX, "", &parser->partition->cpus.weight);
}

static void read_cap(struct config_parser *parser, struct slice name, struct config_token value)
{
    struct slice number = value.text;
    uint64_t percent;

    if (!need_shared(parser, name, &value))
        return;
    if (number.length == 0 || number.start[--number.length] != '%' || config_number(number, &percent) ||
        percent < 1 || percent > 100)
        config_error_at(parser, value.place, "%.*s = %.*s: must be 1%% to 100%%", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(value.text));
    else
        parser->partition->cpus.cap = (unsigned)percent;
}

static void read_on(struct config_parser *parser, struct slice name, struct config_token value)
{
    read_processors(parser, name, value, &parser->partition->cpus.set);
}

/* The words after `shared`, each with its value. */
static void read_shares(struct config_parser *parser, struct slice name, const struct config_token *value,
                        struct slice rest)
{
    static const struct config_key options[] = {
        {.name = "on", .read = read_on},
        {.name = "weight", .read = read_weight},
        {.name = "cap", .read = read_cap},
        {.name = NULL},
    };
    unsigned met = 0;

    while (rest.length) {
        struct slice word = config_take_word(&rest);
        struct slice text = config_take_word(&rest);
        struct config_place place = config_place_in(value, word);
        const struct config_key *option = config_find_key(options, word);

        if (!option)
            config_error_at(parser, place, "%.*s: unknown '%.*s'; shared has on, weight, cap",
                            CONFIG_QUOTE(name), CONFIG_QUOTE(word));
        else if (met & (1U << (option - options)))
            config_error_at(parser, place, "%.*s: '%.*s' is given twice", CONFIG_QUOTE(name),
                            CONFIG_QUOTE(word));
        else if (text.length == 0)
            config_error_at(parser, place, "%.*s: '%.*s' has no value", CONFIG_QUOTE(name),
                            CONFIG_QUOTE(word));
        else
            option->read(parser, word, (struct config_token){text, config_place_in(value, text)});
        if (option)
            met |= 1U << (option - options);
    }
}

/* A list of processors, or `shared [on LIST] [weight N] [cap P%]`. */
static void read_cpus(struct config_parser *parser, struct slice name, struct config_token value)
{
    struct config_cpus *cpus = &parser->partition->cpus;
    unsigned errors = parser->report.errors;
    struct slice rest = value.text;
    struct slice first = config_take_word(&rest);

    cpus->dedicated = !slice_is(first, "shared");
    if (!cpus->dedicated)
        read_shares(parser, name, &value, rest);
    else if (read_processors(parser, name, (struct config_token){first, config_place_in(&value, first)},
                             &cpus->set) &&
             rest.length)
        config_error_at(parser, config_place_in(&value, rest), "%.*s: text after the processors",
                        CONFIG_QUOTE(name));
    if (parser->report.errors != errors)
        *cpus = (struct config_cpus){.weight = CONFIG_WEIGHT_DEFAULT};
    else
        cpus->place = value.place;
}

static void read_vcpus(struct config_parser *parser, struct slice name, struct config_token value)
{
    uint64_t count;
    int error = config_number(value.text, &count);

    if (error == -EINVAL)
        config_error_at(parser, value.place, "%.*s = %.*s: not a number", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(value.text));
    else if (error || count < 1 || count > CONFIG_VCPUS_MAX)
        config_error_at(parser, value.place, "%.*s = %.*s: a partition has 1 to %d processors",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(value.text), CONFIG_VCPUS_MAX);
    else {
        parser->partition->vcpus = (unsigned)count;
        parser->vcpus = value.place;
    }
}

/* ---- Paging
 * ------------------------------------------------------------------------------------------------- */

/* `auto`, `ept`, `vtlb`, or two words: `vtlb base`. */
static void read_paging(struct config_parser *parser, struct slice name, struct config_token value)
{
    struct slice rest = value.text;
    bool base = slice_is(config_take_word(&rest), "vtlb") && slice_is(rest, "base");
    int choice =
        base ? CONFIG_PAGING_VTLB_BASE : config_read_choice(parser, name, value, config_paging_words);

    if (choice >= 0) {
        parser->partition->paging = (enum config_paging)choice;
        parser->partition->paging_place = value.place;
    }
}

static void read_nested(struct config_parser *parser, struct slice name, struct config_token value)
{
    int choice = config_read_choice(parser, name, value, config_yes_words);

    if (choice >= 0)
        parser->partition->nested = choice == 1;
}

static void read_vmcs_shadowing(struct config_parser *parser, struct slice name, struct config_token value)
{
    int choice = config_read_choice(parser, name, value, config_yes_words);

    if (choice >= 0)
        parser->partition->no_vmcs_shadowing = choice == 0;
}

/* ---- Kernel and files
 * --------------------------------------------------------------------------------------- */

static void read_boot(struct config_parser *parser, struct slice name, struct config_token value)
{
    int choice = config_read_choice(parser, name, value, config_boot_words);

    if (choice >= 0) {
        parser->partition->boot = (enum config_boot)choice;
        parser->partition->boot_place = value.place;
    }
}

/* A file name, and in `file->arguments` what follows it. False after a message. */
static bool read_file(struct config_parser *parser, struct slice name, struct config_token value,
                      struct config_file *file)
{
    struct slice rest = value.text;
    struct slice path = config_take_word(&rest);

    if (path.length == 0) {
        config_error_at(parser, value.place, "%.*s names no file", CONFIG_QUOTE(name));
        return false;
    }
    *file = (struct config_file){path, rest, config_place_in(&value, path)};
    return true;
}

/* The same for keys whose file takes no arguments. */
static void read_lone_file(struct config_parser *parser, struct slice name, struct config_token value,
                           struct config_file *file)
{
    if (!read_file(parser, name, value, file) || file->arguments.length == 0)
        return;
    config_error_at(parser, config_place_in(&value, file->arguments),
                    "%.*s: text after the file name; a kernel's arguments are its cmdline",
                    CONFIG_QUOTE(name));
    file->arguments.length = 0;
}

static void read_kernel(struct config_parser *parser, struct slice name, struct config_token value)
{
    read_lone_file(parser, name, value, &parser->partition->kernel);
}

static void read_initrd(struct config_parser *parser, struct slice name, struct config_token value)
{
    read_lone_file(parser, name, value, &parser->partition->initrd);
}

static void read_module(struct config_parser *parser, struct slice name, struct config_token value)
{
    struct config_partition *partition = parser->partition;

    if (partition->module_count == CONFIG_MODULES_MAX) {
        config_error_at(parser, value.place, "more than %d modules", CONFIG_MODULES_MAX);
        return;
    }
    parser->module_keys[partition->module_count] = parser->key;
    if (read_file(parser, name, value, &partition->modules[partition->module_count]))
        partition->module_count++;
}

static void read_cmdline(struct config_parser *parser, struct slice name __unused, struct config_token value)
{
    parser->partition->cmdline = value.text;
    parser->partition->cmdline_place = value.place;
}

/* ---- Console and life
 * --------------------------------------------------------------------------------------- */

static void read_console(struct config_parser *parser, struct slice name, struct config_token value)
{
    static const char *const words[] = {"none", "uart", NULL};
    int choice = config_read_choice(parser, name, value, words);

    if (choice >= 0)
        parser->partition->console_uart = choice == 1;
}

static void read_on_stop(struct config_parser *parser, struct slice name, struct config_token value)
{
    int choice = config_read_choice(parser, name, value, config_on_stop_words);

    if (choice >= 0)
        parser->partition->on_stop = (enum config_on_stop)choice;
}

static void read_timeout(struct config_parser *parser, struct slice name, struct config_token value)
{
    read_number(parser, name, value, 0, CONFIG_TIMEOUT_MAX, " seconds", &parser->partition->timeout);
}

static void read_start(struct config_parser *parser, struct slice name, struct config_token value)
{
    static const char *const words[] = {"auto", "manual", NULL};
    int choice = config_read_choice(parser, name, value, words);

    if (choice >= 0)
        parser->partition->start_manually = choice == 1;
}

/* ---- The machine
 * -------------------------------------------------------------------------------------------- */

/* `com1`..`com4` or a port number, and the speed. */
static void read_umbra_console(struct config_parser *parser, struct slice name, struct config_token value)
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
        config_error_at(parser, config_place_in(&value, port_text),
                        "%.*s = %.*s: not com1, com2, com3, com4 or a port number such as 0x3f8",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(port_text));
    else if (port == 0 || port > UINT16_MAX + 1 - registers)
        config_error_at(parser, config_place_in(&value, port_text),
                        "%.*s = %.*s: no port, which is 1 to 0x%x", CONFIG_QUOTE(name),
                        CONFIG_QUOTE(port_text), UINT16_MAX + 1 - registers);
    else
        parser->config->console_port = (uint16_t)port;

    if (baud_text.length == 0)
        return;
    /* The UART divides its clock by a whole number of 16 bits. */
    if (config_number(baud_text, &baud) || baud == 0 || fastest % baud != 0 || fastest / baud > UINT16_MAX)
        config_error_at(parser, config_place_in(&value, baud_text), "%.*s: speed %.*s does not divide %u",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(baud_text), fastest);
    else
        parser->config->console_baud = (uint32_t)baud;
    if (rest.length)
        config_error_at(parser, config_place_in(&value, rest), "%.*s: text after the speed",
                        CONFIG_QUOTE(name));
}

/* `^A`. Control characters that have a key of their own must reach the guest: Backspace, Tab, Enter, Escape.
 */
static void read_escape(struct config_parser *parser, struct slice name, struct config_token value)
{
    const char *text = value.text.start;
    char letter = value.text.length == 2 && text[0] == '^' ? text[1] : '\0';

    if (letter >= 'a' && letter <= 'z')
        letter = (char)(letter - 'a' + 'A');
    if (letter == 'H' || letter == 'I' || letter == 'J' || letter == 'M' || letter == '[')
        config_error_at(parser, value.place,
                        "%.*s = %.*s: a key of its own (Backspace, Tab, Enter or Escape) sends that",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(value.text));
    else if (letter >= 'A' && letter <= '_')
        parser->config->escape = (char)(letter - '@');
    else
        config_error_at(parser, value.place, "%.*s = %.*s: not a control character, as in ^A",
                        CONFIG_QUOTE(name), CONFIG_QUOTE(value.text));
}

/* `monitor` or a partition, which may follow later in the text. */
static void read_nmi(struct config_parser *parser, struct slice name __unused, struct config_token value)
{
    if (slice_is(value.text, "monitor"))
        return;
    parser->config->nmi = value.text;
    parser->config->nmi_place = value.place;
}

/* ---- Tables
 * ------------------------------------------------------------------------------------------------- */

#define BOOT_BIT(boot) (1U << CONFIG_BOOT_##boot)
#define BOOT_LINUX     BOOT_BIT(LINUX)
#define BOOT_OTHERS    (BOOT_BIT(MULTIBOOT) | BOOT_BIT(MULTIBOOT2) | BOOT_BIT(ELF))
#define BOOT_ANY       (BOOT_LINUX | BOOT_OTHERS)

static const struct config_key umbra_keys[] = {
    {.name = "console", .read = read_umbra_console},
    {.name = "escape", .read = read_escape},
    {.name = "nmi", .read = read_nmi},
    {.name = NULL},
};

static const struct config_key partition_keys[] = {
    {.name = "memory", .read = read_memory, .required = true, .boots = BOOT_ANY},
    {.name = "vcpus", .read = read_vcpus, .boots = BOOT_ANY},
    {.name = "cpus", .read = read_cpus, .boots = BOOT_ANY},
    {.name = "paging", .read = read_paging, .boots = BOOT_ANY},
    {.name = "nested", .read = read_nested, .boots = BOOT_ANY},
    {.name = "vmcs-shadowing", .read = read_vmcs_shadowing, .boots = BOOT_ANY},
    {.name = "boot", .read = read_boot, .required = true, .boots = BOOT_ANY},
    {.name = "kernel", .read = read_kernel, .required = true, .boots = BOOT_ANY},
    {.name = "initrd", .read = read_initrd, .boots = BOOT_LINUX},
    {.name = "module", .read = read_module, .repeatable = true, .boots = BOOT_OTHERS},
    {.name = "cmdline", .read = read_cmdline, .may_be_empty = true, .boots = BOOT_ANY},
    {.name = "console", .read = read_console, .boots = BOOT_ANY},
    {.name = "shared", .read = read_shared, .repeatable = true, .boots = BOOT_ANY},
    {.name = "doorbell", .read = read_doorbell, .repeatable = true, .boots = BOOT_ANY},
    {.name = "start", .read = read_start, .boots = BOOT_ANY},
    {.name = "on-stop", .read = read_on_stop, .boots = BOOT_ANY},
    {.name = "timeout", .read = read_timeout, .boots = BOOT_ANY},
    {.name = NULL},
};

_Static_assert(ARRAY_SIZE(umbra_keys) <= CONFIG_KEYS_MAX && ARRAY_SIZE(partition_keys) <= CONFIG_KEYS_MAX,
               "CONFIG_KEYS_MAX");

const struct config_key config_live_keys[] = {
    {.name = "weight", .read = read_weight},
    {.name = "cap", .read = read_cap},
    {.name = "on-stop", .read = read_on_stop},
    {.name = "timeout", .read = read_timeout},
    {.name = NULL},
};

const struct config_section config_umbra_section = {"[umbra]", umbra_keys, false};
const struct config_section config_partition_section = {"a partition", partition_keys, true};

const struct config_key *config_find_key(const struct config_key *keys, struct slice name)
{
    for (const struct config_key *key = keys; key->name; key++)
        if (slice_is(name, key->name))
            return key;
    return NULL;
}

void config_default_partition(struct config_partition *partition)
{
    *partition = (struct config_partition){
        .in_use = true,
        .cpus = {.weight = CONFIG_WEIGHT_DEFAULT},
        .timeout = CONFIG_TIMEOUT_DEFAULT,
        .console_uart = true,
    };
}
