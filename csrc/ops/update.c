/* Updates of a variable x with the gradient g at learning rate r; the result is x after the change.
   With g' = g + weight_decay x:

     adam (Kingma and Ba 2015, as torch.optim.Adam):
       t = t + 1
       m = beta1 m + (1 - beta1) g'
       v = beta2 v + (1 - beta2) g'^2
       x = x - r / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
     sgd (as torch.optim.SGD, with a velocity u that starts at zero):
       u = momentum u + g'
       x = x - r u
     clamp:
       x = min(max(x, low), high) per channel; NaN stays, for the finite check to see
     keep, which copies instead:
       kept = x;  with a value: where value < least, kept = x and least = value */
#include "core/op.h"
#include "ops/check.h"

/* 0 <= value < 1. */
static ds_code check_decay(const char *op, const char *name, double value, ds_status *status)
{
    if (value >= 0 && value < 1)
        return DS_OK;
    return ds_fail(status, DS_BAD_VALUE, "%s: %s=%g; use a number from 0 to below 1", op, name,
                   value);
}

static ds_code check_weight_decay(const char *op, double value, ds_status *status)
{
    return value == 0 ? DS_OK : ds_check_positive(op, "weight_decay", value, status);
}

static ds_code infer_adam(const ds_tensor *const in[], int inputs, const int64_t *attr,
                          ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_adam_update_attr a = DS_ATTR(adam_update, attr);
    DS_TRY(check_decay("adam_update", "beta1", a.beta1, status));
    DS_TRY(check_decay("adam_update", "beta2", a.beta2, status));
    DS_TRY(ds_check_positive("adam_update", "epsilon", a.epsilon, status));
    DS_TRY(check_weight_decay("adam_update", a.weight_decay, status));
    DS_TRY(ds_check_same("adam_update", "m", in[1], "x", in[0], status));
    DS_TRY(ds_check_same("adam_update", "v", in[2], "x", in[0], status));
    DS_TRY(ds_check_scalar("adam_update", "step", in[3], status));
    DS_TRY(ds_check_same("adam_update", "gradient", in[4], "x", in[0], status));
    DS_TRY(ds_check_scalar("adam_update", "rate", in[5], status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

static ds_code infer_sgd(const ds_tensor *const in[], int inputs, const int64_t *attr,
                         ds_tensor *out, ds_status *status)
{
    (void)inputs;
    const ds_sgd_update_attr a = DS_ATTR(sgd_update, attr);
    DS_TRY(check_decay("sgd_update", "momentum", a.momentum, status));
    DS_TRY(check_weight_decay("sgd_update", a.weight_decay, status));
    DS_TRY(ds_check_same("sgd_update", "velocity", in[1], "x", in[0], status));
    DS_TRY(ds_check_same("sgd_update", "gradient", in[2], "x", in[0], status));
    DS_TRY(ds_check_scalar("sgd_update", "rate", in[3], status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

static ds_code infer_clamp(const ds_tensor *const in[], int inputs, const int64_t *attr,
                           ds_tensor *out, ds_status *status)
{
    (void)inputs;
    (void)attr;
    DS_TRY(ds_check_vector("clamp_update", "low", in[1], in[0]->shape.c, status));
    DS_TRY(ds_check_vector("clamp_update", "high", in[2], in[0]->shape.c, status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

static ds_code infer_keep(const ds_tensor *const in[], int inputs, const int64_t *attr,
                          ds_tensor *out, ds_status *status)
{
    (void)attr;
    DS_TRY(ds_check_same("keep_update", "x", in[1], "kept", in[0], status));
    if (inputs == 3)
        DS_TRY(ds_fail(status, DS_BAD_VALUE, "keep_update: least needs a value; give both"));
    for (int i = 2; i < inputs; i++)
        DS_TRY(ds_check_scalar("keep_update", i == 2 ? "least" : "value", in[i], status));
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
exit:
    return status->code;
}

const ds_meaning ds_op_adam_update = {.infer = infer_adam, .mutates = 1 | 2 | 4 | 8};
const ds_meaning ds_op_sgd_update = {.infer = infer_sgd, .mutates = 1 | 2};
const ds_meaning ds_op_clamp_update = {.infer = infer_clamp, .mutates = 1};
const ds_meaning ds_op_keep_update = {.infer = infer_keep, .mutates = 1 | 4};
