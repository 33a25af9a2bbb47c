// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Numbers and bits of the model-specific registers that Umbra names (SDM vol. 4). Constants only, usable from
 * assembly as well; the bits of IA32_EFER stand in registers.h.
 */
#include "arch/x86/registers.h"

#define MSR_IA32_P5_MC_ADDR               0x000
#define MSR_IA32_P5_MC_TYPE               0x001
#define MSR_IA32_TSC                      0x010
#define MSR_IA32_PLATFORM_ID              0x017
#define MSR_IA32_APIC_BASE                0x01b
#define MSR_IA32_FEATURE_CONTROL          0x03a
#define MSR_IA32_TSC_ADJUST               0x03b
#define MSR_IA32_SPEC_CTRL                0x048
#define MSR_IA32_PRED_CMD                 0x049
#define MSR_PPIN_CTL                      0x04e
#define MSR_PPIN                          0x04f
#define MSR_IA32_BIOS_UPDT_TRIG           0x079
#define MSR_IA32_BIOS_SIGN_ID             0x08b
#define MSR_IA32_SMM_MONITOR_CTL          0x09b
#define MSR_IA32_SMBASE                   0x09e
#define MSR_SMI_COUNT                     0x034
#define MSR_PLATFORM_INFO                 0x0ce
#define MSR_IA32_MTRRCAP                  0x0fe
#define MSR_IA32_ARCH_CAPABILITIES        0x10a
#define MSR_IA32_FLUSH_CMD                0x10b
#define MSR_IA32_TSX_CTRL                 0x122
#define MSR_IA32_SYSENTER_CS              0x174
#define MSR_IA32_SYSENTER_ESP             0x175
#define MSR_IA32_SYSENTER_EIP             0x176
#define MSR_IA32_MCG_CAP                  0x179
#define MSR_IA32_MCG_STATUS               0x17a
#define MSR_IA32_MCG_CTL                  0x17b
#define MSR_IA32_PERF_STATUS              0x198
#define MSR_IA32_MISC_ENABLE              0x1a0
#define MSR_IA32_ENERGY_PERF_BIAS         0x1b0
#define MSR_IA32_XFD                      0x1c4
#define MSR_IA32_XFD_ERR                  0x1c5
#define MSR_LASTBRANCH_TOS                0x1c9
#define MSR_IA32_DEBUGCTL                 0x1d9
#define MSR_POWER_CTL                     0x1fc
#define MSR_IA32_MTRR_PHYSBASE0           0x200 /* PHYSBASEn is 0x200 + 2n, PHYSMASKn one more */
#define MSR_IA32_MTRR_PHYSMASK0           0x201
#define MSR_IA32_MTRR_FIX64K_00000        0x250
#define MSR_IA32_MTRR_FIX16K_80000        0x258
#define MSR_IA32_MTRR_FIX16K_A0000        0x259
#define MSR_IA32_MTRR_FIX4K_C0000         0x268
#define MSR_IA32_MTRR_FIX4K_F8000         0x26f
#define MSR_IA32_PAT                      0x277
#define MSR_IA32_MTRR_DEF_TYPE            0x2ff
#define MSR_IA32_PERF_CAPABILITIES        0x345
#define MSR_IA32_PERF_GLOBAL_CTRL         0x38f
#define MSR_IA32_VMX_BASIC                0x480
#define MSR_IA32_VMX_PINBASED_CTLS        0x481
#define MSR_IA32_VMX_PROCBASED_CTLS       0x482
#define MSR_IA32_VMX_EXIT_CTLS            0x483
#define MSR_IA32_VMX_ENTRY_CTLS           0x484
#define MSR_IA32_VMX_MISC                 0x485
#define MSR_IA32_VMX_CR0_FIXED0           0x486
#define MSR_IA32_VMX_CR0_FIXED1           0x487
#define MSR_IA32_VMX_CR4_FIXED0           0x488
#define MSR_IA32_VMX_CR4_FIXED1           0x489
#define MSR_IA32_VMX_VMCS_ENUM            0x48a
#define MSR_IA32_VMX_PROCBASED_CTLS2      0x48b
#define MSR_IA32_VMX_EPT_VPID_CAP         0x48c
#define MSR_IA32_VMX_TRUE_PINBASED_CTLS   0x48d
#define MSR_IA32_VMX_TRUE_PROCBASED_CTLS  0x48e
#define MSR_IA32_VMX_TRUE_EXIT_CTLS       0x48f
#define MSR_IA32_VMX_TRUE_ENTRY_CTLS      0x490
#define MSR_IA32_VMX_VMFUNC               0x491
#define MSR_IA32_VMX_PROCBASED_CTLS3      0x492
#define MSR_IA32_VMX_EXIT_CTLS2           0x493
#define MSR_IA32_MC0_CTL                  0x400 /* each bank has four: CTL, STATUS, ADDR, MISC */
#define MSR_IA32_DS_AREA                  0x600
#define MSR_IA32_TSC_DEADLINE             0x6e0
#define MSR_IA32_X2APIC_FIRST             0x800
#define MSR_IA32_X2APIC_TPR               0x808
#define MSR_IA32_X2APIC_LAST              0x8ff
#define MSR_IA32_XSS                      0xda0
#define MSR_IA32_EFER                     0xc0000080
#define MSR_IA32_STAR                     0xc0000081
#define MSR_IA32_LSTAR                    0xc0000082
#define MSR_IA32_CSTAR                    0xc0000083
#define MSR_IA32_FMASK                    0xc0000084
#define MSR_IA32_FS_BASE                  0xc0000100
#define MSR_IA32_GS_BASE                  0xc0000101
#define MSR_IA32_KERNEL_GS_BASE           0xc0000102
#define MSR_IA32_TSC_AUX                  0xc0000103

/* IA32_APIC_BASE (SDM vol. 3, 10.4.4 and 10.12.1). */
#define APIC_BASE_BSP                     X86_BIT(8)
#define APIC_BASE_X2APIC                  X86_BIT(10)
#define APIC_BASE_ENABLE                  X86_BIT(11)
#define APIC_BASE_ADDRESS                 0x000ffffffffff000

/* IA32_FEATURE_CONTROL (SDM vol. 3, 23.7). */
#define FEATURE_CONTROL_LOCKED            X86_BIT(0)
#define FEATURE_CONTROL_VMXON_INSIDE_SMX  X86_BIT(1)
#define FEATURE_CONTROL_VMXON_OUTSIDE_SMX X86_BIT(2)

/* IA32_MISC_ENABLE (SDM vol. 4, table 2-2). */
#define MISC_ENABLE_FAST_STRINGS          X86_BIT(0)
#define MISC_ENABLE_PERFMON               X86_BIT(7)
#define MISC_ENABLE_BTS_UNAVAILABLE       X86_BIT(11)
#define MISC_ENABLE_PEBS_UNAVAILABLE      X86_BIT(12)
#define MISC_ENABLE_SPEEDSTEP             X86_BIT(16)
#define MISC_ENABLE_MONITOR               X86_BIT(18)
#define MISC_ENABLE_LIMIT_CPUID           X86_BIT(22)
#define MISC_ENABLE_XD_DISABLE            X86_BIT(34)

/* IA32_SPEC_CTRL, IA32_PRED_CMD, IA32_FLUSH_CMD (SDM vol. 4, table 2-2). */
#define SPEC_CTRL_IBRS                    X86_BIT(0)
#define SPEC_CTRL_BHI_DIS_S               X86_BIT(10)
#define PRED_CMD_IBPB                     X86_BIT(0)
#define FLUSH_CMD_L1D                     X86_BIT(0)

/* IA32_DEBUGCTL (SDM vol. 3, 17.4.1). */
#define DEBUGCTL_LBR                      X86_BIT(0)
#define DEBUGCTL_BTF                      X86_BIT(1)

/* IA32_MTRRCAP, IA32_MTRR_DEF_TYPE, IA32_MTRR_PHYSMASKn (SDM vol. 3, 11.11). */
#define MTRRCAP_VCNT                      0xff
#define MTRRCAP_FIX                       X86_BIT(8)
#define MTRRCAP_WC                        X86_BIT(10)
#define MTRR_DEF_TYPE_FIXED_ENABLE        X86_BIT(10)
#define MTRR_DEF_TYPE_ENABLE              X86_BIT(11)
#define MTRR_PHYSMASK_VALID               X86_BIT(11)

/* Memory types of MTRRs, PAT and EPT (SDM vol. 3, table 11-2). */
#define MEMORY_TYPE_UC                    0
#define MEMORY_TYPE_WC                    1
#define MEMORY_TYPE_WT                    4
#define MEMORY_TYPE_WP                    5
#define MEMORY_TYPE_WB                    6
#define MEMORY_TYPE_UC_MINUS              7 /* PAT only */

/* IA32_PAT after reset: WB, WT, UC-, UC, twice (SDM vol. 3, 11.12.4). */
#define PAT_RESET                         0x0007040600070406

/* IA32_VMX_BASIC (SDM vol. 3, A.1). */
#define VMX_BASIC_REVISION                0x7fffffff
#define VMX_BASIC_REGION_SHIFT            32
#define VMX_BASIC_REGION_MASK             0x1fff
#define VMX_BASIC_32BIT_ADDRESS           X86_BIT(48)
#define VMX_BASIC_DUAL_MONITOR            X86_BIT(49)
#define VMX_BASIC_TYPE_SHIFT              50
#define VMX_BASIC_TYPE_MASK               0xf
#define VMX_BASIC_INS_OUTS_INFO           X86_BIT(54)
#define VMX_BASIC_TRUE_CONTROLS           X86_BIT(55)
#define VMX_BASIC_ANY_ERROR_CODE          X86_BIT(56)

/* IA32_VMX_MISC (SDM vol. 3, A.6). */
#define VMX_MISC_TIMER_SHIFT              0x1f
#define VMX_MISC_STORE_LMA                X86_BIT(5)
#define VMX_MISC_ACTIVITY_HLT             X86_BIT(6)
#define VMX_MISC_ACTIVITY_SHUTDOWN        X86_BIT(7)
#define VMX_MISC_ACTIVITY_SIPI            X86_BIT(8)
#define VMX_MISC_PROCESSOR_TRACE          X86_BIT(14)
#define VMX_MISC_SMBASE_MSR               X86_BIT(15)
#define VMX_MISC_CR3_TARGETS_SHIFT        16
#define VMX_MISC_CR3_TARGETS_MASK         0x1ff
#define VMX_MISC_MSR_LIST_SHIFT           25
#define VMX_MISC_MSR_LIST_MASK            0x7
#define VMX_MISC_SMM_MONITOR_CTL          X86_BIT(28)
#define VMX_MISC_VMWRITE_ANY              X86_BIT(29)
#define VMX_MISC_INJECT_ZERO_LENGTH       X86_BIT(30)

/* IA32_VMX_EPT_VPID_CAP (SDM vol. 3, A.10). */
#define VMX_EPT_EXECUTE_ONLY              X86_BIT(0)
#define VMX_EPT_WALK_4                    X86_BIT(6)
#define VMX_EPT_WALK_5                    X86_BIT(7)
#define VMX_EPT_MEMORY_UC                 X86_BIT(8)
#define VMX_EPT_MEMORY_WB                 X86_BIT(14)
#define VMX_EPT_PAGE_2M                   X86_BIT(16)
#define VMX_EPT_PAGE_1G                   X86_BIT(17)
#define VMX_EPT_INVEPT                    X86_BIT(20)
#define VMX_EPT_ACCESSED_DIRTY            X86_BIT(21)
#define VMX_EPT_ADVANCED_EXIT_INFO        X86_BIT(22)
#define VMX_EPT_SUPERVISOR_SHADOW_STACK   X86_BIT(23)
#define VMX_EPT_INVEPT_SINGLE             X86_BIT(25)
#define VMX_EPT_INVEPT_ALL                X86_BIT(26)
#define VMX_VPID_INVVPID                  X86_BIT(32)
#define VMX_VPID_INVVPID_ADDRESS          X86_BIT(40)
#define VMX_VPID_INVVPID_SINGLE           X86_BIT(41)
#define VMX_VPID_INVVPID_ALL              X86_BIT(42)
#define VMX_VPID_INVVPID_RETAIN_GLOBALS   X86_BIT(43)

/* Layout of the MSR bitmap: four runs of 8,192 bits (SDM vol. 3, 24.6.9). */
#define MSR_BITMAP_READ_LOW               0
#define MSR_BITMAP_READ_HIGH              1024
#define MSR_BITMAP_WRITE_LOW              2048
#define MSR_BITMAP_WRITE_HIGH             3072
#define MSR_BITMAP_HIGH_FIRST             0xc0000000
#define MSR_BITMAP_RUN                    0x2000
