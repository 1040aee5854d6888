#include "core/plan_impl.h"

#include <stdarg.h>
#include <stdio.h>
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
                      .epilogue = {.active = group->active,
                                   .activation = group->activation,
                                   .alpha = group->alpha}};
    if (group->addend != DS_NONE)
        step->epilogue.addend = &plan->tensors[group->addend];
    if (group->gate != DS_NONE)
        step->epilogue.gate = &plan->tensors[group->gate];
    for (int i = 0; i < primary->inputs; i++) {
        const ds_id in = primary->in[i];
        step->in[i] = &plan->tensors[in];
        step->constant[i] = plan->graph.nodes[in].op == DS_OP_constant && step->in[i]->data;
    }
}

/* Marks what the outputs depend on. Nodes only read earlier ones, so one pass backwards does. */
static void mark_needed(ds_plan *plan, const ds_id *outputs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        plan->needed[outputs[i]] = plan->is_output[outputs[i]] = true;
    for (ds_id id = (ds_id)plan->nodes - 1; id >= 0; id--) {
        const ds_node *node = &plan->graph.nodes[id];
        for (int i = 0; plan->needed[id] && i < node->inputs; i++)
            plan->needed[node->in[i]] = true;
    }
}

static void describe_tensors(ds_plan *plan)
{
    const ds_dtype dtype = plan->backend->dtype;
    for (ds_id id = 0; (size_t)id < plan->nodes; id++) {
        const ds_node *node = &plan->graph.nodes[id];
        plan->groups[id] = (ds_group){.primary = id, .addend = DS_NONE, .gate = DS_NONE};
        plan->tensors[id] = node->out;
        plan->tensors[id].dtype = dtype;
        const bool readable =
            node->op == DS_OP_constant && node->out.kind == DS_PLAIN && node->out.dtype == dtype;
        if (!readable)
            plan->tensors[id].data = NULL;
    }
}

static ds_code allocate_nodes(ds_plan *plan, const ds_graph *graph, ds_status *status)
{
    const size_t n = plan->nodes;
    ds_graph_init(&plan->graph, plan->alloc);
    DS_TRY(ds_alloc_grow(plan->alloc, &plan->graph.nodes, &plan->graph.capacity, n,
                         sizeof *graph->nodes, status));
    memcpy(plan->graph.nodes, graph->nodes, n * sizeof *graph->nodes);
    plan->graph.count = n;
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof(bool), &plan->needed, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof(bool), &plan->is_output, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof(bool), &plan->is_checked, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof(bool), &plan->absorbed, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof *plan->groups, &plan->groups, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof *plan->tensors, &plan->tensors, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof *plan->places, &plan->places, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof *plan->order, &plan->order, status));
exit:
    return status->code;
}

/* Adds one missing op to the list in `text`, each once. */
static void name_missing(const ds_step *step, char *text, size_t size)
{
    const char *name = ds_ops[step->op].name;
    const size_t used = strlen(text);
    if (!strstr(text, name))
        snprintf(text + used, size - used, "%s%s", used ? ", " : "", name);
}

static ds_code find_kernels(ds_plan *plan, ds_status *status)
{
    char missing[256] = "";
    DS_TRY(ds_alloc_zeroed(plan->alloc, plan->count * sizeof *plan->steps, &plan->steps, status));
    DS_TRY(
        ds_alloc_zeroed(plan->alloc, plan->count * sizeof *plan->kernels, &plan->kernels, status));
    for (size_t i = 0; i < plan->count; i++) {
        ds_group_step(plan, plan->order[i], &plan->steps[i]);
        plan->kernels[i] = plan->backend->find(plan->backend, &plan->steps[i]);
        if (!plan->kernels[i])
            name_missing(&plan->steps[i], missing, sizeof missing);
    }
    if (missing[0])
        ds_fail(status, DS_UNSUPPORTED, "backend %s has no kernel for: %s", plan->backend->name,
                missing);
exit:
    return status->code;
}

static ds_code prepare_kernels(ds_plan *plan, ds_status *status)
{
    for (; plan->prepared < plan->count; plan->prepared++) {
        ds_step *step = &plan->steps[plan->prepared];
        const ds_kernel *kernel = plan->kernels[plan->prepared];
        const ds_code code = kernel->prepare ? kernel->prepare(plan->backend, step, status) : DS_OK;
        plan->prepared_bytes += step->prepared_bytes;
        if (code != DS_OK) {
            status->node = plan->order[plan->prepared];
            plan->prepared++; /* release this one too: it may be half-built */
            return code;
        }
    }
    return DS_OK;
}

/* Gives variables and packed constants their values; inputs start as zeros. */
static void fill_leaves(ds_plan *plan)
{
    if (plan->options.poison)
        memset(plan->arena, DS_GUARD_FILL, plan->arena_bytes);
    for (ds_id id = 0; (size_t)id < plan->nodes; id++) {
        const ds_node *node = &plan->graph.nodes[id];
        if (!plan->needed[id] || !ds_is_leaf(node->op) || !plan->places[id].bytes)
            continue;
        memset(plan->tensors[id].data, 0, plan->places[id].bytes);
        if (node->out.data)
            plan->backend->pack(plan->backend, node->out.data, node->out.dtype, &plan->tensors[id]);
    }
}

static ds_code check_ids(const ds_graph *graph, const ds_id *ids, size_t count, const char *what,
                         ds_status *status)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= graph->count)
            return ds_fail(status, DS_BAD_VALUE, "compile: %s %zu is no node of this graph", what,
                           i);
    return DS_OK;
}

ds_code ds_plan_create(const ds_graph *graph, ds_backend *backend, const ds_id *outputs,
                       size_t count, ds_plan_options options, ds_plan **out, ds_status *status)
{
    ds_plan *plan = NULL;
    *out = NULL;
    if (count == 0)
        return ds_fail(status, DS_BAD_VALUE, "compile: outputs is empty; name at least one node");
    DS_TRY(check_ids(graph, outputs, count, "output", status));
    DS_TRY(check_ids(graph, options.check, options.checks, "check", status));
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *plan, &plan, status));
    *plan = (ds_plan){
        .backend = backend, .alloc = backend->alloc, .nodes = graph->count, .options = options};
    DS_TRY(allocate_nodes(plan, graph, status));
    mark_needed(plan, outputs, count);
    for (size_t i = 0; i < options.checks; i++)
        plan->is_checked[options.check[i]] = true;
    describe_tensors(plan);
    DS_TRY(ds_plan_fuse(plan, status));
    DS_TRY(ds_plan_schedule(plan, outputs, count, status));
    DS_TRY(find_kernels(plan, status));
    DS_TRY(prepare_kernels(plan, status));
    DS_TRY(ds_plan_place(plan, status));
    fill_leaves(plan);
exit:
    if (status->code != DS_OK)
        ds_plan_destroy(&plan);
    *out = plan;
    return status->code;
}

void ds_plan_destroy(ds_plan **address)
{
    ds_plan *plan = *address;
    if (!plan)
        return;
    for (size_t i = 0; i < plan->prepared; i++)
        if (plan->kernels[i]->release)
            plan->kernels[i]->release(plan->backend, &plan->steps[i]);
    ds_alloc *alloc = plan->alloc;
    ds_graph_clear(&plan->graph);
    void *const blocks[] = {&plan->needed, &plan->is_output, &plan->is_checked, &plan->absorbed,
                            &plan->groups, &plan->tensors,   &plan->places,     &plan->order,
                            &plan->steps,  &plan->kernels,   &plan->lives,      &plan->offsets,
                            &plan->arena};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ds_release(alloc, blocks[i]);
    ds_release(alloc, address);
}

const ds_tensor *ds_plan_tensor(const ds_plan *plan, ds_id id)
{
    const bool known = id >= 0 && (size_t)id < plan->nodes;
    return known && plan->tensors[id].data ? &plan->tensors[id] : NULL;
}

size_t ds_plan_bytes(const ds_plan *plan)
{
    return plan->arena_bytes + plan->prepared_bytes;
}

typedef struct text {
    char *data;
    size_t used, capacity;
} text;

__attribute__((format(printf, 4, 5))) static ds_code
print(text *t, ds_alloc *alloc, ds_status *status, const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    const size_t length = strlen(line);
    ds_code code = ds_alloc_grow(alloc, &t->data, &t->capacity, t->used + length + 1, 1, status);
    if (code != DS_OK)
        return code;
    memcpy(t->data + t->used, line, length + 1);
    t->used += length;
    return DS_OK;
}

static ds_code print_step(const ds_plan *plan, size_t i, text *t, ds_status *status)
{
    const ds_step *step = &plan->steps[i];
    const ds_shape s = step->out->shape;
    const ds_place *place = &plan->places[plan->order[i]];
    char name[80];
    ds_graph_describe(&plan->graph, plan->order[i], name, sizeof name);
    return print(t, plan->alloc, status,
                 "%4zu  %-24s %-24s (%lld, %lld, %lld, %lld)%s%s%s at %zu, %zu bytes%s\n", i,
                 ds_ops[step->op].name, step->variant ? step->variant : plan->backend->name,
                 (long long)s.n, (long long)s.c, (long long)s.h, (long long)s.w,
                 step->epilogue.addend ? " + addend" : "", step->epilogue.active ? " + act" : "",
                 step->epilogue.gate ? " gated" : "", place->offset, place->bytes,
                 place->owner == plan->order[i] ? "" : " in place");
}

ds_code ds_plan_dump(const ds_plan *plan, char **out, ds_status *status)
{
    text t = {0};
    DS_TRY(print(&t, plan->alloc, status, "%zu steps on %s, %.1f MiB arena, %.1f MiB prepared\n",
                 plan->count, plan->backend->name, (double)plan->arena_bytes / (1 << 20),
                 (double)plan->prepared_bytes / (1 << 20)));
    for (size_t i = 0; i < plan->count; i++)
        DS_TRY(print_step(plan, i, &t, status));
exit:
    if (status->code != DS_OK)
        ds_release(plan->alloc, &t.data);
    *out = t.data;
    return status->code;
}
