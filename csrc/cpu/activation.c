/* Activations on their own, of any layout; formulas: ops/activation.c. */
#include "cpu/conv.h"
#include "cpu/flat.h"

typedef struct curve {
    int kind;
    float alpha;
    ds_finish finish;
} curve;

/* A sigmoid of the zeros in empty lanes is no zero. */
static bool accepts(const ds_backend *backend, const ds_step *step)
{
    const bool empty_lanes = ds_is_blocked(step->out) && step->out->shape.c % DS_BLOCK != 0;
    (void)backend;
    return ds_no_epilogue(step) &&
           !(DS_ATTR(activation, step->attr).kind == DS_SIGMOID && empty_lanes);
}

static bool accepts_backward(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_no_epilogue(step);
}

/* relu, relu6 and leaky_relu are what ends other kernels too. */
static curve curve_of(int64_t kind, double alpha)
{
    return (curve){.kind = (int)kind,
                   .alpha = (float)alpha,
                   .finish = {.active = true,
                              .slope = kind == DS_LEAKY_RELU ? (float)alpha : 0,
                              .high = kind == DS_RELU6 ? 6 : __builtin_inff()}};
}

static void apply(const ds_flat *flat, const float *const in[], float *y, int64_t count)
{
    const curve *c = flat->context;
    switch (c->kind) {
    case DS_ELU:
        flat->slots->elu(in[0], c->alpha, y, count);
        return;
    case DS_SIGMOID:
        flat->slots->sigmoid(in[0], y, count);
        return;
    case DS_TANH:
        flat->slots->tanh(in[0], y, count);
        return;
    default:
        flat->slots->finish_pixels(in[0], &c->finish, y, count);
    }
}

static void apply_backward(const ds_flat *flat, const float *const in[], float *y, int64_t count)
{
    const curve *c = flat->context;
    ds_finish finish = c->finish;
    finish.gate = in[1];
    switch (c->kind) {
    case DS_ELU:
        flat->slots->elu_backward(in[0], in[1], c->alpha, y, count);
        return;
    case DS_SIGMOID:
        flat->slots->sigmoid_backward(in[0], in[1], y, count);
        return;
    case DS_TANH:
        flat->slots->tanh_backward(in[0], in[1], y, count);
        return;
    default:
        flat->slots->finish_pixels(in[0], &finish, y, count);
    }
}

static void run(ds_backend *backend, const ds_step *step)
{
    const ds_activation_attr a = DS_ATTR(activation, step->attr);
    const curve c = curve_of(a.kind, a.alpha);
    ds_flat_run(backend->pool, &(ds_flat){.apply = apply,
                                          .slots = ds_cpu_slots(backend->level),
                                          .context = &c,
                                          .in = {step->in[0]},
                                          .y = step->out});
}

static void backward_run(ds_backend *backend, const ds_step *step)
{
    const ds_activation_backward_attr a = DS_ATTR(activation_backward, step->attr);
    const curve c = curve_of(a.kind, a.alpha);
    ds_flat_run(backend->pool, &(ds_flat){.apply = apply_backward,
                                          .slots = ds_cpu_slots(backend->level),
                                          .context = &c,
                                          .in = {step->in[0], step->in[1]},
                                          .y = step->out});
}

const ds_kernel ds_cpu_activation = {
    .accepts = accepts, .run = run, .in_place = 1, .takes_half = true};
const ds_kernel ds_cpu_activation_backward = {
    .accepts = accepts_backward, .run = backward_run, .in_place = 3, .takes_half = true};
