#include "py/device_array_type.h"

#include "py/array.h"
#include "py/dlpack.h"

#include <string.h>

typedef struct ds_py_device_array {
    PyObject_HEAD const ds_exchange *exchange; /* of a library that is never closed */
    ds_device_array array;
    ds_dl_managed managed; /* what all capsules point to; each holds a reference to this object */
    int64_t shape[4], steps[4];
} ds_py_device_array;

enum { DEFAULT_STREAM = 1, NO_STREAM = -1 };

static void dealloc(PyObject *object)
{
    ds_py_device_array *self = (ds_py_device_array *)object;
    PyTypeObject *type = Py_TYPE(object);
    self->exchange->discard(&self->array);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *shape_tuple(ds_shape s)
{
    return Py_BuildValue("(LLLL)", (long long)s.n, (long long)s.c, (long long)s.h, (long long)s.w);
}

/* Lets a consumer's stream wait until the array is filled. False with an exception set. */
static bool order(ds_py_device_array *self, uintptr_t stream)
{
    ds_status status = ds_status_ok();
    if (self->exchange->order(&self->array, stream, &status) == DS_OK)
        return true;
    ds_raise(ds_state((PyObject *)self), NULL, &status);
    return false;
}

/* Called from any thread, when a consumer is through. */
static void let_go(ds_dl_managed *managed)
{
    const PyGILState_STATE gil = PyGILState_Ensure();
    Py_DECREF((PyObject *)managed->context);
    PyGILState_Release(gil);
}

static void delete_capsule(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, DS_DL_NAME))
        let_go(PyCapsule_GetPointer(capsule, DS_DL_NAME));
}

static void describe(ds_py_device_array *self)
{
    const ds_shape s = self->array.shape;
    const int64_t shape[] = {s.n, s.c, s.h, s.w};
    const int64_t steps[] = {s.c * s.h * s.w, s.h * s.w, s.w, 1};
    memcpy(self->shape, shape, sizeof shape);
    memcpy(self->steps, steps, sizeof steps);
    self->managed = (ds_dl_managed){.context = self, .deleter = let_go};
    self->managed.tensor = (ds_dl_tensor){.data = self->array.data,
                                          .device = {DS_DL_CUDA, self->array.ordinal},
                                          .rank = 4,
                                          .type = {DS_DL_FLOAT, 32, 1},
                                          .shape = self->shape,
                                          .steps = self->steps};
}

PyObject *ds_device_array_new(const ds_module_state *state, ds_backend *backend,
                              const ds_tensor *tensor)
{
    ds_status status = ds_status_ok();
    PyTypeObject *type = state->device_array_type;
    ds_py_device_array *self = (ds_py_device_array *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->exchange = backend->device->exchange;
    self->exchange->give(backend, tensor, &self->array, &status);
    describe(self);
    if (status.code == DS_OK && backend->device->told(backend, &status) == DS_OK)
        return (PyObject *)self;
    Py_DECREF(self);
    return ds_raise(state, NULL, &status);
}

static PyObject *new_capsule(ds_py_device_array *self)
{
    PyObject *capsule = PyCapsule_New(&self->managed, DS_DL_NAME, delete_capsule);
    if (capsule)
        Py_INCREF(self);
    return capsule;
}

static PyObject *dlpack_device(PyObject *self, PyObject *Py_UNUSED(none))
{
    return Py_BuildValue("(ii)", DS_DL_CUDA, ((ds_py_device_array *)self)->array.ordinal);
}

/* False with an exception set where the consumer wants another device, or a copy. */
static bool is_offered(PyObject *self, PyObject *device, PyObject *copy)
{
    PyObject *here = dlpack_device(self, NULL);
    const int same = !here               ? -1
                     : device == Py_None ? 1
                                         : PyObject_RichCompareBool(device, here, Py_EQ);
    Py_XDECREF(here);
    if (same == 0 || (same == 1 && copy == Py_True))
        PyErr_SetString(PyExc_BufferError, "__dlpack__: gives the array where it lies, without a "
                                           "copy; numpy.asarray copies it to the host");
    return same == 1 && copy != Py_True;
}

static PyObject *dlpack(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *const names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream = Py_None, *version = Py_None, *device = Py_None, *copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|$OOOO:__dlpack__", (char **)names, &stream,
                                     &version, &device, &copy) ||
        !is_offered(object, device, copy))
        return NULL;
    const long long number = stream == Py_None ? DEFAULT_STREAM : PyLong_AsLongLong(stream);
    if (PyErr_Occurred())
        return NULL;
    if (number == 0 || number < NO_STREAM)
        return PyErr_Format(PyExc_ValueError, "__dlpack__: stream=%R must be a stream, 1, 2 or -1",
                            stream);
    ds_py_device_array *self = (ds_py_device_array *)object;
    return number == NO_STREAM || order(self, (uintptr_t)number) ? new_capsule(self) : NULL;
}

/* A new ndarray in the memory of this process. */
static PyObject *to_numpy(PyObject *object, PyObject *Py_UNUSED(args),
                          PyObject *Py_UNUSED(keywords))
{
    ds_py_device_array *self = (ds_py_device_array *)object;
    ds_status status = ds_status_ok();
    void *data = NULL;
    PyObject *array = ds_array_new(self->array.shape, DS_F32, &data);
    if (!array)
        return NULL;
    Py_BEGIN_ALLOW_THREADS self->exchange->fetch(&self->array, data, &status);
    Py_END_ALLOW_THREADS if (status.code == DS_OK) return array;
    Py_DECREF(array);
    return ds_raise(ds_state(object), NULL, &status);
}

/* The default stream waits for the array, and the consumer's for that. */
static PyObject *cuda_array_interface(PyObject *object, void *Py_UNUSED(closure))
{
    ds_py_device_array *self = (ds_py_device_array *)object;
    if (!order(self, DEFAULT_STREAM))
        return NULL;
    return Py_BuildValue("{s:N,s:s,s:(NO),s:O,s:i,s:i}", "shape", shape_tuple(self->array.shape),
                         "typestr", "<f4", "data", PyLong_FromVoidPtr(self->array.data), Py_False,
                         "strides", Py_None, "stream", DEFAULT_STREAM, "version", 3);
}

static PyObject *shape(PyObject *self, void *Py_UNUSED(closure))
{
    return shape_tuple(((ds_py_device_array *)self)->array.shape);
}

static PyObject *device(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromFormat("cuda:%d", ((ds_py_device_array *)self)->array.ordinal);
}

PyDoc_STRVAR(dlpack_doc,
             "__dlpack__(*, stream=None, max_version=None, dl_device=None, copy=None)\n\n"
             "A capsule for from_dlpack, after which `stream` waits for the array.");
PyDoc_STRVAR(dlpack_device_doc, "__dlpack_device__()\n\nThe kind of device and its number.");
PyDoc_STRVAR(array_doc, "__array__(dtype=None, copy=None)\n\nA copy as an ndarray of float32.");

static PyMethodDef methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))dlpack, METH_VARARGS | METH_KEYWORDS, dlpack_doc},
    {"__dlpack_device__", dlpack_device, METH_NOARGS, dlpack_device_doc},
    {"__array__", (PyCFunction)(void (*)(void))to_numpy, METH_VARARGS | METH_KEYWORDS, array_doc},
    {0},
};

static PyGetSetDef getset[] = {
    {"__cuda_array_interface__", cuda_array_interface, NULL, "For libraries without DLPack.", NULL},
    {"shape", shape, NULL, "(N, C, H, W).", NULL},
    {"device", device, NULL, "Where it lies, as in 'cuda:0'.", NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A float32 array (N, C, H, W) in the memory of a GPU, for from_dlpack of other "
                "libraries or numpy.asarray. Plan.run makes it with output='device'."},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_dealloc, dealloc},
    {0},
};

PyType_Spec ds_device_array_spec = {
    .name = "depthstyle._core.DeviceArray",
    .basicsize = sizeof(ds_py_device_array),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
