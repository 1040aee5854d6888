/* Products of bf16 matrices, the inner loops of convolutions and Gram matrices on processors that
   have instructions for them. Everything is made of tiles: 16 rows of 32 values of bf16, 64 bytes
   each. There are two implementations, on vectors (AVX512-BF16) and on tile registers (AMX), that
   read the same memory.

   The left factor's rows are pixels, one after the other or some bytes apart, with 32 values of an
   inner dimension (channels of a map's block, or 4 pixels of an image of 4 channels in two parts).
   The right factor's tiles are packed: row k holds, for 16 columns, the values 2 k and 2 k + 1 of
   the inner dimension side by side. Pairs of products are summed first, then added to a sum in
   fp32. */
#ifndef DS_CPU_TILES_H
#define DS_CPU_TILES_H

#include "base/bf16.h"
#include "base/cpu.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    DS_TILE_ROWS = 16,       /* of a tile: pixels; and columns of a result */
    DS_TILE_DEPTH = 32,      /* values of a row */
    DS_TILE_VALUES = 512,    /* of a packed tile */
    DS_TILE_GROUP = 4,       /* rows of pixels that are computed together */
    DS_TILE_LADDER = 3,      /* neighbouring kernel rows that share rows of pixels */
    DS_TILE_STATISTICS = 96, /* floats of ds_tile_end.statistics */
};

/* Packed tiles that meet the pixels from x on: one, or, for a ladder of 3, one that meets the first
   row of pixels, one that meets the row below, and one the row below that. */
typedef struct ds_tile_tap {
    int64_t x; /* from the first pixel's value */
    int64_t w; /* of the first packed tile */
    int64_t count;
} ds_tile_tap;

/* A map as the end of a convolution reads or writes it: a block of 32 channels of one picture. */
typedef struct ds_tile_map {
    void *data;    /* the first pixel; NULL: no such map */
    bool half;     /* bf16 in blocks of 32 channels, else fp32 in blocks of 16 */
    int64_t plane; /* fp32: values from one block to the next */
} ds_tile_map;

/* The end of a convolution for rows of 16 pixels or fewer and 32 channels: as ds_finish. */
typedef struct ds_tile_end {
    const float *sum;  /* (2 halves, 4, 16 pixels, 16 channels) */
    const float *bias; /* (32); NULL: none */
    ds_tile_map addend, gate, y;
    int64_t at;     /* pixels from the start of the maps to the first one, */
    int64_t x_step; /* pixels from one to the next, */
    int64_t y_step; /* and from row to row */
    int64_t rows, pixels;
    int64_t planes; /* channels of y and the addend where they are planar; 0: blocks */
    int64_t halves; /* of the block: 1 where the channels of the second are all empty; a bf16 map
                       has zeros there, an fp32 map nothing */
    bool active;
    float slope, high;
    bool stream;
    float *statistics; /* (3, 32) of the values of each channel as they are stored: the first one,
                          the sums of what the others have more than it, and of the squares of
                          that; NULL: not wanted */
    int64_t done;      /* places of the rows of 16 that are written */
} ds_tile_end;

/* Up to 4 rows of 16 pixels by 16 columns. */
typedef struct ds_tile_product {
    const ds_tile_tap *tap; /* (taps) */
    int64_t taps;
    const ds_bf16 *x;
    int64_t x_step; /* values from one pixel to the next, */
    int64_t y_step; /* and from one row of pixels to the next */
    int64_t rows;   /* 1 to 4; a ladder reads the pixels of all 4 */
    const ds_bf16 *w;
    const ds_bf16 *next; /* packed tiles that will be read soon */
    int64_t next_lines;  /* of them for each tap, 64 bytes each */
    ds_tile_end *behind; /* of the tile before, */
    int64_t places;      /* so much of which may be written after each tap */
    float *sum;          /* (4, 16 pixels, 16 columns), rows beyond `rows` are undefined */
} ds_tile_product;

/* A row of a map that was pooled by the largest of 2x2 pixels. */
typedef struct ds_tile_windows {
    const void *x;      /* the row; NULL: there was no pool */
    const void *beside; /* the other row of its windows */
    bool below;         /* it is the second row of its windows */
    bool half;          /* the rows are of bf16 */
    int64_t plane;      /* else floats from one block of 16 channels to the next, */
    int64_t channels;   /* of which there are so many from the first block on */
    int64_t count;      /* windows */
    bool rectified;     /* only values above 0 have a gradient */
} ds_tile_windows;

/* Rows of a convolution's input are copied with their border, as bf16. */
typedef struct ds_tile_copy {
    const int32_t *column; /* (pixels) the pixel of the row to copy, -1: zero */
    int64_t pixels;
    const void *row;
    bool half;        /* the row is of bf16 */
    bool image;       /* it is of planes of floats */
    int64_t plane;    /* floats from one plane, or one block of 16 channels, to the next */
    int64_t channels; /* up to 4 planes, or any number from the first of a map's block on */
    /* Of a map: each value becomes scale x + shift and goes through an activation, as ds_finish. */
    const float *scale, *shift; /* (32), or (16) where there are so few channels; NULL: as it is */
    bool active;
    float slope, high;
    ds_bf16 *to;             /* (pixels, 32); image: (pixels, 2 parts, 4) */
    ds_bf16 *low;            /* what the rounding to `to` lost, rounded; NULL: not wanted */
    ds_tile_windows windows; /* if there are any, the row is of their gradients, of bf16, and what
                                is copied, by their columns, is that of the pixels in them */
} ds_tile_copy;

typedef struct ds_tile_slots {
#define SLOT(name, parameters) void(*name) parameters;
#include "cpu/tiles.def"
} ds_tile_slots;

/* The implementation for a level; NULL: none. */
const ds_tile_slots *ds_cpu_tiles(ds_cpu_level level);

#endif
