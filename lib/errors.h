// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Error numbers, used negative, with the names and values of the field. On the host the C library's own
 * header gives the same ones.
 */
#if __STDC_HOSTED__
#include <errno.h>
#else
#define EPERM      1
#define ENOENT     2
#define EIO        5
#define ENXIO      6
#define E2BIG      7
#define ENOEXEC    8
#define EAGAIN     11
#define ENOMEM     12
#define EFAULT     14
#define EBUSY      16
#define EEXIST     17
#define ENODEV     19
#define EINVAL     22
#define ENOSPC     28
#define ERANGE     34
#define ENOSYS     38
#define EOVERFLOW  75
#define EOPNOTSUPP 95
#endif
