/* A convolution as cuDNN plans it: NHWC tensors, zero padding, one direction, and an end that it
   may fuse. conv2d.cu makes every convolution of a graph out of these; conv_cudnn.cu is the only
   file that knows cuDNN. */
#ifndef DS_CUDA_CONV_H
#define DS_CUDA_CONV_H

#include "cuda/device.h"

enum ds_conv_direction { DS_CONV_FORWARD, DS_CONV_BACKWARD_INPUT, DS_CONV_BACKWARD_WEIGHT };

struct ds_conv_problem {
    ds_conv_direction direction;
    ds_shape x, w, y; /* w (O, I / groups, kH, kW), stored (O, kH, kW, I / groups) */
    int64_t stride, pad, dilation;
    bool half;     /* operands are bf16; sums are fp32 */
    bool half_out; /* the result is bf16 */
    bool tf32;     /* fp32 operands may be rounded to tf32 */
    /* The end: the result plus bias plus addend, then ReLU, or its derivative where a gate is. */
    bool bias, addend, relu, gate;
};

/* What a run reads and writes; a, b -> out: x, w -> y; dy, w -> dx; x, dy -> dw. Addend and gate
   are of the type and shape of the result, which lies in none of the others. */
struct ds_conv_operands {
    const void *a, *b;
    void *out;
    const float *bias; /* (channels of the result) */
    const void *addend, *gate;
    void *workspace;
};

struct ds_conv;

/* Plans a convolution; *workspace_bytes is what run wants. DS_UNSUPPORTED where cuDNN has nothing
   for this end; without an end it always has. */
ds_code ds_conv_create(ds_backend *backend, const ds_conv_problem *problem, ds_conv **conv,
                       size_t *workspace_bytes, ds_status *status);
void ds_conv_run(ds_backend *backend, const ds_conv *conv, const ds_conv_operands *operands);

/* Accepts NULL. */
void ds_conv_destroy(ds_backend *backend, ds_conv **conv);

/* What was chosen, for the plan's dump. */
const char *ds_conv_name(const ds_conv *conv);

/* What a backend keeps for all its convolutions, made by the first of them. */
void ds_conv_close(ds_backend *backend);

#endif
