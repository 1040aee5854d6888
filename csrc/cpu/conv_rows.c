#include "cpu/conv.h"
#include "cpu/half.h"

#include <string.h>

void ds_reach(const ds_conv *conv, int64_t before, int64_t kernel, int64_t begin, int64_t end,
              int64_t *first, int64_t *last)
{
    int64_t span = (kernel - 1) * conv->dilation;
    if (conv->backward) {
        *first = ds_floor_divide(begin + before - span, conv->stride);
        *last = ds_floor_divide(end + before, conv->stride);
    } else {
        *first = begin * conv->stride - before;
        *last = end * conv->stride + span - before;
    }
}

ds_rows ds_rows_of(const ds_conv *conv, int64_t band, int64_t tile)
{
    ds_shape w = conv->w->shape;
    ds_rows rows = {.lanes = ds_is_blocked(conv->x) ? DS_BLOCK : 1,
                    .band = band,
                    .phases = conv->backward ? conv->stride : 1};
    int64_t first, last, step = conv->backward ? 1 : conv->stride;
    int64_t fewest = conv->y->shape.w / rows.phases;
    ds_reach(conv, conv->left, w.w, 0, conv->y->shape.w - 1, &first, &last);
    rows.before = -first;
    rows.length = last - first + 1 + (fewest < tile ? (tile - fewest) * step : 0);
    rows.x_step = step * rows.lanes;
    rows.y_step = rows.x_step * rows.length;
    ds_reach(conv, conv->top, w.h, 0, band - 1, &first, &last);
    /* A band that starts between two rows of dy can meet one more. */
    rows.count = last - first + 1 + (conv->backward && conv->stride > 1);
    return rows;
}

/* One row of a block of the input. */
typedef struct source {
    const ds_slots *slots;
    const ds_conv *conv;
    int64_t lanes;
    int64_t block, pixel; /* where it begins in a bf16 map, */
    const float *from;    /* and in any other; NULL in a bf16 map */
} source;

static void copy_pixels(const source *row, int64_t column, int64_t count, float *to)
{
    if (row->from)
        memcpy(to, row->from + column * row->lanes, (size_t)(count * row->lanes) * sizeof *to);
    else
        ds_read_pixels(row->slots, row->conv->x, row->block, row->pixel + column, count, to);
}

/* Pixel i of the row, or of its border. */
static void copy_pixel(const source *row, int64_t i, float *to)
{
    const int64_t column = ds_border(row->conv, i, row->conv->x->shape.w);
    if (column < 0)
        memset(to, 0, (size_t)row->lanes * sizeof *to);
    else
        copy_pixels(row, column, 1, to);
}

/* The columns inside the border, at most `most`; returns how many. */
static int64_t copy_inside(const source *row, int64_t most, float *to)
{
    const int64_t width = row->conv->x->shape.w, up = row->conv->up;
    const int64_t count = ds_minimum(width * up, most);
    if (up == 1)
        copy_pixels(row, 0, count, to);
    for (int64_t i = 0; up > 1 && i < count; i++, to += row->lanes)
        copy_pixels(row, i / up, 1, to);
    return count;
}

/* Row `index` of a block with its border; a row outside is zero. */
static void copy_row(const ds_rows *rows, source *row, int64_t index, float *to)
{
    const ds_shape s = row->conv->x->shape;
    const int64_t lanes = rows->lanes;
    int64_t i = 0;
    index = ds_border(row->conv, index, s.h);
    if (index < 0) {
        memset(to, 0, (size_t)(rows->length * lanes) * sizeof *to);
        return;
    }
    row->pixel = index * s.w;
    if (!ds_is_half(row->conv->x))
        row->from = (const float *)row->conv->x->data + (row->block * s.h + index) * s.w * lanes;
    for (; i < rows->before; i++)
        copy_pixel(row, i - rows->before, to + i * lanes);
    if (rows->before >= 0)
        i += copy_inside(row, rows->length - i, to + i * lanes);
    for (; i < rows->length; i++)
        copy_pixel(row, i - rows->before, to + i * lanes);
}

static int64_t first_row(const ds_conv *conv, int64_t y)
{
    int64_t first, last;
    ds_reach(conv, conv->top, conv->w->shape.h, y, y, &first, &last);
    return first;
}

void ds_copy_rows(const ds_slots *slots, const ds_rows *rows, const ds_conv *conv, int64_t n,
                  int64_t first, int64_t blocks, int64_t y, float *to)
{
    const int64_t all = rows->lanes == 1 ? conv->x->shape.c : ds_blocks(conv->x->shape.c);
    source row = {.slots = slots, .conv = conv, .lanes = rows->lanes};
    for (int64_t block = 0; block < blocks; block++) {
        row.block = n * all + first + block;
        for (int64_t i = 0; i < rows->count; i++, to += rows->length * rows->lanes) {
            copy_row(rows, &row, first_row(conv, y) + i, to);
            if (conv->rounds && !ds_is_half(conv->x))
                ds_round_operand(slots, conv->x, to, to, rows->length * rows->lanes);
        }
    }
}

/* Where output index `out` meets kernel index i along one axis; false: nowhere. */
static bool meets(const ds_conv *conv, int64_t before, int64_t out, int64_t i, int64_t *at)
{
    if (!conv->backward) {
        *at = out * conv->stride + i * conv->dilation - before;
        return true;
    }
    int64_t from = out + before - i * conv->dilation;
    *at = ds_floor_divide(from, conv->stride);
    return *at * conv->stride == from;
}

int64_t ds_positions(const ds_rows *rows, const ds_conv *conv, int64_t first, int64_t y,
                     int64_t phase, ds_position *position)
{
    ds_shape w = conv->w->shape;
    int64_t count = 0, row, column;
    for (int64_t i = 0; i < w.h; i++) {
        if (!meets(conv, conv->top, y, i, &row))
            continue;
        row -= first_row(conv, first);
        for (int64_t j = 0; j < w.w; j++)
            if (meets(conv, conv->left, phase, j, &column))
                position[count++] = (ds_position){.tap = i * w.w + j,
                                                  .at = row * rows->length + column + rows->before};
    }
    return count;
}
