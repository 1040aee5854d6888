/* How values get into the tensors of a plan, and out of them. */
#ifndef DS_PY_VALUE_H
#define DS_PY_VALUE_H

#include "py/module.h"

/* Gives a tensor the value of an array, be it in the memory of this process or of the plan's GPU;
   without a tensor the array is checked and dropped. `what` names it in messages. False with an
   exception set. */
bool ds_value_set(const ds_module_state *state, ds_backend *backend, const ds_tensor *tensor,
                  ds_shape shape, const char *what, PyObject *object);

/* A new ndarray of a tensor's value, or, `in_place` and on a GPU, a DeviceArray. */
PyObject *ds_value_get(const ds_module_state *state, ds_backend *backend, const ds_tensor *tensor,
                       bool in_place);

#endif
