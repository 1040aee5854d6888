#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* From here on a block comes from the system and goes back to it at once. What an allocator keeps
   for later would make the memory of a process depend on its past. */
#ifdef __SANITIZE_ADDRESS__
static const size_t LARGE = SIZE_MAX; /* it watches what its own allocator gave */
#else
static const size_t LARGE = 1 << 20;
#endif

/* Stands one line before the block, so that freeing needs no size from the caller. */
typedef union header {
    size_t bytes;
    unsigned char line[DS_ALIGN];
} header;

/* A block with its header, rounded up; 0 where that overflows. */
static size_t whole_bytes(size_t bytes)
{
    size_t whole = 0;
    const bool fits = !__builtin_add_overflow(bytes, 2 * sizeof(header) - 1, &whole);
    return fits ? whole - whole % DS_ALIGN : 0;
}

static header *take(size_t whole)
{
    if (whole < LARGE)
        return aligned_alloc(DS_ALIGN, whole);
    void *memory = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void give_back(header *memory)
{
    const size_t whole = whole_bytes(memory->bytes);
    if (whole < LARGE)
        free(memory);
    else
        munmap(memory, whole);
}

ds_alloc ds_alloc_make(int64_t fail_at)
{
    return (ds_alloc){.fail_at = fail_at};
}

ds_code ds_alloc_raw(ds_alloc *alloc, size_t bytes, void *block, ds_status *status)
{
    void **out = block;
    const size_t whole = whole_bytes(bytes);
    *out = NULL;
    header *memory = whole && alloc->count++ != alloc->fail_at ? take(whole) : NULL;
    if (!memory)
        return ds_fail(status, DS_NO_MEMORY, "cannot allocate %.1f MiB; use a smaller size",
                       (double)bytes / (1 << 20));
    memory->bytes = bytes;
    alloc->live_bytes += (int64_t)bytes;
    *out = memory + 1;
    return DS_OK;
}

ds_code ds_alloc_zeroed(ds_alloc *alloc, size_t bytes, void *block, ds_status *status)
{
    ds_code code = ds_alloc_raw(alloc, bytes, block, status);
    if (code == DS_OK)
        memset(*(void **)block, 0, bytes);
    return code;
}

ds_code ds_alloc_grow(ds_alloc *alloc, void *block, size_t *capacity, size_t needed, size_t item,
                      ds_status *status)
{
    void **old = block, *grown = NULL;
    if (needed <= *capacity)
        return DS_OK;
    size_t wanted = *capacity * 2 > needed ? *capacity * 2 : needed, bytes = 0;
    if (!ds_multiply(wanted, item, &bytes))
        return ds_fail(status, DS_NO_MEMORY, "%zu items of %zu bytes are too many", wanted, item);
    ds_code code = ds_alloc_zeroed(alloc, bytes, &grown, status);
    if (code != DS_OK)
        return code;
    if (*old)
        memcpy(grown, *old, *capacity * item);
    ds_release(alloc, block);
    *old = grown;
    *capacity = wanted;
    return DS_OK;
}

void ds_release(ds_alloc *alloc, void *block)
{
    void **address = block;
    if (!*address)
        return;
    header *memory = (header *)*address - 1;
    alloc->live_bytes -= (int64_t)memory->bytes;
    give_back(memory);
    *address = NULL;
}

bool ds_multiply(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}
