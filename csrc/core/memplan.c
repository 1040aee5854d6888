#include "core/memplan.h"

static size_t aligned(size_t bytes)
{
    return (bytes + DS_ALIGN - 1) / DS_ALIGN * DS_ALIGN;
}

static bool overlap(const ds_life *a, const ds_life *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Largest first, earlier index first among equals, so that the plan is the same on every run.
   Insertion sort: a plan has a few hundred values. */
static void sort_by_size(const ds_life *values, size_t count, size_t *order)
{
    for (size_t i = 0; i < count; i++) {
        size_t place = i;
        for (; place > 0 && values[order[place - 1]].bytes < values[i].bytes; place--)
            order[place] = order[place - 1];
        order[place] = i;
    }
}

/* Inserts `value` into the first `placed` entries of by_offset, which ascend in offset. */
static void insert_by_offset(const size_t *offsets, size_t *by_offset, size_t placed, size_t value)
{
    size_t place = placed;
    for (; place > 0 && offsets[by_offset[place - 1]] > offsets[value]; place--)
        by_offset[place] = by_offset[place - 1];
    by_offset[place] = value;
}

/* The start of the smallest gap that holds `value`, or the end of what overlaps it. */
static size_t best_gap(const ds_life *values, const size_t *offsets, const size_t *by_offset,
                       size_t placed, size_t value, bool reuse)
{
    const size_t bytes = aligned(values[value].bytes);
    size_t end = 0, best = SIZE_MAX, best_size = SIZE_MAX;
    for (size_t i = 0; i < placed; i++) {
        const size_t other = by_offset[i];
        if (reuse && !overlap(&values[other], &values[value]))
            continue;
        const size_t start = offsets[other];
        if (start >= end + bytes && start - end < best_size) {
            best = end;
            best_size = start - end;
        }
        const size_t stop = start + aligned(values[other].bytes);
        end = stop > end ? stop : end;
    }
    return best == SIZE_MAX ? end : best;
}

ds_code ds_memplan(ds_alloc *alloc, const ds_life *values, size_t count, bool reuse,
                   size_t *offsets, size_t *total, ds_status *status)
{
    size_t *order = NULL, *by_offset = NULL;
    *total = 0;
    DS_TRY(ds_alloc_raw(alloc, count * sizeof *order, &order, status));
    DS_TRY(ds_alloc_raw(alloc, count * sizeof *by_offset, &by_offset, status));
    sort_by_size(values, count, order);
    for (size_t i = 0; i < count; i++) {
        const size_t value = order[i];
        offsets[value] = best_gap(values, offsets, by_offset, i, value, reuse);
        insert_by_offset(offsets, by_offset, i, value);
        const size_t stop = offsets[value] + aligned(values[value].bytes);
        *total = stop > *total ? stop : *total;
    }
exit:
    ds_release(alloc, &order);
    ds_release(alloc, &by_offset);
    return status->code;
}
