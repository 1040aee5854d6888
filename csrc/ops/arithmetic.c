/* Element-wise arithmetic and the two ops that change how often a value stands.

     add        a + b        gradients: dy, sum_to_b(dy)
     multiply   a * b        gradients: dy b, sum_to_b(dy a)
     affine     scale x + shift
     sum_to     sums over the dimensions asked to become 1
     broadcast  repeats along dimensions of size 1; sum_to is its adjoint, and the other way round

   b is repeated along each of its dimensions of size 1. */
#include "core/graph.h"
#include "ops/check.h"

/* Each dimension of `small` is 1 or that of `large`. */
static bool fits(ds_shape small, ds_shape large)
{
    return (small.n == 1 || small.n == large.n) && (small.c == 1 || small.c == large.c) &&
           (small.h == 1 || small.h == large.h) && (small.w == 1 || small.w == large.w);
}

static ds_code infer_pair(const char *op, const ds_tensor *const in[], ds_tensor *out,
                          ds_status *status)
{
    const ds_shape a = in[0]->shape, b = in[1]->shape;
    const bool one_per_plane = b.h == 1 && b.w == 1;
    if (!fits(b, a))
        return ds_fail(status, DS_BAD_VALUE,
                       "%s: b has shape " DS_SHAPE
                       "; each dimension must be 1 or that of a, " DS_SHAPE,
                       op, DS_DIMS(b), DS_DIMS(a));
    /* One number lies the same in either kind. */
    if (ds_same_shape(a, b) && !ds_is_scalar(a))
        DS_TRY(ds_check_same(op, "b", in[1], "a", in[0], status));
    else if (!one_per_plane && b.c != 1)
        DS_TRY(ds_check_kind(op, "b (broadcast over pixels)", in[1], DS_PLAIN, status));
    *out = (ds_tensor){.shape = a, .kind = in[0]->kind};
exit:
    return status->code;
}

static ds_code infer_add(const ds_tensor *const in[], int inputs, const int64_t *attr,
                         ds_tensor *out, ds_status *status)
{
    (void)inputs;
    (void)attr;
    return infer_pair("add", in, out, status);
}

static ds_code infer_multiply(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    (void)inputs;
    (void)attr;
    return infer_pair("multiply", in, out, status);
}

/* Adds a node for x summed to the shape of `like`, in the kind of `like`. */
static ds_code sum_like(ds_graph *graph, ds_id x, ds_id like, ds_id *out, ds_status *status)
{
    const ds_tensor from = graph->nodes[x].out, to = graph->nodes[like].out;
    const ds_shape s = to.shape;
    *out = x;
    if (!ds_same_shape(from.shape, s))
        DS_TRY(ds_graph_add(graph, DS_OP_sum_to, &x, 1,
                            &(ds_sum_to_attr){.n = s.n, .c = s.c, .h = s.h, .w = s.w}, out,
                            status));
    if (graph->nodes[*out].out.kind != to.kind)
        DS_TRY(ds_graph_add(
            graph, DS_OP_broadcast, out, 1,
            &(ds_broadcast_attr){.n = s.n, .c = s.c, .h = s.h, .w = s.w, .kind = to.kind}, out,
            status));
exit:
    return status->code;
}

static ds_code gradient_add(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                            ds_id *dx, ds_status *status)
{
    (void)id;
    return sum_like(graph, dy, node->in[input], dx, status);
}

/* As the gradient of a loss to itself is. */
static bool is_one(const ds_node *node)
{
    const ds_tensor *t = &node->out;
    return node->op == DS_OP_constant && ds_is_scalar(t->shape) && t->dtype == DS_F32 &&
           *(const float *)t->data == 1;
}

static ds_code gradient_multiply(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy,
                                 int input, ds_id *dx, ds_status *status)
{
    (void)id;
    const ds_id other = node->in[1 - input];
    ds_id product = other;
    if (!is_one(&graph->nodes[dy]))
        DS_TRY(
            ds_graph_add(graph, DS_OP_multiply, (ds_id[]){dy, other}, 2, NULL, &product, status));
    DS_TRY(sum_like(graph, product, node->in[input], dx, status));
exit:
    return status->code;
}

static ds_code infer_affine(const ds_tensor *const in[], int inputs, const int64_t *attr,
                            ds_tensor *out, ds_status *status)
{
    (void)inputs;
    (void)attr;
    (void)status;
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
    return DS_OK;
}

static ds_code gradient_affine(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                               ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    return ds_graph_add(graph, DS_OP_affine, &dy, 1,
                        &(ds_affine_attr){.scale = DS_ATTR(affine, node->attr).scale}, dx, status);
}

static ds_code infer_sum_to(const ds_tensor *const in[], int inputs, const int64_t *attr,
                            ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_sum_to_attr a = DS_ATTR(sum_to, attr);
    const ds_shape wanted = {a.n, a.c, a.h, a.w};
    if (!fits(wanted, in[0]->shape))
        return ds_fail(status, DS_BAD_VALUE,
                       "sum_to: n, c, h, w = " DS_SHAPE "; each must be 1 or that of x, " DS_SHAPE,
                       DS_DIMS(wanted), DS_DIMS(in[0]->shape));
    *out = (ds_tensor){.shape = wanted, .kind = DS_PLAIN};
    return DS_OK;
}

static ds_code gradient_sum_to(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                               ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    const ds_tensor x = graph->nodes[node->in[0]].out;
    const ds_broadcast_attr to = {
        .n = x.shape.n, .c = x.shape.c, .h = x.shape.h, .w = x.shape.w, .kind = x.kind};
    return ds_graph_add(graph, DS_OP_broadcast, &dy, 1, &to, dx, status);
}

static ds_code infer_broadcast(const ds_tensor *const in[], int inputs, const int64_t *attr,
                               ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_broadcast_attr a = DS_ATTR(broadcast, attr);
    const ds_shape wanted = {a.n, a.c, a.h, a.w};
    if (!fits(in[0]->shape, wanted))
        return ds_fail(status, DS_BAD_VALUE,
                       "broadcast: n, c, h, w = " DS_SHAPE "; x has shape " DS_SHAPE
                       " and can be repeated only along dimensions of size 1",
                       DS_DIMS(wanted), DS_DIMS(in[0]->shape));
    *out = (ds_tensor){.shape = wanted, .kind = (ds_kind)a.kind};
    return DS_OK;
}

static ds_code gradient_broadcast(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy,
                                  int input, ds_id *dx, ds_status *status)
{
    (void)id;
    (void)input;
    return sum_like(graph, dy, node->in[0], dx, status);
}

const ds_meaning ds_op_add = {.infer = infer_add, .gradient = gradient_add};
const ds_meaning ds_op_multiply = {.infer = infer_multiply, .gradient = gradient_multiply};
const ds_meaning ds_op_affine = {.infer = infer_affine, .gradient = gradient_affine};
const ds_meaning ds_op_sum_to = {.infer = infer_sum_to, .gradient = gradient_sum_to};
const ds_meaning ds_op_broadcast = {.infer = infer_broadcast, .gradient = gradient_broadcast};
