/* Total variation, the smoothness term of paper 001: over all channels of the image x,

     L = scale * sum of (x_i+1,j - x_ij)^2 + (x_i,j+1 - x_ij)^2

   where the neighbour exists. Each pixel's gradient is 2 scale dL times the sum of its differences
   to its neighbours, four inside the image. */
#include "core/graph.h"
#include "ops/check.h"

static ds_code infer(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                     ds_status *status)
{
    (void)in;
    (void)inputs;
    (void)attr;
    (void)status;
    *out = (ds_tensor){.shape = {1, 1, 1, 1}, .kind = DS_PLAIN};
    return DS_OK;
}

static ds_code gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                        ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    return ds_graph_add(
        graph, DS_OP_total_variation_backward, (ds_id[]){node->in[0], dy}, 2,
        &(ds_total_variation_backward_attr){.scale = DS_ATTR(total_variation, node->attr).scale},
        dx, status);
}

static ds_code infer_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    (void)inputs;
    (void)attr;
    DS_TRY(ds_check_scalar("total_variation_backward", "dl", in[1], status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

const ds_meaning ds_op_total_variation = {.infer = infer, .gradient = gradient};
const ds_meaning ds_op_total_variation_backward = {.infer = infer_backward};
