/* Vectors in device memory for optimisers; as in ds_device. */
#ifndef DS_CUDA_VECTORS_H
#define DS_CUDA_VECTORS_H

#include "cuda/device.h"

constexpr int DS_DOT_CHUNKS = 64; /* pieces of a vector at most; as many on every device */

/* What the products of DS_ROWS rows need: those of each piece, and behind them the sums. */
constexpr size_t DS_VECTOR_BYTES = (DS_DOT_CHUNKS + 1) * (DS_ROWS + 2) * 2 * sizeof(double);

void ds_vector_dots(ds_backend *backend, int64_t length, const float *a, const float *b,
                    const float *const *rows, int64_t count, double *sums);
void ds_vector_combine(ds_backend *backend, int64_t length, const float *const *rows,
                       const double *factors, int64_t count, float *out);

#endif
