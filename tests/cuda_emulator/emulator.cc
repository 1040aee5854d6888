/* The emulator's run-time: fibers, device memory, streams and graphs. What a kernel does wrong ends
   the process with a message, as a crash would, because a test must not go on after it. */
#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <random>
#include <ucontext.h>
#include <vector>

#include "cuda_runtime.h"

namespace
{

constexpr size_t STACK_BYTES = 64 << 10;
constexpr size_t GUARD_BYTES = 256;
constexpr unsigned char POISON = 0xFF, GUARD = 0xA5;

[[noreturn]] void stop(const char *what)
{
    std::fprintf(stderr, "cuda emulator: %s\n", what);
    std::abort();
}

enum class state { ready, at_barrier, at_warp, done };

/* An asynchronous copy, and how many groups were closed before it. */
struct copy {
    void *to;
    const void *from;
    size_t bytes;
    bool there;
    unsigned group;
};

struct fiber {
    ucontext_t context;
    dim3 thread;
    state now;
    void *brought; /* to the operation of its warp */
    std::deque<copy> under_way;
    unsigned groups; /* closed */
    std::vector<char> stack;
};

struct array {
    size_t bytes, guard;
};

struct machine {
    std::vector<fiber> fibers;
    size_t current = 0;
    ucontext_t scheduler;
    const std::function<void()> *body = nullptr;
    emulator::place place;
    std::mt19937 random{12345};
    std::map<void *, array> arrays;           /* shared, by address */
    std::map<unsigned char *, size_t> memory; /* device, by address of the first byte */
    size_t used = 0;
    cudaError_t last = cudaSuccess;
    int nodes = 0;                                      /* of the graph that was recorded last */
    std::vector<std::pair<uintptr_t, uintptr_t>> waits; /* of a stream for another */
    cudaError_t lost = cudaSuccess;                     /* after a test took the device away */
};

machine &self()
{
    static machine only;
    return only;
}

/* What a call gives that has nothing to complain of itself. */
cudaError_t present()
{
    return self().lost;
}

/* DEPTHSTYLE_EMULATED_BYTES limits the memory of the emulated device. */
size_t total_bytes()
{
    const char *text = std::getenv("DEPTHSTYLE_EMULATED_BYTES");
    return text ? std::strtoull(text, nullptr, 10) : size_t(8) << 30;
}

void poison(void *address, const array &a)
{
    std::memset(address, POISON, a.bytes - a.guard);
    std::memset((char *)address + a.bytes - a.guard, GUARD, a.guard);
}

bool is_guarded(const unsigned char *guard, size_t bytes)
{
    return std::all_of(guard, guard + bytes, [](unsigned char byte) { return byte == GUARD; });
}

void check_shared(machine &m)
{
    for (auto &[address, a] : m.arrays)
        if (!is_guarded((unsigned char *)address + a.bytes - a.guard, a.guard))
            stop("a kernel wrote behind its shared memory");
}

void check_memory(machine &m)
{
    for (auto &[address, bytes] : m.memory)
        if (!is_guarded(address - GUARD_BYTES, GUARD_BYTES) ||
            !is_guarded(address + bytes, GUARD_BYTES))
            stop("a kernel wrote outside of its device memory");
}

void enter()
{
    machine &m = self();
    (*m.body)();
    m.fibers[m.current].now = state::done;
    swapcontext(&m.fibers[m.current].context, &m.scheduler);
}

void start(machine &m, size_t i, dim3 block)
{
    fiber &f = m.fibers[i];
    f.now = state::ready;
    f.under_way.clear();
    f.groups = 0;
    f.thread = dim3(unsigned(i % block.x), unsigned(i / block.x % block.y),
                    unsigned(i / block.x / block.y));
    f.stack.resize(STACK_BYTES);
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = &m.scheduler;
    makecontext(&f.context, enter, 0);
}

/* Where nobody can go on, all who are left wait at the barrier; or they wait for ever. */
size_t open_barrier(machine &m, size_t threads)
{
    size_t left = 0;
    for (size_t i = 0; i < threads; i++) {
        if (m.fibers[i].now == state::at_warp)
            stop("threads of a warp wait for lanes that do not come");
        if (m.fibers[i].now == state::at_barrier) {
            m.fibers[i].now = state::ready;
            left++;
        }
    }
    return left;
}

/* Lets every fiber run up to where it waits, again and again, until all are through. */
void run_block(machine &m, dim3 block)
{
    const size_t threads = size_t(block.x) * block.y * block.z;
    if (m.fibers.size() < threads)
        m.fibers.resize((threads + emulator::WARP - 1) / emulator::WARP * emulator::WARP);
    std::vector<size_t> order(threads);
    for (size_t i = 0; i < threads; i++) {
        start(m, i, block);
        order[i] = i;
    }
    for (size_t left = threads; left > 0;) {
        bool moved = false;
        std::shuffle(order.begin(), order.end(), m.random);
        for (size_t i : order) {
            if (m.fibers[i].now != state::ready)
                continue;
            moved = true;
            m.current = i;
            m.place.thread = m.fibers[i].thread;
            swapcontext(&m.scheduler, &m.fibers[i].context);
        }
        if (!moved)
            left = open_barrier(m, threads);
    }
}

/* Gives the turn away until somebody makes this fiber ready again. */
void wait_as(machine &m, state now)
{
    fiber &f = m.fibers[m.current];
    f.now = now;
    swapcontext(&f.context, &m.scheduler);
}

} // namespace

struct emulated_graph {
    std::vector<std::function<void()>> work;
};

struct emulated_event {
    cudaStream_t stream; /* that it was recorded on */
};

struct emulated_stream {
    emulated_graph *capture = nullptr;
};

namespace emulator
{

place &here()
{
    return self().place;
}

void barrier()
{
    machine &m = self();
    if (m.random() % 2)
        copy_wait(0); /* copies may arrive early */
    wait_as(m, state::at_barrier);
}

void warp(void *mine, void (*work)(void *const lanes[WARP]))
{
    machine &m = self();
    const size_t first = m.current / WARP * WARP;
    void *lanes[WARP];
    m.fibers[m.current].brought = mine;
    for (size_t i = 0; i < WARP; i++) {
        const fiber &lane = m.fibers[first + i];
        if (first + i != m.current && lane.now != state::at_warp)
            return wait_as(m, state::at_warp);
        lanes[i] = lane.brought;
    }
    work(lanes);
    for (size_t i = 0; i < WARP; i++)
        m.fibers[first + i].now = state::ready;
}

void copy_async(void *to, const void *from, size_t bytes, bool there)
{
    fiber &f = self().fibers[self().current];
    if ((uintptr_t)to % bytes || (uintptr_t)from % bytes)
        stop("an asynchronous copy is not aligned");
    f.under_way.push_back({to, from, bytes, there, f.groups});
}

void copy_commit()
{
    self().fibers[self().current].groups++;
}

void copy_wait(unsigned groups)
{
    fiber &f = self().fibers[self().current];
    while (!f.under_way.empty() && f.under_way.front().group + groups < f.groups) {
        const copy c = f.under_way.front();
        f.under_way.pop_front();
        if (c.there)
            std::memcpy(c.to, c.from, c.bytes);
        else
            std::memset(c.to, 0, c.bytes);
    }
}

void *shared_array(void *memory, size_t bytes, size_t guard)
{
    machine &m = self();
    if (m.arrays.emplace(memory, array{bytes, guard}).second)
        poison(memory, {bytes, guard});
    return memory;
}

void submit(cudaStream_t stream, std::function<void()> work)
{
    if (stream->capture)
        stream->capture->work.push_back(std::move(work));
    else if (!present())
        work();
}

void launch(dim3 grid, dim3 block, const std::function<void()> &body)
{
    machine &m = self();
    if (size_t(block.x) * block.y * block.z > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.y > 65535 || grid.z > 65535) {
        m.last = cudaErrorInvalidValue;
        return;
    }
    m.body = &body;
    m.place.threads = block;
    m.place.blocks = grid;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                m.place.block = dim3(x, y, z);
                for (auto &[address, a] : m.arrays)
                    poison(address, a);
                run_block(m, block);
                check_shared(m);
            }
    check_memory(m);
}

} // namespace emulator

const char *cudaGetErrorString(cudaError_t code)
{
    const char *const texts[] = {"no error",
                                 "invalid argument",
                                 "out of memory",
                                 "unspecified launch failure",
                                 "no CUDA-capable device",
                                 "invalid device ordinal",
                                 "an illegal memory access was encountered"};
    return texts[code];
}

/* From now on every call fails as after a wild kernel; with 0 the device is back. */
extern "C" __attribute__((visibility("default"))) void emulator_lose_device(int lost)
{
    self().lost = lost ? cudaErrorIllegalAddress : cudaSuccess;
}

cudaError_t cudaGetLastError()
{
    const cudaError_t last = self().last;
    self().last = cudaSuccess;
    return last == cudaSuccess ? present() : last;
}

cudaError_t cudaSetDevice(int ordinal)
{
    return ordinal == 0 ? present() : cudaErrorInvalidDevice;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = total_bytes();
    *free_bytes = *total - std::min(*total, self().used);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    machine &m = self();
    if (m.lost)
        return m.lost;
    if (m.used + bytes > total_bytes())
        return m.last = cudaErrorMemoryAllocation;
    const size_t rounded = (bytes + 255) / 256 * 256 + 2 * GUARD_BYTES;
    auto *block = (unsigned char *)std::aligned_alloc(256, rounded);
    if (!block)
        return m.last = cudaErrorMemoryAllocation;
    std::memset(block, POISON, rounded);
    std::memset(block, GUARD, GUARD_BYTES);
    std::memset(block + GUARD_BYTES + bytes, GUARD, GUARD_BYTES);
    m.memory[block + GUARD_BYTES] = bytes;
    m.used += bytes;
    *memory = block + GUARD_BYTES;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    machine &m = self();
    const auto found = m.memory.find((unsigned char *)memory);
    if (found == m.memory.end())
        return m.last = cudaErrorInvalidValue;
    m.used -= found->second;
    m.memory.erase(found);
    std::free((unsigned char *)memory - GUARD_BYTES);
    return present();
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind)
{
    if (!present())
        std::memcpy(to, from, bytes);
    return present();
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream)
{
    emulator::submit(stream, [=] { std::memcpy(to, from, bytes); });
    return present();
}

cudaError_t cudaMemsetAsync(void *memory, int byte, size_t bytes, cudaStream_t stream)
{
    emulator::submit(stream, [=] { std::memset(memory, byte, bytes); });
    return present();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = present() ? nullptr : new emulated_stream;
    return present();
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    *memory = std::malloc(bytes);
    std::memset(*memory, POISON, bytes);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory)
{
    std::free(memory);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new emulated_event;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    event->stream = stream;
    return present();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    self().waits.emplace_back((uintptr_t)stream, (uintptr_t)event->stream);
    return present();
}

/* Takes the oldest wait of a stream for another out of the list; 0 where there is none. */
extern "C" __attribute__((visibility("default"))) int emulator_next_wait(uintptr_t *pair)
{
    auto &waits = self().waits;
    if (waits.empty())
        return 0;
    pair[0] = waits.front().first;
    pair[1] = waits.front().second;
    waits.erase(waits.begin());
    return 1;
}

cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    return cudaSuccess;
}

/* Waiting for a stream that is being captured is an error, as on a device. */
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    return stream->capture ? cudaErrorInvalidValue : present();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    if (stream->capture)
        return cudaErrorInvalidValue;
    stream->capture = new emulated_graph;
    return present();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = stream->capture;
    stream->capture = nullptr;
    return *graph ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ready, cudaGraph_t graph, unsigned)
{
    *ready = new emulated_graph(*graph);
    self().nodes = (int)graph->work.size();
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t stream)
{
    for (const auto &work : ready->work)
        emulator::submit(stream, work);
    return cudaGetLastError();
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready)
{
    delete ready;
    return cudaSuccess;
}

extern "C" __attribute__((visibility("default"))) int emulated_nodes()
{
    return self().nodes;
}
