/* error.c - see error.h. */
#include "error/error.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

sqz_status err_set(sqz_error *err, sqz_status code, const char *fmt, ...)
{
    if (err) {
        char text[sizeof err->text]; /* the arguments may point into err->text */
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        err->code = code;
        memcpy(err->text, text, sizeof text);
    }
    return code;
}

void err_prefix(sqz_error *err, const char *fmt, ...)
{
    if (!err) return;
    char head[512], text[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    snprintf(text, sizeof text, "%s: %.*s", head, (int)(sizeof text - sizeof head - 3), err->text);
    memcpy(err->text, text, sizeof text);
}

static const struct {
    sqz_status code;
    int exit_code;
    const char *name;
} table[] = {
    {SQZ_OK, 0, "ok"},
    {SQZ_E_INVALID, 2, "invalid"},
    {SQZ_E_UNSUPPORTED, 2, "unsupported"},
    {SQZ_E_NOMEM, 1, "nomem"},
    {SQZ_E_IO, 7, "io"},
    {SQZ_E_NUMERIC, 1, "numeric"},
    {SQZ_E_CANCELLED, 130, "cancelled"},
    {SQZ_E_DEVICE, 1, "device"},
    {SQZ_E_INTERNAL, 1, "internal"},
    {ERR_USAGE, 2, "usage"},
    {ERR_MODEL, 3, "model"},
    {ERR_PLUGIN, 4, "plugin"},
    {ERR_STORAGE, 7, "storage"},
    {ERR_REMOTE, 8, "remote"},
    {ERR_CONFLICT, 9, "conflict"},
    {ERR_NO_RESULT, 5, "no_result"},
    {ERR_BUDGET, 6, "budget"},
};

int err_exit_code(sqz_status code)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].code == code) return table[i].exit_code;
    return 1;
}

const char *err_name(sqz_status code)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].code == code) return table[i].name;
    return "internal";
}

static int no_memory_status = 1;

void memory_failed_status(int status)
{
    no_memory_status = status;
}

_Noreturn void memory_failed(const char *what)
{
    static const char head[] = "sqz: no memory for ", tail[] = "; free some and try again\n";
    /* write: stdio may want memory, and so may what runs at exit */
    ssize_t n = write(STDERR_FILENO, head, sizeof head - 1);
    if (n >= 0) n = write(STDERR_FILENO, what, strlen(what));
    if (n >= 0) n = write(STDERR_FILENO, tail, sizeof tail - 1);
    _exit(no_memory_status);
}
