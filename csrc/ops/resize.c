/* Resizing to h x w, each side on its own. Output pixel i of a side that goes from `from` to `to`
   pixels lies on the input at

     p = (i + 1/2) from / to - 1/2, or with align_corners i (from - 1) / (to - 1) (0 where to is 1)

   and is the mean of the pixels k around p with the weights f(k - p), normalised to a sum of 1:

     nearest   pixel floor(i from / to) alone
     bilinear  f(x) = max(1 - |x|, 0)
     bicubic   Keys' cubic on |x| < 2, of slope a = -3/4 at 1
     lanczos   f(x) = sinc(x) sinc(x / 3) on |x| < 3

   The edge pixel stands for those beyond it. This is what PyTorch and OpenCV compute.

   With antialias it is what Pillow and torchvision compute: where the side shrinks the weights are
   f((k - p) to / from), so that every input pixel counts, bicubic has a = -1/2, and pixels beyond
   the edge are left out. resize_backward is the adjoint. */
#include "core/graph.h"
#include "ops/check.h"

/* The two ops have the same attributes in the same order: ds_resize_attr serves both. */
_Static_assert(sizeof(ds_resize_attr) == sizeof(ds_resize_backward_attr), "attributes differ");

static ds_code check(const char *op, const ds_resize_attr *a, ds_status *status)
{
    DS_TRY(ds_check_size(op, "h", a->h, 1, status));
    DS_TRY(ds_check_size(op, "w", a->w, 1, status));
    if (a->mode == DS_NEAREST && (a->align_corners || a->antialias))
        ds_fail(status, DS_BAD_VALUE,
                "%s: %s has no meaning for mode nearest; leave it out or use bilinear", op,
                a->align_corners ? "align_corners" : "antialias");
    else if (a->align_corners && a->antialias)
        ds_fail(status, DS_BAD_VALUE,
                "%s: align_corners and antialias exclude each other; leave one out", op);
exit:
    return status->code;
}

/* The attributes of the other direction, to a picture of the size of `to`. */
static ds_resize_attr towards(const ds_resize_attr *a, const ds_tensor *to)
{
    ds_resize_attr other = *a;
    other.h = to->shape.h;
    other.w = to->shape.w;
    return other;
}

static ds_code infer(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                     ds_status *status)
{
    (void)inputs;
    const ds_resize_attr a = DS_ATTR(resize, attr);
    const ds_shape x = in[0]->shape;
    *out = (ds_tensor){.shape = {x.n, x.c, a.h, a.w}, .kind = in[0]->kind};
    return check("resize", &a, status);
}

static ds_code gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                        ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_resize_attr a = DS_ATTR(resize, node->attr);
    const ds_resize_attr back = towards(&a, &graph->nodes[node->in[0]].out);
    return ds_graph_add(graph, DS_OP_resize_backward, &dy, 1, &back, dx, status);
}

static ds_code infer_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_resize_attr a = DS_ATTR(resize, attr);
    const ds_shape dy = in[0]->shape;
    *out = (ds_tensor){.shape = {dy.n, dy.c, a.h, a.w}, .kind = in[0]->kind};
    return check("resize_backward", &a, status);
}

static ds_code gradient_backward(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy,
                                 int input, ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_resize_attr a = DS_ATTR(resize, node->attr);
    const ds_resize_attr back = towards(&a, &graph->nodes[node->in[0]].out);
    return ds_graph_add(graph, DS_OP_resize, &dy, 1, &back, dx, status);
}

const ds_meaning ds_op_resize = {.infer = infer, .gradient = gradient};
const ds_meaning ds_op_resize_backward = {.infer = infer_backward, .gradient = gradient_backward};
