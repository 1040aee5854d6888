/* dot and axpy of tensors of any layout; rules: ops/vector.c. */
#include "cpu/channels.h"
#include "cpu/flat.h"

#include <string.h>

static ds_code dot_prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    (void)backend;
    step->workspace_bytes = ds_channels_bytes(step->in[0]);
    return status->code;
}

static void dot_run(ds_backend *backend, const ds_step *step)
{
    ds_channels channels = ds_channels_of(step->in[0], step->workspace);
    float *zero = channels.vector[0];
    double sum = 0;
    memset(zero, 0, (size_t)channels.count * sizeof *zero);
    ds_channel_sums(backend, step->in[0], step->in[1], zero, NULL, &channels);
    for (int64_t i = 0; i < channels.count; i++)
        sum += channels.sums[i].gx;
    *(float *)step->out->data = (float)sum;
}

static void apply_axpy(const ds_flat *flat, const float *const in[], float *y, int64_t count)
{
    flat->slots->axpy(*(const float *)flat->context, in[0], in[1], y, count);
}

static void axpy_run(ds_backend *backend, const ds_step *step)
{
    const float alpha = *(const float *)step->in[0]->data;
    ds_flat_run(backend->pool, &(ds_flat){.apply = apply_axpy,
                                          .slots = ds_cpu_slots(backend->level),
                                          .context = &alpha,
                                          .in = {step->in[1], step->in[2]},
                                          .y = step->out});
}

const ds_kernel ds_cpu_dot = {.prepare = dot_prepare, .run = dot_run, .takes_half = true};
const ds_kernel ds_cpu_axpy = {.run = axpy_run, .in_place = 2 | 4, .takes_half = true};
