/* Reverse mode: walks the nodes backwards and lets each op add the nodes of its gradient. */
#include "core/graph.h"

static const float ONE = 1;

typedef struct reverse {
    ds_graph *graph;
    bool *needed; /* (nodes) the node depends on one of the asked tensors */
    ds_id *grad;  /* (nodes) gradient so far, DS_NONE for zero */
} reverse;

static void mark_needed(reverse *r, const ds_id *wrt, size_t count, ds_id loss)
{
    for (size_t i = 0; i < count; i++)
        r->needed[wrt[i]] = true;
    for (ds_id id = 0; id <= loss; id++) {
        const ds_node *node = &r->graph->nodes[id];
        for (int i = 0; i < node->inputs; i++)
            r->needed[id] |= r->needed[node->in[i]];
    }
}

static ds_code accumulate(reverse *r, ds_id target, ds_id part, ds_status *status)
{
    if (r->grad[target] == DS_NONE) {
        r->grad[target] = part;
        return DS_OK;
    }
    const ds_id both[] = {r->grad[target], part};
    return ds_graph_add(r->graph, DS_OP_add, both, 2, NULL, &r->grad[target], status);
}

static ds_code visit(reverse *r, ds_id id, ds_status *status)
{
    /* A copy: the array of nodes moves while nodes are added. */
    const ds_node node = r->graph->nodes[id];
    const ds_meaning *meaning = ds_ops[node.op].meaning;
    for (int i = 0; i < node.inputs; i++) {
        ds_id part = DS_NONE;
        if (!r->needed[node.in[i]])
            continue;
        if (!meaning->gradient)
            return ds_fail(status, DS_BAD_VALUE,
                           "gradient: %s #%d has no gradient; ask for that of an earlier tensor",
                           ds_ops[node.op].name, (int)id);
        ds_code code = meaning->gradient(r->graph, id, &node, r->grad[id], i, &part, status);
        if (code == DS_OK && part != DS_NONE)
            code = accumulate(r, node.in[i], part, status);
        if (code != DS_OK)
            return code;
    }
    return DS_OK;
}

static ds_code check_arguments(const ds_graph *graph, ds_id loss, const ds_id *wrt, size_t count,
                               ds_status *status)
{
    ds_shape s = graph->nodes[loss].out.shape;
    if (!ds_is_scalar(s))
        return ds_fail(status, DS_BAD_VALUE,
                       "gradient: loss has shape (%lld, %lld, %lld, %lld); reduce it to one number "
                       "with sum_to",
                       (long long)s.n, (long long)s.c, (long long)s.h, (long long)s.w);
    for (size_t i = 0; i < count; i++)
        if (wrt[i] > loss)
            return ds_fail(status, DS_BAD_VALUE,
                           "gradient: node #%d was defined after the loss #%d", (int)wrt[i],
                           (int)loss);
    return DS_OK;
}

static ds_code collect(const reverse *r, const ds_id *wrt, size_t count, ds_id *out,
                       ds_status *status)
{
    char text[128];
    for (size_t i = 0; i < count; i++) {
        out[i] = r->grad[wrt[i]];
        if (out[i] != DS_NONE)
            continue;
        ds_graph_describe(r->graph, wrt[i], text, sizeof text);
        return ds_fail(status, DS_BAD_VALUE, "gradient: the loss does not depend on %s", text);
    }
    return DS_OK;
}

ds_code ds_graph_gradient(ds_graph *graph, ds_id loss, const ds_id *wrt, size_t count, ds_id *out,
                          ds_status *status)
{
    reverse r = {.graph = graph};
    const size_t nodes = graph->count;
    ds_tensor one = {.shape = {1, 1, 1, 1}, .dtype = DS_F32, .data = (void *)&ONE};
    DS_TRY(check_arguments(graph, loss, wrt, count, status));
    DS_TRY(ds_alloc_zeroed(graph->alloc, nodes * sizeof *r.needed, &r.needed, status));
    DS_TRY(ds_alloc_raw(graph->alloc, nodes * sizeof *r.grad, &r.grad, status));
    for (size_t i = 0; i < nodes; i++)
        r.grad[i] = DS_NONE;
    mark_needed(&r, wrt, count, loss);
    DS_TRY(ds_graph_leaf(graph, DS_OP_constant, "", one, &r.grad[loss], status));
    for (ds_id id = loss; id >= 0; id--)
        if (r.needed[id] && r.grad[id] != DS_NONE)
            DS_TRY(visit(&r, id, status));
    DS_TRY(collect(&r, wrt, count, out, status));
exit:
    for (size_t i = nodes; i < graph->count; i++)
        graph->nodes[i].is_gradient = true;
    ds_release(graph->alloc, &r.needed);
    ds_release(graph->alloc, &r.grad);
    return status->code;
}
