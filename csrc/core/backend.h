/* A backend turns steps into kernel calls. It is one small table; cpu and ref stand in the module,
   cuda arrives in a shared library of its own. */
#ifndef DS_CORE_BACKEND_H
#define DS_CORE_BACKEND_H

#include "base/alloc.h"
#include "base/cpu.h"
#include "base/pool.h"
#include "core/op.h"

/* What a plan may hang on a step's end, applied in this order to the result r of the op:
     r + scale (dG + dG') F, the gradient of the Gram matrix of features F (ops/gram.c),
     r + addend, then the activation, or, when gate is set, r times the derivative of the
     activation whose output gate is. Written as one pass over the output, which may lie in the
     buffer of the addend unless the kernel is `apart`: read a value before writing it. */
typedef struct ds_epilogue {
    const ds_tensor *features; /* shape and kind of out; NULL: none */
    const ds_tensor *dg;       /* (N, 1, C, C) */
    double scale;
    const ds_tensor *addend; /* as out; NULL: none */
    const ds_tensor *gate;   /* as out; NULL: none */
    bool active;             /* apply `activation` (or its derivative) */
    int activation;          /* DS_RELU ... */
    double alpha;
} ds_epilogue;

/* What a plan may hang on a convolution's input: in[0] is read as if it went through an instance
   norm and an activation, each of its pixels were then repeated up x up times, and the result had a
   border of `mode`; or, of a convolution backward, as the gradient to what was pooled to its size
   by the largest of 2x2 pixels, whole windows only. */
typedef struct ds_prologue {
    bool active;                   /* any of it */
    const int64_t *norm;           /* attributes of the instance norm; NULL: none */
    const ds_tensor *gamma, *beta; /* of the norm; NULL: left out */
    bool activates;                /* behind the norm: `activation` */
    int activation;                /* DS_RELU ... */
    double alpha;
    int64_t up;
    int64_t top, left;       /* further than the op's own pad, which is 0 where these are not */
    int64_t mode;            /* DS_PAD_ZERO ... */
    const ds_tensor *pooled; /* what was pooled, (N, C, H, W); NULL: there was no pool */
    bool rectified;          /* a ReLU made that, and what is read is the gradient to its input */
} ds_prologue;

/* One kernel call. Tensors stay at their address from prepare to the last run, their data is
   assigned after prepare; only constants have data during prepare (plain, planar). */
typedef struct ds_step {
    ds_op op;
    const int64_t *attr; /* read with DS_ATTR */
    int inputs;
    const ds_tensor *in[DS_MAX_INPUTS];
    bool constant[DS_MAX_INPUTS]; /* the input's data is there during prepare and never changes */
    ds_tensor *out;
    ds_prologue prologue;
    ds_epilogue epilogue;
    bool splits; /* sums of products may take a float as two of bf16 and make three products */
    /* Set by prepare: */
    size_t workspace_bytes; /* scratch that lives for this step only */
    void *prepared;         /* owned by the kernel: transformed weights, tables */
    size_t prepared_bytes;  /* for the memory estimate */
    const char *variant;    /* "winograd4 avx512"; shown in the plan's dump */
    /* Set by the plan: */
    void *workspace;
} ds_step;

/* Whether a step reads or writes a bf16 tensor. Features are of bf16 only where the output is. */
static inline bool ds_step_has_half(const ds_step *step)
{
    const ds_epilogue *e = &step->epilogue;
    bool half = ds_is_half(step->out) || (e->addend && ds_is_half(e->addend)) ||
                (e->gate && ds_is_half(e->gate));
    for (int i = 0; i < step->inputs; i++)
        half |= ds_is_half(step->in[i]);
    return half;
}

/* Whether a step is a convolution that rounds in[0] and in[1]: an image to the sum of two bf16, all
   else to one. */
static inline bool ds_step_rounds(const ds_step *step)
{
    const bool convolves = step->op == DS_OP_conv2d || step->op == DS_OP_conv2d_backward_input ||
                           step->op == DS_OP_conv2d_backward_weight;
    return convolves &&
           (ds_is_half(step->in[0]) || ds_is_half(step->in[1]) || ds_is_half(step->out));
}

typedef struct ds_backend ds_backend;

typedef struct ds_kernel {
    /* NULL: takes every step of its op that has neither prologue nor epilogue. */
    bool (*accepts)(const ds_backend *backend, const ds_step *step);
    /* NULL: nothing to prepare. Checks, chooses, allocates; run does none of these. */
    ds_code (*prepare)(ds_backend *backend, ds_step *step, ds_status *status);
    void (*run)(ds_backend *backend, const ds_step *step);
    /* NULL: nothing to release. Accepts a step that prepare left half-built. */
    void (*release)(ds_backend *backend, ds_step *step);
    unsigned in_place; /* bit i: out may lie in the buffer of input i */
    bool apart;        /* out may not lie in the buffer of the addend */
    bool takes_half;   /* it reads and writes bf16 tensors itself; a backend asks no other */
    bool adds_gram;    /* it takes ends with features; a plan gives no other such an end, */
    bool unpools;      /* nor a beginning with what was pooled if this is not set */
    bool normalises;   /* it takes prologues with a norm; a plan gives no other such a prologue */
    /* Of an op that only gathers its inputs: whether input i may be made where it belongs in the
       output, *offset bytes from its start. run may find it there or elsewhere. NULL: never. */
    bool (*gathers)(const ds_step *step, int input, size_t *offset);
    unsigned statistics; /* bit i: it wants those of the channels of input i */
    /* Whether it can leave the statistics of out's channels behind out, as it does where out is
       measured. NULL: never. */
    bool (*measures)(const ds_step *step);
} ds_kernel;

/* Tables in the memory of a device that the replays of a recording go through, a row each. */
typedef struct ds_loop {
    int64_t *row; /* of the present replay */
    float *fed;   /* (rows, feeds) */
    float *seen;  /* (rows, watches) */
    size_t feeds, watches;
} ds_loop;

/* An array of someone else's in the memory of a device. */
typedef struct ds_foreign {
    const void *data;
    ds_dtype dtype;
    ds_shape shape;
    int64_t n, c, h, w; /* steps in elements */
    uintptr_t stream;   /* whose work comes before a copy of it, and after; 0: no one's */
} ds_foreign;

/* A planar float32 array in the memory of a device that belongs to no plan. */
typedef struct ds_device_array {
    float *data;
    ds_shape shape;
    int ordinal; /* of the device */
    void *ready; /* an event: it is filled */
} ds_device_array;

/* How arrays enter and leave without touching the memory of this process. Streams are numbers as in
   __cuda_array_interface__. */
typedef struct ds_exchange {
    int (*ordinal)(const ds_backend *backend);
    uintptr_t (*stream)(const ds_backend *backend);
    /* Where the array names no stream this waits until it has been read. */
    void (*take)(ds_backend *backend, const ds_foreign *from, const ds_tensor *to);
    ds_code (*give)(ds_backend *backend, const ds_tensor *from, ds_device_array *array,
                    ds_status *status);
    /* These need no backend: arrays outlive it. order lets a stream wait for the array. */
    ds_code (*order)(const ds_device_array *array, uintptr_t stream, ds_status *status);
    ds_code (*fetch)(const ds_device_array *array, float *host, ds_status *status);
    void (*discard)(ds_device_array *array);
} ds_exchange;

/* Rows that go into one kernel of the device's vector functions. */
enum { DS_ROWS = 232 };

/* What a backend does whose tensors lie in the memory of a device. The data of its tensors is an
   address of that memory; constants are copied there. Calls queue work and return; a failure is
   kept and told by finish or replay. */
typedef struct ds_device {
    const ds_exchange *exchange;
    /* Makes it the calling thread's device, before all else in a thread. */
    void (*enter)(ds_backend *backend);
    ds_code (*allocate)(ds_backend *backend, size_t bytes, void *memory, ds_status *status);
    void (*release)(ds_backend *backend, void *memory);
    ds_code (*memory)(ds_backend *backend, size_t *free_bytes, size_t *total, ds_status *status);
    void (*fill)(ds_backend *backend, void *memory, int byte, size_t bytes);
    void (*read)(ds_backend *backend, void *host, const void *memory, size_t bytes);
    void (*write)(ds_backend *backend, void *memory, const void *host, size_t bytes);
    /* The first failure since the last time; after DS_DEVICE_LOST every call fails like this. */
    ds_code (*told)(ds_backend *backend, ds_status *status);
    /* From now on remembers whether this tensor, just computed, was finite. Updates that run after
       one that was not change nothing. */
    void (*watch)(ds_backend *backend, const ds_tensor *tensor);
    /* Waits; tells whether all watched tensors were finite, and the first failure. */
    ds_code (*finish)(ds_backend *backend, bool *finite, ds_status *status);
    /* Records the kernels that are run between begin and end, to be replayed as one. */
    ds_code (*begin)(ds_backend *backend, ds_status *status);
    ds_code (*end)(ds_backend *backend, void **recording, ds_status *status);
    void (*replay)(ds_backend *backend, void *recording);
    void (*forget)(ds_backend *backend, void **recording);
    /* In a recording: a scalar from its column of the present row, a scalar into its column, and
       on to the next row, where all watched tensors were finite. */
    void (*feed)(ds_backend *backend, const ds_loop *loop, size_t column, const ds_tensor *to);
    void (*keep)(ds_backend *backend, const ds_loop *loop, size_t column, const ds_tensor *from);
    void (*advance)(ds_backend *backend, const ds_loop *loop);
    /* Vectors of `length` floats. With c = a - b: the products r . c and r . a of each of `count`
       rows r, behind them c . c and c . a, |a|_1 and a . a, (count + 2, 2). Taken in double in a
       fixed order. Waits, once where there are no more than DS_ROWS rows. */
    void (*dots)(ds_backend *backend, int64_t length, const float *a, const float *b,
                 const float *const *rows, int64_t count, double *sums);
    /* out = the sum of the rows times their factors, taken in double; out may be the first row. */
    void (*combine)(ds_backend *backend, int64_t length, const float *const *rows,
                    const double *factors, int64_t count, float *out);
} ds_device;

struct ds_backend {
    const char *name;
    ds_dtype dtype;
    const ds_device *device; /* NULL: tensors lie in the memory of this process */
    ds_alloc *alloc;
    ds_pool *pool;
    ds_cpu_level level;
    /* The kernel for a step, or NULL. */
    const ds_kernel *(*find)(const ds_backend *backend, const ds_step *step);
    /* Bytes of a tensor in this backend's layout, with its padding and, where it is measured, the
       statistics behind it. */
    size_t (*bytes)(const ds_backend *backend, const ds_tensor *tensor);
    /* Between planar NCHW host memory of `dtype` and the backend's layout and type. */
    void (*pack)(ds_backend *backend, const void *planar, ds_dtype dtype, const ds_tensor *tensor);
    void (*unpack)(ds_backend *backend, const ds_tensor *tensor, void *planar, ds_dtype dtype);
    /* Whether every value is finite: of checked nodes, and of all after one of them was not. */
    bool (*finite)(ds_backend *backend, const ds_tensor *tensor);
    void (*destroy)(ds_backend **backend);
};

/* The definition: one thread, planar, every op, in float and (for the tests) in double. */
ds_code ds_ref_f32_create(ds_alloc *alloc, ds_backend **backend, ds_status *status);
ds_code ds_ref_f64_create(ds_alloc *alloc, ds_backend **backend, ds_status *status);

/* The backend of NVIDIA GPUs is a library of its own, found and loaded at run time; this is its one
   function. `stamp` must be DS_CUDA_STAMP of both sides: the structs of this header are shared. */
typedef struct ds_cuda_options {
    int ordinal; /* of the GPU */
    ds_precision precision;
    const char *cache; /* folder for what takes long to find out; NULL: none; lives on */
} ds_cuda_options;
typedef ds_code ds_cuda_create(unsigned stamp, const ds_cuda_options *options, ds_alloc *alloc,
                               ds_backend **backend, ds_status *status);
enum {
    DS_CUDA_STAMP = 1u + (unsigned)DS_OP_COUNT * 10000u +
        (unsigned)(sizeof(ds_step) + sizeof(ds_tensor) + sizeof(ds_kernel) + sizeof(ds_backend) +
                   sizeof(ds_device) + sizeof(ds_cuda_options)),
};

/* The fast backend. Layout: feature maps with more than 4 channels in blocks of 16 channels
   (N, ceil(C / 16), H, W, 16), lanes beyond C always zero; all else planar. Ops without a kernel
   of their own run through ref. */
ds_code ds_cpu_create(ds_alloc *alloc, int threads, ds_cpu_level level, ds_backend **backend,
                      ds_status *status);

#endif
