// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Umbra's own address space. Nothing in it is both writable and executable:
 *
 *   0xffff8000_00000000  physical map: memory of the boot map, no-execute; Umbra's image is left out
 *   0xffffa000_00000000  stacks, each above an unmapped guard page
 *   0xffffb000_00000000  device registers, uncached
 *   0xffffffff_80200000  the image: text read-execute, rodata read-only, data and bss read-write
 */
#include "lib/types.h"
#include "mm/frame.h"

/*
 * Builds the address space out of frames of `pool` (kept for ever). Nothing is mapped in the physical map yet
 * but what the boot tables had; address_space_map_memory adds it. Start-up, once.
 */
int address_space_init(struct frame_pool *pool) __must_check;

/* Adds [base, base + size) to the physical map, write-back, where it is not yet. -ENOMEM. Start-up. */
int address_space_map_memory(hpa_t base, uint64_t size) __must_check;

/* Loads the address space into this processor and turns on its protections (WP, SMEP, SMAP, UMIP, global
 * pages). */
void address_space_activate(void);

/*
 * A root like Umbra's own that has `page` (a frame below 4 GiB) at its physical address as well, to read and
 * execute: for processors that turn paging on there and then go to address_space_activate, after which
 * nothing of it is left in them. -ENOMEM. Start-up; the frames go back by address_space_drop_start_root.
 */
int address_space_new_start_root(hpa_t page, hpa_t *start_root) __must_check;
void address_space_drop_start_root(hpa_t start_root);

/* True if all of [base, base + size) is in the physical map. */
bool address_space_is_mapped(hpa_t base, uint64_t size);

/* A new stack of `pages` pages below the returned top, above a guard page. Panics without memory. Start-up.
 */
uint64_t address_space_new_stack(unsigned pages);

/* Maps device registers uncached; panics without memory. Start-up. */
void *address_space_map_device(hpa_t base, uint64_t size);

/* The physical address of something inside the image. */
hpa_t address_space_image_address(const void *pointer);
