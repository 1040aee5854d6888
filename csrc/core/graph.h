/* The graph: nodes in order of definition, each checked and shaped as it is added. */
#ifndef DS_CORE_GRAPH_H
#define DS_CORE_GRAPH_H

#include "base/alloc.h"
#include "core/op.h"

struct ds_graph {
    ds_alloc *alloc;
    ds_node *nodes; /* (count) */
    size_t count;
    size_t capacity;
};

void ds_graph_init(ds_graph *graph, ds_alloc *alloc);
void ds_graph_clear(ds_graph *graph);

/* A leaf. `data` is planar NCHW of `dtype`, kept by the caller as long as the graph lives; it is
   NULL for an input. */
ds_code ds_graph_leaf(ds_graph *graph, ds_op op, const char *name, ds_tensor tensor, ds_id *id,
                      ds_status *status);

/* Any other node. `attr` is the address of the op's attribute struct, NULL for the defaults. */
ds_code ds_graph_add(ds_graph *graph, ds_op op, const ds_id *in, int inputs, const void *attr,
                     ds_id *id, ds_status *status);

/* Fills `attr` (DS_MAX_ATTRS values) with the op's defaults. */
void ds_op_defaults(ds_op op, int64_t *attr);

/* Adds nodes for the gradient of the scalar `loss` to each of `wrt`; *out entries are never
   DS_NONE: a tensor that the loss does not depend on is an error that names it. */
ds_code ds_graph_gradient(ds_graph *graph, ds_id loss, const ds_id *wrt, size_t count, ds_id *out,
                          ds_status *status);

/* "conv2d #12 'relu1_1'" into text, for messages. */
void ds_graph_describe(const ds_graph *graph, ds_id id, char *text, size_t size);

#endif
