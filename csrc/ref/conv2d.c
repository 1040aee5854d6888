/* The three convolution kernels. They share one walk: every tap (c, k, l) of the kernel reads one
   row of x per row of y, and differs only in what it does with the two rows. Rows are the inner
   loop, so that the output row stays in the nearest cache. */
#include "ref/ref.h"

#include <string.h>

typedef struct geometry {
    int64_t stride, pad, dilation, groups;
    bool reflect;
} geometry;

#define GEOMETRY(a) ((geometry){a.stride, a.pad, a.dilation, a.groups, a.pad_mode})

/* Index i of a side of `size` pixels mirrored at the borders. */
static int64_t mirrored(int64_t i, int64_t size)
{
    if (i < 0)
        return -i;
    return i < size ? i : 2 * (size - 1) - i;
}

/* Which pixels of a row of x one tap reads: x[o * stride + offset] for output o. */
typedef struct tap {
    int64_t stride, offset;
    int64_t size;        /* of the row of x */
    int64_t first, last; /* outputs that read anything: [first, last) */
    int64_t begin, end;  /* outputs that read inside the map: [begin, end) */
} tap;

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static tap make_tap(const geometry *g, int64_t k, int64_t size, int64_t outputs)
{
    tap t = {.stride = g->stride, .offset = k * g->dilation - g->pad, .size = size};
    const int64_t to_begin = -t.offset + g->stride - 1;
    const int64_t to_end = size - t.offset + g->stride - 1;
    t.begin = to_begin < 0 ? 0 : clamp(to_begin / g->stride, 0, outputs);
    t.end = to_end < 0 ? t.begin : clamp(to_end / g->stride, t.begin, outputs);
    t.first = g->reflect ? 0 : t.begin;
    t.last = g->reflect ? outputs : t.end;
    return t;
}

/* The row of x that output row i reads at tap row k, or -1 for a row of zeros. */
static int64_t source_row(const geometry *g, int64_t i, int64_t k, int64_t size)
{
    const int64_t row = i * g->stride - g->pad + k * g->dilation;
    if (row >= 0 && row < size)
        return row;
    return g->reflect ? mirrored(row, size) : -1;
}

/* y += w * x */
static void gather_row(const tap *t, ds_real w, const ds_real *x, ds_real *y)
{
    for (int64_t o = t->first; o < t->begin; o++)
        y[o] += w * x[mirrored(o * t->stride + t->offset, t->size)];
    for (int64_t o = t->begin; o < t->end; o++)
        y[o] += w * x[o * t->stride + t->offset];
    for (int64_t o = t->end; o < t->last; o++)
        y[o] += w * x[mirrored(o * t->stride + t->offset, t->size)];
}

/* dx += w * dy */
static void scatter_row(const tap *t, ds_real w, const ds_real *dy, ds_real *dx)
{
    for (int64_t o = t->first; o < t->begin; o++)
        dx[mirrored(o * t->stride + t->offset, t->size)] += w * dy[o];
    for (int64_t o = t->begin; o < t->end; o++)
        dx[o * t->stride + t->offset] += w * dy[o];
    for (int64_t o = t->end; o < t->last; o++)
        dx[mirrored(o * t->stride + t->offset, t->size)] += w * dy[o];
}

/* sum of x * dy */
static double dot_row(const tap *t, const ds_real *x, const ds_real *dy)
{
    double sum = 0;
    for (int64_t o = t->first; o < t->begin; o++)
        sum += (double)x[mirrored(o * t->stride + t->offset, t->size)] * dy[o];
    for (int64_t o = t->begin; o < t->end; o++)
        sum += (double)x[o * t->stride + t->offset] * dy[o];
    for (int64_t o = t->end; o < t->last; o++)
        sum += (double)x[mirrored(o * t->stride + t->offset, t->size)] * dy[o];
    return sum;
}

/* One output row of one channel: bias plus every tap. */
static void forward_row(const geometry *g, const ds_tensor *x, const ds_tensor *w, int64_t n,
                        int64_t o, int64_t i, const ds_tensor *out)
{
    const int64_t first = o / (w->shape.n / g->groups) * w->shape.c;
    ds_real *y = ds_plane(out, n, o) + i * out->shape.w;
    for (int64_t c = 0; c < w->shape.c; c++)
        for (int64_t k = 0; k < w->shape.h; k++) {
            const int64_t row = source_row(g, i, k, x->shape.h);
            const ds_real *weights = ds_plane(w, o, c) + k * w->shape.w;
            for (int64_t l = 0; row >= 0 && l < w->shape.w; l++) {
                const tap t = make_tap(g, l, x->shape.w, out->shape.w);
                gather_row(&t, weights[l], ds_plane(x, n, first + c) + row * x->shape.w, y);
            }
        }
}

static void run(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_conv2d_attr a = DS_ATTR(conv2d, step->attr);
    const geometry g = GEOMETRY(a);
    const ds_tensor *out = step->out;
    const ds_shape y = out->shape;
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t o = 0; o < y.c; o++) {
            const ds_real bias = step->inputs == 3 ? ds_real_data(step->in[2])[o] : 0;
            ds_real *plane = ds_plane(out, n, o);
            for (int64_t p = 0; p < y.h * y.w; p++)
                plane[p] = bias;
            for (int64_t i = 0; i < y.h; i++)
                forward_row(&g, step->in[0], step->in[1], n, o, i, out);
        }
}

/* One map of dy and one map of x: every tap sends its share of dy back. */
static void backward_input_plane(const geometry *g, const ds_tensor *dy, const ds_real *from,
                                 const ds_tensor *w, const ds_real *weights, const ds_tensor *dx,
                                 ds_real *to)
{
    for (int64_t i = 0; i < dy->shape.h; i++)
        for (int64_t k = 0; k < w->shape.h; k++) {
            const int64_t row = source_row(g, i, k, dx->shape.h);
            for (int64_t l = 0; row >= 0 && l < w->shape.w; l++) {
                const tap t = make_tap(g, l, dx->shape.w, dy->shape.w);
                scatter_row(&t, weights[k * w->shape.w + l], from + i * dy->shape.w,
                            to + row * dx->shape.w);
            }
        }
}

static void run_backward_input(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_conv2d_backward_input_attr a = DS_ATTR(conv2d_backward_input, step->attr);
    const geometry g = GEOMETRY(a);
    const ds_tensor *dy = step->in[0], *w = step->in[1], *dx = step->out;
    const int64_t outputs = w->shape.n / g.groups; /* per group */
    memset(dx->data, 0, (size_t)ds_count(dx->shape) * sizeof(ds_real));
    for (int64_t n = 0; n < dx->shape.n; n++)
        for (int64_t c = 0; c < dx->shape.c; c++) {
            const int64_t first = c / w->shape.c * outputs;
            for (int64_t o = first; o < first + outputs; o++)
                backward_input_plane(&g, dy, ds_plane(dy, n, o), w, ds_plane(w, o, c % w->shape.c),
                                     dx, ds_plane(dx, n, c));
        }
}

/* The gradient to weight (o, c, k, l), c counted inside the group. */
static double weight_sum(const geometry *g, const ds_tensor *x, const ds_tensor *dy, int64_t o,
                         int64_t c, int64_t k, int64_t l)
{
    const tap t = make_tap(g, l, x->shape.w, dy->shape.w);
    const int64_t group = o / (dy->shape.c / g->groups);
    const int64_t from = group * (x->shape.c / g->groups) + c;
    double sum = 0;
    for (int64_t n = 0; n < x->shape.n; n++)
        for (int64_t i = 0; i < dy->shape.h; i++) {
            const int64_t row = source_row(g, i, k, x->shape.h);
            if (row >= 0)
                sum += dot_row(&t, ds_plane(x, n, from) + row * x->shape.w,
                               ds_plane(dy, n, o) + i * dy->shape.w);
        }
    return sum;
}

static void run_backward_weight(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_conv2d_backward_weight_attr a = DS_ATTR(conv2d_backward_weight, step->attr);
    const geometry g = GEOMETRY(a);
    const ds_shape w = step->out->shape;
    ds_real *dw = ds_real_data(step->out);
    for (int64_t o = 0; o < w.n; o++)
        for (int64_t c = 0; c < w.c; c++)
            for (int64_t k = 0; k < w.h; k++)
                for (int64_t l = 0; l < w.w; l++)
                    *dw++ = (ds_real)weight_sum(&g, step->in[0], step->in[1], o, c, k, l);
}

const ds_kernel DS_REF(conv2d) = {.run = run};
const ds_kernel DS_REF(conv2d_backward_input) = {.run = run_backward_input};
const ds_kernel DS_REF(conv2d_backward_weight) = {.run = run_backward_weight};
