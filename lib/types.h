// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The types that every room shares. The three kinds of address are one-member structs, so that the compiler
 * refuses a guest-physical address where a host-physical one is wanted.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest-linear, guest-physical and host-physical address (docs/design.md, "Words"). */
typedef struct {
    uint64_t value;
} gla_t;

typedef struct {
    uint64_t value;
} gpa_t;

typedef struct {
    uint64_t value;
} hpa_t;

#define GLA(v)                ((gla_t){(v)})
#define GPA(v)                ((gpa_t){(v)})
#define HPA(v)                ((hpa_t){(v)})

/* The result must be looked at. */
#define __must_check          __attribute__((warn_unused_result))
#define __printf_format(f, a) __attribute__((format(printf, f, a)))
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define __noinline                          __attribute__((noinline))
#define __noreturn                          __attribute__((noreturn))
#define __packed                            __attribute__((packed))
#define __aligned(n)                        __attribute__((aligned(n)))
#define __unused                            __attribute__((unused))

#define likely(x)                           __builtin_expect(!!(x), 1)
#define unlikely(x)                         __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a)                       (sizeof(a) / sizeof((a)[0]))

/* The struct of type `type` whose member `member` is at `pointer`. */
#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define BIT(n)                              (1ULL << (n))

#define KIB(n)                              ((uint64_t)(n) << 10)
#define MIB(n)                              ((uint64_t)(n) << 20)
#define GIB(n)                              ((uint64_t)(n) << 30)

#define PAGE_SHIFT                          12
#define PAGE_SIZE                           4096UL
#define PAGE_SHIFT_2M                       21
#define PAGE_SHIFT_1G                       30

/* `alignment` is a power of two. The caller sees to it that aligning up does not wrap. */
static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

static inline bool is_aligned(uint64_t value, uint64_t alignment)
{
    return (value & (alignment - 1)) == 0;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
