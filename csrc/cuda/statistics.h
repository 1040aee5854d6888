/* Mean and variance of each map, for norms, moments and AdaIN. */
#ifndef DS_CUDA_STATISTICS_H
#define DS_CUDA_STATISTICS_H

#include "cuda/device.h"

struct ds_statistics {
    double mean;
    double squares; /* sum of (x - mean)^2 */
};

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

template <class G> struct ds_end_moments {
    G g;
    double pixels;
    __device__ void operator()(int64_t n, int64_t c, const double *sums) const
    {
        const double shift = sums[0] / pixels;
        g(n, c, ds_statistics{sums[2] + shift, fmax(sums[1] - sums[0] * shift, 0.0)});
    }
};

/* Bytes of workspace of measure_maps. */
static inline size_t ds_measure_bytes(ds_shape s)
{
    return ds_map_sum_bytes(s, DS_MOMENT_SUMS);
}

/* measure_maps: g(n, c, statistics) for each map. */
template <class G>
static inline void ds_measure_maps(ds_backend *backend, const ds_view &x, const G &g, void *work)
{
    const double pixels = (double)(x.shape.h * x.shape.w);
    ds_sum_maps<DS_MOMENT_SUMS>(backend, ds_shifted_moments{x}, ds_end_moments<G>{g, pixels},
                                x.shape, work);
}

/* z = (x - mean) * inverse has mean 0 and deviation 1. */
struct ds_normal {
    double mean, inverse;
};

/* Those of all maps, in the workspace, so that a kernel may overwrite x. */
struct ds_normals {
    ds_normal *maps; /* (N, C) */
    int64_t channels;
    __device__ ds_normal &of(int64_t n, int64_t c) const
    {
        return maps[n * channels + c];
    }
};

struct ds_make_normal {
    ds_normals normals;
    double divisor, epsilon;
    __device__ void operator()(int64_t n, int64_t c, const ds_statistics &s) const
    {
        normals.of(n, c) = {s.mean, 1 / sqrt(s.squares / divisor + epsilon)};
    }
};

/* Bytes of workspace of normalise_maps; the normals stay at its end. */
static inline size_t ds_normal_bytes(ds_shape s)
{
    return ds_measure_bytes(s) + (size_t)(s.n * s.c) * sizeof(ds_normal);
}

static inline ds_normals ds_normals_in(ds_shape s, void *work)
{
    return {(ds_normal *)((char *)work + ds_measure_bytes(s)), s.c};
}

/* Measures every map. The variance is divided by the number of pixels less `fewer`. */
static inline ds_normals ds_normalise_maps(ds_backend *backend, const ds_view &x, double epsilon,
                                           bool fewer, void *work)
{
    const ds_normals normals = ds_normals_in(x.shape, work);
    const double divisor = (double)(x.shape.h * x.shape.w) - fewer;
    ds_measure_maps(backend, x, ds_make_normal{normals, divisor, epsilon}, work);
    return normals;
}

/* Two sums over each map, as gradients of norms want. */
struct ds_two_sums {
    double first, second;
};

struct ds_keep_two_sums {
    ds_two_sums *maps; /* (N, C) */
    int64_t channels;
    __device__ void operator()(int64_t n, int64_t c, const double *sums) const
    {
        maps[n * channels + c] = {sums[0], sums[1]};
    }
};

/* Bytes of workspace of sum_maps_twice; the sums stay at its beginning. */
static inline size_t ds_two_sum_bytes(ds_shape s)
{
    return (size_t)(s.n * s.c) * sizeof(ds_two_sums) + ds_map_sum_bytes(s, 2);
}

template <class F>
static inline const ds_two_sums *ds_sum_maps_twice(ds_backend *backend, const F &f, ds_shape s,
                                                   void *work)
{
    ds_two_sums *kept = (ds_two_sums *)work;
    ds_sum_maps<2>(backend, f, ds_keep_two_sums{kept, s.c}, s, kept + s.n * s.c);
    return kept;
}

#endif
