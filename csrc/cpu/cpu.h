/* Shared by the kernels of the CPU backend: the layout. Feature maps of more than 4 channels lie in
   blocks of 16 channels, (N, ceil(C / 16), H, W, 16), or of 32 where they are bf16, so that one
   pixel of a block is one cache line and one AVX-512 register. Lanes beyond C are zero in every
   tensor, always; kernels keep it so. Everything else is planar. */
#ifndef DS_CPU_CPU_H
#define DS_CPU_CPU_H

#include "core/backend.h"
#include "cpu/slots.h"

/* Images stay planar: a block of which 12 or more lanes are empty would be slower. */
static inline bool ds_is_blocked(const ds_tensor *tensor)
{
    return tensor->kind == DS_MAP && !ds_is_image(tensor);
}

static inline int64_t ds_blocks(int64_t channels)
{
    return (channels + DS_BLOCK - 1) / DS_BLOCK;
}

static inline int64_t ds_half_blocks(int64_t channels)
{
    return (channels + DS_HALF_BLOCK - 1) / DS_HALF_BLOCK;
}

/* Channels of a pixel that lie side by side: those of a block, or 1 of a planar tensor. */
static inline int64_t ds_block_lanes(const ds_tensor *t)
{
    return !ds_is_blocked(t) ? 1 : ds_is_half(t) ? DS_HALF_BLOCK : DS_BLOCK;
}

/* Values of a tensor, empty lanes included. */
static inline int64_t ds_stored(const ds_tensor *t)
{
    const ds_shape s = t->shape;
    const int64_t lanes = ds_block_lanes(t);
    return s.n * ((s.c + lanes - 1) / lanes * lanes) * s.h * s.w;
}

static inline size_t ds_stored_bytes(const ds_tensor *t)
{
    return (size_t)ds_stored(t) * ds_dtype_bytes(t->dtype);
}

/* Pixel (0, 0) of block b of picture n of a bf16 tensor. */
static inline ds_bf16 *ds_half_block(const ds_tensor *t, int64_t n, int64_t b)
{
    const ds_shape s = t->shape;
    return (ds_bf16 *)t->data + (n * ds_half_blocks(s.c) + b) * s.h * s.w * DS_HALF_BLOCK;
}

/* Pixel (0, 0) of block b of picture n of a blocked tensor of floats. */
static inline float *ds_block(const ds_tensor *t, int64_t n, int64_t b)
{
    const ds_shape s = t->shape;
    return (float *)t->data + (n * ds_blocks(s.c) + b) * s.h * s.w * DS_BLOCK;
}

static inline int64_t ds_round_up(int64_t value, int64_t to)
{
    return (value + to - 1) / to * to;
}

static inline bool ds_no_epilogue(const ds_step *step)
{
    return !step->epilogue.active && !step->epilogue.addend;
}

/* Between planar floats and a blocked tensor. */
void ds_cpu_block(ds_pool *pool, const float *planar, const ds_tensor *blocked);
void ds_cpu_unblock(ds_pool *pool, const ds_tensor *blocked, float *planar);

/* Between a bf16 tensor and a blocked one of floats. */
void ds_cpu_widen(ds_backend *backend, const ds_tensor *half, const ds_tensor *floats);
void ds_cpu_narrow(ds_backend *backend, const ds_tensor *floats, const ds_tensor *half);

/* The kernel for a step, or NULL. */
const ds_kernel *ds_cpu_find(const ds_backend *backend, const ds_step *step);

/* Runs a step that has bf16 tensors with the kernel for floats, on copies. */
extern const ds_kernel ds_cpu_widened;

/* Runs an op on ref, with the layouts changed before and after. */
extern const ds_kernel ds_cpu_fallback;

/* KERNEL(op, symbol): see kernels.def. */
#define KERNEL(op, symbol) extern const ds_kernel symbol;
#include "cpu/kernels.def"
#undef KERNEL

#endif
