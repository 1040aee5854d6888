/* Direct convolution: six output pixels at a time by output channels, or, into a picture of up to
   four channels, a dot product over the input channels; see conv_direct.c. */

/* total (6, 64) = the sum over all taps and their channels, closed about every 64 terms: a sum of
   sums loses less than one long sum. */
static inline __attribute__((always_inline)) TARGET void
DS_SLOT(direct_micro)(const ds_direct *d, const float *x, const float *w, int64_t width,
                      float *total, const int vectors)
{
    const int64_t together = 64 / d->channels, step = d->x_step;
    /* Without taps, as some phases of a stride are, the sum is zero. */
    for (int64_t begin = 0; begin == 0 || begin < d->taps; begin += together) {
        int64_t end = begin + together < d->taps ? begin + together : d->taps;
        vec sum[6][MICRO_VECTORS];
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
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
#pragma GCC unroll 6
                for (int i = 0; i < 6; i++) {
                    vec pixel = v_splat(value[i * step]);
#pragma GCC unroll 4
                    for (int j = 0; j < vectors; j++)
                        sum[i][j] = v_fma(pixel, row[j], sum[i][j]);
                }
            }
        }
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) {
                float *at = total + i * WINO_GROUP + j * LANES;
                v_store(at, begin ? v_add(v_load(at), sum[i][j]) : sum[i][j]);
            }
    }
}

/* Pixels [first, first + 6) into total, all columns. */
static TARGET void DS_SLOT(direct_six)(const ds_direct *d, int64_t first, float *total)
{
    const float *x = d->x + first * d->x_step;
    for (int64_t strip = 0; strip < d->columns; strip += STRIP) {
        int64_t width = d->columns - strip < STRIP ? d->columns - strip : STRIP;
        for (int64_t j = 0; j < width; j += MICRO_VECTORS * LANES) {
            const float *w = d->w + strip * d->depth + j;
            float *out = total + strip + j;
            int64_t vectors = (width - j) / LANES;
            if (vectors >= MICRO_VECTORS)
                DS_SLOT(direct_micro)(d, x, w, width, out, MICRO_VECTORS);
            else if (vectors == 3)
                DS_SLOT(direct_micro)(d, x, w, width, out, MICRO_VECTORS < 3 ? MICRO_VECTORS : 3);
            else if (vectors == 2)
                DS_SLOT(direct_micro)(d, x, w, width, out, 2);
            else
                DS_SLOT(direct_micro)(d, x, w, width, out, 1);
        }
    }
}

/* A run of pixels of one row, into blocks. The last six begin early, among pixels that are stored
   already and stay as they are: the addend may lie in the output. A run shorter than six reads
   beyond its end. */
static TARGET void DS_SLOT(direct_row)(const ds_direct *d, const ds_finish *finish)
{
    float total[6 * WINO_GROUP];
    for (int64_t done = 0; done < d->pixels; done += 6) {
        int64_t end = done + 6 < d->pixels ? done + 6 : d->pixels;
        int64_t first = end < 6 ? 0 : end - 6;
        DS_SLOT(direct_six)(d, first, total);
        for (int64_t column = 0; column < d->columns; column += LANES)
            for (int64_t i = done; i < end; i++) {
                int64_t at = column / DS_BLOCK * d->y_block + i * d->y_step + column % DS_BLOCK;
                vec r = v_load(total + (i - first) * WINO_GROUP + column);
                r = DS_SLOT(finish)(r, finish, at, column);
                if (finish->stream)
                    v_stream(d->y + at, r);
                else
                    v_store(d->y + at, r);
            }
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
