/* Arrays of Python: the one place that knows NumPy and DLPack. */
#ifndef DS_PY_ARRAY_H
#define DS_PY_ARRAY_H

#include "py/module.h"

typedef struct ds_array {
    PyObject *object; /* the ndarray that owns `data` */
    void *data;       /* planar, native byte order, never written to */
    ds_dtype dtype;
    ds_shape shape; /* leading dimensions of 1 added */
} ds_array;

/* Once per module, before all else. False with an exception set. */
bool ds_array_import(void);

/* Reads a number, an ndarray of any strides and byte order, or an object with __dlpack__. What is
   float32 or float64 and contiguous is used where it lies, all else is copied. `what` names the
   argument in messages. False with an exception set. */
bool ds_array_read(PyObject *object, const char *what, ds_array *array);

/* The shape of `rank` dimensions; leading ones of 1 are added. False with an exception set. */
bool ds_array_shape(int rank, const int64_t *dims, const char *what, ds_shape *shape);

/* False with an exception set where the array's shape is another. */
bool ds_array_check(ds_shape found, const char *what, ds_shape wanted);

/* The memory of a contiguous float32 ndarray of `length` values in any shape, to be used where it
   lies and, with `writable`, changed; the caller holds a reference to `object`. NULL with an
   exception set. */
float *ds_array_floats(PyObject *object, const char *what, int64_t length, bool writable);

/* A new planar ndarray (n, c, h, w), and its memory. */
PyObject *ds_array_new(ds_shape shape, ds_dtype dtype, void **data);

/* A new float32 ndarray (rows, columns), and its memory. */
PyObject *ds_array_table(Py_ssize_t rows, Py_ssize_t columns, float **data);

/* Reads `count` numbers, one for each row, into a column of a table that starts at `column`. False
   with an exception set. */
bool ds_array_column(PyObject *object, const char *what, int64_t count, Py_ssize_t columns,
                     float *column);

#endif
