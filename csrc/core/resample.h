/* Separable resampling as a sparse matrix per side: output pixel i is the sum over a run of
   neighbouring input pixels of weight * pixel. The adjoint is the transposed matrix. */
#ifndef DS_CORE_RESAMPLE_H
#define DS_CORE_RESAMPLE_H

#include "core/backend.h"

typedef struct ds_taps {
    int64_t size;   /* output pixels */
    int64_t most;   /* taps of the output pixel that has most */
    int64_t *begin; /* (size) first input pixel */
    int64_t *count; /* (size) taps, from 0 to `most` */
    double *weight; /* (size, most) */
} ds_taps;

/* One side of a resize; the attributes are those of the op, the formulas in ops/resize.c. */
typedef struct ds_resample {
    int64_t from, to, mode;
    bool align_corners, antialias;
} ds_resample;

ds_code ds_taps_create(ds_alloc *alloc, const ds_resample *side, ds_taps *taps, ds_status *status);

/* The adjoint: from the output pixels of `taps` to its `inputs` input pixels. */
ds_code ds_taps_transpose(ds_alloc *alloc, const ds_taps *taps, int64_t inputs, ds_taps *transposed,
                          ds_status *status);

/* Accepts what the above left half-built. */
void ds_taps_release(ds_alloc *alloc, ds_taps *taps);

/* Both sides of a resize or resize_backward step, from its input to its output. */
ds_code ds_taps_of_step(ds_alloc *alloc, const ds_step *step, ds_taps *rows, ds_taps *columns,
                        ds_status *status);

#endif
