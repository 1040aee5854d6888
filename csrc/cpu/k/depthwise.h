/* Convolution of each channel with its own kernel; see conv_depthwise.c. */

enum { DS_SLOT(depthwise_tile) = 8 }; /* pixels computed together */

/* `pixels` pixels from `first` of one row; those from `done` on are stored. */
static inline __attribute__((always_inline)) TARGET void
DS_SLOT(depthwise_micro)(const ds_direct *d, const ds_finish *finish, int64_t first, int64_t done,
                         int64_t lane)
{
    const float *x = d->x + first * d->x_step + lane, *w = d->w + lane;
    const int64_t step = d->x_step;
    vec sum[DS_SLOT(depthwise_tile)];
#pragma GCC unroll 8
    for (int i = 0; i < DS_SLOT(depthwise_tile); i++)
        sum[i] = v_splat(0.0f);
    for (const ds_tap *tap = d->tap; tap < d->tap + d->taps; tap++) {
        const vec weight = v_load(w + tap->w);
        const float *value = x + tap->x;
#pragma GCC unroll 8
        for (int i = 0; i < DS_SLOT(depthwise_tile); i++)
            sum[i] = v_fma(v_load(value + i * step), weight, sum[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < DS_SLOT(depthwise_tile); i++) {
        int64_t pixel = first + i, at = pixel * d->y_step + lane;
        if (pixel < done || pixel >= d->pixels)
            continue;
        vec r = DS_SLOT(finish)(sum[i], finish, at, lane);
        if (finish->stream)
            v_stream(d->y + at, r);
        else
            v_store(d->y + at, r);
    }
}

/* A run of pixels of one row of a block. The last pixels are computed with some before them that
   are stored already; a short run reads beyond its end. */
static TARGET void DS_SLOT(depthwise_row)(const ds_direct *d, const ds_finish *finish)
{
    const int64_t tile = DS_SLOT(depthwise_tile);
    for (int64_t done = 0; done < d->pixels; done += tile) {
        int64_t first = done + tile <= d->pixels ? done : d->pixels < tile ? 0 : d->pixels - tile;
        for (int64_t lane = 0; lane < DS_BLOCK; lane += LANES)
            DS_SLOT(depthwise_micro)(d, finish, first, done, lane);
    }
}
