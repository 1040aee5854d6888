/* The memory planner, for its tests: memory_plan(lives, reuse) in Python. */
#include "core/memplan.h"
#include "py/module.h"

static bool read_lives(PyObject *list, ds_life *lives)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        int first = 0, last = 0;
        Py_ssize_t bytes = 0;
        PyObject *item = PyList_GET_ITEM(list, i);
        if (!PyTuple_Check(item)) {
            PyErr_Format(PyExc_TypeError, "memory_plan: lives[%zd] is no tuple", i);
            return false;
        }
        if (!PyArg_ParseTuple(item, "iin:memory_plan", &first, &last, &bytes))
            return false;
        if (bytes < 0 || last < first) {
            PyErr_Format(PyExc_ValueError,
                         "memory_plan: lives[%zd]=%R; give (first, last, bytes), first <= last", i,
                         item);
            return false;
        }
        lives[i] = (ds_life){.first = first, .last = last, .bytes = (size_t)bytes};
    }
    return true;
}

static PyObject *offsets_and_total(const size_t *offsets, Py_ssize_t count, size_t total)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *offset = PyLong_FromSize_t(offsets[i]);
        if (!offset) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, offset);
    }
    return list ? Py_BuildValue("Nn", list, (Py_ssize_t)total) : NULL;
}

PyObject *ds_memory_plan(PyObject *module, PyObject *args)
{
    ds_alloc alloc = ds_alloc_make(-1);
    ds_status status = ds_status_ok();
    ds_life *lives = NULL;
    size_t *offsets = NULL, total = 0;
    PyObject *list = NULL, *result = NULL;
    int reuse = true;
    if (!PyArg_ParseTuple(args, "O!p:memory_plan", &PyList_Type, &list, &reuse))
        return NULL;
    const size_t count = (size_t)PyList_GET_SIZE(list);
    DS_TRY(ds_alloc_zeroed(&alloc, count * sizeof *lives, &lives, &status));
    DS_TRY(ds_alloc_zeroed(&alloc, count * sizeof *offsets, &offsets, &status));
    if (!read_lives(list, lives))
        goto exit;
    DS_TRY(ds_memplan(&alloc, lives, count, reuse, offsets, &total, &status));
    result = offsets_and_total(offsets, (Py_ssize_t)count, total);
exit:
    ds_release(&alloc, &lives);
    ds_release(&alloc, &offsets);
    return status.code == DS_OK ? result : ds_raise(PyModule_GetState(module), NULL, &status);
}
