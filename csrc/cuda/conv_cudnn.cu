/* Convolutions by cuDNN's graph interface: one graph for each problem, made of the convolution and
   the pointwise operations of its end; of the engines that support it, the fastest deterministic
   one, which is found once on a machine and kept in a folder. A graph is planned for device
   properties, so that support can be asked for without a GPU. */
#include "cuda/conv_cudnn.h"

extern "C" {
#include "cuda/plan_cache.h"
}

#include <stdio.h>

namespace
{

constexpr int NAME_BYTES = 96;
constexpr int64_t MOST_WORKSPACE = (int64_t)1 << 30;
constexpr int MOST_TIMED = 8; /* engines; the heuristics put the good ones in front */
constexpr int TIMED_RUNS = 5;
constexpr float FAILED = 1e30f; /* milliseconds */

/* What an engine says of itself. */
template <class T>
std::vector<T> notes_of(const descriptor &engine, cudnnBackendAttributeName_t name,
                        cudnnBackendAttributeType_t type)
{
    std::vector<T> notes(32);
    int64_t count = 0;
    if (cudnnBackendGetAttribute(engine.get(), name, type, (int64_t)notes.size(), &count,
                                 notes.data()) != CUDNN_STATUS_SUCCESS)
        count = 0;
    notes.resize((size_t)count);
    return notes;
}

/* Not: results that differ from run to run, and fp32 that is rounded without leave. */
bool is_allowed(const descriptor &engine, const ds_conv_problem &p)
{
    for (cudnnBackendNumericalNote_t note : notes_of<cudnnBackendNumericalNote_t>(
             engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE)) {
        const bool rounds = note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE ||
                            note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
        if (note == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC ||
            note == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION ||
            (rounds && !p.half && !p.tf32))
            return false;
    }
    return true;
}

struct candidate {
    descriptor plan;
    int64_t workspace;
    ds_plan_choice choice;
};

descriptor engine_of(outcome *result, const descriptor &config)
{
    descriptor engine(result, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendDescriptor_t it = engine.get();
    int64_t count = 0;
    result->note(cudnnBackendGetAttribute(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &it));
    return engine;
}

/* The engine configurations that the heuristics offer, best first. */
std::vector<descriptor> ask_heuristics(outcome *result, const descriptor &graph,
                                       const descriptor &device, cudnnBackendHeurMode_t mode)
{
    descriptor heuristics(result, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph)
        .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode)
        .set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device)
        .finalize();
    int64_t count = 0;
    if (result->ok())
        result->note(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                              CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr));
    std::vector<descriptor> configs;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (int64_t i = 0; i < count && result->ok(); i++) {
        configs.emplace_back(result, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        raw.push_back(configs.back().get());
    }
    if (result->ok() && count > 0)
        result->note(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                              CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count,
                                              raw.data()));
    configs.resize(result->ok() ? (size_t)count : 0);
    return configs;
}

/* A plan of one configuration; false where it is not supported or not allowed. */
bool try_config(const descriptor &config, const descriptor &device, const ds_conv_problem &p,
                candidate *made)
{
    outcome result;
    const descriptor engine = engine_of(&result, config);
    if (!result.ok() || !is_allowed(engine, p))
        return false;
    descriptor plan(&result, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config)
        .set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device)
        .finalize();
    int64_t count = 0;
    if (result.ok())
        result.note(cudnnBackendGetAttribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                             CUDNN_TYPE_INT64, 1, &count, &made->workspace));
    if (result.ok())
        result.note(cudnnBackendGetAttribute(engine.get(), CUDNN_ATTR_ENGINE_GLOBAL_INDEX,
                                             CUDNN_TYPE_INT64, 1, &count, &made->choice.engine));
    if (!result.ok() || made->workspace > MOST_WORKSPACE)
        return false;
    made->plan = std::move(plan);
    return true;
}

/* All that the heuristics offer for a problem on a device, best first as far as cuDNN guesses. */
std::vector<descriptor> list_configs(const ds_conv_problem &p, const descriptor &device,
                                     outcome *result)
{
    std::vector<descriptor> all;
    const descriptor graph = make_graph(result, p);
    for (cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
        outcome asked;
        if (!result->ok())
            break;
        for (descriptor &config : ask_heuristics(&asked, graph, device, mode))
            all.push_back(std::move(config)); /* from here on only read */
    }
    return all;
}

/* Plans for the first configurations that will do, at most `most`. */
std::vector<candidate> find_candidates(const std::vector<descriptor> &configs,
                                       const ds_conv_problem &p, const descriptor &device,
                                       size_t most)
{
    std::vector<candidate> found;
    for (size_t i = 0; i < configs.size() && found.size() < most; i++) {
        candidate made = {};
        made.choice.position = (int64_t)i;
        if (try_config(configs[i], device, p, &made))
            found.push_back(std::move(made));
    }
    return found;
}

} // namespace

/* The pieces are declared by the standard library's rules, not by allocation of ours: plans live as
   long as cuDNN's own objects. */
struct ds_conv_library {
    cudnnHandle_t handle;
    outcome result;
    descriptor device;
};

struct ds_conv {
    ds_conv_problem problem;
    descriptor plan;
    char name[NAME_BYTES];
};

namespace
{

ds_code check(cudnnStatus_t code, const char *call, ds_status *status)
{
    if (code == CUDNN_STATUS_SUCCESS)
        return DS_OK;
    return ds_fail(status, DS_DEVICE, "cuDNN: %s failed: %s", call, cudnnGetErrorString(code));
}

ds_code open_library(ds_backend *backend, ds_status *status)
{
    ds_cuda *cuda = ds_cuda_of(backend);
    if (cuda->convolutions)
        return DS_OK;
    ds_conv_library *library = new ds_conv_library();
    cuda->convolutions = library;
    DS_TRY(check(cudnnCreate(&library->handle), "starting", status));
    DS_TRY(check(cudnnSetStream(library->handle, cuda->stream), "choosing a stream", status));
    {
        const int32_t ordinal = cuda->ordinal;
        library->device = descriptor(&library->result, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
        library->device.set(CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &ordinal)
            .finalize();
    }
    DS_TRY(check(library->result.code, "reading the device's properties", status));
exit:
    return status->code;
}

cudnnStatus_t execute(cudnnHandle_t handle, const descriptor &plan, const ds_conv_problem &p,
                      const ds_conv_operands &o)
{
    outcome result;
    const bool backward_input = p.direction == DS_CONV_BACKWARD_INPUT;
    const bool backward_weight = p.direction == DS_CONV_BACKWARD_WEIGHT;
    std::vector<int64_t> ids = {backward_input ? (int64_t)ID_Y : (int64_t)ID_X,
                                backward_weight ? (int64_t)ID_Y : (int64_t)ID_W, (int64_t)ID_OUT};
    std::vector<const void *> data = {o.a, o.b, o.out};
    const struct {
        bool there;
        int64_t id;
        const void *data;
    } ends[] = {
        {p.bias, ID_BIAS, o.bias}, {p.addend, ID_ADDEND, o.addend}, {p.gate, ID_GATE, o.gate}};
    for (const auto &end : ends)
        if (end.there) {
            ids.push_back(end.id);
            data.push_back(end.data);
        }
    descriptor pack(&result, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids)
        .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, (int64_t)data.size(),
             data.data())
        .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &o.workspace)
        .finalize();
    if (result.ok())
        result.note(cudnnBackendExecute(handle, plan.get(), pack.get()));
    return result.code;
}

/* Milliseconds of the quickest of some runs of a plan. */
float time_plan(ds_backend *backend, const candidate &c, const ds_conv_problem &p,
                const ds_conv_operands &o)
{
    const ds_cuda *cuda = ds_cuda_of(backend);
    cudaEvent_t begin = NULL, end = NULL;
    float best = FAILED;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    for (int run = 0; run < TIMED_RUNS; run++) {
        float milliseconds = FAILED;
        cudaEventRecord(begin, cuda->stream);
        if (execute(cuda->convolutions->handle, c.plan, p, o) != CUDNN_STATUS_SUCCESS)
            break;
        cudaEventRecord(end, cuda->stream);
        if (cudaEventSynchronize(end) == cudaSuccess &&
            cudaEventElapsedTime(&milliseconds, begin, end) == cudaSuccess && milliseconds < best)
            best = milliseconds;
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return best;
}

/* Takes `bytes` of the memory that begins at *used. */
char *take(char *memory, size_t *used, size_t bytes)
{
    char *at = memory ? memory + *used : NULL;
    *used += (bytes + DS_ALIGN - 1) / DS_ALIGN * DS_ALIGN;
    return at;
}

size_t bytes_of(ds_shape s, bool half)
{
    return (size_t)ds_count(s) * (half ? sizeof(ds_bf16) : sizeof(float));
}

/* Operands in one piece of memory, and how large that is. */
ds_conv_operands lay_out(const ds_conv_problem &p, size_t workspace, char *memory, size_t *bytes)
{
    const ds_shape a = p.direction == DS_CONV_BACKWARD_INPUT ? p.y : p.x;
    const ds_shape b = p.direction == DS_CONV_BACKWARD_WEIGHT ? p.y : p.w;
    const size_t made = bytes_of(result_shape(p), p.half_out);
    ds_conv_operands o = {};
    *bytes = 0;
    o.a = take(memory, bytes, bytes_of(a, p.half));
    o.b = take(memory, bytes, bytes_of(b, p.half));
    o.out = take(memory, bytes, made);
    o.bias = (const float *)take(memory, bytes, bytes_of({1, result_shape(p).c, 1, 1}, false));
    o.addend = take(memory, bytes, p.addend ? made : 0);
    o.gate = take(memory, bytes, p.gate ? made : 0);
    o.workspace = take(memory, bytes, workspace);
    return o;
}

/* Runs every candidate on memory of its own; false where the device has no room for that. */
bool time_all(ds_backend *backend, const std::vector<candidate> &all, const ds_conv_problem &p,
              std::vector<float> *milliseconds)
{
    const int some_value = 0x3d; /* in every byte: zeros would run faster than pictures */
    const cudaStream_t stream = ds_cuda_of(backend)->stream;
    ds_status status = ds_status_ok();
    int64_t workspace = 0;
    size_t bytes;
    char *memory = NULL;
    for (const candidate &c : all)
        workspace = c.workspace > workspace ? c.workspace : workspace;
    lay_out(p, (size_t)workspace, NULL, &bytes);
    if (ds_cuda_allocate(backend, bytes, &memory, &status) != DS_OK)
        return false;
    const ds_conv_operands o = lay_out(p, (size_t)workspace, memory, &bytes);
    bool timed = cudaMemsetAsync(memory, some_value, bytes, stream) == cudaSuccess;
    for (const candidate &c : all)
        milliseconds->push_back(time_plan(backend, c, p, o));
    ds_cuda_free(backend, &memory);
    return timed;
}

/* What the choice for a problem depends on, in one line. */
void write_key(const ds_cuda *cuda, const ds_conv_problem &p, char key[DS_PLAN_KEY_BYTES])
{
    cudaDeviceProp gpu = {};
    int driver = 0;
    cudaGetDeviceProperties(&gpu, cuda->ordinal);
    cudaDriverGetVersion(&driver);
    int count = snprintf(key, DS_PLAN_KEY_BYTES, "cudnn %zu driver %d gpu %s %d", cudnnGetVersion(),
                         driver, gpu.name, gpu.multiProcessorCount);
    const int64_t numbers[] = {p.direction, p.x.n,    p.x.c,    p.x.h,      p.x.w,  p.w.n,
                               p.w.c,       p.w.h,    p.w.w,    p.y.n,      p.y.c,  p.y.h,
                               p.y.w,       p.stride, p.pad,    p.dilation, p.half, p.half_out,
                               p.tf32,      p.bias,   p.addend, p.relu,     p.gate};
    for (int64_t number : numbers)
        count +=
            snprintf(key + count, (size_t)(DS_PLAN_KEY_BYTES - count), " %lld", (long long)number);
}

/* The plan that was the fastest when this problem was met first. False where it was not met, or
   cuDNN does not offer now what it did then. *none where no configuration did. */
bool find_kept(const char *folder, const char *key, const std::vector<descriptor> &configs,
               const ds_conv_problem &p, const descriptor &device, candidate *made, bool *none)
{
    ds_plan_choice kept;
    if (!ds_plan_cache_read(folder, key, &kept))
        return false;
    *none = kept.position < 0;
    if (*none)
        return true;
    if ((size_t)kept.position >= configs.size() ||
        !try_config(configs[(size_t)kept.position], device, p, made))
        return false;
    made->choice.position = kept.position;
    return made->choice.engine == kept.engine;
}

/* The plan to use; false where there is none. */
bool choose(ds_backend *backend, const std::vector<descriptor> &configs, const ds_conv_problem &p,
            candidate *best)
{
    const ds_cuda *cuda = ds_cuda_of(backend);
    const descriptor &device = cuda->convolutions->device;
    char key[DS_PLAN_KEY_BYTES];
    bool none = false;
    write_key(cuda, p, key);
    if (find_kept(cuda->cache, key, configs, p, device, best, &none))
        return !none;
    std::vector<candidate> all = find_candidates(configs, p, device, MOST_TIMED);
    std::vector<float> milliseconds;
    bool sure = true;
    size_t first = 0;
    if (all.size() > 1 && (sure = time_all(backend, all, p, &milliseconds)))
        first = ds_plan_fastest(milliseconds.data(), all.size());
    const ds_plan_choice nothing = {-1, -1};
    if (sure)
        ds_plan_cache_write(cuda->cache, key, all.empty() ? &nothing : &all[first].choice);
    if (all.empty())
        return false;
    *best = std::move(all[first]);
    return true;
}

void name_plan(ds_conv *conv, int64_t engine)
{
    const ds_conv_problem &p = conv->problem;
    snprintf(conv->name, sizeof conv->name, "cudnn engine %lld%s%s%s%s", (long long)engine,
             p.bias ? " +bias" : "", p.addend ? " +addend" : "", p.relu ? " +relu" : "",
             p.gate ? " +gate" : "");
}

} // namespace

ds_code ds_conv_create(ds_backend *backend, const ds_conv_problem *problem, ds_conv **conv,
                       size_t *workspace_bytes, ds_status *status)
{
    outcome result;
    candidate best = {};
    if (open_library(backend, status) != DS_OK)
        return status->code;
    const std::vector<descriptor> configs =
        list_configs(*problem, ds_cuda_of(backend)->convolutions->device, &result);
    if (!choose(backend, configs, *problem, &best))
        return ds_fail(status, DS_UNSUPPORTED, "cuDNN has no deterministic engine (%s)",
                       cudnnGetErrorString(result.code));
    *conv = new ds_conv{*problem, std::move(best.plan), ""};
    name_plan(*conv, best.choice.engine);
    *workspace_bytes = (size_t)best.workspace;
    return DS_OK;
}

void ds_conv_run(ds_backend *backend, const ds_conv *conv, const ds_conv_operands *operands)
{
    const cudnnStatus_t code =
        execute(ds_cuda_of(backend)->convolutions->handle, conv->plan, conv->problem, *operands);
    if (code != CUDNN_STATUS_SUCCESS)
        ds_cuda_note(backend, cudaErrorUnknown, cudnnGetErrorString(code));
}

void ds_conv_destroy(ds_backend *, ds_conv **conv)
{
    delete *conv;
    *conv = NULL;
}

const char *ds_conv_name(const ds_conv *conv)
{
    return conv->name;
}

void ds_conv_close(ds_backend *backend)
{
    ds_cuda *cuda = ds_cuda_of(backend);
    if (!cuda->convolutions)
        return;
    if (cuda->convolutions->handle)
        cudnnDestroy(cuda->convolutions->handle);
    delete cuda->convolutions;
    cuda->convolutions = NULL;
}

/* For tests on machines without a GPU: the engines that cuDNN has for a problem on a device that is
   described as JSON; -1 where the description is not understood. */
extern "C" __attribute__((visibility("default"))) int
depthstyle_cuda_count_engines(const ds_conv_problem *problem, const char *device, int64_t bytes,
                              int most)
{
    outcome result;
    descriptor properties(&result, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    properties.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, bytes, device)
        .finalize();
    if (!result.ok())
        return -1;
    const std::vector<descriptor> configs = list_configs(*problem, properties, &result);
    return (int)find_candidates(configs, *problem, properties, (size_t)most).size();
}
