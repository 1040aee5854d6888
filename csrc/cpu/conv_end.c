#include "cpu/conv_end.h"

static bool has_half(const ds_step *step)
{
    const ds_epilogue *e = &step->epilogue;
    return ds_is_half(step->out) || (e->addend && ds_is_half(e->addend)) ||
           (e->gate && ds_is_half(e->gate));
}

int64_t ds_end_floats(const ds_step *step, int64_t pixels)
{
    return has_half(step) ? DS_END_MAPS * pixels * DS_BLOCK : 0;
}

ds_end ds_end_of(const ds_slots *slots, const ds_step *step, const float *bias)
{
    ds_end end = {.slots = slots,
                  .y = step->out,
                  .addend = step->epilogue.addend,
                  .gate = step->epilogue.gate,
                  .finish = ds_finish_of(step, bias),
                  .apart = has_half(step)};
    end.finish.stream &= !end.apart;
    return end;
}

/* Floats of one block of a part. */
static int64_t area_floats(const ds_part *part)
{
    return part->area.rows * part->area.columns * DS_BLOCK;
}

static const float *read_part(const ds_end *end, const ds_part *part, const ds_tensor *map,
                              float *to)
{
    const int64_t floats = area_floats(part), first = ds_first_block(end, part);
    for (int64_t i = 0; map && i < part->blocks; i++)
        ds_read_area(end->slots, map, first + i, &part->area, to + i * floats);
    return map ? to : NULL;
}

ds_opened ds_end_read(const ds_end *end, const ds_part *part, float *scratch)
{
    const int64_t floats = part->blocks * area_floats(part);
    ds_opened opened = {.y = scratch,
                        .block = area_floats(part),
                        .row = part->area.columns * DS_BLOCK,
                        .column = DS_BLOCK,
                        .finish = ds_finish_at(&end->finish, 0, part->block * DS_BLOCK)};
    opened.finish.addend = read_part(end, part, end->addend, scratch + floats);
    opened.finish.gate = read_part(end, part, end->gate, scratch + 2 * floats);
    return opened;
}

void ds_end_write(const ds_end *end, const ds_part *part, const float *scratch)
{
    const int64_t floats = area_floats(part), first = ds_first_block(end, part);
    for (int64_t i = 0; i < part->blocks; i++)
        ds_write_area(end->slots, end->y, first + i, &part->area, scratch + i * floats);
}
