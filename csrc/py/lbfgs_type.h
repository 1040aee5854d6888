/* depthstyle._core.LBFGS: the optimiser on arrays of the host. */
#ifndef DS_PY_LBFGS_TYPE_H
#define DS_PY_LBFGS_TYPE_H

#include "py/module.h"

extern PyType_Spec ds_lbfgs_spec;

#endif
