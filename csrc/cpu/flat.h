/* Work on each value of tensors of one shape and kind, whatever their layout and types are. */
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
    const ds_tensor *in[DS_FLAT_INPUTS];
    const ds_tensor *y; /* may lie in the memory of an input of its type */
};

void ds_flat_run(ds_pool *pool, const ds_flat *flat);

#endif
