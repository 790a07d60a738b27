/* Kernels of all instruction sets and the choice between them at run time. */
#ifndef FC_CONV_DISPATCH_H
#define FC_CONV_DISPATCH_H

#include "fc_call.h"
#include "fc_col2im.h"
#include "fc_conv.h"
#include "fc_matmul.h"
#define FC_TEMPLATE "fc_conv_all.h"
#include "fc_for_each.h"
#include "fc_gemm_dispatch.h"

static void fc_conv_weights_item(int isa, int item, const fc_conv_job *job, int64_t i, void *packed) {
    FC_FLUSHED(isa, item, conv_weights_item, job, i, packed);
}

static void fc_conv_item(int isa, int item, const fc_conv_job *job, int64_t i, void *scratch) {
    FC_FLUSHED(isa, item, conv_item, job, i, scratch);
}

static void fc_conv_indirect_item(int isa, int item, const fc_conv_job *job, int64_t i, void *scratch) {
    FC_FLUSHED(isa, item, conv_indirect_item, job, i, scratch);
}

static void fc_conv_weight_item(int isa, int item, const fc_conv_weight_job *job, int64_t i, void *scratch) {
    FC_FLUSHED(isa, item, conv_weight_item, job, i, scratch);
}

static void fc_conv_weight_gather_item(int isa, int item, const fc_conv_weight_job *job, int64_t i, void *scratch) {
    FC_FLUSHED(isa, item, conv_weight_gather_item, job, i, scratch);
}

static void fc_col2im_weights_item(int isa, int item, const fc_col2im_job *job, int64_t i) {
    FC_FLUSHED(isa, item, col2im_weights_item, job, i);
}

static void fc_col2im_item(int isa, int item, const fc_col2im_job *job, int64_t i, void *scratch) {
    FC_FLUSHED(isa, item, col2im_item, job, i, scratch);
}

static int fc_vector_bytes(int isa) { return isa == FC_ISA_AVX512 ? 64 : isa == FC_ISA_AVX2 ? 32 : 16; }

static int64_t fc_matmul_bytes(const fc_matmul_job *job, int isa, int item) {
    const int64_t rows = fc_gemm_rows(isa, item), lanes = fc_gemm_lanes(isa, item);
    return ((fc_matmul_rows(job) + rows + lanes) * 256 + 16 * (rows + lanes)) * item;
}

static int64_t fc_matmul_items(const fc_matmul_job *job, int isa, int item) {
    const int64_t part_m = fc_matmul_rows(job), lanes = fc_gemm_lanes(isa, item);
    const int64_t part_n = job->panels * lanes;
    return ((job->m + part_m - 1) / part_m) * ((job->n + part_n - 1) / part_n);
}

static void fc_matmul_item(int isa, int item, const fc_matmul_job *job, int64_t i, void *scratch) {
    FC_FLUSHED(isa, item, matmul_item, job, i, scratch);
}

#endif
