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
    int64_t panels; /* of columns, in one work item */
} fc_matmul_job;

/* Rows of one work item: a multiple of every register tile height (4, 6, 12). */
static FC_UNUSED int64_t fc_matmul_rows(const fc_matmul_job *job) { return job->m <= 96 ? fc_round_up(job->m, 12) : 192; }

/* Cuts the columns: several items a thread where there are enough of them, but each as wide as it is high, so that packing its
 * rows pays. */
static FC_UNUSED void fc_matmul_plan(fc_matmul_job *job, int64_t lanes, int64_t threads) {
    const int64_t panels = (job->n + lanes - 1) / lanes;
    const int64_t square = fc_min((panels + threads - 1) / threads, fc_matmul_rows(job) / lanes);
    job->panels = fc_max(fc_max(1, square), (panels + 4 * threads - 1) / (4 * threads));
}

#endif
