/* Which maps are measured: the kernel that makes them leaves the statistics of their channels
   behind them, in passing, and later steps need not read the map for these. */
#include "core/plan_impl.h"

static void measure(ds_plan *plan, ds_id id)
{
    for (size_t i = 0; i < plan->count; i++) {
        const ds_kernel *maker = plan->kernels[i];
        if (plan->order[i] == id)
            plan->tensors[id].measured = maker->measures && maker->measures(&plan->steps[i]);
    }
}

static bool wants(const ds_plan *plan, size_t step, int input)
{
    return (plan->kernels[step]->statistics >> input & 1) ||
           (input == 0 && plan->steps[step].prologue.norm);
}

void ds_plan_measure(ds_plan *plan)
{
    ds_id in[DS_GROUP_INPUTS];
    for (size_t i = 0; i < plan->count; i++) {
        ds_group_inputs(plan, plan->order[i], in);
        for (int input = 0; input < plan->steps[i].inputs; input++)
            if (wants(plan, i, input))
                measure(plan, in[input]);
    }
}
