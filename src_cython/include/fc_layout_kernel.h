/* Rows of im2col and of its adjoint. */

/* One row of the unfolded matrix: what tap `tap` sees at every output position, zero outside. */
static FC_UNUSED void FC_NAME(unfold_tap)(const fc_layout_window *g, int64_t tap, const FC_T *restrict plane,
                                  FC_T *restrict column) {
    int64_t offset[3], first[3], last[3];
    fc_layout_offsets(g, tap, offset);
    for (int dim = 0; dim < 3; dim++)
        fc_layout_inside(g, dim, offset[dim], &first[dim], &last[dim]);
    const int64_t nx = g->out[2], sx = g->stride[2];
    for (int64_t z = 0; z < g->out[0]; z++) {
        for (int64_t y = 0; y < g->out[1]; y++, column += nx) {
            if (z < first[0] || z >= last[0] || y < first[1] || y >= last[1]) {
                memset(column, 0, (size_t)nx * sizeof(FC_T));
                continue;
            }
            const FC_T *row = plane + ((z * g->stride[0] + offset[0]) * g->size[1] + y * g->stride[1] +
                                    offset[1]) * g->size[2] + offset[2];
            for (int64_t x = 0; x < first[2]; x++)
                column[x] = 0;
            if (sx == 1)
                for (int64_t x = first[2]; x < last[2]; x++)
                    column[x] = row[x];
            else
                for (int64_t x = first[2]; x < last[2]; x++)
                    column[x] = row[x * sx];
            for (int64_t x = last[2]; x < nx; x++)
                column[x] = 0;
        }
    }
}

/* Its adjoint: the row added to the positions it came from. */
static FC_UNUSED void FC_NAME(fold_tap)(const fc_layout_window *g, int64_t tap, const FC_T *restrict column,
                                FC_T *restrict plane) {
    int64_t offset[3], first[3], last[3];
    fc_layout_offsets(g, tap, offset);
    for (int dim = 0; dim < 3; dim++)
        fc_layout_inside(g, dim, offset[dim], &first[dim], &last[dim]);
    const int64_t nx = g->out[2], sx = g->stride[2];
    for (int64_t z = first[0]; z < last[0]; z++) {
        for (int64_t y = first[1]; y < last[1]; y++) {
            const FC_T *from = column + (z * g->out[1] + y) * nx;
            FC_T *row = plane + ((z * g->stride[0] + offset[0]) * g->size[1] + y * g->stride[1] +
                              offset[1]) * g->size[2] + offset[2];
            if (sx == 1)
                for (int64_t x = first[2]; x < last[2]; x++)
                    row[x] += from[x];
            else
                for (int64_t x = first[2]; x < last[2]; x++)
                    row[x * sx] += from[x];
        }
    }
}
