/* Nonlinearities, and the end that a plan may hang on a convolution. */
#ifndef DS_CUDA_POINTWISE_H
#define DS_CUDA_POINTWISE_H

#include "cuda/device.h"

struct ds_nonlinearity {
    int kind;
    float alpha;

    __device__ float value(float x) const
    {
        switch (kind) {
        case DS_RELU:
            return x < 0 ? 0 : x;
        case DS_LEAKY_RELU:
            return x > 0 ? x : alpha * x;
        case DS_ELU:
            return x > 0 ? x : alpha * expm1f(x);
        case DS_RELU6:
            return x < 0 ? 0 : x > 6 ? 6 : x;
        case DS_SIGMOID:
            return 1 / (1 + expf(-x));
        default:
            return tanhf(x);
        }
    }

    /* From the output. */
    __device__ float derivative(float y) const
    {
        switch (kind) {
        case DS_RELU:
            return y > 0;
        case DS_LEAKY_RELU:
            return y > 0 ? 1 : alpha;
        case DS_ELU:
            return y > 0 ? 1 : y + alpha;
        case DS_RELU6:
            return y > 0 && y < 6;
        case DS_SIGMOID:
            return y * (1 - y);
        default:
            return 1 - y * y;
        }
    }
};

/* The end of a step: what its op makes, plus an addend, through a nonlinearity or its derivative.
   `place` is that of the result in its tensor, and so in addend and gate. */
struct ds_end {
    ds_view addend, gate;
    bool has_addend, has_gate, active;
    ds_nonlinearity f;

    __device__ float of(float value, int64_t place) const
    {
        if (has_addend)
            value += ds_load(addend, place);
        if (active)
            value = has_gate ? value * f.derivative(ds_load(gate, place)) : f.value(value);
        return value;
    }

    __device__ void of_vector(float values[DS_VECTOR], int64_t place) const
    {
        float other[DS_VECTOR];
        if (has_addend)
            ds_load_vector(addend, place, other);
        for (int i = 0; i < DS_VECTOR && has_addend; i++)
            values[i] += other[i];
        if (active && has_gate)
            ds_load_vector(gate, place, other);
        for (int i = 0; i < DS_VECTOR && active; i++)
            values[i] = has_gate ? values[i] * f.derivative(other[i]) : f.value(values[i]);
    }
};

static inline ds_end ds_end_of(const ds_step *step)
{
    const ds_epilogue *e = &step->epilogue;
    ds_end end = {
        {}, {}, e->addend != NULL, e->gate != NULL, e->active, {e->activation, (float)e->alpha}};
    if (e->addend)
        end.addend = ds_view_of(e->addend);
    if (e->gate)
        end.gate = ds_view_of(e->gate);
    return end;
}

/* y = end(f(x, index)), eight channels at a time where their number allows. */
template <class F> struct ds_applied {
    F f;
    ds_view x, y;
    ds_end end;
    bool vectors;
    __device__ void operator()(int64_t i) const
    {
        if (!vectors) {
            ds_store(y, i, end.of(f(ds_load(x, i), ds_index_of(y, i)), i));
            return;
        }
        ds_index at = ds_index_of(y, i * DS_VECTOR);
        float values[DS_VECTOR];
        ds_load_vector(x, i * DS_VECTOR, values);
        for (int j = 0; j < DS_VECTOR; j++, at.c++)
            values[j] = f(values[j], at);
        end.of_vector(values, i * DS_VECTOR);
        ds_store_vector(y, i * DS_VECTOR, values);
    }
};

/* apply: x and y are of one shape and kind. */
template <class F>
static inline void ds_apply(ds_backend *backend, const ds_step *step, const F &f, const ds_view &x)
{
    const ds_view y = ds_view_of(step->out);
    const bool vectors = y.map && y.shape.c % DS_VECTOR == 0;
    ds_each(backend, ds_applied<F>{f, x, y, ds_end_of(step), vectors},
            ds_count(y.shape) / (vectors ? DS_VECTOR : 1));
}

/* `accepts` of a kernel that ends in ds_end. */
static inline bool ds_takes_end(const ds_backend *, const ds_step *step)
{
    return !step->prologue.active;
}

#endif
