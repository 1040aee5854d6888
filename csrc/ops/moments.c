/* Mean and standard deviation of each feature map, the statistics of AdaIN (papers 002 and 004):

     mu = mean(x),   sigma = sqrt(sum((x - mu)^2) / (M - u) + epsilon),   M = H W

   u = 1 where unbiased, as in the published AdaIN decoder's code, else 0. The result (N, C, 1, 2)
   holds mu, sigma. With d the gradient to them:

     dx_k = dmu / M + dsigma (x_k - mu) / ((M - u) sigma) */
#include "core/graph.h"
#include "ops/check.h"

static ds_shape moments_shape(ds_shape x)
{
    return (ds_shape){x.n, x.c, 1, 2};
}

static ds_code infer(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                     ds_status *status)
{
    (void)inputs;
    const ds_moments_attr a = DS_ATTR(moments, attr);
    DS_TRY(ds_check_moments("moments", in[0], a.epsilon, a.unbiased, status));
    *out = (ds_tensor){.shape = moments_shape(in[0]->shape), .kind = DS_PLAIN};
exit:
    return status->code;
}

static ds_code gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                        ds_id *dx, ds_status *status)
{
    (void)input;
    const ds_moments_attr a = DS_ATTR(moments, node->attr);
    return ds_graph_add(graph, DS_OP_moments_backward, (ds_id[]){node->in[0], id, dy}, 3,
                        &(ds_moments_backward_attr){.epsilon = a.epsilon, .unbiased = a.unbiased},
                        dx, status);
}

static ds_code infer_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_moments_backward_attr a = DS_ATTR(moments_backward, attr);
    const ds_shape wanted = moments_shape(in[0]->shape);
    DS_TRY(ds_check_moments("moments_backward", in[0], a.epsilon, a.unbiased, status));
    DS_TRY(ds_check_shape("moments_backward", "moments", in[1], wanted, status));
    DS_TRY(ds_check_kind("moments_backward", "moments", in[1], DS_PLAIN, status));
    DS_TRY(ds_check_shape("moments_backward", "dmoments", in[2], wanted, status));
    DS_TRY(ds_check_kind("moments_backward", "dmoments", in[2], DS_PLAIN, status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

const ds_meaning ds_op_moments = {.infer = infer, .gradient = gradient};
const ds_meaning ds_op_moments_backward = {.infer = infer_backward};
