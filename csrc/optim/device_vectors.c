#include "optim/vectors.h"

static ds_code allocate(void *context, size_t bytes, void *memory, ds_status *status)
{
    const ds_device_vectors *self = context;
    return self->backend->device->allocate(self->backend, bytes, memory, status);
}

static void release(void *context, void *memory)
{
    const ds_device_vectors *self = context;
    self->backend->device->release(self->backend, memory);
}

static void dots(void *context, const float *a, const float *b, const float *const *rows,
                 int64_t count, double *sums)
{
    const ds_device_vectors *self = context;
    self->backend->device->dots(self->backend, self->length, a, b, rows, count, sums);
}

static void combine(void *context, const float *const *rows, const double *factors, int64_t count,
                    float *out)
{
    const ds_device_vectors *self = context;
    self->backend->device->combine(self->backend, self->length, rows, factors, count, out);
}

ds_vectors ds_device_vectors_table(ds_device_vectors *vectors)
{
    return (ds_vectors){.context = vectors,
                        .allocate = allocate,
                        .release = release,
                        .dots = dots,
                        .combine = combine};
}
