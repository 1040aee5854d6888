/* Memory: the only place that calls malloc. An allocator is handed down, so that a test can make
   the k-th allocation fail without a hook in the engine. */
#ifndef DS_BASE_ALLOC_H
#define DS_BASE_ALLOC_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Every block starts on a cache line, which is also one AVX-512 register. */
enum { DS_ALIGN = 64 };

typedef struct ds_alloc {
    int64_t live_bytes; /* sum of blocks not yet freed */
    int64_t count;      /* allocations asked for so far */
    int64_t fail_at;    /* the allocation (counted from 0) that fails; -1: none */
} ds_alloc;

ds_alloc ds_alloc_make(int64_t fail_at);

/* Gives memory aligned to DS_ALIGN in *block, or DS_NO_MEMORY naming the bytes asked for.
   `block` is the address of a pointer. A size of 0 gives a valid block. */
ds_code ds_alloc_raw(ds_alloc *alloc, size_t bytes, void *block, ds_status *status);

/* The same, cleared. */
ds_code ds_alloc_zeroed(ds_alloc *alloc, size_t bytes, void *block, ds_status *status);

/* Makes the array *block of `item` bytes each hold at least `needed` items; *capacity is updated.
   What was there is kept, the rest is zero. */
ds_code ds_alloc_grow(ds_alloc *alloc, void *block, size_t *capacity, size_t needed, size_t item,
                      ds_status *status);

/* Frees *block and sets it to NULL. Accepts a NULL block. */
void ds_release(ds_alloc *alloc, void *block);

/* *product = a * b; false on overflow. */
bool ds_multiply(size_t a, size_t b, size_t *product);

#endif
