/* Pointwise nonlinearities, and their derivatives written in terms of the output y:

     relu        max(x, 0)                          1 where y > 0, else 0
     leaky_relu  x > 0 ? x : alpha x                1 where y > 0, else alpha
     elu         x > 0 ? x : alpha (exp(x) - 1)     1 where y > 0, else y + alpha
     relu6       min(max(x, 0), 6)                  1 where 0 < y < 6, else 0
     sigmoid     1 / (1 + exp(-x))                  y (1 - y)
     tanh        tanh(x)                            1 - y^2

   Taking the derivative from the output needs alpha >= 0: the sign of y is then that of x. */
#include "core/graph.h"
#include "ops/check.h"

#include <math.h>

static ds_code check_alpha(const char *op, double alpha, ds_status *status)
{
    if (alpha >= 0 && isfinite(alpha))
        return DS_OK;
    return ds_fail(status, DS_BAD_VALUE, "%s: alpha=%g; use a finite number of at least 0", op,
                   alpha);
}

static ds_code infer(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                     ds_status *status)
{
    (void)inputs;
    DS_TRY(check_alpha("activation", DS_ATTR(activation, attr).alpha, status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

static ds_code gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                        ds_id *dx, ds_status *status)
{
    (void)input;
    const ds_activation_attr a = DS_ATTR(activation, node->attr);
    return ds_graph_add(graph, DS_OP_activation_backward, (ds_id[]){dy, id}, 2,
                        &(ds_activation_backward_attr){.kind = a.kind, .alpha = a.alpha}, dx,
                        status);
}

static ds_code infer_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    (void)inputs;
    DS_TRY(check_alpha("activation_backward", DS_ATTR(activation_backward, attr).alpha, status));
    DS_TRY(ds_check_same("activation_backward", "dy", in[0], "y", in[1], status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

const ds_meaning ds_op_activation = {.infer = infer, .gradient = gradient};
const ds_meaning ds_op_activation_backward = {.infer = infer_backward};
