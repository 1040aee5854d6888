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

static double dot(void *context, const float *a, const float *b)
{
    const ds_device_vectors *self = context;
    return self->backend->device->dot(self->backend, a, b, self->length);
}

static double sum_abs(void *context, const float *a)
{
    const ds_device_vectors *self = context;
    return self->backend->device->sum_abs(self->backend, a, self->length);
}

static void axpy(void *context, float alpha, const float *x, float *y)
{
    const ds_device_vectors *self = context;
    self->backend->device->axpy(self->backend, alpha, x, y, self->length);
}

static void scale(void *context, float alpha, float *x)
{
    const ds_device_vectors *self = context;
    self->backend->device->scale(self->backend, alpha, x, self->length);
}

static void copy(void *context, const float *from, float *to)
{
    const ds_device_vectors *self = context;
    self->backend->device->copy(self->backend, from, to, self->length);
}

ds_vectors ds_device_vectors_table(ds_device_vectors *vectors)
{
    return (ds_vectors){.context = vectors,
                        .allocate = allocate,
                        .release = release,
                        .dot = dot,
                        .sum_abs = sum_abs,
                        .axpy = axpy,
                        .scale = scale,
                        .copy = copy};
}
