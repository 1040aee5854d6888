/* The plan as text. */
#include "core/plan_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
    char name[128];
    ds_graph_describe(&plan->graph, plan->order[i], name, sizeof name);
    return print(t, plan->alloc, status,
                 "%4zu  %-24s %-24s (%lld, %lld, %lld, %lld)%s%s%s%s%s%s%s%s at %zu, %zu bytes%s\n",
                 i, ds_ops[step->op].name, step->variant ? step->variant : plan->backend->name,
                 (long long)s.n, (long long)s.c, (long long)s.h, (long long)s.w,
                 step->out->dtype == DS_BF16 ? " bf16" : "",
                 step->prologue.pooled   ? " unpooled"
                 : step->prologue.active ? " through"
                                         : "",
                 step->prologue.norm ? " norm" : "", step->epilogue.features ? " + gram" : "",
                 step->epilogue.addend ? " + addend" : "", step->epilogue.active ? " + act" : "",
                 step->epilogue.gate ? " gated" : "", step->out->measured ? " measured" : "",
                 place->offset, place->bytes, place->owner == plan->order[i] ? "" : " in place");
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
