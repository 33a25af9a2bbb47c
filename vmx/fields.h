// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Every field of a VMCS (SDM vol. 3, appendix B), as one table. A field is a struct of its own, so that
 * neither a value nor a bare number can stand where a field is meant: VMCS_GUEST_RIP and so on. The table is
 * in the order of the encodings, and a field's place in it is its dense index, for caches and dirty bitmaps.
 *
 * X(encoding, NAME, WIDTH, CLASS, existence)
 *
 * The existence is ALWAYS, IF(WORD, CONTROL) (the field exists where that control may be 1) or EITHER(WORD,
 * CONTROL, WORD, CONTROL). Controls are those of control_table.h, or VM functions of the word VMFUNC.
 */
#include "lib/types.h"
#include "vmx/control_table.h"
#include "vmx/controls.h"

// clang-format off
#define VMCS_FIELDS(X)                                                                                   \
    X(0x0000, VPID, 16, CONTROL, IF(SECONDARY, VPID))                                                    \
    X(0x0002, POSTED_INTERRUPT_VECTOR, 16, CONTROL, IF(PIN, POSTED_INTERRUPTS))                          \
    X(0x0004, EPTP_INDEX, 16, CONTROL, IF(SECONDARY, EPT_VIOLATION_VE))                                  \
    X(0x0006, HLAT_PREFIX_SIZE, 16, CONTROL, IF(TERTIARY, HLAT))                                         \
    X(0x0008, LAST_PID_POINTER_INDEX, 16, CONTROL, IF(TERTIARY, IPI_VIRTUALIZATION))                     \
    X(0x0800, GUEST_ES_SELECTOR, 16, GUEST, ALWAYS)                                                      \
    X(0x0802, GUEST_CS_SELECTOR, 16, GUEST, ALWAYS)                                                      \
    X(0x0804, GUEST_SS_SELECTOR, 16, GUEST, ALWAYS)                                                      \
    X(0x0806, GUEST_DS_SELECTOR, 16, GUEST, ALWAYS)                                                      \
    X(0x0808, GUEST_FS_SELECTOR, 16, GUEST, ALWAYS)                                                      \
    X(0x080a, GUEST_GS_SELECTOR, 16, GUEST, ALWAYS)                                                      \
    X(0x080c, GUEST_LDTR_SELECTOR, 16, GUEST, ALWAYS)                                                    \
    X(0x080e, GUEST_TR_SELECTOR, 16, GUEST, ALWAYS)                                                      \
    X(0x0810, GUEST_INTERRUPT_STATUS, 16, GUEST, IF(SECONDARY, VIRTUAL_INTERRUPT_DELIVERY))              \
    X(0x0812, PML_INDEX, 16, GUEST, IF(SECONDARY, PML))                                                  \
    X(0x0814, GUEST_UINV, 16, GUEST, EITHER(EXIT, CLEAR_UINV, ENTRY, LOAD_UINV))                         \
    X(0x0c00, HOST_ES_SELECTOR, 16, HOST, ALWAYS)                                                        \
    X(0x0c02, HOST_CS_SELECTOR, 16, HOST, ALWAYS)                                                        \
    X(0x0c04, HOST_SS_SELECTOR, 16, HOST, ALWAYS)                                                        \
    X(0x0c06, HOST_DS_SELECTOR, 16, HOST, ALWAYS)                                                        \
    X(0x0c08, HOST_FS_SELECTOR, 16, HOST, ALWAYS)                                                        \
    X(0x0c0a, HOST_GS_SELECTOR, 16, HOST, ALWAYS)                                                        \
    X(0x0c0c, HOST_TR_SELECTOR, 16, HOST, ALWAYS)                                                        \
    X(0x2000, IO_BITMAP_A, 64, CONTROL, ALWAYS)                                                          \
    X(0x2002, IO_BITMAP_B, 64, CONTROL, ALWAYS)                                                          \
    X(0x2004, MSR_BITMAPS, 64, CONTROL, IF(PRIMARY, MSR_BITMAPS))                                        \
    X(0x2006, EXIT_MSR_STORE_ADDRESS, 64, CONTROL, ALWAYS)                                               \
    X(0x2008, EXIT_MSR_LOAD_ADDRESS, 64, CONTROL, ALWAYS)                                                \
    X(0x200a, ENTRY_MSR_LOAD_ADDRESS, 64, CONTROL, ALWAYS)                                               \
    X(0x200c, EXECUTIVE_VMCS_POINTER, 64, CONTROL, ALWAYS)                                               \
    X(0x200e, PML_ADDRESS, 64, CONTROL, IF(SECONDARY, PML))                                              \
    X(0x2010, TSC_OFFSET, 64, CONTROL, ALWAYS)                                                           \
    X(0x2012, VIRTUAL_APIC_ADDRESS, 64, CONTROL, IF(PRIMARY, TPR_SHADOW))                                \
    X(0x2014, APIC_ACCESS_ADDRESS, 64, CONTROL, IF(SECONDARY, VIRTUALIZE_APIC_ACCESSES))                 \
    X(0x2016, POSTED_INTERRUPT_DESCRIPTOR, 64, CONTROL, IF(PIN, POSTED_INTERRUPTS))                      \
    X(0x2018, VM_FUNCTION_CONTROLS, 64, CONTROL, IF(SECONDARY, VM_FUNCTIONS))                            \
    X(0x201a, EPT_POINTER, 64, CONTROL, IF(SECONDARY, EPT))                                              \
    X(0x201c, EOI_EXIT_BITMAP0, 64, CONTROL, IF(SECONDARY, VIRTUAL_INTERRUPT_DELIVERY))                  \
    X(0x201e, EOI_EXIT_BITMAP1, 64, CONTROL, IF(SECONDARY, VIRTUAL_INTERRUPT_DELIVERY))                  \
    X(0x2020, EOI_EXIT_BITMAP2, 64, CONTROL, IF(SECONDARY, VIRTUAL_INTERRUPT_DELIVERY))                  \
    X(0x2022, EOI_EXIT_BITMAP3, 64, CONTROL, IF(SECONDARY, VIRTUAL_INTERRUPT_DELIVERY))                  \
    X(0x2024, EPTP_LIST_ADDRESS, 64, CONTROL, IF(VMFUNC, EPTP_SWITCHING))                                \
    X(0x2026, VMREAD_BITMAP, 64, CONTROL, IF(SECONDARY, VMCS_SHADOWING))                                 \
    X(0x2028, VMWRITE_BITMAP, 64, CONTROL, IF(SECONDARY, VMCS_SHADOWING))                                \
    X(0x202a, VE_INFORMATION_ADDRESS, 64, CONTROL, IF(SECONDARY, EPT_VIOLATION_VE))                      \
    X(0x202c, XSS_EXITING_BITMAP, 64, CONTROL, IF(SECONDARY, XSAVES))                                    \
    X(0x202e, ENCLS_EXITING_BITMAP, 64, CONTROL, IF(SECONDARY, ENCLS_EXITING))                           \
    X(0x2030, SUB_PAGE_TABLE_POINTER, 64, CONTROL, IF(SECONDARY, SUB_PAGE_WRITE))                        \
    X(0x2032, TSC_MULTIPLIER, 64, CONTROL, IF(SECONDARY, TSC_SCALING))                                   \
    X(0x2034, TERTIARY_CONTROLS, 64, CONTROL, IF(PRIMARY, TERTIARY_CONTROLS))                            \
    X(0x2036, ENCLV_EXITING_BITMAP, 64, CONTROL, IF(SECONDARY, ENCLV_EXITING))                           \
    X(0x2038, LOW_PASID_DIRECTORY, 64, CONTROL, IF(SECONDARY, PASID_TRANSLATION))                        \
    X(0x203a, HIGH_PASID_DIRECTORY, 64, CONTROL, IF(SECONDARY, PASID_TRANSLATION))                       \
    X(0x203e, PCONFIG_EXITING_BITMAP, 64, CONTROL, IF(SECONDARY, PCONFIG))                               \
    X(0x2040, HLAT_POINTER, 64, CONTROL, IF(TERTIARY, HLAT))                                             \
    X(0x2042, PID_POINTER_TABLE, 64, CONTROL, IF(TERTIARY, IPI_VIRTUALIZATION))                          \
    X(0x2044, SECONDARY_EXIT_CONTROLS, 64, CONTROL, IF(EXIT, SECONDARY_CONTROLS))                        \
    X(0x204a, SPEC_CTRL_MASK, 64, CONTROL, IF(TERTIARY, VIRTUALIZE_SPEC_CTRL))                           \
    X(0x204c, SPEC_CTRL_SHADOW, 64, CONTROL, IF(TERTIARY, VIRTUALIZE_SPEC_CTRL))                         \
    X(0x2052, INJECTED_EVENT_DATA, 64, CONTROL, IF(ENTRY, LOAD_FRED))                                    \
    X(0x2400, GUEST_PHYSICAL_ADDRESS, 64, INFORMATION, IF(SECONDARY, EPT))                               \
    X(0x2404, ORIGINAL_EVENT_DATA, 64, INFORMATION, IF(ENTRY, LOAD_FRED))                                \
    X(0x2800, VMCS_LINK_POINTER, 64, GUEST, ALWAYS)                                                      \
    X(0x2802, GUEST_DEBUGCTL, 64, GUEST, ALWAYS)                                                         \
    X(0x2804, GUEST_PAT, 64, GUEST, EITHER(EXIT, SAVE_PAT, ENTRY, LOAD_PAT))                             \
    X(0x2806, GUEST_EFER, 64, GUEST, EITHER(EXIT, SAVE_EFER, ENTRY, LOAD_EFER))                          \
    X(0x2808, GUEST_PERF_GLOBAL_CTRL, 64, GUEST,                                                         \
      EITHER(EXIT, SAVE_PERF_GLOBAL_CTRL, ENTRY, LOAD_PERF_GLOBAL_CTRL))                                 \
    X(0x280a, GUEST_PDPTE0, 64, GUEST, IF(SECONDARY, EPT))                                               \
    X(0x280c, GUEST_PDPTE1, 64, GUEST, IF(SECONDARY, EPT))                                               \
    X(0x280e, GUEST_PDPTE2, 64, GUEST, IF(SECONDARY, EPT))                                               \
    X(0x2810, GUEST_PDPTE3, 64, GUEST, IF(SECONDARY, EPT))                                               \
    X(0x2812, GUEST_BNDCFGS, 64, GUEST, EITHER(EXIT, CLEAR_BNDCFGS, ENTRY, LOAD_BNDCFGS))                \
    X(0x2814, GUEST_RTIT_CTL, 64, GUEST, EITHER(EXIT, CLEAR_RTIT_CTL, ENTRY, LOAD_RTIT_CTL))             \
    X(0x2816, GUEST_LBR_CTL, 64, GUEST, EITHER(EXIT, CLEAR_LBR_CTL, ENTRY, LOAD_LBR_CTL))                \
    X(0x2818, GUEST_PKRS, 64, GUEST, IF(ENTRY, LOAD_PKRS))                                               \
    X(0x281a, GUEST_FRED_CONFIG, 64, GUEST, EITHER(EXIT2, SAVE_FRED, ENTRY, LOAD_FRED))                  \
    X(0x281c, GUEST_FRED_RSP1, 64, GUEST, EITHER(EXIT2, SAVE_FRED, ENTRY, LOAD_FRED))                    \
    X(0x281e, GUEST_FRED_RSP2, 64, GUEST, EITHER(EXIT2, SAVE_FRED, ENTRY, LOAD_FRED))                    \
    X(0x2820, GUEST_FRED_RSP3, 64, GUEST, EITHER(EXIT2, SAVE_FRED, ENTRY, LOAD_FRED))                    \
    X(0x2822, GUEST_FRED_STKLVLS, 64, GUEST, EITHER(EXIT2, SAVE_FRED, ENTRY, LOAD_FRED))                 \
    X(0x2824, GUEST_FRED_SSP1, 64, GUEST, EITHER(EXIT2, SAVE_FRED, ENTRY, LOAD_FRED))                    \
    X(0x2826, GUEST_FRED_SSP2, 64, GUEST, EITHER(EXIT2, SAVE_FRED, ENTRY, LOAD_FRED))                    \
    X(0x2828, GUEST_FRED_SSP3, 64, GUEST, EITHER(EXIT2, SAVE_FRED, ENTRY, LOAD_FRED))                    \
    X(0x2c00, HOST_PAT, 64, HOST, IF(EXIT, LOAD_PAT))                                                    \
    X(0x2c02, HOST_EFER, 64, HOST, IF(EXIT, LOAD_EFER))                                                  \
    X(0x2c04, HOST_PERF_GLOBAL_CTRL, 64, HOST, IF(EXIT, LOAD_PERF_GLOBAL_CTRL))                          \
    X(0x2c06, HOST_PKRS, 64, HOST, IF(EXIT, LOAD_PKRS))                                                  \
    X(0x2c08, HOST_FRED_CONFIG, 64, HOST, IF(EXIT2, LOAD_FRED))                                          \
    X(0x2c0a, HOST_FRED_RSP1, 64, HOST, IF(EXIT2, LOAD_FRED))                                            \
    X(0x2c0c, HOST_FRED_RSP2, 64, HOST, IF(EXIT2, LOAD_FRED))                                            \
    X(0x2c0e, HOST_FRED_RSP3, 64, HOST, IF(EXIT2, LOAD_FRED))                                            \
    X(0x2c10, HOST_FRED_STKLVLS, 64, HOST, IF(EXIT2, LOAD_FRED))                                         \
    X(0x2c12, HOST_FRED_SSP1, 64, HOST, IF(EXIT2, LOAD_FRED))                                            \
    X(0x2c14, HOST_FRED_SSP2, 64, HOST, IF(EXIT2, LOAD_FRED))                                            \
    X(0x2c16, HOST_FRED_SSP3, 64, HOST, IF(EXIT2, LOAD_FRED))                                            \
    X(0x4000, PIN_CONTROLS, 32, CONTROL, ALWAYS)                                                         \
    X(0x4002, PRIMARY_CONTROLS, 32, CONTROL, ALWAYS)                                                     \
    X(0x4004, EXCEPTION_BITMAP, 32, CONTROL, ALWAYS)                                                     \
    X(0x4006, PAGE_FAULT_ERROR_MASK, 32, CONTROL, ALWAYS)                                                \
    X(0x4008, PAGE_FAULT_ERROR_MATCH, 32, CONTROL, ALWAYS)                                               \
    X(0x400a, CR3_TARGET_COUNT, 32, CONTROL, ALWAYS)                                                     \
    X(0x400c, EXIT_CONTROLS, 32, CONTROL, ALWAYS)                                                        \
    X(0x400e, EXIT_MSR_STORE_COUNT, 32, CONTROL, ALWAYS)                                                 \
    X(0x4010, EXIT_MSR_LOAD_COUNT, 32, CONTROL, ALWAYS)                                                  \
    X(0x4012, ENTRY_CONTROLS, 32, CONTROL, ALWAYS)                                                       \
    X(0x4014, ENTRY_MSR_LOAD_COUNT, 32, CONTROL, ALWAYS)                                                 \
    X(0x4016, ENTRY_INTERRUPTION_INFO, 32, CONTROL, ALWAYS)                                              \
    X(0x4018, ENTRY_EXCEPTION_ERROR_CODE, 32, CONTROL, ALWAYS)                                           \
    X(0x401a, ENTRY_INSTRUCTION_LENGTH, 32, CONTROL, ALWAYS)                                             \
    X(0x401c, TPR_THRESHOLD, 32, CONTROL, IF(PRIMARY, TPR_SHADOW))                                       \
    X(0x401e, SECONDARY_CONTROLS, 32, CONTROL, IF(PRIMARY, SECONDARY_CONTROLS))                          \
    X(0x4020, PLE_GAP, 32, CONTROL, IF(SECONDARY, PAUSE_LOOP_EXITING))                                   \
    X(0x4022, PLE_WINDOW, 32, CONTROL, IF(SECONDARY, PAUSE_LOOP_EXITING))                                \
    X(0x4024, INSTRUCTION_TIMEOUT, 32, CONTROL, IF(SECONDARY, INSTRUCTION_TIMEOUT))                      \
    X(0x4400, VM_INSTRUCTION_ERROR, 32, INFORMATION, ALWAYS)                                             \
    X(0x4402, EXIT_REASON, 32, INFORMATION, ALWAYS)                                                      \
    X(0x4404, EXIT_INTERRUPTION_INFO, 32, INFORMATION, ALWAYS)                                           \
    X(0x4406, EXIT_INTERRUPTION_ERROR_CODE, 32, INFORMATION, ALWAYS)                                     \
    X(0x4408, IDT_VECTORING_INFO, 32, INFORMATION, ALWAYS)                                               \
    X(0x440a, IDT_VECTORING_ERROR_CODE, 32, INFORMATION, ALWAYS)                                         \
    X(0x440c, EXIT_INSTRUCTION_LENGTH, 32, INFORMATION, ALWAYS)                                          \
    X(0x440e, EXIT_INSTRUCTION_INFO, 32, INFORMATION, ALWAYS)                                            \
    X(0x4800, GUEST_ES_LIMIT, 32, GUEST, ALWAYS)                                                         \
    X(0x4802, GUEST_CS_LIMIT, 32, GUEST, ALWAYS)                                                         \
    X(0x4804, GUEST_SS_LIMIT, 32, GUEST, ALWAYS)                                                         \
    X(0x4806, GUEST_DS_LIMIT, 32, GUEST, ALWAYS)                                                         \
    X(0x4808, GUEST_FS_LIMIT, 32, GUEST, ALWAYS)                                                         \
    X(0x480a, GUEST_GS_LIMIT, 32, GUEST, ALWAYS)                                                         \
    X(0x480c, GUEST_LDTR_LIMIT, 32, GUEST, ALWAYS)                                                       \
    X(0x480e, GUEST_TR_LIMIT, 32, GUEST, ALWAYS)                                                         \
    X(0x4810, GUEST_GDTR_LIMIT, 32, GUEST, ALWAYS)                                                       \
    X(0x4812, GUEST_IDTR_LIMIT, 32, GUEST, ALWAYS)                                                       \
    X(0x4814, GUEST_ES_ACCESS_RIGHTS, 32, GUEST, ALWAYS)                                                 \
    X(0x4816, GUEST_CS_ACCESS_RIGHTS, 32, GUEST, ALWAYS)                                                 \
    X(0x4818, GUEST_SS_ACCESS_RIGHTS, 32, GUEST, ALWAYS)                                                 \
    X(0x481a, GUEST_DS_ACCESS_RIGHTS, 32, GUEST, ALWAYS)                                                 \
    X(0x481c, GUEST_FS_ACCESS_RIGHTS, 32, GUEST, ALWAYS)                                                 \
    X(0x481e, GUEST_GS_ACCESS_RIGHTS, 32, GUEST, ALWAYS)                                                 \
    X(0x4820, GUEST_LDTR_ACCESS_RIGHTS, 32, GUEST, ALWAYS)                                               \
    X(0x4822, GUEST_TR_ACCESS_RIGHTS, 32, GUEST, ALWAYS)                                                 \
    X(0x4824, GUEST_INTERRUPTIBILITY, 32, GUEST, ALWAYS)                                                 \
    X(0x4826, GUEST_ACTIVITY, 32, GUEST, ALWAYS)                                                         \
    X(0x4828, GUEST_SMBASE, 32, GUEST, ALWAYS)                                                           \
    X(0x482a, GUEST_SYSENTER_CS, 32, GUEST, ALWAYS)                                                      \
    X(0x482e, PREEMPTION_TIMER_VALUE, 32, GUEST, IF(PIN, PREEMPTION_TIMER))                              \
    X(0x4c00, HOST_SYSENTER_CS, 32, HOST, ALWAYS)                                                        \
    X(0x6000, CR0_MASK, NATURAL, CONTROL, ALWAYS)                                                        \
    X(0x6002, CR4_MASK, NATURAL, CONTROL, ALWAYS)                                                        \
    X(0x6004, CR0_READ_SHADOW, NATURAL, CONTROL, ALWAYS)                                                 \
    X(0x6006, CR4_READ_SHADOW, NATURAL, CONTROL, ALWAYS)                                                 \
    X(0x6008, CR3_TARGET0, NATURAL, CONTROL, ALWAYS)                                                     \
    X(0x600a, CR3_TARGET1, NATURAL, CONTROL, ALWAYS)                                                     \
    X(0x600c, CR3_TARGET2, NATURAL, CONTROL, ALWAYS)                                                     \
    X(0x600e, CR3_TARGET3, NATURAL, CONTROL, ALWAYS)                                                     \
    X(0x6400, EXIT_QUALIFICATION, NATURAL, INFORMATION, ALWAYS)                                          \
    X(0x6402, IO_RCX, NATURAL, INFORMATION, ALWAYS)                                                      \
    X(0x6404, IO_RSI, NATURAL, INFORMATION, ALWAYS)                                                      \
    X(0x6406, IO_RDI, NATURAL, INFORMATION, ALWAYS)                                                      \
    X(0x6408, IO_RIP, NATURAL, INFORMATION, ALWAYS)                                                      \
    X(0x640a, GUEST_LINEAR_ADDRESS, NATURAL, INFORMATION, ALWAYS)                                        \
    X(0x6800, GUEST_CR0, NATURAL, GUEST, ALWAYS)                                                         \
    X(0x6802, GUEST_CR3, NATURAL, GUEST, ALWAYS)                                                         \
    X(0x6804, GUEST_CR4, NATURAL, GUEST, ALWAYS)                                                         \
    X(0x6806, GUEST_ES_BASE, NATURAL, GUEST, ALWAYS)                                                     \
    X(0x6808, GUEST_CS_BASE, NATURAL, GUEST, ALWAYS)                                                     \
    X(0x680a, GUEST_SS_BASE, NATURAL, GUEST, ALWAYS)                                                     \
    X(0x680c, GUEST_DS_BASE, NATURAL, GUEST, ALWAYS)                                                     \
    X(0x680e, GUEST_FS_BASE, NATURAL, GUEST, ALWAYS)                                                     \
    X(0x6810, GUEST_GS_BASE, NATURAL, GUEST, ALWAYS)                                                     \
    X(0x6812, GUEST_LDTR_BASE, NATURAL, GUEST, ALWAYS)                                                   \
    X(0x6814, GUEST_TR_BASE, NATURAL, GUEST, ALWAYS)                                                     \
    X(0x6816, GUEST_GDTR_BASE, NATURAL, GUEST, ALWAYS)                                                   \
    X(0x6818, GUEST_IDTR_BASE, NATURAL, GUEST, ALWAYS)                                                   \
    X(0x681a, GUEST_DR7, NATURAL, GUEST, ALWAYS)                                                         \
    X(0x681c, GUEST_RSP, NATURAL, GUEST, ALWAYS)                                                         \
    X(0x681e, GUEST_RIP, NATURAL, GUEST, ALWAYS)                                                         \
    X(0x6820, GUEST_RFLAGS, NATURAL, GUEST, ALWAYS)                                                      \
    X(0x6822, GUEST_PENDING_DEBUG, NATURAL, GUEST, ALWAYS)                                               \
    X(0x6824, GUEST_SYSENTER_ESP, NATURAL, GUEST, ALWAYS)                                                \
    X(0x6826, GUEST_SYSENTER_EIP, NATURAL, GUEST, ALWAYS)                                                \
    X(0x6828, GUEST_S_CET, NATURAL, GUEST, IF(ENTRY, LOAD_CET))                                          \
    X(0x682a, GUEST_SSP, NATURAL, GUEST, IF(ENTRY, LOAD_CET))                                            \
    X(0x682c, GUEST_SSP_TABLE, NATURAL, GUEST, IF(ENTRY, LOAD_CET))                                      \
    X(0x6c00, HOST_CR0, NATURAL, HOST, ALWAYS)                                                           \
    X(0x6c02, HOST_CR3, NATURAL, HOST, ALWAYS)                                                           \
    X(0x6c04, HOST_CR4, NATURAL, HOST, ALWAYS)                                                           \
    X(0x6c06, HOST_FS_BASE, NATURAL, HOST, ALWAYS)                                                       \
    X(0x6c08, HOST_GS_BASE, NATURAL, HOST, ALWAYS)                                                       \
    X(0x6c0a, HOST_TR_BASE, NATURAL, HOST, ALWAYS)                                                       \
    X(0x6c0c, HOST_GDTR_BASE, NATURAL, HOST, ALWAYS)                                                     \
    X(0x6c0e, HOST_IDTR_BASE, NATURAL, HOST, ALWAYS)                                                     \
    X(0x6c10, HOST_SYSENTER_ESP, NATURAL, HOST, ALWAYS)                                                  \
    X(0x6c12, HOST_SYSENTER_EIP, NATURAL, HOST, ALWAYS)                                                  \
    X(0x6c14, HOST_RSP, NATURAL, HOST, ALWAYS)                                                           \
    X(0x6c16, HOST_RIP, NATURAL, HOST, ALWAYS)                                                           \
    X(0x6c18, HOST_S_CET, NATURAL, HOST, IF(EXIT, LOAD_CET))                                             \
    X(0x6c1a, HOST_SSP, NATURAL, HOST, IF(EXIT, LOAD_CET))                                               \
    X(0x6c1c, HOST_SSP_TABLE, NATURAL, HOST, IF(EXIT, LOAD_CET))
// clang-format on

/* As bits 14:13 and 11:10 of an encoding have them (SDM vol. 3, table 24-21). */
enum vmcs_width {
    VMCS_WIDTH_16,
    VMCS_WIDTH_64,
    VMCS_WIDTH_32,
    VMCS_WIDTH_NATURAL,
};

enum vmcs_class {
    VMCS_CLASS_CONTROL,
    VMCS_CLASS_INFORMATION, /* VM-exit information, read-only on most processors */
    VMCS_CLASS_GUEST,
    VMCS_CLASS_HOST,
};

/* VMCS_INDEX_GUEST_RIP …: a field's place in the table. */
enum vmcs_index {
#define X(ENCODING, NAME, WIDTH, CLASS, EXISTENCE) VMCS_INDEX_##NAME,
    VMCS_FIELDS(X)
#undef X
        VMCS_FIELD_COUNT,
};

/* A field. Made here only; others use the constants below or vmcs_field_find. */
struct vmcs_field {
    uint16_t encoding;
    uint16_t index; /* enum vmcs_index */
};

#define X(ENCODING, NAME, WIDTH, CLASS, EXISTENCE)                                                           \
    static const struct vmcs_field VMCS_##NAME = {ENCODING, VMCS_INDEX_##NAME};
VMCS_FIELDS(X)
#undef X

/* The same in a table whose initialisers have to be constant expressions: VMCS_FIELD(GUEST_RIP). */
enum vmcs_encoding {
#define X(ENCODING, NAME, WIDTH, CLASS, EXISTENCE) VMCS_ENCODING_##NAME = ENCODING,
    VMCS_FIELDS(X)
#undef X
};
#define VMCS_FIELD(NAME)                                                                                     \
    {                                                                                                        \
        VMCS_ENCODING_##NAME, VMCS_INDEX_##NAME                                                              \
    }

static inline enum vmcs_width vmcs_field_width(struct vmcs_field field)
{
    return (enum vmcs_width)(field.encoding >> 13 & 3);
}

static inline enum vmcs_class vmcs_field_class(struct vmcs_field field)
{
    return (enum vmcs_class)(field.encoding >> 10 & 3);
}

/* The bits that a value of `width` can have in 64-bit mode. */
static inline uint64_t vmcs_width_mask(enum vmcs_width width)
{
    return width == VMCS_WIDTH_16 ? 0xffff : width == VMCS_WIDTH_32 ? 0xffffffff : ~0ULL;
}

/* The field at place `index` (below VMCS_FIELD_COUNT) of the table. */
struct vmcs_field vmcs_field_at(unsigned index);

/*
 * Finds the field that a guest names by `encoding` (any 64-bit operand of VMREAD/VMWRITE). Constant time.
 * False if the SDM has no such field. *high is set when the encoding means the upper half of a 64-bit field.
 */
bool vmcs_field_find(uint64_t encoding, struct vmcs_field *field, bool *high) __must_check;

/* Whether a processor with `capabilities` has the field. */
bool vmcs_field_exists(struct vmcs_field field, const struct vmx_capabilities *capabilities);

/* The field's name, e.g. "GUEST_RIP", for dumps. */
const char *vmcs_field_name(struct vmcs_field field);
