/* test_report.c - reports from run folders made here: 0, 1, 200 and 10,000 trials, hostile strings
 * in every field, absent numbers, a torn last line.
 *
 * The HTML is checked by a small strict tokenizer of its own: every element closed in order (HTML's
 * optional end tags excepted), attributes quoted or plain words, no loads from anywhere. */
#include "io/file.h"
#include "json/json.h"
#include "report/report.h"
#include <check.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define EVIL                                                                                       \
    "<script>alert(1)</script><!--\"'`&amp;</style></title><img src=x "                            \
    "onerror=alert(2)>|*_[a](javascript:x)"

/* ---- a run folder -------------------------------------------------------------------------------
 */
typedef struct shape {
    int n;          /* trials beside the baseline */
    int evil;       /* hostile text in every string */
    int no_numbers; /* metrics without any number */
    int no_baseline;
    int objectives; /* 1, 2 or 5 */
    int perplexity;
} shape;

static const char *text(const shape *s, const char *plain)
{
    return s->evil ? EVIL : plain;
}

static cJSON *vector(const shape *s, double quality, double bytes)
{
    cJSON *m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "quality_metric",
                            s->evil         ? EVIL
                            : s->perplexity ? "perplexity"
                                            : "exact_match");
    cJSON_AddStringToObject(m, "quality_dataset", text(s, "words"));
    cJSON_AddBoolToObject(m, "quality_higher_is_better", !s->perplexity);
    if (s->no_numbers) return m;
    cJSON_AddNumberToObject(m, "quality", s->perplexity ? 2.5 - quality : quality);
    cJSON_AddNumberToObject(m, "quality_stderr", 0.01);
    cJSON_AddNumberToObject(m, "accuracy_drop", 0.9 - quality);
    cJSON_AddNumberToObject(m, "accuracy_drop_stderr", 0.005);
    cJSON_AddNumberToObject(m, "perplexity", 2.5 - quality);
    cJSON_AddNumberToObject(m, "bytes", bytes);
    cJSON_AddNumberToObject(m, "memory_bytes", 2 * bytes);
    cJSON_AddNumberToObject(m, "tpot_ms", bytes / 5e6);
    cJSON_AddNumberToObject(m, "ttft_ms", bytes / 1e6);
    cJSON_AddNumberToObject(m, "energy_j_per_1k_tokens", bytes / 1e5);
    cJSON_AddStringToObject(m, "energy_origin", "estimate");
    cJSON_AddNumberToObject(m, "reward", quality - bytes / 2e7);
    return m;
}

static cJSON *trial(const shape *s, int i, cJSON *metrics)
{
    char id[32], module[96];
    cJSON *t = cJSON_CreateObject();
    snprintf(id, sizeof id, i < 0 ? "dense" : "s%05d", i);
    cJSON_AddStringToObject(t, "strategy_id", id);
    cJSON_AddStringToObject(t, "label", text(s, i < 0 ? "dense" : id));
    cJSON_AddStringToObject(t, "kind", i < 0 ? "baseline" : "search");
    cJSON_AddStringToObject(t, "proposed_by", text(s, "somebody"));
    cJSON_AddStringToObject(t, "why", text(s, "it was there"));
    cJSON_AddStringToObject(t, "outcome", i >= 0 && i % 7 == 5 ? "crashed" : "ok");
    cJSON_AddStringToObject(t, "reason", text(s, "signal 11"));
    cJSON_AddBoolToObject(t, "feasible", i % 9 != 4);
    cJSON *v = cJSON_AddArrayToObject(t, "violations");
    cJSON_AddItemToArray(v, cJSON_CreateString(text(s, "too large")));
    cJSON_AddNumberToObject(t, "seconds", 2);
    cJSON_AddItemToObject(t, "metrics", metrics);
    cJSON *objectives = cJSON_AddArrayToObject(t, "objectives");
    cJSON_AddItemToArray(objectives, cJSON_CreateNumber(json_num(metrics, "quality", 0)));
    cJSON_AddItemToArray(objectives, cJSON_CreateNumber(json_num(metrics, "bytes", 0)));
    cJSON *step = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(t, "steps"), step);
    cJSON_AddStringToObject(step, "use", text(s, "org.example.method"));
    cJSON *with = cJSON_AddObjectToObject(step, "with"),
          *origin = cJSON_AddObjectToObject(step, "origin");
    cJSON_AddNumberToObject(with, "bits", 2 + i % 4);
    cJSON_AddStringToObject(with, text(s, "mode"), text(s, "fast"));
    cJSON_AddStringToObject(origin, "bits", text(s, "search"));
    cJSON *full = cJSON_AddObjectToObject(cJSON_AddObjectToObject(t, "rungs"), "full");
    cJSON *task =
        cJSON_AddObjectToObject(cJSON_AddObjectToObject(full, "results"), text(s, "words"));
    cJSON_AddNumberToObject(task, text(s, "exact_match"), 0.5);
    cJSON *layers = cJSON_AddArrayToObject(cJSON_AddObjectToObject(t, "steps_result"), "layers");
    for (int l = 0; l < 3; l++) {
        cJSON *layer = cJSON_CreateObject();
        snprintf(module, sizeof module, "model.layers.%d.%.40s", l, text(s, "mlp.up_proj"));
        cJSON_AddItemToArray(layers, layer);
        cJSON_AddStringToObject(layer, "name", module);
        cJSON_AddNumberToObject(layer, "bits", 4);
        cJSON_AddNumberToObject(layer, "relative_error", 0.001 * (1 + l));
        cJSON_AddItemToArray(cJSON_AddArrayToObject(layer, "notes"),
                             cJSON_CreateString(text(s, "a note")));
    }
    return t;
}

static void save(const char *dir, const char *name, const cJSON *v)
{
    char *path = path_format("%s/%s", dir, name), *t = json_text(v, 1);
    ck_assert_int_eq(file_printf(path, NULL, "%s", t), SQZ_OK);
    free(t);
    free(path);
}

static cJSON *member(const cJSON *t, const shape *s)
{
    cJSON *m = cJSON_Duplicate(t, 1);
    cJSON_AddStringToObject(m, "artifact", text(s, "sha256:00"));
    cJSON_AddStringToObject(m, "path", s->evil ? "javascript:alert(1)" : "models/x");
    cJSON_AddStringToObject(m, "format", text(s, "f"));
    return m;
}

/* Trials lie on a curve (quality falls with size); every tenth one is a member. */
static void make_run(const char *dir, const shape *s)
{
    cJSON *pareto = cJSON_CreateObject(), *run = cJSON_CreateObject();
    cJSON *objectives = cJSON_AddArrayToObject(pareto, "objectives");
    static const char *const names[] = {"quality", "bytes", "memory", "ttft", "tpot"};
    for (int i = 0; i < s->objectives; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "name", names[i]);
        cJSON_AddStringToObject(o, "direction", i || s->perplexity ? "min" : "max");
        cJSON_AddItemToArray(objectives, o);
    }
    cJSON *reference = cJSON_AddArrayToObject(pareto, "reference");
    cJSON_AddItemToArray(reference, cJSON_CreateNumber(s->perplexity ? 3 : 0));
    cJSON_AddItemToArray(reference, cJSON_CreateNumber(1e7));
    if (!s->no_baseline) cJSON_AddItemToObject(pareto, "baseline", vector(s, 0.9, 8e6));
    cJSON *members = cJSON_AddArrayToObject(pareto, "members");
    char *path = path_format("%s/trials.jsonl", dir), *lines = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&lines, &size);
    for (int i = s->no_baseline ? 0 : -1; i < s->n; i++) {
        double u = s->n > 1 ? (double)(i < 0 ? 0 : i) / (s->n - 1) : 0.5;
        cJSON *t =
            trial(s, i, vector(s, i < 0 ? 0.9 : 0.5 + 0.4 * u, i < 0 ? 8e6 : 1e6 + 6e6 * u * u));
        int front = i >= 0 && i % 10 == 0;
        cJSON_AddBoolToObject(t, "front", front);
        if (front && i < 300) cJSON_AddItemToArray(members, member(t, s));
        char *line = json_text(t, 0);
        fprintf(f, "%s\n", line);
        free(line);
        cJSON_Delete(t);
    }
    fprintf(f, "{\"strategy_id\":\"torn"); /* the process was killed while it wrote this line */
    fclose(f);
    ck_assert_int_eq(file_write(path, lines, (int64_t)size, NULL), SQZ_OK);
    cJSON_AddStringToObject(run, "id", text(s, "r1"));
    cJSON_AddStringToObject(cJSON_AddObjectToObject(run, "config"), "model", text(s, "m/tiny"));
    cJSON_AddStringToObject(run, "state", text(s, "done"));
    cJSON_AddNumberToObject(run, "seed", 1);
    save(dir, "pareto.json", pareto);
    save(dir, "run.json", run);
    cJSON_Delete(pareto);
    cJSON_Delete(run);
    free(lines);
    free(path);
}

/* ---- the checker
 * ---------------------------------------------------------------------------------- */
static int in_words(const char *words, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = strstr(words, name); at; at = strstr(at + 1, name))
        if ((at == words || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return 1;
    return 0;
}

typedef struct checker {
    char stack[64][24];
    int depth;
    const char *at;
} checker;

static void close_tag(checker *c, const char *name)
{
    /* End tags that HTML lets one leave out. */
    while (c->depth && strcmp(c->stack[c->depth - 1], name) != 0 &&
           in_words("td th tr li thead tbody", c->stack[c->depth - 1]))
        c->depth--;
    ck_assert_msg(c->depth && strcmp(c->stack[c->depth - 1], name) == 0,
                  "</%s> closes <%s> near %.60s", name,
                  c->depth ? c->stack[c->depth - 1] : "nothing", c->at);
    c->depth--;
}

static void open_tag(checker *c, const char *name)
{
    if (in_words("meta br input img", name)) return;
    if (in_words("td th", name))
        while (c->depth && in_words("td th", c->stack[c->depth - 1])) c->depth--;
    if (in_words("tr tbody", name))
        while (c->depth && in_words("td th tr", c->stack[c->depth - 1])) c->depth--;
    if (strcmp(name, "tbody") == 0 && c->depth && strcmp(c->stack[c->depth - 1], "thead") == 0)
        c->depth--;
    if (strcmp(name, "li") == 0 && c->depth && strcmp(c->stack[c->depth - 1], "li") == 0)
        c->depth--;
    ck_assert_int_lt(c->depth, 64);
    snprintf(c->stack[c->depth++], 24, "%s", name);
}

/* Attributes up to '>'; returns 1 for "/>".  Handlers and loads are looked for here. */
static int attributes(checker *c)
{
    const char *p = c->at;
    for (;;) {
        while (isspace((unsigned char)*p)) p++;
        ck_assert_msg(*p != 0, "a tag does not end");
        if (*p == '>') return c->at = p + 1, 0;
        if (p[0] == '/' && p[1] == '>') return c->at = p + 2, 1;
        const char *name = p;
        while (isalnum((unsigned char)*p) || strchr("-:_", *p)) ck_assert_msg(*p != 0, "end"), p++;
        ck_assert_msg(p > name, "no attribute name at %.60s", p);
        ck_assert_msg(strncasecmp(name, "on", 2) != 0, "an event handler: %.60s", name);
        ck_assert_msg(strncmp(name, "src", 3) != 0, "a load: %.60s", name);
        int href = strncmp(name, "href=", 5) == 0;
        if (*p != '=') continue;
        p++;
        if (*p == '"' || *p == '\'') {
            const char *end = strchr(p + 1, *p);
            ck_assert_msg(end != NULL, "an attribute does not end: %.60s", name);
            if (href)
                ck_assert_msg(!memchr(p, ':', (size_t)(end - p)), "href with a scheme: %.60s", p);
            for (const char *q = p; q < end; q++)
                ck_assert_msg(*q != '<', "< in an attribute: %.60s", name);
            p = end + 1;
        } else {
            while (*p && !isspace((unsigned char)*p) && *p != '>') {
                ck_assert_msg(!strchr("\"'<=`", *p), "%c in a bare attribute: %.60s", *p, name);
                p++;
            }
        }
    }
}

static void check_html(const char *html)
{
    checker c = {.at = html};
    int scripts = 0;
    ck_assert_int_eq(strncmp(html, "<!DOCTYPE html>", 15), 0);
    c.at += 15;
    while ((c.at = strchr(c.at, '<'))) {
        char name[24] = "";
        int end = c.at[1] == '/', n = 0;
        const char *p = c.at + 1 + end;
        while (isalnum((unsigned char)*p) && n < 23) name[n++] = *p++;
        ck_assert_msg(n > 0, "a stray < at %.60s", c.at);
        c.at = p;
        if (end) {
            ck_assert_msg(*p == '>', "</%s>", name);
            close_tag(&c, name);
            continue;
        }
        int empty = attributes(&c);
        if (strcmp(name, "script") == 0 || strcmp(name, "style") == 0) {
            char stop[32];
            scripts += *name == 's' && name[1] == 'c';
            snprintf(stop, sizeof stop, "</%s>", name);
            c.at = strstr(c.at, stop);
            ck_assert_ptr_nonnull(c.at);
            c.at += strlen(stop);
        } else if (!empty) {
            open_tag(&c, name);
        }
    }
    ck_assert_int_eq(c.depth, 0);
    ck_assert_int_eq(scripts, 2); /* the data and the program: hostile text made no third */
}

static int count_of(const char *hay, const char *needle)
{
    int n = 0;
    for (const char *p = strstr(hay, needle); p; p = strstr(p + 1, needle)) n++;
    return n;
}

static char *read_report(const char *dir, const char *name)
{
    char *path = path_format("%s/%s", dir, name), *data;
    int64_t bytes;
    ck_assert_int_eq(file_read(path, 64 << 20, &data, &bytes, NULL), SQZ_OK);
    free(path);
    return data;
}

/* The report of a run of this shape, checked; caller frees both. */
static void render(const shape *s, char **html, char **md)
{
    char dir[] = "/tmp/test_report_XXXXXX";
    sqz_error e = {0};
    ck_assert_ptr_nonnull(mkdtemp(dir));
    make_run(dir, s);
    sqz_status st = report_write(dir, &e);
    ck_assert_msg(st == SQZ_OK, "%s", e.text);
    *html = read_report(dir, "report.html");
    *md = read_report(dir, "report.md");
    dir_remove(dir, NULL);
    check_html(*html);
    ck_assert_ptr_null(strstr(*html, "http:"));
    ck_assert_ptr_null(strstr(*html, "https:"));
    ck_assert_ptr_nonnull(
        strstr(*html, "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"));
    ck_assert_ptr_null(strstr(*html, "NaN"));
    ck_assert_ptr_null(strstr(*html, "nan"));
    ck_assert_ptr_null(strstr(*html, "inf "));
    ck_assert_ptr_null(strstr(*html, ">-0.0"));
}

/* ---- tests
 * ------------------------------------------------------------------------------------------ */
static const shape shapes[] = {
    {.n = 0, .objectives = 2},
    {.n = 0, .objectives = 2, .no_baseline = 1},
    {.n = 1, .objectives = 2},
    {.n = 1, .objectives = 1},
    {.n = 200, .objectives = 2},
    {.n = 200, .objectives = 5, .perplexity = 1},
    {.n = 40, .objectives = 2, .no_numbers = 1},
    {.n = 40, .objectives = 2, .no_baseline = 1},
    {.n = 25, .objectives = 2, .evil = 1},
    {.n = 25, .objectives = 2, .evil = 1, .no_numbers = 1},
};

START_TEST(every_shape)
{
    char *html, *md;
    const shape *s = &shapes[_i];
    render(s, &html, &md);
    static const char *const sections[] = {"id=models", "id=front",  "id=table",  "id=dense",
                                           "id=why",    "id=layers", "id=trials", "id=again"};
    const char *last = html;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) { /* present, in this order */
        const char *at = strstr(html, sections[i]);
        ck_assert_msg(at && at > last, "%s", sections[i]);
        last = at;
    }
    ck_assert_ptr_nonnull(strstr(md, "## What to try next"));
    ck_assert_msg(s->n > 200 || strlen(html) < 1 << 20, "%zu bytes at %d trials", strlen(html),
                  s->n);
    free(html);
    free(md);
}
END_TEST

START_TEST(front_is_drawn_and_tabled)
{
    shape s = {.n = 50, .objectives = 2};
    char *html, *md;
    render(&s, &html, &md);
    /* Members: s00000, s00010 ... s00040 (numbers 1-5); baseline; dense lines. */
    char *first = strstr(html, "<svg class=chart"), *end = strstr(first, "</svg>");
    *end = 0;
    ck_assert_int_eq(count_of(first, "class=\"pt front"), 5);
    ck_assert_int_eq(count_of(first, "class=stairs"), 1);
    ck_assert_int_eq(count_of(first, "class=dense"), 1);
    ck_assert_int_eq(count_of(first, "class=bar"), 5);
    ck_assert_int_eq(count_of(first, "tabindex=0"), 5);
    ck_assert_int_gt(count_of(first, "pt dominated"), 10);
    ck_assert_int_gt(count_of(first, "pt infeasible"), 2);
    ck_assert_ptr_nonnull(strstr(first, "aria-label=\"s00040: exact_match"));
    *end = '<';
    char *table = strstr(html, "id=table"), *stop = strstr(table, "</section>");
    *stop = 0;
    ck_assert_int_eq(count_of(table, "<tr data-i="), 5);
    ck_assert_int_eq(count_of(table, "<tr class=dense>"), 1);
    ck_assert_ptr_nonnull(strstr(table, "href=\"models/x\""));
    *stop = '<';
    ck_assert_int_eq(count_of(md, "| models/x |"), 5);
    ck_assert_ptr_nonnull(strstr(html, "aria-live=polite"));
    ck_assert_ptr_nonnull(strstr(html, "prefers-color-scheme:dark"));
    ck_assert_ptr_nonnull(strstr(html, "@media print"));
    free(html);
    free(md);
}
END_TEST

/* The recommended member has the highest reward; the figures are those of the files. */
START_TEST(answer_names_the_best)
{
    shape s = {.n = 50, .objectives = 2};
    char *html, *md;
    render(&s, &html, &md);
    /* reward = q - bytes / 2e7 with q = 0.5 + 0.4 u, bytes = 1e6 + 6e6 u^2: rises with u until 2/3
     */
    double best = -1;
    int at = -1;
    for (int i = 0; i < 50; i += 10) {
        double u = i / 49.0, r = 0.5 + 0.4 * u - (1e6 + 6e6 * u * u) / 2e7;
        if (r > best) best = r, at = i;
    }
    char want[128];
    double u = at / 49.0, bytes = 1e6 + 6e6 * u * u;
    snprintf(want, sizeof want,
             "<p class=answer>s%05d makes tiny %.1f times smaller (%.2f MB instead of 8.00 MB)", at,
             8e6 / bytes, bytes / 1e6);
    ck_assert_msg(strstr(html, want) != NULL, "%s in %.200s", want, strstr(html, "class=answer"));
    free(html);
    free(md);
}
END_TEST

START_TEST(hostile_text_stays_text)
{
    shape s = {.n = 30, .objectives = 2, .evil = 1};
    char *html, *md;
    render(&s, &html, &md); /* check_html refuses handlers, loads, more scripts, schemes in links */
    ck_assert_ptr_null(strstr(html, "<img"));
    ck_assert_ptr_null(strstr(html, "<script>alert"));
    ck_assert_ptr_null(strstr(html, "<!--"));
    ck_assert_ptr_nonnull(strstr(html, "&lt;script&gt;alert(1)&lt;/script&gt;"));
    ck_assert_ptr_null(strstr(md, "<"));
    ck_assert_ptr_null(strstr(md, "[a](javascript"));
    /* A pipe in a name must not add a column: every row of the front's table has the same number.
     */
    char *row = strstr(md, "\n| 1 |");
    ck_assert_ptr_nonnull(row);
    int bars = 0;
    for (char *p = row + 1; *p && *p != '\n'; p++) bars += *p == '|' && p[-1] != '\\';
    ck_assert_int_eq(bars, 12);
    free(html);
    free(md);
}
END_TEST

START_TEST(ten_thousand_trials)
{
    shape s = {.n = 10000, .objectives = 2};
    char *html, *md;
    render(&s, &html, &md);
    ck_assert_msg(strlen(html) < 3 << 20, "%zu bytes", strlen(html));
    ck_assert_ptr_nonnull(strstr(html, "more beaten trials are not drawn"));
    free(html);
    free(md);
}
END_TEST

START_TEST(no_run_folder)
{
    char dir[] = "/tmp/test_report_XXXXXX";
    sqz_error e = {0};
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(report_write(dir, &e), ERR_MODEL);
    ck_assert_ptr_nonnull(strstr(e.text, "is no run folder"));
    char *path = path_format("%s/pareto.json", dir);
    ck_assert_int_eq(
        file_printf(path, NULL, "{\"members\": [1, null, \"x\", {}], \"baseline\": 3}"), SQZ_OK);
    ck_assert_int_eq(report_write(dir, &e), SQZ_OK); /* odd, but readable */
    ck_assert_int_eq(file_printf(path, NULL, "{\"members\": ["), SQZ_OK);
    ck_assert_int_eq(report_write(dir, &e), ERR_MODEL);
    free(path);
    dir_remove(dir, NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("report");
    TCase *t = tcase_create("report");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, every_shape, 0, (int)(sizeof shapes / sizeof *shapes));
    tcase_add_test(t, front_is_drawn_and_tabled);
    tcase_add_test(t, answer_names_the_best);
    tcase_add_test(t, hostile_text_stays_text);
    tcase_add_test(t, ten_thousand_trials);
    tcase_add_test(t, no_run_folder);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
