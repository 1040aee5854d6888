/* Convolutions by cuDNN's graph interface: one graph for each problem, made of the convolution and
   the pointwise operations of its end; of the engines that support it, the fastest deterministic
   one. A graph is planned for device properties, so that support can be asked for without a GPU. */
#include "cuda/conv.h"

#include <cudnn.h>
#include <deque>
#include <stdio.h>
#include <utility>
#include <vector>

namespace
{

constexpr int NAME_BYTES = 96;
constexpr int64_t MOST_WORKSPACE = (int64_t)1 << 30;
constexpr int MOST_TIMED = 8; /* engines; the heuristics put the good ones in front */
constexpr int TIMED_RUNS = 5;

enum tensor_id : int64_t { ID_X, ID_W, ID_Y, ID_BIAS, ID_ADDEND, ID_GATE, ID_OUT, ID_VIRTUAL };

/* The first call of cuDNN that failed. */
struct outcome {
    cudnnStatus_t code = CUDNN_STATUS_SUCCESS;
    void note(cudnnStatus_t next)
    {
        if (code == CUDNN_STATUS_SUCCESS)
            code = next;
    }
    bool ok() const
    {
        return code == CUDNN_STATUS_SUCCESS;
    }
};

/* A descriptor of cuDNN that ends with its scope. */
class descriptor
{
  public:
    descriptor() = default;
    descriptor(outcome *result, cudnnBackendDescriptorType_t type) : result(result)
    {
        result->note(cudnnBackendCreateDescriptor(type, &it));
    }
    descriptor(descriptor &&other) noexcept
        : result(other.result), it(std::exchange(other.it, nullptr))
    {
    }
    descriptor &operator=(descriptor &&other) noexcept
    {
        std::swap(result, other.result);
        std::swap(it, other.it);
        return *this;
    }
    ~descriptor()
    {
        if (it)
            cudnnBackendDestroyDescriptor(it);
    }

    descriptor &set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                    int64_t count, const void *values)
    {
        if (result->ok())
            result->note(cudnnBackendSetAttribute(it, name, type, count, values));
        return *this;
    }
    descriptor &set(cudnnBackendAttributeName_t name, const descriptor &value)
    {
        return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.it);
    }
    descriptor &set(cudnnBackendAttributeName_t name, cudnnDataType_t value)
    {
        return set(name, CUDNN_TYPE_DATA_TYPE, 1, &value);
    }
    descriptor &set(cudnnBackendAttributeName_t name, std::vector<int64_t> values)
    {
        return set(name, CUDNN_TYPE_INT64, (int64_t)values.size(), values.data());
    }
    descriptor &set(cudnnBackendAttributeName_t name, double value)
    {
        return set(name, CUDNN_TYPE_DOUBLE, 1, &value);
    }
    void finalize()
    {
        if (result->ok())
            result->note(cudnnBackendFinalize(it));
    }
    cudnnBackendDescriptor_t get() const
    {
        return it;
    }

  private:
    outcome *result = nullptr;
    cudnnBackendDescriptor_t it = nullptr;
};

descriptor make_tensor(outcome *result, int64_t id, ds_shape s, cudnnDataType_t type,
                       bool is_virtual)
{
    descriptor d(result, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, std::vector<int64_t>{id})
        .set(CUDNN_ATTR_TENSOR_DATA_TYPE, type)
        .set(CUDNN_ATTR_TENSOR_DIMENSIONS, {s.n, s.c, s.h, s.w})
        .set(CUDNN_ATTR_TENSOR_STRIDES, {s.c * s.h * s.w, 1, s.w * s.c, s.c})
        .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, std::vector<int64_t>{16})
        .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual)
        .finalize();
    return d;
}

descriptor make_convolution(outcome *result, const ds_conv_problem &p)
{
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    descriptor d(result, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    d.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, std::vector<int64_t>{2})
        .set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT)
        .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode)
        .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {p.pad, p.pad})
        .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, {p.pad, p.pad})
        .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {p.stride, p.stride})
        .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, {p.dilation, p.dilation})
        .finalize();
    return d;
}

/* The shape of the result of a problem. */
ds_shape result_shape(const ds_conv_problem &p)
{
    return p.direction == DS_CONV_BACKWARD_WEIGHT  ? p.w
           : p.direction == DS_CONV_BACKWARD_INPUT ? p.x
                                                   : p.y;
}

/* A graph under construction: its operations, and the tensor that the next one reads. */
struct builder {
    outcome *result;
    const ds_conv_problem &p;
    cudnnDataType_t type, type_out;
    int ends_left; /* pointwise operations still to come; the last one writes the result */
    int64_t next_id = ID_VIRTUAL;
    std::deque<descriptor> tensors; /* whose addresses stay */
    std::vector<descriptor> operations;

    const descriptor &keep(descriptor d)
    {
        tensors.push_back(std::move(d));
        return tensors.back();
    }
    /* Where the next operation writes: a passing value in fp32, or the result. */
    const descriptor &output()
    {
        const bool last = ends_left-- == 0;
        return keep(make_tensor(result, last ? (int64_t)ID_OUT : next_id++, result_shape(p),
                                last ? type_out : CUDNN_DATA_FLOAT, !last));
    }
    const descriptor &operand(int64_t id, ds_shape s, cudnnDataType_t of)
    {
        return keep(make_tensor(result, id, s, of, false));
    }
};

void add_convolution(builder &b)
{
    const ds_conv_problem &p = b.p;
    const descriptor &conv = b.keep(make_convolution(b.result, p));
    if (p.direction == DS_CONV_FORWARD) {
        descriptor op(b.result, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
        op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, conv)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0.0)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, b.operand(ID_X, p.x, b.type))
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, b.operand(ID_W, p.w, b.type))
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, b.output())
            .finalize();
        b.operations.push_back(std::move(op));
    } else if (p.direction == DS_CONV_BACKWARD_INPUT) {
        descriptor op(b.result, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
        op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, conv)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 1.0)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, 0.0)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, b.operand(ID_Y, p.y, b.type))
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, b.operand(ID_W, p.w, b.type))
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, b.output())
            .finalize();
        b.operations.push_back(std::move(op));
    } else {
        descriptor op(b.result, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
        op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, conv)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, 1.0)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, 0.0)
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, b.operand(ID_X, p.x, b.type))
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, b.operand(ID_Y, p.y, b.type))
            .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, b.output())
            .finalize();
        b.operations.push_back(std::move(op));
    }
}

/* One pointwise operation on what came last; its other operand is a tensor of the caller's. */
void add_pointwise(builder &b, cudnnPointwiseMode_t mode, const descriptor *other)
{
    const descriptor &last = b.tensors.back();
    const cudnnBackendDescriptor_t from = last.get(), with = other ? other->get() : nullptr;
    descriptor how(b.result, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode)
        .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT)
        .finalize();
    const bool backward = mode == CUDNN_POINTWISE_RELU_BWD;
    descriptor op(b.result, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    op.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    if (backward)
        op.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &with)
            .set(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &from)
            .set(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, b.output());
    else {
        op.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &from);
        if (other)
            op.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &with);
        op.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, b.output());
    }
    op.finalize();
    b.operations.push_back(std::move(op));
}

descriptor make_graph(outcome *result, const ds_conv_problem &p)
{
    const cudnnDataType_t type = p.half ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    const cudnnDataType_t type_out = p.half_out ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    const ds_shape s = result_shape(p), vector = {1, s.c, 1, 1};
    builder b = {result,     p,  type, type_out, p.bias + p.addend + (p.relu || p.gate),
                 ID_VIRTUAL, {}, {}};
    const descriptor bias =
        p.bias ? make_tensor(result, ID_BIAS, vector, CUDNN_DATA_FLOAT, false) : descriptor();
    const descriptor addend =
        p.addend ? make_tensor(result, ID_ADDEND, s, type_out, false) : descriptor();
    const descriptor gate =
        p.gate ? make_tensor(result, ID_GATE, s, type_out, false) : descriptor();
    add_convolution(b);
    if (p.bias)
        add_pointwise(b, CUDNN_POINTWISE_ADD, &bias);
    if (p.addend)
        add_pointwise(b, CUDNN_POINTWISE_ADD, &addend);
    if (p.relu)
        add_pointwise(b, CUDNN_POINTWISE_RELU_FWD, nullptr);
    if (p.gate)
        add_pointwise(b, CUDNN_POINTWISE_RELU_BWD, &gate);
    std::vector<cudnnBackendDescriptor_t> operations;
    for (const descriptor &op : b.operations)
        operations.push_back(op.get());
    descriptor graph(result, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    graph
        .set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
             (int64_t)operations.size(), operations.data())
        .finalize();
    return graph;
}

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
    int64_t workspace, engine;
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
                                             CUDNN_TYPE_INT64, 1, &count, &made->engine));
    if (!result.ok() || made->workspace > MOST_WORKSPACE)
        return false;
    made->plan = std::move(plan);
    return true;
}

/* Plans for a problem on a device, best first as far as cuDNN guesses, at most `most`. */
std::vector<candidate> find_candidates(const ds_conv_problem &p, const descriptor &device,
                                       size_t most, outcome *result)
{
    std::vector<candidate> found;
    const descriptor graph = make_graph(result, p);
    for (cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
        outcome asked;
        if (!result->ok())
            break;
        for (const descriptor &config : ask_heuristics(&asked, graph, device, mode)) {
            candidate made = {};
            if (found.size() < most && try_config(config, device, p, &made))
                found.push_back(std::move(made));
        }
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

size_t bytes_of(ds_shape s, bool half)
{
    const size_t bytes = (size_t)ds_count(s) * (half ? sizeof(ds_bf16) : sizeof(float));
    return (bytes + 255) / 256 * 256;
}

/* Milliseconds of one run of a plan; a large number where it fails. */
float time_plan(ds_backend *backend, const candidate &c, const ds_conv_problem &p,
                const ds_conv_operands &o)
{
    const ds_cuda *cuda = ds_cuda_of(backend);
    cudaEvent_t begin = NULL, end = NULL;
    float best = 1e30f;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    for (int run = 0; run < TIMED_RUNS; run++) {
        float milliseconds = 1e30f;
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

/* Runs every candidate on memory of its own and returns the fastest; the first where the device has
   no room for that. */
size_t choose(ds_backend *backend, const std::vector<candidate> &all, const ds_conv_problem &p)
{
    ds_status status = ds_status_ok();
    int64_t workspace = 0;
    for (const candidate &c : all)
        workspace = c.workspace > workspace ? c.workspace : workspace;
    const size_t x = bytes_of(p.x, p.half), w = bytes_of(p.w, p.half), y = bytes_of(p.y, p.half);
    const size_t largest = x > y ? (x > w ? x : w) : (y > w ? y : w), operand = 2 * largest;
    char *memory = NULL;
    size_t best = 0;
    float least = 1e30f;
    if (ds_cuda_allocate(backend, 6 * operand + (size_t)workspace, &memory, &status) != DS_OK)
        return 0;
    const ds_conv_operands o = {memory,
                                memory + operand,
                                memory + 2 * operand,
                                (const float *)(memory + 3 * operand),
                                memory + 4 * operand,
                                memory + 5 * operand,
                                memory + 6 * operand};
    for (size_t i = 0; i < all.size(); i++) {
        const float milliseconds = time_plan(backend, all[i], p, o);
        if (milliseconds < least) {
            least = milliseconds;
            best = i;
        }
    }
    ds_cuda_free(backend, &memory);
    return best;
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
    if (open_library(backend, status) != DS_OK)
        return status->code;
    std::vector<candidate> all =
        find_candidates(*problem, ds_cuda_of(backend)->convolutions->device, MOST_TIMED, &result);
    if (all.empty())
        return ds_fail(status, DS_UNSUPPORTED, "cuDNN has no deterministic engine (%s)",
                       cudnnGetErrorString(result.code));
    candidate &best = all[all.size() > 1 ? choose(backend, all, *problem) : 0];
    *conv = new ds_conv{*problem, std::move(best.plan), ""};
    name_plan(*conv, best.engine);
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
    return (int)find_candidates(*problem, properties, (size_t)most, &result).size();
}
