#include "ref/ref.h"

/* The mean of block (i, j) of one map of width w. */
static double block_mean(const ds_real *map, int64_t w, int64_t pool, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t y = i * pool; y < (i + 1) * pool; y++)
        for (int64_t x = j * pool; x < (j + 1) * pool; x++)
            sum += (double)map[y * w + x];
    return sum / (double)(pool * pool);
}

static void run(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0];
    const ds_shape s = x->shape, o = step->out->shape;
    const int64_t pool = DS_ATTR(laplacian, step->attr).pool;
    (void)backend;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t i = 0; i < o.h; i++)
            for (int64_t j = 0; j < o.w; j++) {
                double sum = 0;
                for (int64_t c = 0; c < s.c; c++) {
                    const ds_real *map = ds_plane(x, n, c);
                    sum += 4 * block_mean(map, s.w, pool, i + 1, j + 1) -
                           block_mean(map, s.w, pool, i, j + 1) -
                           block_mean(map, s.w, pool, i + 2, j + 1) -
                           block_mean(map, s.w, pool, i + 1, j) -
                           block_mean(map, s.w, pool, i + 1, j + 2);
                }
                ds_plane(step->out, n, 0)[i * o.w + j] = (ds_real)sum;
            }
}

/* dy at (i, j), zero outside. */
static double at(const ds_tensor *dy, int64_t n, int64_t i, int64_t j)
{
    const ds_shape s = dy->shape;
    const bool inside = i >= 0 && i < s.h && j >= 0 && j < s.w;
    return inside ? (double)ds_plane(dy, n, 0)[i * s.w + j] : 0;
}

static void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *dy = step->in[0];
    const ds_shape s = step->out->shape;
    const int64_t pool = DS_ATTR(laplacian_backward, step->attr).pool;
    (void)backend;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++)
            for (int64_t y = 0; y < s.h; y++)
                for (int64_t x = 0; x < s.w; x++) {
                    const int64_t i = y / pool, j = x / pool;
                    const double sum = 4 * at(dy, n, i - 1, j - 1) - at(dy, n, i, j - 1) -
                                       at(dy, n, i - 2, j - 1) - at(dy, n, i - 1, j) -
                                       at(dy, n, i - 1, j - 2);
                    const bool left_over = i >= s.h / pool || j >= s.w / pool;
                    ds_plane(step->out, n, c)[y * s.w + x] =
                        left_over ? 0 : (ds_real)(sum / (double)(pool * pool));
                }
}

const ds_kernel DS_REF(laplacian) = {.run = run};
const ds_kernel DS_REF(laplacian_backward) = {.run = run_backward};
