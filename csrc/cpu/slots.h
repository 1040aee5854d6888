/* The inner loops of this processor. */
#ifndef DS_CPU_SLOTS_H
#define DS_CPU_SLOTS_H

#include "base/bf16.h"
#include "base/cpu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DS_BLOCK = 16,      /* channels side by side in a feature map */
    DS_HALF_BLOCK = 32, /* in one of bf16 */
    WINO_GROUP = 64,    /* output channels that are computed together */
};

/* Interpolation points of winograd.c: 0, A, -A, B, -B and infinity. */
#define WINO_A 0.625f
#define WINO_B 1.5f

/* What happens to the 16 channels of one output pixel before they are stored: see ds_epilogue.
   Pointers are to the first pixel; the kernel moves them along with its output. */
typedef struct ds_finish {
    const float *bias;   /* (16); NULL: none */
    const float *addend; /* as the output; NULL: none */
    const float *gate;   /* as the output; NULL: none */
    bool active;         /* r < 0 becomes slope r, then at most `high` */
    float slope;
    float high;
    bool stream; /* write past the caches: the output is larger than they are */
} ds_finish;

/* What the updates of ops/update.c are made with; the rate and the root have their corrections for
   the first steps in them. */
typedef struct ds_adam {
    double beta1, beta2, epsilon, weight_decay, rate, root;
} ds_adam;

typedef struct ds_sgd {
    double momentum, weight_decay, rate;
} ds_sgd;

/* Cache lines that will be read soon. */
typedef struct ds_lines {
    const float *at;
    int64_t count; /* 0: none */
} ds_lines;

enum { WINO_NEXT = 2 }; /* runs of lines fetched during one product */

/* One kernel position and block of input channels: where its pixels start, and its first row of
   packed weights. */
typedef struct ds_tap {
    int64_t x;
    int64_t w;
} ds_tap;

/* A run of output pixels, equally far apart, for up to 64 output channels. */
typedef struct ds_direct {
    const ds_tap *tap; /* (taps) */
    int64_t taps;
    int64_t channels; /* input channels of one tap, side by side: 16, or 1 of a planar map */
    int64_t depth;    /* rows of packed weights */
    const float *x;
    const float *w; /* (columns / strip, depth, strip) with a narrower last strip */
    int64_t x_step; /* floats from one pixel to the next */
    float *y;
    int64_t y_step;
    int64_t y_block; /* floats between two blocks (planar: two channels) of y */
    int64_t pixels;
    int64_t columns; /* output channels, a multiple of 16; planar: 1 to 4 */
} ds_direct;

typedef struct ds_slots {
    int64_t strip; /* output channels that lie side by side in packed weights */
#define SLOT(name, parameters) void(*name) parameters;
#include "cpu/slots.def"
} ds_slots;

/* The variants for a level; a level of another processor family gives the portable ones. */
const ds_slots *ds_cpu_slots(ds_cpu_level level);

#endif
