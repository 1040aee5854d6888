/* depthstyle._core.Node: a number in a graph, and the graph. */
#ifndef DS_PY_NODE_TYPE_H
#define DS_PY_NODE_TYPE_H

#include "py/graph_type.h"

typedef struct ds_py_node {
    PyObject_HEAD ds_py_graph *graph;
    ds_id id;
} ds_py_node;

extern PyType_Spec ds_node_spec;

PyObject *ds_node_new(ds_py_graph *graph, ds_id id);

/* The id of `object`, which must be a node of `graph`. `what` names the argument in messages.
   False with an exception set. */
bool ds_node_read(PyObject *object, ds_py_graph *graph, const char *what, ds_id *id);

/* The ids of a sequence of nodes, in memory of `alloc`, which the caller releases. */
bool ds_nodes_read(PyObject *sequence, ds_py_graph *graph, const char *what, ds_alloc *alloc,
                   ds_id **ids, size_t *count);

/* A tuple or list of nodes. */
PyObject *ds_nodes_new(ds_py_graph *graph, const ds_id *ids, size_t count);

#endif
