/* What the files of the binding share: the module's state and how errors become exceptions. */
#ifndef DS_PY_MODULE_H
#define DS_PY_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/cpu.h"
#include "base/pool.h"
#include "core/backend.h"
#include "core/graph.h"

typedef struct ds_module_state {
    PyTypeObject *graph_type, *node_type, *plan_type, *lbfgs_type, *device_array_type;
    /* Of depthstyle.errors: */
    PyObject *numerical_error, *backend_unavailable, *device_out_of_memory, *device_lost, *busy;
    int threads;                 /* of plans that ask for no number; 0: all processors */
    ds_cuda_create *cuda_create; /* NULL until load_cuda */
    PyObject *cuda_cache;        /* bytes: a path; may be NULL */
} ds_module_state;

/* The state, from an object of one of our types. None of them can be subclassed. */
static inline ds_module_state *ds_state(PyObject *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

/* memory_plan.c */
PyObject *ds_memory_plan(PyObject *module, PyObject *args);

/* cuda_library.c */
PyObject *ds_load_cuda(PyObject *module, PyObject *args);
PyObject *ds_has_cuda(PyObject *module, PyObject *none);
PyObject *ds_cuda_memory(PyObject *module, PyObject *ordinal);
#define DS_CUDA_NOT_LOADED "cuda: the library of this backend is not loaded"

/* Raises the exception for a failed status and returns NULL. `graph` names the node; may be NULL.
 */
PyObject *ds_raise(const ds_module_state *state, const ds_graph *graph, const ds_status *status);

/* Warns (ResourceWarning) when memory of a dying object was not released: a bug of the engine. */
void ds_warn_leak(PyObject *object, const ds_alloc *alloc);

/* The threads of a plan from its argument: a number, or None for the module's default. False with
   an exception set. */
bool ds_read_threads(const ds_module_state *state, PyObject *asked, int *threads);

/* The best level this process may use, after DEPTHSTYLE_CPU. False with an exception set. */
bool ds_best_level(ds_cpu_level *level);

/* Names of the levels up to the best one; NULL with an exception set. */
PyObject *ds_level_names(void);

#endif
