/* What is done to the sums of a convolution or product before they are stored: sum + bias + residual, then an activation.
 * NaN stays NaN. */
#ifndef FC_EPILOGUE_H
#define FC_EPILOGUE_H

#include <stddef.h>

typedef struct {
    const void *bias;     /* per output channel, or NULL */
    const void *residual; /* laid out as the destination, or NULL */
    int activation;       /* FC_LINEAR ... */
    double slope;         /* of FC_LEAKY_RELU */
} fc_epilogue;

enum { FC_LINEAR = 0, FC_RELU = 1, FC_RELU6 = 2, FC_LEAKY_RELU = 3 };

/* Whether there is anything to do behind the bias. */
static inline int fc_epilogue_finishes(const fc_epilogue *e) { return e->residual != NULL || e->activation != FC_LINEAR; }

#endif
