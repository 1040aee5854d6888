/* The vector arithmetic an optimiser needs, as a table: an optimiser holds no backend's code. */
#ifndef DS_OPTIM_VECTORS_H
#define DS_OPTIM_VECTORS_H

#include "core/backend.h"

/* All vectors have the length that the maker of the table was told. dots and combine are those of
   ds_device; the one waits, the other may go on after its return. */
typedef struct ds_vectors {
    void *context;
    ds_code (*allocate)(void *context, size_t bytes, void *memory, ds_status *status);
    void (*release)(void *context, void *memory);
    void (*dots)(void *context, const float *a, const float *b, const float *const *rows,
                 int64_t count, double *sums);
    void (*combine)(void *context, const float *const *rows, const double *factors, int64_t count,
                    float *out);
} ds_vectors;

typedef struct ds_host_vectors ds_host_vectors;

/* Vectors of `length` floats in host memory, at most `most` rows at a time. Sums are taken in an
   order that depends on the length alone: the same bits for any number of threads. The pool stays
   with the caller. */
ds_code ds_host_vectors_create(ds_alloc *alloc, ds_pool *pool, int64_t length, int64_t most,
                               ds_host_vectors **out, ds_status *status);
void ds_host_vectors_destroy(ds_host_vectors **host);
ds_vectors ds_host_vectors_table(ds_host_vectors *host);

/* Vectors of `length` floats in the memory of a device. */
typedef struct ds_device_vectors {
    ds_backend *backend;
    int64_t length;
} ds_device_vectors;
ds_vectors ds_device_vectors_table(ds_device_vectors *vectors);

#endif
