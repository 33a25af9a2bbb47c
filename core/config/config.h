// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The configuration: one text file that says how the machine is divided. The same parser runs in the
 * hypervisor and, compiled for the host, in `umbra check`. It allocates nothing; every value is a slice of
 * the text, which must live as long as the struct.
 */
#include "lib/slice.h"
#include "lib/types.h"

#define CONFIG_PARTITIONS_MAX  16
#define CONFIG_MODULES_MAX     16
#define CONFIG_POLICIES_MAX    32
#define CONFIG_REASON_MAX      224
#define CONFIG_NAME_MAX        31        /* characters of a partition's name */
#define CONFIG_MEMORY_MIN      MIB(1)    /* of a partition */
#define CONFIG_MEMORY_UNIT     PAGE_SIZE /* a partition's memory is a multiple of it */
#define CONFIG_VCPUS_MAX       32
#define CONFIG_PROCESSORS_MAX  64 /* of the machine */
#define CONFIG_SHARED_MAX      4  /* regions and doorbells of one partition */
#define CONFIG_WEIGHT_DEFAULT  100
#define CONFIG_WEIGHT_MAX      10000
#define CONFIG_TIMEOUT_DEFAULT 30 /* seconds */
#define CONFIG_TIMEOUT_MAX     3600
#define CONFIG_ADDRESS_BITS    52 /* no machine address has more (SDM vol. 3, "Paging") */

/* What a partition with memory at a fixed place gets besides it: RAM at address 0, from anywhere. */
#define CONFIG_MEMORY_LOW      MIB(1)

/* Where something stands in the text; both count from 1, columns in bytes. */
struct config_place {
    unsigned line;
    unsigned column;
};

enum config_boot {
    CONFIG_BOOT_LINUX,
    CONFIG_BOOT_MULTIBOOT,
    CONFIG_BOOT_MULTIBOOT2,
    CONFIG_BOOT_ELF,
};

/* Who translates the addresses of a partition's guest. */
enum config_paging {
    CONFIG_PAGING_AUTO,      /* the processor, if it can: _EPT, else _VTLB */
    CONFIG_PAGING_EPT,       /* the processor */
    CONFIG_PAGING_VTLB,      /* Umbra's virtual TLB, which keeps what it knows of address spaces, */
    CONFIG_PAGING_VTLB_BASE, /* or forgets it: the reference */
};

enum config_on_stop {
    CONFIG_ON_STOP_STAY,
    CONFIG_ON_STOP_RESTART,
    CONFIG_ON_STOP_POWEROFF,
};

/* A file that the configuration names, with what follows it on the line. `path.length` is 0 if not given. */
struct config_file {
    struct slice path;
    struct slice arguments;
    struct config_place place; /* of the path */
};

/*
 * `cpus = 2-3,5`: these pCPUs, one for each vCPU, for this partition alone; pCPU 0 is the housekeeper's and
 * never given away. `cpus = shared [on 0-1] [weight N] [cap P%]`: vCPUs by turns with others' on pCPUs that
 * nobody has to himself, or on those of them listed.
 */
struct config_cpus {
    bool dedicated;
    uint64_t set;    /* pCPU n: bit n. Dedicated: the vCPUs' in ascending order. Shared: 0 is any */
    unsigned weight; /* share of a vCPU beside others; CONFIG_WEIGHT_DEFAULT */
    unsigned cap;    /* per cent of a pCPU that a vCPU gets at most; 0: no cap */
    struct config_place place;
};

/*
 * `shared = NAME 4M`: memory that all partitions which name it see, and a doorbell to each other;
 * `doorbell = NAME`: the doorbell alone. Each is one PCI function.
 */
struct config_shared {
    struct slice name;
    uint64_t size; /* bytes, a power of two of at least PAGE_SIZE; 0: a doorbell alone */
    struct config_place place;
};

/* Line 0 stands for a value that was not given, or not a good one; the value itself is then the default. */
struct config_partition {
    bool in_use; /* this slot holds a partition; all else is valid only then */
    struct slice name;
    struct config_place place; /* of the name */
    uint64_t memory;           /* bytes; 0 if none was given that makes sense */
    struct config_place memory_place;
    bool memory_fixed;    /* `memory = 512M at 0x40000000`: these very frames, */
    uint64_t memory_base; /* seen by the guest at their machine addresses; beside them CONFIG_MEMORY_LOW */
    unsigned vcpus;       /* as many as dedicated pCPUs, unless given; else 1 */
    struct config_cpus cpus;
    enum config_paging paging;
    struct config_place paging_place;
    bool nested;            /* `nested = yes`: its vCPUs have VT-x; default no */
    bool no_vmcs_shadowing; /* `vmcs-shadowing = no`: VMREAD and VMWRITE of theirs always exit */
    struct config_shared shared[CONFIG_SHARED_MAX];
    unsigned shared_count;
    unsigned timeout;    /* seconds that a guest has between power button and force */
    bool start_manually; /* `start = manual`: not with Umbra, but by the monitor; default `start = auto` */
    enum config_boot boot;
    struct config_place boot_place;
    struct config_file kernel;
    struct config_file initrd;
    struct config_file modules[CONFIG_MODULES_MAX];
    unsigned module_count;
    struct slice cmdline;
    struct config_place cmdline_place;
    bool console_uart;
    enum config_on_stop on_stop;
    uint8_t policies[CONFIG_POLICIES_MAX]; /* per row of the policy key table: index of the chosen value */
    bool refused;                          /* at least one error stands against it */
    char reason[CONFIG_REASON_MAX];        /* the first of them reported, terminated */
};

struct config {
    uint16_t console_port; /* COM1 unless the text says otherwise */
    uint32_t console_baud;
    char escape; /* the control character, e.g. 1 for ^A */
    /*
     * `nmi = NAME`: the partition whose NMIs the machine's are. Empty (`nmi = monitor`), or none of that name
     * any more (config_find): they are reported.
     */
    struct slice nmi;
    struct config_place nmi_place;
    /*
     * Slots. A partition keeps its slot, and so its number, as long as it lives; config_parse fills them from
     * the first on, so that behind it those in use are 0 to partition_count - 1.
     */
    struct config_partition partitions[CONFIG_PARTITIONS_MAX];
    unsigned partition_count; /* slots in use */
};

/*
 * A key `policy.NAME` of a partition, handed in by whoever owns the policy, so that the parser knows none:
 * values[0] is the default. The table ends with a row whose name is NULL, at the latest after
 * CONFIG_POLICIES_MAX others.
 */
struct config_policy_key {
    const char *name;
    const char *values[4]; /* unused ones NULL */
};

/* Where errors go. `message` lives only for the call. */
struct config_reporter {
    void (*error)(struct config_reporter *reporter, struct config_place place, const char *message);
};

/* How the configuration's files are found: on the host the file system, on the machine the module table. */
struct config_files {
    /* Points `data` and `size` at the whole file (it stays the implementer's); -ENOENT if there is none. */
    int (*find)(struct config_files *files, struct slice path, const void **data, size_t *size);
};

/*
 * Parses `text` into `config`. Every error is reported with its place, and those in a partition's section
 * also mark that partition refused; parsing goes on after each. Returns the number of errors. They come in
 * the order in which they are found: what can be said only about a section as a whole comes at its end.
 *
 * The text: sections `[umbra]` and `[partition NAME]`, lines `key = value`. A `#` at the start of a line or
 * after white space begins a comment. A value that begins with a double quote ends at the next one and is
 * what stands between them, comment signs and outer white space included; there are no escapes. Lines end in
 * LF or CR LF; a UTF-8 byte-order mark in front is skipped. Outside comments only printable ASCII and tabs
 * may stand.
 *
 * With no text at all (`length` 0), `config` gets the defaults. Start-up only; uses about 3 KiB of stack.
 */
unsigned config_parse(struct config *config, const char *text, size_t length,
                      const struct config_policy_key *policies, struct config_reporter *reporter);

/*
 * Parses one more partition, for a machine that runs already, into a free slot, and writes the slot's number
 * to *index. `text` is a section `[partition NAME]`, or its lines alone, when `name` says what it is called
 * (length 0: the header must do so; given both, they must agree). Both must live as long as the partition,
 * and `name` is expected at line 1, column 1 of the text. 0; -EINVAL: errors were reported, the slot is free
 * still, *index unchanged. No other slot is touched. Housekeeping; stack as config_parse.
 */
int config_parse_section(struct config *config, struct slice name, const char *text, size_t length,
                         const struct config_policy_key *policies, struct config_reporter *reporter,
                         unsigned *index) __must_check;

/*
 * Checks what the text alone cannot tell: that each file is there and is what `boot` says, that kernel and
 * files fit into the partition's memory, that the machine has the processors, and that the partitions not
 * refused fit together: their memory into `memory` bytes (0: unknown, not checked), fixed ranges beside each
 * other, nobody on a processor that is another's alone, regions of one name of one size. Memory, processors
 * and regions are given to them in their order: the later one of two that collide is refused. `processors`:
 * how many the machine has, 0 if unknown. Refused partitions are checked as well, but use nothing. Same
 * reporting as config_parse. `files` and `reporter` are borrowed for the call. Start-up only.
 */
unsigned config_check(struct config *config, struct config_files *files, uint64_t memory, unsigned processors,
                      struct config_reporter *reporter);

/*
 * The same for the partition in slot `index` alone, beside all others that are in use and not refused:
 * `memory` is what is free without it. Housekeeping.
 */
unsigned config_check_partition(struct config *config, unsigned index, struct config_files *files,
                                uint64_t memory, unsigned processors, struct config_reporter *reporter);

/* The first slot in use at or after `from`; CONFIG_PARTITIONS_MAX if there is none. Any context. */
unsigned config_next(const struct config *config, unsigned from);

/* The slot of the partition called `name`; CONFIG_PARTITIONS_MAX if there is none. Any context. */
unsigned config_find(const struct config *config, struct slice name);

/*
 * The pCPUs that partitions in use and not refused have to themselves, pCPU n as bit n. Shared vCPUs run on
 * the others, pCPU 0 always among them. Any context.
 */
uint64_t config_dedicated(const struct config *config);

/* Frees slot `index`, which is in use: nothing points to its text any more. Housekeeping. */
void config_remove(struct config *config, unsigned index);

/*
 * Changes what may change while the partition lives: `weight` and `cap` of its shared vCPUs, `on-stop`,
 * `timeout`. 0; -ENOENT: no such key, or none that may change; -EINVAL: not a value for it, or not for this
 * partition. On errors nothing changed, and `reason` says which, terminated. The value's text is not kept.
 * Housekeeping; stack as config_parse.
 */
int config_set(struct config_partition *partition, struct slice key, struct slice value,
               char reason[CONFIG_REASON_MAX]) __must_check;
