/* Pooling over k x k windows with stride s, window (i, j) starting at (i s - pad, j s - pad):

     max_pool  the largest value of the window; the border is -infinity
     avg_pool  the mean of the window's pixels inside the map; it has no border

   Windows per side: floor((size + 2 pad - k) / s) + 1, or with ceil the next whole number, less
   the last window when it would start beyond the map and its near border.
   max_pool_backward sends dy to the first largest value of each window, in rows then columns. */
#include "core/graph.h"
#include "ops/check.h"

typedef struct window {
    const char *op;
    int64_t kernel, stride, pad, ceil;
} window;

static ds_code check_window(const window *p, ds_status *status)
{
    DS_TRY(ds_check_size(p->op, "kernel", p->kernel, 1, status));
    DS_TRY(ds_check_size(p->op, "stride", p->stride, 1, status));
    DS_TRY(ds_check_size(p->op, "pad", p->pad, 0, status));
    if (p->pad > p->kernel / 2)
        ds_fail(status, DS_BAD_VALUE, "%s: pad=%lld; use at most half of kernel=%lld", p->op,
                (long long)p->pad, (long long)p->kernel);
exit:
    return status->code;
}

static ds_code count_windows(const window *p, const char *side, int64_t size, int64_t *count,
                             ds_status *status)
{
    const int64_t room = size + 2 * p->pad - p->kernel;
    if (room < 0)
        return ds_fail(status, DS_BAD_VALUE,
                       "%s: kernel=%lld is larger than the map's %s of %lld with pad=%lld on both "
                       "sides; use a larger picture",
                       p->op, (long long)p->kernel, side, (long long)size, (long long)p->pad);
    *count = (room + (p->ceil ? p->stride - 1 : 0)) / p->stride + 1;
    if ((*count - 1) * p->stride >= size + p->pad)
        --*count;
    return DS_OK;
}

/* Checks the window and gives the pooled shape of x. */
static ds_code pooled_shape(const window *p, ds_shape x, ds_shape *y, ds_status *status)
{
    *y = x;
    DS_TRY(check_window(p, status));
    DS_TRY(count_windows(p, "height", x.h, &y->h, status));
    DS_TRY(count_windows(p, "width", x.w, &y->w, status));
exit:
    return status->code;
}

static ds_code infer_max(const ds_tensor *const in[], int inputs, const int64_t *attr,
                         ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_max_pool_attr a = DS_ATTR(max_pool, attr);
    const window p = {"max_pool", a.kernel, a.stride, a.pad, a.ceil};
    *out = (ds_tensor){.kind = in[0]->kind};
    return pooled_shape(&p, in[0]->shape, &out->shape, status);
}

static ds_code gradient_max(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                            ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_max_pool_attr a = DS_ATTR(max_pool, node->attr);
    return ds_graph_add(graph, DS_OP_max_pool_backward, (ds_id[]){dy, node->in[0]}, 2,
                        &(ds_max_pool_backward_attr){
                            .kernel = a.kernel, .stride = a.stride, .pad = a.pad, .ceil = a.ceil},
                        dx, status);
}

static ds_code infer_max_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                                  ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_max_pool_backward_attr a = DS_ATTR(max_pool_backward, attr);
    const window p = {"max_pool_backward", a.kernel, a.stride, a.pad, a.ceil};
    ds_tensor y = {.kind = in[1]->kind};
    DS_TRY(pooled_shape(&p, in[1]->shape, &y.shape, status));
    DS_TRY(ds_check_same(p.op, "dy", in[0], "the pooled x", &y, status));
    *out = (ds_tensor){.shape = in[1]->shape, .kind = in[1]->kind};
exit:
    return status->code;
}

static ds_code infer_avg(const ds_tensor *const in[], int inputs, const int64_t *attr,
                         ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_avg_pool_attr a = DS_ATTR(avg_pool, attr);
    const window p = {"avg_pool", a.kernel, a.stride, 0, a.ceil};
    *out = (ds_tensor){.kind = in[0]->kind};
    return pooled_shape(&p, in[0]->shape, &out->shape, status);
}

static ds_code gradient_avg(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                            ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_avg_pool_attr a = DS_ATTR(avg_pool, node->attr);
    const ds_shape x = graph->nodes[node->in[0]].out.shape;
    return ds_graph_add(
        graph, DS_OP_avg_pool_backward, &dy, 1,
        &(ds_avg_pool_backward_attr){
            .kernel = a.kernel, .stride = a.stride, .ceil = a.ceil, .h = x.h, .w = x.w},
        dx, status);
}

static ds_code infer_avg_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                                  ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_avg_pool_backward_attr a = DS_ATTR(avg_pool_backward, attr);
    const window p = {"avg_pool_backward", a.kernel, a.stride, 0, a.ceil};
    const ds_shape x = {in[0]->shape.n, in[0]->shape.c, a.h, a.w};
    ds_tensor y = {.kind = in[0]->kind};
    DS_TRY(ds_check_size(p.op, "h", a.h, 1, status));
    DS_TRY(ds_check_size(p.op, "w", a.w, 1, status));
    DS_TRY(pooled_shape(&p, x, &y.shape, status));
    DS_TRY(ds_check_same(p.op, "dy", in[0], "the pooled x", &y, status));
    *out = (ds_tensor){.shape = x, .kind = in[0]->kind};
exit:
    return status->code;
}

static ds_code gradient_avg_backward(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy,
                                     int input, ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_avg_pool_backward_attr a = DS_ATTR(avg_pool_backward, node->attr);
    return ds_graph_add(graph, DS_OP_avg_pool, &dy, 1,
                        &(ds_avg_pool_attr){.kernel = a.kernel, .stride = a.stride, .ceil = a.ceil},
                        dx, status);
}

const ds_meaning ds_op_max_pool = {.infer = infer_max, .gradient = gradient_max};
const ds_meaning ds_op_max_pool_backward = {.infer = infer_max_backward};
const ds_meaning ds_op_avg_pool = {.infer = infer_avg, .gradient = gradient_avg};
const ds_meaning ds_op_avg_pool_backward = {.infer = infer_avg_backward,
                                            .gradient = gradient_avg_backward};
