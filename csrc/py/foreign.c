#include "py/foreign.h"

#include "py/array.h"
#include "py/dlpack.h"

#include <string.h>

enum { MOST_DIMENSIONS = 4 };

/* Steps of an array, NULL for one without gaps; leading dimensions have none. */
static void set_steps(ds_foreign *array, int rank, const int64_t *steps)
{
    const ds_shape s = array->shape;
    int64_t all[MOST_DIMENSIONS] = {s.c * s.h * s.w, s.h * s.w, s.w, 1};
    for (int i = 0; steps && i < rank; i++)
        all[MOST_DIMENSIONS - rank + i] = steps[i];
    array->n = all[0];
    array->c = all[1];
    array->h = all[2];
    array->w = all[3];
}

static ds_found refuse_type(const char *what, const char *type)
{
    PyErr_Format(PyExc_ValueError,
                 "%s: type %s in a GPU's memory; convert it to float32, float64 or bfloat16", what,
                 type);
    return DS_FOUND_ERROR;
}

static bool is_on_the_device(const ds_backend *backend, const char *what, int ordinal)
{
    if (!backend->device)
        PyErr_Format(PyExc_ValueError,
                     "%s: lies in the memory of a GPU, this plan computes on the CPU; copy it to "
                     "the host, or compile with backend='cuda'",
                     what);
    else if (ordinal != backend->device->exchange->ordinal(backend))
        PyErr_Format(PyExc_ValueError, "%s: lies on cuda:%d, this plan on cuda:%d; copy it there",
                     what, ordinal, backend->device->exchange->ordinal(backend));
    else
        return true;
    return false;
}

/* A capsule that was taken over gives the array back when it goes. */
static void give_back(PyObject *capsule)
{
    ds_dl_managed *managed = PyCapsule_GetPointer(capsule, DS_DL_USED_NAME);
    if (managed && managed->deleter)
        managed->deleter(managed);
}

static ds_found read_dlpack(const ds_dl_tensor *tensor, const char *what, ds_foreign *array)
{
    const int code = tensor->type.code, bits = tensor->type.bits;
    char type[32];
    PyOS_snprintf(type, sizeof type, "(%d, %d bits)", code, bits);
    if (code == DS_DL_FLOAT && bits == 32)
        array->dtype = DS_F32;
    else if (code == DS_DL_FLOAT && bits == 64)
        array->dtype = DS_F64;
    else if (code == DS_DL_BFLOAT && bits == 16)
        array->dtype = DS_BF16;
    else
        return refuse_type(what, type);
    if (!ds_array_shape(tensor->rank, tensor->shape, what, &array->shape))
        return DS_FOUND_ERROR;
    array->data = (const char *)tensor->data + tensor->offset;
    set_steps(array, tensor->rank, tensor->steps);
    return DS_FOUND_ARRAY;
}

/* The producer lets our stream wait for its own; it is not known here, so `stream` stays 0. */
static ds_found take_capsule(PyObject *object, const char *what, const ds_backend *backend,
                             ds_foreign *array, PyObject **owner)
{
    PyObject *stream = PyLong_FromUnsignedLongLong(backend->device->exchange->stream(backend));
    PyObject *method = PyObject_GetAttrString(object, "__dlpack__");
    PyObject *keywords = stream ? Py_BuildValue("{s:O}", "stream", stream) : NULL;
    PyObject *none = PyTuple_New(0);
    PyObject *capsule = method && keywords && none ? PyObject_Call(method, none, keywords) : NULL;
    Py_XDECREF(none);
    Py_XDECREF(keywords);
    Py_XDECREF(method);
    Py_XDECREF(stream);
    ds_dl_managed *managed = capsule ? PyCapsule_GetPointer(capsule, DS_DL_NAME) : NULL;
    ds_found found = DS_FOUND_ERROR;
    if (managed && PyCapsule_SetName(capsule, DS_DL_USED_NAME) == 0 &&
        PyCapsule_SetDestructor(capsule, give_back) == 0)
        found = read_dlpack(&managed->tensor, what, array);
    if (found == DS_FOUND_ARRAY)
        *owner = Py_NewRef(capsule);
    Py_XDECREF(capsule);
    return found;
}

/* Up to four integers of a tuple; -1 with an exception set where it is none. */
static int read_tuple(PyObject *tuple, const char *what, const char *name, int64_t *values)
{
    const Py_ssize_t count = PyTuple_Check(tuple) ? PyTuple_GET_SIZE(tuple) : -1;
    if (count < 0 || count > MOST_DIMENSIONS) {
        PyErr_Format(PyExc_ValueError, "%s: __cuda_array_interface__ has %s %R; give up to 4", what,
                     name, tuple);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        values[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
    return PyErr_Occurred() ? -1 : (int)count;
}

static ds_found read_type(PyObject *type, const char *what, ds_dtype *dtype)
{
    const char *text = type && PyUnicode_Check(type) ? PyUnicode_AsUTF8(type) : NULL;
    if (text && strcmp(text, "<f4") == 0)
        *dtype = DS_F32;
    else if (text && strcmp(text, "<f8") == 0)
        *dtype = DS_F64;
    else
        return PyErr_Occurred() ? DS_FOUND_ERROR : refuse_type(what, text ? text : "unknown");
    return DS_FOUND_ARRAY;
}

/* The address is the first entry of `data`; a stream of None asks for no order. */
static ds_found read_address(PyObject *data, PyObject *stream, const char *what, ds_foreign *array)
{
    if (!data || !PyTuple_Check(data) || PyTuple_GET_SIZE(data) != 2) {
        PyErr_Format(PyExc_ValueError, "%s: __cuda_array_interface__ has no data", what);
        return DS_FOUND_ERROR;
    }
    array->data = PyLong_AsVoidPtr(PyTuple_GET_ITEM(data, 0));
    array->stream = stream && stream != Py_None ? (uintptr_t)PyLong_AsUnsignedLongLong(stream) : 0;
    if (stream && stream != Py_None && !array->stream && !PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "%s: __cuda_array_interface__ has stream 0; give 1 or 2",
                     what);
    return PyErr_Occurred() ? DS_FOUND_ERROR : DS_FOUND_ARRAY;
}

static ds_found read_interface(PyObject *dict, const char *what, ds_foreign *array)
{
    int64_t dims[MOST_DIMENSIONS], steps[MOST_DIMENSIONS];
    PyObject *shape = PyDict_GetItemString(dict, "shape");
    PyObject *strides = PyDict_GetItemString(dict, "strides");
    const bool gaps = strides && strides != Py_None;
    const int rank = read_tuple(shape ? shape : Py_None, what, "shape", dims);
    if (rank < 0 || (gaps && read_tuple(strides, what, "strides", steps) < 0) ||
        read_type(PyDict_GetItemString(dict, "typestr"), what, &array->dtype) != DS_FOUND_ARRAY ||
        !ds_array_shape(rank, dims, what, &array->shape))
        return DS_FOUND_ERROR;
    for (int i = 0; gaps && i < rank; i++)
        steps[i] /= array->dtype == DS_F64 ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
    set_steps(array, rank, gaps ? steps : NULL);
    return read_address(PyDict_GetItemString(dict, "data"), PyDict_GetItemString(dict, "stream"),
                        what, array);
}

/* Which GPU it lies on is not said: the address is good on all that see it. */
static ds_found take_interface(PyObject *interface, const char *what, const ds_backend *backend,
                               ds_foreign *array)
{
    const int here = backend->device ? backend->device->exchange->ordinal(backend) : 0;
    if (!is_on_the_device(backend, what, here))
        return DS_FOUND_ERROR;
    if (PyDict_Check(interface))
        return read_interface(interface, what, array);
    PyErr_Format(PyExc_ValueError, "%s: __cuda_array_interface__ is no dict", what);
    return DS_FOUND_ERROR;
}

/* Where DLPack says that an array lies; kind 0: it says nothing. False with an exception set. */
static bool find_device(PyObject *object, int *kind, int *ordinal)
{
    *kind = 0;
    if (!PyObject_HasAttrString(object, "__dlpack_device__"))
        return true;
    PyObject *pair = PyObject_CallMethod(object, "__dlpack_device__", NULL);
    const bool read = pair && PyArg_ParseTuple(pair, "ii", kind, ordinal);
    Py_XDECREF(pair);
    return read;
}

ds_found ds_foreign_read(PyObject *object, const char *what, const ds_backend *backend,
                         ds_foreign *array, PyObject **owner)
{
    int kind = 0, ordinal = 0;
    *array = (ds_foreign){0};
    *owner = NULL;
    if (!find_device(object, &kind, &ordinal))
        return DS_FOUND_ERROR;
    if (kind == DS_DL_CUDA)
        return is_on_the_device(backend, what, ordinal)
                   ? take_capsule(object, what, backend, array, owner)
                   : DS_FOUND_ERROR;
    if (kind || !PyObject_HasAttrString(object, "__cuda_array_interface__"))
        return DS_FOUND_NONE;
    PyObject *interface = PyObject_GetAttrString(object, "__cuda_array_interface__");
    const ds_found found =
        interface ? take_interface(interface, what, backend, array) : DS_FOUND_ERROR;
    if (found == DS_FOUND_ARRAY)
        *owner = Py_NewRef(object);
    Py_XDECREF(interface);
    return found;
}
