// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The access matrix: what its two halves share. The engine (engine.c, visit.S) is compiled twice, for long
 * mode and, with `legacy_` before its names, for 32-bit protected mode; matrix.c chooses what it does. All
 * structures have the same layout in both, and all of them lie below 4 GiB.
 *
 * One *combination* is a set of paging-structure entries, one for each level, on the way of one linear
 * address. One *access* is a kind of access at a privilege level. One *observation* is what came of one
 * access with one combination. One *shard* is a paging mode with one set of control bits.
 */
#include "lib/types.h"

/* Bits of an entry, in all formats. */
#define ENTRY_PRESENT  BIT(0)
#define ENTRY_WRITE    BIT(1)
#define ENTRY_USER     BIT(2)
#define ENTRY_ACCESSED BIT(5)
#define ENTRY_DIRTY    BIT(6)
#define ENTRY_SIZE     BIT(7)
#define ENTRY_GLOBAL   BIT(8)
#define ENTRY_KEY      BIT(59) /* protection key 1 */
#define ENTRY_NX       BIT(63)

/* Control bits of a shard. */
#define CONTROL_WP     BIT(0)
#define CONTROL_NXE    BIT(1)
#define CONTROL_SMEP   BIT(2)
#define CONTROL_SMAP   BIT(3)
#define CONTROL_KEY_AD BIT(4) /* CR4.PKE, and PKRU refuses access by key 1 */
#define CONTROL_KEY_WD BIT(5) /* CR4.PKE, and PKRU refuses writes by key 1 */

enum matrix_mode { MODE_NONE, MODE_32, MODE_PSE, MODE_PAE, MODE_4LEVEL, MODE_5LEVEL, MODES };

#define MATRIX_LEVELS_MAX 5

struct matrix_form {
    char name[16];
    uint32_t levels;
    uint32_t entry_size;
    uint32_t shift[MATRIX_LEVELS_MAX]; /* of the address, from the root on */
    uint32_t first_leaf;               /* the first level at which PS = 1 maps a page */
    uint32_t has_nx;
    uint32_t has_pointers; /* the first level is that of PAE: it is in registers, and has no rights */
};

/* Entries from the root on, and the level of the one that was meant to map the page. */
struct matrix_combination {
    uint64_t entry[MATRIX_LEVELS_MAX];
    uint64_t leaf;
};

/*
 * The page that is mapped: one of three frames. In each, at these offsets, lie the places of the accesses:
 * what is read, what is written, what is counted up, code that loads a number into EAX and leaves, and a
 * descriptor of the local descriptor table, which is the page.
 */
#define FRAMES              3
#define FRAME_READ          0x10
#define FRAME_WRITE         0x20
#define FRAME_MODIFY        0x30
#define FRAME_CODE          0x40
#define FRAME_DESCRIPTOR    0x80

/* 4K, 2M: the first two; a 4M page may be the first and the last; a 1G page only the first. */
#define FRAME_0             0x1500000
#define FRAME_1             0x1700000
#define FRAME_2             0x1100000
#define FRAME_OFFSET        0x1500000 /* of the linear address in what its large page maps */

#define SELECTOR_PROBE      0x87 /* in the LDT, RPL 3 */
/* In EAX before each access. */
#define MATRIX_UNTOUCHED    0x0badf00d

/* What there is in the first frame; in the others one more. */
#define SEEN_READ           0x11110000u
#define SEEN_CODE           0xc0de0000u
#define SEEN_LIMIT          0x1000u
#define KEPT_WRITE          0x22220000u
#define KEPT_COUNT          0x33330000u
#define DESCRIPTOR_HIGH     0x0040f200u /* present, DPL 3, data, writable, not accessed */
#define DESCRIPTOR_STEP     0x01000000u /* of its base */
#define DESCRIPTOR_ACCESSED 0x00000100u

enum matrix_kind { KIND_READ, KIND_WRITE, KIND_MODIFY, KIND_EXECUTE, KIND_LOOK, KIND_LOAD, KINDS };

/* access = kind + KINDS * (CPL is 3) + 2 * KINDS * (EFLAGS.AC) */
#define ACCESS_USER    KINDS
#define ACCESS_AC      (2 * KINDS)
#define ACCESSES       (4 * KINDS)

/* Vectors: an exception's, or how a piece of code leaves. */
#define MATRIX_LEAVE   0x40
#define MATRIX_VECTORS (MATRIX_LEAVE + 1)

#define DAMAGE         BIT(31) /* in flags: an entry changed in more than A and D */

struct matrix_observation {
    uint32_t combination;
    uint32_t access;
    uint32_t vector; /* MATRIX_LEAVE: done */
    uint32_t error;
    uint32_t where;  /* of the saved instruction pointer: offset in the code; ~0 is the page itself */
    uint32_t flags;  /* A (bit 0) and D (bit 1) of the entries afterwards, two bits a level, root lowest */
    uint32_t seen;   /* EAX */
    uint32_t memory; /* what there is now at the place of the access in all frames: their weighted sum */
    uint64_t cr2;    /* 0 if done */
};

/* Observations are kept for `show`; a shard's hash is noted after each of as many. */
#define BLOCK_SIZE 1024
#define BLOCKS_MAX 512

struct matrix_result {
    uint32_t observations;
    uint32_t flushes;            /* of the address */
    uint32_t faults;             /* observations of a page fault */
    uint32_t neighbours_changed; /* combinations after which other entries of the tables were not as before */
    uint32_t wrong;              /* observations that are not what the SDM says; the first of them: */
    struct matrix_observation seen, expected;
    uint64_t hash;
    uint64_t ticks;
    uint64_t block_hash[BLOCKS_MAX];
};

struct matrix_shard {
    /* The mode and its registers. What switch.S knows comes first. */
    uint32_t cr0, cr3, cr4, efer;
    uint32_t accesses; /* a bit for each access that is made */
    uint32_t controls;
    struct matrix_form form;
    uint64_t linear;
    uint64_t reserved;    /* bits of an entry beyond the physical address, in a format of 8 bytes */
    uint32_t user_offset; /* from the address of ring-0 code to its alias for ring 3 */
    uint32_t table[MATRIX_LEVELS_MAX]; /* address of the table of each level */
    uint32_t index[MATRIX_LEVELS_MAX]; /* of the entry in it */
    uint32_t gigabyte_pages;

    /* The combinations. Those are made whose mixed number is `part` modulo `parts`. */
    uint32_t combinations; /* address */
    uint32_t count;
    uint32_t part, parts;
    uint32_t block; /* whose observations are kept */
    uint32_t kept;  /* address of BLOCK_SIZE observations */

    struct matrix_result result;
};

/* What lets the 32-bit half read this: -malign-double. */
_Static_assert(offsetof(struct matrix_observation, cr2) % 8 == 0 && sizeof(struct matrix_observation) == 40,
               "one layout for both halves");

/* ---- engine.c ---- */

/* Runs the shard in the mode that the processor is in. */
void matrix_run(struct matrix_shard *shard);

/* ---- switch.S ---- */

/*
 * From long mode into the shard's mode; there matrix_run() or its 32-bit twin; and back. The GDT has the
 * mode's TSS at SELECTOR_MATRIX_TSS and its LDT at SELECTOR_MATRIX_LDT, matrix_idt_pointer is its IDT. The
 * caller loads the framework's IDT and TSS again.
 */
void matrix_switch(struct matrix_shard *shard);

#define SELECTOR_MATRIX_TSS 0x50
#define SELECTOR_MATRIX_LDT 0x60

/* ---- visit.S ---- */

/* One access. The first part is the frame of the IRET that begins it. */
struct matrix_visit {
    unsigned long ip, cs, flags, sp, ss;
    unsigned long address; /* in DX */
    unsigned long value;   /* in CX: SELECTOR_PROBE */
    unsigned long seen, vector, error, where, cr2;
};

void matrix_visit(struct matrix_visit *visit);

extern const char matrix_read[], matrix_write[], matrix_modify[], matrix_execute[], matrix_look[],
    matrix_load[];
