/* Direct kernels of all instruction sets and the choice between them at run time. */
#ifndef FC_DIRECT_DISPATCH_H
#define FC_DIRECT_DISPATCH_H

#include "fc_call.h"
#include "fc_depthwise.h"
#define FC_TEMPLATE "fc_direct_all.h"
#include "fc_for_each.h"

static int fc_direct_lanes(int isa, int item) {
    return item == 4 ? FC_PICK(isa, direct_lanes_f32) : FC_PICK(isa, direct_lanes_f64);
}

static void fc_direct_item(int isa, int item, const fc_direct_job *job, int64_t first, int64_t last, void *scratch) {
    FC_FLUSHED(isa, item, direct_item, job, first, last, scratch);
}

static void fc_direct_weight_item(int isa, int item, const fc_direct_job *job, int64_t group, int64_t m0, int64_t m1,
                                  void *scratch) {
    FC_FLUSHED(isa, item, direct_weight_item, job, group, m0, m1, scratch);
}

static void fc_depthwise_item(int isa, int item, const fc_direct_job *job, int64_t first, int64_t last, void *scratch) {
    FC_FLUSHED(isa, item, depthwise_item, job, first, last, scratch);
}

static void fc_depthwise_weight_item(int isa, int item, const fc_direct_job *job, int64_t first, int64_t last, void *scratch) {
    FC_FLUSHED(isa, item, depthwise_weight_item, job, first, last, scratch);
}

#endif
