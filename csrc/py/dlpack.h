/* DLPack's structs as far as they are used here, laid out as its specification says. */
#ifndef DS_PY_DLPACK_H
#define DS_PY_DLPACK_H

#include <stdint.h>

enum { DS_DL_CPU = 1, DS_DL_CUDA = 2 };     /* kinds of devices */
enum { DS_DL_FLOAT = 2, DS_DL_BFLOAT = 4 }; /* codes of types */
#define DS_DL_NAME "dltensor"               /* of a capsule that no one has taken over */
#define DS_DL_USED_NAME "used_dltensor"

typedef struct ds_dl_tensor {
    void *data;
    struct {
        int32_t kind, ordinal;
    } device;
    int32_t rank;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } type;
    int64_t *shape;
    int64_t *steps; /* in elements; NULL: rows without gaps */
    uint64_t offset;
} ds_dl_tensor;

typedef struct ds_dl_managed {
    ds_dl_tensor tensor;
    void *context;
    void (*deleter)(struct ds_dl_managed *self); /* may be NULL */
} ds_dl_managed;

#endif
