#include "ref/ref.h"

const ds_kernel DS_REF(input) = {0};
const ds_kernel DS_REF(constant) = {0};
const ds_kernel DS_REF(variable) = {0};
