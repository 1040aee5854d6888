/* Borders: which pixel stands for one outside, and, for gradients, which outside pixels stand for
   one inside. */
#ifndef DS_CUDA_BORDER_H
#define DS_CUDA_BORDER_H

#include "cuda/device.h"

/* The pixel of a side of `size` that index i shows; -1 for a zero. */
__device__ static inline int64_t ds_border_source(int64_t i, int64_t size, int mode)
{
    if (i >= 0 && i < size)
        return i;
    if (mode == DS_PAD_ZERO)
        return -1;
    if (mode == DS_PAD_REPLICATE)
        return i < 0 ? 0 : size - 1;
    return i < 0 ? -i : 2 * (size - 1) - i;
}

/* The border around a map, as attributes give it. */
struct ds_border {
    int64_t top, bottom, left, right;
    int mode;
};

/* y = x with a border. */
struct ds_add_border {
    ds_view x, y;
    ds_border b;
    /* Of channel c of x, at the place of y. */
    __device__ float value(const ds_index &at, int64_t c) const
    {
        const int64_t h = ds_border_source(at.h - b.top, x.shape.h, b.mode);
        const int64_t w = ds_border_source(at.w - b.left, x.shape.w, b.mode);
        return h < 0 || w < 0 ? 0 : ds_at(x, at.n, c, h, w);
    }
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(y, i);
        ds_store(y, i, value(at, at.c));
    }
};

/* dx = what the border of dy adds to the pixels it was made of. Every pixel of x looks at itself
   and, row by row, at the border, so that nothing is written by two threads. */
struct ds_fold_border {
    ds_view dy, dx;
    ds_border b;

    /* Index i of the bordered side shows pixel `of` of the inner one. */
    __device__ bool shows(int64_t i, int64_t before, int64_t size, int64_t of) const
    {
        return ds_border_source(i - before, size, b.mode) == of;
    }

    __device__ double sum_row(const ds_index &at, int64_t h) const
    {
        const int64_t width = dx.shape.w;
        double sum = ds_at(dy, at.n, at.c, h, at.w + b.left);
        for (int64_t w = 0; w < b.left; w++)
            if (shows(w, b.left, width, at.w))
                sum += ds_at(dy, at.n, at.c, h, w);
        for (int64_t w = b.left + width; w < b.left + width + b.right; w++)
            if (shows(w, b.left, width, at.w))
                sum += ds_at(dy, at.n, at.c, h, w);
        return sum;
    }

    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(dx, i);
        const int64_t height = dx.shape.h;
        double sum = sum_row(at, at.h + b.top);
        for (int64_t h = 0; h < b.top; h++)
            if (shows(h, b.top, height, at.h))
                sum += sum_row(at, h);
        for (int64_t h = b.top + height; h < b.top + height + b.bottom; h++)
            if (shows(h, b.top, height, at.h))
                sum += sum_row(at, h);
        ds_store(dx, i, (float)sum);
    }
};

#endif
