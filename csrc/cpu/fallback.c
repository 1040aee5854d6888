/* Ops without a kernel of their own: blocked tensors become planar in the workspace, ref runs, and
   what it wrote is blocked again. */
#include "cpu/cpu.h"
#include "ref/ref.h"

#include <string.h>

/* The step as ref sees it. */
typedef struct inner {
    ds_step step;
    ds_tensor in[DS_MAX_INPUTS];
    ds_tensor out;
} inner;

/* Where a planar copy starts in the workspace: whole lines, in the order of inputs, then output. */
static size_t copy_bytes(const ds_tensor *tensor)
{
    const size_t bytes = (size_t)ds_count(tensor->shape) * sizeof(float);
    return ds_is_blocked(tensor) ? (bytes + DS_ALIGN - 1) / DS_ALIGN * DS_ALIGN : 0;
}

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_kernel *kernel = DS_REF(kernel)(step->op);
    return !step->prologue.active && ds_no_epilogue(step) && kernel->run && !kernel->prepare;
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    inner *self = NULL;
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *self, &self, status));
    self->step = *step;
    self->step.out = &self->out;
    self->out = *step->out;
    step->workspace_bytes = copy_bytes(step->out);
    for (int i = 0; i < step->inputs; i++) {
        self->step.in[i] = &self->in[i];
        self->in[i] = *step->in[i];
        step->workspace_bytes += copy_bytes(step->in[i]);
    }
    step->prepared = self;
    step->variant = "ref";
exit:
    return status->code;
}

static void run(ds_backend *backend, const ds_step *step)
{
    inner *self = step->prepared;
    const unsigned mutates = ds_ops[step->op].meaning->mutates;
    unsigned char *copy = step->workspace;
    for (int i = 0; i < step->inputs; i++) {
        self->in[i].data = copy_bytes(step->in[i]) ? (void *)copy : step->in[i]->data;
        copy += copy_bytes(step->in[i]);
        if (ds_is_blocked(step->in[i]))
            ds_cpu_unblock(backend->pool, step->in[i], self->in[i].data);
    }
    self->out.data = ds_is_blocked(step->out) ? (void *)copy : step->out->data;
    if (mutates) /* the output is the first input after the change */
        self->out.data = self->in[0].data;
    DS_REF(kernel)(step->op)->run(backend, &self->step);
    for (int i = 0; i < step->inputs; i++)
        if ((mutates >> i & 1) && ds_is_blocked(step->in[i]))
            ds_cpu_block(backend->pool, self->in[i].data, step->in[i]);
    if (!mutates && ds_is_blocked(step->out))
        ds_cpu_block(backend->pool, self->out.data, step->out);
}

static void release(ds_backend *backend, ds_step *step)
{
    ds_release(backend->alloc, &step->prepared);
}

const ds_kernel ds_cpu_fallback = {
    .accepts = accepts, .prepare = prepare, .run = run, .release = release};
