#include "cuda/vectors.h"

#include "cuda/transfer.h"

namespace
{

struct product {
    const float *a, *b;
    __device__ double operator()(int64_t i) const
    {
        return (double)a[i] * (double)b[i];
    }
};

struct size {
    const float *a;
    __device__ double operator()(int64_t i) const
    {
        return fabs((double)a[i]);
    }
};

struct store {
    double *out;
    __device__ void operator()(double sum) const
    {
        *out = sum;
    }
};

template <class F> double sum(ds_backend *backend, const F &f, int64_t count)
{
    double *work = ds_cuda_of(backend)->sums, value = 0;
    double *out = work + DS_SUM_BLOCKS;
    ds_sum(backend, f, store{out}, count, work);
    ds_transfer_read(backend, &value, out, sizeof value);
    return value;
}

struct axpy {
    float alpha;
    const float *x;
    float *y;
    __device__ void operator()(int64_t i) const
    {
        y[i] += alpha * x[i];
    }
};

struct scale {
    float alpha, *x;
    __device__ void operator()(int64_t i) const
    {
        x[i] *= alpha;
    }
};

} // namespace

double ds_vector_dot(ds_backend *backend, const float *a, const float *b, int64_t count)
{
    return sum(backend, product{a, b}, count);
}

double ds_vector_sum_abs(ds_backend *backend, const float *a, int64_t count)
{
    return sum(backend, size{a}, count);
}

void ds_vector_axpy(ds_backend *backend, float alpha, const float *x, float *y, int64_t count)
{
    ds_each(backend, axpy{alpha, x, y}, count);
}

void ds_vector_scale(ds_backend *backend, float alpha, float *x, int64_t count)
{
    ds_each(backend, scale{alpha, x}, count);
}

void ds_vector_copy(ds_backend *backend, const float *from, float *to, int64_t count)
{
    ds_cuda_note(backend,
                 cudaMemcpyAsync(to, from, (size_t)count * sizeof(float), cudaMemcpyDeviceToDevice,
                                 ds_cuda_of(backend)->stream),
                 "copy");
}
