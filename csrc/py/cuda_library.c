/* load_cuda, has_cuda, cuda_memory: the library of the CUDA backend, found by Python, opened here.
 */
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

PyObject *ds_cuda_memory(PyObject *module, PyObject *argument)
{
    const ds_module_state *state = PyModule_GetState(module);
    const ds_cuda_options options = {.ordinal = (int)PyLong_AsLong(argument)};
    ds_alloc alloc = ds_alloc_make(-1);
    ds_status status = ds_status_ok();
    ds_backend *backend = NULL;
    size_t left = 0, total = 0;
    if (PyErr_Occurred())
        return NULL;
    if (!state->cuda_create)
        return PyErr_Format(state->backend_unavailable, "%s", DS_CUDA_NOT_LOADED);
    if (state->cuda_create(DS_CUDA_STAMP, &options, &alloc, &backend, &status) == DS_OK)
        backend->device->memory(backend, &left, &total, &status);
    if (backend)
        backend->destroy(&backend);
    if (status.code != DS_OK)
        return ds_raise(state, NULL, &status);
    return Py_BuildValue("nn", (Py_ssize_t)left, (Py_ssize_t)total);
}
