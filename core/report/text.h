/* text.h - building HTML, SVG and Markdown in memory.
 *
 * Every string that comes from outside (names of models, labels, messages, paths) goes through one
 * of the escaping calls; txt_add is for our own literals only. */
#ifndef SQZ_CORE_REPORT_TEXT_H
#define SQZ_CORE_REPORT_TEXT_H
#include "json/json.h"

typedef struct txt {
    char *data;
    size_t n, room;
} txt;
char *txt_take(txt *); /* the zero-terminated text, caller frees; never NULL */
void txt_add(txt *, const char *literal);
__attribute__((format(printf, 2, 3))) void txt_addf(txt *, const char *fmt, ...);
/* For element content and double- or single-quoted attributes. */
void txt_html(txt *, const char *untrusted);
/* For Markdown running text and table cells. */
void txt_md(txt *, const char *untrusted);
/* JSON inside <script type="application/json">. */
void txt_script_json(txt *, const cJSON *);
/* A relative link to a file of the run folder, for href="..."; unsafe paths give "#". */
void txt_href(txt *, const char *path);

/* Human numbers, in static-size buffers. */
typedef struct num {
    char s[48];
} num;
num show_bytes(double);
num show_seconds(double);
num show_ms(double);
num show_value(double);               /* 4 significant digits, no exponent where avoidable */
num show_signed(double);              /* +0.012 */
num show_pm(double value, double se); /* "1.670 +- 0.004" with the digits the error justifies */
#endif
