/* What kernels do to each channel: statistics, sums, and linear maps with one factor per picture
   and channel. Vectors per channel are (N, ds_lanes(x)): in blocked tensors with the empty lanes,
   whose entries are zero. */
#ifndef DS_CPU_CHANNELS_H
#define DS_CPU_CHANNELS_H

#include "cpu/cpu.h"

/* Entries of a vector per channel for one picture. */
static inline int64_t ds_lanes(const ds_tensor *x)
{
    return ds_is_blocked(x) ? ds_blocks(x->shape.c) * DS_BLOCK : x->shape.c;
}

/* Pixels whose sums are formed in float before they are added in double, where no map is bf16. */
enum { DS_CHUNK = 1024 };

/* Mean and sum of squared differences from it, of `count` pixels. */
typedef struct ds_spread {
    double count, mean, squares;
} ds_spread;

ds_spread ds_spread_join(ds_spread a, ds_spread b);

/* What lies behind a measured tensor, (N, lanes). */
static inline ds_spread *ds_spreads_behind(const ds_tensor *x)
{
    return (ds_spread *)(void *)((unsigned char *)x->data + ds_stored_bytes(x));
}

/* Sums over the pixels of a map of s g and s g (x - mean), s being the strength of the pixel. */
typedef struct ds_sums {
    double g, gx;
} ds_sums;

/* Where the kernels below keep what they find, in the workspace of a step. */
enum { DS_CHANNEL_VECTORS = 4 };

typedef struct ds_channels {
    int64_t count;                     /* N * lanes */
    ds_spread *spread;                 /* (N, lanes) */
    ds_sums *sums;                     /* (N, lanes) */
    float *vector[DS_CHANNEL_VECTORS]; /* (N, lanes) each, for the caller */
    float *partial;
} ds_channels;

size_t ds_channels_bytes(const ds_tensor *x);

ds_channels ds_channels_of(const ds_tensor *x, void *workspace);

/* The spread of x: what lies behind it where it is measured, or from a pass over it. */
void ds_channel_spreads(ds_backend *backend, const ds_tensor *x, ds_channels *channels);

/* The sums of g and, unless it is NULL, of x less `mean` (N, lanes). strength (1 or N, 1, H, W)
   only where g is blocked; NULL: 1. */
void ds_channel_sums(ds_backend *backend, const ds_tensor *g, const ds_tensor *x, const float *mean,
                     const ds_tensor *strength, ds_channels *channels);

/* The step's output = scale in[0] + shift, and the step's end; it may lie where in[0] does. */
void ds_scale_channels(ds_backend *backend, const ds_step *step, const float *scale,
                       const float *shift);

/* y = a' g + b x + c with a' = a, or s a + 1 - s where there is a strength s; y may be g or x. */
void ds_combine_channels(ds_backend *backend, const ds_tensor *g, const ds_tensor *x,
                         const float *a, const float *b, const float *c, const ds_tensor *strength,
                         const ds_tensor *y);

#endif
