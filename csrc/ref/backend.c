/* The reference backend: planar NCHW, one thread, every op. */
#include "ref/ref.h"

#include <math.h>
#include <string.h>

static const ds_kernel *const KERNELS[DS_OP_COUNT] = {
#define OP(name, fewest, most, text, attributes) &DS_REF(name),
#define INT(name, value)
#define REAL(name, value)
#define FLAG(name, value)
#define CHOICE(name, value, names)
#include "core/ops.def"
};

const ds_kernel *DS_REF(kernel)(ds_op op)
{
    return KERNELS[op];
}

static const ds_kernel *find(const ds_backend *backend, const ds_step *step)
{
    const ds_kernel *kernel = KERNELS[step->op];
    (void)backend;
    const bool fused = step->prologue.active || step->epilogue.active || step->epilogue.addend;
    if (fused || !kernel->run)
        return NULL;
    return ds_step_has_half(step) ? &DS_REF(rounded) : kernel;
}

static size_t bytes(const ds_backend *backend, const ds_tensor *tensor)
{
    (void)backend;
    return (size_t)ds_count(tensor->shape) * sizeof(ds_real);
}

static void pack(ds_backend *backend, const void *planar, ds_dtype dtype, const ds_tensor *tensor)
{
    ds_real *to = tensor->data;
    const int64_t count = ds_count(tensor->shape);
    (void)backend;
    for (int64_t i = 0; i < count; i++)
        to[i] = dtype == DS_F64 ? (ds_real)((const double *)planar)[i]
                                : (ds_real)((const float *)planar)[i];
    if (ds_is_half(tensor))
        DS_REF(round)(to, to, count);
}

static void unpack(ds_backend *backend, const ds_tensor *tensor, void *planar, ds_dtype dtype)
{
    const ds_real *from = tensor->data;
    const int64_t count = ds_count(tensor->shape);
    (void)backend;
    for (int64_t i = 0; i < count; i++)
        if (dtype == DS_F64)
            ((double *)planar)[i] = (double)from[i];
        else
            ((float *)planar)[i] = (float)from[i];
}

static bool all_finite(ds_backend *backend, const ds_tensor *tensor)
{
    const ds_real *data = tensor->data;
    const int64_t count = ds_count(tensor->shape);
    (void)backend;
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(data[i]))
            return false;
    return true;
}

static void destroy(ds_backend **backend)
{
    if (*backend)
        ds_release((*backend)->alloc, backend);
}

ds_code DS_REF(create)(ds_alloc *alloc, ds_backend **out, ds_status *status)
{
    ds_backend *backend = NULL;
    const ds_code code = ds_alloc_zeroed(alloc, sizeof *backend, &backend, status);
    if (code == DS_OK)
        *backend = (ds_backend){.name = "ref",
                                .dtype = sizeof(ds_real) == sizeof(double) ? DS_F64 : DS_F32,
                                .alloc = alloc,
                                .find = find,
                                .bytes = bytes,
                                .pack = pack,
                                .unpack = unpack,
                                .finite = all_finite,
                                .destroy = destroy};
    *out = backend;
    return code;
}
