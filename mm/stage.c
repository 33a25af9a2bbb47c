// SPDX-License-Identifier: BSD-2-Clause
#include "mm/stage.h"

enum stage_outcome stage_chain_continue(const struct stage_chain *chain, unsigned first, unsigned access,
                                        struct translation *translation, struct stage_fault *fault)
{
    for (unsigned i = first; i < chain->count; i++) {
        struct translation next;
        enum stage_outcome outcome =
            chain->stages[i]->walk(chain->stages[i], translation->address, access, &next, fault);

        if (outcome != STAGE_DONE)
            return outcome;
        translation->address = next.address;
        translation->rights &= next.rights;
        translation->memory_type = memory_type_combine(translation->memory_type, next.memory_type);
        if (next.page_shift < translation->page_shift)
            translation->page_shift = next.page_shift;
    }
    return STAGE_DONE;
}

enum stage_outcome stage_chain_walk(const struct stage_chain *chain, uint64_t address, unsigned access,
                                    struct translation *translation, struct stage_fault *fault)
{
    enum stage_outcome outcome =
        chain->stages[0]->walk(chain->stages[0], address, access, translation, fault);

    return outcome == STAGE_DONE ? stage_chain_continue(chain, 1, access, translation, fault) : outcome;
}
