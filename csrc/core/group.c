/* Groups of fused nodes, as the passes of the plan see them. */
#include "core/plan_impl.h"

#include <string.h>

bool ds_is_leaf(ds_op op)
{
    return op == DS_OP_input || op == DS_OP_constant || op == DS_OP_variable;
}

int ds_group_inputs(const ds_plan *plan, ds_id id, ds_id in[DS_GROUP_INPUTS])
{
    const ds_group *group = &plan->groups[id];
    const ds_node *primary = &plan->graph.nodes[group->primary];
    int count = primary->inputs;
    memcpy(in, primary->in, (size_t)count * sizeof *in);
    if (count > 0)
        in[0] = group->source;
    const ds_node *norm = group->norm == DS_NONE ? NULL : &plan->graph.nodes[group->norm];
    for (int i = 1; norm && i < norm->inputs; i++)
        in[count++] = norm->in[i];
    if (group->pooled != DS_NONE)
        in[count++] = group->pooled;
    if (group->gram != DS_NONE) {
        in[count++] = plan->graph.nodes[group->gram].in[0];
        in[count++] = plan->graph.nodes[group->gram].in[1];
    }
    if (group->addend != DS_NONE)
        in[count++] = group->addend;
    if (group->gate != DS_NONE)
        in[count++] = group->gate;
    return count;
}

void ds_group_step(const ds_plan *plan, ds_id id, ds_step *step)
{
    const ds_group *group = &plan->groups[id];
    const ds_node *primary = &plan->graph.nodes[group->primary];
    *step = (ds_step){.op = primary->op,
                      .attr = primary->attr,
                      .inputs = primary->inputs,
                      .out = &plan->tensors[id],
                      .prologue = group->prologue,
                      .epilogue = {.active = group->active,
                                   .activation = group->activation,
                                   .alpha = group->alpha}};
    if (group->pooled != DS_NONE)
        step->prologue.pooled = &plan->tensors[group->pooled];
    if (group->gram != DS_NONE) {
        const ds_node *gram = &plan->graph.nodes[group->gram];
        step->epilogue.features = &plan->tensors[gram->in[0]];
        step->epilogue.dg = &plan->tensors[gram->in[1]];
        step->epilogue.scale = DS_ATTR(gram_backward, gram->attr).scale;
    }
    if (group->addend != DS_NONE)
        step->epilogue.addend = &plan->tensors[group->addend];
    if (group->gate != DS_NONE)
        step->epilogue.gate = &plan->tensors[group->gate];
    for (int i = 0; i < primary->inputs; i++) {
        const ds_id in = i == 0 ? group->source : primary->in[i];
        step->in[i] = &plan->tensors[in];
        step->constant[i] = plan->graph.nodes[in].op == DS_OP_constant && step->in[i]->data;
    }
    step->splits = plan->options.precision == DS_PRECISION_MIXED && !ds_step_rounds(step);
}
