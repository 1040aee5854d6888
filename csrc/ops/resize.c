/* Resizing to h x w. Output pixel i of a side that goes from `from` to `to` pixels looks at

     nearest                  pixel floor(i from / to)
     bilinear                 position max((i + 1/2) from / to - 1/2, 0)
     bilinear, align_corners  position i (from - 1) / (to - 1), or 0 where to is 1

   and bilinear mixes the two pixels around its position, the last one standing for those beyond
   it. There is no antialiasing. resize_backward is the adjoint. */
#include "core/graph.h"
#include "ops/check.h"

static ds_code check(const char *op, int64_t h, int64_t w, int64_t mode, int64_t align_corners,
                     ds_status *status)
{
    DS_TRY(ds_check_size(op, "h", h, 1, status));
    DS_TRY(ds_check_size(op, "w", w, 1, status));
    if (align_corners && mode == DS_NEAREST)
        ds_fail(status, DS_BAD_VALUE,
                "%s: align_corners=%lld has no meaning for mode nearest; leave it out or use "
                "bilinear",
                op, (long long)align_corners);
exit:
    return status->code;
}

static ds_code infer(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                     ds_status *status)
{
    (void)inputs;
    const ds_resize_attr a = DS_ATTR(resize, attr);
    const ds_shape x = in[0]->shape;
    *out = (ds_tensor){.shape = {x.n, x.c, a.h, a.w}, .kind = in[0]->kind};
    return check("resize", a.h, a.w, a.mode, a.align_corners, status);
}

static ds_code gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                        ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_resize_attr a = DS_ATTR(resize, node->attr);
    const ds_shape x = graph->nodes[node->in[0]].out.shape;
    return ds_graph_add(graph, DS_OP_resize_backward, &dy, 1,
                        &(ds_resize_backward_attr){
                            .h = x.h, .w = x.w, .mode = a.mode, .align_corners = a.align_corners},
                        dx, status);
}

static ds_code infer_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_resize_backward_attr a = DS_ATTR(resize_backward, attr);
    const ds_shape dy = in[0]->shape;
    *out = (ds_tensor){.shape = {dy.n, dy.c, a.h, a.w}, .kind = in[0]->kind};
    return check("resize_backward", a.h, a.w, a.mode, a.align_corners, status);
}

static ds_code gradient_backward(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy,
                                 int input, ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_resize_backward_attr a = DS_ATTR(resize_backward, node->attr);
    const ds_shape x = graph->nodes[node->in[0]].out.shape;
    return ds_graph_add(
        graph, DS_OP_resize, &dy, 1,
        &(ds_resize_attr){.h = x.h, .w = x.w, .mode = a.mode, .align_corners = a.align_corners}, dx,
        status);
}

const ds_meaning ds_op_resize = {.infer = infer, .gradient = gradient};
const ds_meaning ds_op_resize_backward = {.infer = infer_backward, .gradient = gradient_backward};
