// SPDX-License-Identifier: BSD-2-Clause
/* Instructions that exit and need little: CPUID, HLT, XSETBV, and those that a guest does not have. */
#include "arch/x86/cpu.h"
#include "arch/x86/exception.h"
#include "arch/x86/registers.h"
#include "core/exits/exits.h"
#include "core/exits/linear.h"
#include "core/paging.h"
#include "core/run.h"
#include "vmx/events.h"

/* `address`: of a page fault. */
static void deliver(struct partition_vcpu *v, uint8_t vector, uint32_t error_code, uint64_t address)
{
    struct partition_level *level = v->level;
    const bool has_error_code = (X86_EXCEPTIONS_WITH_ERROR_CODE & BIT(vector)) != 0;

    if (unlikely(level->stepping))
        paging_end_step(level);
    if (unlikely(level->ops != NULL) && level->ops->takes_exception(v, vector, error_code, address))
        return;
    /* CR2 stays loaded while Umbra runs: it has no page faults of its own. */
    if (vector == X86_VECTOR_PF)
        cpu_write_cr2(address);
    if (!vcpu_queue_exception(level->vcpu, vector, has_error_code, error_code))
        exit_triple_fault(v);
    else if (unlikely(level->ops != NULL) && vector != X86_VECTOR_DF &&
             EVENT_VECTOR(level->vcpu->injection) == X86_VECTOR_DF)
        (void)level->ops->takes_exception(v, X86_VECTOR_DF, 0, 0); /* what two exceptions have become */
}

void exit_inject_error(struct partition_vcpu *v, uint8_t vector, uint32_t error_code)
{
    deliver(v, vector, error_code, 0);
}

void exit_inject(struct partition_vcpu *v, uint8_t vector)
{
    exit_inject_error(v, vector, 0);
}

void exit_pass_page_fault(struct partition_vcpu *v, uint64_t address, uint32_t error_code)
{
    deliver(v, X86_VECTOR_PF, error_code, address);
}

void exit_inject_page_fault(struct partition_vcpu *v, uint64_t address, uint32_t error_code)
{
    /* A page fault invalidates its address, also one that Umbra found (SDM vol. 3, "Operations that
     * Invalidate TLBs"). */
    if (v->level->vcpu->regime == VCPU_REGIME_SHADOW)
        paging_invalidate_address(v, paging_tag(v), address);
    deliver(v, X86_VECTOR_PF, error_code, address);
}

void exit_inject_access_fault(struct partition_vcpu *v, gla_t gla, const struct stage_fault *fault)
{
    if (fault->stage == &v->level->walk.stage)
        exit_inject_page_fault(v, fault->address, (uint32_t)fault->error_code);
    else
        v->level->ops->memory_fault(v, gla, fault);
}

void exit_nothing(struct partition_vcpu *v)
{
    (void)v;
}

/* A loop of PAUSE waits for another vCPU, which may be waiting for this processor. */
void exit_pause(struct partition_vcpu *v)
{
    (void)v;
    run_yield();
}

void exit_skip(struct partition_vcpu *v)
{
    vcpu_skip_instruction(v->level->vcpu);
}

void exit_undefined_opcode(struct partition_vcpu *v)
{
    exit_inject(v, X86_VECTOR_UD);
}

void exit_general_protection(struct partition_vcpu *v)
{
    exit_inject(v, X86_VECTOR_GP);
}

/* The answer of an entry that depends on the vCPU's state. */
static void compute_cpuid(struct partition_vcpu *v, const struct cpuid_entry *entry, uint32_t subleaf,
                          struct cpuid_registers *out)
{
    struct cpuid_state *state = &v->cpuid_state;

    if (entry->needs & CPUID_NEEDS_APIC)
        state->apic_enabled = (v->partition->platform.lapics[v->number].base & APIC_BASE_ENABLE) != 0;
    if (entry->needs & CPUID_NEEDS_CR4)
        state->cr4 = vcpu_read_cr4(&v->vcpu);
    if (entry->needs & CPUID_NEEDS_XSAVE)
        state->xcr0 = cpu_xgetbv(0);
    if (entry->needs & CPUID_NEEDS_MODE)
        state->mode_64 = linear_mode(v) == DECODE_MODE_64;
    cpuid_entry_compute(&v->partition->cpuid, entry, subleaf, state, out);
}

static void answer_cpuid(struct partition_vcpu *v, const struct cpuid_registers *answer)
{
    uint64_t *registers = v->vcpu.registers;

    registers[VCPU_RAX] = answer->eax;
    registers[VCPU_RBX] = answer->ebx;
    registers[VCPU_RCX] = answer->ecx;
    registers[VCPU_RDX] = answer->edx;
    vcpu_skip_instruction(&v->vcpu);
}

/* Apart, so that the usual answer needs no stack frame. */
static __noinline void exit_cpuid_computed(struct partition_vcpu *v, const struct cpuid_entry *entry,
                                           uint32_t subleaf)
{
    struct cpuid_registers computed;

    compute_cpuid(v, entry, subleaf, &computed);
    answer_cpuid(v, &computed);
}

void exit_cpuid(struct partition_vcpu *v)
{
    uint32_t subleaf = (uint32_t)v->vcpu.registers[VCPU_RCX];
    const struct cpuid_entry *entry =
        cpuid_image_find(&v->partition->cpuid, (uint32_t)v->vcpu.registers[VCPU_RAX], subleaf);

    if (unlikely(entry->needs != 0))
        exit_cpuid_computed(v, entry, subleaf);
    else
        answer_cpuid(v, &entry->registers);
}

void exit_halt(struct partition_vcpu *v)
{
    vcpu_skip_instruction(&v->vcpu);
    if (vcpu_events_would_wake(&v->vcpu)) {
        vcpu_events_changed(&v->vcpu);
        return;
    }
    v->wait = VCPU_WAIT_HALTED;
    run_interrupt_slice();
}

void exit_xsetbv(struct partition_vcpu *v)
{
    const uint64_t *registers = v->vcpu.registers;
    uint64_t value = registers[VCPU_RDX] << 32 | (uint32_t)registers[VCPU_RAX];

    /* The SDM has the check of CPL before the exit, the emulator that Umbra is tested on after it. */
    if (linear_cpl(v) != 0 || (uint32_t)registers[VCPU_RCX] != 0 ||
        !cpuid_image_xcr0_valid(&v->partition->cpuid, value)) {
        exit_inject(v, X86_VECTOR_GP);
        return;
    }
    /* XCR0 stays loaded while Umbra runs: it uses no extended state. */
    cpu_xsetbv(0, value);
    vcpu_skip_instruction(&v->vcpu);
}
