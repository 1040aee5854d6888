/* Weak stand-ins for ops whose file has not landed yet: they link, and refuse to be used. */
#include "core/backend.h"

static ds_code refuse(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                      ds_status *status)
{
    (void)in, (void)inputs, (void)attr, (void)out;
    return ds_fail(status, DS_UNSUPPORTED, "this op is not built yet");
}

#define OP(name, fewest, most, text, attributes)                                                   \
    const ds_meaning ds_op_##name __attribute__((weak)) = {.infer = refuse};                       \
    const ds_kernel ds_ref_f32_##name __attribute__((weak)) = {0};                                 \
    const ds_kernel ds_ref_f64_##name __attribute__((weak)) = {0};
#define INT(name, value)
#define REAL(name, value)
#define FLAG(name, value)
#define CHOICE(name, value, names)
#include "core/ops.def"
