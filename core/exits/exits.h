// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * What is done about each exit, one function a reason, found by one table. A handler leaves the vCPU ready
 * for its next entry, or asks for something with partition_request, partition_crash or run_interrupt_slice.
 * Called by core/run.c for the partition's own guest, Lv1, and by core/exits/nested.c for a guest
 * hypervisor's guest, Lv2: with the VMCS of the level that runs current, v->level. An exception or a fault
 * that Lv2 is to get may end its run: v->level is Lv1's then, whose VMCS is current, so that a handler ends
 * with what it injects.
 */
#include "core/partition.h"

typedef void exit_handler(struct partition_vcpu *v);

/* Indexed by basic exit reason; every reason has its row. */
extern exit_handler *const exit_handlers[EXIT_REASON_COUNT];

/* An exit whose `reason` has more than a basic reason that is known: the entry failed late, or a flag is set.
 */
void exit_flagged(struct partition_vcpu *v, uint32_t reason);

/* VMLAUNCH or VMRESUME failed: bad controls or host state. */
void exit_instruction_failure(struct partition_vcpu *v);

exit_handler exit_apic_access, exit_apic_write, exit_cpuid, exit_cr_access, exit_ept_misconfiguration,
    exit_ept_violation, exit_events_changed, exit_exception_or_nmi, exit_external_interrupt,
    exit_general_protection, exit_halt, exit_invlpg, exit_invpcid, exit_io, exit_nothing, exit_pause,
    exit_rdmsr, exit_skip, exit_task_switch, exit_triple_fault, exit_undefined_opcode, exit_unexpected,
    exit_virtualized_eoi, exit_vmcall, exit_wrmsr, exit_xsetbv;

/*
 * The local APIC of `v` is in another mode, or at another address, than before: APIC virtualisation follows.
 * To be called when the vCPU starts, and after each change. The VMCS is current.
 */
void exit_apic_mode_changed(struct partition_vcpu *v);

/* A page fault that exited, in the regime shadow. */
void exit_page_fault(struct partition_vcpu *v);

/* The guest's `access` (enum paging_right) at `gpa`, where no memory is: emulated, or what else it deserves.
 */
void exit_no_memory(struct partition_vcpu *v, gpa_t gpa, unsigned access);

/* Emulates the access at `gpa`, where no memory is, that the instruction at RIP makes. */
void exit_emulate_access(struct partition_vcpu *v, gpa_t gpa, bool write);

/* The guest gets an exception; a triple fault crashes it. */
void exit_inject(struct partition_vcpu *v, uint8_t vector);
void exit_inject_error(struct partition_vcpu *v, uint8_t vector, uint32_t error_code);

/*
 * DR6, DR7 and IA32_DEBUGCTL as a debug exception's delivery leaves them, for one whose reasons are
 * `qualification` (bits of DR6, but RTM inverted) and which did not change them itself.
 */
void exit_update_debug_registers(struct vcpu *vcpu, uint64_t qualification);

/* After an intercepted debug exception: what an entry in the shadow of STI or MOV SS wants of the pending
 * trap. */
void exit_settle_single_step(struct vcpu *vcpu);

/*
 * RDMSR and WRMSR of a register that the policy does not let through, as the vCPU's own guest would execute
 * them. False: #GP.
 */
bool exit_read_msr(struct partition_vcpu *v, uint32_t msr, uint64_t *value) __must_check;
bool exit_write_msr(struct partition_vcpu *v, uint32_t msr, uint64_t value) __must_check;

/* The guest gets a page fault at `address`; exit_pass_page_fault: one whose translation is forgotten already.
 */
void exit_inject_page_fault(struct partition_vcpu *v, uint64_t address, uint32_t error_code);
void exit_pass_page_fault(struct partition_vcpu *v, uint64_t address, uint32_t error_code);

/*
 * An access that Umbra made for the guest, through v->level->linear, ended in `fault` (STAGE_FAULT) at linear
 * address `gla`: the guest gets a page fault, or its hypervisor an EPT violation.
 */
void exit_inject_access_fault(struct partition_vcpu *v, gla_t gla, const struct stage_fault *fault);
