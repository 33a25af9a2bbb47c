// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * The policy rows that a partition's configuration may override, as keys `policy.NAME`; the first value is
 * the default. Handed to config_parse, on the machine and on the host alike.
 */
#include "core/config/config.h"
#include "vmx/policy_cr.h"

/*
 * X(NAME, KEY, MEMBER, BITS): the rows of vmx/policy_cr.c that may be overridden, and what of struct
 * policy_overrides asks for it. NAME is the row's in lower case.
 */
// clang-format off
#define CORE_POLICIES(X)                                                                                    \
    X(CR0_PE, "cr0.pe", cr0, X86_CR0_PE)                                                                    \
    X(CR0_MP, "cr0.mp", cr0, X86_CR0_MP)                                                                    \
    X(CR0_EM, "cr0.em", cr0, X86_CR0_EM)                                                                    \
    X(CR0_TS, "cr0.ts", cr0, X86_CR0_TS)                                                                    \
    X(CR0_WP, "cr0.wp", cr0, X86_CR0_WP)                                                                    \
    X(CR0_AM, "cr0.am", cr0, X86_CR0_AM)                                                                    \
    X(CR3, "cr3", cr3, true)                                                                                \
    X(CR4_VME, "cr4.vme", cr4, X86_CR4_VME)                                                                 \
    X(CR4_PVI, "cr4.pvi", cr4, X86_CR4_PVI)                                                                 \
    X(CR4_TSD, "cr4.tsd", cr4, X86_CR4_TSD)                                                                 \
    X(CR4_DE, "cr4.de", cr4, X86_CR4_DE)                                                                    \
    X(CR4_PSE, "cr4.pse", cr4, X86_CR4_PSE)                                                                 \
    X(CR4_PAE, "cr4.pae", cr4, X86_CR4_PAE)                                                                 \
    X(CR4_PGE, "cr4.pge", cr4, X86_CR4_PGE)                                                                 \
    X(CR4_PCE, "cr4.pce", cr4, X86_CR4_PCE)                                                                 \
    X(CR4_OSFXSR, "cr4.osfxsr", cr4, X86_CR4_OSFXSR)                                                        \
    X(CR4_OSXMMEXCPT, "cr4.osxmmexcpt", cr4, X86_CR4_OSXMMEXCPT)                                            \
    X(CR4_UMIP, "cr4.umip", cr4, X86_CR4_UMIP)                                                              \
    X(CR4_FSGSBASE, "cr4.fsgsbase", cr4, X86_CR4_FSGSBASE)                                                  \
    X(CR4_PCIDE, "cr4.pcide", cr4, X86_CR4_PCIDE)                                                           \
    X(CR4_OSXSAVE, "cr4.osxsave", cr4, X86_CR4_OSXSAVE)                                                     \
    X(CR4_SMEP, "cr4.smep", cr4, X86_CR4_SMEP)                                                              \
    X(CR4_SMAP, "cr4.smap", cr4, X86_CR4_SMAP)                                                              \
    X(CR4_PKE, "cr4.pke", cr4, X86_CR4_PKE)
// clang-format on

/* Indices in struct config_partition's policies: CORE_POLICY_CR0_PE …. */
enum core_policy {
#define X(NAME, KEY, MEMBER, BITS) CORE_POLICY_##NAME,
    CORE_POLICIES(X)
#undef X
        CORE_POLICY_TPR,
    CORE_POLICIES_COUNT,
};

/* Values of `policy.tpr`. */
enum core_policy_tpr {
    CORE_POLICY_TPR_SHADOWING,
    CORE_POLICY_TPR_INTERCEPT,
};

extern const struct config_policy_key core_policy_keys[];

/* What a partition's configuration overrides, by its struct config_partition's policies. */
void core_policy_overrides(const uint8_t policies[CONFIG_POLICIES_MAX], struct policy_overrides *overrides);
