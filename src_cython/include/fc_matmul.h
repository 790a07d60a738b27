/* Matrix product c (m, n) = op(a) op(b) and its epilogue: the job and how it is cut. */
#ifndef FC_MATMUL_H
#define FC_MATMUL_H

#include "fc_conv.h"
#include "fc_epilogue.h"

typedef struct {
    int64_t m, n, k;
    int trans_a, trans_b;
    const void *a, *b;
    fc_epilogue epilogue; /* a bias per column */
    void *c;
} fc_matmul_job;

/* Rows of one work item: a multiple of every register tile height (4, 6, 12). */
static FC_UNUSED int64_t fc_matmul_rows(const fc_matmul_job *job) { return job->m <= 96 ? fc_round_up(job->m, 12) : 192; }

/* Column panels, each `lanes` wide, of one work item: few where a single part of rows must keep all threads busy. */
static FC_UNUSED int64_t fc_matmul_panels(const fc_matmul_job *job, int64_t lanes) {
    const int64_t panels = (job->n + lanes - 1) / lanes;
    return job->m <= 96 ? fc_max(2, fc_min(8, panels / 4)) : 8;
}

#endif
