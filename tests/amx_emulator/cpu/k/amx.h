/* AMX's tile registers in plain C, in the place of csrc/cpu/k/amx.h: whoever uses them wrongly gets
   NaN. That is without a configuration or with a second one before the first was given back, with
   one that the processor refuses, tiles of sizes that do not fit, or a tile that nothing was loaded
   into. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define TILE_TARGET __attribute__((target("avx512f,fma")))

enum { TWIN_TILES = 8, TWIN_ROWS = 16, TWIN_BYTES = 64, TWIN_COLUMNS = 16 };

typedef struct twin_tile {
    bool loaded;
    int rows, bytes; /* of the configuration */
    unsigned char data[TWIN_ROWS][TWIN_BYTES];
} twin_tile;

typedef struct twin_state {
    bool configured;
    bool misused; /* from then on every product is NaN */
    twin_tile tile[TWIN_TILES];
} twin_state;

static _Thread_local twin_state twin;

static inline bool twin_is_valid(const unsigned char config[64])
{
    uint16_t bytes[16];
    memcpy(bytes, config + 16, sizeof bytes);
    bool valid = config[0] == 1 && config[1] == 0;
    for (int i = 2; i < 16; i++)
        valid = valid && config[i] == 0;
    for (int t = 0; t < 16; t++) {
        bool used = t < TWIN_TILES, empty = bytes[t] == 0 && config[48 + t] == 0;
        valid = valid && (used || empty) && bytes[t] <= TWIN_BYTES && bytes[t] % 4 == 0 &&
                config[48 + t] <= TWIN_ROWS;
    }
    return valid;
}

static inline void tile_configure(const void *config)
{
    unsigned char c[64];
    uint16_t bytes[16];
    memcpy(c, config, sizeof c);
    memcpy(bytes, c + 16, sizeof bytes);
    twin.misused = twin.misused || twin.configured || !twin_is_valid(c);
    twin.configured = true;
    for (int t = 0; t < TWIN_TILES; t++)
        twin.tile[t] = (twin_tile){.rows = c[48 + t], .bytes = bytes[t]};
}

static inline void tile_release(void)
{
    twin.misused = twin.misused || !twin.configured;
    twin.configured = false;
}

/* A tile about to be used; misuse where it cannot be. */
static inline twin_tile *twin_use(int t, bool loaded)
{
    twin_tile *tile = &twin.tile[t];
    twin.misused = twin.misused || !twin.configured || tile->rows == 0 || tile->bytes == 0 ||
                   (loaded && !tile->loaded);
    return tile;
}

static inline void tile_zero(int t)
{
    twin_tile *tile = twin_use(t, false);
    memset(tile->data, 0, sizeof tile->data);
    tile->loaded = true;
}

static inline void tile_load(int t, const void *from, int64_t stride)
{
    twin_tile *tile = twin_use(t, false);
    memset(tile->data, 0, sizeof tile->data);
    for (int row = 0; row < tile->rows; row++)
        memcpy(tile->data[row], (const char *)from + row * stride, (size_t)tile->bytes);
    tile->loaded = true;
}

static inline void tile_store(int t, void *to, int64_t stride)
{
    const twin_tile *tile = twin_use(t, true);
    const float nan = NAN;
    for (int row = 0; row < tile->rows; row++) {
        char *at = (char *)to + row * stride;
        memcpy(at, tile->data[row], (size_t)tile->bytes);
        for (int i = 0; twin.misused && i < tile->bytes; i += 4)
            memcpy(at + i, &nan, sizeof nan);
    }
}

static inline float twin_widen(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Subnormal numbers are zero, before and after. */
static inline float twin_flush(float value)
{
    return fabsf(value) < FLT_MIN ? 0.0f : value;
}

/* One row of c: sums of the even and of the odd values of the inner dimension, each value's product
   rounded with its sum, then the two together, then c. */
static inline TILE_TARGET void twin_add_row(const uint32_t *a, const twin_tile *b, int depth,
                                            float *c)
{
    float even[TWIN_COLUMNS] = {0}, odd[TWIN_COLUMNS] = {0};
    for (int k = 0; k < depth; k++) {
        uint32_t right[TWIN_COLUMNS];
        memcpy(right, b->data[k], sizeof right);
        const float low = twin_flush(twin_widen(a[k] << 16));
        const float high = twin_flush(twin_widen(a[k] & 0xffff0000u));
        for (int n = 0; n < TWIN_COLUMNS; n++) {
            const float first = twin_flush(twin_widen(right[n] << 16));
            const float second = twin_flush(twin_widen(right[n] & 0xffff0000u));
            even[n] = twin_flush(fmaf(low, first, even[n]));
            odd[n] = twin_flush(fmaf(high, second, odd[n]));
        }
    }
    for (int n = 0; n < TWIN_COLUMNS; n++)
        c[n] = twin_flush(c[n] + twin_flush(even[n] + odd[n]));
}

static inline TILE_TARGET void tile_add(int to, int left, int right)
{
    twin_tile *c = twin_use(to, true);
    const twin_tile *a = twin_use(left, true), *b = twin_use(right, true);
    twin.misused = twin.misused || to == left || to == right || left == right ||
                   c->rows != a->rows || c->bytes != b->bytes || a->bytes != 4 * b->rows;
    for (int row = 0; row < c->rows; row++) {
        uint32_t pairs[TWIN_BYTES / 4];
        float sums[TWIN_COLUMNS];
        memcpy(pairs, a->data[row], sizeof pairs);
        memcpy(sums, c->data[row], sizeof sums);
        twin_add_row(pairs, b, a->bytes / 4, sums);
        memcpy(c->data[row], sums, sizeof sums);
    }
}

#define tile_fence() ((void)0)
