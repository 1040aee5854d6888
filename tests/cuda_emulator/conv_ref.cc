/* In place of conv_cudnn.cu: convolutions by the reference kernels, on planar copies. */
#include <vector>

#include "cuda/conv.h"

extern "C" {
extern const ds_kernel ds_ref_f32_conv2d, ds_ref_f32_conv2d_backward_input,
    ds_ref_f32_conv2d_backward_weight;
}

struct ds_conv {
    ds_conv_problem problem;
    int64_t attr[DS_MAX_ATTRS];
    cudaStream_t stream;
};

namespace
{

float read_element(const void *data, bool half, int64_t place)
{
    return half ? ds_widen(((const ds_bf16 *)data)[place]) : ((const float *)data)[place];
}

/* From NHWC of either type to planar floats, and back. */
std::vector<float> to_planar(const void *data, bool half, ds_shape s)
{
    std::vector<float> planar((size_t)ds_count(s));
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++)
            for (int64_t k = 0; k < s.h * s.w; k++)
                planar[(size_t)((n * s.c + c) * s.h * s.w + k)] =
                    read_element(data, half, (n * s.h * s.w + k) * s.c + c);
    return planar;
}

void from_planar(const std::vector<float> &planar, void *data, bool half, ds_shape s)
{
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++)
            for (int64_t k = 0; k < s.h * s.w; k++) {
                const float value = planar[(size_t)((n * s.c + c) * s.h * s.w + k)];
                const int64_t place = (n * s.h * s.w + k) * s.c + c;
                if (half)
                    ((ds_bf16 *)data)[place] = ds_narrow(value);
                else
                    ((float *)data)[place] = value;
            }
}

/* Fills an attribute struct of any of the three ops. */
template <class A> void set_attributes(const ds_conv_problem &p, int64_t *attr, A a)
{
    a.stride = p.stride;
    a.pad = p.pad;
    a.dilation = p.dilation;
    a.groups = p.x.c / p.w.c;
    a.pad_mode = DS_PAD_ZERO;
    std::memcpy(attr, &a, sizeof a - sizeof(int64_t));
}

/* The end of the convolution, on planar values; addend and gate are NHWC like the result. */
void finish(const ds_conv_problem &p, const ds_conv_operands &o, ds_shape s,
            std::vector<float> &values)
{
    const int64_t pixels = s.h * s.w;
    for (int64_t i = 0; i < ds_count(s); i++) {
        const int64_t k = i % pixels, c = i / pixels % s.c, n = i / pixels / s.c;
        const int64_t place = (n * pixels + k) * s.c + c;
        float &value = values[(size_t)i];
        value += p.bias ? o.bias[c] : 0;
        value += p.addend ? read_element(o.addend, p.half_out, place) : 0;
        if (p.gate)
            value = read_element(o.gate, p.half_out, place) > 0 ? value : 0;
        if (p.relu)
            value = value < 0 ? 0 : value;
    }
}

void run_step(const ds_conv *conv, const ds_conv_operands &o)
{
    const ds_conv_problem &p = conv->problem;
    const bool backward_input = p.direction == DS_CONV_BACKWARD_INPUT;
    const bool backward_weight = p.direction == DS_CONV_BACKWARD_WEIGHT;
    const ds_shape sa = backward_input ? p.y : p.x, sb = backward_weight ? p.y : p.w;
    const ds_shape so = backward_weight ? p.w : backward_input ? p.x : p.y;
    std::vector<float> va = to_planar(o.a, p.half, sa), vb = to_planar(o.b, p.half, sb);
    std::vector<float> vo((size_t)ds_count(so));
    const ds_tensor ta = {sa, DS_MAP, DS_F32, va.data()}, tb = {sb, DS_PLAIN, DS_F32, vb.data()};
    ds_tensor to = {so, DS_MAP, DS_F32, vo.data()};
    ds_step step = {};
    step.op = backward_weight  ? DS_OP_conv2d_backward_weight
              : backward_input ? DS_OP_conv2d_backward_input
                               : DS_OP_conv2d;
    step.attr = conv->attr;
    step.inputs = 2;
    step.in[0] = &ta;
    step.in[1] = &tb;
    step.out = &to;
    const ds_kernel *kernel = backward_weight  ? &ds_ref_f32_conv2d_backward_weight
                              : backward_input ? &ds_ref_f32_conv2d_backward_input
                                               : &ds_ref_f32_conv2d;
    kernel->run(NULL, &step);
    finish(p, o, so, vo);
    from_planar(vo, o.out, p.half_out, so);
}

} // namespace

ds_code ds_conv_create(ds_backend *backend, const ds_conv_problem *problem, ds_conv **conv,
                       size_t *workspace_bytes, ds_status *status)
{
    /* Some ends are refused, so that the way without them is run too. */
    if (problem->addend && problem->relu)
        return ds_fail(status, DS_UNSUPPORTED, "no addend before a ReLU");
    *conv = new ds_conv{*problem, {}, ds_cuda_of(backend)->stream};
    *workspace_bytes = 0;
    if (problem->direction == DS_CONV_FORWARD) {
        set_attributes(*problem, (*conv)->attr, ds_conv2d_attr{});
    } else if (problem->direction == DS_CONV_BACKWARD_INPUT) {
        ds_conv2d_backward_input_attr a = {};
        a.h = problem->x.h;
        a.w = problem->x.w;
        set_attributes(*problem, (*conv)->attr, a);
    } else {
        ds_conv2d_backward_weight_attr a = {};
        a.kh = problem->w.h;
        a.kw = problem->w.w;
        set_attributes(*problem, (*conv)->attr, a);
    }
    return DS_OK;
}

void ds_conv_run(ds_backend *, const ds_conv *conv, const ds_conv_operands *operands)
{
    emulator::submit(conv->stream, [conv, o = *operands] { run_step(conv, o); });
}

void ds_conv_close(ds_backend *)
{
}

void ds_conv_destroy(ds_backend *, ds_conv **conv)
{
    delete *conv;
    *conv = NULL;
}

const char *ds_conv_name(const ds_conv *)
{
    return "ref in place of cuDNN";
}
