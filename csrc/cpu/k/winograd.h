/* Winograd's F(4x4, 3x3) on 16 channels at a time; constants and derivation: winograd.c. */

/* B' d of six values `step` floats apart. */
static inline TARGET void DS_SLOT(winograd_in)(const vec d[6], float *out, int64_t step)
{
    const vec a = v_splat(WINO_A), aa = v_splat(WINO_A * WINO_A);
    const vec b = v_splat(WINO_B), bb = v_splat(WINO_B * WINO_B);
    const vec sum = v_splat(WINO_A * WINO_A + WINO_B * WINO_B);
    const vec product = v_splat(WINO_A * WINO_A * WINO_B * WINO_B);
    vec even = v_fnma(bb, d[2], d[4]), odd = v_fnma(bb, d[1], d[3]);
    v_store(out + step, v_fma(a, odd, even));
    v_store(out + 2 * step, v_fnma(a, odd, even));
    even = v_fnma(aa, d[2], d[4]), odd = v_fnma(aa, d[1], d[3]);
    v_store(out + 3 * step, v_fma(b, odd, even));
    v_store(out + 4 * step, v_fnma(b, odd, even));
    v_store(out, v_fma(product, d[0], v_fnma(sum, d[2], d[4])));
    v_store(out + 5 * step, v_fma(product, d[1], v_fnma(sum, d[3], d[5])));
}

/* V = B' d B of one tile: x (6, row, 16 per pixel) -> v (36, stride). */
static TARGET void DS_SLOT(winograd_input)(const float *x, int64_t row, float *v, int64_t stride)
{
    for (int64_t lane = 0; lane < DS_BLOCK; lane += LANES) {
        float half[6 * 6 * LANES]; /* (row of V, column of d, lane) */
        for (int i = 0; i < 6; i++) {
            vec d[6];
            for (int j = 0; j < 6; j++)
                d[j] = v_load(x + j * row + i * DS_BLOCK + lane);
            DS_SLOT(winograd_in)(d, half + i * LANES, 6 * LANES);
        }
        for (int i = 0; i < 6; i++) {
            vec d[6];
            for (int j = 0; j < 6; j++)
                d[j] = v_load(half + (i * 6 + j) * LANES);
            DS_SLOT(winograd_in)(d, v + i * 6 * stride + lane, stride);
        }
    }
}

/* G g of three taps. */
static inline TARGET void DS_SLOT(winograd_tap)(const vec g[3], float *out, int64_t step)
{
    const float aa = WINO_A * WINO_A, bb = WINO_B * WINO_B;
    const vec na = v_splat((float)(0.5 / (aa * (aa - bb)))), ra = v_splat(WINO_A);
    const vec nb = v_splat((float)(0.5 / (bb * (bb - aa)))), rb = v_splat(WINO_B);
    v_store(out, v_mul(g[0], v_splat((float)(1 / (aa * bb)))));
    vec even = v_fma(v_splat(aa), g[2], g[0]), odd = v_mul(ra, g[1]);
    v_store(out + step, v_mul(na, v_add(even, odd)));
    v_store(out + 2 * step, v_mul(na, v_sub(even, odd)));
    even = v_fma(v_splat(bb), g[2], g[0]), odd = v_mul(rb, g[1]);
    v_store(out + 3 * step, v_mul(nb, v_add(even, odd)));
    v_store(out + 4 * step, v_mul(nb, v_sub(even, odd)));
    v_store(out + 5 * step, g[2]);
}

/* U = G g G' for 16 output channels of one input channel: taps (9, 16) -> u (36, stride). */
static TARGET void DS_SLOT(winograd_weights)(const float *taps, float *u, int64_t stride)
{
    for (int64_t lane = 0; lane < DS_BLOCK; lane += LANES) {
        float half[6 * 3 * LANES]; /* (row of U, column of g, lane) */
        for (int i = 0; i < 3; i++) {
            vec g[3];
            for (int j = 0; j < 3; j++)
                g[j] = v_load(taps + (j * 3 + i) * DS_BLOCK + lane);
            DS_SLOT(winograd_tap)(g, half + i * LANES, 3 * LANES);
        }
        for (int i = 0; i < 6; i++) {
            vec g[3];
            for (int j = 0; j < 3; j++)
                g[j] = v_load(half + (i * 3 + j) * LANES);
            DS_SLOT(winograd_tap)(g, u + i * 6 * stride + lane, stride);
        }
    }
}

/* Six tiles by `vectors` vectors of output channels, over up to 64 input channels. Two lines of
   the weights to be used next, `ahead`, are fetched with each channel: with few tiles in a block
   the wait for them shows. */
static inline __attribute__((always_inline)) TARGET void
DS_SLOT(winograd_micro)(const float *v, const float *u, int64_t width, float *m, int64_t channels,
                        bool add, const float *ahead, const int vectors)
{
    vec sum[6][MICRO_VECTORS];
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[i][j] = v_splat(0.0f);
    for (int64_t block = 0; block < channels; block += DS_BLOCK, v += 6 * DS_BLOCK) {
#pragma GCC unroll 2
        for (int k = 0; k < DS_BLOCK; k++, u += width, ahead += width) {
            vec w[MICRO_VECTORS];
            __builtin_prefetch(ahead, 0, 2);
            __builtin_prefetch(ahead + DS_BLOCK, 0, 2);
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                w[j] = v_load(u + j * LANES);
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++) {
                vec x = v_splat(v[i * DS_BLOCK + k]);
#pragma GCC unroll 4
                for (int j = 0; j < vectors; j++)
                    sum[i][j] = v_fma(x, w[j], sum[i][j]);
            }
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            float *at = m + i * WINO_GROUP + j * LANES;
            v_store(at, add ? v_add(v_load(at), sum[i][j]) : sum[i][j]);
        }
}

/* The same for all columns. */
static TARGET void DS_SLOT(winograd_six)(const float *v, const float *u, float *m, int64_t depth,
                                         int64_t columns, int64_t channels, bool add,
                                         const float *ahead)
{
    for (int64_t strip = 0; strip < columns; strip += STRIP) {
        int64_t width = columns - strip < STRIP ? columns - strip : STRIP;
        for (int64_t j = 0; j < width; j += MICRO_VECTORS * LANES) {
            const int64_t at = strip * depth + j;
            const float *weight = u + at, *next = ahead + at;
            float *out = m + strip + j;
            int64_t vectors = (width - j) / LANES;
            if (vectors >= MICRO_VECTORS)
                DS_SLOT(winograd_micro)(v, weight, width, out, channels, add, next, MICRO_VECTORS);
            else if (vectors == 3)
                DS_SLOT(winograd_micro)(v, weight, width, out, channels, add, next,
                                        MICRO_VECTORS < 3 ? MICRO_VECTORS : 3);
            else if (vectors == 2)
                DS_SLOT(winograd_micro)(v, weight, width, out, channels, add, next, 2);
            else
                DS_SLOT(winograd_micro)(v, weight, width, out, channels, add, next, 1);
        }
    }
}

/* Starts reading part `part` of `parts`. */
static inline void DS_SLOT(fetch)(const ds_lines *lines, int64_t part, int64_t parts)
{
    int64_t share = (lines->count + parts - 1) / parts;
    for (int64_t i = part * share; i < (part + 1) * share && i < lines->count; i++)
        __builtin_prefetch(lines->at + i * DS_BLOCK, 0, 2);
}

/* M = V U, or with `add` M += V U, of one of the 36 products: v (depth / 64, sixes, 4, 6, 16) with
   fewer blocks of channels in the last part, u (columns / STRIP, depth, STRIP) with a narrower last
   strip, m (6 sixes, WINO_GROUP). The sum is closed every 64 input channels: a sum of sums loses
   less than one long sum, and the weights of 64 stay in the first cache. The memory to be read
   after this is fetched meanwhile, and `after`, the weights of the product to come. */
static TARGET void DS_SLOT(winograd_multiply)(const float *v, const float *u, float *m,
                                              int64_t sixes, int64_t depth, int64_t columns,
                                              bool add, const float *after,
                                              const ds_lines next[WINO_NEXT])
{
    for (int64_t begin = 0; begin < depth; begin += 64) {
        int64_t channels = depth - begin < 64 ? depth - begin : 64;
        int64_t width = columns < STRIP ? columns : STRIP;
        const float *ahead = begin + 64 < depth ? u + (begin + 64) * width : after;
        for (int64_t six = 0; six < sixes; six++) {
            const float *value = v + (begin * sixes + six * channels) * 6;
            for (int j = 0; begin == 0 && j < WINO_NEXT; j++)
                DS_SLOT(fetch)(&next[j], six, sixes);
            DS_SLOT(winograd_six)(value, u + begin * width, m + six * 6 * WINO_GROUP, depth,
                                  columns, channels, add || begin > 0,
                                  ahead + six % 2 * 2 * DS_BLOCK);
        }
    }
}

/* A' m of six values. */
static inline TARGET void DS_SLOT(winograd_out)(const vec m[6], vec y[4])
{
    const vec a = v_splat(WINO_A), aa = v_splat(WINO_A * WINO_A);
    const vec b = v_splat(WINO_B), bb = v_splat(WINO_B * WINO_B);
    const vec aaa = v_splat(WINO_A * WINO_A * WINO_A), bbb = v_splat(WINO_B * WINO_B * WINO_B);
    vec sa = v_add(m[1], m[2]), da = v_sub(m[1], m[2]);
    vec sb = v_add(m[3], m[4]), db = v_sub(m[3], m[4]);
    y[0] = v_add(m[0], v_add(sa, sb));
    y[1] = v_fma(b, db, v_mul(a, da));
    y[2] = v_fma(bb, sb, v_mul(aa, sa));
    y[3] = v_fma(bbb, db, v_fma(aaa, da, m[5]));
}

/* Y = A' M A of one tile, with its epilogue: m (36, stride) -> the first rows x columns pixels of
   y (4, row, 16 per pixel). */
static TARGET void DS_SLOT(winograd_output)(const float *m, int64_t stride, float *y, int64_t row,
                                            int rows, int columns, const ds_finish *finish)
{
    for (int64_t lane = 0; lane < DS_BLOCK; lane += LANES) {
        vec half[4][6]; /* (row of Y, column of M) */
        for (int i = 0; i < 6; i++) {
            vec d[6], e[4];
            for (int j = 0; j < 6; j++)
                d[j] = v_load(m + (j * 6 + i) * stride + lane);
            DS_SLOT(winograd_out)(d, e);
            for (int j = 0; j < 4; j++)
                half[j][i] = e[j];
        }
        for (int i = 0; i < rows; i++) {
            vec e[4];
            DS_SLOT(winograd_out)(half[i], e);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                int64_t at = i * row + j * DS_BLOCK + lane;
                if (j >= columns)
                    break;
                vec r = DS_SLOT(finish)(e[j], finish, at, lane);
                if (finish->stream)
                    v_stream(y + at, r);
                else
                    v_store(y + at, r);
            }
        }
    }
}
