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

#endif
