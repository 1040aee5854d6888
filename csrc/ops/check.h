/* Checks that many ops share. Every message names the op, the argument, its value and the fix. */
#ifndef DS_OPS_CHECK_H
#define DS_OPS_CHECK_H

#include "core/op.h"

/* Shapes in messages: ds_fail(status, code, "... " DS_SHAPE " ...", DS_DIMS(shape)). */
#define DS_SHAPE "(%lld, %lld, %lld, %lld)"
#define DS_DIMS(s) (long long)(s).n, (long long)(s).c, (long long)(s).h, (long long)(s).w

/* The largest size, stride or border an attribute may ask for: sums of a few of them with any
   dimension of a tensor stay inside 64 bits. */
static const int64_t DS_MAX_SIZE = INT64_C(1) << 31;

/* low <= value <= DS_MAX_SIZE. */
ds_code ds_check_size(const char *op, const char *name, int64_t value, int64_t low,
                      ds_status *status);

/* A finite number above zero. */
ds_code ds_check_positive(const char *op, const char *name, double value, ds_status *status);

ds_code ds_check_kind(const char *op, const char *name, const ds_tensor *tensor, ds_kind kind,
                      ds_status *status);

/* Shape and kind of `tensor` are those of `wanted`, which the message calls `like`. */
ds_code ds_check_same(const char *op, const char *name, const ds_tensor *tensor, const char *like,
                      const ds_tensor *wanted, ds_status *status);

/* A plain tensor of shape (1, channels, 1, 1). */
ds_code ds_check_vector(const char *op, const char *name, const ds_tensor *tensor, int64_t channels,
                        ds_status *status);

/* The shape only: for tensors of either kind, or of a shape that no other tensor has. */
ds_code ds_check_shape(const char *op, const char *name, const ds_tensor *tensor, ds_shape wanted,
                       ds_status *status);

/* One number. */
ds_code ds_check_scalar(const char *op, const char *name, const ds_tensor *tensor,
                        ds_status *status);

/* A weight per pixel of x, (1, 1, H, W) for all pictures or (N, 1, H, W), of either kind: with one
   channel every layout is planar. */
ds_code ds_check_mask(const char *op, const char *name, const ds_tensor *mask, const ds_tensor *x,
                      ds_status *status);

/* What the standard deviation of each map of x needs: a positive epsilon, and two pixels where its
   divisor is H W - 1. */
ds_code ds_check_moments(const char *op, const ds_tensor *x, double epsilon, int64_t unbiased,
                         ds_status *status);

/* What an op's gradient says of an input that has none. */
ds_code ds_no_gradient(const char *op, const char *name, ds_status *status);

#endif
