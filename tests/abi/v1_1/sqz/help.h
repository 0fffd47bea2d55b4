/* sqz/help.h - small inline helpers for plugin authors: formatted failures and services by id.
 * Inline on purpose: a plugin links against nothing of sqz. */
#ifndef SQZ_HELP_H
#define SQZ_HELP_H
#include <sqz/plugin.h>
#include <stdarg.h>
#include <stdio.h>

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), unused))
#endif
static sqz_status sqz_failf(const sqz_host *host, sqz_status code, const char *fmt, ...)
{
    char text[768];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return host->fail(host, code, text);
}

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), unused))
#endif
static void sqz_logf(const sqz_host *host, int32_t level, const char *fmt, ...)
{
    char text[768];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    host->log(host, level, text);
}
#endif
