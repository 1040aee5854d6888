/* depthstyle._core.Plan: a compiled graph. */
#ifndef DS_PY_PLAN_TYPE_H
#define DS_PY_PLAN_TYPE_H

#include "py/graph_type.h"

extern PyType_Spec ds_plan_spec;

/* Graph.compile. */
PyObject *ds_graph_compile(PyObject *graph, PyObject *args, PyObject *keywords);
extern const char ds_graph_compile_doc[];

#endif
