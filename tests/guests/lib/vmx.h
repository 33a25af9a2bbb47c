// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * A small hypervisor for guests: the VMX instructions and what they answered, one VMCS that runs Lv2, and a
 * record of how Lv2 came back.
 *
 * Lv2 is 64-bit ring-0 code of the same image: it shares address space, GDT, IDT and TSS with Lv1, so
 * that an exception in it goes the same way as in Lv1 unless the exception bitmap says otherwise.
 *
 * The constants are written for the guests alone, as those of x86.h.
 */
#include "tests/guests/lib/guest.h"

/* ---- Model-specific registers (SDM vol. 3, appendix A) ------------------------------------------------ */

#define MSR_FEATURE_CONTROL    0x3a
#define FEATURE_CONTROL_LOCKED BIT(0)
#define FEATURE_CONTROL_VMXON  BIT(2) /* outside SMX operation */
#define MSR_DEBUGCTL           0x1d9
#define MSR_VMX_BASIC          0x480
#define MSR_VMX_PIN            0x481
#define MSR_VMX_PRIMARY        0x482
#define MSR_VMX_EXIT           0x483
#define MSR_VMX_ENTRY          0x484
#define MSR_VMX_MISC           0x485
#define MSR_VMX_CR0_FIXED0     0x486
#define MSR_VMX_CR0_FIXED1     0x487
#define MSR_VMX_CR4_FIXED0     0x488
#define MSR_VMX_CR4_FIXED1     0x489
#define MSR_VMX_VMCS_ENUM      0x48a
#define MSR_VMX_SECONDARY      0x48b
#define MSR_VMX_EPT_VPID       0x48c
#define MSR_VMX_TRUE_PIN       0x48d

#define VMX_BASIC_TRUE         BIT(55)
#define VMX_BASIC_OUTS_INFO    BIT(54)
#define VMX_MISC_WRITE_ALL     BIT(29) /* VMWRITE to VM-exit information */
#define VMX_MISC_INJECT_0      BIT(30) /* software events of length 0 */

/* ---- Fields (appendix B) ------------------------------------------------------------------------------ */

enum {
    VMCS_VPID = 0x0000,
    VMCS_GUEST_ES = 0x0800, /* selectors: ES CS SS DS FS GS LDTR TR, two apart */
    VMCS_GUEST_CS = 0x0802,
    VMCS_GUEST_SS = 0x0804,
    VMCS_GUEST_DS = 0x0806,
    VMCS_GUEST_FS = 0x0808,
    VMCS_GUEST_GS = 0x080a,
    VMCS_GUEST_LDTR = 0x080c,
    VMCS_GUEST_TR = 0x080e,
    VMCS_HOST_ES = 0x0c00,
    VMCS_HOST_CS = 0x0c02,
    VMCS_HOST_SS = 0x0c04,
    VMCS_HOST_DS = 0x0c06,
    VMCS_HOST_FS = 0x0c08,
    VMCS_HOST_GS = 0x0c0a,
    VMCS_HOST_TR = 0x0c0c,
    VMCS_IO_BITMAP_A = 0x2000,
    VMCS_IO_BITMAP_B = 0x2002,
    VMCS_MSR_BITMAP = 0x2004,
    VMCS_EXIT_MSR_STORE = 0x2006,
    VMCS_EXIT_MSR_LOAD = 0x2008,
    VMCS_ENTRY_MSR_LOAD = 0x200a,
    VMCS_TSC_OFFSET = 0x2010,
    VMCS_VIRTUAL_APIC = 0x2012,
    VMCS_APIC_ACCESS = 0x2014,
    VMCS_EPTP = 0x201a,
    VMCS_XSS_BITMAP = 0x202c,
    VMCS_PHYSICAL_ADDRESS = 0x2400,
    VMCS_LINK_POINTER = 0x2800,
    VMCS_GUEST_DEBUGCTL = 0x2802,
    VMCS_GUEST_PAT = 0x2804,
    VMCS_GUEST_EFER = 0x2806,
    VMCS_HOST_PAT = 0x2c00,
    VMCS_HOST_EFER = 0x2c02,
    VMCS_PIN = 0x4000,
    VMCS_PRIMARY = 0x4002,
    VMCS_EXCEPTION_BITMAP = 0x4004,
    VMCS_PF_MASK = 0x4006,
    VMCS_PF_MATCH = 0x4008,
    VMCS_CR3_TARGET_COUNT = 0x400a,
    VMCS_EXIT = 0x400c,
    VMCS_EXIT_MSR_STORE_COUNT = 0x400e,
    VMCS_EXIT_MSR_LOAD_COUNT = 0x4010,
    VMCS_ENTRY = 0x4012,
    VMCS_ENTRY_MSR_LOAD_COUNT = 0x4014,
    VMCS_ENTRY_EVENT = 0x4016,
    VMCS_ENTRY_EVENT_ERROR = 0x4018,
    VMCS_ENTRY_EVENT_LENGTH = 0x401a,
    VMCS_TPR_THRESHOLD = 0x401c,
    VMCS_SECONDARY = 0x401e,
    VMCS_PLE_GAP = 0x4020,
    VMCS_PLE_WINDOW = 0x4022,
    VMCS_ERROR = 0x4400,
    VMCS_EXIT_REASON = 0x4402,
    VMCS_EXIT_EVENT = 0x4404,
    VMCS_EXIT_EVENT_ERROR = 0x4406,
    VMCS_VECTORING = 0x4408,
    VMCS_VECTORING_ERROR = 0x440a,
    VMCS_EXIT_LENGTH = 0x440c,
    VMCS_EXIT_INFORMATION = 0x440e,
    VMCS_GUEST_ES_LIMIT = 0x4800, /* as the selectors, then GDTR, IDTR */
    VMCS_GUEST_CS_LIMIT = 0x4802,
    VMCS_GUEST_LDTR_LIMIT = 0x480c,
    VMCS_GUEST_TR_LIMIT = 0x480e,
    VMCS_GUEST_GDTR_LIMIT = 0x4810,
    VMCS_GUEST_IDTR_LIMIT = 0x4812,
    VMCS_GUEST_ES_RIGHTS = 0x4814,
    VMCS_GUEST_CS_RIGHTS = 0x4816,
    VMCS_GUEST_SS_RIGHTS = 0x4818,
    VMCS_GUEST_DS_RIGHTS = 0x481a,
    VMCS_GUEST_FS_RIGHTS = 0x481c,
    VMCS_GUEST_GS_RIGHTS = 0x481e,
    VMCS_GUEST_LDTR_RIGHTS = 0x4820,
    VMCS_GUEST_TR_RIGHTS = 0x4822,
    VMCS_GUEST_INTERRUPTIBILITY = 0x4824,
    VMCS_GUEST_ACTIVITY = 0x4826,
    VMCS_GUEST_SMBASE = 0x4828,
    VMCS_GUEST_SYSENTER_CS = 0x482a,
    VMCS_PREEMPTION_TIMER = 0x482e,
    VMCS_HOST_SYSENTER_CS = 0x4c00,
    VMCS_CR0_MASK = 0x6000,
    VMCS_CR4_MASK = 0x6002,
    VMCS_CR0_SHADOW = 0x6004,
    VMCS_CR4_SHADOW = 0x6006,
    VMCS_CR3_TARGET = 0x6008, /* four, two apart */
    VMCS_EXIT_QUALIFICATION = 0x6400,
    VMCS_IO_RCX = 0x6402,
    VMCS_IO_RSI = 0x6404,
    VMCS_IO_RDI = 0x6406,
    VMCS_IO_RIP = 0x6408,
    VMCS_LINEAR_ADDRESS = 0x640a,
    VMCS_GUEST_CR0 = 0x6800,
    VMCS_GUEST_CR3 = 0x6802,
    VMCS_GUEST_CR4 = 0x6804,
    VMCS_GUEST_ES_BASE = 0x6806, /* as the selectors, then GDTR, IDTR */
    VMCS_GUEST_CS_BASE = 0x6808,
    VMCS_GUEST_SS_BASE = 0x680a,
    VMCS_GUEST_DS_BASE = 0x680c,
    VMCS_GUEST_FS_BASE = 0x680e,
    VMCS_GUEST_GS_BASE = 0x6810,
    VMCS_GUEST_LDTR_BASE = 0x6812,
    VMCS_GUEST_TR_BASE = 0x6814,
    VMCS_GUEST_GDTR_BASE = 0x6816,
    VMCS_GUEST_IDTR_BASE = 0x6818,
    VMCS_GUEST_DR7 = 0x681a,
    VMCS_GUEST_RSP = 0x681c,
    VMCS_GUEST_RIP = 0x681e,
    VMCS_GUEST_RFLAGS = 0x6820,
    VMCS_GUEST_PENDING_DEBUG = 0x6822,
    VMCS_GUEST_SYSENTER_ESP = 0x6824,
    VMCS_GUEST_SYSENTER_EIP = 0x6826,
    VMCS_HOST_CR0 = 0x6c00,
    VMCS_HOST_CR3 = 0x6c02,
    VMCS_HOST_CR4 = 0x6c04,
    VMCS_HOST_FS_BASE = 0x6c06,
    VMCS_HOST_GS_BASE = 0x6c08,
    VMCS_HOST_TR_BASE = 0x6c0a,
    VMCS_HOST_GDTR_BASE = 0x6c0c,
    VMCS_HOST_IDTR_BASE = 0x6c0e,
    VMCS_HOST_SYSENTER_ESP = 0x6c10,
    VMCS_HOST_SYSENTER_EIP = 0x6c12,
    VMCS_HOST_RSP = 0x6c14,
    VMCS_HOST_RIP = 0x6c16,
};

/* ---- Controls (24.6 to 24.8) -------------------------------------------------------------------------- */

/* The words, by the field that holds them. A control is (word, bit). */
#define PIN_EXTERNAL_INTERRUPT   VMCS_PIN, 0
#define PIN_NMI                  VMCS_PIN, 3
#define PIN_VIRTUAL_NMI          VMCS_PIN, 5
#define PIN_PREEMPTION_TIMER     VMCS_PIN, 6
#define PRIMARY_INTERRUPT_WINDOW VMCS_PRIMARY, 2
#define PRIMARY_TSC_OFFSET       VMCS_PRIMARY, 3
#define PRIMARY_HLT              VMCS_PRIMARY, 7
#define PRIMARY_INVLPG           VMCS_PRIMARY, 9
#define PRIMARY_MWAIT            VMCS_PRIMARY, 10
#define PRIMARY_RDPMC            VMCS_PRIMARY, 11
#define PRIMARY_RDTSC            VMCS_PRIMARY, 12
#define PRIMARY_CR3_LOAD         VMCS_PRIMARY, 15
#define PRIMARY_CR3_STORE        VMCS_PRIMARY, 16
#define PRIMARY_CR8_LOAD         VMCS_PRIMARY, 19
#define PRIMARY_CR8_STORE        VMCS_PRIMARY, 20
#define PRIMARY_TPR_SHADOW       VMCS_PRIMARY, 21
#define PRIMARY_NMI_WINDOW       VMCS_PRIMARY, 22
#define PRIMARY_MOV_DR           VMCS_PRIMARY, 23
#define PRIMARY_IO               VMCS_PRIMARY, 24
#define PRIMARY_IO_BITMAPS       VMCS_PRIMARY, 25
#define PRIMARY_MTF              VMCS_PRIMARY, 27
#define PRIMARY_MSR_BITMAPS      VMCS_PRIMARY, 28
#define PRIMARY_MONITOR          VMCS_PRIMARY, 29
#define PRIMARY_PAUSE            VMCS_PRIMARY, 30
#define PRIMARY_SECONDARY        VMCS_PRIMARY, 31
#define SECONDARY_APIC_ACCESS    VMCS_SECONDARY, 0
#define SECONDARY_EPT            VMCS_SECONDARY, 1
#define SECONDARY_DESCRIPTOR     VMCS_SECONDARY, 2
#define SECONDARY_RDTSCP         VMCS_SECONDARY, 3
#define SECONDARY_X2APIC         VMCS_SECONDARY, 4
#define SECONDARY_VPID           VMCS_SECONDARY, 5
#define SECONDARY_WBINVD         VMCS_SECONDARY, 6
#define SECONDARY_UNRESTRICTED   VMCS_SECONDARY, 7
#define SECONDARY_PAUSE_LOOP     VMCS_SECONDARY, 10
#define SECONDARY_RDRAND         VMCS_SECONDARY, 11
#define SECONDARY_INVPCID        VMCS_SECONDARY, 12
#define SECONDARY_RDSEED         VMCS_SECONDARY, 16
#define SECONDARY_XSAVES         VMCS_SECONDARY, 20
#define EXIT_SAVE_DEBUG          VMCS_EXIT, 2
#define EXIT_HOST_64             VMCS_EXIT, 9
#define EXIT_ACKNOWLEDGE         VMCS_EXIT, 15
#define EXIT_SAVE_PAT            VMCS_EXIT, 18
#define EXIT_LOAD_PAT            VMCS_EXIT, 19
#define EXIT_SAVE_EFER           VMCS_EXIT, 20
#define EXIT_LOAD_EFER           VMCS_EXIT, 21
#define EXIT_SAVE_TIMER          VMCS_EXIT, 22
#define ENTRY_LOAD_DEBUG         VMCS_ENTRY, 2
#define ENTRY_IA32E              VMCS_ENTRY, 9
#define ENTRY_SMM                VMCS_ENTRY, 10
#define ENTRY_LOAD_PAT           VMCS_ENTRY, 14
#define ENTRY_LOAD_EFER          VMCS_ENTRY, 15

/* Whether Lv1 may have the control 1, or 0 (the TRUE registers where there are). */
bool vmx_may_set(unsigned word, unsigned bit);
bool vmx_may_clear(unsigned word, unsigned bit);
/* Whether Lv1 may set it; if not, the row DIFF NAME-not-offered says so. */
bool vmx_offered(const char *name, unsigned word, unsigned bit);
/* Sets or clears the control in the current VMCS; a secondary one takes "activate secondary controls" along.
 */
void vmx_control(unsigned word, unsigned bit, bool on);
/* Allowed settings of `word`: what must be 1 in the low half, what may be 1 in the high half. */
uint64_t vmx_allowed(unsigned word);

/* ---- Exit reasons (appendix C) ------------------------------------------------------------------------ */

enum {
    REASON_EXCEPTION = 0,
    REASON_EXTERNAL_INTERRUPT = 1,
    REASON_TRIPLE_FAULT = 2,
    REASON_INTERRUPT_WINDOW = 7,
    REASON_NMI_WINDOW = 8,
    REASON_CPUID = 10,
    REASON_HLT = 12,
    REASON_INVD = 13,
    REASON_INVLPG = 14,
    REASON_RDPMC = 15,
    REASON_RDTSC = 16,
    REASON_VMCALL = 18,
    REASON_VMCLEAR = 19,
    REASON_VMLAUNCH = 20,
    REASON_VMPTRLD = 21,
    REASON_VMPTRST = 22,
    REASON_VMREAD = 23,
    REASON_VMRESUME = 24,
    REASON_VMWRITE = 25,
    REASON_VMXOFF = 26,
    REASON_VMXON = 27,
    REASON_CR = 28,
    REASON_DR = 29,
    REASON_IO = 30,
    REASON_RDMSR = 31,
    REASON_WRMSR = 32,
    REASON_GUEST_STATE = 33,
    REASON_MSR_LOADING = 34,
    REASON_MWAIT = 36,
    REASON_MTF = 37,
    REASON_MONITOR = 39,
    REASON_PAUSE = 40,
    REASON_TPR_THRESHOLD = 43,
    REASON_APIC_ACCESS = 44,
    REASON_GDTR_IDTR = 46,
    REASON_LDTR_TR = 47,
    REASON_EPT_VIOLATION = 48,
    REASON_EPT_MISCONFIGURATION = 49,
    REASON_INVEPT = 50,
    REASON_RDTSCP = 51,
    REASON_PREEMPTION_TIMER = 52,
    REASON_INVVPID = 53,
    REASON_WBINVD = 54,
    REASON_XSETBV = 55,
    REASON_RDRAND = 57,
    REASON_INVPCID = 58,
    REASON_RDSEED = 61,
    REASON_XSAVES = 63,
    REASON_XRSTORS = 64,
};

#define REASON_ENTRY_FAILURE BIT(31)

/* Event information, injected or reported: vector, type << 8, error code valid, valid. */
#define EVENT_VALID          BIT(31)
#define EVENT_ERROR          BIT(11)
#define EVENT_UNDEFINED      BIT(12) /* in IDT-vectoring information */
#define EVENT_INTERRUPT      (EVENT_VALID | 0UL << 8)
#define EVENT_NMI            (EVENT_VALID | 2UL << 8 | VECTOR_NMI)
#define EVENT_EXCEPTION      (EVENT_VALID | 3UL << 8)
#define EVENT_SOFTWARE       (EVENT_VALID | 4UL << 8)
#define EVENT_PRIVILEGED     (EVENT_VALID | 5UL << 8)
#define EVENT_SOFT_EXCEPTION (EVENT_VALID | 6UL << 8)

/* Interruptibility (24.4.2). */
#define BLOCKING_STI         BIT(0)
#define BLOCKING_MOV_SS      BIT(1)
#define BLOCKING_SMI         BIT(2)
#define BLOCKING_NMI         BIT(3)

/* ---- Instructions ------------------------------------------------------------------------------------- */

/*
 * What a VMX instruction answered (30.2): the arithmetic flags, all of which were 1 before. VMX_FAULT: it
 * raised an exception, which guest_fault tells.
 */
#define VMX_SUCCEED          0UL
#define VMX_FAIL_INVALID     BIT(0)
#define VMX_FAIL_VALID       BIT(6)
#define VMX_FAULT            (~0UL)
#define VMX_FLAGS            0x8d5UL

/* Runs one VMX instruction so. `flags` is a uint64_t variable; the operands follow as for TRY, flags is +r
 * operand 0. */
#define VMX_TRY(flags, code, ...)                                                                            \
    do {                                                                                                     \
        (flags) = VMX_FAULT;                                                                                 \
        TRY("pushq $0x8d7; popfq; " code "; pushfq; popq %0", : "+r"(flags) : __VA_ARGS__ : "memory", "cc"); \
        (flags) = (flags) == VMX_FAULT ? VMX_FAULT : (flags)&VMX_FLAGS;                                      \
    } while (0)

/* With the physical address that is the operand. */
uint64_t vmx_on(uint64_t region);
uint64_t vmx_clear(uint64_t region);
uint64_t vmx_load(uint64_t region);
uint64_t vmx_store(uint64_t *region);
uint64_t vmx_off(void);
uint64_t vmx_read(uint64_t field, uint64_t *value);
uint64_t vmx_write(uint64_t field, uint64_t value);
/* VMLAUNCH or VMRESUME, when it is expected not to enter. */
uint64_t vmx_launch_fails(void);
uint64_t vmx_resume_fails(void);
/* Descriptors of 16 bytes. */
uint64_t vmx_invept(uint64_t type, uint64_t first, uint64_t second);
uint64_t vmx_invvpid(uint64_t type, uint64_t first, uint64_t second);

/* A field of the current VMCS; the guest ends if there is no such field. */
uint64_t vmx_get(uint64_t field);
void vmx_set(uint64_t field, uint64_t value);

/* PASS if `outcome` is VMfailValid and the VM-instruction error is `error`. */
void vmx_expect_error(const char *name, uint64_t outcome, unsigned error);

/* ---- Lv2 ---------------------------------------------------------------------------------------------- */

/* Regions: page-aligned, of which vmx_enable() uses the first two, VMXON and Lv2's VMCS; with the revision
 * identifier in them. The others are for tests. */
#define VMX_REGIONS 5
extern uint32_t vmx_regions[VMX_REGIONS][1024];
#define VMXON_REGION ((uint64_t)vmx_regions[0])
#define VMCS_REGION  ((uint64_t)vmx_regions[1])

/* False if the processor has no VMX. Else unlocks IA32_FEATURE_CONTROL if that is open, prepares regions. */
bool vmx_exists(void);
/* To VMX root operation. The guest ends if that fails. */
void vmx_enable(void);

/*
 * Makes Lv2's VMCS new, current, and ready to run: no control 1 that may be 0, but for a 64-bit host and
 * guest; state as Lv1's is now; nothing to run.
 */
void vmx_prepare(void);

/* Lv2's general registers in the processor's order, RSP left out: what the next entry loads, and what the
 * last exit found. */
struct vmx_registers {
    uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};
extern struct vmx_registers vmx_registers;

/* How Lv2 came back. */
struct vmx_exit {
    uint64_t outcome; /* of VMLAUNCH or VMRESUME; all below is of the last exit if it is VMX_SUCCEED */
    uint64_t error;   /* the VM-instruction error, if VMX_FAIL_VALID */
    uint64_t reason, qualification, length, information;
    uint64_t event, event_error, vectoring, vectoring_error;
    uint64_t linear;
    uint64_t rip, rflags;
    uint64_t host_rflags; /* Lv1's, right behind the exit */
};
extern struct vmx_exit vmx_exit;

/* Enters Lv2 where its RIP is, and comes back when it exits. Launches at the first time. */
void vmx_run(void);
/* The same from `entry` on, with a stack and the flags 2. */
void vmx_run_at(const char *entry);
/* The same with this RDI. */
void vmx_run_with(const char *entry, uint64_t rdi);
/* The same behind the instruction that exited. */
void vmx_run_on(void);

/* The entry itself, for measuring: RFLAGS of a failure, 0 behind an exit. Nothing is recorded but registers
 * and vmx_host_rflags. */
uint64_t vmx_switch(bool resume);
extern uint64_t vmx_host_rflags;
extern const char vmx_returned[]; /* the host RIP */

/*
 * Code for Lv2, that C can name. Behind it is a VMCALL: "it went through". RBP and RSP are as they were.
 */
#define LV2(name, code)                                                                                      \
    extern const char name[];                                                                                \
    __asm__(".pushsection .text\n" #name ": " code "\n vmcall\n ud2\n.popsection")

extern const char lv2_nothing[];

/* The reason when the code came to that VMCALL: nothing before it exited. */
#define WENT_THROUGH REASON_VMCALL

/* PASS if the last run came back for `reason` and no entry failure. */
void vmx_expect(const char *name, uint64_t reason);
/* Likewise with this qualification. */
void vmx_expect_qualification(const char *name, uint64_t reason, uint64_t qualification);
/* PASS if it came back for an exception with this information and, if that has one, error code. */
void vmx_expect_event(const char *name, uint64_t event, uint64_t error);
