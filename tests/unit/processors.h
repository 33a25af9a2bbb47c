// SPDX-License-Identifier: BSD-2-Clause
#pragma once
/*
 * Recorded processors: capability MSRs and CPUID of five generations, and of the virtual VT-x that KVM gives
 * its guests. "Recorded" are values that somebody read from the processor and published; "composed" ones are
 * stated as such. An answer that a processor does not give is not in its list, and asking for it fails the
 * test.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "lib/types.h"

struct recorded_msr {
    uint32_t number;
    uint64_t value;
};

struct recorded_leaf {
    uint32_t leaf;
    uint32_t subleaf;
    struct cpuid_registers registers;
};

struct recorded_processor {
    const char *name;
    const struct recorded_msr *msrs;
    size_t msr_count;
    const struct recorded_leaf *leaves;
    size_t leaf_count;
};

// clang-format off

/*
 * Core 2 Duo T9600 (Penryn). MSRs: recorded, as the comments of Bochs' model of it list them; 3AH composed
 * (what firmware with VT-x on leaves). CPUID: that model's answers.
 */
static const struct recorded_msr penryn_msrs[] = {
    {0x03a, 0x5},
    {0x480, 0x005a08000000000d}, {0x481, 0x0000003f00000016}, {0x482, 0xf7f9fffe0401e172},
    {0x483, 0x0003ffff00036dff}, {0x484, 0x00003fff000011ff}, {0x485, 0x00000000000403c0},
    {0x486, 0x0000000080000021}, {0x487, 0x00000000ffffffff}, {0x488, 0x0000000000002000},
    {0x489, 0x00000000000467ff}, {0x48a, 0x000000000000002c}, {0x48b, 0x0000004100000000},
};
static const struct recorded_leaf penryn_leaves[] = {
    {0x0, 0, {0xd, 0x756e6547, 0x6c65746e, 0x49656e69}},
    {0x1, 0, {0x0001067a, 0x00010800, 0x0408e3fd, 0xbfebfbff}},
    {0x2, 0, {0x05b0b101, 0x005657f0, 0, 0x2cb4304e}},
    {0x4, 0, {0x04000121, 0x01c0003f, 0x3f, 1}}, {0x4, 1, {0x04000122, 0x01c0003f, 0x3f, 1}},
    {0x4, 2, {0x04004143, 0x05c0003f, 0xfff, 1}}, {0x4, 3, {0, 0, 0, 0}},
    {0x6, 0, {0x3, 0x2, 0x3, 0}}, {0x7, 0, {0, 0, 0, 0}}, {0x7, 1, {0, 0, 0, 0}},
    {0xd, 0, {0x3, 0x240, 0x240, 0}}, {0xd, 1, {0, 0, 0, 0}},
    {0x80000000, 0, {0x80000008, 0, 0, 0}}, {0x80000001, 0, {0, 0, 0x1, 0x20100800}},
    {0x80000002, 0, {0x65746e49, 0x2952286c, 0x726f4320, 0x4d542865}},
    {0x80000003, 0, {0x44203229, 0x43206f75, 0x20205550, 0x54202020}},
    {0x80000004, 0, {0x30303639, 0x20402020, 0x30382e32, 0x007a4847}},
    {0x80000005, 0, {0, 0, 0, 0}}, {0x80000006, 0, {0, 0, 0x18008040, 0}}, {0x80000007, 0, {0, 0, 0, 0}},
    {0x80000008, 0, {0x00003024, 0, 0, 0}},
};

/*
 * Core i5-750 (Lynnfield). MSRs: composed from the ones recorded on a Westmere laptop, published in the
 * notes of the XMHF64 project, without what Bochs' model of the i5-750 lacks: unrestricted guest, PAUSE-loop
 * exiting. CPUID: that model's answers.
 */
static const struct recorded_msr lynnfield_msrs[] = {
    {0x03a, 0x5},
    {0x480, 0x00da04000000000f}, {0x481, 0x0000007f00000016}, {0x482, 0xfff9fffe0401e172},
    {0x483, 0x007fffff00036dff}, {0x484, 0x0000ffff000011ff}, {0x485, 0x00000000000401e7},
    {0x486, 0x0000000080000021}, {0x487, 0x00000000ffffffff}, {0x488, 0x0000000000002000},
    {0x489, 0x00000000000067ff}, {0x48a, 0x000000000000002a}, {0x48b, 0x0000007f00000000},
    {0x48c, 0x00000f0106114141}, {0x48d, 0x0000007f00000016}, {0x48e, 0xfff9fffe04006172},
    {0x48f, 0x007fffff00036dfb}, {0x490, 0x0000ffff000011fb},
};
static const struct recorded_leaf lynnfield_leaves[] = {
    {0x0, 0, {0xb, 0x756e6547, 0x6c65746e, 0x49656e69}},
    {0x1, 0, {0x000106e5, 0x00010800, 0x0098e3fd, 0xbfebfbff}},
    {0x2, 0, {0x55035a01, 0x00f0b0e4, 0, 0x09ca212c}},
    {0x4, 0, {0x1c004121, 0x01c0003f, 0x3f, 0}}, {0x4, 1, {0x1c004122, 0x00c0003f, 0x7f, 0}},
    {0x4, 2, {0x1c004143, 0x01c0003f, 0x1ff, 0}}, {0x4, 3, {0x1c03c163, 0x03c0003f, 0x1fff, 2}},
    {0x4, 4, {0, 0, 0, 0}},
    {0x6, 0, {0x3, 0x2, 0x1, 0}}, {0x7, 0, {0, 0, 0, 0}}, {0x7, 1, {0, 0, 0, 0}},
    {0x80000000, 0, {0x80000008, 0, 0, 0}}, {0x80000001, 0, {0, 0, 0x1, 0x28100800}},
    {0x80000002, 0, {0x65746e49, 0x2952286c, 0x726f4320, 0x4d542865}},
    {0x80000003, 0, {0x35692029, 0x55504320, 0x20202020, 0x20202020}},
    {0x80000004, 0, {0x30353720, 0x20402020, 0x37362e32, 0x007a4847}},
    {0x80000005, 0, {0, 0, 0, 0}}, {0x80000006, 0, {0, 0, 0x01006040, 0}}, {0x80000007, 0, {0, 0, 0, 0x100}},
    {0x80000008, 0, {0x00003024, 0, 0, 0}},
};

/*
 * Core i7-2600K (Sandy Bridge). MSRs: recorded, as the comments of Bochs' model list them. CPUID: the
 * model's.
 */
static const struct recorded_msr sandy_bridge_msrs[] = {
    {0x03a, 0x5},
    {0x480, 0x00da040000000010}, {0x481, 0x0000007f00000016}, {0x482, 0xfff9fffe0401e172},
    {0x483, 0x007fffff00036dff}, {0x484, 0x0000ffff000011ff}, {0x485, 0x00000000100401e5},
    {0x486, 0x0000000080000021}, {0x487, 0x00000000ffffffff}, {0x488, 0x0000000000002000},
    {0x489, 0x00000000000627ff}, {0x48a, 0x000000000000002a}, {0x48b, 0x000000ff00000000},
    {0x48c, 0x00000f0106114141}, {0x48d, 0x0000007f00000016}, {0x48e, 0xfff9fffe04006172},
    {0x48f, 0x007fffff00036dfb}, {0x490, 0x0000ffff000011fb},
};
static const struct recorded_leaf sandy_bridge_leaves[] = {
    {0x0, 0, {0xd, 0x756e6547, 0x6c65746e, 0x49656e69}},
    {0x1, 0, {0x000206a7, 0x00010800, 0x179ae3bf, 0xbfebfbff}},
    {0x2, 0, {0x76035a01, 0x00f0b0ff, 0, 0x00ca0000}},
    {0x4, 0, {0x1c004121, 0x01c0003f, 0x3f, 0}}, {0x4, 1, {0x1c004122, 0x01c0003f, 0x3f, 0}},
    {0x4, 2, {0x1c004143, 0x01c0003f, 0x1ff, 0}}, {0x4, 3, {0x1c03c163, 0x03c0003f, 0x1fff, 6}},
    {0x4, 4, {0, 0, 0, 0}},
    {0x6, 0, {0x77, 0x2, 0xb, 0}}, {0x7, 0, {0, 0, 0, 0}}, {0x7, 1, {0, 0, 0, 0}},
    {0xd, 0, {0x7, 0x340, 0x340, 0}}, {0xd, 1, {0x1, 0, 0, 0}}, {0xd, 2, {0x100, 0x240, 0, 0}},
    {0x80000000, 0, {0x80000008, 0, 0, 0}}, {0x80000001, 0, {0, 0, 0x1, 0x28100800}},
    {0x80000002, 0, {0x20202020, 0x20202020, 0x65746e49, 0x2952286c}},
    {0x80000003, 0, {0x726f4320, 0x4d542865, 0x37692029, 0x3036322d}},
    {0x80000004, 0, {0x43204b30, 0x40205550, 0x342e3320, 0x007a4847}},
    {0x80000005, 0, {0, 0, 0, 0}}, {0x80000006, 0, {0, 0, 0x01006040, 0}}, {0x80000007, 0, {0, 0, 0, 0x100}},
    {0x80000008, 0, {0x00003024, 0, 0, 0}},
};

/*
 * Core i7-7800X (Skylake-X). MSRs: recorded, as the comments of Bochs' model list them; 491H composed (EPTP
 * switching). CPUID: the model's answers, the state components' sizes those of AVX-512 processors.
 */
static const struct recorded_msr skylake_x_msrs[] = {
    {0x03a, 0x5},
    {0x480, 0x00da040000000004}, {0x481, 0x000000ff00000016}, {0x482, 0xfff9fffe0401e172},
    {0x483, 0x01ffffff00036dff}, {0x484, 0x0003ffff000011ff}, {0x485, 0x000000007004c1e7},
    {0x486, 0x0000000080000021}, {0x487, 0x00000000ffffffff}, {0x488, 0x0000000000002000},
    {0x489, 0x00000000003727ff}, {0x48a, 0x000000000000002e}, {0x48b, 0x025d3fff00000000},
    {0x48c, 0x00000f0106734141}, {0x48d, 0x000000ff00000016}, {0x48e, 0xfff9fffe04006172},
    {0x48f, 0x01ffffff00036dfb}, {0x490, 0x0003ffff000011fb}, {0x491, 0x1},
};
static const struct recorded_leaf skylake_x_leaves[] = {
    {0x0, 0, {0x16, 0x756e6547, 0x6c65746e, 0x49656e69}},
    {0x1, 0, {0x00050654, 0x00010800, 0x77faf3bf, 0xbfebfbff}},
    {0x2, 0, {0x76036301, 0x00f0b5ff, 0, 0x00c30000}},
    {0x4, 0, {0x1c004121, 0x01c0003f, 0x3f, 0}}, {0x4, 1, {0x1c004122, 0x01c0003f, 0x3f, 0}},
    {0x4, 2, {0x1c004143, 0x03c0003f, 0x3ff, 0}}, {0x4, 3, {0x1c03c163, 0x0280003f, 0x2fff, 4}},
    {0x4, 4, {0, 0, 0, 0}},
    {0x6, 0, {0x75, 0x2, 0x9, 0}}, {0x7, 0, {0, 0xd19f27eb, 0, 0}}, {0x7, 1, {0, 0, 0, 0}},
    {0xd, 0, {0xe7, 0x240, 0xa80, 0}}, {0xd, 1, {0xf, 0x240, 0, 0}}, {0xd, 2, {0x100, 0x240, 0, 0}},
    {0xd, 5, {0x40, 0x440, 0, 0}}, {0xd, 6, {0x200, 0x480, 0, 0}}, {0xd, 7, {0x400, 0x680, 0, 0}},
    {0x15, 0, {0x2, 0x124, 0, 0}}, {0x16, 0, {0xdac, 0xfa0, 0x64, 0}},
    {0x80000000, 0, {0x80000008, 0, 0, 0}}, {0x80000001, 0, {0, 0, 0x121, 0x2c100800}},
    {0x80000002, 0, {0x65746e49, 0x2952286c, 0x726f4320, 0x4d542865}},
    {0x80000003, 0, {0x37692029, 0x3038372d, 0x43205830, 0x40205550}},
    {0x80000004, 0, {0x352e3320, 0x7a484730, 0, 0}},
    {0x80000005, 0, {0, 0, 0, 0}}, {0x80000006, 0, {0, 0, 0x01006040, 0}}, {0x80000007, 0, {0, 0, 0, 0x100}},
    {0x80000008, 0, {0x00003028, 0, 0, 0}},
};

/*
 * Core i5-1135G7 (Tiger Lake). MSRs and CPUID: recorded with AIDA64, as the text that comes with Bochs'
 * model lists them; 80000001H.EDX.SYSCALL added (recorded outside 64-bit mode); 3AH and 491H composed.
 */
static const struct recorded_msr tiger_lake_msrs[] = {
    {0x03a, 0x5},
    {0x480, 0x01da050000000013}, {0x481, 0x000000ff00000016}, {0x482, 0xfffbfffe0401e172},
    {0x483, 0x137fffff00036dff}, {0x484, 0x0016ffff000011ff}, {0x485, 0x000000007004c1e7},
    {0x486, 0x0000000080000021}, {0x487, 0x00000000ffffffff}, {0x488, 0x0000000000002000},
    {0x489, 0x0000000000ff2fff}, {0x48a, 0x000000000000002e}, {0x48b, 0x035f3fff00000000},
    {0x48c, 0x00000f0106f34141}, {0x48d, 0x000000ff00000016}, {0x48e, 0xfffbfffe04006172},
    {0x48f, 0x137fffff00036dfb}, {0x490, 0x0016ffff000011fb}, {0x491, 0x1}, {0x492, 0x1},
};
static const struct recorded_leaf tiger_lake_leaves[] = {
    {0x0, 0, {0x1b, 0x756e6547, 0x6c65746e, 0x49656e69}},
    {0x1, 0, {0x000806c1, 0x00100800, 0x7ffafbbf, 0xbfebfbff}},
    {0x2, 0, {0x00feff01, 0x000000f0, 0, 0}},
    {0x4, 0, {0x1c004121, 0x02c0003f, 0x3f, 0}}, {0x4, 1, {0x1c004122, 0x01c0003f, 0x3f, 0}},
    {0x4, 2, {0x1c004143, 0x04c0003f, 0x3ff, 0}}, {0x4, 3, {0x1c03c163, 0x01c0003f, 0x3fff, 4}},
    {0x4, 4, {0, 0, 0, 0}},
    {0x6, 0, {0x0017eff7, 0x2, 0x9, 0}}, {0x7, 0, {0, 0xf3bfa7eb, 0x18c05fce, 0xfc100510}},
    {0x7, 1, {0, 0, 0, 0}},
    {0xd, 0, {0x2e7, 0xa80, 0xa88, 0}}, {0xd, 1, {0xf, 0xa00, 0x3900, 0}}, {0xd, 2, {0x100, 0x240, 0, 0}},
    {0xd, 5, {0x40, 0x440, 0, 0}}, {0xd, 6, {0x200, 0x480, 0, 0}}, {0xd, 7, {0x400, 0x680, 0, 0}},
    {0xd, 9, {0x8, 0xa80, 0, 0}},
    {0x15, 0, {0x2, 0x7e, 0x0249f000, 0}}, {0x16, 0, {0x960, 0x1068, 0x64, 0}},
    {0x80000000, 0, {0x80000008, 0, 0, 0}}, {0x80000001, 0, {0, 0, 0x121, 0x2c100800}},
    {0x80000002, 0, {0x68743131, 0x6e654720, 0x746e4920, 0x52286c65}},
    {0x80000003, 0, {0x6f432029, 0x54286572, 0x6920294d, 0x31312d35}},
    {0x80000004, 0, {0x37473533, 0x32204020, 0x4730342e, 0x00007a48}},
    {0x80000005, 0, {0, 0, 0, 0}}, {0x80000006, 0, {0, 0, 0x01007040, 0}}, {0x80000007, 0, {0, 0, 0, 0x100}},
    {0x80000008, 0, {0x00003027, 0, 0, 0}},
};

/*
 * What KVM of Linux 6.1 offers a guest hypervisor with EPT and without APIC virtualisation. MSRs: composed
 * from its documented set of controls, not read from a running one. CPUID: Skylake-X's with the hypervisor
 * bit.
 */
static const struct recorded_msr kvm_msrs[] = {
    {0x03a, 0x5},
    {0x480, 0x00da100011e57ed0}, {0x481, 0x0000007f00000016}, {0x482, 0xfff9fffe0401e172},
    {0x483, 0x007fefff00036dff}, {0x484, 0x0000d3ff000011ff}, {0x485, 0x0000000060000165},
    {0x486, 0x0000000080000021}, {0x487, 0x00000000ffffffff}, {0x488, 0x0000000000002000},
    {0x489, 0x00000000003727ff}, {0x48a, 0x000000000000002e}, {0x48b, 0x001378ff00000000},
    {0x48c, 0x00000f0106334041}, {0x48d, 0x0000007f00000016}, {0x48e, 0xfff9fffe04006172},
    {0x48f, 0x007fefff00036dfb}, {0x490, 0x0000d3ff000011fb}, {0x491, 0x1},
};
static const struct recorded_leaf kvm_leaves[] = {
    {0x0, 0, {0x16, 0x756e6547, 0x6c65746e, 0x49656e69}},
    {0x1, 0, {0x00050654, 0x00010800, 0xf7fa3223, 0x1f8bfbff}},
    {0x2, 0, {0x1, 0, 0, 0}}, {0x4, 0, {0, 0, 0, 0}},
    {0x6, 0, {0x4, 0, 0, 0}}, {0x7, 0, {0, 0xd19f27eb, 0, 0}}, {0x7, 1, {0, 0, 0, 0}},
    {0xd, 0, {0xe7, 0x240, 0xa80, 0}}, {0xd, 1, {0xf, 0x240, 0, 0}}, {0xd, 2, {0x100, 0x240, 0, 0}},
    {0xd, 5, {0x40, 0x440, 0, 0}}, {0xd, 6, {0x200, 0x480, 0, 0}}, {0xd, 7, {0x400, 0x680, 0, 0}},
    {0x15, 0, {0, 0, 0, 0}}, {0x16, 0, {0, 0, 0, 0}},
    {0x80000000, 0, {0x80000008, 0, 0, 0}}, {0x80000001, 0, {0, 0, 0x121, 0x2c100800}},
    {0x80000002, 0, {0, 0, 0, 0}}, {0x80000003, 0, {0, 0, 0, 0}}, {0x80000004, 0, {0, 0, 0, 0}},
    {0x80000005, 0, {0, 0, 0, 0}}, {0x80000006, 0, {0, 0, 0, 0}}, {0x80000007, 0, {0, 0, 0, 0x100}},
    {0x80000008, 0, {0x00003028, 0, 0, 0}},
};

#define PROCESSOR(NAME, X) {NAME, X##_msrs, ARRAY_SIZE(X##_msrs), X##_leaves, ARRAY_SIZE(X##_leaves)}
enum {PENRYN, LYNNFIELD, SANDY_BRIDGE, SKYLAKE_X, TIGER_LAKE, KVM_NESTED, PROCESSORS};
static const struct recorded_processor processors[PROCESSORS] = {
    PROCESSOR("Penryn", penryn),
    PROCESSOR("Lynnfield", lynnfield),
    PROCESSOR("Sandy Bridge", sandy_bridge),
    PROCESSOR("Skylake-X", skylake_x),
    PROCESSOR("Tiger Lake", tiger_lake),
    PROCESSOR("KVM's virtual VT-x", kvm),
};
// clang-format on

/* The processor that the functions below speak for, and a change to one of its registers. */
static const struct recorded_processor *processor;
static uint32_t changed_msr;
static uint64_t changed_value;

static __unused uint64_t processor_rdmsr(uint32_t msr)
{
    if (msr == changed_msr && changed_msr != 0)
        return changed_value;
    for (size_t i = 0; i < processor->msr_count; i++) {
        if (processor->msrs[i].number == msr)
            return processor->msrs[i].value;
    }
    fail_msg("%s has no MSR %#x", processor->name, msr);
    return 0;
}

static __unused struct cpuid_registers processor_cpuid(uint32_t leaf, uint32_t subleaf)
{
    for (size_t i = 0; i < processor->leaf_count; i++) {
        if (processor->leaves[i].leaf == leaf && processor->leaves[i].subleaf == subleaf)
            return processor->leaves[i].registers;
    }
    fail_msg("%s does not answer CPUID %#x.%u", processor->name, leaf, subleaf);
    return (struct cpuid_registers){0};
}
