/* Matrix product c (m, n) = op(a) op(b) and its epilogue: the job and how it is cut. */
#ifndef FC_MATMUL_H
#define FC_MATMUL_H

#include "fc_conv.h"
#include "fc_epilogue.h"

#define MATMUL_PANELS 8 /* column panels of one work item */

typedef struct {
    int64_t m, n, k;
    int trans_a, trans_b;
    const void *a, *b;
    fc_epilogue epilogue; /* a bias per column */
    void *c;
} fc_matmul_job;

/* Rows of one work item: a multiple of every register tile height (4, 6, 12). */
static FC_UNUSED int64_t fc_matmul_rows(const fc_matmul_job *job) { return job->m <= 96 ? fc_round_up(job->m, 12) : 192; }

#endif
