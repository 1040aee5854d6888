#include "cpu/conv.h"

#include <math.h>
#include <string.h>

/* Larger outputs are written past the caches, which they would only sweep clean. */
enum { STREAM_BYTES = 12 << 20 };

#define CONV(a, ...)                                                                               \
    ((ds_conv){.x = step->in[0],                                                                   \
               .w = step->in[1],                                                                   \
               .y = step->out,                                                                     \
               .rounds = ds_step_rounds(step),                                                     \
               .stride = a.stride,                                                                 \
               .dilation = a.dilation,                                                             \
               .groups = a.groups,                                                                 \
               .top = a.pad,                                                                       \
               .left = a.pad,                                                                      \
               .mode = a.pad_mode,                                                                 \
               .up = 1,                                                                            \
               __VA_ARGS__})

ds_conv ds_conv_of(const ds_step *step)
{
    if (step->op == DS_OP_conv2d) {
        ds_conv2d_attr a = DS_ATTR(conv2d, step->attr);
        ds_conv conv = CONV(a, .bias = step->inputs > 2 ? step->in[2] : NULL);
        if (step->prologue.active)
            conv.up = step->prologue.up;
        if (step->prologue.active && a.pad == 0) {
            conv.top = step->prologue.top;
            conv.left = step->prologue.left;
            conv.mode = step->prologue.mode;
        }
        return conv;
    }
    ds_conv2d_backward_input_attr a = DS_ATTR(conv2d_backward_input, step->attr);
    return CONV(a, .backward = true, .pooled = step->prologue.pooled);
}

bool ds_finish_accepts(const ds_step *step)
{
    /* Others turn the zeros of the lanes beyond the channels into something else, or cost more
       than the pass they save. */
    int kind = step->epilogue.activation;
    return !step->epilogue.active || kind == DS_RELU || kind == DS_LEAKY_RELU || kind == DS_RELU6;
}

ds_finish ds_finish_activation(bool active, int kind, double alpha)
{
    return (ds_finish){.active = active,
                       .slope = kind == DS_LEAKY_RELU ? (float)alpha : 0.0f,
                       .high = kind == DS_RELU6 ? 6.0f : INFINITY};
}

ds_finish ds_finish_of(const ds_step *step, const float *bias)
{
    const ds_epilogue *e = &step->epilogue;
    ds_finish finish = ds_finish_activation(e->active, e->activation, e->alpha);
    finish.bias = bias;
    finish.addend = e->addend ? e->addend->data : NULL;
    finish.gate = e->gate ? e->gate->data : NULL;
    finish.stream = ds_stored_bytes(step->out) > STREAM_BYTES;
    return finish;
}

ds_code ds_list_pixels(ds_alloc *alloc, const ds_conv *conv, int64_t first, int64_t step,
                       int64_t count, int64_t size, int32_t **pixel, ds_status *status)
{
    ds_code code = ds_alloc_raw(alloc, (size_t)count * sizeof **pixel, pixel, status);
    for (int64_t i = 0; code == DS_OK && i < count; i++)
        (*pixel)[i] = (int32_t)ds_border(conv, first + i * step, size);
    return code;
}

void ds_pad_bias(const ds_tensor *bias, float *padded, int64_t blocks)
{
    memset(padded, 0, (size_t)(blocks * DS_BLOCK) * sizeof(float));
    if (bias)
        memcpy(padded, bias->data, (size_t)bias->shape.c * sizeof(float));
}
