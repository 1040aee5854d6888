/* Joining and cutting: concat along the channels, slice along channels, rows or columns.
   slice_backward, the adjoint of slice, sets its input into zeros. */
#include "core/graph.h"
#include "ops/check.h"

/* The dimension of a shape that axis 1, 2 or 3 names. */
static int64_t *dimension(ds_shape *shape, int64_t axis)
{
    return axis == 1 ? &shape->c : axis == 2 ? &shape->h : &shape->w;
}

static ds_code check_axis(const char *op, int64_t axis, ds_status *status)
{
    if (axis >= 1 && axis <= 3)
        return DS_OK;
    return ds_fail(status, DS_BAD_VALUE, "%s: axis=%lld; use 1 (channels), 2 (rows) or 3 (columns)",
                   op, (long long)axis);
}

static ds_code infer_concat(const ds_tensor *const in[], int inputs, const int64_t *attr,
                            ds_tensor *out, ds_status *status)
{
    (void)attr;
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
    for (int i = 1; i < inputs; i++) {
        ds_tensor like = *in[0];
        like.shape.c = in[i]->shape.c;
        DS_TRY(ds_check_same("concat", "an input", in[i], "the first in all but channels", &like,
                             status));
        out->shape.c += in[i]->shape.c;
    }
exit:
    return status->code;
}

static ds_code gradient_concat(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                               ds_id *dx, ds_status *status)
{
    (void)id;
    int64_t begin = 0;
    for (int i = 0; i < input; i++)
        begin += graph->nodes[node->in[i]].out.shape.c;
    const int64_t end = begin + graph->nodes[node->in[input]].out.shape.c;
    return ds_graph_add(graph, DS_OP_slice, &dy, 1,
                        &(ds_slice_attr){.axis = 1, .begin = begin, .end = end}, dx, status);
}

static ds_code infer_slice(const ds_tensor *const in[], int inputs, const int64_t *attr,
                           ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_slice_attr a = DS_ATTR(slice, attr);
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
    DS_TRY(check_axis("slice", a.axis, status));
    int64_t *size = dimension(&out->shape, a.axis);
    if (a.begin < 0 || a.begin >= a.end || a.end > *size)
        DS_TRY(ds_fail(status, DS_BAD_VALUE,
                       "slice: begin=%lld, end=%lld; use 0 <= begin < end <= %lld, the size of x "
                       "along axis %lld",
                       (long long)a.begin, (long long)a.end, (long long)*size, (long long)a.axis));
    *size = a.end - a.begin;
exit:
    return status->code;
}

static ds_code gradient_slice(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                              ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_slice_attr a = DS_ATTR(slice, node->attr);
    ds_shape x = graph->nodes[node->in[0]].out.shape;
    return ds_graph_add(
        graph, DS_OP_slice_backward, &dy, 1,
        &(ds_slice_backward_attr){.axis = a.axis, .begin = a.begin, .size = *dimension(&x, a.axis)},
        dx, status);
}

static ds_code infer_slice_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                                    ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_slice_backward_attr a = DS_ATTR(slice_backward, attr);
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
    DS_TRY(check_axis("slice_backward", a.axis, status));
    DS_TRY(ds_check_size("slice_backward", "size", a.size, 1, status));
    int64_t *size = dimension(&out->shape, a.axis);
    if (a.begin < 0 || a.begin > a.size - *size)
        DS_TRY(ds_fail(status, DS_BAD_VALUE,
                       "slice_backward: begin=%lld with size=%lld; dy has %lld along axis %lld and "
                       "must fit: use 0 <= begin <= size - %lld",
                       (long long)a.begin, (long long)a.size, (long long)*size, (long long)a.axis,
                       (long long)*size));
    *size = a.size;
exit:
    return status->code;
}

static ds_code gradient_slice_backward(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy,
                                       int input, ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_slice_backward_attr a = DS_ATTR(slice_backward, node->attr);
    ds_shape x = graph->nodes[node->in[0]].out.shape;
    const ds_slice_attr cut = {
        .axis = a.axis, .begin = a.begin, .end = a.begin + *dimension(&x, a.axis)};
    return ds_graph_add(graph, DS_OP_slice, &dy, 1, &cut, dx, status);
}

const ds_meaning ds_op_concat = {.infer = infer_concat, .gradient = gradient_concat};
const ds_meaning ds_op_slice = {.infer = infer_slice, .gradient = gradient_slice};
const ds_meaning ds_op_slice_backward = {.infer = infer_slice_backward,
                                         .gradient = gradient_slice_backward};
