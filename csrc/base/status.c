#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

ds_status ds_status_ok(void)
{
    return (ds_status){.code = DS_OK, .node = -1};
}

ds_code ds_fail(ds_status *status, ds_code code, const char *format, ...)
{
    if (status->code != DS_OK)
        return status->code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(status->text, sizeof status->text, format, arguments);
    va_end(arguments);
    status->code = code;
    return code;
}
