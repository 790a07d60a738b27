/* The register tile of each instruction set; to be included behind the builds of a template that has fc_gemm_kernel.h. */
#ifndef FC_GEMM_DISPATCH_H
#define FC_GEMM_DISPATCH_H

static int fc_gemm_rows(int isa, int item) { return item == 4 ? FC_PICK(isa, gemm_mr_f32) : FC_PICK(isa, gemm_mr_f64); }
static int fc_gemm_lanes(int isa, int item) { return item == 4 ? FC_PICK(isa, gemm_nr_f32) : FC_PICK(isa, gemm_nr_f64); }

#endif
