/* Shared by the reference kernels: the type they are written in, and how to address planes.
   Every file here is compiled twice, as float and, with DS_REAL_IS_DOUBLE, as double. */
#ifndef DS_REF_REF_H
#define DS_REF_REF_H

#include "core/backend.h"

#ifdef DS_REAL_IS_DOUBLE
typedef double ds_real;
#define DS_REF(name) ds_ref_f64_##name
#else
typedef float ds_real;
#define DS_REF(name) ds_ref_f32_##name
#endif

/* Each op's kernel is `const ds_kernel DS_REF(conv2d) = {.run = ...};` */
#define OP(name, fewest, most, text, attributes) extern const ds_kernel DS_REF(name);
#define INT(name, value)
#define REAL(name, value)
#define FLAG(name, value)
#define CHOICE(name, value, names)
#include "core/ops.def"

const ds_kernel *DS_REF(kernel)(ds_op op);

/* Runs the kernel of a step that has bf16 tensors. */
extern const ds_kernel DS_REF(rounded);

/* Rounds floats to what bf16 holds; `to` may be `from`. */
void DS_REF(round)(const ds_real *from, ds_real *to, int64_t count);

static inline ds_real *ds_real_data(const ds_tensor *tensor)
{
    return tensor->data;
}

/* The address of pixel (0, 0) of map c of picture n. */
static inline ds_real *ds_plane(const ds_tensor *t, int64_t n, int64_t c)
{
    return (ds_real *)t->data + (n * t->shape.c + c) * t->shape.h * t->shape.w;
}

#endif
