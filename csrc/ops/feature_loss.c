/* The squared distance of feature maps, plain and masked (the content loss of paper 001, whose
   factor 1/2 is in `scale`):

     L = scale * sum over all elements of (m (x - target))^2
     dx = 2 scale dL m^2 (x - target),   dtarget = -dx

   The mask has one weight per pixel; it has no gradient. */
#include "core/graph.h"
#include "ops/check.h"

static ds_code infer(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                     ds_status *status)
{
    (void)attr;
    DS_TRY(ds_check_same("feature_loss", "target", in[1], "x", in[0], status));
    if (inputs > 2)
        DS_TRY(ds_check_mask("feature_loss", "mask", in[2], in[0], status));
    *out = (ds_tensor){.shape = {1, 1, 1, 1}, .kind = DS_PLAIN};
exit:
    return status->code;
}

/* The loss is symmetric: the gradient to the target is that to x with the two exchanged. */
static ds_code gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                        ds_id *dx, ds_status *status)
{
    (void)id;
    if (input == 2)
        return ds_no_gradient("feature_loss", "mask", status);
    return ds_graph_add(
        graph, DS_OP_feature_loss_backward,
        (ds_id[]){node->in[input], node->in[1 - input], dy, node->in[2]}, 1 + node->inputs,
        &(ds_feature_loss_backward_attr){.scale = DS_ATTR(feature_loss, node->attr).scale}, dx,
        status);
}

static ds_code infer_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    (void)attr;
    DS_TRY(ds_check_same("feature_loss_backward", "target", in[1], "x", in[0], status));
    DS_TRY(ds_check_scalar("feature_loss_backward", "dl", in[2], status));
    if (inputs > 3)
        DS_TRY(ds_check_mask("feature_loss_backward", "mask", in[3], in[0], status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

const ds_meaning ds_op_feature_loss = {.infer = infer, .gradient = gradient};
const ds_meaning ds_op_feature_loss_backward = {.infer = infer_backward};
