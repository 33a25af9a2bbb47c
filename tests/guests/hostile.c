// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a partition must survive, chosen by a word of the command line:
 *
 *     triple     an exception with no IDT: the partition crashes
 *     jump       goes to where no memory is, and has no IDT for what happens there
 *     badmsr     RDMSR and WRMSR of registers that do not exist: #GP, and the guest goes on to PASS
 *     cli-loop   loops with interrupts off for ever
 *
 * Each says what it is about to do; only badmsr ends by itself.
 */
#include "lib/printf.h"
#include "tests/guests/lib/guest.h"

#define HOLE 0xd0000000UL /* no memory there on the bare machine nor in a partition */

static void triple(void)
{
    print("HOSTILE triple\n");
    guest_idt_load(0);
    __asm__ volatile("ud2");
}

static void jump(void)
{
    print("HOSTILE jump\n");
    guest_idt_load(0);
    __asm__ volatile("jmp *%0" : : "r"(HOLE));
}

static void bad_msr(void)
{
    static const uint32_t missing[] = {0x5000, 0x4b564d00, 0xc0000200, 0xc0010200, 0xffffffff};
    uint32_t low, high;

    for (size_t i = 0; i < ARRAY_SIZE(missing); i++) {
        char name[32];
        format_text(name, sizeof(name), "rdmsr-%#x", missing[i]);
        TRY("rdmsr", : "=a"(low), "=d"(high) : "c"(missing[i]) : "memory");
        guest_expect(name, VECTOR_GP, 0, 0);
        format_text(name, sizeof(name), "wrmsr-%#x", missing[i]);
        TRY("wrmsr", : : "a"(0), "d"(0), "c"(missing[i]) : "memory");
        guest_expect(name, VECTOR_GP, 0, 0);
    }
}

static void cli_loop(void)
{
    print("HOSTILE cli-loop\n");
    __asm__ volatile("cli; 1: jmp 1b");
}

static const struct {
    const char *word;
    void (*act)(void);
} acts[] = {
    {"triple", triple},
    {"jump", jump},
    {"badmsr", bad_msr},
    {"cli-loop", cli_loop},
};

void guest_main(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(acts); i++)
        if (guest_argument(acts[i].word)) {
            acts[i].act();
            return;
        }
    guest_check(false, "hostile", "none of its words on the command line");
}
