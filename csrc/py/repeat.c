#include "py/repeat.h"

#include "py/array.h"

bool ds_py_repeat_init(ds_py_repeat *repeat, ds_alloc *alloc, ds_py_graph *graph, Py_ssize_t count,
                       Py_ssize_t feeds, PyObject *watch)
{
    ds_status status = ds_status_ok();
    ds_repeat *work = &repeat->work;
    size_t bytes = 0;
    repeat->alloc = alloc;
    repeat->columns = feeds;
    work->count = count;
    if (count < 1) {
        PyErr_Format(PyExc_ValueError, "repeat: count=%zd must be at least 1", count);
        return false;
    }
    if (watch &&
        !ds_nodes_read(watch, graph, "repeat: watch", alloc, &repeat->watched, &work->watches))
        return false;
    work->watched = repeat->watched;
    if (!ds_multiply((size_t)count, (size_t)feeds * sizeof(float), &bytes)) {
        PyErr_Format(PyExc_MemoryError, "repeat: count=%zd is too large; use a smaller one", count);
        return false;
    }
    if (ds_alloc_raw(alloc, bytes, &repeat->values, &status) != DS_OK ||
        ds_alloc_raw(alloc, (size_t)feeds * sizeof(ds_id), &repeat->fed, &status) != DS_OK) {
        ds_raise(ds_state((PyObject *)graph), NULL, &status);
        return false;
    }
    work->fed = repeat->fed;
    work->values = repeat->values;
    repeat->seen = ds_array_table(count, (Py_ssize_t)work->watches, &work->seen);
    return repeat->seen != NULL;
}

void ds_py_repeat_clear(ds_py_repeat *repeat)
{
    ds_release(repeat->alloc, &repeat->watched);
    ds_release(repeat->alloc, &repeat->fed);
    ds_release(repeat->alloc, &repeat->values);
    Py_CLEAR(repeat->seen);
}

bool ds_py_repeat_feed(ds_py_repeat *repeat, ds_id id, const char *name, PyObject *numbers)
{
    char what[96];
    ds_repeat *work = &repeat->work;
    PyOS_snprintf(what, sizeof what, "repeat: feeds['%s']", name);
    repeat->fed[work->feeds] = id;
    return ds_array_column(numbers, what, work->count, repeat->columns,
                           &repeat->values[work->feeds++]);
}

void ds_py_repeat_explain(const ds_py_repeat *repeat, const ds_module_state *state)
{
    PyObject *type, *error, *traceback;
    if (!PyErr_ExceptionMatches(state->numerical_error))
        return;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *iteration = PyLong_FromLongLong(repeat->work.done);
    PyObject *seen = PySequence_GetSlice(repeat->seen, 0, (Py_ssize_t)repeat->work.done + 1);
    const bool told = iteration && seen &&
                      PyObject_SetAttrString(error, "iteration", iteration) == 0 &&
                      PyObject_SetAttrString(error, "seen", seen) == 0;
    Py_XDECREF(iteration);
    Py_XDECREF(seen);
    if (!told)
        PyErr_Clear();
    PyErr_Restore(type, error, traceback);
}
