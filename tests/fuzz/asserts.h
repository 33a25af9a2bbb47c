// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/* What the fake machines of tests/unit ask of cmocka, for a fuzzer: whatever does not hold is a finding. */
#include <stdlib.h>
#include <string.h>

#define assert_true(condition)          ((condition) ? (void)0 : abort())
#define assert_false(condition)         assert_true(!(condition))
#define assert_int_equal(a, b)          assert_true((uint64_t)(a) == (uint64_t)(b))
#define assert_int_not_equal(a, b)      assert_true((uint64_t)(a) != (uint64_t)(b))
#define assert_ptr_equal(a, b)          assert_true((a) == (b))
#define assert_ptr_not_equal(a, b)      assert_true((a) != (b))
#define assert_non_null(pointer)        assert_true((pointer) != NULL)
#define assert_string_equal(a, b)       assert_true(strcmp((a), (b)) == 0)
#define assert_memory_equal(a, b, size) assert_true(memcmp((a), (b), (size)) == 0)
#define fail()                          abort()
#define fail_msg(...)                   abort()
