/* A border around every map: zero, reflect (mirrored, the edge pixel not repeated) or replicate
   (the edge pixel repeated). pad_backward is the adjoint: border pixels are added to the pixels
   they were copied from. */
#include "core/graph.h"
#include "ops/check.h"

typedef struct border {
    const char *op;
    int64_t top, bottom, left, right, mode;
} border;

/* The four widths, and for reflect that the inner picture of h x w has pixels to mirror. */
static ds_code check_border(const border *b, int64_t h, int64_t w, ds_status *status)
{
    const char *const names[] = {"top", "bottom", "left", "right"};
    const int64_t widths[] = {b->top, b->bottom, b->left, b->right};
    for (int i = 0; i < 4; i++) {
        const int64_t size = i < 2 ? h : w;
        DS_TRY(ds_check_size(b->op, names[i], widths[i], 0, status));
        if (b->mode == DS_PAD_REFLECT && widths[i] >= size)
            DS_TRY(ds_fail(status, DS_BAD_VALUE,
                           "%s: %s=%lld reflects more than the map's %s of %lld allows; use a "
                           "larger picture or a border below %lld",
                           b->op, names[i], (long long)widths[i], i < 2 ? "height" : "width",
                           (long long)size, (long long)size));
    }
exit:
    return status->code;
}

static ds_code infer(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                     ds_status *status)
{
    (void)inputs;
    const ds_pad_attr a = DS_ATTR(pad, attr);
    const border b = {"pad", a.top, a.bottom, a.left, a.right, a.mode};
    const ds_shape x = in[0]->shape;
    DS_TRY(check_border(&b, x.h, x.w, status));
    *out = (ds_tensor){.shape = {x.n, x.c, x.h + a.top + a.bottom, x.w + a.left + a.right},
                       .kind = in[0]->kind};
exit:
    return status->code;
}

static ds_code gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                        ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_pad_attr a = DS_ATTR(pad, node->attr);
    return ds_graph_add(
        graph, DS_OP_pad_backward, &dy, 1,
        &(ds_pad_backward_attr){
            .top = a.top, .bottom = a.bottom, .left = a.left, .right = a.right, .mode = a.mode},
        dx, status);
}

static ds_code infer_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_pad_backward_attr a = DS_ATTR(pad_backward, attr);
    const border b = {"pad_backward", a.top, a.bottom, a.left, a.right, a.mode};
    const ds_shape dy = in[0]->shape;
    const border plain = {b.op, a.top, a.bottom, a.left, a.right, DS_PAD_ZERO};
    DS_TRY(check_border(&plain, dy.h, dy.w, status));
    const int64_t h = dy.h - a.top - a.bottom, w = dy.w - a.left - a.right;
    if (h < 1 || w < 1)
        DS_TRY(ds_fail(status, DS_BAD_VALUE,
                       "pad_backward: borders %lld, %lld, %lld, %lld leave nothing of dy, " DS_SHAPE
                       "; use those of the pad itself",
                       (long long)a.top, (long long)a.bottom, (long long)a.left, (long long)a.right,
                       DS_DIMS(dy)));
    DS_TRY(check_border(&b, h, w, status));
    *out = (ds_tensor){.shape = {dy.n, dy.c, h, w}, .kind = in[0]->kind};
exit:
    return status->code;
}

static ds_code gradient_backward(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy,
                                 int input, ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_pad_backward_attr a = DS_ATTR(pad_backward, node->attr);
    return ds_graph_add(
        graph, DS_OP_pad, &dy, 1,
        &(ds_pad_attr){
            .top = a.top, .bottom = a.bottom, .left = a.left, .right = a.right, .mode = a.mode},
        dx, status);
}

const ds_meaning ds_op_pad = {.infer = infer, .gradient = gradient};
const ds_meaning ds_op_pad_backward = {.infer = infer_backward, .gradient = gradient_backward};
