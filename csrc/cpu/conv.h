/* The convolution kernels of the cpu backend, and what they share. */
#ifndef DS_CPU_CONV_H
#define DS_CPU_CONV_H

#include "cpu/cpu.h"
#include "cpu/slots.h"

/* A conv2d or conv2d_backward_input step, seen as the convolution that computes step->out: for
   backward that is the one with flipped and transposed weights. */
typedef struct ds_conv {
    const ds_tensor *x;    /* (N, I, H, W); backward: dy */
    const ds_tensor *w;    /* as the step has it, (O, I, kH, kW) */
    const ds_tensor *y;    /* (N, O, H', W'); backward: dx */
    const ds_tensor *bias; /* NULL: none */
    bool backward;
    bool reflect;
    int64_t stride, pad, dilation, groups; /* the step's own */
} ds_conv;

ds_conv ds_conv_of(const ds_step *step);

/* Whether ds_finish can do the step's epilogue. */
bool ds_finish_accepts(const ds_step *step);

/* The step's epilogue; `bias` as ds_finish has it, for the first channels. */
ds_finish ds_finish_of(const ds_step *step, const float *bias);

/* The epilogue for the output `floats` further on, whose channels start at `channel`. */
ds_finish ds_finish_at(const ds_finish *finish, int64_t floats, int64_t channel);

/* Writes the bias into padded (blocks, 16), zero beyond its channels; NULL bias: zeros. */
void ds_pad_bias(const ds_tensor *bias, float *padded, int64_t blocks);

/* Where pixel i of an axis of `size` is found when the border reflects or is zero: -1 for zero.
   Beyond one reflection nothing is asked for. */
static inline int64_t ds_border(int64_t i, int64_t size, bool reflect)
{
    if (i >= 0 && i < size)
        return i;
    int64_t mirrored = i < 0 ? -i : 2 * (size - 1) - i;
    return reflect && mirrored >= 0 && mirrored < size ? mirrored : -1;
}

#endif
