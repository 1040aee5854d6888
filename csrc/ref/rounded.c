/* What bf16 means: the op in float, on operands that a convolution has rounded, and its result
   rounded where a map of it is bf16. Values lie as floats all the same. */
#include "ref/ref.h"

#include "base/bf16.h"

void DS_REF(round)(const ds_real *from, ds_real *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = (ds_real)ds_round_to_bf16((float)from[i]);
}

/* An operand of a convolution: an image counts with two bf16. */
static void round_operand(const ds_tensor *operand, ds_real *to)
{
    const ds_real *from = ds_real_data(operand);
    const int64_t count = ds_count(operand->shape);
    if (!ds_is_image(operand)) {
        DS_REF(round)(from, to, count);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        to[i] = (ds_real)ds_round_to_two_bf16((float)from[i]);
}

/* The operands of a convolution, which are its first two inputs. */
enum { OPERANDS = 2 };

/* Behind the workspace of the op's own kernel lie the rounded operands. */
static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    const ds_kernel *kernel = DS_REF(kernel)(step->op);
    if (kernel->prepare && kernel->prepare(backend, step, status) != DS_OK)
        return status->code;
    for (int i = 0; ds_step_rounds(step) && i < OPERANDS; i++)
        step->workspace_bytes += (size_t)ds_count(step->in[i]->shape) * sizeof(ds_real);
    return DS_OK;
}

static void run(ds_backend *backend, const ds_step *step)
{
    ds_step inner = *step;
    ds_tensor rounded[OPERANDS];
    ds_real *copy = (ds_real *)((char *)step->workspace + step->workspace_bytes);
    for (int i = 0; ds_step_rounds(step) && i < OPERANDS; i++)
        copy -= ds_count(step->in[i]->shape);
    for (int i = 0; ds_step_rounds(step) && i < OPERANDS; i++) {
        rounded[i] = *step->in[i];
        rounded[i].data = copy;
        round_operand(step->in[i], copy);
        inner.in[i] = &rounded[i];
        copy += ds_count(rounded[i].shape);
    }
    DS_REF(kernel)(step->op)->run(backend, &inner);
    if (ds_is_half(step->out))
        DS_REF(round)(ds_real_data(step->out), ds_real_data(step->out), ds_count(step->out->shape));
}

static void release(ds_backend *backend, ds_step *step)
{
    const ds_kernel *kernel = DS_REF(kernel)(step->op);
    if (kernel->release)
        kernel->release(backend, step);
}

const ds_kernel DS_REF(rounded) = {.prepare = prepare, .run = run, .release = release};
