/* Shapes and tensors. Every tensor is 4-D: feature maps (N, C, H, W), convolution weights
   (O, I, kH, kW), Gram matrices (N, 1, C, C), vectors per channel (1, C, 1, 1), scalars
   (1, 1, 1, 1). */
#ifndef DS_CORE_TENSOR_H
#define DS_CORE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ds_dtype {
    DS_F32,
    DS_F64,  /* `ref` only: the reference of the tests */
    DS_BF16, /* some maps of a plan; see ds_precision */
} ds_dtype;

/* How the tensors of a plan are stored and multiplied. In bf16, maps of more than 4 channels are
   stored as bf16, in mixed those of gradients alone; all else is fp32. A convolution that reads or
   writes a bf16 map rounds its operands, weights too, to bf16, an image to the sum of two, and sums
   their products in fp32; every other op computes in fp32. A result is rounded once, where it is
   stored. */
typedef enum ds_precision {
    DS_PRECISION_FP32,
    DS_PRECISION_TF32, /* `cuda` only: convolutions may round their operands to tf32 */
    DS_PRECISION_BF16,
    DS_PRECISION_MIXED,
} ds_precision;

/* Where a backend may choose its own layout. */
typedef enum ds_kind {
    DS_PLAIN, /* planar NCHW on every backend: weights, matrices, vectors, masks, scalars */
    DS_MAP,   /* feature maps and images: the backend's layout */
} ds_kind;

typedef struct ds_shape {
    int64_t n, c, h, w;
} ds_shape;

typedef struct ds_tensor {
    ds_shape shape;
    ds_kind kind;
    ds_dtype dtype;
    void *data;
    bool measured; /* behind the last value lie statistics of each channel; see ds_kernel */
} ds_tensor;

/* Elements, without the padding a layout may add. Shapes of a graph never overflow this. */
static inline int64_t ds_count(ds_shape s)
{
    return s.n * s.c * s.h * s.w;
}

static inline bool ds_same_shape(ds_shape a, ds_shape b)
{
    return a.n == b.n && a.c == b.c && a.h == b.h && a.w == b.w;
}

static inline bool ds_is_scalar(ds_shape s)
{
    return ds_count(s) == 1;
}

/* Maps of so few channels are pictures, or as few numbers, and never stored as bf16. */
enum { DS_IMAGE_CHANNELS = 4 };

static inline bool ds_is_image(const ds_tensor *tensor)
{
    return tensor->kind == DS_MAP && tensor->shape.c <= DS_IMAGE_CHANNELS;
}

static inline bool ds_is_half(const ds_tensor *tensor)
{
    return tensor->dtype == DS_BF16;
}

static inline size_t ds_dtype_bytes(ds_dtype dtype)
{
    return dtype == DS_F64 ? sizeof(double) : dtype == DS_BF16 ? sizeof(uint16_t) : sizeof(float);
}

#endif
