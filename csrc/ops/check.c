#include "ops/check.h"

#include <math.h>

static const char *kind_name(ds_kind kind)
{
    return kind == DS_MAP ? "map" : "plain";
}

ds_code ds_check_size(const char *op, const char *name, int64_t value, int64_t low,
                      ds_status *status)
{
    if (value >= low && value <= DS_MAX_SIZE)
        return DS_OK;
    return ds_fail(status, DS_BAD_VALUE, "%s: %s=%lld; use a whole number from %lld to %lld", op,
                   name, (long long)value, (long long)low, (long long)DS_MAX_SIZE);
}

ds_code ds_check_positive(const char *op, const char *name, double value, ds_status *status)
{
    if (value > 0 && isfinite(value))
        return DS_OK;
    return ds_fail(status, DS_BAD_VALUE, "%s: %s=%g; use a finite number above 0", op, name, value);
}

ds_code ds_check_kind(const char *op, const char *name, const ds_tensor *tensor, ds_kind kind,
                      ds_status *status)
{
    if (tensor->kind == kind)
        return DS_OK;
    return ds_fail(
        status, DS_BAD_VALUE,
        "%s: %s is of kind %s; it must be %s: define it so, or convert it with broadcast", op, name,
        kind_name(tensor->kind), kind_name(kind));
}

ds_code ds_check_same(const char *op, const char *name, const ds_tensor *tensor, const char *like,
                      const ds_tensor *wanted, ds_status *status)
{
    if (!ds_same_shape(tensor->shape, wanted->shape))
        return ds_fail(status, DS_BAD_VALUE,
                       "%s: %s has shape " DS_SHAPE "; it must be that of %s, " DS_SHAPE, op, name,
                       DS_DIMS(tensor->shape), like, DS_DIMS(wanted->shape));
    return ds_check_kind(op, name, tensor, wanted->kind, status);
}

ds_code ds_check_vector(const char *op, const char *name, const ds_tensor *tensor, int64_t channels,
                        ds_status *status)
{
    const ds_shape wanted = {1, channels, 1, 1};
    if (!ds_same_shape(tensor->shape, wanted))
        return ds_fail(status, DS_BAD_VALUE,
                       "%s: %s has shape " DS_SHAPE
                       "; it must have one value per channel, " DS_SHAPE,
                       op, name, DS_DIMS(tensor->shape), DS_DIMS(wanted));
    return ds_check_kind(op, name, tensor, DS_PLAIN, status);
}

ds_code ds_check_shape(const char *op, const char *name, const ds_tensor *tensor, ds_shape wanted,
                       ds_status *status)
{
    if (ds_same_shape(tensor->shape, wanted))
        return DS_OK;
    return ds_fail(status, DS_BAD_VALUE, "%s: %s has shape " DS_SHAPE "; it must be " DS_SHAPE, op,
                   name, DS_DIMS(tensor->shape), DS_DIMS(wanted));
}

ds_code ds_check_scalar(const char *op, const char *name, const ds_tensor *tensor,
                        ds_status *status)
{
    return ds_check_shape(op, name, tensor, (ds_shape){1, 1, 1, 1}, status);
}

ds_code ds_check_mask(const char *op, const char *name, const ds_tensor *mask, const ds_tensor *x,
                      ds_status *status)
{
    const ds_shape m = mask->shape, s = x->shape;
    if ((m.n == 1 || m.n == s.n) && m.c == 1 && m.h == s.h && m.w == s.w)
        return DS_OK;
    return ds_fail(status, DS_BAD_VALUE,
                   "%s: %s has shape " DS_SHAPE "; it must be (1 or %lld, 1, %lld, %lld) for x of "
                   "shape " DS_SHAPE "; resize it to the map",
                   op, name, DS_DIMS(m), (long long)s.n, (long long)s.h, (long long)s.w,
                   DS_DIMS(s));
}

ds_code ds_check_moments(const char *op, const ds_tensor *x, double epsilon, int64_t unbiased,
                         ds_status *status)
{
    if (ds_check_positive(op, "epsilon", epsilon, status) != DS_OK)
        return status->code;
    if (unbiased && x->shape.h * x->shape.w < 2)
        return ds_fail(status, DS_BAD_VALUE,
                       "%s: unbiased=1 divides by H W - 1, but x of shape " DS_SHAPE
                       " has one pixel; use unbiased=0 or a larger picture",
                       op, DS_DIMS(x->shape));
    return DS_OK;
}

ds_code ds_no_gradient(const char *op, const char *name, ds_status *status)
{
    return ds_fail(status, DS_BAD_VALUE,
                   "gradient: %s gives none to its %s; ask only for that of its other inputs", op,
                   name);
}
