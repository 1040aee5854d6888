/* The convolution kernels of the cpu backend, and what they share. kernels.def asks in this order,
   forward and backward to the input:
     conv_tiles.c      bf16, where the processor multiplies it faster than floats; one group
     conv_planar.c     1x1 between images
     winograd.c        3x3, stride 1, one group, from 5 channels to 5 channels or more
     conv_depthwise.c  a group for each channel
     conv_direct.c     everything else whose groups fill blocks of channels
   All but conv_planar.c read a border or an enlargement in front of a convolution by index;
   conv_tiles.c alone normalises what it reads, and measures what it writes. The others compute with
   floats, of which they make bf16 maps a few rows or a tile at a time. */
#ifndef DS_CPU_CONV_H
#define DS_CPU_CONV_H

#include "cpu/cpu.h"
#include "cpu/slots.h"

/* A conv2d or conv2d_backward_input step, seen as the convolution that computes step->out: for
   backward that is the one with flipped and transposed weights. */
typedef struct ds_conv {
    const ds_tensor *x;    /* (N, I, H, W); backward: dy */
    const ds_tensor *w;    /* as the step has it, (O, I / groups, kH, kW) */
    const ds_tensor *y;    /* (N, O, H', W'); backward: dx */
    const ds_tensor *bias; /* NULL: none */
    bool backward;
    bool rounds;                      /* its operands, see ds_round_operand */
    int64_t stride, dilation, groups; /* the step's own */
    int64_t top, left;       /* border before the first row and column of x; backward: of dx */
    int64_t mode;            /* of the border; backward: DS_PAD_ZERO */
    int64_t up;              /* each pixel of x stands for up x up pixels inside the border */
    const ds_tensor *pooled; /* or x is what a max pool of this made of it, see ds_prologue */
} ds_conv;

ds_conv ds_conv_of(const ds_step *step);

/* Whether ds_finish can do the step's epilogue. */
bool ds_finish_accepts(const ds_step *step);

/* An activation that ds_finish can do. */
ds_finish ds_finish_activation(bool active, int kind, double alpha);

/* The step's epilogue; `bias` as ds_finish has it, for the first channels. */
ds_finish ds_finish_of(const ds_step *step, const float *bias);

/* The epilogue for the output `floats` further on, whose channels start `channel` further on. */
static inline ds_finish ds_finish_at(const ds_finish *finish, int64_t floats, int64_t channel)
{
    ds_finish moved = *finish;
    if (moved.bias)
        moved.bias += channel;
    if (moved.addend)
        moved.addend += floats;
    if (moved.gate)
        moved.gate += floats;
    return moved;
}

/* Writes the bias into padded (blocks, 16), zero beyond its channels; NULL bias: zeros. */
void ds_pad_bias(const ds_tensor *bias, float *padded, int64_t blocks);

static inline int64_t ds_minimum(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* a / b rounded down, b > 0. */
static inline int64_t ds_floor_divide(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

/* The pixel that index i of an axis of `size` pixels shows, each `up` times, behind the border: -1
   for zero. Beyond one reflection nothing is asked for. */
static inline int64_t ds_border(const ds_conv *conv, int64_t i, int64_t size)
{
    int64_t whole = size * conv->up;
    if (i >= 0 && i < whole)
        return i / conv->up;
    if (conv->mode == DS_PAD_REPLICATE)
        return i < 0 ? 0 : size - 1;
    int64_t mirrored = i < 0 ? -i : 2 * (whole - 1) - i;
    return conv->mode == DS_PAD_REFLECT && mirrored >= 0 && mirrored < whole ? mirrored / conv->up
                                                                             : -1;
}

/* The pixels that indices first, first + step, ... of an axis show: `count` of ds_border. */
ds_code ds_list_pixels(ds_alloc *alloc, const ds_conv *conv, int64_t first, int64_t step,
                       int64_t count, int64_t size, int32_t **pixel, ds_status *status);

/* First and last index, along one axis with a kernel of so many positions and a border of `before`
   pixels, of what outputs [begin, end] read. */
void ds_reach(const ds_conv *conv, int64_t before, int64_t kernel, int64_t begin, int64_t end,
              int64_t *first, int64_t *last);

/* Copies of the input's rows with their border, so that inner loops know nothing of borders.
   Output pixel (y, x) meets kernel position (i, j) in input row and column
     y stride + i dilation - top,   x stride + j dilation - left;
   backward to the input dx (y, x) takes part in
     (y + top - i dilation) / stride,   (x + left - j dilation) / stride   of dy, where whole,
   so its rows and columns fall into `stride` phases each, and the pixels of a pair of phases are an
   ordinary convolution with some of the kernel's positions whose outputs lie `stride` apart. */
typedef struct ds_rows {
    int64_t lanes;  /* channels of a pixel that lie side by side: 16 or 1 */
    int64_t before; /* pixels of border before a copied row */
    int64_t length; /* pixels of a copied row */
    int64_t band;   /* output rows that share copies */
    int64_t count;  /* input rows of a band */
    int64_t phases; /* of rows and of columns; forward: 1 */
    int64_t y_step; /* floats from what an output row reads to the next of its phase */
    int64_t x_step; /* and so from pixel to pixel */
} ds_rows;

/* A kernel position that takes part in an output row and phase. */
typedef struct ds_position {
    int64_t tap; /* i kW + j */
    int64_t at;  /* pixels from the start of a band's copy to the one under the first output */
} ds_position;

/* Rows for bands of `band` output rows, and for inner loops that compute `tile` pixels or more. */
ds_rows ds_rows_of(const ds_conv *conv, int64_t band, int64_t tile);

/* Copies the rows of the band that starts with output row y, of `blocks` blocks of channels of
   picture n (planar: channels) from `first`, to (blocks, count, length, lanes), as floats. */
void ds_copy_rows(const ds_slots *slots, const ds_rows *rows, const ds_conv *conv, int64_t n,
                  int64_t first, int64_t blocks, int64_t y, float *to);

/* The positions of output row y, in the band that starts with `first`, at the columns of a phase;
   returns how many. */
int64_t ds_positions(const ds_rows *rows, const ds_conv *conv, int64_t first, int64_t y,
                     int64_t phase, ds_position *position);

/* Output pixels of a phase among `size`. */
static inline int64_t ds_phase_pixels(const ds_rows *rows, int64_t size, int64_t phase)
{
    return (size - phase + rows->phases - 1) / rows->phases;
}

#endif
