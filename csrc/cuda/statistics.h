/* Mean and variance of each map, for norms, moments and AdaIN. */
#ifndef DS_CUDA_STATISTICS_H
#define DS_CUDA_STATISTICS_H

#include "cuda/device.h"

/* Sums of x - x0 and of its square, and x0, the first pixel of the map, which takes away the part
   of the mean that would cancel. */
struct ds_shifted_moments {
    ds_view x;
    __device__ void operator()(int64_t n, int64_t c, int64_t k, double *sums) const
    {
        const double first = ds_pixel(x, n, c, 0), shifted = ds_pixel(x, n, c, k) - first;
        sums[0] += shifted;
        sums[1] += shifted * shifted;
        sums[2] += k == 0 ? first : 0;
    }
};

enum { DS_MOMENT_SUMS = 3 };

struct ds_statistics {
    double mean;
    double squares; /* sum of (x - mean)^2 */
    double count;
};

/* Statistics of map c of picture n, or of map c of all pictures together. They stand in the sums
   alone, so that a kernel may overwrite x. */
struct ds_map_statistics {
    ds_view x;
    ds_map_sums<DS_MOMENT_SUMS> sums;

    __device__ ds_statistics of(int64_t n, int64_t c) const
    {
        const double *s = sums.of(n, c);
        const double pixels = (double)(x.shape.h * x.shape.w), shift = s[0] / pixels;
        return {s[2] + shift, fmax(s[1] - s[0] * shift, 0.0), pixels};
    }

    __device__ ds_statistics of_batch(int64_t c) const
    {
        ds_statistics all = of(0, c);
        for (int64_t n = 1; n < x.shape.n; n++) {
            const ds_statistics next = of(n, c);
            const double count = all.count + next.count, apart = next.mean - all.mean;
            all.mean += apart * next.count / count;
            all.squares += next.squares + apart * apart * all.count * next.count / count;
            all.count = count;
        }
        return all;
    }
};

/* Bytes of workspace of measure_maps. */
static inline size_t ds_measure_bytes(ds_shape s)
{
    return ds_map_sum_bytes(s, DS_MOMENT_SUMS);
}

static inline ds_map_statistics ds_measure_maps(ds_backend *backend, const ds_view &x, void *work)
{
    return {x, ds_sum_maps<DS_MOMENT_SUMS>(backend, ds_shifted_moments{x}, x.shape, work)};
}

#endif
