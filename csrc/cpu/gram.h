/* Shared by the Gram matrices of floats (gram.c) and of bf16 tiles (gram_tiles.c): how a map is
   cut, and how the pieces are added. */
#ifndef DS_CPU_GRAM_H
#define DS_CPU_GRAM_H

#include "cpu/cpu.h"

/* Pixels of all channels that stay in the second-level cache while all pairs of blocks use them. */
enum { DS_GRAM_CHUNK = 256 };

/* Strips of a map: enough for the threads of a workstation, few enough partial matrices. */
enum { DS_GRAM_STRIPS = 16 };

/* Pixels of a strip: whole chunks, so many that there are at most so many strips. */
static inline int64_t ds_gram_strip(int64_t pixels, int64_t strips)
{
    const int64_t chunks = (pixels + DS_GRAM_CHUNK - 1) / DS_GRAM_CHUNK;
    return (chunks + strips - 1) / strips * DS_GRAM_CHUNK;
}

/* Element (row, column) of S = scale (dG + dG'), with which the gradient is S F. */
static inline float ds_gram_factor(const float *dg, int64_t channels, int64_t row, int64_t column,
                                   double scale)
{
    double sum = (double)dg[row * channels + column] + (double)dg[column * channels + row];
    return (float)(scale * sum);
}

/* The matrices of the strips of one picture, right of their diagonals. */
typedef struct ds_gram_parts {
    const float *partial; /* (strips, padded, padded) */
    int64_t strips, padded, channels;
    double factor;
    float *g; /* (channels, channels) */
} ds_gram_parts;

/* g = factor times the sum, strips in order, mirrored. */
void ds_gram_close(ds_pool *pool, const ds_gram_parts *parts);

#endif
