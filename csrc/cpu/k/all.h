/* All templates, in the instruction set whose words were included before; forgets the words. */
#include "cpu/k/finish.h"

#include "cpu/k/half.h"

#include "cpu/k/depthwise.h"

#include "cpu/k/direct.h"
#include "cpu/k/winograd.h"

#include "cpu/k/gram.h"

#include "cpu/k/pool2d.h"

#include "cpu/k/resize.h"

#include "cpu/k/channels.h"

#include "cpu/k/activation.h"

#include "cpu/k/update.h"

#include "cpu/k/total_variation.h"

#include "cpu/k/pointwise.h"

static const ds_slots DS_SLOT(table) = {
    .strip = STRIP,
#define SLOT(name, parameters) .name = DS_SLOT(name),
#include "cpu/slots.def"
};

#undef DS_SLOT
#undef TARGET
#undef LANES
#undef PLANAR_PIXELS
#undef MICRO_VECTORS
#undef STRIP
#undef vec
#undef v_load
#undef v_store
#undef v_stream
#undef v_splat
#undef v_add
#undef v_sub
#undef v_mul
#undef v_div
#undef v_min
#undef v_fma
#undef v_fnma
#undef v_sum
#undef v_greater
#undef v_power_of_two
#undef v_widen
#undef v_narrow
#undef v_round
