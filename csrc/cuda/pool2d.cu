#include "cuda/pointwise.h"

namespace
{

struct window {
    int64_t kernel, stride, pad;
};

/* The pixels [begin, end) of one side that window i covers. */
struct span {
    int64_t begin, end;
    __device__ span(const window &p, int64_t i, int64_t size)
    {
        begin = i * p.stride - p.pad;
        end = begin + p.kernel < size ? begin + p.kernel : size;
        begin = begin < 0 ? 0 : begin;
    }
};

/* The windows [begin, end) that cover pixel i of one side; `count` windows there are. */
struct covering {
    int64_t begin, end;
    __device__ covering(const window &p, int64_t i, int64_t count)
    {
        const int64_t first = i + p.pad - p.kernel + 1;
        begin = first <= 0 ? 0 : (first + p.stride - 1) / p.stride;
        end = (i + p.pad) / p.stride + 1;
        end = end < count ? end : count;
    }
};

/* The pixel of the first largest value of a window; NaN counts as largest, so that it is seen. */
__device__ ds_index largest(const ds_view &x, const window &p, ds_index at, float *value)
{
    const span rows(p, at.h, x.shape.h), columns(p, at.w, x.shape.w);
    ds_index best = {at.n, at.c, rows.begin, columns.begin};
    *value = ds_load(x, ds_place_of(x, best));
    for (int64_t h = rows.begin; h < rows.end; h++)
        for (int64_t w = columns.begin; w < columns.end; w++) {
            const float here = ds_at(x, at.n, at.c, h, w);
            if (here > *value || isnan(here)) {
                best.h = h;
                best.w = w;
                *value = here;
            }
        }
    return best;
}

struct max_forward {
    ds_view x, y;
    window p;
    __device__ void operator()(int64_t i) const
    {
        float value;
        largest(x, p, ds_index_of(y, i), &value);
        ds_store(y, i, value);
    }
};

struct max_backward {
    ds_view dy, x, dx;
    window p;
    ds_end end;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(dx, i);
        const covering rows(p, at.h, dy.shape.h), columns(p, at.w, dy.shape.w);
        float sum = 0, value;
        for (int64_t h = rows.begin; h < rows.end; h++)
            for (int64_t w = columns.begin; w < columns.end; w++) {
                const ds_index best = largest(x, p, {at.n, at.c, h, w}, &value);
                if (best.h == at.h && best.w == at.w)
                    sum += ds_at(dy, at.n, at.c, h, w);
            }
        ds_store(dx, i, end.of(sum, i));
    }
};

/* Windows that touch but do not overlap, eight channels at a time: what networks have. */
bool is_simple(const window &p, const ds_view &x)
{
    return p.kernel == p.stride && p.pad == 0 && x.shape.c % DS_VECTOR == 0;
}

/* The largest values of eight windows, and where they lie, counted row by row. */
struct largest_vector {
    float values[DS_VECTOR];
    int places[DS_VECTOR];
    __device__ largest_vector(const ds_view &x, ds_index at, const span &rows, const span &columns)
    {
        int place = 0;
        for (int64_t h = rows.begin; h < rows.end; h++)
            for (int64_t w = columns.begin; w < columns.end; w++, place++) {
                float here[DS_VECTOR];
                ds_load_vector(x, ds_place_of(x, {at.n, at.c, h, w}), here);
                for (int i = 0; i < DS_VECTOR; i++)
                    if (place == 0 || here[i] > values[i] || isnan(here[i])) {
                        values[i] = here[i];
                        places[i] = place;
                    }
            }
    }
};

struct simple_max_forward {
    ds_view x, y;
    window p;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(y, i * DS_VECTOR);
        const span rows(p, at.h, x.shape.h), columns(p, at.w, x.shape.w);
        ds_store_vector(y, i * DS_VECTOR, largest_vector(x, at, rows, columns).values);
    }
};

/* `windows` counts those too that are cut off and so have no dy; their pixels get zero. */
struct simple_max_backward {
    ds_view dy, x, dx, windows;
    window p;
    ds_end end;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(windows, i * DS_VECTOR);
        const span rows(p, at.h, dx.shape.h), columns(p, at.w, dx.shape.w);
        const largest_vector best(x, at, rows, columns);
        float up[DS_VECTOR] = {};
        if (at.h < dy.shape.h && at.w < dy.shape.w)
            ds_load_vector(dy, ds_place_of(dy, at), up);
        int place = 0;
        for (int64_t h = rows.begin; h < rows.end; h++)
            for (int64_t w = columns.begin; w < columns.end; w++, place++) {
                const int64_t to = ds_place_of(dx, {at.n, at.c, h, w});
                float values[DS_VECTOR];
                for (int j = 0; j < DS_VECTOR; j++)
                    values[j] = best.places[j] == place ? up[j] : 0;
                end.of_vector(values, to);
                ds_store_vector(dx, to, values);
            }
    }
};

struct mean_forward {
    ds_view x, y;
    window p;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(y, i);
        const span rows(p, at.h, x.shape.h), columns(p, at.w, x.shape.w);
        double sum = 0;
        for (int64_t h = rows.begin; h < rows.end; h++)
            for (int64_t w = columns.begin; w < columns.end; w++)
                sum += ds_at(x, at.n, at.c, h, w);
        const int64_t pixels = (rows.end - rows.begin) * (columns.end - columns.begin);
        ds_store(y, i, (float)(sum / (double)pixels));
    }
};

struct mean_backward {
    ds_view dy, dx;
    window p;
    ds_end end;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(dx, i);
        const covering over_rows(p, at.h, dy.shape.h), over_columns(p, at.w, dy.shape.w);
        float sum = 0;
        for (int64_t h = over_rows.begin; h < over_rows.end; h++)
            for (int64_t w = over_columns.begin; w < over_columns.end; w++) {
                const span rows(p, h, dx.shape.h), columns(p, w, dx.shape.w);
                const int64_t pixels = (rows.end - rows.begin) * (columns.end - columns.begin);
                sum += ds_at(dy, at.n, at.c, h, w) / (float)pixels;
            }
        ds_store(dx, i, end.of(sum, i));
    }
};

void run_max(ds_backend *backend, const ds_step *step)
{
    const ds_max_pool_attr a = DS_ATTR(max_pool, step->attr);
    const ds_view x = ds_view_of(step->in[0]), y = ds_view_of(step->out);
    const window p = {a.kernel, a.stride, a.pad};
    if (is_simple(p, x))
        ds_each(backend, simple_max_forward{x, y, p}, ds_count(y.shape) / DS_VECTOR);
    else
        ds_each(backend, max_forward{x, y, p}, ds_count(y.shape));
}

void run_max_backward(ds_backend *backend, const ds_step *step)
{
    const ds_max_pool_backward_attr a = DS_ATTR(max_pool_backward, step->attr);
    const ds_view dy = ds_view_of(step->in[0]), x = ds_view_of(step->in[1]);
    const ds_view dx = ds_view_of(step->out);
    const ds_end end = ds_end_of(step);
    const window p = {a.kernel, a.stride, a.pad};
    if (!is_simple(p, x)) {
        ds_each(backend, max_backward{dy, x, dx, p, end}, ds_count(dx.shape));
        return;
    }
    ds_view windows = dx;
    windows.shape.h = ds_blocks_for(dx.shape.h, p.kernel);
    windows.shape.w = ds_blocks_for(dx.shape.w, p.kernel);
    ds_each(backend, simple_max_backward{dy, x, dx, windows, p, end},
            ds_count(windows.shape) / DS_VECTOR);
}

void run_mean(ds_backend *backend, const ds_step *step)
{
    const ds_avg_pool_attr a = DS_ATTR(avg_pool, step->attr);
    const mean_forward f = {
        ds_view_of(step->in[0]), ds_view_of(step->out), {a.kernel, a.stride, 0}};
    ds_each(backend, f, ds_count(step->out->shape));
}

void run_mean_backward(ds_backend *backend, const ds_step *step)
{
    const ds_avg_pool_backward_attr a = DS_ATTR(avg_pool_backward, step->attr);
    const mean_backward f = {
        ds_view_of(step->in[0]), ds_view_of(step->out), {a.kernel, a.stride, 0}, ds_end_of(step)};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_max_pool = {.run = run_max};
const ds_kernel ds_cuda_max_pool_backward = {.accepts = ds_takes_end, .run = run_max_backward};
const ds_kernel ds_cuda_avg_pool = {.run = run_mean};
const ds_kernel ds_cuda_avg_pool_backward = {.accepts = ds_takes_end, .run = run_mean_backward};
