#include "cuda/device.h"

namespace
{

struct forward {
    ds_view x, y;
    int64_t pool;

    __device__ double block_mean(ds_index at, int64_t i, int64_t j, int64_t c) const
    {
        double sum = 0;
        for (int64_t h = i * pool; h < (i + 1) * pool; h++)
            for (int64_t w = j * pool; w < (j + 1) * pool; w++)
                sum += ds_at(x, at.n, c, h, w);
        return sum / (double)(pool * pool);
    }

    __device__ void operator()(int64_t k) const
    {
        const ds_index at = ds_index_of(y, k);
        const int64_t i = at.h, j = at.w;
        double sum = 0;
        for (int64_t c = 0; c < x.shape.c; c++)
            sum += 4 * block_mean(at, i + 1, j + 1, c) - block_mean(at, i, j + 1, c) -
                   block_mean(at, i + 2, j + 1, c) - block_mean(at, i + 1, j, c) -
                   block_mean(at, i + 1, j + 2, c);
        ds_store(y, k, (float)sum);
    }
};

struct backward {
    ds_view dy, dx;
    int64_t pool;

    __device__ double at(int64_t n, int64_t i, int64_t j) const
    {
        const bool inside = i >= 0 && i < dy.shape.h && j >= 0 && j < dy.shape.w;
        return inside ? ds_at(dy, n, 0, i, j) : 0;
    }

    __device__ void operator()(int64_t k) const
    {
        const ds_index x = ds_index_of(dx, k);
        const int64_t i = x.h / pool, j = x.w / pool, n = x.n;
        const double sum = 4 * at(n, i - 1, j - 1) - at(n, i, j - 1) - at(n, i - 2, j - 1) -
                           at(n, i - 1, j) - at(n, i - 1, j - 2);
        const bool left_over = i >= dx.shape.h / pool || j >= dx.shape.w / pool;
        ds_store(dx, k, left_over ? 0 : (float)(sum / (double)(pool * pool)));
    }
};

void run(ds_backend *backend, const ds_step *step)
{
    const forward f = {ds_view_of(step->in[0]), ds_view_of(step->out),
                       DS_ATTR(laplacian, step->attr).pool};
    ds_each(backend, f, ds_count(step->out->shape));
}

void run_backward(ds_backend *backend, const ds_step *step)
{
    const backward f = {ds_view_of(step->in[0]), ds_view_of(step->out),
                        DS_ATTR(laplacian_backward, step->attr).pool};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_laplacian = {.run = run};
const ds_kernel ds_cuda_laplacian_backward = {.run = run_backward};
