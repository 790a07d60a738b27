/* Softmax, log-softmax and the cross-entropy built on it.
 *
 * "rows": the classes of one position are contiguous, loops run along them.  "columns": classes lie `stride` apart and
 * up to FC_COLUMNS neighbouring positions are done together.  Sums of floats gather in double at least every FC_RUN
 * terms (which go to the lanes of a vector), in columns every FC_DEPTH.  The maximum may skip a NaN: the sum meets it. */

static void FC_NAME(softmax_columns)(const FC_T *restrict x, FC_T *restrict y, size_t length, size_t stride, size_t n,
                                     int log_output);

/* Rows shorter than FC_SHORT waste most of a vector: transposed, many of them fill it. */
static void FC_NAME(softmax_short_rows)(const FC_T *restrict x, FC_T *restrict y, size_t rows, size_t length,
                                        int log_output) {
    enum { ROWS = 64 };
    FC_T in[FC_SHORT * ROWS], out[FC_SHORT * ROWS];
    for (size_t first = 0; first < rows; first += ROWS, x += ROWS * length, y += ROWS * length) {
        const size_t n = rows - first < ROWS ? rows - first : ROWS;
        for (size_t r = 0; r < n; r++)
            for (size_t c = 0; c < length; c++) in[c * ROWS + r] = x[r * length + c];
        FC_NAME(softmax_columns)(in, out, length, ROWS, n, log_output);
        for (size_t r = 0; r < n; r++)
            for (size_t c = 0; c < length; c++) y[r * length + c] = out[c * ROWS + r];
    }
}

static void FC_NAME(softmax_rows)(const FC_T *restrict x, FC_T *restrict y, size_t rows, size_t length, int log_output) {
    if (length < FC_SHORT) {
        FC_NAME(softmax_short_rows)(x, y, rows, length, log_output);
        return;
    }
    for (; rows > 0; rows--, x += length, y += length) {
        FC_T top = -(FC_T)INFINITY;
        double total = 0;
#pragma omp simd reduction(max : top)
        for (size_t i = 0; i < length; i++) top = x[i] > top ? x[i] : top;
        for (size_t i = 0; i < length; i += FC_RUN) {
            const size_t end = length - i < FC_RUN ? length : i + FC_RUN;
            FC_T sum = 0;
            if (log_output) {
#pragma omp simd reduction(+ : sum)
                for (size_t j = i; j < end; j++) sum += FC_NAME(exp)(x[j] - top);
            } else {
#pragma omp simd reduction(+ : sum)
                for (size_t j = i; j < end; j++) sum += y[j] = FC_NAME(exp)(x[j] - top);
            }
            total += sum;
        }
        if (log_output) {
            const FC_T log_total = (FC_T)log(total);
            for (size_t i = 0; i < length; i++) y[i] = x[i] - top - log_total;
        } else {
            const FC_T factor = (FC_T)(1 / total);
            for (size_t i = 0; i < length; i++) y[i] *= factor;
        }
    }
}

static void FC_NAME(softmax_columns)(const FC_T *restrict x, FC_T *restrict y, size_t length, size_t stride, size_t n,
                                     int log_output) {
    FC_T top[FC_COLUMNS], last[FC_COLUMNS];
    double total[FC_COLUMNS];
    for (size_t j = 0; j < n; j++) {
        top[j] = -(FC_T)INFINITY;
        total[j] = 0;
    }
    for (size_t i = 0; i < length; i++)
        for (size_t j = 0; j < n; j++) top[j] = x[i * stride + j] > top[j] ? x[i * stride + j] : top[j];
    for (size_t i = 0; i < length;) {
        const size_t end = length - i < FC_DEPTH ? length : i + FC_DEPTH;
        FC_T sum[FC_COLUMNS] = {0};
        for (; i < end; i++) {
            if (log_output)
                for (size_t j = 0; j < n; j++) sum[j] += FC_NAME(exp)(x[i * stride + j] - top[j]);
            else
                for (size_t j = 0; j < n; j++) sum[j] += y[i * stride + j] = FC_NAME(exp)(x[i * stride + j] - top[j]);
        }
        for (size_t j = 0; j < n; j++) total[j] += sum[j];
    }
    for (size_t j = 0; j < n; j++) last[j] = (FC_T)(log_output ? log(total[j]) : 1 / total[j]);
    for (size_t i = 0; i < length; i++) {
        if (log_output)
            for (size_t j = 0; j < n; j++) y[i * stride + j] = x[i * stride + j] - top[j] - last[j];
        else
            for (size_t j = 0; j < n; j++) y[i * stride + j] *= last[j];
    }
}

static void FC_NAME(softmax_grad_rows)(const FC_T *restrict g, const FC_T *restrict y, FC_T *restrict dx, size_t rows,
                                       size_t length, int log_output) {
    for (; rows > 0; rows--, g += length, y += length, dx += length) {
        double total = 0;
        for (size_t i = 0; i < length; i += FC_RUN) {
            const size_t end = length - i < FC_RUN ? length : i + FC_RUN;
            FC_T sum = 0;
            if (log_output) {
#pragma omp simd reduction(+ : sum)
                for (size_t j = i; j < end; j++) sum += g[j];
            } else {
#pragma omp simd reduction(+ : sum)
                for (size_t j = i; j < end; j++) sum += g[j] * y[j];
            }
            total += sum;
        }
        const FC_T dot = (FC_T)total;
        if (log_output)
            for (size_t i = 0; i < length; i++) dx[i] = g[i] - FC_NAME(exp)(y[i]) * dot;
        else
            for (size_t i = 0; i < length; i++) dx[i] = y[i] * (g[i] - dot);
    }
}

static void FC_NAME(softmax_grad_columns)(const FC_T *restrict g, const FC_T *restrict y, FC_T *restrict dx,
                                          size_t length, size_t stride, size_t n, int log_output) {
    double total[FC_COLUMNS];
    FC_T dot[FC_COLUMNS];
    for (size_t j = 0; j < n; j++) total[j] = 0;
    for (size_t i = 0; i < length;) {
        const size_t end = length - i < FC_DEPTH ? length : i + FC_DEPTH;
        FC_T sum[FC_COLUMNS] = {0};
        for (; i < end; i++) {
            if (log_output)
                for (size_t j = 0; j < n; j++) sum[j] += g[i * stride + j];
            else
                for (size_t j = 0; j < n; j++) sum[j] += g[i * stride + j] * y[i * stride + j];
        }
        for (size_t j = 0; j < n; j++) total[j] += sum[j];
    }
    for (size_t j = 0; j < n; j++) dot[j] = (FC_T)total[j];
    for (size_t i = 0; i < length; i++) {
        if (log_output)
            for (size_t j = 0; j < n; j++)
                dx[i * stride + j] = g[i * stride + j] - FC_NAME(exp)(y[i * stride + j]) * dot[j];
        else
            for (size_t j = 0; j < n; j++) dx[i * stride + j] = y[i * stride + j] * (g[i * stride + j] - dot[j]);
    }
}
