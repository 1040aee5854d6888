/* The vector arithmetic an optimiser needs, as a table: an optimiser holds no backend's code. */
#ifndef DS_OPTIM_VECTORS_H
#define DS_OPTIM_VECTORS_H

#include "core/backend.h"

/* All vectors have the length that the maker of the table was told. */
typedef struct ds_vectors {
    void *context;
    ds_code (*allocate)(void *context, size_t bytes, void *memory, ds_status *status);
    void (*release)(void *context, void *memory);
    double (*dot)(void *context, const float *a, const float *b);
    double (*sum_abs)(void *context, const float *a);
    void (*axpy)(void *context, float alpha, const float *x, float *y); /* y += alpha x */
    void (*scale)(void *context, float alpha, float *x);                /* x *= alpha */
    void (*copy)(void *context, const float *from, float *to);
} ds_vectors;

typedef struct ds_host_vectors ds_host_vectors;

/* Vectors of `length` floats in host memory. Sums are taken in double, in an order that depends on
   the length alone: the same bits for any number of threads. The pool stays with the caller. */
ds_code ds_host_vectors_create(ds_alloc *alloc, ds_pool *pool, int64_t length,
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
