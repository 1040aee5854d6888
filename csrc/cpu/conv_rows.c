#include "cpu/conv.h"

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

static void copy_pixel(const ds_rows *rows, const ds_conv *conv, const float *from, int64_t i,
                       float *to)
{
    int64_t column = ds_border(conv, i, conv->x->shape.w);
    for (int64_t lane = 0; lane < rows->lanes; lane++)
        to[lane] = column < 0 ? 0.0f : from[column * rows->lanes + lane];
}

/* The columns inside the border, at most `most`; returns how many. */
static int64_t copy_inside(const ds_rows *rows, const ds_conv *conv, const float *from,
                           int64_t most, float *to)
{
    int64_t lanes = rows->lanes, count = ds_minimum(conv->x->shape.w * conv->up, most);
    if (conv->up == 1) {
        memcpy(to, from, (size_t)(count * lanes) * sizeof(float));
        return count;
    }
    for (int64_t i = 0; i < count; from += lanes)
        for (int64_t copy = 0; copy < conv->up && i < count; copy++, i++, to += lanes)
            memcpy(to, from, (size_t)lanes * sizeof(float));
    return count;
}

/* Input row `row` of one block with its border; a row outside is zero. */
static void copy_row(const ds_rows *rows, const ds_conv *conv, const float *map, int64_t row,
                     float *to)
{
    int64_t lanes = rows->lanes, i = 0;
    row = ds_border(conv, row, conv->x->shape.h);
    if (row < 0) {
        memset(to, 0, (size_t)(rows->length * lanes) * sizeof(float));
        return;
    }
    const float *from = map + row * conv->x->shape.w * lanes;
    for (; i < rows->before; i++)
        copy_pixel(rows, conv, from, i - rows->before, to + i * lanes);
    if (rows->before >= 0)
        i += copy_inside(rows, conv, from, rows->length - i, to + i * lanes);
    for (; i < rows->length; i++)
        copy_pixel(rows, conv, from, i - rows->before, to + i * lanes);
}

static int64_t first_row(const ds_conv *conv, int64_t y)
{
    int64_t first, last;
    ds_reach(conv, conv->top, conv->w->shape.h, y, y, &first, &last);
    return first;
}

void ds_copy_rows(const ds_rows *rows, const ds_conv *conv, int64_t n, int64_t first,
                  int64_t blocks, int64_t y, float *to)
{
    ds_shape s = conv->x->shape;
    int64_t all = rows->lanes == 1 ? s.c : ds_blocks(s.c), size = s.h * s.w * rows->lanes;
    const float *map = (const float *)conv->x->data + (n * all + first) * size;
    for (int64_t block = 0; block < blocks; block++, map += size)
        for (int64_t row = 0; row < rows->count; row++, to += rows->length * rows->lanes)
            copy_row(rows, conv, map, first_row(conv, y) + row, to);
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
