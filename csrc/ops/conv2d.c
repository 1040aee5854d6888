/* Convolution, as cross-correlation. With stride s, padding p, dilation d and output channel o in
   group g of I input channels:

     y[n, o, i, j] = bias[o] + sum over c < I, k < kH, l < kW of
                     w[o, c, k, l] * x[n, g I + c, i s - p + k d, j s - p + l d]

   Pixels outside x are 0 (pad_mode zero) or mirrored without repeating the border (reflect).
   Backward input and backward weight are its two adjoints:
   <dy, conv(x, w)> = <backward_input(dy, w), x> = <backward_weight(x, dy), w>. */
#include "core/graph.h"
#include "ops/check.h"

/* What the three ops share, read from either attribute struct. */
typedef struct geometry {
    const char *op;
    int64_t stride, pad, dilation, groups, reflect;
} geometry;

#define GEOMETRY(name, a) ((geometry){name, a.stride, a.pad, a.dilation, a.groups, a.pad_mode})

static ds_code check_geometry(const geometry *g, ds_status *status)
{
    DS_TRY(ds_check_size(g->op, "stride", g->stride, 1, status));
    DS_TRY(ds_check_size(g->op, "pad", g->pad, 0, status));
    DS_TRY(ds_check_size(g->op, "dilation", g->dilation, 1, status));
    DS_TRY(ds_check_size(g->op, "groups", g->groups, 1, status));
exit:
    return status->code;
}

/* Output pixels along one side of `size` pixels, or an error. */
static ds_code output_size(const geometry *g, const char *side, int64_t size, int64_t kernel,
                           int64_t *output, ds_status *status)
{
    if (g->reflect && g->pad >= size)
        return ds_fail(status, DS_BAD_VALUE,
                       "%s: pad=%lld reflects more than the map's %s of %lld allows; use a larger "
                       "picture or a pad below %lld",
                       g->op, (long long)g->pad, side, (long long)size, (long long)size);
    if (kernel > DS_MAX_SIZE || (kernel - 1) * g->dilation + 1 > size + 2 * g->pad)
        return ds_fail(status, DS_BAD_VALUE,
                       "%s: kernel %s %lld with dilation=%lld is larger than the map's %lld with "
                       "pad=%lld on both sides; use a larger picture or more padding",
                       g->op, side, (long long)kernel, (long long)g->dilation, (long long)size,
                       (long long)g->pad);
    *output = (size + 2 * g->pad - (kernel - 1) * g->dilation - 1) / g->stride + 1;
    return DS_OK;
}

/* The spatial size of y for maps of h x w and a kernel of kh x kw. */
static ds_code output_sizes(const geometry *g, int64_t h, int64_t w, int64_t kh, int64_t kw,
                            ds_shape *y, ds_status *status)
{
    DS_TRY(output_size(g, "height", h, kh, &y->h, status));
    DS_TRY(output_size(g, "width", w, kw, &y->w, status));
exit:
    return status->code;
}

/* Channels of x and of the output against those of w. */
static ds_code check_channels(const geometry *g, int64_t x, int64_t y, ds_status *status)
{
    if (x % g->groups == 0 && y % g->groups == 0)
        return DS_OK;
    return ds_fail(status, DS_BAD_VALUE,
                   "%s: groups=%lld does not divide %lld input and %lld output channels; use a "
                   "divisor of both",
                   g->op, (long long)g->groups, (long long)x, (long long)y);
}

static ds_code check_weight(const geometry *g, const ds_tensor *w, int64_t inputs,
                            ds_status *status)
{
    DS_TRY(check_channels(g, inputs, w->shape.n, status));
    if (w->shape.c != inputs / g->groups)
        DS_TRY(ds_fail(status, DS_BAD_VALUE,
                       "%s: w has shape " DS_SHAPE "; with %lld input channels and groups=%lld its "
                       "second dimension must be %lld",
                       g->op, DS_DIMS(w->shape), (long long)inputs, (long long)g->groups,
                       (long long)(inputs / g->groups)));
    DS_TRY(ds_check_kind(g->op, "w", w, DS_PLAIN, status));
exit:
    return status->code;
}

static ds_code infer(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                     ds_status *status)
{
    const ds_conv2d_attr a = DS_ATTR(conv2d, attr);
    const geometry g = GEOMETRY("conv2d", a);
    const ds_shape x = in[0]->shape, w = in[1]->shape;
    ds_shape y = {.n = x.n, .c = w.n};
    DS_TRY(check_geometry(&g, status));
    DS_TRY(ds_check_kind(g.op, "x", in[0], DS_MAP, status));
    DS_TRY(check_weight(&g, in[1], x.c, status));
    if (inputs == 3)
        DS_TRY(ds_check_vector(g.op, "bias", in[2], w.n, status));
    DS_TRY(output_sizes(&g, x.h, x.w, w.h, w.w, &y, status));
    *out = (ds_tensor){.shape = y, .kind = DS_MAP};
exit:
    return status->code;
}

/* The gradient to x; that of a reflected border is added to the pixels which it shows, so that the
   convolution itself is one without border. */
static ds_code gradient_input(ds_graph *graph, const ds_node *node, ds_id dy, ds_id *dx,
                              ds_status *status)
{
    const ds_conv2d_attr a = DS_ATTR(conv2d, node->attr);
    const ds_shape x = graph->nodes[node->in[0]].out.shape;
    const int64_t border = a.pad_mode == DS_PAD_REFLECT ? a.pad : 0;
    DS_TRY(ds_graph_add(graph, DS_OP_conv2d_backward_input, (ds_id[]){dy, node->in[1]}, 2,
                        &(ds_conv2d_backward_input_attr){.stride = a.stride,
                                                         .pad = a.pad - border,
                                                         .dilation = a.dilation,
                                                         .groups = a.groups,
                                                         .h = x.h + 2 * border,
                                                         .w = x.w + 2 * border},
                        dx, status));
    if (border)
        DS_TRY(ds_graph_add(graph, DS_OP_pad_backward, dx, 1,
                            &(ds_pad_backward_attr){.top = border,
                                                    .bottom = border,
                                                    .left = border,
                                                    .right = border,
                                                    .mode = DS_PAD_REFLECT},
                            dx, status));
exit:
    return status->code;
}

static ds_code gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                        ds_id *dx, ds_status *status)
{
    (void)id;
    const ds_conv2d_attr a = DS_ATTR(conv2d, node->attr);
    const ds_shape w = graph->nodes[node->in[1]].out.shape;
    if (input == 0)
        return gradient_input(graph, node, dy, dx, status);
    if (input == 1)
        return ds_graph_add(graph, DS_OP_conv2d_backward_weight, (ds_id[]){node->in[0], dy}, 2,
                            &(ds_conv2d_backward_weight_attr){.stride = a.stride,
                                                              .pad = a.pad,
                                                              .dilation = a.dilation,
                                                              .groups = a.groups,
                                                              .pad_mode = a.pad_mode,
                                                              .kh = w.h,
                                                              .kw = w.w},
                            dx, status);
    return ds_graph_add(graph, DS_OP_sum_to, &dy, 1,
                        &(ds_sum_to_attr){.n = 1, .c = w.n, .h = 1, .w = 1}, dx, status);
}

static ds_code check_output(const geometry *g, const ds_tensor *dy, ds_shape y, ds_status *status)
{
    return ds_check_same(g->op, "dy", dy, "the convolution's result",
                         &(ds_tensor){.shape = y, .kind = DS_MAP}, status);
}

static ds_code infer_backward_input(const ds_tensor *const in[], int inputs, const int64_t *attr,
                                    ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_conv2d_backward_input_attr a = DS_ATTR(conv2d_backward_input, attr);
    const geometry g = GEOMETRY("conv2d_backward_input", a);
    const ds_shape dy = in[0]->shape, w = in[1]->shape;
    ds_shape y = {.n = dy.n, .c = w.n};
    DS_TRY(check_geometry(&g, status));
    DS_TRY(ds_check_size(g.op, "h", a.h, 1, status));
    DS_TRY(ds_check_size(g.op, "w", a.w, 1, status));
    DS_TRY(ds_check_size(g.op, "input channels of w", w.c, 1, status));
    DS_TRY(check_weight(&g, in[1], w.c * a.groups, status));
    DS_TRY(output_sizes(&g, a.h, a.w, w.h, w.w, &y, status));
    DS_TRY(check_output(&g, in[0], y, status));
    *out = (ds_tensor){.shape = {dy.n, w.c * a.groups, a.h, a.w}, .kind = DS_MAP};
exit:
    return status->code;
}

/* backward_input is linear in dy, with the convolution as its adjoint, and in w. */
static ds_code gradient_backward_input(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy,
                                       int input, ds_id *dx, ds_status *status)
{
    (void)id;
    const ds_conv2d_backward_input_attr a = DS_ATTR(conv2d_backward_input, node->attr);
    const ds_shape w = graph->nodes[node->in[1]].out.shape;
    if (input == 0)
        return ds_graph_add(graph, DS_OP_conv2d, (ds_id[]){dy, node->in[1]}, 2,
                            &(ds_conv2d_attr){.stride = a.stride,
                                              .pad = a.pad,
                                              .dilation = a.dilation,
                                              .groups = a.groups,
                                              .pad_mode = a.pad_mode},
                            dx, status);
    return ds_graph_add(graph, DS_OP_conv2d_backward_weight, (ds_id[]){dy, node->in[0]}, 2,
                        &(ds_conv2d_backward_weight_attr){.stride = a.stride,
                                                          .pad = a.pad,
                                                          .dilation = a.dilation,
                                                          .groups = a.groups,
                                                          .pad_mode = a.pad_mode,
                                                          .kh = w.h,
                                                          .kw = w.w},
                        dx, status);
}

static ds_code infer_backward_weight(const ds_tensor *const in[], int inputs, const int64_t *attr,
                                     ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_conv2d_backward_weight_attr a = DS_ATTR(conv2d_backward_weight, attr);
    const geometry g = GEOMETRY("conv2d_backward_weight", a);
    const ds_shape x = in[0]->shape, dy = in[1]->shape;
    ds_shape y = {.n = x.n, .c = dy.c};
    DS_TRY(check_geometry(&g, status));
    DS_TRY(ds_check_size(g.op, "kh", a.kh, 1, status));
    DS_TRY(ds_check_size(g.op, "kw", a.kw, 1, status));
    DS_TRY(ds_check_kind(g.op, "x", in[0], DS_MAP, status));
    DS_TRY(check_channels(&g, x.c, dy.c, status));
    DS_TRY(output_sizes(&g, x.h, x.w, a.kh, a.kw, &y, status));
    DS_TRY(check_output(&g, in[1], y, status));
    *out = (ds_tensor){.shape = {dy.c, x.c / a.groups, a.kh, a.kw}, .kind = DS_PLAIN};
exit:
    return status->code;
}

const ds_meaning ds_op_conv2d = {.infer = infer, .gradient = gradient};
const ds_meaning ds_op_conv2d_backward_input = {.infer = infer_backward_input,
                                                .gradient = gradient_backward_input};
const ds_meaning ds_op_conv2d_backward_weight = {.infer = infer_backward_weight};
