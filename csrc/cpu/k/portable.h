/* Vector words in plain C on GCC's vector extension. */
typedef float ds_portable_vec __attribute__((vector_size(16)));
typedef int ds_portable_mask __attribute__((vector_size(16)));
typedef unsigned ds_portable_bits __attribute__((vector_size(16)));

#define DS_SLOT(name) ds_##name##_portable
#define TARGET
#define LANES 4
#define MICRO_VECTORS 2 /* of output channels in one register tile */
#define STRIP 16        /* output channels that lie side by side in packed weights */
#define PLANAR_PIXELS 4 /* of one register tile into planes */
#define vec ds_portable_vec

static inline vec DS_SLOT(load)(const float *p)
{
    vec a;
    __builtin_memcpy(&a, p, sizeof a);
    return a;
}

static inline vec DS_SLOT(where)(ds_portable_mask mask, vec x, vec y)
{
    return (vec)((mask & (ds_portable_mask)x) | (~mask & (ds_portable_mask)y));
}

#define v_load(p) DS_SLOT(load)(p)
#define v_store(p, a)                                                                              \
    do {                                                                                           \
        vec stored_ = (a);                                                                         \
        __builtin_memcpy(p, &stored_, sizeof stored_);                                             \
    } while (0)
#define v_stream(p, a) v_store(p, a)
#define v_splat(x) ((vec){0} + (x))
#define v_add(a, b) ((a) + (b))
#define v_sub(a, b) ((a) - (b))
#define v_mul(a, b) ((a) * (b))
#define v_div(a, b) ((a) / (b))
#define v_min(a, b) DS_SLOT(where)((a) < (b), a, b)
#define v_fma(a, b, c) ((a) * (b) + (c))  /* a b + c */
#define v_fnma(a, b, c) ((c) - (a) * (b)) /* c - a b */
#define v_sum(a) (((a)[0] + (a)[1]) + ((a)[2] + (a)[3]))
/* where a > b: x, else y */
#define v_greater(a, b, x, y) DS_SLOT(where)((a) > (b), x, y)
/* 2^n, where n is the whole number in the low bits of a sum with 1.5 * 2^23 */
#define v_power_of_two(a) ((vec)(((ds_portable_bits)(a) << 23) + (127u << 23)))

/* Between bf16 in memory and floats. */
static inline vec DS_SLOT(from_bf16)(const ds_bf16 *p)
{
    return (vec){ds_widen(p[0]), ds_widen(p[1]), ds_widen(p[2]), ds_widen(p[3])};
}

static inline void DS_SLOT(to_bf16)(ds_bf16 *p, vec a)
{
    for (int i = 0; i < LANES; i++)
        p[i] = ds_narrow(a[i]);
}

static inline vec DS_SLOT(rounded)(vec a)
{
    return (vec){ds_round_to_bf16(a[0]), ds_round_to_bf16(a[1]), ds_round_to_bf16(a[2]),
                 ds_round_to_bf16(a[3])};
}
#define v_widen(p) DS_SLOT(from_bf16)(p)
#define v_narrow(p, a) DS_SLOT(to_bf16)(p, a)
/* The floats that are left of a. */
#define v_round(a) DS_SLOT(rounded)(a)
