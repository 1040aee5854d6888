/* Gram matrices of feature maps F (C, M), M = H W pixels, and of masked maps (Neural style transfer
   with depth masks, paper 001):

     G_ij = scale / eta * sum_k (m_k F_ik)(m_k F_jk),   eta = mean(m)^2

   Without a mask m = 1 and eta = 1; a mask of ones gives the same bits. With D the gradient to G:

     dF_ik = scale / eta * m_k^2 * sum_j (D_ij + D_ji) F_jk

   eta belongs to the mask, which is given: it has no gradient. */
#include "core/graph.h"
#include "ops/check.h"

static ds_shape gram_shape(ds_shape x)
{
    return (ds_shape){x.n, 1, x.c, x.c};
}

static ds_code infer(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                     ds_status *status)
{
    (void)attr;
    if (inputs > 1)
        DS_TRY(ds_check_mask("gram", "mask", in[1], in[0], status));
    *out = (ds_tensor){.shape = gram_shape(in[0]->shape), .kind = DS_PLAIN};
exit:
    return status->code;
}

static ds_code gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                        ds_id *dx, ds_status *status)
{
    (void)id;
    if (input == 1)
        return ds_no_gradient("gram", "mask", status);
    return ds_graph_add(
        graph, DS_OP_gram_backward, (ds_id[]){node->in[0], dy, node->in[1]}, 1 + node->inputs,
        &(ds_gram_backward_attr){.scale = DS_ATTR(gram, node->attr).scale}, dx, status);
}

static ds_code infer_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    (void)attr;
    DS_TRY(ds_check_shape("gram_backward", "dg", in[1], gram_shape(in[0]->shape), status));
    DS_TRY(ds_check_kind("gram_backward", "dg", in[1], DS_PLAIN, status));
    if (inputs > 2)
        DS_TRY(ds_check_mask("gram_backward", "mask", in[2], in[0], status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

const ds_meaning ds_op_gram = {.infer = infer, .gradient = gradient};
const ds_meaning ds_op_gram_backward = {.infer = infer_backward};
