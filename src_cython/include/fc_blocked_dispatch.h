/* Blocked kernels of all instruction sets and the choice between them at run time. */
#ifndef FC_BLOCKED_DISPATCH_H
#define FC_BLOCKED_DISPATCH_H

#include "fc_blocked.h"
#include "fc_call.h"
#include "fc_winograd_tables.h"
#define FC_TEMPLATE "fc_blocked_all.h"
#include "fc_for_each.h"
#include "fc_gemm_dispatch.h"

static void fc_blocked_from_planes(int isa, int item, const void *planes, int64_t channels, int64_t plane, void *blocks,
                                   int64_t i) {
    FC_FLUSHED(isa, item, blocked_from_planes, planes, channels, plane, blocks, i);
}

static void fc_blocked_to_planes(int isa, int item, const void *blocks, int64_t channels, int64_t plane, void *planes,
                                 int64_t i) {
    FC_FLUSHED(isa, item, blocked_to_planes, blocks, channels, plane, planes, i);
}

static void fc_blocked_weights_item(int isa, int item, const fc_blocked_job *job, const void *w, int64_t i, void *out) {
    FC_FLUSHED(isa, item, blocked_weights_item, job, w, i, out);
}

static void fc_blocked_conv_item(int isa, int item, const fc_blocked_job *job, int64_t i, void *scratch) {
    FC_FLUSHED(isa, item, blocked_conv_item, job, i, scratch);
}

static void fc_blocked_stem_row(int isa, int item, const fc_blocked_stem_job *job, int64_t i) {
    FC_FLUSHED(isa, item, blocked_stem_row, job, i);
}

static void fc_blocked_stem_item(int isa, int item, const fc_blocked_stem_job *job, int64_t i) {
    FC_FLUSHED(isa, item, blocked_stem_item, job, i);
}

static void fc_blocked_depthwise_item(int isa, int item, const fc_blocked_job *job, int64_t i, void *scratch) {
    FC_FLUSHED(isa, item, blocked_depthwise_item, job, i, scratch);
}

/* Denormals count here: a maximum is one of the numbers. */
static void fc_blocked_pool_item(int isa, int item, const fc_blocked_job *job, int kind, int64_t i, void *scratch) {
    FC_CALL(isa, item, blocked_pool_item, job, kind, i, scratch);
}

static void fc_blocked_filters_item(int isa, int item, const fc_blocked_winograd_job *job, const void *w, int64_t i,
                                    void *out) {
    FC_FLUSHED(isa, item, blocked_filters_item, job, w, i, out);
}

static void fc_blocked_tiles_item(int isa, int item, const fc_blocked_winograd_job *job, int64_t i) {
    FC_FLUSHED(isa, item, blocked_tiles_item, job, i);
}

static int fc_blocked_product_item(int isa, int item, const fc_blocked_winograd_job *job, int64_t i, void *scratch) {
    int bad;
    FC_WITHOUT_DENORMALS(bad = FC_CALL(isa, item, blocked_product_item, job, i, scratch));
    return bad;
}

#endif
