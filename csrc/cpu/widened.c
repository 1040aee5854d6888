/* Steps with bf16 tensors that no kernel takes as they are: copies in float lie in the workspace,
   the kernel for floats runs, and its result is rounded into the output. */
#include "cpu/half.h"

/* Tensors of a step: inputs, addend, gate, output. */
enum { ADDEND = DS_MAX_INPUTS, GATE, OUT, TENSORS };

typedef struct inner {
    ds_step step; /* the same in float */
    const ds_kernel *kernel;
    const ds_tensor *outer[TENSORS]; /* NULL: none */
    ds_tensor tensors[TENSORS];
    bool copied[TENSORS]; /* into the workspace, where that of the kernel follows */
} inner;

static size_t copy_bytes(const ds_tensor *tensor)
{
    return (ds_stored_bytes(tensor) + DS_ALIGN - 1) / DS_ALIGN * DS_ALIGN;
}

/* Describes the step in float. A convolution's operands are copied to be rounded, those that were
   bf16 are widened, and what is widened or made there is copied too. */
static void describe(const ds_step *step, inner *self)
{
    self->step = *step;
    for (int i = 0; i < step->inputs; i++)
        self->outer[i] = step->in[i];
    self->outer[ADDEND] = step->epilogue.addend;
    self->outer[GATE] = step->epilogue.gate;
    self->outer[OUT] = step->out;
    for (int i = 0; i < TENSORS; i++) {
        if (!self->outer[i])
            continue;
        self->tensors[i] = *self->outer[i];
        self->tensors[i].dtype = DS_F32;
        self->tensors[i].measured = false;
        self->copied[i] = ds_is_half(self->outer[i]) || (i < 2 && ds_step_rounds(step));
    }
    for (int i = 0; i < step->inputs; i++) {
        self->step.in[i] = &self->tensors[i];
        self->step.constant[i] &= !self->copied[i];
    }
    if (step->epilogue.addend)
        self->step.epilogue.addend = &self->tensors[ADDEND];
    if (step->epilogue.gate)
        self->step.epilogue.gate = &self->tensors[GATE];
    self->step.out = &self->tensors[OUT];
}

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    inner self = {0};
    describe(step, &self);
    return ds_cpu_find(backend, &self.step) != NULL;
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    inner *self = NULL;
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *self, &self, status));
    describe(step, self);
    step->prepared = self;
    self->kernel = ds_cpu_find(backend, &self->step);
    if (self->kernel->prepare)
        DS_TRY(self->kernel->prepare(backend, &self->step, status));
    step->workspace_bytes = self->step.workspace_bytes;
    for (int i = 0; i < TENSORS; i++)
        if (self->copied[i])
            step->workspace_bytes += copy_bytes(&self->tensors[i]);
    step->prepared_bytes = self->step.prepared_bytes;
    step->variant = self->step.variant ? self->step.variant : "widened";
exit:
    return status->code;
}

static void run(ds_backend *backend, const ds_step *step)
{
    inner *self = step->prepared;
    unsigned char *work = step->workspace;
    for (int i = 0; i < TENSORS; i++) {
        ds_tensor *tensor = &self->tensors[i];
        const ds_tensor *outer = self->outer[i];
        if (!outer)
            continue;
        tensor->data = self->copied[i] ? (void *)work : outer->data;
        work += self->copied[i] ? copy_bytes(tensor) : 0;
        if (i != OUT && ds_is_half(outer))
            ds_cpu_widen(backend, outer, tensor);
        else if (i != OUT && self->copied[i])
            ds_round_operand(ds_cpu_slots(backend->level), outer, outer->data, tensor->data,
                             ds_stored(tensor));
    }
    self->step.workspace = work;
    self->kernel->run(backend, &self->step);
    if (ds_is_half(step->out))
        ds_cpu_narrow(backend, &self->tensors[OUT], step->out);
}

static void release(ds_backend *backend, ds_step *step)
{
    inner *self = step->prepared;
    if (self && self->kernel && self->kernel->release)
        self->kernel->release(backend, &self->step);
    ds_release(backend->alloc, &step->prepared);
}

const ds_kernel ds_cpu_widened = {.accepts = accepts,
                                  .prepare = prepare,
                                  .run = run,
                                  .release = release,
                                  .apart = true,
                                  .takes_half = true};
