#include "core/graph.h"

#include <stdio.h>
#include <string.h>

/* Larger tensors than this are a mistake, and sums of a few of them still fit in 64 bits. */
static const int64_t MAX_ELEMENTS = INT64_C(1) << 40;

void ds_graph_init(ds_graph *graph, ds_alloc *alloc)
{
    *graph = (ds_graph){.alloc = alloc};
}

void ds_graph_clear(ds_graph *graph)
{
    ds_release(graph->alloc, &graph->nodes);
    graph->count = graph->capacity = 0;
}

void ds_op_defaults(ds_op op, int64_t *attr)
{
    memset(attr, 0, DS_MAX_ATTRS * sizeof *attr);
    for (int i = 0; ds_ops[op].attrs[i].name; i++) {
        const ds_attr_def *def = &ds_ops[op].attrs[i];
        if (def->type == DS_ATTR_REAL)
            memcpy(&attr[i], &def->value, sizeof def->value);
        else
            attr[i] = (int64_t)def->value;
    }
}

void ds_graph_describe(const ds_graph *graph, ds_id id, char *text, size_t size)
{
    const ds_node *node = &graph->nodes[id];
    snprintf(text, size, node->name[0] ? "%s #%d '%s'" : "%s #%d", ds_ops[node->op].name, (int)id,
             node->name);
}

/* False where a dimension is below 1 or the product passes MAX_ELEMENTS. */
static bool shape_is_sane(ds_shape s)
{
    const int64_t dims[] = {s.n, s.c, s.h, s.w};
    int64_t count = 1;
    for (int i = 0; i < 4; i++) {
        if (dims[i] < 1 || dims[i] > MAX_ELEMENTS / count)
            return false;
        count *= dims[i];
    }
    return true;
}

static ds_code append(ds_graph *graph, const ds_node *node, ds_id *id, ds_status *status)
{
    ds_shape s = node->out.shape;
    if (!shape_is_sane(s))
        return ds_fail(status, DS_BAD_VALUE,
                       "%s: shape (%lld, %lld, %lld, %lld): every dimension must be at least 1 and "
                       "the product at most 2^40",
                       ds_ops[node->op].name, (long long)s.n, (long long)s.c, (long long)s.h,
                       (long long)s.w);
    if (graph->count >= INT32_MAX)
        return ds_fail(status, DS_BAD_VALUE, "a graph holds at most 2^31 - 1 nodes");
    ds_code code = ds_alloc_grow(graph->alloc, &graph->nodes, &graph->capacity, graph->count + 1,
                                 sizeof *graph->nodes, status);
    if (code != DS_OK)
        return code;
    graph->nodes[graph->count] = *node;
    *id = (ds_id)graph->count++;
    return DS_OK;
}

ds_code ds_graph_leaf(ds_graph *graph, ds_op op, const char *name, ds_tensor tensor, ds_id *id,
                      ds_status *status)
{
    ds_node node = {.op = op, .out = tensor};
    snprintf(node.name, sizeof node.name, "%s", name ? name : "");
    return append(graph, &node, id, status);
}

ds_code ds_graph_add(ds_graph *graph, ds_op op, const ds_id *in, int inputs, const void *attr,
                     ds_id *id, ds_status *status)
{
    const ds_op_def *def = &ds_ops[op];
    const ds_tensor *tensors[DS_MAX_INPUTS] = {NULL};
    ds_node node = {.op = op, .inputs = inputs};
    if (inputs < def->fewest || inputs > def->most)
        return ds_fail(status, DS_BAD_VALUE, "%s: %d inputs given, %d to %d wanted: %s", def->name,
                       inputs, def->fewest, def->most, def->text);
    for (int i = 0; i < inputs; i++) {
        if (in[i] < 0 || (size_t)in[i] >= graph->count)
            return ds_fail(status, DS_BAD_VALUE, "%s: input %d is no node of this graph", def->name,
                           i);
        node.in[i] = in[i];
        tensors[i] = &graph->nodes[in[i]].out;
    }
    ds_op_defaults(op, node.attr);
    for (int i = 0; attr && def->attrs[i].name; i++)
        memcpy(&node.attr[i], (const char *)attr + (size_t)i * sizeof(int64_t), sizeof(int64_t));
    ds_code code = def->meaning->infer(tensors, inputs, node.attr, &node.out, status);
    if (code != DS_OK)
        return code;
    return append(graph, &node, id, status);
}
