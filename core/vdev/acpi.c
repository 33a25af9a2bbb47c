// SPDX-License-Identifier: BSD-2-Clause
/*
 * The ACPI tables of a partition. Section numbers are those of ACPI 6.3. All tables but the FADT, MADT and
 * SSDT are plain copies; the order in the buffer is that in which their addresses become known: RSDP (its
 * place is kept free), FACS, DSDT, FADT, MADT, SSDT, RSDT, XSDT.
 */
#include "core/vdev/acpi.h"

#include "core/vdev/acpi_pm.h"
#include "core/vdev/ioapic.h"
#include "core/vdev/lapic.h"
#include "lib/errors.h"
#include "lib/string.h"

#define SCI_IRQ       9
#define CENTURY_INDEX 0x32
#define VCPUS_MAX     4096

/* dsdt.asl, compiled. */
static const uint8_t dsdt[] = {
#include "core/vdev/dsdt.inc"
};

/* ---- Formats ------------------------------------------------------------------------------------------- */

/* Section 5.2.5.3. The first checksum is over the first 20 bytes, the second over all. */
struct rsdp {
    char signature[8];
    uint8_t checksum;
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum;
    uint8_t reserved[3];
} __packed;

#define RSDP_FIRST_LENGTH 20

/* Section 5.2.6. */
struct header {
    char signature[4];
    uint32_t length;
    uint8_t revision;
    uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
} __packed;

/* Generic address structure, section 5.2.3.2. */
struct address {
    uint8_t space;
    uint8_t bits;
    uint8_t offset;
    uint8_t access;
    uint64_t value;
} __packed;

#define ADDRESS_IO 1

/* Section 5.2.9. */
struct fadt {
    struct header header;
    uint32_t facs;
    uint32_t dsdt;
    uint8_t reserved_1;
    uint8_t preferred_profile;
    uint16_t sci_int;
    uint32_t smi_cmd;
    uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
    uint32_t pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
    uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base;
    uint8_t cst_cnt;
    uint16_t p_lvl2_lat, p_lvl3_lat;
    uint16_t flush_size, flush_stride;
    uint8_t duty_offset, duty_width;
    uint8_t day_alarm, month_alarm, century;
    uint16_t boot_architecture;
    uint8_t reserved_2;
    uint32_t flags;
    struct address reset;
    uint8_t reset_value;
    uint16_t arm_boot_architecture;
    uint8_t minor_version;
    uint64_t x_facs;
    uint64_t x_dsdt;
    struct address x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0, x_gpe1;
    struct address sleep_control, sleep_status;
    char hypervisor_vendor[8];
} __packed;

#define BOOT_LEGACY_DEVICES       0x0001
#define BOOT_NO_VGA               0x0004

#define FADT_WBINVD               0x00000001
#define FADT_PROC_C1              0x00000004
#define FADT_SLP_BUTTON           0x00000020 /* there is no such button in the fixed hardware */
#define FADT_TMR_VAL_EXT          0x00000100 /* the timer has 32 bits */
#define FADT_RESET_REG            0x00000400
#define FADT_HEADLESS             0x00001000
#define LATENCY_NO_C2             101  /* more than 100 us: no C2 state */
#define LATENCY_NO_C3             1001 /* more than 1000 us: no C3 state */
#define PROFILE_ENTERPRISE_SERVER 4

/* Section 5.2.10. */
struct facs {
    char signature[4];
    uint32_t length;
    uint32_t hardware_signature;
    uint32_t waking_vector;
    uint32_t global_lock;
    uint32_t flags;
    uint64_t x_waking_vector;
    uint8_t version;
    uint8_t reserved[31];
} __packed;

/* Section 5.2.12 and below. */
struct madt {
    struct header header;
    uint32_t local_apic;
    uint32_t flags;
} __packed;

#define MADT_PCAT_COMPAT 1 /* there are 8259s as well */
#define MADT_ENABLED     1

struct madt_local_apic {
    uint8_t type, length;
    uint8_t processor_uid;
    uint8_t apic_id;
    uint32_t flags;
} __packed;

struct madt_io_apic {
    uint8_t type, length;
    uint8_t io_apic_id;
    uint8_t reserved;
    uint32_t address;
    uint32_t gsi_base;
} __packed;

struct madt_override {
    uint8_t type, length;
    uint8_t bus;
    uint8_t source;
    uint32_t gsi;
    uint16_t flags;
} __packed;

struct madt_local_nmi {
    uint8_t type, length;
    uint8_t processor_uid;
    uint16_t flags;
    uint8_t lint;
} __packed;

struct madt_x2apic {
    uint8_t type, length;
    uint16_t reserved;
    uint32_t apic_id;
    uint32_t flags;
    uint32_t processor_uid;
} __packed;

struct madt_x2apic_nmi {
    uint8_t type, length;
    uint16_t flags;
    uint32_t processor_uid;
    uint8_t lint;
    uint8_t reserved[3];
} __packed;

#define INTI_CONFORMS         0x0
#define INTI_ACTIVE_HIGH      0x1
#define INTI_LEVEL            0xc
#define ALL_PROCESSORS        0xff
#define ALL_X2APIC_PROCESSORS UINT32_MAX
#define LOCAL_APIC_ID_LAST    254 /* of an 8-bit entry; from 255 on they are x2APIC entries */

_Static_assert(sizeof(struct rsdp) == 36, "ACPI 5.2.5.3");
_Static_assert(sizeof(struct header) == 36, "ACPI 5.2.6");
_Static_assert(sizeof(struct fadt) == 276 && offsetof(struct fadt, boot_architecture) == 109 &&
                   offsetof(struct fadt, x_facs) == 132,
               "ACPI 5.2.9");
_Static_assert(sizeof(struct facs) == 64, "ACPI 5.2.10");
_Static_assert(sizeof(struct madt) == 44, "ACPI 5.2.12");

/* ---- Writing ------------------------------------------------------------------------------------------- */

/* Tables are appended; what does not fit is left out and remembered, so that only acpi_build need look. */
struct writer {
    uint8_t *buffer;
    size_t size;
    size_t used;
    uint32_t base;
    bool overflow;
};

/* Room for `length` bytes, aligned to `alignment` in guest memory. Returns where they are in the buffer, or
 * NULL. */
static void *reserve(struct writer *writer, size_t length, size_t alignment)
{
    size_t start = align_up(writer->used, alignment);

    if (writer->overflow || start > writer->size || length > writer->size - start) {
        writer->overflow = true;
        return NULL;
    }
    memset(writer->buffer + writer->used, 0, start - writer->used);
    writer->used = start + length;
    return writer->buffer + start;
}

/* Appends `data`. Returns its guest address. */
static uint32_t append(struct writer *writer, const void *data, size_t length, size_t alignment)
{
    void *place = reserve(writer, length, alignment);

    if (place)
        memcpy(place, data, length);
    return writer->base + (uint32_t)(writer->used - length);
}

static struct header header_of(const char *signature, uint8_t revision)
{
    struct header header = {
        .revision = revision,
        .oem_id = "UMBRA",
        .oem_table_id = "BOARD",
        .oem_revision = 1,
        .creator_id = {'U', 'M', 'B', 'R'},
        .creator_revision = 1,
    };

    memcpy(header.signature, signature, sizeof(header.signature));
    return header;
}

/* What has to be added to a sum of 0, modulo 256. */
static uint8_t checksum_of(const void *data, size_t length)
{
    const uint8_t *bytes = data;
    uint8_t sum = 0;

    for (size_t i = 0; i < length; i++)
        sum = (uint8_t)(sum - bytes[i]);
    return sum;
}

/* Everything appended since the table's header, which is at guest address `start`, belongs to it. */
static void finish(struct writer *writer, uint32_t start)
{
    uint8_t *table;
    uint32_t length;
    uint8_t checksum;

    if (writer->overflow)
        return;
    table = writer->buffer + (start - writer->base);
    length = (uint32_t)(writer->used - (start - writer->base));
    memcpy(table + offsetof(struct header, length), &length, sizeof(length));
    table[offsetof(struct header, checksum)] = 0;
    checksum = checksum_of(table, length);
    table[offsetof(struct header, checksum)] = checksum;
}

/* ---- The tables ---------------------------------------------------------------------------------------- */

static uint32_t append_facs(struct writer *writer)
{
    struct facs facs = {.length = sizeof(facs), .version = 2};

    memcpy(facs.signature, "FACS", sizeof(facs.signature));
    return append(writer, &facs, sizeof(facs), 64);
}

static struct address io_address(uint16_t port, uint8_t bytes)
{
    /* Access sizes are 1 for a byte, 2 for two, 3 for four. */
    uint8_t access = bytes == 4 ? 3 : bytes;

    return (struct address){
        .space = ADDRESS_IO, .bits = (uint8_t)(8 * bytes), .access = access, .value = port};
}

static uint32_t append_fadt(struct writer *writer, uint32_t facs_address, uint32_t dsdt_address)
{
    struct fadt fadt = {
        .header = header_of("FACP", 6),
        .facs = facs_address,
        .dsdt = dsdt_address,
        .preferred_profile = PROFILE_ENTERPRISE_SERVER,
        .sci_int = SCI_IRQ,
        .pm1a_evt = ACPI_PM_BASE,
        .pm1a_cnt = ACPI_PM_CONTROL,
        .pm_tmr = ACPI_PM_TIMER,
        .pm1_evt_len = 4,
        .pm1_cnt_len = 2,
        .pm_tmr_len = 4,
        .p_lvl2_lat = LATENCY_NO_C2,
        .p_lvl3_lat = LATENCY_NO_C3,
        .century = CENTURY_INDEX,
        .boot_architecture = BOOT_LEGACY_DEVICES | BOOT_NO_VGA,
        .flags =
            FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_TMR_VAL_EXT | FADT_RESET_REG | FADT_HEADLESS,
        .reset = io_address(ACPI_PM_RESET, 1),
        .reset_value = ACPI_PM_RESET_NOW,
        .minor_version = 3,
        .x_dsdt = dsdt_address,
        .x_pm1a_evt = io_address(ACPI_PM_BASE, 4),
        .x_pm1a_cnt = io_address(ACPI_PM_CONTROL, 2),
        .x_pm_tmr = io_address(ACPI_PM_TIMER, 4),
        .hypervisor_vendor = "UMBRA",
    };
    uint32_t start;

    /* Status and enable are two bytes each, whatever the block's width. */
    fadt.x_pm1a_evt.access = 2;
    start = append(writer, &fadt, sizeof(fadt), 16);
    finish(writer, start);
    return start;
}

static void append_processor(struct writer *writer, unsigned id)
{
    if (id <= LOCAL_APIC_ID_LAST) {
        const struct madt_local_apic entry = {0, sizeof(entry), (uint8_t)id, (uint8_t)id, MADT_ENABLED};

        append(writer, &entry, sizeof(entry), 1);
    } else {
        const struct madt_x2apic entry = {9, sizeof(entry), 0, id, MADT_ENABLED, id};

        append(writer, &entry, sizeof(entry), 1);
    }
}

static uint32_t append_madt(struct writer *writer, unsigned vcpus)
{
    const struct madt madt = {header_of("APIC", 5), LAPIC_BASE_DEFAULT, MADT_PCAT_COMPAT};
    const struct madt_io_apic io_apic = {1, sizeof(io_apic), 0, 0, IOAPIC_BASE_DEFAULT, 0};
    const struct madt_override timer = {2, sizeof(timer), 0, 0, 2, INTI_CONFORMS};
    const struct madt_override sci = {2, sizeof(sci), 0, SCI_IRQ, SCI_IRQ, INTI_ACTIVE_HIGH | INTI_LEVEL};
    const struct madt_local_nmi nmi = {4, sizeof(nmi), ALL_PROCESSORS, INTI_CONFORMS, 1};
    const struct madt_x2apic_nmi x2apic_nmi = {
        10, sizeof(x2apic_nmi), INTI_CONFORMS, ALL_X2APIC_PROCESSORS, 1, {0},
    };
    uint32_t start = append(writer, &madt, sizeof(madt), 16);

    for (unsigned id = 0; id < vcpus; id++)
        append_processor(writer, id);
    append(writer, &io_apic, sizeof(io_apic), 1);
    append(writer, &timer, sizeof(timer), 1);
    append(writer, &sci, sizeof(sci), 1);
    append(writer, &nmi, sizeof(nmi), 1);
    if (vcpus > LOCAL_APIC_ID_LAST + 1)
        append(writer, &x2apic_nmi, sizeof(x2apic_nmi), 1);
    finish(writer, start);
    return start;
}

/*
 * A processor in ACPI machine language (section 20.2):
 *
 *     Device (\_SB.C000) { Name (_HID, "ACPI0007")  Name (_UID, 0x0000) }
 *
 * with the three digits of the name and the number filled in.
 */
static const uint8_t processor_aml[] = {
    0x5b, 0x82, 34,                                                             /* DeviceOp, PkgLength */
    '\\', 0x2e, '_', 'S', 'B', '_',  'C', '0', '0', '0',                        /* two-segment name */
    0x08, '_',  'H', 'I', 'D', 0x0d, 'A', 'C', 'P', 'I', '0', '0', '0', '7', 0, /* NameOp, string */
    0x08, '_',  'U', 'I', 'D', 0x0b, 0,   0,                                    /* NameOp, word */
};
#define PROCESSOR_DIGITS 10
#define PROCESSOR_UID    34

_Static_assert(sizeof(processor_aml) == 2 + 34, "PkgLength counts itself and what follows");

static uint32_t append_ssdt(struct writer *writer, unsigned vcpus)
{
    static const char digits[] = "0123456789ABCDEF";
    const struct header header = header_of("SSDT", 2);
    uint32_t start = append(writer, &header, sizeof(header), 16);

    for (unsigned id = 0; id < vcpus; id++) {
        uint8_t aml[sizeof(processor_aml)];

        memcpy(aml, processor_aml, sizeof(aml));
        for (unsigned i = 0; i < 3; i++)
            aml[PROCESSOR_DIGITS + i] = (uint8_t)digits[id >> (8 - 4 * i) & 15];
        aml[PROCESSOR_UID] = (uint8_t)id;
        aml[PROCESSOR_UID + 1] = (uint8_t)(id >> 8);
        append(writer, aml, sizeof(aml), 1);
    }
    finish(writer, start);
    return start;
}

/* RSDT or XSDT: the addresses of `tables` as numbers of `width` bytes. */
static uint32_t append_directory(struct writer *writer, const char *signature, size_t width,
                                 const uint64_t *tables, unsigned count)
{
    const struct header header = header_of(signature, 1);
    uint32_t start = append(writer, &header, sizeof(header), 16);

    for (unsigned i = 0; i < count; i++)
        append(writer, &tables[i], width, 1);
    finish(writer, start);
    return start;
}

int acpi_build(const struct acpi_settings *settings, uint8_t *buffer, size_t size, gpa_t base,
               gpa_t *rsdp_address)
{
    struct writer writer = {.buffer = buffer, .size = size, .base = (uint32_t)base.value};
    struct rsdp rsdp = {.oem_id = "UMBRA", .revision = 2, .length = sizeof(rsdp)};
    uint32_t facs_address, dsdt_address;
    uint64_t tables[3];

    if (settings->vcpus < 1 || settings->vcpus > VCPUS_MAX)
        return -EINVAL;
    if (!is_aligned(base.value, 64) || base.value >= GIB(4) || size > GIB(4) - base.value)
        return -EINVAL;

    reserve(&writer, sizeof(rsdp), 1);
    facs_address = append_facs(&writer);
    dsdt_address = append(&writer, dsdt, sizeof(dsdt), 16);
    tables[0] = append_fadt(&writer, facs_address, dsdt_address);
    tables[1] = append_madt(&writer, settings->vcpus);
    tables[2] = append_ssdt(&writer, settings->vcpus);
    rsdp.rsdt = append_directory(&writer, "RSDT", 4, tables, ARRAY_SIZE(tables));
    rsdp.xsdt = append_directory(&writer, "XSDT", 8, tables, ARRAY_SIZE(tables));
    if (writer.overflow)
        return -ENOSPC;

    memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
    rsdp.checksum = checksum_of(&rsdp, RSDP_FIRST_LENGTH);
    rsdp.extended_checksum = checksum_of(&rsdp, sizeof(rsdp));
    memcpy(buffer, &rsdp, sizeof(rsdp));
    *rsdp_address = base;
    return (int)writer.used;
}
