// SPDX-License-Identifier: BSD-2-Clause
#include "mm/stage.h"

enum stage_outcome stage_chain_walk(const struct stage_chain *chain, uint64_t address, unsigned access,
                                    struct translation *translation, struct stage_fault *fault)
{
    enum stage_outcome outcome =
        chain->stages[0]->walk(chain->stages[0], address, access, translation, fault);

    for (unsigned i = 1; i < chain->count && outcome == STAGE_DONE; i++) {
        struct translation next;

        outcome = chain->stages[i]->walk(chain->stages[i], translation->address, access, &next, fault);
        if (outcome != STAGE_DONE)
            break;
        translation->address = next.address;
        translation->rights &= next.rights;
        translation->memory_type = memory_type_combine(translation->memory_type, next.memory_type);
        if (next.page_shift < translation->page_shift)
            translation->page_shift = next.page_shift;
    }
    return outcome;
}
