/* Instance norm as a linear map of each channel, for the kernels that apply it. */
#ifndef DS_CPU_NORM_H
#define DS_CPU_NORM_H

#include "cpu/channels.h"

enum { DS_NORM_SCALE, DS_NORM_SHIFT }; /* among the vectors of ds_channels */

/* The norm of x is scale x + shift. Attributes of instance_norm; gamma, beta NULL: 1 and 0; the
   workspace has ds_channels_bytes(x). */
ds_channels ds_norm_factors(ds_backend *backend, const ds_tensor *x, const int64_t *attr,
                            const ds_tensor *gamma, const ds_tensor *beta, void *workspace);

#endif
