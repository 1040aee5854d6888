/* depthstyle._core.Graph and Node. */
#ifndef DS_PY_GRAPH_TYPE_H
#define DS_PY_GRAPH_TYPE_H

#include "py/module.h"

typedef struct ds_py_graph {
    PyObject_HEAD ds_alloc alloc;
    ds_graph graph;
    PyObject *arrays; /* list: keeps the data of constants and variables alive */
    int compiling;    /* compiles under way without the GIL: no node may be added */
} ds_py_graph;

extern PyType_Spec ds_graph_spec;

/* The leaf (input or variable) of a name among the first `count` nodes; DS_NONE when there is
   none. */
ds_id ds_find_leaf(const ds_graph *graph, size_t count, const char *name);

/* The attributes of an op from the keywords of a fast call; `attr` takes DS_MAX_ATTRS values.
   False with an exception set. */
bool ds_read_attributes(ds_op op, PyObject *const *values, PyObject *names, int64_t *attr);

/* What _core.ops() returns. */
PyObject *ds_describe_ops(void);

#endif
