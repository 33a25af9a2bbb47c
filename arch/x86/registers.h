// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Bits of the control, debug, flags and extended-state registers, by the SDM's names (vol. 1 ch. 3 and 13,
 * vol. 3 ch. 2). Constants only, usable from assembly as well.
 */
#ifdef __ASSEMBLER__
#define X86_BIT(n) (1 << (n))
#else
#define X86_BIT(n) (1ULL << (n))
#endif

/* RFLAGS (SDM vol. 1, 3.4.3). */
#define X86_RFLAGS_CF       X86_BIT(0)
#define X86_RFLAGS_RESERVED X86_BIT(1) /* always 1 */
#define X86_RFLAGS_PF       X86_BIT(2)
#define X86_RFLAGS_AF       X86_BIT(4)
#define X86_RFLAGS_ZF       X86_BIT(6)
#define X86_RFLAGS_SF       X86_BIT(7)
#define X86_RFLAGS_TF       X86_BIT(8)
#define X86_RFLAGS_IF       X86_BIT(9)
#define X86_RFLAGS_DF       X86_BIT(10)
#define X86_RFLAGS_OF       X86_BIT(11)
#define X86_RFLAGS_IOPL     (X86_BIT(12) | X86_BIT(13))
#define X86_RFLAGS_NT       X86_BIT(14)
#define X86_RFLAGS_RF       X86_BIT(16)
#define X86_RFLAGS_VM       X86_BIT(17)
#define X86_RFLAGS_AC       X86_BIT(18)
#define X86_RFLAGS_VIF      X86_BIT(19)
#define X86_RFLAGS_VIP      X86_BIT(20)
#define X86_RFLAGS_ID       X86_BIT(21)

/* CR0 (SDM vol. 3, 2.5). */
#define X86_CR0_PE          X86_BIT(0)
#define X86_CR0_MP          X86_BIT(1)
#define X86_CR0_EM          X86_BIT(2)
#define X86_CR0_TS          X86_BIT(3)
#define X86_CR0_ET          X86_BIT(4) /* hard-wired to 1 */
#define X86_CR0_NE          X86_BIT(5)
#define X86_CR0_WP          X86_BIT(16)
#define X86_CR0_AM          X86_BIT(18)
#define X86_CR0_NW          X86_BIT(29)
#define X86_CR0_CD          X86_BIT(30)
#define X86_CR0_PG          X86_BIT(31)

/* CR3 (SDM vol. 3, 2.5 and 4.5). */
#define X86_CR3_PWT         X86_BIT(3)
#define X86_CR3_PCD         X86_BIT(4)
#define X86_CR3_PCID        0xfff       /* with CR4.PCIDE = 1 */
#define X86_CR3_NO_FLUSH    X86_BIT(63) /* in the operand of MOV to CR3 only, with CR4.PCIDE = 1 */

/* CR4 (SDM vol. 3, 2.5). */
#define X86_CR4_VME         X86_BIT(0)
#define X86_CR4_PVI         X86_BIT(1)
#define X86_CR4_TSD         X86_BIT(2)
#define X86_CR4_DE          X86_BIT(3)
#define X86_CR4_PSE         X86_BIT(4)
#define X86_CR4_PAE         X86_BIT(5)
#define X86_CR4_MCE         X86_BIT(6)
#define X86_CR4_PGE         X86_BIT(7)
#define X86_CR4_PCE         X86_BIT(8)
#define X86_CR4_OSFXSR      X86_BIT(9)
#define X86_CR4_OSXMMEXCPT  X86_BIT(10)
#define X86_CR4_UMIP        X86_BIT(11)
#define X86_CR4_LA57        X86_BIT(12)
#define X86_CR4_VMXE        X86_BIT(13)
#define X86_CR4_SMXE        X86_BIT(14)
#define X86_CR4_FSGSBASE    X86_BIT(16)
#define X86_CR4_PCIDE       X86_BIT(17)
#define X86_CR4_OSXSAVE     X86_BIT(18)
#define X86_CR4_KL          X86_BIT(19)
#define X86_CR4_SMEP        X86_BIT(20)
#define X86_CR4_SMAP        X86_BIT(21)
#define X86_CR4_PKE         X86_BIT(22)
#define X86_CR4_CET         X86_BIT(23)
#define X86_CR4_PKS         X86_BIT(24)
#define X86_CR4_UINTR       X86_BIT(25)
#define X86_CR4_LASS        X86_BIT(27)
#define X86_CR4_LAM_SUP     X86_BIT(28)

/* IA32_EFER (SDM vol. 3, 2.2.1). */
#define X86_EFER_SCE        X86_BIT(0)
#define X86_EFER_LME        X86_BIT(8)
#define X86_EFER_LMA        X86_BIT(10)
#define X86_EFER_NXE        X86_BIT(11)

/* Extended state components: bits of XCR0 and IA32_XSS (SDM vol. 1, 13.1). */
#define X86_XCR0_X87        X86_BIT(0)
#define X86_XCR0_SSE        X86_BIT(1)
#define X86_XCR0_AVX        X86_BIT(2)
#define X86_XCR0_BNDREGS    X86_BIT(3)
#define X86_XCR0_BNDCSR     X86_BIT(4)
#define X86_XCR0_OPMASK     X86_BIT(5)
#define X86_XCR0_ZMM_HI256  X86_BIT(6)
#define X86_XCR0_HI16_ZMM   X86_BIT(7)
#define X86_XSS_PT          X86_BIT(8)
#define X86_XCR0_PKRU       X86_BIT(9)
#define X86_XSS_PASID       X86_BIT(10)
#define X86_XSS_CET_U       X86_BIT(11)
#define X86_XSS_CET_S       X86_BIT(12)
#define X86_XSS_HDC         X86_BIT(13)
#define X86_XSS_UINTR       X86_BIT(14)
#define X86_XSS_LBR         X86_BIT(15)
#define X86_XSS_HWP         X86_BIT(16)
#define X86_XCR0_TILECFG    X86_BIT(17)
#define X86_XCR0_TILEDATA   X86_BIT(18)

/* Debug registers (SDM vol. 3, 17.2). */
#define X86_DR6_B(n)        X86_BIT(n)
#define X86_DR6_BLD         X86_BIT(11) /* 0 when a bus lock was detected */
#define X86_DR6_BD          X86_BIT(13)
#define X86_DR6_BS          X86_BIT(14)
#define X86_DR6_BT          X86_BIT(15)
#define X86_DR6_RTM         X86_BIT(16) /* 0 when inside a transaction */
#define X86_DR6_INIT        0xffff0ff0
#define X86_DR7_L(n)        X86_BIT(2 * (n))
#define X86_DR7_G(n)        X86_BIT(2 * (n) + 1)
#define X86_DR7_LE          X86_BIT(8)
#define X86_DR7_GE          X86_BIT(9)
#define X86_DR7_RESERVED    X86_BIT(10) /* always 1 */
#define X86_DR7_RTM         X86_BIT(11)
#define X86_DR7_GD          X86_BIT(13)
#define X86_DR7_INIT        0x400
