/* Instructions of the tensor cores and of asynchronous copies, one function each, for compute
   capability 8.0 and later. A compiler that is not nvcc brings functions of its own. */
#ifndef DS_CUDA_INSTRUCTIONS_H
#define DS_CUDA_INSTRUCTIONS_H

#include <stdint.h>

#ifdef __CUDACC__

/* Starts a copy of 4, 8 or 16 bytes into shared memory; both sides are aligned to as many. Where
   the source is not `there`, zeros are written and its address is not used. */
template <int BYTES>
__device__ static inline void ds_copy_async(void *shared, const void *global, bool there)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(global), "n"(BYTES), "r"(there ? BYTES : 0)
                 : "memory");
}

/* Closes a group of copies of this thread. */
__device__ static inline void ds_copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most GROUPS of this thread's groups are under way. */
template <int GROUPS> __device__ static inline void ds_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

/* Four matrices of 8x8 bf16 from shared memory: lane l gives the address of row l % 8 of matrix
   l / 8 and gets, of each matrix, the values 2 (l % 4) and the next of row l / 4. */
__device__ static inline void ds_load_matrices(uint32_t to[4], const uint16_t *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* The same of the transposed matrices. */
__device__ static inline void ds_load_matrices_transposed(uint32_t to[4], const uint16_t *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* c (16, 8) += a (16, 16) b (16, 8) of a warp, bf16 summed in fp32. Lane l holds rows l / 4 and
   l / 4 + 8 of a and c, column l / 4 of b, and there pairs that begin at 2 (l % 4). */
__device__ static inline void ds_multiply(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

#endif
