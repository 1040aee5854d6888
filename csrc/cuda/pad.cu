#include "cuda/border.h"

namespace
{

void run(ds_backend *backend, const ds_step *step)
{
    const ds_pad_attr a = DS_ATTR(pad, step->attr);
    const ds_add_border f = {ds_view_of(step->in[0]),
                             ds_view_of(step->out),
                             {a.top, a.bottom, a.left, a.right, (int)a.mode}};
    ds_each(backend, f, ds_count(step->out->shape));
}

void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_pad_backward_attr a = DS_ATTR(pad_backward, step->attr);
    const ds_fold_border f = {ds_view_of(step->in[0]),
                              ds_view_of(step->out),
                              {a.top, a.bottom, a.left, a.right, (int)a.mode}};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_pad = {.run = run};
const ds_kernel ds_cuda_pad_backward = {.run = run_backward};
