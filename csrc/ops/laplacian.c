/* The Laplacian of a picture (Li et al. 2017; papers 003 and 004): average pool by p, the kernel
   [0 -1 0; -1 4 -1; 0 -1 0] on each channel without a border, summed over channels:

     P = mean of each whole p x p block of x, (N, C, H / p, W / p); rows and columns left over count
         for nothing
     y_ij = sum_c 4 P_c,i+1,j+1 - P_c,i,j+1 - P_c,i+2,j+1 - P_c,i+1,j - P_c,i+1,j+2

   Every pixel of a block receives 1 / p^2 of the gradient to P, the same in every channel. The loss
   is a feature_loss between two of these maps. */
#include "core/graph.h"
#include "ops/check.h"

static ds_code infer(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                     ds_status *status)
{
    (void)inputs;
    const ds_shape x = in[0]->shape;
    const int64_t pool = DS_ATTR(laplacian, attr).pool;
    DS_TRY(ds_check_size("laplacian", "pool", pool, 1, status));
    if (x.h / pool < 3 || x.w / pool < 3) {
        ds_fail(status, DS_BAD_VALUE,
                "laplacian: pool=%lld leaves less than 3x3 of %lld x %lld pixels; use a smaller "
                "pool or a picture of at least %lld pixels on each side",
                (long long)pool, (long long)x.h, (long long)x.w, (long long)(3 * pool));
        goto exit;
    }
    *out = (ds_tensor){.shape = {x.n, 1, x.h / pool - 2, x.w / pool - 2}, .kind = DS_MAP};
exit:
    return status->code;
}

static ds_code gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                        ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_shape x = graph->nodes[node->in[0]].out.shape;
    return ds_graph_add(
        graph, DS_OP_laplacian_backward, &dy, 1,
        &(ds_laplacian_backward_attr){
            .pool = DS_ATTR(laplacian, node->attr).pool, .c = x.c, .h = x.h, .w = x.w},
        dx, status);
}

static ds_code infer_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_laplacian_backward_attr a = DS_ATTR(laplacian_backward, attr);
    DS_TRY(ds_check_size("laplacian_backward", "pool", a.pool, 1, status));
    DS_TRY(ds_check_shape("laplacian_backward", "dy", in[0],
                          (ds_shape){in[0]->shape.n, 1, a.h / a.pool - 2, a.w / a.pool - 2},
                          status));
    *out = (ds_tensor){.shape = {in[0]->shape.n, a.c, a.h, a.w}, .kind = DS_MAP};
exit:
    return status->code;
}

const ds_meaning ds_op_laplacian = {.infer = infer, .gradient = gradient};
const ds_meaning ds_op_laplacian_backward = {.infer = infer_backward};
