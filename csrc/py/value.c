#include "py/value.h"

#include "py/array.h"
#include "py/device_array_type.h"
#include "py/foreign.h"

/* False with an exception set where the device failed in a copy. */
static bool copied(const ds_module_state *state, ds_backend *backend)
{
    ds_status status = ds_status_ok();
    if (!backend->device || backend->device->told(backend, &status) == DS_OK)
        return true;
    ds_raise(state, NULL, &status);
    return false;
}

static bool set_from_host(ds_backend *backend, const ds_tensor *tensor, ds_shape shape,
                          const char *what, PyObject *object)
{
    ds_array array = {0};
    if (!ds_array_read(object, what, &array))
        return false;
    const bool fits = ds_array_check(array.shape, what, shape);
    if (fits && tensor)
        backend->pack(backend, array.data, array.dtype, tensor);
    Py_DECREF(array.object);
    return fits;
}

bool ds_value_set(const ds_module_state *state, ds_backend *backend, const ds_tensor *tensor,
                  ds_shape shape, const char *what, PyObject *object)
{
    ds_foreign array;
    PyObject *owner = NULL;
    bool fits = false;
    switch (ds_foreign_read(object, what, backend, &array, &owner)) {
    case DS_FOUND_NONE:
        fits = set_from_host(backend, tensor, shape, what, object);
        break;
    case DS_FOUND_ARRAY:
        fits = ds_array_check(array.shape, what, shape);
        if (fits && tensor)
            backend->device->exchange->take(backend, &array, tensor);
        break;
    case DS_FOUND_ERROR:
        break;
    }
    Py_XDECREF(owner);
    return fits && copied(state, backend);
}

PyObject *ds_value_get(const ds_module_state *state, ds_backend *backend, const ds_tensor *tensor,
                       bool in_place)
{
    void *data = NULL;
    if (in_place && backend->device)
        return ds_device_array_new(state, backend, tensor);
    PyObject *array = ds_array_new(tensor->shape, backend->dtype, &data);
    if (array)
        backend->unpack(backend, tensor, data, backend->dtype);
    if (array && !copied(state, backend))
        Py_CLEAR(array);
    return array;
}
