/* Winograd kernels of all instruction sets and the choice between them at run time. */
#ifndef FC_WINOGRAD_DISPATCH_H
#define FC_WINOGRAD_DISPATCH_H

#include "fc_call.h"
#include "fc_winograd.h"
#include "fc_winograd_tables.h"
#define FC_TEMPLATE "fc_winograd_all.h"
#include "fc_for_each.h"
#include "fc_gemm_dispatch.h"

static int fc_transform_lanes(int isa, int item) {
    return item == 4 ? FC_PICK(isa, gemm_tw_f32) : FC_PICK(isa, gemm_tw_f64);
}

static int64_t fc_winograd_scratch(int isa, int item, const fc_tiling *t, int64_t channels) {
    return FC_CALL(isa, item, winograd_scratch_bytes, t, channels);
}

static int64_t fc_winograd_filters_size(int isa, int item, const fc_winograd_job *job) {
    return FC_CALL(isa, item, winograd_filters_size, job);
}

static int64_t fc_winograd_sums_size(int isa, int item, const fc_winograd_job *job, int64_t panels) {
    return FC_CALL(isa, item, winograd_sums_size, job, panels);
}

static void fc_winograd_tiles_item(int isa, int item, const fc_winograd_job *job, int64_t i, void *scratch) {
    FC_FLUSHED(isa, item, winograd_tiles_item, job, i, scratch);
}

static int fc_winograd_product_item(int isa, int item, const fc_winograd_job *job, int64_t i, void *scratch) {
    int bad;
    FC_WITHOUT_DENORMALS(bad = FC_CALL(isa, item, winograd_product_item, job, i, scratch));
    return bad;
}

static void fc_winograd_filters_item(int isa, int item, const fc_winograd_job *job, int64_t i, void *prepared) {
    FC_FLUSHED(isa, item, winograd_filters_item, job, i, prepared);
}

static void fc_winograd_weight_tiles_item(int isa, int item, const fc_winograd_weight_job *job, int64_t i, void *scratch) {
    FC_FLUSHED(isa, item, winograd_weight_tiles_item, job, i, scratch);
}

static void fc_winograd_weight_product(int isa, int item, const fc_winograd_weight_job *job, int64_t i) {
    FC_FLUSHED(isa, item, winograd_weight_product, job, i);
}

static int fc_winograd_weight_filters_item(int isa, int item, const fc_winograd_weight_job *job, int64_t i) {
    int bad;
    FC_WITHOUT_DENORMALS(bad = FC_CALL(isa, item, winograd_weight_filters_item, job, i));
    return bad;
}

#endif
