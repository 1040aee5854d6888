/* load_cuda, has_cuda: the library of the CUDA backend, found by Python, opened here. */
#include "py/module.h"

#include <dlfcn.h>

PyObject *ds_load_cuda(PyObject *module, PyObject *args)
{
    ds_module_state *state = PyModule_GetState(module);
    PyObject *path = NULL, *cache = NULL;
    if (!PyArg_ParseTuple(args, "O&|O&:load_cuda", PyUnicode_FSConverter, &path,
                          PyUnicode_FSConverter, &cache))
        return NULL;
    Py_XSETREF(state->cuda_cache, cache);
    /* Never closed: plans hold functions of it. */
    void *library = dlopen(PyBytes_AS_STRING(path), RTLD_NOW | RTLD_LOCAL);
    void *create = library ? dlsym(library, "depthstyle_cuda_create") : NULL;
    Py_DECREF(path);
    if (!create)
        return PyErr_Format(state->backend_unavailable, "cuda: %s", dlerror());
    __builtin_memcpy(&state->cuda_create, &create, sizeof create);
    Py_RETURN_NONE;
}

PyObject *ds_has_cuda(PyObject *module, PyObject *Py_UNUSED(none))
{
    const ds_module_state *state = PyModule_GetState(module);
    return PyBool_FromLong(state->cuda_create != NULL);
}
