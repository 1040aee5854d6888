/* Arrays in: whatever NumPy can view as real numbers. Arrays out: new, and no one else's. */
#include "py/array.h"

#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#include <numpy/arrayobject.h>

bool ds_array_import(void)
{
    return _import_array() == 0;
}

/* Turns the exception of from_dlpack (BufferError, RuntimeError, ...) into one that names the
   argument. */
static void explain_refusal(const char *what)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_Format(PyExc_ValueError,
                 "%s: numpy.from_dlpack refuses it (%S); pass a CPU tensor that needs no gradient",
                 what, value ? value : type);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

/* Returns a new reference to an ndarray of any type. */
static PyObject *to_ndarray(PyObject *object, const char *what)
{
    if (PyArray_Check(object))
        return Py_NewRef(object);
    if (PyFloat_Check(object) || PyLong_Check(object) || PyArray_CheckScalar(object))
        return PyArray_FROM_O(object);
    if (!PyObject_HasAttrString(object, "__dlpack__"))
        return PyErr_Format(PyExc_ValueError,
                            "%s: %s is no array; pass a NumPy array or an object with __dlpack__",
                            what, Py_TYPE(object)->tp_name);
    PyObject *numpy = PyImport_ImportModule("numpy");
    PyObject *array = numpy ? PyObject_CallMethod(numpy, "from_dlpack", "O", object) : NULL;
    Py_XDECREF(numpy);
    if (!array && PyErr_ExceptionMatches(PyExc_Exception))
        explain_refusal(what);
    return array;
}

/* The type that holds every value of `array`, or NPY_NOTYPE. */
static int holding_type(PyArrayObject *array)
{
    switch (PyArray_TYPE(array)) {
    case NPY_BOOL:
    case NPY_BYTE:
    case NPY_UBYTE:
    case NPY_SHORT:
    case NPY_USHORT:
    case NPY_HALF:
    case NPY_FLOAT:
        return NPY_FLOAT;
    case NPY_DOUBLE:
    case NPY_LONGDOUBLE:
        return NPY_DOUBLE;
    default:
        return PyArray_ISINTEGER(array) ? NPY_DOUBLE : NPY_NOTYPE;
    }
}

/* One dimension could mean channels or columns, so it is refused rather than guessed. */
bool ds_array_shape(int rank, const int64_t *dims, const char *what, ds_shape *shape)
{
    int64_t all[4] = {1, 1, 1, 1};
    if (rank == 1 || rank > 4) {
        PyErr_Format(PyExc_ValueError,
                     "%s: has %d dimension(s); give (N, C, H, W), for a value per channel "
                     "(1, C, 1, 1)",
                     what, rank);
        return false;
    }
    for (int i = 0; i < rank; i++)
        all[4 - rank + i] = dims[i];
    *shape = (ds_shape){all[0], all[1], all[2], all[3]};
    return true;
}

bool ds_array_read(PyObject *object, const char *what, ds_array *array)
{
    bool read = false;
    PyArrayObject *given = (PyArrayObject *)to_ndarray(object, what);
    if (!given)
        return false;
    const int type = holding_type(given);
    if (type == NPY_NOTYPE) {
        PyErr_Format(PyExc_ValueError, "%s: dtype %S holds no real numbers; convert it to float32",
                     what, PyArray_DESCR(given));
        goto exit;
    }
    _Static_assert(sizeof(npy_intp) == sizeof(int64_t), "dimensions of NumPy have 64 bits");
    if (!ds_array_shape(PyArray_NDIM(given), (const int64_t *)PyArray_DIMS(given), what,
                        &array->shape))
        goto exit;
    /* A plain ndarray: subclasses may override what the engine relies on. */
    array->object = PyArray_FROM_OTF(
        (PyObject *)given, type, NPY_ARRAY_IN_ARRAY | NPY_ARRAY_ENSUREARRAY | NPY_ARRAY_FORCECAST);
    if (!array->object)
        goto exit;
    array->data = PyArray_DATA((PyArrayObject *)array->object);
    array->dtype = type == NPY_DOUBLE ? DS_F64 : DS_F32;
    read = true;
exit:
    Py_DECREF(given);
    return read;
}

bool ds_array_check(ds_shape s, const char *what, ds_shape wanted)
{
    if (ds_same_shape(s, wanted))
        return true;
    PyErr_Format(
        PyExc_ValueError, "%s: shape (%lld, %lld, %lld, %lld) must be (%lld, %lld, %lld, %lld)",
        what, (long long)s.n, (long long)s.c, (long long)s.h, (long long)s.w, (long long)wanted.n,
        (long long)wanted.c, (long long)wanted.h, (long long)wanted.w);
    return false;
}

float *ds_array_floats(PyObject *object, const char *what, int64_t length, bool writable)
{
    PyArrayObject *array = (PyArrayObject *)object;
    const int flags = NPY_ARRAY_CARRAY_RO | (writable ? NPY_ARRAY_WRITEABLE : 0);
    if (!PyArray_Check(object) || PyArray_TYPE(array) != NPY_FLOAT ||
        !PyArray_CHKFLAGS(array, flags) || PyArray_ISBYTESWAPPED(array)) {
        PyErr_Format(PyExc_ValueError,
                     "%s: must be a%s contiguous float32 array of NumPy, to be used in place", what,
                     writable ? " writable," : "");
        return NULL;
    }
    if (PyArray_SIZE(array) == length)
        return PyArray_DATA(array);
    PyErr_Format(PyExc_ValueError, "%s: has %zd values; give %lld", what,
                 (Py_ssize_t)PyArray_SIZE(array), (long long)length);
    return NULL;
}

PyObject *ds_array_new(ds_shape shape, ds_dtype dtype, void **data)
{
    npy_intp dims[] = {(npy_intp)shape.n, (npy_intp)shape.c, (npy_intp)shape.h, (npy_intp)shape.w};
    PyObject *array = PyArray_SimpleNew(4, dims, dtype == DS_F64 ? NPY_DOUBLE : NPY_FLOAT);
    *data = array ? PyArray_DATA((PyArrayObject *)array) : NULL;
    return array;
}

PyObject *ds_array_table(Py_ssize_t rows, Py_ssize_t columns, float **data)
{
    npy_intp dims[] = {rows, columns};
    PyObject *array = PyArray_SimpleNew(2, dims, NPY_FLOAT);
    *data = array ? PyArray_DATA((PyArrayObject *)array) : NULL;
    return array;
}

bool ds_array_column(PyObject *object, const char *what, int64_t count, Py_ssize_t columns,
                     float *column)
{
    PyArrayObject *array = (PyArrayObject *)PyArray_FROM_OTF(
        object, NPY_FLOAT, NPY_ARRAY_IN_ARRAY | NPY_ARRAY_FORCECAST);
    if (!array)
        return false;
    const bool fits = PyArray_NDIM(array) == 1 && PyArray_SIZE(array) == count;
    if (!fits)
        PyErr_Format(PyExc_ValueError, "%s: give an array of %lld numbers, one for each iteration",
                     what, (long long)count);
    for (int64_t i = 0; fits && i < count; i++)
        column[i * columns] = ((const float *)PyArray_DATA(array))[i];
    Py_DECREF(array);
    return fits;
}
