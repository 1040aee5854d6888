/* How a convolution is made of products of tiles; made by conv_tiles_plan.c and conv_tiles_gram.c,
   followed by conv_tiles.c and, where the output is measured, conv_tiles_measure.c. */
#ifndef DS_CPU_CONV_TILES_H
#define DS_CPU_CONV_TILES_H

#include "cpu/conv.h"
#include "cpu/tiles.h"

/* Values of a pixel of an image's copy: high and low parts of all channels. */
enum { DS_IMAGE_LANES = 2 * DS_IMAGE_CHANNELS };

/* Where the weights of a kernel position are packed. */
typedef struct ds_tile_spot {
    int64_t phase;
    int64_t cell; /* packed tile of the phase */
    int64_t k;    /* first value of the inner dimension */
} ds_tile_spot;

/* What the outputs of a pair of phases have in common. */
typedef struct ds_tile_phase {
    int64_t cells; /* packed tiles for a block of input channels and 16 output channels */
    int64_t weights;
    const ds_tile_tap *tap;
    int64_t taps;
} ds_tile_phase;

/* The gradient of a Gram matrix, added as one more kernel position. */
typedef struct ds_tile_gram {
    int64_t blocks; /* of 32 features; 0: there is none */
    int64_t parts;  /* of bf16 that a feature is split into: 1 or 2 */
    int64_t copy;   /* values of an item's copies that lie before the features */
    int64_t
        weights;  /* values of 16 output channels' weights that lie before S, (2 parts, blocks) */
    int32_t *row; /* as those of x, without border */
    int32_t *column;
} ds_tile_gram;

typedef struct ds_tile_plan {
    const ds_tile_slots *slots;
    ds_shape x, y; /* as the convolution is computed; see pointwise. With a Gram matrix of one
                      picture, since each has its own S */
    bool pointwise;
    int64_t x_parts, w_parts; /* copies, of bf16, that an operand is split into: 1 or 2 */
    int64_t lanes;            /* of a copied pixel */
    int64_t in_blocks;        /* of 32 channels; of an image: 1 */
    int64_t out_blocks;
    int64_t phases;  /* of rows and of columns */
    int64_t skip;    /* rows of x, and columns, from one that is copied to the next */
    int64_t advance; /* copied rows or columns from an output to the next of its phase */
    int64_t band, segment;
    int64_t bands, segments;
    int64_t item_blocks, sets; /* blocks of output channels of an item; runs of so many */
    int64_t count, length;     /* rows of a copy, and pixels of each */
    int32_t *row;              /* the row of x under each row of the copies, -1: zero */
    int32_t *column;
    ds_tile_phase *phase;  /* (phases, phases) */
    ds_tile_spot *spot;    /* (kernel positions) */
    ds_tile_tap *tap;      /* of all phases */
    int64_t block_weights; /* values of the packed weights of 16 output channels */
    ds_bf16 *kept;         /* packed weights; NULL: packed in every run */
    ds_tile_gram gram;
} ds_tile_plan;

/* Fills a plan but for the packed weights; also where it fails, ds_tile_plan_release follows. */
ds_code ds_tile_plan_make(ds_backend *backend, const ds_step *step, ds_tile_plan *plan,
                          ds_status *status);
void ds_tile_plan_release(ds_backend *backend, ds_tile_plan *plan);

int64_t ds_tile_weight_values(const ds_tile_plan *plan);
void ds_tile_pack_weights(ds_backend *backend, const ds_tile_plan *plan, const ds_conv *conv,
                          ds_bf16 *packed);

/* A map of the size that the convolution reads: x, or what a pool made x of. */
static inline const ds_tensor *ds_tile_input(const ds_conv *conv)
{
    return conv->pooled ? conv->pooled : conv->x;
}

/* conv_tiles_gram.c, in this order: the sizes; the kernel position behind all others; S of picture
   n in every run. */
void ds_tile_gram_size(ds_tile_plan *plan, const ds_epilogue *epilogue);
ds_code ds_tile_gram_make(ds_backend *backend, ds_tile_plan *plan, ds_status *status);
void ds_tile_gram_pack(ds_backend *backend, const ds_tile_plan *plan, const ds_epilogue *epilogue,
                       int64_t n, ds_bf16 *packed);

/* Input rows or columns between two bands or segments, `outputs` apart. */
static inline int64_t ds_tile_apart(const ds_tile_plan *plan, int64_t outputs)
{
    return outputs / plan->phases * plan->advance;
}

/* Outputs of a phase in [begin, end), which starts with the first phase. */
static inline int64_t ds_tile_of_phase(const ds_tile_plan *plan, int64_t begin, int64_t end,
                                       int64_t phase)
{
    return (end - begin - phase + plan->phases - 1) / plan->phases;
}

/* What is summed up for the statistics of y, conv_tiles_measure.c: DS_TILE_STATISTICS floats for
   every block of every tile, (N, blocks, pairs of phases, tiles down, tiles across). Items are cut
   by the number of threads, tiles are not. */
size_t ds_tile_statistics_bytes(const ds_tile_plan *plan, const ds_tensor *y);
float *ds_tile_statistics_at(const ds_tile_plan *plan, float *statistics, int64_t picture_block,
                             int64_t phase, int64_t down, int64_t across);

/* Writes the spreads behind y. */
void ds_tile_measure(ds_backend *backend, const ds_tile_plan *plan, float *statistics,
                     const ds_tensor *y);

static inline int64_t ds_tile_items(const ds_tile_plan *plan)
{
    return plan->y.n * plan->sets * plan->bands * plan->segments;
}

#endif
