/* CUDA for a C++ compiler, so that the kernels of csrc/cuda run on any machine under test.

   A launch runs its blocks one after another. The threads of a block are fibers that take turns at
   barriers and at the operations of a warp, in an order that is shuffled anew each time, so that a
   missing barrier shows. Shared memory is filled with NaN before each block and watched by guard
   zones. Device memory has guard zones too. Asynchronous copies happen as late as they may: when a
   thread waits for them. Streams do their work at once, except while they are captured into a
   graph. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <type_traits>

#define CUDART_VERSION 13000
#define __CUDA_ARCH_LIST__ 800, 900, 1000

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z)
    {
    }
};

enum cudaError_t {
    cudaSuccess,
    cudaErrorInvalidValue,
    cudaErrorMemoryAllocation,
    cudaErrorLaunchFailure,
    cudaErrorNoDevice,
    cudaErrorInvalidDevice,
    cudaErrorIllegalAddress,
    cudaErrorMisalignedAddress,
    cudaErrorInvalidAddressSpace,
    cudaErrorInvalidPc,
    cudaErrorIllegalInstruction,
    cudaErrorHardwareStackError,
    cudaErrorAssert,
    cudaErrorLaunchTimeout,
    cudaErrorECCUncorrectable,
    cudaErrorNvlinkUncorrectable,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };

typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
typedef struct emulated_graph *cudaGraph_t;
typedef struct emulated_graph *cudaGraphExec_t;

const char *cudaGetErrorString(cudaError_t code);
cudaError_t cudaGetLastError();
cudaError_t cudaSetDevice(int ordinal);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total);
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *memory, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaMallocHost(void **memory, size_t bytes);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ready, cudaGraph_t graph, unsigned flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready);

namespace emulator
{

/* Runs the work, or keeps it for replay while the stream is captured. */
void submit(cudaStream_t stream, std::function<void()> work);

/* One launch: body(thread of the present block) for each. */
void launch(dim3 grid, dim3 block, const std::function<void()> &body);

/* The present fiber. */
struct place {
    dim3 thread, block, threads, blocks;
};
place &here();
void barrier();

/* An operation of a warp: its lanes meet, and the last one does the work for all of them, from what
   each has brought. Between two of them the lanes run in any order. */
constexpr unsigned WARP = 32;
void warp(void *mine, void (*work)(void *const lanes[WARP]));

/* cp.async, its groups, and waiting until at most so many of the thread's groups are under way. */
void copy_async(void *to, const void *from, size_t bytes, bool there);
void copy_commit();
void copy_wait(unsigned groups);

/* Shared arrays report themselves on first use, to be poisoned and watched. */
void *shared_array(void *memory, size_t bytes, size_t guard);

} // namespace emulator

#define threadIdx (emulator::here().thread)
#define blockIdx (emulator::here().block)
#define blockDim (emulator::here().threads)
#define gridDim (emulator::here().blocks)
#define __syncthreads() emulator::barrier()
#define __threadfence()

inline unsigned atomicAdd(unsigned *to, unsigned value)
{
    const unsigned before = *to;
    *to += value;
    return before;
}

/* Kernels take their parameters by value, at the time of the launch. */
#define DS_LAUNCH(kernel, grid_, block_, stream, ...)                                              \
    emulator::submit(stream, [grid = dim3(grid_), block = dim3(block_),                            \
                              arguments = std::make_tuple(__VA_ARGS__)] {                          \
        emulator::launch(grid, block, [&] { std::apply(kernel, arguments); });                     \
    })

/* Blocks run one after another, so that one static array serves all of them. */
#define DS_SHARED(type, name, count)                                                               \
    static struct {                                                                                \
        type values[count];                                                                        \
        unsigned char guard[64];                                                                   \
    } name##_memory;                                                                               \
    type *name = (type *)emulator::shared_array(&name##_memory, sizeof name##_memory,              \
                                                sizeof name##_memory.guard)

#include <tuple>

#include "instructions.h"
