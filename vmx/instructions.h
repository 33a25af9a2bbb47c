// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The VMX instructions (SDM vol. 3, "VMX instruction reference"), one inline function each. A failure returns
 * false; the VM-instruction error field, where there is one, says why.
 */
#include "lib/types.h"

enum invept_type {
    INVEPT_CONTEXT = 1,
    INVEPT_ALL = 2,
};

enum invvpid_type {
    INVVPID_ADDRESS = 0,
    INVVPID_CONTEXT = 1,
    INVVPID_ALL = 2,
    INVVPID_CONTEXT_BUT_GLOBAL = 3,
};

#if __STDC_HOSTED__
/* On the host there is no VMX: a test that needs these has its own. */
bool vmx_clear(hpa_t vmcs);
bool vmx_load(hpa_t vmcs);
bool vmx_read(uint64_t encoding, uint64_t *value);
bool vmx_write(uint64_t encoding, uint64_t value);
bool vmx_invept(enum invept_type type, uint64_t eptp);
bool vmx_invvpid(enum invvpid_type type, uint16_t vpid, gla_t address);
#else
static inline bool vmx_on(hpa_t region)
{
    bool failed;

    __asm__ volatile("vmxon %1" : "=@ccbe"(failed) : "m"(region.value) : "memory");
    return !failed;
}

static inline void vmx_off(void)
{
    __asm__ volatile("vmxoff" : : : "cc", "memory");
}

static inline bool vmx_clear(hpa_t vmcs)
{
    bool failed;

    __asm__ volatile("vmclear %1" : "=@ccbe"(failed) : "m"(vmcs.value) : "memory");
    return !failed;
}

static inline bool vmx_load(hpa_t vmcs)
{
    bool failed;

    __asm__ volatile("vmptrld %1" : "=@ccbe"(failed) : "m"(vmcs.value) : "memory");
    return !failed;
}

static inline bool vmx_read(uint64_t encoding, uint64_t *value)
{
    bool failed;

    __asm__ volatile("vmread %2, %1" : "=@ccbe"(failed), "=rm"(*value) : "r"(encoding));
    return !failed;
}

static inline bool vmx_write(uint64_t encoding, uint64_t value)
{
    bool failed;

    __asm__ volatile("vmwrite %2, %1" : "=@ccbe"(failed) : "r"(encoding), "rm"(value));
    return !failed;
}

static inline bool vmx_invept(enum invept_type type, uint64_t eptp)
{
    bool failed;
    struct {
        uint64_t eptp;
        uint64_t reserved;
    } descriptor = {eptp, 0};

    __asm__ volatile("invept %1, %2" : "=@ccbe"(failed) : "m"(descriptor), "r"((uint64_t)type) : "memory");
    return !failed;
}

static inline bool vmx_invvpid(enum invvpid_type type, uint16_t vpid, gla_t address)
{
    bool failed;
    struct {
        uint64_t vpid;
        uint64_t address;
    } descriptor = {vpid, address.value};

    __asm__ volatile("invvpid %1, %2" : "=@ccbe"(failed) : "m"(descriptor), "r"((uint64_t)type) : "memory");
    return !failed;
}
#endif
