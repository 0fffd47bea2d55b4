/* @name@.c - a data source: the plain-text records of a WET file (WARC 1.x, as Common Crawl offers
 * the text of web pages) become rows {text, url}.
 *
 * The host maps the file, unpacked when it ends in .gz; a record is a header of "Name: value"
 * lines, an empty line, and Content-Length bytes. */
#define _GNU_SOURCE /* memmem */
#include <sqz/data.h>
#include <sqz/help.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define @NAME@_PARAMS(P)                                                                           \
    P(SQZ_INT, min_bytes, 1, 1, 1000000, NULL, 0, "shorter pages are left out")                    \
    P(SQZ_TEXT, language, 0, 0, 0, "", 0, "only pages in this language, such as eng; empty = all")
SQZ_CALL(@name@_open, @NAME@_PARAMS);

typedef struct state {
    const char *begin, *at, *end; /* the file, the next record, its end */
    int64_t min_bytes;
    char language[16];
} state;

static sqz_status @name@_open(const sqz_host *host, void *self, void *subject, int64_t min_bytes,
                              const char *language)
{
    const sqz_source *source = subject;
    state *s = self;
    if (strlen(language) >= sizeof s->language)
        return sqz_failf(host, SQZ_E_INVALID, "language \"%.40s\": write its ISO 639-3 code", language);
    s->begin = s->at = source->data;
    s->end = s->begin + source->bytes;
    s->min_bytes = min_bytes;
    strcpy(s->language, language);
    return SQZ_OK;
}

/* Does the value of a header's field begin with `word`?  *value: where it stands, *n: its bytes. */
static int field(const char *p, const char *end, const char *name, const char *word,
                 const char **value, size_t *n)
{
    size_t k = strlen(name);
    for (const char *next; (next = memchr(p, '\n', (size_t)(end - p))); p = next + 1) {
        if ((size_t)(next - p) <= k || strncasecmp(p, name, k) || p[k] != ':') continue;
        for (p += k + 1; p < next && *p == ' ';) p++;
        *value = p;
        *n = (size_t)(next - p) - (next > p && next[-1] == '\r');
        return *n >= strlen(word) && !strncasecmp(p, word, strlen(word));
    }
    return 0;
}

/* One row; records that are no pages, too short or in another language are passed over. */
static sqz_status next(const sqz_host *host, void *self, const sqz_row *row, int32_t *more)
{
    state *s = self;
    const char *value;
    size_t n;
    for (;;) {
        while (s->at < s->end && (*s->at == '\r' || *s->at == '\n')) s->at++;
        if (s->at == s->end) return SQZ_OK; /* *more is 0 */
        if (host->tick(host, (double)(s->at - s->begin) / (double)(s->end - s->begin), "pages"))
            return SQZ_E_CANCELLED;
        const char *p = s->at, *body = memmem(p, (size_t)(s->end - p), "\r\n\r\n", 4);
        if (s->end - p < 7 || memcmp(p, "WARC/1.", 7) || !body || !field(p, body + 2, "Content-Length", "", &value, &n))
            return sqz_failf(host, SQZ_E_INVALID, "byte %lld: no WARC record begins here; is the file damaged?",
                             (long long)(p - s->begin));
        long long bytes = strtoll(value, NULL, 10);
        body += 4;
        if (bytes < 0 || bytes > s->end - body)
            return sqz_failf(host, SQZ_E_INVALID, "byte %lld: the record is cut short", (long long)(p - s->begin));
        s->at = body + bytes;
        if (bytes < s->min_bytes || !field(p, body, "WARC-Type", "conversion", &value, &n)) continue;
        if (*s->language && !field(p, body, "WARC-Identified-Content-Language", s->language, &value, &n)) continue;
        *more = 1;
        sqz_status status = row->text(row, "text", body, bytes);
        if (!status && field(p, body, "WARC-Target-URI", "", &value, &n)) status = row->text(row, "url", value, (int64_t)n);
        return status;
    }
}

static int32_t probe(const char *name, const void *first, int64_t n) { return (void)name, n >= 7 && !memcmp(first, "WARC/1.", 7) ? 60 : 0; }
static sqz_status make(const sqz_host *host, void **self) { return (*self = calloc(1, sizeof(state))) ? SQZ_OK : host->fail(host, SQZ_E_NOMEM, "no memory"); }
static void drop(const sqz_host *host, void *self) { (void)host, free(self); }
#define PAGE "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a.example/\r\nContent-Length: 13\r\n\r\nHello, world.\r\n\r\n"
static const char example[] = PAGE "WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: 0\r\n\r\n\r\n\r\n" PAGE;
static const sqz_data data = {sizeof data, 0, ".wet", example, sizeof example - 1, probe, next};
static const void *extension(const char *id) { return strcmp(id, SQZ_DATA_1) ? NULL : &data; }
static const sqz_agent agent = {sizeof agent, 100, "@id@", "data/1", "@name@", "pages of WET files (Common Crawl's text)",
                                "0.1.0", "MIT", NULL, make, drop, &@name@_open_call, extension};
static const sqz_plugin plugin = {sizeof plugin, SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 2, 0, 1, sizeof agent, 0, &agent};
SQZ_PLUGIN_STAMP(2); /* the kind came with ABI 1.2 */
const sqz_plugin *sqz_plugin_v1(void) { return &plugin; }
