/* Tensors that no op computes. The graph takes their shape from the caller. */
#include "core/op.h"

const ds_meaning ds_op_input = {0};
const ds_meaning ds_op_constant = {0};
const ds_meaning ds_op_variable = {0};
