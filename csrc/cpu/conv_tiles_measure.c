/* The statistics of a convolution's output from what its tiles have summed up. */
#include "cpu/channels.h"
#include "cpu/conv_tiles.h"

/* Rows and columns of tiles of the first pair of phases, which has the most. */
static int64_t tiles_down(const ds_tile_plan *plan)
{
    return ds_round_up(ds_tile_of_phase(plan, 0, plan->y.h, 0), DS_TILE_GROUP) / DS_TILE_GROUP;
}

static int64_t tiles_across(const ds_tile_plan *plan)
{
    return ds_round_up(ds_tile_of_phase(plan, 0, plan->y.w, 0), DS_TILE_ROWS) / DS_TILE_ROWS;
}

size_t ds_tile_statistics_bytes(const ds_tile_plan *plan, const ds_tensor *y)
{
    int64_t tiles = plan->phases * plan->phases * tiles_down(plan) * tiles_across(plan);
    if (!y->measured)
        return 0;
    return (size_t)(y->shape.n * plan->out_blocks * tiles * DS_TILE_STATISTICS) * sizeof(float);
}

float *ds_tile_statistics_at(const ds_tile_plan *plan, float *statistics, int64_t picture_block,
                             int64_t phase, int64_t down, int64_t across)
{
    int64_t row = (picture_block * plan->phases * plan->phases + phase) * tiles_down(plan) + down;
    return statistics + (row * tiles_across(plan) + across) * DS_TILE_STATISTICS;
}

typedef struct joint {
    const ds_tile_plan *plan;
    float *statistics;
    const ds_tensor *y;
} joint;

/* 16 channels of a block of a picture. */
typedef struct lanes {
    int64_t picture_block, first; /* among the block's 32 */
    double mean[DS_BLOCK];
    double sum[DS_BLOCK]; /* of all values */
    double squares[DS_BLOCK];
} lanes;

/* Adds a tile of `count` values of a channel. */
static void add_sums(lanes *l, const float *tile, double count)
{
    const float *first = tile + l->first, *more = first + DS_TILE_DEPTH;
    for (int64_t i = 0; i < DS_BLOCK; i++)
        l->sum[i] += count * (double)first[i] + (double)more[i];
}

/* Adds a tile's squared differences from the mean of all. */
static void add_squares(lanes *l, const float *tile, double count)
{
    const float *first = tile + l->first, *more = first + DS_TILE_DEPTH;
    const float *square = more + DS_TILE_DEPTH;
    for (int64_t i = 0; i < DS_BLOCK; i++) {
        double apart = (double)first[i] - l->mean[i];
        l->squares[i] += (double)square[i] + apart * (2 * (double)more[i] + count * apart);
    }
}

/* Adds all tiles, in one order. */
static void add_tiles(const joint *j, lanes *l, void (*add)(lanes *, const float *, double))
{
    const ds_tile_plan *plan = j->plan;
    for (int64_t phase = 0; phase < plan->phases * plan->phases; phase++) {
        int64_t rows = ds_tile_of_phase(plan, 0, plan->y.h, phase / plan->phases);
        int64_t columns = ds_tile_of_phase(plan, 0, plan->y.w, phase % plan->phases);
        for (int64_t y = 0; y < rows; y += DS_TILE_GROUP)
            for (int64_t x = 0; x < columns; x += DS_TILE_ROWS) {
                int64_t count =
                    ds_minimum(rows - y, DS_TILE_GROUP) * ds_minimum(columns - x, DS_TILE_ROWS);
                add(l,
                    ds_tile_statistics_at(plan, j->statistics, l->picture_block, phase,
                                          y / DS_TILE_GROUP, x / DS_TILE_ROWS),
                    (double)count);
            }
    }
}

/* Item: 16 channels. */
static void join_task(void *context, int64_t item, int worker)
{
    const joint *j = context;
    const int64_t sets = ds_blocks(j->y->shape.c), n = item / sets, set = item % sets;
    const double count = (double)(j->y->shape.h * j->y->shape.w);
    lanes l = {.picture_block = n * j->plan->out_blocks + set / 2, .first = set % 2 * DS_BLOCK};
    ds_spread *to = ds_spreads_behind(j->y) + item * DS_BLOCK;
    (void)worker;
    add_tiles(j, &l, add_sums);
    for (int64_t i = 0; i < DS_BLOCK; i++)
        l.mean[i] = l.sum[i] / count;
    add_tiles(j, &l, add_squares);
    for (int64_t i = 0; i < DS_BLOCK; i++)
        to[i] = (ds_spread){.count = count, .mean = l.mean[i], .squares = l.squares[i]};
}

void ds_tile_measure(ds_backend *backend, const ds_tile_plan *plan, float *statistics,
                     const ds_tensor *y)
{
    joint j = {.plan = plan, .statistics = statistics, .y = y};
    ds_pool_run(backend->pool, y->shape.n * ds_blocks(y->shape.c), join_task, &j);
}
