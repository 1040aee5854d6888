/* Tensors as vectors, the two operations of L-BFGS:

     dot(a, b) = sum of a b            da = dy b,   db = dy a
     axpy(alpha, x, y) = alpha x + y   dalpha = dot(dy, x),   dx = alpha dy,   dy itself */
#include "core/graph.h"
#include "ops/check.h"

static ds_code infer_dot(const ds_tensor *const in[], int inputs, const int64_t *attr,
                         ds_tensor *out, ds_status *status)
{
    (void)inputs;
    (void)attr;
    DS_TRY(ds_check_same("dot", "b", in[1], "a", in[0], status));
    *out = (ds_tensor){.shape = {1, 1, 1, 1}, .kind = DS_PLAIN};
exit:
    return status->code;
}

static ds_code gradient_dot(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                            ds_id *dx, ds_status *status)
{
    (void)id;
    return ds_graph_add(graph, DS_OP_multiply, (ds_id[]){node->in[1 - input], dy}, 2, NULL, dx,
                        status);
}

static ds_code infer_axpy(const ds_tensor *const in[], int inputs, const int64_t *attr,
                          ds_tensor *out, ds_status *status)
{
    (void)inputs;
    (void)attr;
    DS_TRY(ds_check_scalar("axpy", "alpha", in[0], status));
    DS_TRY(ds_check_same("axpy", "y", in[2], "x", in[1], status));
    *out = (ds_tensor){.shape = in[1]->shape, .kind = in[1]->kind};
exit:
    return status->code;
}

static ds_code gradient_axpy(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                             ds_id *dx, ds_status *status)
{
    (void)id;
    if (input == 0)
        return ds_graph_add(graph, DS_OP_dot, (ds_id[]){dy, node->in[1]}, 2, NULL, dx, status);
    if (input == 1)
        return ds_graph_add(graph, DS_OP_multiply, (ds_id[]){dy, node->in[0]}, 2, NULL, dx, status);
    *dx = dy;
    return DS_OK;
}

const ds_meaning ds_op_dot = {.infer = infer_dot, .gradient = gradient_dot};
const ds_meaning ds_op_axpy = {.infer = infer_axpy, .gradient = gradient_axpy};
