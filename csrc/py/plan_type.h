/* depthstyle._core.Plan: a compiled graph. */
#ifndef DS_PY_PLAN_TYPE_H
#define DS_PY_PLAN_TYPE_H

#include "py/graph_type.h"

extern PyType_Spec ds_plan_spec;

/* Graph.compile. */
PyObject *ds_graph_compile(PyObject *graph, PyObject *args, PyObject *keywords);
extern const char ds_graph_compile_doc[];

/* For another object that computes on the tensors of a plan. Taking a plan keeps others away from
   it until it is given back; both that and finding a tensor return false with an exception set. */
bool ds_py_plan_take(PyObject *plan);
void ds_py_plan_give(PyObject *plan);
ds_backend *ds_py_plan_backend(PyObject *plan);
bool ds_py_plan_tensor(PyObject *plan, PyObject *name, const ds_tensor **tensor);

#endif
