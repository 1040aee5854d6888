/* Vectors in device memory for optimisers; as in ds_device. */
#ifndef DS_CUDA_VECTORS_H
#define DS_CUDA_VECTORS_H

#include "cuda/device.h"

/* What a sum needs, and behind it the sum. */
constexpr size_t DS_VECTOR_BYTES = DS_SUM_BYTES + sizeof(double);

double ds_vector_dot(ds_backend *backend, const float *a, const float *b, int64_t count);
double ds_vector_sum_abs(ds_backend *backend, const float *a, int64_t count);
void ds_vector_axpy(ds_backend *backend, float alpha, const float *x, float *y, int64_t count);
void ds_vector_scale(ds_backend *backend, float alpha, float *x, int64_t count);
void ds_vector_copy(ds_backend *backend, const float *from, float *to, int64_t count);

#endif
