/* The twins of csrc/cuda/instructions.h: what each instruction is defined to do. */
#pragma once

#include <cmath>

namespace emulator
{

inline float widen(uint32_t half)
{
    const uint32_t word = half << 16;
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
}

/* Value 0 or 1 of a pair. */
inline float of_pair(uint32_t pair, int which)
{
    return widen(which ? pair >> 16 : pair & 0xffff);
}

struct matrices {
    uint32_t *to;
    const uint16_t *row;
};

/* Lane l brings row l % 8 of matrix l / 8; it gets a pair of each matrix. */
template <bool TRANSPOSED> void load_matrices(void *const lanes[WARP])
{
    for (unsigned lane = 0; lane < WARP; lane++)
        for (unsigned m = 0; m < 4; m++) {
            uint32_t pair = 0;
            for (unsigned i = 0; i < 2; i++) {
                const unsigned along = lane % 4 * 2 + i, across = lane / 4;
                const unsigned r = TRANSPOSED ? along : across, c = TRANSPOSED ? across : along;
                const uint16_t *row = ((const matrices *)lanes[m * 8 + r])->row;
                pair |= (uint32_t)row[c] << (16 * i);
            }
            ((const matrices *)lanes[lane])->to[m] = pair;
        }
}

struct factors {
    float *c;
    const uint32_t *a, *b;
};

/* Element (row, k) of the left factor: registers 0, 1 hold columns 0 to 7, 1 and 3 the rows from 8
   on; element (k, column) of the right one: register 1 holds the rows from 8 on. */
inline void multiply(void *const lanes[WARP])
{
    for (unsigned row = 0; row < 16; row++)
        for (unsigned column = 0; column < 8; column++) {
            const unsigned owner = row % 8 * 4 + column / 2;
            float &sum = ((const factors *)lanes[owner])->c[row / 8 * 2 + column % 2];
            for (unsigned k = 0; k < 16; k++) {
                const unsigned within = k % 8 / 2;
                const auto *left = (const factors *)lanes[row % 8 * 4 + within];
                const auto *right = (const factors *)lanes[column * 4 + within];
                sum +=
                    of_pair(left->a[row / 8 + k / 8 * 2], k % 2) * of_pair(right->b[k / 8], k % 2);
            }
        }
}

} // namespace emulator

template <int BYTES> inline void ds_copy_async(void *shared, const void *global, bool there)
{
    emulator::copy_async(shared, global, BYTES, there);
}

inline void ds_copy_commit()
{
    emulator::copy_commit();
}

template <int GROUPS> inline void ds_copy_wait()
{
    emulator::copy_wait(GROUPS);
}

inline void ds_load_matrices(uint32_t to[4], const uint16_t *row)
{
    emulator::matrices mine = {to, row};
    emulator::warp(&mine, emulator::load_matrices<false>);
}

inline void ds_load_matrices_transposed(uint32_t to[4], const uint16_t *row)
{
    emulator::matrices mine = {to, row};
    emulator::warp(&mine, emulator::load_matrices<true>);
}

inline void ds_multiply(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    emulator::factors mine = {c, a, b};
    emulator::warp(&mine, emulator::multiply);
}
