/* Arrays between the host and the device. They cross the bus as planar fp32, piece by piece through
   pinned memory that is there from the start; the device turns them into its layout and type. */
#ifndef DS_CUDA_TRANSFER_H
#define DS_CUDA_TRANSFER_H

#include "cuda/device.h"

ds_code ds_transfer_open(ds_backend *backend, ds_status *status);
void ds_transfer_close(ds_backend *backend);

/* As in ds_backend. pack queues its work and returns. */
void ds_transfer_pack(ds_backend *backend, const void *planar, ds_dtype dtype,
                      const ds_tensor *tensor);
void ds_transfer_unpack(ds_backend *backend, const ds_tensor *tensor, void *planar, ds_dtype dtype);

/* exchange.cu: arrays that lie in device memory. */
extern const ds_exchange ds_cuda_exchange;

/* As in ds_device. write queues its work and returns. */
void ds_transfer_write(ds_backend *backend, void *memory, const void *host, size_t bytes);
void ds_transfer_read(ds_backend *backend, void *host, const void *memory, size_t bytes);

#endif
