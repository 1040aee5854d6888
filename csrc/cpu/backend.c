/* The CPU backend: which kernel for which step, and arrays in and out of its layout. */
#include "cpu/channels.h"

#include <math.h>
#include <string.h>

typedef struct entry {
    ds_op op;
    const ds_kernel *kernel;
} entry;

static const entry KERNELS[] = {
#define KERNEL(op, symbol) {DS_OP_##op, &symbol},
#include "cpu/kernels.def"
#undef KERNEL
    {DS_OP_COUNT, NULL},
};

static bool takes(const ds_backend *backend, const ds_kernel *kernel, const ds_step *step)
{
    if (ds_step_has_half(step) && !kernel->takes_half)
        return false;
    return kernel->accepts ? kernel->accepts(backend, step) : ds_no_epilogue(step);
}

const ds_kernel *ds_cpu_find(const ds_backend *backend, const ds_step *step)
{
    for (const entry *e = KERNELS; e->kernel; e++)
        if (e->op == step->op && takes(backend, e->kernel, step))
            return e->kernel;
    const ds_kernel *last = ds_step_has_half(step) ? &ds_cpu_widened : &ds_cpu_fallback;
    return takes(backend, last, step) ? last : NULL;
}

static size_t bytes(const ds_backend *backend, const ds_tensor *tensor)
{
    const int64_t spreads = tensor->measured ? tensor->shape.n * ds_lanes(tensor) : 0;
    (void)backend;
    return ds_stored_bytes(tensor) + (size_t)spreads * sizeof(ds_spread);
}

/* Element (n, c, pixel) of a tensor of floats in this layout. */
static float *element(const ds_tensor *t, int64_t n, int64_t c, int64_t pixel)
{
    const int64_t pixels = t->shape.h * t->shape.w;
    if (!ds_is_blocked(t))
        return (float *)t->data + (n * t->shape.c + c) * pixels + pixel;
    return ds_block(t, n, c / DS_BLOCK) + pixel * DS_BLOCK + c % DS_BLOCK;
}

static ds_bf16 *half_element(const ds_tensor *t, int64_t n, int64_t c, int64_t pixel)
{
    return ds_half_block(t, n, c / DS_HALF_BLOCK) + pixel * DS_HALF_BLOCK + c % DS_HALF_BLOCK;
}

static void pack(ds_backend *backend, const void *planar, ds_dtype dtype, const ds_tensor *tensor)
{
    const ds_shape s = tensor->shape;
    const int64_t pixels = s.h * s.w;
    if (dtype == DS_F32 && ds_is_blocked(tensor)) {
        ds_cpu_block(backend->pool, planar, tensor);
        return;
    }
    if (dtype == DS_F32) {
        memcpy(tensor->data, planar, ds_stored_bytes(tensor));
        return;
    }
    memset(tensor->data, 0, ds_stored_bytes(tensor));
    const double *from = planar;
    for (int64_t map = 0; map < s.n * s.c; map++)
        for (int64_t p = 0; p < pixels; p++, from++)
            if (ds_is_half(tensor))
                *half_element(tensor, map / s.c, map % s.c, p) = ds_narrow((float)*from);
            else
                *element(tensor, map / s.c, map % s.c, p) = (float)*from;
}

static void unpack(ds_backend *backend, const ds_tensor *tensor, void *planar, ds_dtype dtype)
{
    const ds_shape s = tensor->shape;
    const int64_t pixels = s.h * s.w;
    if (dtype == DS_F32 && ds_is_blocked(tensor)) {
        ds_cpu_unblock(backend->pool, tensor, planar);
        return;
    }
    if (dtype == DS_F32) {
        memcpy(planar, tensor->data, ds_stored_bytes(tensor));
        return;
    }
    double *to = planar;
    for (int64_t map = 0; map < s.n * s.c; map++)
        for (int64_t p = 0; p < pixels; p++)
            *to++ = ds_is_half(tensor) ? ds_widen(*half_element(tensor, map / s.c, map % s.c, p))
                                       : *element(tensor, map / s.c, map % s.c, p);
}

static bool all_finite(ds_backend *backend, const ds_tensor *tensor)
{
    const float *data = tensor->data;
    const ds_bf16 *half = tensor->data;
    const int64_t count = ds_stored(tensor);
    (void)backend;
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(ds_is_half(tensor) ? ds_widen(half[i]) : data[i]))
            return false;
    return true;
}

static void destroy(ds_backend **address)
{
    ds_backend *backend = *address;
    if (!backend)
        return;
    ds_pool_destroy(&backend->pool);
    ds_release(backend->alloc, address);
}

ds_code ds_cpu_create(ds_alloc *alloc, int threads, ds_cpu_level level, ds_backend **out,
                      ds_status *status)
{
    ds_backend *backend = NULL;
    DS_TRY(ds_alloc_zeroed(alloc, sizeof *backend, &backend, status));
    *backend = (ds_backend){.name = "cpu",
                            .dtype = DS_F32,
                            .alloc = alloc,
                            .level = level,
                            .find = ds_cpu_find,
                            .bytes = bytes,
                            .pack = pack,
                            .unpack = unpack,
                            .finite = all_finite,
                            .destroy = destroy};
    DS_TRY(ds_pool_create(alloc, threads, &backend->pool, status));
exit:
    if (status->code != DS_OK)
        destroy(&backend);
    *out = backend;
    return status->code;
}
