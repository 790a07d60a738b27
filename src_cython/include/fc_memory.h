/* Blocks of memory that know their size. */
#ifndef FC_MEMORY_H
#define FC_MEMORY_H

#include <stdlib.h>

#include "fc_isa.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

/* Sits in front of the memory that it describes, which is aligned to a cache line. */
typedef struct {
    void *start; /* as malloc gave it */
    size_t nbytes;
} fc_block;

enum { FC_BLOCK_ALIGNMENT = 64, FC_HUGE_BYTES = 4 << 20 };

FC_INLINE fc_block *fc_block_of(void *memory) { return (fc_block *)memory - 1; }

/* nbytes rounded up by at most an eighth, so that results of about the same size share blocks. */
FC_INLINE size_t fc_block_class(size_t nbytes) {
    size_t step = 1;
    while (step <= nbytes / 16) step *= 2;
    return nbytes > SIZE_MAX - step ? nbytes : (nbytes + step - 1) / step * step;
}

/* NULL where there is no memory. */
static FC_UNUSED void *fc_block_new(size_t nbytes) {
    const size_t margin = sizeof(fc_block) + FC_BLOCK_ALIGNMENT;
    char *start = nbytes > SIZE_MAX - margin ? NULL : (char *)malloc(nbytes + margin);
    if (!start) return NULL;
    char *memory = (char *)(((uintptr_t)start + margin) & ~(uintptr_t)(FC_BLOCK_ALIGNMENT - 1));
    fc_block_of(memory)->start = start;
    fc_block_of(memory)->nbytes = nbytes;
#if defined(MADV_HUGEPAGE)
    if (nbytes >= FC_HUGE_BYTES) { /* advice alone: a system without huge pages may decline it */
        const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)memory + page - 1) / page * page;
        (void)madvise((void *)first, (uintptr_t)memory + nbytes - first, MADV_HUGEPAGE);
    }
#endif
    return memory;
}

FC_INLINE void fc_block_delete(void *memory) { free(fc_block_of(memory)->start); }

#endif
