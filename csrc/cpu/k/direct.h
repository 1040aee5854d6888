/* Direct convolution: a tile of output pixels by output channels, or, into a picture of up to four
   channels, a dot product over the input channels; see conv_direct.c.

   A tile has 24 accumulators or fewer: 6 pixels by 4 vectors of channels, or, where AVX-512 has no
   more than two vectors to compute, 12 pixels. */

enum { DS_SLOT(direct_piece) = 48 }; /* pixels that share a pass over the weights */

/* total (pixels, 64) += the sum over taps [begin, end) and their channels. */
static inline __attribute__((always_inline)) TARGET void
DS_SLOT(direct_micro)(const ds_direct *d, int64_t begin, int64_t end, const float *x,
                      const float *w, int64_t width, float *total, const int pixels,
                      const int vectors)
{
    const int64_t step = d->x_step;
    vec sum[12][MICRO_VECTORS];
#pragma GCC unroll 12
    for (int i = 0; i < pixels; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[i][j] = v_splat(0.0f);
    for (const ds_tap *tap = d->tap + begin; tap < d->tap + end; tap++) {
        const float *value = x + tap->x, *weight = w + tap->w * width;
        for (int64_t k = 0; k < d->channels; k++, value++, weight += width) {
            vec row[MICRO_VECTORS];
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                row[j] = v_load(weight + j * LANES);
#pragma GCC unroll 12
            for (int i = 0; i < pixels; i++) {
                vec pixel = v_splat(value[i * step]);
#pragma GCC unroll 4
                for (int j = 0; j < vectors; j++)
                    sum[i][j] = v_fma(pixel, row[j], sum[i][j]);
            }
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < pixels; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            float *at = total + i * WINO_GROUP + j * LANES;
            v_store(at, begin ? v_add(v_load(at), sum[i][j]) : sum[i][j]);
        }
}

static inline int64_t DS_SLOT(direct_tile)(const ds_direct *d)
{
    return LANES == DS_BLOCK && d->columns <= 2 * LANES ? 12 : 6;
}

/* The first pixel of a tile. The last one begins early, among pixels that are stored already and
   stay as they are: the addend may lie in the output. A run shorter than a tile reads beyond its
   end. */
static inline int64_t DS_SLOT(direct_first)(const ds_direct *d, int64_t done, int64_t tile)
{
    return done + tile <= d->pixels ? done : d->pixels < tile ? 0 : d->pixels - tile;
}

/* Taps [begin, end) of the tiles that start at `done` and before `stop`, for `vectors` vectors
   of channels. */
static TARGET void DS_SLOT(direct_tiles)(const ds_direct *d, int64_t begin, int64_t end,
                                         int64_t done, int64_t stop, const float *w, int64_t width,
                                         int64_t vectors, float *total)
{
    const int64_t tile = DS_SLOT(direct_tile)(d);
    for (; done < stop; done += tile, total += tile * WINO_GROUP) {
        const float *x = d->x + DS_SLOT(direct_first)(d, done, tile) * d->x_step;
        if (vectors >= MICRO_VECTORS)
            DS_SLOT(direct_micro)(d, begin, end, x, w, width, total, 6, MICRO_VECTORS);
        else if (vectors == 3)
            DS_SLOT(direct_micro)
        (d, begin, end, x, w, width, total, 6, MICRO_VECTORS < 3 ? MICRO_VECTORS : 3);
        else if (vectors == 2)
            DS_SLOT(direct_micro)(d, begin, end, x, w, width, total, LANES == 16 ? 12 : 6, 2);
        else DS_SLOT(direct_micro)(d, begin, end, x, w, width, total, LANES == 16 ? 12 : 6, 1);
    }
}

/* The sums of a piece, all columns; closed about every 64 terms: a sum of sums loses less than one
   long sum, and the weights of 64 terms stay in the first-level cache from tile to tile. */
static TARGET void DS_SLOT(direct_sums)(const ds_direct *d, int64_t done, int64_t stop,
                                        float *total)
{
    const int64_t together = 64 / d->channels;
    /* Without taps, as some phases of a stride are, the sum is zero. */
    for (int64_t begin = 0; begin == 0 || begin < d->taps; begin += together) {
        int64_t end = begin + together < d->taps ? begin + together : d->taps;
        for (int64_t strip = 0; strip < d->columns; strip += STRIP) {
            int64_t width = d->columns - strip < STRIP ? d->columns - strip : STRIP;
            for (int64_t j = 0; j < width; j += MICRO_VECTORS * LANES)
                DS_SLOT(direct_tiles)
            (d, begin, end, done, stop, d->w + strip * d->depth + j, width, (width - j) / LANES,
             total + strip + j);
        }
    }
}

/* Pixels [start, end) of a tile, with their epilogue. */
static TARGET void DS_SLOT(direct_store)(const ds_direct *d, const ds_finish *finish, int64_t start,
                                         int64_t end, const float *total)
{
    const int64_t first = DS_SLOT(direct_first)(d, start, DS_SLOT(direct_tile)(d));
    for (int64_t column = 0; column < d->columns; column += LANES)
        for (int64_t i = start; i < end; i++) {
            int64_t at = column / DS_BLOCK * d->y_block + i * d->y_step + column % DS_BLOCK;
            vec r = v_load(total + (i - first) * WINO_GROUP + column);
            r = DS_SLOT(finish)(r, finish, at, column);
            if (finish->stream)
                v_stream(d->y + at, r);
            else
                v_store(d->y + at, r);
        }
}

/* A run of pixels of one row, into blocks. */
static TARGET void DS_SLOT(direct_row)(const ds_direct *d, const ds_finish *finish)
{
    const int64_t tile = DS_SLOT(direct_tile)(d), piece = DS_SLOT(direct_piece);
    float total[DS_SLOT(direct_piece) * WINO_GROUP];
    for (int64_t done = 0; done < d->pixels; done += piece) {
        int64_t stop = done + piece < d->pixels ? done + piece : d->pixels;
        DS_SLOT(direct_sums)(d, done, stop, total);
        for (int64_t start = done; start < stop; start += tile)
            DS_SLOT(direct_store)
        (d, finish, start, start + tile < stop ? start + tile : stop,
         total + (start - done) * WINO_GROUP);
    }
}

/* `pixels` pixels of `columns` planes: x (pixels, 16 per tap), w (taps, columns, 16). */
static inline __attribute__((always_inline)) TARGET void
DS_SLOT(planar_micro)(const ds_direct *d, int64_t first, const float *bias, const float *addend,
                      const int pixels, const int columns)
{
    vec sum[8][4];
    const float *x = d->x + first * d->x_step;
#pragma GCC unroll 8
    for (int i = 0; i < pixels; i++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++)
            sum[i][c] = v_splat(0.0f);
    for (const ds_tap *tap = d->tap; tap < d->tap + d->taps; tap++)
        for (int64_t lane = 0; lane < DS_BLOCK; lane += LANES) {
            const float *value = x + tap->x + lane, *weight = d->w + tap->w * columns + lane;
            vec w[4];
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++)
                w[c] = v_load(weight + c * DS_BLOCK);
#pragma GCC unroll 8
            for (int i = 0; i < pixels; i++) {
                vec pixel = v_load(value + i * d->x_step);
#pragma GCC unroll 4
                for (int c = 0; c < columns; c++)
                    sum[i][c] = v_fma(pixel, w[c], sum[i][c]);
            }
        }
#pragma GCC unroll 8
    for (int i = 0; i < pixels; i++)
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) {
            int64_t at = c * d->y_block + (first + i) * d->y_step;
            d->y[at] = v_sum(sum[i][c]) + bias[c] + (addend ? addend[at] : 0.0f);
        }
}

#define PLANAR_ROW(columns)                                                                        \
    do {                                                                                           \
        int64_t first = 0;                                                                         \
        for (; first + PLANAR_PIXELS <= d->pixels; first += PLANAR_PIXELS)                         \
            DS_SLOT(planar_micro)                                                                  \
        (d, first, finish->bias, finish->addend, PLANAR_PIXELS, columns);                          \
        for (; first < d->pixels; first++)                                                         \
            DS_SLOT(planar_micro)(d, first, finish->bias, finish->addend, 1, columns);             \
    } while (0)

/* A run of pixels of one row, into planes. */
static TARGET void DS_SLOT(planar_row)(const ds_direct *d, const ds_finish *finish)
{
    switch (d->columns) {
    case 1:
        PLANAR_ROW(1);
        break;
    case 2:
        PLANAR_ROW(2);
        break;
    case 3:
        PLANAR_ROW(3);
        break;
    default:
        PLANAR_ROW(4);
    }
}
#undef PLANAR_ROW
