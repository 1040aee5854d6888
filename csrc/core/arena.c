/* The arena of a plan: ordinary memory, or a device's. */
#include "core/plan_impl.h"

#include <string.h>

ds_code ds_arena_create(ds_plan *plan, ds_status *status)
{
    const ds_device *device = plan->backend->device;
    if (device)
        return device->allocate(plan->backend, plan->arena_bytes, &plan->arena, status);
    return ds_alloc_raw(plan->alloc, plan->arena_bytes, &plan->arena, status);
}

void ds_arena_destroy(ds_plan *plan)
{
    if (plan->backend->device)
        plan->backend->device->release(plan->backend, &plan->arena);
    else
        ds_release(plan->alloc, &plan->arena);
}

void ds_arena_fill(const ds_plan *plan, size_t offset, int byte, size_t bytes)
{
    if (plan->backend->device)
        plan->backend->device->fill(plan->backend, plan->arena + offset, byte, bytes);
    else
        memset(plan->arena + offset, byte, bytes);
}

void ds_arena_read(const ds_plan *plan, size_t offset, void *to, size_t bytes)
{
    if (plan->backend->device)
        plan->backend->device->read(plan->backend, to, plan->arena + offset, bytes);
    else
        memcpy(to, plan->arena + offset, bytes);
}
