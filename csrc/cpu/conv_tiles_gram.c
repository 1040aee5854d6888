/* The gradient S F of a Gram matrix, S = scale (dG + dG'), in the sums of a convolution: one more
   kernel position, which meets the features under an output and whose weights are S. Both lose
   little: S is split into two bf16, and so are features of floats. */
#include "cpu/conv_tiles.h"
#include "cpu/gram.h"

void ds_tile_gram_size(ds_tile_plan *plan, const ds_epilogue *epilogue)
{
    if (!epilogue->features)
        return;
    plan->gram.blocks = plan->out_blocks;
    plan->gram.parts = ds_is_half(epilogue->features) ? 1 : 2;
}

static void make_taps(ds_tile_plan *plan)
{
    /* The products of two high parts, and of a high and a low one: one after the other, so that the
       features of the second come from the first-level cache. */
    static const int64_t PAIRS[3][2] = {{0, 0}, {0, 1}, {1, 0}}; /* of F and of S: 1 is low */
    ds_tile_gram *gram = &plan->gram;
    ds_tile_phase *p = &plan->phase[0];
    ds_tile_tap *tap = plan->tap + p->taps;
    gram->copy = plan->x_parts * plan->in_blocks * plan->count * plan->length * plan->lanes;
    gram->weights = plan->block_weights;
    for (int64_t block = 0; block < gram->blocks; block++)
        for (int64_t pair = 0; pair < gram->parts + 1; pair++) {
            int64_t f = PAIRS[pair][0] * gram->blocks + block;
            int64_t s = PAIRS[pair][1] * gram->blocks + block;
            *tap++ = (ds_tile_tap){.x = gram->copy + f * plan->band * plan->length * plan->lanes,
                                   .w = gram->weights + s * DS_TILE_VALUES,
                                   .count = 1};
        }
    p->taps = tap - p->tap;
    plan->block_weights += 2 * gram->blocks * DS_TILE_VALUES;
}

ds_code ds_tile_gram_make(ds_backend *backend, ds_tile_plan *plan, ds_status *status)
{
    const ds_conv same = {.up = 1, .mode = DS_PAD_ZERO};
    if (!plan->gram.blocks)
        return DS_OK;
    make_taps(plan);
    DS_TRY(ds_list_pixels(backend->alloc, &same, 0, 1, plan->bands * plan->band, plan->y.h,
                          &plan->gram.row, status));
    DS_TRY(ds_list_pixels(backend->alloc, &same, 0, 1, plan->segments * plan->segment, plan->y.w,
                          &plan->gram.column, status));
exit:
    return status->code;
}

typedef struct packing {
    const ds_tile_plan *plan;
    const float *dg; /* (channels, channels) */
    int64_t channels;
    double scale;
    ds_bf16 *packed;
} packing;

/* Item: 16 output channels. */
static void pack_task(void *context, int64_t item, int worker)
{
    const packing *job = context;
    const ds_tile_plan *plan = job->plan;
    int64_t c = job->channels, low = plan->gram.blocks * DS_TILE_VALUES;
    ds_bf16 *to = job->packed + item * plan->block_weights + plan->gram.weights;
    (void)worker;
    for (int64_t in = 0; in < plan->gram.blocks * DS_TILE_DEPTH; in += 2, to += DS_TILE_DEPTH)
        for (int64_t i = 0; i < DS_TILE_DEPTH; i++) {
            int64_t row = item * DS_TILE_ROWS + i / 2, column = in + i % 2;
            bool inside = row < c && column < c;
            float s = inside ? ds_gram_factor(job->dg, c, row, column, job->scale) : 0;
            to[i] = ds_narrow(s);
            to[low + i] = ds_rest(s, to[i]);
        }
}

void ds_tile_gram_pack(ds_backend *backend, const ds_tile_plan *plan, const ds_epilogue *epilogue,
                       int64_t n, ds_bf16 *packed)
{
    int64_t c = epilogue->features->shape.c;
    packing job = {.plan = plan,
                   .dg = (const float *)epilogue->dg->data + n * c * c,
                   .channels = c,
                   .scale = epilogue->scale,
                   .packed = packed};
    ds_pool_run(backend->pool, 2 * plan->out_blocks, pack_task, &job);
}
