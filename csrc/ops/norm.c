/* Normalisation. Instance norm, for each map of each picture (or, with whole_batch, for each
   channel of the batch), with the mean m and the biased variance v of its pixels:

     xhat = (x - m) / sqrt(v + epsilon),   y = gamma xhat + beta
     dx = gamma / sqrt(v + epsilon) * (dy - mean(dy) - xhat * mean(dy xhat))
     dgamma = sum(dy xhat),   dbeta = sum(dy)

   Batch norm is the same y with mean and var given, as in a trained network: they are constants,
   so that dx = gamma / sqrt(var + epsilon) * dy. Without gamma and beta they are 1 and 0. */
#include "core/graph.h"
#include "ops/check.h"

/* The vectors in[first .. inputs) have one value per channel of x. */
static ds_code check_vectors(const char *op, const ds_tensor *const in[], int first, int inputs,
                             const char *const names[], int64_t channels, ds_status *status)
{
    for (int i = first; i < inputs; i++)
        DS_TRY(ds_check_vector(op, names[i - first], in[i], channels, status));
exit:
    return status->code;
}

/* The gradient of a vector that is added per channel. */
static ds_code sum_channels(ds_graph *graph, ds_id x, ds_id *sum, ds_status *status)
{
    const int64_t channels = graph->nodes[x].out.shape.c;
    return ds_graph_add(graph, DS_OP_sum_to, &x, 1,
                        &(ds_sum_to_attr){.n = 1, .c = channels, .h = 1, .w = 1}, sum, status);
}

static ds_code infer_instance(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    static const char *const names[] = {"gamma", "beta"};
    const ds_instance_norm_attr a = DS_ATTR(instance_norm, attr);
    DS_TRY(ds_check_positive("instance_norm", "epsilon", a.epsilon, status));
    DS_TRY(check_vectors("instance_norm", in, 1, inputs, names, in[0]->shape.c, status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

static ds_code gradient_instance(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy,
                                 int input, ds_id *dx, ds_status *status)
{
    (void)id;
    const ds_instance_norm_attr a = DS_ATTR(instance_norm, node->attr);
    if (input == 0)
        return ds_graph_add(
            graph, DS_OP_instance_norm_backward, (ds_id[]){dy, node->in[0], node->in[1]},
            node->inputs > 1 ? 3 : 2,
            &(ds_instance_norm_backward_attr){.epsilon = a.epsilon, .whole_batch = a.whole_batch},
            dx, status);
    if (input == 1)
        return ds_graph_add(graph, DS_OP_instance_norm_backward_gamma, (ds_id[]){dy, node->in[0]},
                            2,
                            &(ds_instance_norm_backward_gamma_attr){.epsilon = a.epsilon,
                                                                    .whole_batch = a.whole_batch},
                            dx, status);
    return sum_channels(graph, dy, dx, status);
}

static ds_code infer_instance_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                                       ds_tensor *out, ds_status *status)
{
    static const char *const names[] = {"gamma"};
    static const char *const op = "instance_norm_backward";
    const ds_instance_norm_backward_attr a = DS_ATTR(instance_norm_backward, attr);
    DS_TRY(ds_check_positive(op, "epsilon", a.epsilon, status));
    DS_TRY(ds_check_same(op, "dy", in[0], "x", in[1], status));
    DS_TRY(check_vectors(op, in, 2, inputs, names, in[1]->shape.c, status));
    *out = (ds_tensor){.shape = in[1]->shape, .kind = in[1]->kind};
exit:
    return status->code;
}

static ds_code infer_instance_backward_gamma(const ds_tensor *const in[], int inputs,
                                             const int64_t *attr, ds_tensor *out, ds_status *status)
{
    (void)inputs;
    static const char *const op = "instance_norm_backward_gamma";
    const ds_instance_norm_backward_gamma_attr a = DS_ATTR(instance_norm_backward_gamma, attr);
    DS_TRY(ds_check_positive(op, "epsilon", a.epsilon, status));
    DS_TRY(ds_check_same(op, "dy", in[0], "x", in[1], status));
    *out = (ds_tensor){.shape = {1, in[1]->shape.c, 1, 1}, .kind = DS_PLAIN};
exit:
    return status->code;
}

static ds_code infer_batch(const ds_tensor *const in[], int inputs, const int64_t *attr,
                           ds_tensor *out, ds_status *status)
{
    static const char *const names[] = {"mean", "var", "gamma", "beta"};
    DS_TRY(ds_check_positive("batch_norm", "epsilon", DS_ATTR(batch_norm, attr).epsilon, status));
    DS_TRY(check_vectors("batch_norm", in, 1, inputs, names, in[0]->shape.c, status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

/* sum over pixels of dy xhat, xhat being the batch norm without gamma and beta. */
static ds_code gradient_batch_gamma(ds_graph *graph, const ds_node *node, ds_id dy,
                                    const ds_batch_norm_attr *a, ds_id *dx, ds_status *status)
{
    ds_id xhat = DS_NONE, product = DS_NONE;
    DS_TRY(ds_graph_add(graph, DS_OP_batch_norm, node->in, 3, a, &xhat, status));
    DS_TRY(ds_graph_add(graph, DS_OP_multiply, (ds_id[]){dy, xhat}, 2, NULL, &product, status));
    DS_TRY(sum_channels(graph, product, dx, status));
exit:
    return status->code;
}

static ds_code gradient_batch(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                              ds_id *dx, ds_status *status)
{
    (void)id;
    const ds_batch_norm_attr a = DS_ATTR(batch_norm, node->attr);
    if (input == 0)
        return ds_graph_add(graph, DS_OP_batch_norm_backward,
                            (ds_id[]){dy, node->in[2], node->in[3]}, node->inputs > 3 ? 3 : 2,
                            &(ds_batch_norm_backward_attr){.epsilon = a.epsilon}, dx, status);
    if (input == 3)
        return gradient_batch_gamma(graph, node, dy, &a, dx, status);
    if (input == 4)
        return sum_channels(graph, dy, dx, status);
    return ds_fail(status, DS_BAD_VALUE,
                   "gradient: the %s of batch_norm is a constant of the trained network; for "
                   "statistics of the batch itself use instance_norm with whole_batch=1",
                   input == 1 ? "mean" : "var");
}

static ds_code infer_batch_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                                    ds_tensor *out, ds_status *status)
{
    static const char *const names[] = {"var", "gamma"};
    static const char *const op = "batch_norm_backward";
    const ds_batch_norm_backward_attr a = DS_ATTR(batch_norm_backward, attr);
    DS_TRY(ds_check_positive(op, "epsilon", a.epsilon, status));
    DS_TRY(check_vectors(op, in, 1, inputs, names, in[0]->shape.c, status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

const ds_meaning ds_op_instance_norm = {.infer = infer_instance, .gradient = gradient_instance};
const ds_meaning ds_op_instance_norm_backward = {.infer = infer_instance_backward};
const ds_meaning ds_op_instance_norm_backward_gamma = {.infer = infer_instance_backward_gamma};
const ds_meaning ds_op_batch_norm = {.infer = infer_batch, .gradient = gradient_batch};
const ds_meaning ds_op_batch_norm_backward = {.infer = infer_batch_backward};
