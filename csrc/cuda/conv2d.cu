/* Convolutions: what cuDNN does not do (reflection, images in fp32, the ends of a step) around what
   it does. Copies in a layout that cuDNN wants lie in the workspace. */
#include "cuda/border.h"
#include "cuda/conv.h"
#include "cuda/pointwise.h"

namespace
{

enum { CHANNEL_STEP = 8 }; /* tensor cores take bf16 channels in eights */

/* Attributes and tensors of the three ops under common names. */
struct problem {
    ds_conv_direction direction;
    const ds_tensor *a, *b; /* as ds_conv_run takes them */
    int64_t stride, pad, dilation, groups;
    bool reflect, bias;
    ds_shape x, w, y;
};

template <class A> void read_attributes(const A &attr, problem *p)
{
    p->stride = attr.stride;
    p->pad = attr.pad;
    p->dilation = attr.dilation;
    p->groups = attr.groups;
    p->reflect = attr.pad_mode == DS_PAD_REFLECT && attr.pad > 0;
}

problem problem_of(const ds_step *step)
{
    problem p = {};
    p.a = step->in[0];
    p.b = step->in[1];
    if (step->op == DS_OP_conv2d) {
        read_attributes(DS_ATTR(conv2d, step->attr), &p);
        p.bias = step->inputs > 2;
        p.x = p.a->shape;
        p.w = p.b->shape;
        p.y = step->out->shape;
    } else if (step->op == DS_OP_conv2d_backward_input) {
        read_attributes(DS_ATTR(conv2d_backward_input, step->attr), &p);
        p.direction = DS_CONV_BACKWARD_INPUT;
        p.x = step->out->shape;
        p.w = p.b->shape;
        p.y = p.a->shape;
    } else {
        read_attributes(DS_ATTR(conv2d_backward_weight, step->attr), &p);
        p.direction = DS_CONV_BACKWARD_WEIGHT;
        p.x = p.a->shape;
        p.w = step->out->shape;
        p.y = p.b->shape;
    }
    return p;
}

/* A tensor in cuDNN's form: NHWC without gaps, of one type, lying somewhere. */
ds_view packed(ds_shape s, bool half, void *data)
{
    return {data, s, s.h * s.w * s.c, 1, s.w * s.c, s.c, true, half};
}

/* Channels as cuDNN sees them. Those of an image in bf16 are there twice, group by group: rounded,
   then what that loses. The weights that meet them are there twice too. */
struct channels {
    int64_t count, group; /* of the tensor, and of a group */
    int64_t parts;        /* 1 or 2 */

    /* The tensor's channel under cuDNN's channel c; beyond the last one stand zeros. */
    DS_ANYWHERE int64_t source(int64_t c) const
    {
        return parts > 1 ? c / (parts * group) * group + c % group : c;
    }
    DS_ANYWHERE bool is_rest(int64_t c) const
    {
        return parts > 1 && c % (parts * group) >= group;
    }
    /* Where channel c of the tensor stands. */
    DS_ANYWHERE int64_t place(int64_t c, int64_t part) const
    {
        return (c / group * parts + part) * group + c % group;
    }
};

/* What lies where in the workspace; a copy of no bytes is not needed. */
struct layout {
    ds_conv *conv;
    void *weights; /* constant weights in cuDNN's form, on the device */
    bool half;
    bool fused;               /* cuDNN computes the end too */
    int64_t x_parts, y_parts; /* 2 where it is an operand and an image in bf16 */
    ds_shape x, w, y;         /* as cuDNN sees them: bordered, images twice, channels in eights */
    size_t a_bytes, b_bytes, out_bytes;
};

int64_t in_eights(int64_t channels)
{
    return (channels + CHANNEL_STEP - 1) / CHANNEL_STEP * CHANNEL_STEP;
}

size_t bytes_of(ds_shape s, bool half)
{
    const size_t bytes = (size_t)ds_count(s) * (half ? sizeof(ds_bf16) : sizeof(float));
    return (bytes + DS_ALIGN - 1) / DS_ALIGN * DS_ALIGN;
}

/* Whether a tensor can be handed to cuDNN as it lies. */
bool fits(const ds_tensor *t, ds_shape wanted, bool half)
{
    return t->kind == DS_MAP && ds_same_shape(t->shape, wanted) && ds_is_half(t) == half;
}

void double_images(const problem *p, layout *l)
{
    const bool reads_x = p->direction != DS_CONV_BACKWARD_INPUT;
    const bool reads_y = p->direction != DS_CONV_FORWARD;
    const ds_tensor *y = p->direction == DS_CONV_BACKWARD_INPUT ? p->a : p->b;
    l->x_parts = l->half && reads_x && ds_is_image(p->a) ? 2 : 1;
    l->y_parts = l->half && reads_y && ds_is_image(y) ? 2 : 1;
    l->x.c *= l->x_parts;
    l->w.c *= l->x_parts;
    l->y.c *= l->y_parts;
    l->w.n *= l->y_parts;
}

void choose_shapes(const problem *p, const ds_step *step, layout *l)
{
    l->half = ds_step_rounds(step);
    l->x = p->x;
    l->w = p->w;
    l->y = p->y;
    double_images(p, l);
    if (p->reflect) {
        l->x.h += 2 * p->pad;
        l->x.w += 2 * p->pad;
    }
    if (l->half && p->groups == 1) {
        l->x.c = l->w.c = in_eights(l->x.c);
        l->y.c = l->w.n = in_eights(l->y.c);
    }
}

channels channels_of_x(const problem *p, const layout *l)
{
    return {p->x.c, p->w.c, l->x_parts};
}

channels channels_of_y(const problem *p, const layout *l)
{
    return {p->y.c, p->w.n / p->groups, l->y_parts};
}

/* The input channels of a group. */
channels channels_of_weights(const problem *p, const layout *l)
{
    return {p->w.c, p->w.c, l->x_parts};
}

/* The result's type: cuDNN sums gradients of weights into bf16 only. */
bool half_result(const ds_step *step, const layout *l)
{
    return l->half && (step->op == DS_OP_conv2d_backward_weight || ds_is_half(step->out));
}

void choose_copies(const problem *p, const ds_step *step, layout *l)
{
    const bool out_half = half_result(step, l);
    const ds_shape a = p->direction == DS_CONV_BACKWARD_INPUT ? l->y : l->x;
    const ds_shape b = p->direction == DS_CONV_BACKWARD_WEIGHT ? l->y : l->w;
    const ds_shape out = p->direction == DS_CONV_FORWARD          ? l->y
                         : p->direction == DS_CONV_BACKWARD_INPUT ? l->x
                                                                  : l->w;
    l->a_bytes = fits(p->a, a, l->half) ? 0 : bytes_of(a, l->half);
    l->b_bytes = l->weights || fits(p->b, b, l->half) ? 0 : bytes_of(b, l->half);
    l->out_bytes = fits(step->out, out, out_half) ? 0 : bytes_of(out, out_half);
}

/* Constant weights are turned once, on the host. */
ds_code upload_weights(ds_backend *backend, const problem *p, layout *l, ds_status *status)
{
    const float *from = (const float *)p->b->data;
    const channels out = channels_of_y(p, l), in = channels_of_weights(p, l);
    const int64_t taps = p->w.h * p->w.w;
    void *host = NULL;
    DS_TRY(ds_alloc_zeroed(backend->alloc, bytes_of(l->w, l->half), &host, status));
    for (int64_t place = 0; place < ds_count(l->w); place++) {
        const int64_t c = in.source(place % l->w.c), row = place / l->w.c;
        const int64_t o = out.source(row / taps);
        if (o >= out.count || c >= in.count)
            continue;
        const float value = from[(o * in.count + c) * taps + row % taps];
        if (l->half)
            ((ds_bf16 *)host)[place] = ds_narrow(value);
        else
            ((float *)host)[place] = value;
    }
    DS_TRY(ds_cuda_upload(backend, host, bytes_of(l->w, l->half), &l->weights, status));
exit:
    ds_release(backend->alloc, &host);
    return status->code;
}

/* Whether cuDNN could compute the end of the step too: only in place, only with ReLU, and only
   where what it reads is of the result's type. */
bool may_fuse(const problem *p, const ds_step *step, const layout *l)
{
    const ds_epilogue *e = &step->epilogue;
    const bool folds = p->direction == DS_CONV_BACKWARD_INPUT && p->reflect;
    const bool half = ds_is_half(step->out);
    const bool mixed =
        (e->addend && ds_is_half(e->addend) != half) || (e->gate && ds_is_half(e->gate) != half);
    return !l->out_bytes && !folds && !mixed && (!e->active || e->activation == DS_RELU) &&
           (p->bias || e->addend || e->active);
}

/* In mixed precision too: what is not in bf16 there is the forward pass. */
bool may_use_tf32(const ds_backend *backend)
{
    const ds_precision precision = ds_cuda_of(backend)->precision;
    return precision == DS_PRECISION_TF32 || precision == DS_PRECISION_MIXED;
}

/* Asks for the convolution with its end, and without where that is not to be had. */
ds_code plan_conv(ds_backend *backend, const problem *p, const ds_step *step, layout *l,
                  size_t *bytes, ds_status *status)
{
    const ds_epilogue *e = &step->epilogue;
    ds_status refused = ds_status_ok();
    ds_conv_problem planned = {p->direction,
                               l->x,
                               l->w,
                               l->y,
                               p->stride,
                               p->reflect ? 0 : p->pad,
                               p->dilation,
                               l->half,
                               half_result(step, l),
                               may_use_tf32(backend),
                               false,
                               false,
                               false,
                               false};
    if (may_fuse(p, step, l)) {
        planned.bias = p->bias;
        planned.addend = e->addend != NULL;
        planned.gate = e->gate != NULL;
        planned.relu = e->active && !e->gate;
        l->fused = ds_conv_create(backend, &planned, &l->conv, bytes, &refused) == DS_OK;
        if (l->fused || refused.code != DS_UNSUPPORTED)
            return *status = refused, status->code;
        planned.bias = planned.addend = planned.gate = planned.relu = false;
    }
    return ds_conv_create(backend, &planned, &l->conv, bytes, status);
}

ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    const problem p = problem_of(step);
    layout *l = NULL;
    size_t bytes = 0;
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *l, &l, status));
    step->prepared = l;
    choose_shapes(&p, step, l);
    if (p.direction != DS_CONV_BACKWARD_WEIGHT && step->constant[1]) {
        DS_TRY(upload_weights(backend, &p, l, status));
        step->prepared_bytes = bytes_of(l->w, l->half);
    }
    choose_copies(&p, step, l);
    DS_TRY(plan_conv(backend, &p, step, l, &bytes, status));
    step->workspace_bytes = l->a_bytes + l->b_bytes + l->out_bytes + bytes;
    step->variant = ds_conv_name(l->conv);
exit:
    return status->code;
}

void release(ds_backend *backend, ds_step *step)
{
    layout *l = (layout *)step->prepared;
    if (!l)
        return;
    ds_conv_destroy(backend, &l->conv);
    ds_cuda_free(backend, &l->weights);
    ds_release(backend->alloc, &step->prepared);
}

/* y = x in another shape and type: a border of mirrored pixels, an image in two parts, more
   channels of zeros. */
struct convert {
    ds_add_border border;
    channels of;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(border.y, i);
        const int64_t c = of.source(at.c);
        const float value = c < of.count ? border.value(at, c) : 0;
        ds_store(border.y, i, of.is_rest(at.c) ? value - ds_round_to_bf16(value) : value);
    }
};

/* The bordered copy of a map for cuDNN. Borders of x are `pad` wide, those of y are none. */
void copy_map(ds_backend *backend, const ds_tensor *from, const channels &of, const ds_view &to,
              int64_t pad)
{
    const ds_border b = {pad, pad, pad, pad, DS_PAD_REFLECT};
    ds_each(backend, convert{{ds_view_of(from), to, b}, of}, ds_count(to.shape));
}

/* Weights (O, I, kH, kW) into cuDNN's form. */
struct turn_weights {
    ds_view from, to;
    channels out, in;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(to, i);
        const int64_t o = out.source(at.n), c = in.source(at.c);
        ds_store(to, i, o < out.count && c < in.count ? ds_at(from, o, c, at.h, at.w) : 0);
    }
};

/* Gradients of weights from cuDNN's form: those of an image's parts are added up. */
struct return_weights {
    ds_view from, to;
    channels out, in;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(to, i);
        float sum = 0;
        for (int64_t o = 0; o < out.parts; o++)
            for (int64_t c = 0; c < in.parts; c++)
                sum += ds_at(from, out.place(at.n, o), in.place(at.c, c), at.h, at.w);
        ds_store(to, i, sum);
    }
};

/* The end of a step from what cuDNN made, plus bias. */
struct finish {
    ds_view from, out;
    const float *bias;
    ds_end end;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(out, i);
        const float made = ds_load(from, ds_place_of(from, at));
        ds_store(out, i, end.of(bias ? made + bias[at.c] : made, i));
    }
};

void run_finish(ds_backend *backend, const ds_step *step, const ds_view &from, const float *bias)
{
    const finish f = {from, ds_view_of(step->out), bias, ds_end_of(step)};
    ds_each(backend, f, ds_count(step->out->shape));
}

/* Copies what cuDNN cannot read as it lies; returns where the operands are. */
ds_conv_operands place_operands(ds_backend *backend, const ds_step *step, const problem &p,
                                const layout *l)
{
    char *work = (char *)step->workspace;
    const ds_epilogue *e = &step->epilogue;
    const bool backward_input = p.direction == DS_CONV_BACKWARD_INPUT;
    ds_conv_operands o = {p.a->data,
                          l->weights ? l->weights : p.b->data,
                          step->out->data,
                          p.bias ? (const float *)step->in[2]->data : NULL,
                          e->addend ? e->addend->data : NULL,
                          e->gate ? e->gate->data : NULL,
                          work + l->a_bytes + l->b_bytes + l->out_bytes};
    if (l->a_bytes) {
        o.a = work;
        copy_map(backend, p.a, backward_input ? channels_of_y(&p, l) : channels_of_x(&p, l),
                 packed(backward_input ? l->y : l->x, l->half, work),
                 backward_input || !p.reflect ? 0 : p.pad);
    }
    if (l->b_bytes) {
        const ds_view to = packed(p.direction == DS_CONV_BACKWARD_WEIGHT ? l->y : l->w, l->half,
                                  work + l->a_bytes);
        o.b = to.data;
        if (p.direction == DS_CONV_BACKWARD_WEIGHT)
            copy_map(backend, p.b, channels_of_y(&p, l), to, 0);
        else
            ds_each(
                backend,
                turn_weights{ds_view_of(p.b), to, channels_of_y(&p, l), channels_of_weights(&p, l)},
                ds_count(l->w));
    }
    if (l->out_bytes)
        o.out = work + l->a_bytes + l->b_bytes;
    return o;
}

/* Folds the mirrored border of a gradient back. */
void run_fold(ds_backend *backend, const ds_step *step, const problem &p, ds_view from)
{
    const int64_t pad = p.pad;
    from.shape.c = p.x.c;
    const ds_fold_border border = {
        from, ds_view_of(step->out), {pad, pad, pad, pad, DS_PAD_REFLECT}};
    ds_each(backend, border, ds_count(step->out->shape));
    if (step->epilogue.active || step->epilogue.addend)
        run_finish(backend, step, border.dx, NULL);
}

void run(ds_backend *backend, const ds_step *step)
{
    const problem p = problem_of(step);
    const layout *l = (const layout *)step->prepared;
    const ds_conv_operands o = place_operands(backend, step, p, l);
    ds_conv_run(backend, l->conv, &o);
    if (l->fused)
        return;
    const ds_shape made = p.direction == DS_CONV_BACKWARD_WEIGHT  ? l->w
                          : p.direction == DS_CONV_BACKWARD_INPUT ? l->x
                                                                  : l->y;
    const ds_view result = packed(made, half_result(step, l), o.out);
    if (p.direction == DS_CONV_BACKWARD_WEIGHT)
        ds_each(backend,
                return_weights{result, ds_view_of(step->out), channels_of_y(&p, l),
                               channels_of_weights(&p, l)},
                ds_count(step->out->shape));
    else if (p.direction == DS_CONV_BACKWARD_INPUT && p.reflect)
        run_fold(backend, step, p, result);
    else if (l->out_bytes || o.bias || step->epilogue.active || step->epilogue.addend)
        run_finish(backend, step, result, o.bias);
}

} // namespace

const ds_kernel ds_cuda_conv2d = {
    .accepts = ds_takes_end, .prepare = prepare, .run = run, .release = release, .apart = true};
const ds_kernel ds_cuda_conv2d_backward_input = {
    .accepts = ds_takes_end, .prepare = prepare, .run = run, .release = release, .apart = true};
const ds_kernel ds_cuda_conv2d_backward_weight = {
    .prepare = prepare, .run = run, .release = release};
