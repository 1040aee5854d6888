/* Products of bf16 matrices on tensor cores, with sums in fp32: tiles come into shared memory by
   asynchronous copies, some stages ahead, and each warp makes a part of 32 by 32. */
#ifndef DS_CUDA_TILE_H
#define DS_CUDA_TILE_H

#include "cuda/device.h"
#include "cuda/instructions.h"

constexpr int DS_WARP = 32;
constexpr int DS_PART = 32;  /* side of the part of a warp */
constexpr int DS_DEPTH = 16; /* values that one product sums over */
constexpr int DS_PAIRS = 2;  /* pairs of 8 rows, or of 8 columns, in a part */

/* Rows of bf16. The vectors of a row are exchanged by the row's number, so that eight rows at the
   same column lie in different banks. */
template <int ROWS, int COLUMNS> struct ds_tile {
    alignas(16) ds_bf16 values[ROWS * COLUMNS];

    __device__ ds_bf16 *at(int row, int column)
    {
        constexpr int vectors = COLUMNS / DS_VECTOR;
        const int mixed = column / DS_VECTOR ^ (row * vectors / 8 & (vectors - 1));
        return values + (row * vectors + mixed) * DS_VECTOR;
    }

    /* Starts the copy of what lies at (row, column) of a matrix of so many rows and columns; zeros
       outside. Columns are multiples of DS_VECTOR. */
    __device__ void copy(const ds_bf16 *from, int64_t row, int64_t rows, int64_t column,
                         int64_t columns)
    {
        for (int i = threadIdx.x; i < ROWS * COLUMNS / DS_VECTOR; i += blockDim.x) {
            const int r = i / (COLUMNS / DS_VECTOR), c = i % (COLUMNS / DS_VECTOR) * DS_VECTOR;
            const bool there = row + r < rows && column + c < columns;
            ds_copy_async<16>(at(r, c), there ? from + (row + r) * columns + column + c : from,
                              there);
        }
    }

    /* The row of four 8x8 matrices, of 16 by 16 values at (row, column), whose address this lane
       gives: they count down the rows first, or along the columns. */
    __device__ ds_bf16 *lane_row(int row, int column, bool down)
    {
        const int lane = threadIdx.x % DS_WARP, matrix = lane / 8;
        const int second = matrix % 2 * 8, third = matrix / 2 * 8;
        return at(row + (down ? second : third) + lane % 8, column + (down ? third : second));
    }

    /* Operands of ds_multiply, two of the right ones: this tile is (rows, depth) and (columns,
       depth), or transposed (depth, rows) and (depth, columns). */
    __device__ void left(uint32_t to[4], int row, int depth)
    {
        ds_load_matrices(to, lane_row(row, depth, true));
    }
    __device__ void right(uint32_t to[4], int column, int depth)
    {
        ds_load_matrices(to, lane_row(column, depth, false));
    }
    __device__ void transposed_left(uint32_t to[4], int row, int depth)
    {
        ds_load_matrices_transposed(to, lane_row(depth, row, false));
    }
    __device__ void transposed_right(uint32_t to[4], int column, int depth)
    {
        ds_load_matrices_transposed(to, lane_row(depth, column, true));
    }
};

/* The sums of a lane: block (i, j) is of 16 rows and 8 columns. */
struct ds_part {
    float sums[DS_PAIRS][2 * DS_PAIRS][4];

    __device__ void add(const uint32_t a[DS_PAIRS][4], const uint32_t b[DS_PAIRS][4])
    {
        for (int i = 0; i < DS_PAIRS; i++)
            for (int j = 0; j < 2 * DS_PAIRS; j++)
                ds_multiply(sums[i][j], a[i], &b[j / 2][j % 2 * 2]);
    }

    /* f(row, column, sum, sum of the next column) for all that this lane holds. */
    template <class F> __device__ void each(const F &f) const
    {
        const int lane = threadIdx.x % DS_WARP;
        for (int i = 0; i < DS_PAIRS; i++)
            for (int j = 0; j < 2 * DS_PAIRS; j++)
                for (int down = 0; down < 2; down++)
                    f(i * 16 + down * 8 + lane / 4, j * 8 + lane % 4 * 2, sums[i][j][down * 2],
                      sums[i][j][down * 2 + 1]);
    }
};

/* Two neighbouring values as they lie in memory. */
__device__ static inline uint32_t ds_pair(ds_bf16 low, ds_bf16 high)
{
    return low | (uint32_t)high << 16;
}

#endif
