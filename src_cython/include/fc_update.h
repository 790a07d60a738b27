/* Steps of optimizers and sums of squares, with their run-time choice. */
#ifndef FC_UPDATE_H
#define FC_UPDATE_H

#include "fc_call.h"

#include <math.h>

enum { FC_SGD, FC_ADAM, FC_RMSPROP };

/* Numbers of one step; the kernels round them to their dtype. */
typedef struct {
    double rate;         /* step size, Adam's correction of the mean included */
    double momentum;
    double mean_decay;   /* of the running mean of the gradient */
    double square_decay; /* of the running mean of its square */
    double root_scale;   /* of the root of that, Adam's correction included */
    double eps;
    double bound;        /* gradients are clamped to [-bound, bound] */
    int nesterov;
} fc_update_rates;

/* One array with what the optimizer remembers of it (NULL where it does not), and its own factors. */
typedef struct {
    void *weight;
    const void *grad;
    void *velocity, *mean, *square;
    double shrink; /* the weight is multiplied by it first: decoupled weight decay */
    double decay;  /* decay * weight is added to the gradient: coupled weight decay */
    double scale;  /* of the gradient, before it is clamped */
} fc_update_array;

#define FC_TEMPLATE "fc_update_kernel.h"
#include "fc_for_each.h"

FC_ENTRY(update, (rule, rates, array, first, n), int rule, const fc_update_rates *rates, const fc_update_array *array,
         size_t first, size_t n)
FC_ENTRY(square_sum, (x, n, sum), const void *x, size_t n, double *sum)

#endif
