/* From the engine's status to Python's exceptions. */
#include "py/module.h"

static PyObject *raise_numerical(const ds_module_state *state, const ds_graph *graph,
                                 const ds_status *status)
{
    char layer[128] = "";
    if (graph && status->node >= 0)
        ds_graph_describe(graph, status->node, layer, sizeof layer);
    PyObject *arguments = Py_BuildValue("(s)", status->text);
    PyObject *keywords = layer[0] ? Py_BuildValue("{s:s}", "layer", layer) : PyDict_New();
    PyObject *error =
        arguments && keywords ? PyObject_Call(state->numerical_error, arguments, keywords) : NULL;
    if (error)
        PyErr_SetObject(state->numerical_error, error);
    Py_XDECREF(error);
    Py_XDECREF(keywords);
    Py_XDECREF(arguments);
    return NULL;
}

static PyObject *exception_for(const ds_module_state *state, ds_code code)
{
    switch (code) {
    case DS_BAD_VALUE:
        return PyExc_ValueError;
    case DS_NO_MEMORY:
        return PyExc_MemoryError;
    case DS_DEVICE_MEMORY:
        return state->device_out_of_memory;
    case DS_DEVICE_LOST:
        return state->device_lost;
    case DS_DEVICE:
    case DS_UNSUPPORTED:
        return state->backend_unavailable;
    default:
        return PyExc_RuntimeError;
    }
}

PyObject *ds_raise(const ds_module_state *state, const ds_graph *graph, const ds_status *status)
{
    /* A cancelled run has the exception of its poll: KeyboardInterrupt, or the callback's own. */
    if (PyErr_Occurred())
        return NULL;
    if (status->code == DS_NUMERICAL)
        return raise_numerical(state, graph, status);
    PyErr_SetString(exception_for(state, status->code), status->text);
    return NULL;
}

/* Called from deallocators, which must leave a pending exception as it is. */
void ds_warn_leak(PyObject *object, const ds_alloc *alloc)
{
    PyObject *type, *value, *traceback;
    if (!alloc->live_bytes)
        return;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyErr_WarnFormat(PyExc_ResourceWarning, 1, "%s: %lld bytes were not released",
                         Py_TYPE(object)->tp_name, (long long)alloc->live_bytes) < 0)
        PyErr_WriteUnraisable((PyObject *)Py_TYPE(object));
    PyErr_Restore(type, value, traceback);
}
