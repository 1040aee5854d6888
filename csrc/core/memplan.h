/* The memory plan: lifetimes and sizes in, offsets in one arena out. A pure calculation. */
#ifndef DS_CORE_MEMPLAN_H
#define DS_CORE_MEMPLAN_H

#include "base/alloc.h"

/* A value that is written at step `first` and read last at step `last`, both counted. */
typedef struct ds_life {
    int32_t first, last;
    size_t bytes;
} ds_life;

/* Places the largest values first, each in the smallest gap that its overlapping neighbours leave.
   Offsets are multiples of DS_ALIGN. With reuse false no two values share memory. */
ds_code ds_memplan(ds_alloc *alloc, const ds_life *values, size_t count, bool reuse,
                   size_t *offsets, size_t *total, ds_status *status);

#endif
