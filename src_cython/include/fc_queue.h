/* Items of a job dealt to threads: each has a contiguous share, and helps the others when that is done.
 *
 * Kernels that number their items along the image so work, one after the other, on the same part of it in the same thread,
 * whose cache holds it.  A fixed share alone would wait for a thread that has less of its core than the others. */
#ifndef FC_QUEUE_H
#define FC_QUEUE_H

#include <stdint.h>

#include "fc_threads.h"

enum { FC_MOST_SHARES = 64 };

typedef struct {
    int64_t items, shares;
    struct {
        int64_t next; /* of the share's items */
        char apart[56]; /* from the next one, which is another cache line */
    } share[FC_MOST_SHARES];
} fc_queue;

static inline int64_t fc_queue_start(const fc_queue *q, int64_t share) { return q->items * share / q->shares; }

static inline void fc_queue_fill(fc_queue *q, int64_t items, int64_t threads) {
    q->items = items;
    q->shares = threads < FC_MOST_SHARES ? threads : FC_MOST_SHARES;
    for (int64_t s = 0; s < q->shares; s++)
        q->share[s].next = fc_queue_start(q, s);
}

/* An item that nobody has had; to be called once for each. */
static inline int64_t fc_queue_take(fc_queue *q) {
    int64_t item = 0;
    for (int64_t n = 0; n < q->shares; n++) {
        const int64_t s = (fc_thread_id() + n) % q->shares;
#ifdef _OPENMP
#pragma omp atomic capture
#endif
        item = q->share[s].next++;
        if (item < fc_queue_start(q, s + 1))
            break;
    }
    return item;
}

#endif
