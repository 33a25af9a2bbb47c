// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The part of the C library's <string.h> that a freestanding compiler may call by itself, and the few string
 * functions that Umbra uses. On the host the C library provides the standard ones.
 */
#include "lib/types.h"

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t most);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t most);
