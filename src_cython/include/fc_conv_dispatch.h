/* Kernels of all instruction sets and the choice between them at run time. */
#ifndef FC_CONV_DISPATCH_H
#define FC_CONV_DISPATCH_H

#include "fc_col2im.h"
#include "fc_conv.h"
#include "fc_denormals.h"
#include "fc_matmul.h"
#define FC_TEMPLATE "fc_conv_all.h"
#include "fc_for_each.h"

static int fc_gemm_rows(int isa, int item) { return item == 4 ? FC_PICK(isa, gemm_mr_f32) : FC_PICK(isa, gemm_mr_f64); }
static int fc_gemm_lanes(int isa, int item) { return item == 4 ? FC_PICK(isa, gemm_nr_f32) : FC_PICK(isa, gemm_nr_f64); }

/* FC_CALL(isa, item, kernel, args): the float32 or float64 build of a kernel, with denormals taken as zero. */
#define FC_CALL(isa, item, kernel, ...)                                        \
    do {                                                                       \
        if ((item) == 4)                                                       \
            FC_WITHOUT_DENORMALS(FC_PICK(isa, kernel##_f32)(__VA_ARGS__));     \
        else                                                                   \
            FC_WITHOUT_DENORMALS(FC_PICK(isa, kernel##_f64)(__VA_ARGS__));     \
    } while (0)

static void fc_conv_weights_item(int isa, int item, const fc_conv_job *job, int64_t i) {
    FC_CALL(isa, item, conv_weights_item, job, i);
}

static void fc_conv_item(int isa, int item, const fc_conv_job *job, int64_t i, void *scratch) {
    FC_CALL(isa, item, conv_item, job, i, scratch);
}

static void fc_conv_indirect_item(int isa, int item, const fc_conv_job *job, int64_t i, void *scratch) {
    FC_CALL(isa, item, conv_indirect_item, job, i, scratch);
}

static void fc_conv_weight_item(int isa, int item, const fc_conv_weight_job *job, int64_t i, void *scratch) {
    FC_CALL(isa, item, conv_weight_item, job, i, scratch);
}

static void fc_conv_weight_gather_item(int isa, int item, const fc_conv_weight_job *job, int64_t i, void *scratch) {
    FC_CALL(isa, item, conv_weight_gather_item, job, i, scratch);
}

static void fc_col2im_weights_item(int isa, int item, const fc_col2im_job *job, int64_t i) {
    FC_CALL(isa, item, col2im_weights_item, job, i);
}

static void fc_col2im_item(int isa, int item, const fc_col2im_job *job, int64_t i, void *scratch) {
    FC_CALL(isa, item, col2im_item, job, i, scratch);
}

static int fc_vector_bytes(int isa) { return isa == FC_ISA_AVX512 ? 64 : isa == FC_ISA_AVX2 ? 32 : 16; }

/* Scratch bytes of a direct item that keeps `sums` vector sums. */
static int64_t fc_direct_bytes(const fc_conv *g, int isa, int item, int64_t sums) {
    const int64_t taps = g->channels * g->taps;
    return fc_scratch_split(g, 0, item, fc_gemm_lanes(isa, item), g->channels, NULL).bytes +
           taps * ((int64_t)sizeof(void *) + item) + g->block_x * item + sums * fc_vector_bytes(isa);
}

static void fc_direct_item(int isa, int item, const fc_conv_job *job, int64_t i, void *scratch) {
    FC_CALL(isa, item, direct_item, job, i, scratch);
}

static void fc_direct_weight_item(int isa, int item, const fc_conv_weight_job *job, int64_t i, void *scratch) {
    FC_CALL(isa, item, direct_weight_item, job, i, scratch);
}

static int64_t fc_matmul_bytes(const fc_matmul_job *job, int isa, int item) {
    const int64_t rows = fc_gemm_rows(isa, item), lanes = fc_gemm_lanes(isa, item);
    return ((fc_matmul_rows(job) + rows + lanes) * 256 + 16 * (rows + lanes)) * item;
}

static int64_t fc_matmul_items(const fc_matmul_job *job, int isa, int item) {
    const int64_t part_m = fc_matmul_rows(job), part_n = MATMUL_PANELS * fc_gemm_lanes(isa, item);
    return ((job->m + part_m - 1) / part_m) * ((job->n + part_n - 1) / part_n);
}

static void fc_matmul_item(int isa, int item, const fc_matmul_job *job, int64_t i, void *scratch) {
    FC_CALL(isa, item, matmul_item, job, i, scratch);
}

#endif
