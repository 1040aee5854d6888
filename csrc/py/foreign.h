/* Arrays of other libraries that lie in the memory of a GPU: by DLPack or by
   __cuda_array_interface__. */
#ifndef DS_PY_FOREIGN_H
#define DS_PY_FOREIGN_H

#include "py/module.h"

typedef enum ds_found { DS_FOUND_ERROR, DS_FOUND_NONE, DS_FOUND_ARRAY } ds_found;

/* Reads an array for a plan of this backend. DS_FOUND_NONE: it lies in the memory of this process,
   or is no array at all. `owner` is released when the array has been read. DS_FOUND_ERROR with an
   exception set, also where the array lies on another device than the plan. */
ds_found ds_foreign_read(PyObject *object, const char *what, const ds_backend *backend,
                         ds_foreign *array, PyObject **owner);

#endif
