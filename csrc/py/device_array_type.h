/* DeviceArray: an output that stays in the memory of its GPU. */
#ifndef DS_PY_DEVICE_ARRAY_TYPE_H
#define DS_PY_DEVICE_ARRAY_TYPE_H

#include "py/module.h"

extern PyType_Spec ds_device_array_spec;

/* A copy of a tensor that belongs to no plan. */
PyObject *ds_device_array_new(const ds_module_state *state, ds_backend *backend,
                              const ds_tensor *tensor);

#endif
