// SPDX-License-Identifier: BSD-2-Clause
/*
 * Checks on the guest's segment registers (SDM vol. 3, 27.3.1.2): an entry that fails one exits with reason
 * 33. In virtual-8086 mode the six of them have fixed contents; else what the sub-fields of the access rights
 * may be depends on the register.
 */
#include "nested/checks_rows.h"

/* The registers in the order of their fields, which is the same for selectors, bases, limits and rights. */
enum segment {
    ES,
    CS,
    SS,
    DS,
    FS,
    GS,
    LDTR,
    TR,
};

#define IN_ORDER(KIND)                                                                                       \
    _Static_assert(VMCS_INDEX_GUEST_CS_##KIND == VMCS_INDEX_GUEST_ES_##KIND + CS &&                          \
                       VMCS_INDEX_GUEST_SS_##KIND == VMCS_INDEX_GUEST_ES_##KIND + SS &&                      \
                       VMCS_INDEX_GUEST_DS_##KIND == VMCS_INDEX_GUEST_ES_##KIND + DS &&                      \
                       VMCS_INDEX_GUEST_FS_##KIND == VMCS_INDEX_GUEST_ES_##KIND + FS &&                      \
                       VMCS_INDEX_GUEST_GS_##KIND == VMCS_INDEX_GUEST_ES_##KIND + GS &&                      \
                       VMCS_INDEX_GUEST_LDTR_##KIND == VMCS_INDEX_GUEST_ES_##KIND + LDTR &&                  \
                       VMCS_INDEX_GUEST_TR_##KIND == VMCS_INDEX_GUEST_ES_##KIND + TR,                        \
                   #KIND ": the fields stand in another order")
IN_ORDER(SELECTOR);
IN_ORDER(BASE);
IN_ORDER(LIMIT);
IN_ORDER(ACCESS_RIGHTS);

/* Fields of the access rights (SDM vol. 3, table "Format of Access Rights"). */
#define TYPE(rights)            ((rights)&0xf)
#define TYPE_ACCESSED           1
#define TYPE_READABLE           2 /* of a code segment */
#define TYPE_CODE               8
#define TYPE_DATA               3 /* read and write, expand-up, accessed */
#define TYPE_STACK_DOWN         7 /* likewise, expand-down */
#define TYPE_LDT                2
#define TYPE_BUSY_TSS_16        3
#define TYPE_BUSY_TSS           11 /* of 32 bits or, in IA-32e mode, of 64 */
#define TYPE_LAST_NONCONFORMING 11
#define RIGHTS_S                BIT(4)
#define RIGHTS_DPL(rights)      ((rights) >> 5 & 3)
#define RIGHTS_P                BIT(7)
#define RIGHTS_L                BIT(13)
#define RIGHTS_DB               BIT(14)
#define RIGHTS_G                BIT(15)
#define RIGHTS_UNUSABLE         BIT(16)
#define RIGHTS_RESERVED         0xfffe0f00 /* 31:17, 11:8 */
#define RIGHTS_VIRTUAL_8086     0xf3
#define LIMIT_VIRTUAL_8086      0xffff
#define SELECTOR_TI             BIT(2)
#define RPL(selector)           ((selector)&3)

static uint64_t selector_of(const struct nested_check_context *c, enum segment segment)
{
    return check_value(c, VMCS_INDEX_GUEST_ES_SELECTOR + segment);
}

static uint64_t rights_of(const struct nested_check_context *c, enum segment segment)
{
    return check_value(c, VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS + segment);
}

/* The register that a field of access rights belongs to. */
static enum segment owner(unsigned rights_field)
{
    return (enum segment)(rights_field - VMCS_INDEX_GUEST_ES_ACCESS_RIGHTS);
}

static bool is_usable(const struct nested_check_context *c, enum segment segment)
{
    return (rights_of(c, segment) & RIGHTS_UNUSABLE) == 0;
}

/* Whether the sub-fields of a register's rights count: CS always has to be good, and LDTR and TR are beyond
 * virtual-8086 mode. */
static bool is_asked(const struct nested_check_context *c, enum segment segment)
{
    if (segment < LDTR && check_is_virtual_8086(c))
        return false;
    return segment == CS || segment == TR || is_usable(c, segment);
}

/* ---- Virtual-8086 mode ------------------------------------------------------------------------------- */

static bool is_virtual_8086_base(const struct nested_check_context *c, unsigned field)
{
    enum segment segment = (enum segment)(field - VMCS_INDEX_GUEST_ES_BASE);

    return !check_is_virtual_8086(c) || check_value(c, field) == selector_of(c, segment) << 4;
}

static bool is_virtual_8086_limit(const struct nested_check_context *c, unsigned field)
{
    return !check_is_virtual_8086(c) || check_value(c, field) == LIMIT_VIRTUAL_8086;
}

static bool is_virtual_8086_rights(const struct nested_check_context *c, unsigned field)
{
    return !check_is_virtual_8086(c) || check_value(c, field) == RIGHTS_VIRTUAL_8086;
}

/* ---- Selectors and bases ----------------------------------------------------------------------------- */

static bool has_rpl_of_cs(const struct nested_check_context *c, unsigned field)
{
    return check_is_virtual_8086(c) || check_is_unrestricted(c) ||
           RPL(check_value(c, field)) == RPL(selector_of(c, CS));
}

static bool is_gdt_selector(const struct nested_check_context *c, unsigned field)
{
    enum segment segment = (enum segment)(field - VMCS_INDEX_GUEST_ES_SELECTOR);

    return !is_asked(c, segment) || (check_value(c, field) & SELECTOR_TI) == 0;
}

/* In 64-bit mode the bases of ES, CS, SS and DS are not used, and cannot be wider. */
static bool is_narrow_base(const struct nested_check_context *c, unsigned field)
{
    enum segment segment = (enum segment)(field - VMCS_INDEX_GUEST_ES_BASE);

    return (segment != CS && !is_usable(c, segment)) || check_value(c, field) >> 32 == 0;
}

static bool is_ldtr_base(const struct nested_check_context *c, unsigned field)
{
    return !is_usable(c, LDTR) || nested_check_is_canonical(c, field);
}

/* ---- Access rights: type ----------------------------------------------------------------------------- */

/* Real mode leaves a data segment in CS. */
static bool is_cs_type(const struct nested_check_context *c, unsigned field)
{
    unsigned type = TYPE(check_value(c, field));

    return !is_asked(c, CS) || (type == TYPE_DATA && check_is_unrestricted(c)) ||
           (type & (TYPE_CODE | TYPE_ACCESSED)) == (TYPE_CODE | TYPE_ACCESSED);
}

static bool is_ss_type(const struct nested_check_context *c, unsigned field)
{
    unsigned type = TYPE(check_value(c, field));

    return !is_asked(c, SS) || type == TYPE_DATA || type == TYPE_STACK_DOWN;
}

static bool is_data_type(const struct nested_check_context *c, unsigned field)
{
    unsigned type = TYPE(check_value(c, field));

    return !is_asked(c, owner(field)) ||
           ((type & TYPE_ACCESSED) != 0 && ((type & TYPE_CODE) == 0 || (type & TYPE_READABLE) != 0));
}

static bool is_ldtr_type(const struct nested_check_context *c, unsigned field)
{
    return !is_asked(c, LDTR) || TYPE(check_value(c, field)) == TYPE_LDT;
}

static bool is_tr_type(const struct nested_check_context *c, unsigned field)
{
    unsigned type = TYPE(check_value(c, field));

    return type == TYPE_BUSY_TSS || (type == TYPE_BUSY_TSS_16 && !check_is_ia32e_guest(c));
}

/* ---- Access rights: DPL ------------------------------------------------------------------------------ */

/* SS.DPL is the CPL. */
static bool is_cs_dpl(const struct nested_check_context *c, unsigned field)
{
    uint64_t rights = check_value(c, field);
    uint64_t cpl = RIGHTS_DPL(rights_of(c, SS));

    if (!is_asked(c, CS))
        return true;
    if (TYPE(rights) == TYPE_DATA)
        return RIGHTS_DPL(rights) == 0;
    return TYPE(rights) <= TYPE_LAST_NONCONFORMING ? RIGHTS_DPL(rights) == cpl : RIGHTS_DPL(rights) <= cpl;
}

/* SS.DPL is what it is whether SS is usable or not. */
static bool is_ss_dpl(const struct nested_check_context *c, unsigned field)
{
    return check_is_virtual_8086(c) || check_is_unrestricted(c) ||
           RIGHTS_DPL(check_value(c, field)) == RPL(selector_of(c, SS));
}

static bool is_ss_dpl_of_mode(const struct nested_check_context *c, unsigned field)
{
    if (check_is_virtual_8086(c) || (TYPE(rights_of(c, CS)) != TYPE_DATA && check_is_protected(c)))
        return true;
    return RIGHTS_DPL(check_value(c, field)) == 0;
}

static bool is_data_dpl(const struct nested_check_context *c, unsigned field)
{
    uint64_t rights = check_value(c, field);

    return !is_asked(c, owner(field)) || check_is_unrestricted(c) || TYPE(rights) > TYPE_LAST_NONCONFORMING ||
           RIGHTS_DPL(rights) >= RPL(selector_of(c, owner(field)));
}

/* ---- Access rights: the rest ------------------------------------------------------------------------- */

static bool is_s(const struct nested_check_context *c, unsigned field)
{
    return !is_asked(c, owner(field)) || (check_value(c, field) & RIGHTS_S) != 0;
}

static bool is_system(const struct nested_check_context *c, unsigned field)
{
    return !is_asked(c, owner(field)) || (check_value(c, field) & RIGHTS_S) == 0;
}

static bool is_present(const struct nested_check_context *c, unsigned field)
{
    return !is_asked(c, owner(field)) || (check_value(c, field) & RIGHTS_P) != 0;
}

static bool has_no_reserved_rights(const struct nested_check_context *c, unsigned field)
{
    return !is_asked(c, owner(field)) || (check_value(c, field) & RIGHTS_RESERVED) == 0;
}

static bool is_db(const struct nested_check_context *c, unsigned field)
{
    uint64_t rights = check_value(c, field);

    return !is_asked(c, CS) || !check_is_ia32e_guest(c) || (rights & RIGHTS_L) == 0 ||
           (rights & RIGHTS_DB) == 0;
}

/* A limit in pages ends with ones, one in bytes has 20 bits. */
static bool is_granularity(const struct nested_check_context *c, unsigned field)
{
    uint64_t limit = check_value(c, VMCS_INDEX_GUEST_ES_LIMIT + owner(field));

    if (!is_asked(c, owner(field)))
        return true;
    return (check_value(c, field) & RIGHTS_G) != 0 ? (limit & 0xfff) == 0xfff : limit >> 20 == 0;
}

static bool is_tr_usable(const struct nested_check_context *c, unsigned field __unused)
{
    return is_usable(c, TR);
}

/* ---- Tables ------------------------------------------------------------------------------------------ */

#define SECTION "27.3.1.2"
#define VIRTUAL_8086_ROWS(S)                                                                                 \
    ROW(GUEST_##S##_BASE, #S " base in virtual-8086 mode", SECTION, is_virtual_8086_base),                   \
        ROW(GUEST_##S##_LIMIT, #S " limit in virtual-8086 mode", SECTION, is_virtual_8086_limit),            \
        ROW(GUEST_##S##_ACCESS_RIGHTS, #S " rights in virtual-8086 mode", SECTION, is_virtual_8086_rights)
#define COMMON_ROWS(S)                                                                                       \
    ROW(GUEST_##S##_ACCESS_RIGHTS, #S " present", SECTION, is_present),                                      \
        ROW(GUEST_##S##_ACCESS_RIGHTS, #S " reserved rights", SECTION, has_no_reserved_rights),              \
        ROW(GUEST_##S##_ACCESS_RIGHTS, #S " granularity", SECTION, is_granularity)
#define DATA_ROWS(S)                                                                                         \
    ROW(GUEST_##S##_ACCESS_RIGHTS, #S " type", SECTION, is_data_type),                                       \
        ROW(GUEST_##S##_ACCESS_RIGHTS, #S " S", SECTION, is_s),                                              \
        ROW(GUEST_##S##_ACCESS_RIGHTS, #S " DPL", SECTION, is_data_dpl)

static const struct nested_check_row cs_rows[] = {
    VIRTUAL_8086_ROWS(CS),
    ROW(GUEST_CS_BASE, "CS base", SECTION, is_narrow_base),
    ROW(GUEST_CS_ACCESS_RIGHTS, "CS type", SECTION, is_cs_type),
    ROW(GUEST_CS_ACCESS_RIGHTS, "CS S", SECTION, is_s),
    ROW(GUEST_CS_ACCESS_RIGHTS, "CS DPL", SECTION, is_cs_dpl),
    ROW(GUEST_CS_ACCESS_RIGHTS, "CS D/B with L", SECTION, is_db),
    COMMON_ROWS(CS),
};
TABLE(cs, "CS", cs_rows);

static const struct nested_check_row ss_rows[] = {
    ROW(GUEST_SS_SELECTOR, "SS RPL", SECTION, has_rpl_of_cs),
    VIRTUAL_8086_ROWS(SS),
    ROW(GUEST_SS_BASE, "SS base", SECTION, is_narrow_base),
    ROW(GUEST_SS_ACCESS_RIGHTS, "SS type", SECTION, is_ss_type),
    ROW(GUEST_SS_ACCESS_RIGHTS, "SS S", SECTION, is_s),
    ROW(GUEST_SS_ACCESS_RIGHTS, "SS DPL", SECTION, is_ss_dpl),
    ROW(GUEST_SS_ACCESS_RIGHTS, "SS DPL with such a CS or in real mode", SECTION, is_ss_dpl_of_mode),
    COMMON_ROWS(SS),
};
TABLE(ss, "SS", ss_rows);

static const struct nested_check_row ds_rows[] = {
    VIRTUAL_8086_ROWS(DS),
    ROW(GUEST_DS_BASE, "DS base", SECTION, is_narrow_base),
    DATA_ROWS(DS),
    COMMON_ROWS(DS),
};
TABLE(ds, "DS", ds_rows);

static const struct nested_check_row es_rows[] = {
    VIRTUAL_8086_ROWS(ES),
    ROW(GUEST_ES_BASE, "ES base", SECTION, is_narrow_base),
    DATA_ROWS(ES),
    COMMON_ROWS(ES),
};
TABLE(es, "ES", es_rows);

static const struct nested_check_row fs_rows[] = {
    VIRTUAL_8086_ROWS(FS),
    ROW(GUEST_FS_BASE, "FS base", SECTION, nested_check_is_canonical),
    DATA_ROWS(FS),
    COMMON_ROWS(FS),
};
TABLE(fs, "FS", fs_rows);

static const struct nested_check_row gs_rows[] = {
    VIRTUAL_8086_ROWS(GS),
    ROW(GUEST_GS_BASE, "GS base", SECTION, nested_check_is_canonical),
    DATA_ROWS(GS),
    COMMON_ROWS(GS),
};
TABLE(gs, "GS", gs_rows);

static const struct nested_check_row tr_rows[] = {
    ROW(GUEST_TR_SELECTOR, "TR TI", SECTION, is_gdt_selector),
    ROW(GUEST_TR_BASE, "TR base", SECTION, nested_check_is_canonical),
    ROW(GUEST_TR_ACCESS_RIGHTS, "TR type", SECTION, is_tr_type),
    ROW(GUEST_TR_ACCESS_RIGHTS, "TR S", SECTION, is_system),
    COMMON_ROWS(TR),
    ROW(GUEST_TR_ACCESS_RIGHTS, "TR unusable", SECTION, is_tr_usable),
};
TABLE(tr, "TR", tr_rows);

static const struct nested_check_row ldtr_rows[] = {
    ROW(GUEST_LDTR_SELECTOR, "LDTR TI", SECTION, is_gdt_selector),
    ROW(GUEST_LDTR_BASE, "LDTR base", SECTION, is_ldtr_base),
    ROW(GUEST_LDTR_ACCESS_RIGHTS, "LDTR type", SECTION, is_ldtr_type),
    ROW(GUEST_LDTR_ACCESS_RIGHTS, "LDTR S", SECTION, is_system),
    COMMON_ROWS(LDTR),
};
TABLE(ldtr, "LDTR", ldtr_rows);
