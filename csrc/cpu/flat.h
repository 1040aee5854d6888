/* Work on each float of tensors of one layout, whatever the layout is. */
#ifndef DS_CPU_FLAT_H
#define DS_CPU_FLAT_H

#include "cpu/cpu.h"

enum { DS_FLAT_INPUTS = 3 };

typedef struct ds_flat ds_flat;

struct ds_flat {
    /* Computes `count` floats, a multiple of 16, of y from those of the inputs that are there. */
    void (*apply)(const ds_flat *flat, const float *const in[DS_FLAT_INPUTS], float *y,
                  int64_t count);
    const ds_slots *slots;
    const void *context; /* for apply */
    const float *in[DS_FLAT_INPUTS];
    float *y; /* may be one of the inputs */
    int64_t count;
};

void ds_flat_run(ds_pool *pool, const ds_flat *flat);

#endif
