/* The one status type: how every function of the engine says what went wrong. */
#ifndef DS_BASE_STATUS_H
#define DS_BASE_STATUS_H

#include <stdint.h>

typedef enum ds_code {
    DS_OK = 0,
    DS_BAD_VALUE,     /* an argument, shape or attribute the user can mend */
    DS_NO_MEMORY,     /* host memory */
    DS_UNSUPPORTED,   /* the backend lacks a kernel */
    DS_NUMERICAL,     /* a loss became infinite or NaN */
    DS_CANCELLED,     /* the caller's poll function asked to stop */
    DS_DEVICE,        /* the device or its library failed */
    DS_DEVICE_MEMORY, /* device memory */
    DS_DEVICE_LOST,   /* the device failed for good: this process cannot use it any more */
} ds_code;

enum { DS_TEXT_SIZE = 512 };

typedef struct ds_status {
    ds_code code;
    int32_t node; /* the graph node concerned, -1 when none */
    char text[DS_TEXT_SIZE];
} ds_status;

/* A status to start with: no error, no node. */
ds_status ds_status_ok(void);

/* Records code and formatted reason, and returns the code. The first error recorded wins. */
ds_code ds_fail(ds_status *status, ds_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Forwards a failure to the function's single exit label. */
#define DS_TRY(call)                                                                               \
    do {                                                                                           \
        if ((call) != DS_OK)                                                                       \
            goto exit;                                                                             \
    } while (0)

#endif
