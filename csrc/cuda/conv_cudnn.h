/* A convolution as a graph of cuDNN's: descriptors, and the operations of a problem. Included by
   conv_cudnn.cu alone. */
#ifndef DS_CUDA_CONV_CUDNN_H
#define DS_CUDA_CONV_CUDNN_H

#include "cuda/conv.h"

#include <cudnn.h>
#include <deque>
#include <utility>
#include <vector>

namespace
{

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

} // namespace

#endif
